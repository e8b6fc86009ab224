"""The first few rows go alone, and they are as different as the sheet has them."""

from __future__ import annotations

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from batch_runner.batch.attempts import Canary, different_shapes
from batch_runner.rows.params import RowParams

SHAPES = st.lists(st.frozensets(st.sampled_from("ABC")), max_size=20)


def rows(shapes: list[frozenset[str]] | list[str]) -> list[RowParams]:
    """One row for each shape: a set of the names of its params."""
    return [
        RowParams(number, b"key", b"digest", params=dict.fromkeys(sorted(shape), "x"))
        for number, shape in enumerate(shapes)
    ]


def test_one_of_each_shape_first() -> None:
    """Rows that fill other params go before more of the same; the rest are the first others; in the sheet's order."""
    sheet = rows(["AB", "AB", "AB", "A", "AB", "B", "BA"])
    assert different_shapes(sheet, 1) == (0,)
    assert different_shapes(sheet, 2) == (0, 3)
    assert different_shapes(sheet, 3) == (0, 3, 5)
    assert different_shapes(sheet, 4) == (0, 1, 3, 5)
    assert different_shapes(sheet, 99) == (0, 1, 2, 3, 4, 5, 6)
    assert different_shapes([], 3) == ()


@given(SHAPES, st.integers(1, 25))
def test_as_many_rows_and_shapes_as_can_be(shapes: list[frozenset[str]], number: int) -> None:
    """The places are some of the sheet's, each once, in order; as many as asked for, with as many shapes as fit."""
    places = different_shapes(rows(shapes), number)
    assert list(places) == sorted(set(places))
    assert len(places) == min(number, len(shapes))
    assert all(0 <= place < len(shapes) for place in places)
    assert len({shapes[place] for place in places}) == min(number, len(set(shapes)))


def test_the_canary_waits_for_the_last_of_its_rows() -> None:
    """It is over when each of its rows has ended, in whatever order; others don't count, and none counts twice."""

    async def scene() -> None:
        canary = Canary([2, 5, 9])
        over: list[int] = []

        async def wait() -> None:
            over.append(await canary.failures())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            for number, status in ((9, "success"), (7, "failure"), (2, "timeout"), (2, "failure"), (9, "error")):
                canary.row_ended(number, status)
                await trio.testing.wait_all_tasks_blocked()
                assert over == []
            canary.row_ended(5, "success")
        assert over == [1]

    trio.run(scene)


def test_every_end_but_success_is_a_failure() -> None:
    """Also a row that was not started, or whose end nobody knows, keeps the rest from being started."""

    async def scene() -> None:
        canary = Canary(range(5))
        for number, status in enumerate(("not_started", "unknown", "running", "error", "success")):
            canary.row_ended(number, status)
        assert await canary.failures() == 4

    trio.run(scene)


def test_no_canary_sings_at_once() -> None:
    """Without rows there is nothing to wait for."""

    async def scene() -> None:
        assert await Canary(()).failures() == 0

    trio.run(scene)
