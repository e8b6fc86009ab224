"""The quick check of a workbook that got columns: whatever it passes is right, all else is left to a reader."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest
from packages import SHEET
from workbooks import Tab, opened, text_row, write_workbook

from batch_runner.errors import OutputFailed, Unlike
from batch_runner.journal.view import Placed
from batch_runner.output.output import Expected, check_appended
from batch_runner.sheet.export import append_columns, appended
from batch_runner.sheet.model import NewColumns

if TYPE_CHECKING:
    from pathlib import Path

NEW = NewColumns(("run_id", "status", "result", "error"))
ROWS = text_row(1, "File", "Note") + text_row(2, "a.pdf", "x") + text_row(3, "b.pdf") + text_row(4, "c.pdf", "y")
OUTCOMES = [
    Placed(2, "success", "r<2>", "", "", changed=False),
    Placed(3, "error", "", "", "no", changed=False),
    Placed(4, "success", "r4", "", "", changed=False),
]


def check(folder: Path, old: str = "", new: str = "", outcomes: list[Placed] | None = None, rows: str = ROWS) -> None:
    """Append, put `new` for `old` in the written sheet's part, and check."""
    given = OUTCOMES if outcomes is None else outcomes
    path = write_workbook(folder / "a.xlsx", {"S": Tab(rows=rows)})
    out, draft = folder / "out.xlsx", folder / "draft.xlsx"
    with opened(path) as sheet:
        with out.open("wb") as target:
            append_columns(
                sheet, target, NEW, ((one.number, (one.run_id, one.status, one.result, one.error)) for one in OUTCOMES)
            )
        with zipfile.ZipFile(out) as before, zipfile.ZipFile(draft, "w") as after:
            for name in before.namelist():
                data = before.read(name)
                if name == SHEET:
                    assert old.encode() in data
                    data = data.replace(old.encode(), new.encode(), 1)
                after.writestr(name, data)
        cells = ((one.number, (one.run_id, one.status, one.result, one.error)) for one in given)
        check_appended(appended(sheet, draft, NEW), 1, NEW, Expected("a.xlsx", NEW.headers, cells))


def test_what_is_right_passes(tmp_path: Path) -> None:
    """A plain sheet needs no reader: every row is there to the letter, with its own run, or with none."""
    check(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("r4", "r&lt;2&gt;", "row 4"),
        ("r&lt;2&gt;", "", "row 2"),
        ("run_id", "id", "the header row"),
        ("success", "failure", "row 2"),
        (">no<", ">na<", "row 3"),
    ],
)
def test_another_rows_run_is_found(tmp_path: Path, old: str, new: str, where: str) -> None:
    """A run beside another row, none where one belongs, another header: the row is named."""
    with pytest.raises(OutputFailed, match=f"{where} came out wrong"):
        check(tmp_path, old, new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a.pdf", "A.pdf"),
        (text_row(3, "b.pdf").removesuffix("</row>"), '<row r="3">'),
        ('<row r="4">', '<row r="5">'),
        ("</sheetData>", text_row(5, "d.pdf") + "</sheetData>"),
        ("</sheetData>", ""),
        ('r="C4"', 'r="D4"'),
    ],
)
def test_a_row_that_isnt_the_same_to_the_letter_is_left_to_a_reader(tmp_path: Path, old: str, new: str) -> None:
    """An own cell altered or lost, one of ours in another column, a row renumbered or added, no end: never passed."""
    with pytest.raises(Unlike):
        check(tmp_path, old, new)


def test_an_outcome_without_a_place_is_found(tmp_path: Path) -> None:
    """An outcome whose row is nowhere in the output is not lost without a word."""
    lost = Placed(9, "success", "r9", "", "", changed=False)
    with pytest.raises(OutputFailed, match="row 9 has an outcome but no place in the output"):
        check(tmp_path, outcomes=[*OUTCOMES, lost])


def test_odd_rows_are_left_to_a_reader(tmp_path: Path) -> None:
    """Rows without a number, or with cells of formatting right of ours, are for those who read."""
    with pytest.raises(Unlike):
        check(tmp_path, rows=ROWS.replace('<row r="2">', "<row>"))
    with pytest.raises(Unlike):
        check(tmp_path, rows=ROWS.replace("</row>", '<c r="K1" s="0"/></row>', 1))
