"""Journals of an earlier version: brought up to this one by a batch, and left alone by who only looks."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import anyio
import pytest
from journals import FormerRow, batch_info, entries, former_journal
from program import run_program

from batch_runner.journal.database import VERSION, steps_from
from batch_runner.journal.journal import Journal
from batch_runner.journal.view import JournalView
from batch_runner.plan.plan import Keep, Poll, Send

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=[1, 2, 3], ids=["version 1", "version 2", "version 3"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A journal of an earlier version in which A succeeded and B was still running."""
    path = tmp_path / "a.journal.db"
    rows = (FormerRow(b"A", b"A", "success", "run-A"), FormerRow(b"B", b"B", "running", "run-B"))
    former_journal(path, int(request.param), rows, batch_info())
    return path


def columns(connection: sqlite3.Connection) -> dict[str, list[tuple[str, str, int, str | None]]]:
    """Each table's columns: name, type, NOT NULL, default."""
    tables = connection.execute("SELECT name FROM sqlite_schema WHERE type IN ('table', 'index')").fetchall()
    return {
        name: sorted(found[1:5] for found in connection.execute(f"PRAGMA table_xinfo({name})"))
        for (name,) in tables
        if not name.startswith("sqlite_")
    }


async def register(path: Path) -> list[object]:
    async with Journal.open(path, batch_info()) as journal:
        return list(await journal.register(entries("ABC")))


def test_a_batch_brings_it_up_to_date(path: Path, tmp_path: Path) -> None:
    """Its tables are those of a new journal, and what it knew is known: one row done, one followed, one new."""
    plans = anyio.run(register, path)
    assert [type(plan) for plan in plans] == [Keep, Poll, Send]
    anyio.run(register, tmp_path / "new.journal.db")
    with closing(sqlite3.connect(path)) as old, closing(sqlite3.connect(tmp_path / "new.journal.db")) as new:
        assert old.execute("PRAGMA user_version").fetchone()[0] == VERSION
        assert columns(old) == columns(new)
        assert len(old.execute("SELECT uuid FROM about").fetchall()) == 1


def test_who_only_looks_changes_nothing(path: Path) -> None:
    """`status` and a row's story read it as it is: the same bytes afterwards."""
    before = hashlib.sha256(path.read_bytes()).digest()
    with JournalView.open(path) as view:
        assert [(count.status, count.rows) for count in view.counts(1)] == [("running", 1), ("success", 1)]
        assert view.story(1, 2)[0].run_id == "run-A"
    assert run_program("status", path, cwd=path.parent).returncode == 0
    assert hashlib.sha256(path.read_bytes()).digest() == before


def test_a_kill_in_the_middle_leaves_the_old_one(path: Path) -> None:
    """The change is one transaction: rolled back half-way, the journal is as it was, and the next batch does it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        connection.executescript(f"BEGIN IMMEDIATE; {steps_from(version)} PRAGMA user_version = {VERSION};")
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone()[0] == version
    assert [type(plan) for plan in anyio.run(register, path)] == [Keep, Poll, Send]
