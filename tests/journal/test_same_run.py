"""A run id that a service gave for two rows: both are unknown, and each names the other."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from journals import batch_info, entries, run_row
from nights import Fault, night, numbered

from batch_runner.errors import ExitCode, OutputFailed
from batch_runner.journal.journal import Journal, Outcome
from batch_runner.journal.view import JournalView
from batch_runner.plan.plan import Poll, Send

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

SAME = "the service gave the same run id to row {}: which of the two it ran for is not known"


def told(journal: Journal) -> list[tuple[str, str, str]]:
    return [(row.status, row.run_id, row.error) for row in journal.outcomes()]


@pytest.mark.parametrize("first_ends", ["before", "after", "never"])
async def test_both_rows_are_unknown(tmp_path: Path, first_ends: str) -> None:
    """Whether the first has ended by then, ends later or goes on: neither is believed, neither is sent again."""
    path = tmp_path / "a.journal.db"
    async with Journal.open(path, batch_info()) as journal:
        one, other, third = await journal.register(entries("ABC"))
        assert isinstance(one, Send)
        assert isinstance(other, Send)
        attempt = await journal.intend(one)
        assert await journal.started(attempt, "run-1", "running") is None
        end = Outcome("success", "run-1", '"A"')
        if first_ends == "before":
            assert await journal.ended(attempt, end) == end
        shared = await journal.started(await journal.intend(other), "run-1", "running")
        assert shared == Outcome("unknown", "run-1", error=SAME.format(2))
        if first_ends == "after":
            assert await journal.ended(attempt, end) == Outcome("unknown", "run-1", error=SAME.format(3))
        await run_row(journal, third, "run-3")
        await journal.flush()
        assert told(journal) == [
            ("unknown", "run-1", SAME.format(3)),
            ("unknown", "run-1", SAME.format(2)),
            ("success", "run-3", ""),
        ]
    async with Journal.open(path, batch_info()) as journal:
        assert not any(isinstance(step, Send | Poll) for step in await journal.register(entries("ABC")))


async def test_a_run_of_an_earlier_night(tmp_path: Path) -> None:
    """A cache that tells yesterday's answer: yesterday's row and today's are held, and today's says which it was."""
    path = tmp_path / "a.journal.db"
    async with Journal.open(path, batch_info()) as journal:
        await run_row(journal, (await journal.register(entries("A")))[0], "run-1")
    async with Journal.open(path, batch_info()) as journal:
        _, new = await journal.register(entries("AB"))
        assert isinstance(new, Send)
        assert await journal.ended(await journal.intend(new), Outcome("success", "run-1")) == Outcome(
            "unknown", "run-1", error=SAME.format(2)
        )
        assert [status for status, _, _ in told(journal)] == ["unknown", "unknown"]


async def test_the_same_row_may_be_told_its_run_again(tmp_path: Path) -> None:
    """A retry that is answered with the run that the row had before is no other row's."""
    path = tmp_path / "a.journal.db"
    async with Journal.open(path, batch_info()) as journal:
        await run_row(journal, (await journal.register(entries("A")))[0], "run-1", "failure")
    async with Journal.open(path, batch_info("failure")) as journal:
        await run_row(journal, (await journal.register(entries("A")))[0], "run-1")
        assert told(journal) == [("success", "run-1", "")]


async def test_the_check_before_the_output_finds_it(tmp_path: Path) -> None:
    """Were it in the journal all the same, no output is written that gives a row another's run."""
    path = tmp_path / "a.journal.db"
    async with Journal.open(path, batch_info()) as journal:
        one, other = await journal.register(entries("AB"))
        await run_row(journal, one, "run-1")
        await run_row(journal, other, "run-2")
        await journal.flush()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("UPDATE attempt SET run_id = 'run-1'")
            connection.commit()
        with pytest.raises(OutputFailed, match="two rows have the run run-1"):
            await journal.flush()


def test_a_whole_batch(tmp_path: Path) -> None:
    """A service that answers each start alike: exit 4, one start a row, and no row has a success."""
    same = Fault(200, (("Content-Type", "application/json"),), b'{"run_id": "run-1", "status": "success"}')
    done = night(tmp_path, numbered(6), lambda row, _: same if row in "25" else None)
    assert done.statuses == ["success", "unknown", "success", "success", "unknown", "success"]
    assert "row 6" in done.records[1]["error"]
    assert "row 3" in done.records[4]["error"]
    assert done.summary.exit_code == ExitCode.SOME_UNKNOWN


async def test_sessions_are_kept(tmp_path: Path) -> None:
    """What a service says of the session is in a row's story, told at the start or with the end."""
    path = tmp_path / "a.journal.db"
    async with Journal.open(path, batch_info()) as journal:
        one, other = await journal.register(entries("AB"))
        assert isinstance(one, Send)
        assert isinstance(other, Send)
        attempt = await journal.intend(one)
        await journal.started(attempt, "run-1", "running", "session-1")
        await journal.ended(attempt, Outcome("success", "run-1"))
        await journal.ended(await journal.intend(other), Outcome("success", "run-2", session_id="session-2"))
    with JournalView.open(path) as view:
        assert [view.story(1, number)[0].session_id for number in (2, 3)] == ["session-1", "session-2"]


async def test_no_two_batches_use_the_same_idempotency_key(tmp_path: Path) -> None:
    """A journal that was brought back from a backup goes on with keys of its own: no start gets another's run."""
    path, backup = tmp_path / "a.journal.db", tmp_path / "backup"
    async with Journal.open(path, batch_info()) as journal:
        await run_row(journal, (await journal.register(entries("A")))[0], "run-1")
    backup.write_bytes(path.read_bytes())
    keys = []
    for _ in range(2):
        path.write_bytes(backup.read_bytes())
        async with Journal.open(path, batch_info()) as journal:
            _, new = await journal.register(entries("AB"))
            assert isinstance(new, Send)
            keys.append(journal.start_key(await journal.intend(new)))
    assert keys[0] != keys[1]
    async with Journal.open(path, batch_info()) as journal:
        assert journal.start_key(2) == keys[1]  # a start of an earlier night is asked for under its own
