"""What the summary says of tonight's sheet beside last night's."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from journals import batch_info
from program import run_program

from batch_runner.journal.changes import since
from batch_runner.journal.journal import Journal
from batch_runner.plan.plan import Entry

if TYPE_CHECKING:
    from pathlib import Path

TASK = """
async def echo(params):
    if params.get("Amount") == "bad":
        raise ValueError("bad")
    return params.get("Amount")
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "task.py").write_text(TASK)
    return tmp_path


def night(folder: Path, text: str, *options: str) -> dict[str, Any]:
    """Run the sheet with this text; gives the summary."""
    (folder / "in.csv").write_text(f"No,Amount\n{text}")
    done = run_program("run", "in.csv", "--task", "task.py:echo", "--key", "No", "--json", *options, cwd=folder)
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_new_changed_left_and_carried(folder: Path) -> None:
    """Rows are counted by key: sorted, one edited, one gone, two new."""
    assert night(folder, "1,10\n2,20\n3,30\n4,40\n")["since"] is None
    since = night(folder, "4,40\n3,33\n5,50\n1,10\n6,60\n")["since"]
    assert {name: since[name] for name in ("batch", "new", "changed", "left", "carried")} == {
        "batch": 1,
        "new": 2,
        "changed": 1,
        "left": 1,
        "carried": 3,
    }


def test_a_long_sheet_is_compared_row_by_row(tmp_path: Path) -> None:
    """Twice the rows take twice the time: no step of it looks through a batch for each row of another."""

    async def steps(path: Path, rows: int) -> int:
        sheet = [Entry(number, b"%d" % number, b"%d" % number) for number in range(rows)]
        for _ in range(2):
            async with Journal.open(path, batch_info()) as journal:
                await journal.register(sheet)
                await journal.finish(0)
        count = 0

        def step() -> None:
            nonlocal count
            count += 1

        with closing(sqlite3.connect(path)) as connection:
            connection.set_progress_handler(step, 100)
            assert since(connection, 2) is not None
        return count

    short, long = (anyio.run(steps, tmp_path / f"{rows}.db", rows) for rows in (200, 2000))
    assert long < 15 * short


def test_a_partial_night_compares_nothing(folder: Path) -> None:
    """`--limit` on either night would make rows seem to have left, or to have come."""
    night(folder, "1,10\n2,20\n")
    assert night(folder, "1,10\n2,20\n3,30\n", "--limit", "1")["since"] is None
    since = night(folder, "1,10\n2,20\n3,30\n")["since"]
    assert (since["batch"], since["new"], since["left"]) == (1, 1, 0)


def test_in_words(folder: Path) -> None:
    """A person reads it as one line."""
    night(folder, "1,10\n2,20\n")
    (folder / "in.csv").write_text("No,Amount\n1,11\n3,30\n")
    told = run_program("run", "in.csv", "--task", "task.py:echo", "--key", "No", cwd=folder).stdout
    assert ": 1 new, 1 edited, 1 left the sheet; 1 carried over, 1 of them edited since it ran" in told


def test_nothing_new_is_one_line(folder: Path) -> None:
    """The same sheet again, all of it done: 0, and one line that names the output."""
    night(folder, "1,10\n2,20\n")
    done = run_program("run", "in.csv", "--task", "task.py:echo", "--key", "No", cwd=folder)
    assert done.returncode == 0
    assert done.stdout == "in.csv: nothing new: 2 carried over (2 success); output: in.results.csv\n"
    assert done.stderr == ""


def test_an_old_failure_is_still_told(folder: Path) -> None:
    """Nothing new, but a row that failed before: it is counted, and the code says so, night after night."""
    night(folder, "1,10\n2,bad\n")
    again = night(folder, "1,10\n2,bad\n")
    assert (again["exit_code"], again["carried"], again["counts"]) == (3, 2, {"success": 1, "failure": 1})


@pytest.mark.long
def test_a_sheet_for_each_day_is_no_news(folder: Path) -> None:
    """Sheets that hold the day's rows only are new every night, and nobody is warned of that.

    Where a cumulative one gets a column, each of its rows is almost one that ran, and held.
    """
    warning = "no row of this sheet is known to the journal"
    command = ("run", "in-{date}.csv", "--task", "task.py:echo")
    told = []
    for day, text in enumerate(["1,10\n", "2,20\n", "2,20\n3,30\n"], 1):
        (folder / f"in-2026-03-0{day}.csv").write_text(f"No,Amount\n{text}")
        told.append(run_program(*command, "--date", f"2026-03-0{day}", cwd=folder).stderr)
    assert warning not in "".join(told)
    (folder / "in-2026-03-04.csv").write_text("No,Amount,Note\n2,20,x\n3,30,x\n")
    done = run_program(*command, "--date", "2026-03-04", cwd=folder)
    assert (done.returncode, warning in done.stderr) == (3, False)
    assert "2 held (" in done.stdout
