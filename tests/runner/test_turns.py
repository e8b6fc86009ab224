"""Which night goes on when several sheets are run again."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from program import run_program

from batch_runner.journal.batches import Turn, command_gone_on_with
from batch_runner.plan.plan import Policy

if TYPE_CHECKING:
    from pathlib import Path

TASK = """
def pay(params):
    with open("paid.txt", "a") as paid:
        paid.write(params["Number"])
    if "Spoil" in params:
        with open(params["Spoil"], "w") as sheet:
            sheet.write("Number,Number\\n1,1\\n")
"""

FAILING = """
def pay(params):
    with open("paid.txt", "a") as paid:
        paid.write(params["Number"])
    raise ValueError("no money")
"""


@pytest.mark.long
def test_a_night_that_was_stopped_between_two_sheets_begins_none_again(tmp_path: Path) -> None:
    """The second sheet couldn't be read at its turn: the same command begins a fresh start of that one only."""
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "a.csv").write_text("Number,Spoil\n1,b.csv\n3,\n")
    night = ("run", "?.csv", "--task", "task.py:pay", "--retry", "all", "--retry-wait", "0", "--concurrency", "1")
    ran = []
    for code in (5, 0, 5):
        (tmp_path / "b.csv").write_text("Number\n2\n")
        assert run_program(*night, cwd=tmp_path).returncode == code
        ran.append((tmp_path / "paid.txt").read_text())
    assert ran == ["13", "132", "13213"]


@pytest.mark.parametrize(
    ("ends", "left", "series", "hours", "retry", "goes_on"),
    [
        ({"a": 0, "b": 130}, "", "ab", 1, "all", True),
        ({"a": 0, "b": None}, "", "ab", 100, "all", True),
        ({"a": 0, "b": 130}, "", "ab", 11, "failure", True),
        ({"a": 0, "b": 130}, "", "ab", 13, "failure", False),
        ({"a": 0}, "b", "ab", 11, "all", True),
        ({"a": 0}, "b", "ab", 13, "all", False),
        ({"a": 0}, "", "ab", 1, "all", False),
        ({"a": 0, "b": 3}, "", "abc", 1, "failure", False),
        ({"a": 0, "b": 3}, "", "ab", 1, "all", False),
        ({"a": 0, "b": 130}, "", "a", 1, "all", False),
        ({}, "", "ab", 1, "all", False),
    ],
)
def test_whose_night_goes_on(
    ends: dict[str, int | None], left: str, series: str, hours: int, retry: str, goes_on: bool
) -> None:
    """That of the last command, if one of its sheets was stopped, or was to come; a new sheet is none of these."""
    began = (datetime.now(UTC) - timedelta(hours=hours)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    names = json.dumps([*left])
    turns = [Turn("before", "a", "2026-01-01T00:00:00.000Z", 130)]
    turns += [Turn("W", name, began, code, names) for name, code in ends.items()]
    found = command_gone_on_with(turns[0 if ends else 1 :], series, Policy(frozenset({retry})))
    assert found == ("W" if goes_on else None)


@pytest.mark.long
def test_a_new_sheet_in_the_folder_begins_a_new_night(tmp_path: Path) -> None:
    """Its failed rows are retried, and those of the sheets that were there before: no retry is skipped for it."""
    (tmp_path / "task.py").write_text(FAILING)
    (tmp_path / "a.csv").write_text("Number\n1\n")
    (tmp_path / "b.csv").write_text("Number\n2\n")
    night = ("run", "?.csv", "--task", "task.py:pay", "--retry", "failure", "--retry-wait", "0", "--concurrency", "1")
    assert run_program(*night, cwd=tmp_path).returncode == 3
    (tmp_path / "c.csv").write_text("Number\n3\n")
    assert run_program(*night, cwd=tmp_path).returncode == 3
    assert sorted((tmp_path / "paid.txt").read_text()) == ["1", "1", "2", "2", "3"]


@pytest.mark.long
def test_a_scheduler_that_restarts_on_exit_3_retries_once_an_hour(tmp_path: Path) -> None:
    """Four commands in four seconds start a failed row once; it is said that it waits; mended, it doesn't."""
    (tmp_path / "task.py").write_text(FAILING)
    (tmp_path / "in.csv").write_text("No,Number\nx,1\n")
    night = ("in.csv", "--task", "task.py:pay", "--key", "No", "--retry", "failure")
    for _ in range(4):
        done = run_program("run", *night, cwd=tmp_path)
        assert done.returncode == 3
    assert (tmp_path / "paid.txt").read_text() == "1"
    assert "waiting for their retry: 1 (rows 2)" in done.stdout
    checked = run_program("check", *night, "--json", cwd=tmp_path)
    assert json.loads(checked.stdout)["plan"] | {"carried_over": 1} == json.loads(checked.stdout)["plan"]
    assert "--retry-wait" in checked.stdout
    make_older(tmp_path / "task.py-pay.journal.db", hours=1)
    assert run_program("run", *night, cwd=tmp_path).returncode == 3
    assert (tmp_path / "paid.txt").read_text() == "11"
    (tmp_path / "in.csv").write_text("No,Number\nx,2\n")
    assert run_program("run", *night, cwd=tmp_path).returncode == 3
    assert (tmp_path / "paid.txt").read_text() == "112"


def make_older(journal: Path, hours: int) -> None:
    """As if all that it holds had happened so many hours before."""
    with closing(sqlite3.connect(journal)) as connection:
        then = f"strftime('%Y-%m-%dT%H:%M:%fZ', ended_at, '-{hours} hours')"
        connection.execute(f"UPDATE attempt SET ended_at = {then}")
        connection.commit()
