"""What screens keep of a sheet in tables of their own is let go with them."""

from __future__ import annotations

import gc
import sqlite3
import time
from typing import TYPE_CHECKING

from paged import write_sheet
from program import PATIENCE, run_program

from batch_runner.page.batches import Batches
from batch_runner.page.rows import OwnColumns
from batch_runner.page.sheets import Choices, Readings

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def tables() -> list[sqlite3.Connection]:
    """All connections that somebody has."""
    return [each for each in gc.get_objects() if isinstance(each, sqlite3.Connection)]


def is_open(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("SELECT 1")
    except sqlite3.ProgrammingError:
        return False
    return True


def test_no_table_outlives_its_screens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is closed, and not only forgotten: Python 3.13 warns of that, and a page is open for days."""
    path = write_sheet(tmp_path)
    assert run_program("run", path.name, "--task", "tasks.py:pay", "--key", "Id", cwd=tmp_path).returncode == 3
    monkeypatch.chdir(tmp_path)
    before = {id(each) for each in tables()}
    readings, columns = Readings(tmp_path), OwnColumns()
    readings.look(Choices(file=path.name, asked=False), "", "")
    seen = Batches(tmp_path).look_at({"journal": "tasks.py-pay.journal.db"})
    assert columns.rows(seen, {}).rows
    opened = [each for each in tables() if id(each) not in before]
    assert len([each for each in opened if is_open(each)]) >= 2
    del readings, columns
    until = time.monotonic() + PATIENCE
    while any(map(is_open, opened)) and time.monotonic() < until:
        time.sleep(0.05)
        gc.collect()
    assert not any(map(is_open, opened))
