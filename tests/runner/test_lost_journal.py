"""A journal that is gone while the output that it belonged to is there still: nobody sends all rows again unwarned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from openpyxl import Workbook, load_workbook
from program import run_program

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

TASK = """
async def pay(params):
    with open("paid.txt", "a") as paid:
        print(params["Number"], file=paid)
    return {}
"""
COMMAND = ("--task", "task.py:pay", "--key", "Number")
ENDINGS = pytest.mark.parametrize("ending", ["csv", "tsv", "xlsx"])


def write_sheet(path: Path, headers: tuple[str, ...] = ("Number", "Name")) -> None:
    rows = (headers, *(tuple(f"{number}{place}" for place in range(len(headers))) for number in (1, 2)))
    if path.suffix == ".xlsx":
        book = Workbook()
        for row in rows:
            book.active.append(row)  # type: ignore[union-attr]
        book.save(path)
    else:
        mark = "\t" if path.suffix == ".tsv" else ","
        path.write_text("".join(mark.join(row) + "\n" for row in rows))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "task.py").write_text(TASK)
    return tmp_path


def run(folder: Path, *words: str, command: str = "run") -> subprocess.CompletedProcess[str]:
    return run_program(command, *words, *COMMAND, cwd=folder)


def warning(output: str, journal: str = "task.py-pay.journal.db") -> str:
    return f"{output} has the runs of an earlier batch, but there is no journal {journal}: every row"


@ENDINGS
@pytest.mark.parametrize("headers", [("Number", "Name"), ("Number", "Status")])
def test_an_output_whose_journal_is_gone_is_warned_of(folder: Path, ending: str, headers: tuple[str, ...]) -> None:
    """By `check`, and by `run` before the first start and in its summary, with what to do; once only."""
    write_sheet(folder / f"in.{ending}", headers)
    said = warning(f"in.results.{ending}")
    first, second = run(folder, f"in.{ending}"), run(folder, f"in.{ending}")
    assert all(said not in done.stdout + done.stderr for done in (first, second))
    (folder / "task.py-pay.journal.db").unlink()
    assert f"note:    {said}" in run(folder, f"in.{ending}", command="check").stdout
    third = run(folder, f"in.{ending}")
    assert third.returncode == 0
    assert said in third.stderr
    assert f"note: {said}" in third.stdout
    assert "if these rows ran before, restore it, or name the one that knows with --journal" in third.stderr
    assert said not in run(folder, f"in.{ending}").stderr


@pytest.mark.parametrize("output", ["out.xlsx", "out.tsv"])
def test_an_output_of_another_format_is_known_too(folder: Path, output: str) -> None:
    """It is read as what was written from such a sheet, whose header row and delimiter are known."""
    (folder / "in.csv").write_text("A title\n\nNumber;Name\n1;one\n")
    words = ("in.csv", "--header-row", "3", "--delimiter", ";", "--output", output)
    assert run(folder, *words).returncode == 0
    (folder / "task.py-pay.journal.db").unlink()
    assert warning(output, "task.py-pay.journal.db") in run(folder, *words).stderr


def nothing_ran(path: Path) -> None:
    path.write_text("Number,Name,run_id,status,result,error\n1,a,,not_started,,\n")


def another_order(path: Path) -> None:
    path.write_text("Number,Name,status,run_id,result,error\n1,a,success,r1,{},\n")


def a_column_more(path: Path) -> None:
    path.write_text("Number,Name,run_id,status,result,error,Paid\n1,a,r1,success,{},,yes\n")


def no_text(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04\x00\xff\xfe" * 99)


def empty(path: Path) -> None:
    path.touch()


@pytest.mark.parametrize("make", [nothing_ran, another_order, a_column_more, no_text, empty])
@pytest.mark.parametrize("output", ["in.results.csv", "in.results.xlsx", "in.results.jsonl"])
def test_what_surely_is_no_output_of_ours_is_written_over_as_ever(folder: Path, make: object, output: str) -> None:
    """No warning, and no error, for other columns, no run id, a file that can't be read, a format that isn't."""
    write_sheet(folder / "in.csv")
    assert callable(make)
    make(folder / output)
    done = run(folder, "in.csv", "--output", output)
    assert done.returncode == 0
    assert "earlier batch" not in done.stdout + done.stderr


def test_hidden_rows_of_an_output_are_looked_at(folder: Path) -> None:
    """A person has filtered it for the rows that failed, and all that ran are hidden."""
    write_sheet(folder / "in.xlsx")
    run(folder, "in.xlsx")
    book = load_workbook(folder / "in.results.xlsx")
    assert book.active is not None
    for number in (2, 3):
        book.active.row_dimensions[number].hidden = True
    book.save(folder / "in.results.xlsx")
    (folder / "task.py-pay.journal.db").unlink()
    assert warning("in.results.xlsx") in run(folder, "in.xlsx").stderr


def test_a_night_of_several_sheets_is_refused(folder: Path) -> None:
    """As where a pattern catches an earlier output: nobody named the sheet, so nothing is sent (2), and it is named."""
    for name in ("a.csv", "b.csv"):
        write_sheet(folder / name)
    assert run(folder, "*.csv").returncode == 0
    paid = (folder / "paid.txt").read_text()
    (folder / "task.py-pay.journal.db").unlink()
    for command in ("check", "run"):
        done = run(folder, "*.csv", command=command)
        assert done.returncode == 2
        assert warning("b.results.csv", "task.py-pay.journal.db") in done.stderr
        assert "or give the file itself as INPUT instead of a pattern" in done.stderr
    assert (folder / "paid.txt").read_text() == paid
    assert run(folder, "b.csv").returncode == 0


def test_a_journal_for_each_day_is_none_that_is_lost(folder: Path) -> None:
    """Whoever puts the day into its name wants a new one every night; what ran is held there, until it is released."""
    write_sheet(folder / "a.csv")
    words = ("*.csv", "--journal", "{stem}-{date}.db", "--date")
    assert run(folder, *words, "2026-11-24").returncode == 0
    done = run(folder, *words, "2026-11-25")
    assert done.returncode == 3
    assert "2 held (ran on " in done.stdout
    assert run(folder, *words, "2026-11-25", "--again").returncode == 0
