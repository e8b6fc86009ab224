"""A sheet without headers from end to end, and a guess that is told although nothing is to be said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import openpyxl
import pytest
from program import run_program

if TYPE_CHECKING:
    from pathlib import Path

ROWS = [["A-1", "10.50"], ["A-2", "20.00"]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tasks.py").write_text("def echo(params):\n    return dict(params)\n")
    (tmp_path / "in.csv").write_text("".join(f"{','.join(row)}\n" for row in ROWS))
    book = openpyxl.Workbook()
    for row in ROWS:
        book.worksheets[0].append(row)
    book.save(tmp_path / "in.xlsx")
    return tmp_path


def run(folder: Path, name: str, *options: str) -> tuple[int, str]:
    done = run_program("run", name, "--task", "tasks.py:echo", "--workers", "1", *options, cwd=folder)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.long
@pytest.mark.parametrize("name", ["in.csv", "in.xlsx"])
def test_all_rows_run_and_are_known_the_next_night(folder: Path, name: str) -> None:
    """Columns are called A, B; the output has the rows where they were, and no headers."""
    assert run(folder, name)[0] == 2
    code, said = run(folder, name, "--no-header", "--output", "out.csv")
    assert (code, "2 success" in said) == (0, True)
    lines = (folder / "out.csv").read_text("utf-8-sig").splitlines()
    assert [line.split(",")[:2] for line in lines] == ROWS
    assert all('"{""A"":""A-' in line for line in lines)
    assert "2 carried over" in run(folder, name, "--no-header", "--output", "out.csv")[1]


def test_its_own_format_is_written_back(folder: Path) -> None:
    """A workbook keeps its cells; ours stand beside them in the first row, too."""
    assert run(folder, "in.xlsx", "--no-header")[0] == 0
    rows = list(openpyxl.load_workbook(folder / "in.results.xlsx").worksheets[0].iter_rows(values_only=True))
    assert [list(row[:2]) for row in rows] == ROWS
    assert [row[3] for row in rows] == ["success", "success"]


def test_its_output_is_no_sheet_to_run(folder: Path) -> None:
    """Nothing there says which columns are ours: in place, or taken for another sheet, each row would run again."""
    assert run(folder, "in.csv", "--no-header")[0] == 0
    assert run(folder, "in.results.csv", "--no-header")[0] == 2
    assert run(folder, "in.results.csv", "--no-header", "--output", "other.csv")[0] == 2


@pytest.mark.long
def test_a_lost_journal_is_refused(folder: Path) -> None:
    """Without headers nobody can tell whose runs stand in the output: nothing is sent until somebody says so."""
    assert run(folder, "in.csv", "--no-header")[0] == 0
    for path in folder.glob("*.journal.db*"):
        path.unlink()
    code, said = run(folder, "in.csv", "--no-header")
    assert code == 2
    assert "without headers its runs can't be taken back" in said
    assert run(folder, "in.csv", "--no-header", "--ignore-output")[0] == 0


def test_a_guessed_encoding_is_told_once_also_with_quiet(folder: Path) -> None:
    """On the first night somebody must hear of it; from the second on all is well and quiet."""
    (folder / "legacy.csv").write_bytes("Id;Name\n1;Müller\n".encode("cp1252"))
    code, said = run(folder, "legacy.csv", "--quiet")
    assert (code, "was read as Windows-1252" in said) == (0, True)
    assert run(folder, "legacy.csv", "--quiet") == (0, "")
