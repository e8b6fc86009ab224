"""Rows for which a shutdown leaves no time are placed all at once, and come to what they would have come to each."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, cast

import anyio
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from journals import batch_info, run_row

from batch_runner.batch.pool import SheetBatch
from batch_runner.job.job import Job
from batch_runner.journal.journal import Journal
from batch_runner.plan.plan import Send
from batch_runner.rows.source import Source, look_ahead, plan_rows
from batch_runner.runner.memory import rehearse

if TYPE_CHECKING:
    from batch_runner.batch.worker import Worker
    from batch_runner.journal.view import Placed

NO_WORKER = cast("Worker", None)  # nothing is started
ROWS = st.lists(
    st.tuples(st.sampled_from(["a", "b", "", "7", "7.0"]), st.sampled_from(["1", "2", "2.50", "1 €", "USD 1"])),
    max_size=9,
)


def write(folder: Path, rows: list[tuple[str, str]], name: str = "in.csv") -> Path:
    path = folder / name
    path.write_text("Key,Amount,Note\n" + "".join(f"{key},{amount},n\n" for key, amount in rows))
    return path


async def first_night(sheet: Path, key: tuple[str, ...], left: int) -> None:
    """Every row but the last `left` ones runs, the first one in any case; each third one fails."""
    info = batch_info(key=key)
    with Source(Job(input=str(sheet), task="t", key=key), sheet.parent) as source:
        async with Journal.open(sheet.with_suffix(".journal.db"), info) as journal:
            await look_ahead(source, journal)
            sends = [plan async for chunk in plan_rows(source, journal) for plan, _ in chunk if isinstance(plan, Send)]
            for plan in sends[: max(1, len(sends) - left)]:
                status = "failure" if plan.row_number % 3 == 0 else "success"
                await run_row(journal, plan, f"run-{plan.row_number}", status)
            await journal.finish(0)


async def outcomes_of(sheet: Path, key: tuple[str, ...], *, placed_before: int | None) -> list[Placed]:
    """What a later batch has of each row; so many rows have a plan of their own (None: all of them)."""
    with Source(Job(input=str(sheet), task="t", key=key), sheet.parent) as source:
        async with rehearse(sheet.with_name("in.journal.db")) as file:
            journal = await file.begin(batch_info(key=key))
            await look_ahead(source, journal)
            batch = SheetBatch(source, journal, NO_WORKER)
            count = 0
            if placed_before != 0:
                async for _ in plan_rows(source, journal, lambda: 1):
                    count += 1
                    if count == placed_before:
                        break
            if placed_before is None:
                batch.is_placed = True
            else:
                await batch.place_rest()
            return list(batch.outcomes())


@pytest.mark.long
@given(ROWS, ROWS, st.booleans(), st.integers(0, 3))
@example([("7", "1")], [("7.0", "1")], True, 0)
@example([("b", "1")], [("b", "1 €")], True, 0)
@example([("b", "USD 1")], [("b", "1")], True, 0)
def test_the_outcome_of_each_row(
    before: list[tuple[str, str]], tonight: list[tuple[str, str]], has_key: bool, left: int
) -> None:
    """Sorted, edited, grown sheets, equal keys, empty ones, numbers in another form: nothing false is written."""
    key = ("Key",) if has_key else ()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ran = [("a", "1"), *before]  # without any, they would stay without a place
        anyio.run(first_night, write(folder, ran), key, left)
        write(folder, tonight)

        def later(placed_before: int | None) -> list[Placed]:
            async def night() -> list[Placed]:
                return await outcomes_of(folder / "in.csv", key, placed_before=placed_before)

            return anyio.run(night)

        assert later(0) == later(2) == later(None)


def test_a_known_row_is_noted_without_other_forms(tmp_path: Path) -> None:
    """What it would send is told all the same; nobody asks under what else its key may be known."""
    path = write(tmp_path, [("7.10", "1.234"), ("3/4/2026", "1 €")])
    with Source(Job(input=str(path), task="t"), tmp_path) as source:
        for row, known in zip(source.every(), source.every(is_known=lambda _: True), strict=True):
            assert (known.key, known.digest, known.sent, known.bare) == (row.key, row.digest, row.sent, row.bare)
            assert len(row.keys) > 1
            assert known.keys == (known.key,)


def test_rows_that_do_not_take_part_hold_their_places(tmp_path: Path) -> None:
    """`--rows` leaves others out: they aren't in the outcomes, and equal keys don't move up."""
    rows = [("a", "1"), ("a", "1"), ("b", "2")]
    anyio.run(first_night, write(tmp_path, rows), ("Key",), 0)

    async def night() -> list[tuple[int, str]]:
        job = Job(input=str(tmp_path / "in.csv"), task="t", key=("Key",), rows="3-4")
        with Source(job, tmp_path) as source:
            async with rehearse(tmp_path / "in.journal.db") as file:
                journal = await file.begin(batch_info(key=("Key",)))
                batch = SheetBatch(source, journal, NO_WORKER)
                await batch.place_rest()
                assert batch.carried == 2
                return [(placed.number, placed.run_id) for placed in batch.outcomes()]

    assert anyio.run(night) == [(3, "run-3"), (4, "run-4")]


async def outcomes_of_the_second(folder: Path, *, at_once: bool) -> list[tuple[str, bool]]:
    """What a night's second sheet shows, whose first has run: with a plan for each row, or placed all at once."""
    path = folder / "in.journal.db"
    async with rehearse(path) as file:
        for name in ("north.csv", "south.csv"):
            with Source(Job(input=str(folder / name), task="t", key=("Key",)), folder) as source:
                info = msgspec.structs.replace(batch_info(key=("Key",)), input=str(folder / name), command="night")
                journal = await file.begin(info)
                await look_ahead(source, journal)
                batch = SheetBatch(source, journal, NO_WORKER)
                if name == "south.csv" and at_once:
                    await batch.place_rest()
                    return [(placed.status, placed.changed) for placed in batch.outcomes()]
                async for chunk in plan_rows(source, journal):
                    for step, _row in chunk:
                        if isinstance(step, Send):
                            await run_row(journal, step, f"{name}-{step.row_number}")
        return [(placed.status, placed.changed) for placed in journal.outcomes()]


def test_a_row_that_another_sheet_of_the_night_has_with_other_values(tmp_path: Path) -> None:
    """It has not the other one's outcome: both can't be it."""
    anyio.run(first_night, write(tmp_path, [("z", "1")]), ("Key",), 0)
    write(tmp_path, [("a", "1"), ("b", "2")], "north.csv")
    write(tmp_path, [("a", "1"), ("b", "999"), ("c", "3")], "south.csv")

    def shown(*, at_once: bool) -> list[tuple[str, bool]]:
        async def night() -> list[tuple[str, bool]]:
            return await outcomes_of_the_second(tmp_path, at_once=at_once)

        return anyio.run(night)

    assert [status for status, _ in shown(at_once=False)] == ["success", "error", "success"]
    assert shown(at_once=True)[:2] == shown(at_once=False)[:2]
