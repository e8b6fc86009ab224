"""Which night goes on when several sheets are run again."""

from __future__ import annotations

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


def test_a_night_that_was_stopped_between_two_sheets_begins_none_again(tmp_path: Path) -> None:
    """The second sheet couldn't be read at its turn: the same command begins a fresh start of that one only."""
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "a.csv").write_text("Number,Spoil\n1,b.csv\n3,\n")
    night = ("run", "?.csv", "--task", "task.py:pay", "--retry", "all", "--concurrency", "1")
    ran = []
    for code in (5, 0, 5):
        (tmp_path / "b.csv").write_text("Number\n2\n")
        assert run_program(*night, cwd=tmp_path).returncode == code
        ran.append((tmp_path / "paid.txt").read_text())
    assert ran == ["13", "132", "13213"]


@pytest.mark.parametrize(
    ("ends", "series", "hours", "retry", "goes_on"),
    [
        ({"a": 0, "b": 130}, "ab", 1, "all", True),
        ({"a": 0, "b": None}, "ab", 100, "all", True),
        ({"a": 0, "b": 130}, "ab", 11, "failure", True),
        ({"a": 0, "b": 130}, "ab", 13, "failure", False),
        ({"a": 0}, "ab", 11, "all", True),
        ({"a": 0}, "ab", 13, "all", False),
        ({"a": 0, "b": 3}, "ab", 1, "all", False),
        ({"a": 0, "b": 130}, "a", 1, "all", False),
        ({}, "ab", 1, "all", False),
    ],
)
def test_whose_night_goes_on(ends: dict[str, int | None], series: str, hours: int, retry: str, goes_on: bool) -> None:
    """That of the last command, if one of its sheets was stopped, or has not had its turn."""
    began = (datetime.now(UTC) - timedelta(hours=hours)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    turns = [Turn("before", "a", "2026-01-01T00:00:00.000Z", 130), *(Turn("W", n, began, e) for n, e in ends.items())]
    found = command_gone_on_with(turns[0 if ends else 1 :], series, Policy(frozenset({retry})))
    assert found == ("W" if goes_on else None)
