"""A refusal that may be one row's own or every row's: what the next starts are answered tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from nights import Fault, night, numbered

from batch_runner.batch.attempts import Doubts
from batch_runner.errors import ExitCode

if TYPE_CHECKING:
    from pathlib import Path

WALL = b"<html><title>Access denied</title></html>"


@pytest.mark.parametrize("status", [307, 403, 404])
@pytest.mark.parametrize("place", [1, 5, 9])
def test_one_rows_refusal_is_its_own(tmp_path: Path, status: int, place: int) -> None:
    """First, in the middle or last: that row is an `error` that says why, the others come to their ends, exit 3."""
    wall = Fault(status, (), WALL)
    done = night(tmp_path, numbered(9), lambda row, _: wall if row == str(place) else None, concurrency=3)
    assert done.statuses == ["error" if row == place else "success" for row in range(1, 10)]
    assert "Access denied" in done.records[place - 1]["error"]
    assert done.summary.exit_code == ExitCode.SOME_FAILED
    assert done.front.starts()[str(place)] == 0


@pytest.mark.parametrize("status", [307, 403, 404])
@pytest.mark.parametrize(("rows", "concurrency"), [(1, 5), (2, 1), (30, 1), (30, 5)])
def test_what_all_starts_get_is_everybodys(tmp_path: Path, status: int, rows: int, concurrency: int) -> None:
    """Where no start passes, none of them is blamed: all are `not_started`, exit 5, after a few starts."""
    done = night(tmp_path, numbered(rows), lambda *_: Fault(status, (), WALL), concurrency=concurrency)
    assert done.statuses == ["not_started"] * rows
    assert done.summary.exit_code == ExitCode.STOPPED
    assert "Access denied" in (done.summary.stopped or "")
    assert len(done.front.posts) <= concurrency + 3


def test_a_refusal_that_begins_in_the_middle(tmp_path: Path) -> None:
    """A key that is taken away: what had started comes to its end, all after it is `not_started`."""
    wall = Fault(403, (), WALL)
    done = night(tmp_path, numbered(30), lambda row, _: wall if int(row) > 10 else None, concurrency=4)
    assert done.statuses == ["success"] * 10 + ["not_started"] * 20
    assert done.summary.exit_code == ExitCode.STOPPED


def test_a_refusal_that_says_so_is_believed_at_once(tmp_path: Path) -> None:
    """The answer speaks of the key: no other row is tried."""
    no = Fault(403, (), b'{"error": {"code": 403, "message": "Invalid API key"}}')
    done = night(tmp_path, numbered(10), lambda *_: no, concurrency=1)
    assert len(done.front.posts) == 1
    assert done.statuses == ["not_started"] * 10
    assert "check the key" in (done.summary.stopped or "")


def test_a_canary_that_is_refused_holds_the_rest(tmp_path: Path) -> None:
    """With no start that could tell, nothing waits for ever: it is everybody's."""
    done = night(tmp_path, numbered(6), lambda *_: Fault(404, (), WALL), canary=1)
    assert done.statuses == ["not_started"] * 6
    assert "Access denied" in (done.summary.stopped or "")
    assert len(done.front.posts) == 1


def test_a_canary_beside_one_that_passes(tmp_path: Path) -> None:
    """Of two canaries one is refused: it is that row's error, and the rest isn't started."""
    done = night(tmp_path, numbered(6), lambda row, _: Fault(404, (), WALL) if row == "1" else None, canary=2)
    assert done.statuses == ["error", "success"] + ["not_started"] * 4
    assert "--canary" in (done.summary.stopped or "")


def test_identities_that_rows_choose_are_their_own(tmp_path: Path) -> None:
    """Rows that stand together and name an identity that is gone stop nobody."""
    gone = Fault(404, (), b'{"error": {"code": 404, "message": "Identity not found"}}')
    rows = [{"Row": str(n), "Who": "gone" if n <= 5 else "here"} for n in range(1, 9)]
    done = night(tmp_path, rows, lambda row, _: gone if int(row) <= 5 else None, identity_id="{Who}", concurrency=1)
    assert done.statuses == ["error"] * 5 + ["success"] * 3


def test_a_refusal_counts_towards_the_failure_limit_when_it_is_a_rows(tmp_path: Path) -> None:
    """Found to be its own, it is a row that did not succeed like any other."""
    done = night(
        tmp_path,
        numbered(9),
        lambda row, _: Fault(404, (), WALL) if row == "1" else None,
        max_failures=1,
        concurrency=1,
    )
    assert "failure limit" in (done.summary.stopped or "")
    assert done.statuses[0] == "error"


def test_three_rows_without_a_param_that_no_column_gives(tmp_path: Path) -> None:
    """The task needs what the sheet hasn't got: it stops after three, with the way out (5)."""
    no = Fault(422, (), b'{"error": {"code": 422, "message": "File Name is missing"}}')
    done = night(tmp_path, numbered(20), lambda *_: no, concurrency=1)
    assert done.statuses == ["error"] * 3 + ["not_started"] * 17
    assert done.summary.exit_code == ExitCode.STOPPED
    assert "--rename" in (done.summary.stopped or "")


def test_a_cell_that_is_empty_here_and_there_is_no_missing_column(tmp_path: Path) -> None:
    """Other rows fill that param: those that don't are errors, and nothing stops."""
    no = Fault(422, (), b'{"error": {"code": 422, "message": "Amount is missing"}}')
    rows = [{"Row": str(n), "Amount": "" if 1 < n <= 6 else "5"} for n in range(1, 9)]
    done = night(tmp_path, rows, lambda row, _: no if 1 < int(row) <= 6 else None, concurrency=1)
    assert done.statuses == ["success"] + ["error"] * 5 + ["success"] * 2


@pytest.mark.parametrize(
    ("status", "words", "is_ours", "is_everybodys"),
    [
        (401, "", True, True),
        (402, "", False, True),
        (403, "Invalid API key", True, True),
        (403, "Request blocked", True, False),
        (403, "Invalid API key", False, False),
        (404, "Invalid API key", True, False),
        (400, "", True, False),
        (None, "", True, False),
    ],
)
def test_whose_a_refused_poll_is(status: int | None, words: str, is_ours: bool, is_everybodys: bool) -> None:
    """The key or the account: every run's. A 403 without a word of them, or to another account's run: that run's."""
    assert Doubts().poll_refused(status, words, is_ours=is_ours) == is_everybodys


def test_how_many_403_to_polls_are_believed() -> None:
    """The third in a row; an end that is learned between them tells that they are their runs' own."""
    doubts = Doubts()
    told = []
    for _ in range(3):
        told += [doubts.poll_refused(403, "blocked", is_ours=True) for _ in range(2)]
        doubts.poll_passed()
    told += [doubts.poll_refused(403, "blocked", is_ours=True) for _ in range(3)]
    assert told == [False] * 8 + [True]
