"""Workbooks whose header row comes again, is in doubt, or isn't there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import openpyxl
import pytest
from workbooks import opened

from batch_runner.errors import SheetError
from batch_runner.sheet.model import Reading, RowKind

if TYPE_CHECKING:
    from pathlib import Path

Cells = list[list[object]]


def workbook(folder: Path, *rows: list[object], autofilter: str | None = None) -> Path:
    book = openpyxl.Workbook()
    for row in rows:
        book.worksheets[0].append(row)
    if autofilter:
        book.worksheets[0].auto_filter.ref = autofilter
    book.save(folder / "a.xlsx")
    return folder / "a.xlsx"


@pytest.mark.long
@pytest.mark.parametrize("rows", [4, 3000])
def test_the_header_row_once_more_is_no_row(tmp_path: Path, rows: int) -> None:
    """In a long sheet, whose rows are skimmed, as in a short one; a vendor of the column's name is data."""
    data: Cells = [[f"A-{number}", number, "Vendor"] for number in range(rows)]
    header: list[object] = ["No", "Amount", "Vendor"]
    path = workbook(tmp_path, header, *data, [" No", "Amount", "Vendor "], ["B", 5, "x"], header, ["", "Amount", ""])
    with opened(path) as sheet:
        again = [row.number for row in sheet.rows() if row.kind is RowKind.REPEATED]
        assert again == [rows + 2, rows + 4, rows + 5]
        assert sheet.row_count == rows + 1 == sum(row.kind is RowKind.DATA for row in sheet.rows())
        assert any("it is the header row once more" in note and f"{rows + 2}" in note for note in sheet.notes)


def test_a_sheet_without_headers_is_refused_until_it_is_said(tmp_path: Path) -> None:
    """The first invoice would be the header row; --header-row and --no-header say what it is."""
    path = workbook(tmp_path, ["A-1", 10.5], ["A-2", 20], ["A-3", 30, "late"])
    with pytest.raises(SheetError, match=r"its '10\.5' looks like data; say --header-row 1 .*--no-header"):
        opened(path)
    with pytest.raises(SheetError, match=r"its '10\.50' looks like data"):
        opened(workbook(tmp_path, ["A-1", "10.50"], ["A-2", "20.00"]))
    path = workbook(tmp_path, ["A-1", 10.5], ["A-2", 20], ["A-3", 30, "late"])
    with opened(path, Reading(no_header=True)) as sheet:
        assert (sheet.header_row, [column.name for column in sheet.columns]) == (0, ["A", "B", "C"])
        assert [row.texts for row in sheet.rows()] == [("A-1", "10.5", ""), ("A-2", "20", ""), ("A-3", "30", "late")]
        assert sheet.row_count == 3
    with opened(workbook(tmp_path, ["A-1", 10.5], ["A-2", 20]), Reading(header_row=1)) as sheet:
        assert [column.name for column in sheet.columns] == ["A-1", "10.5"]


def test_without_headers_the_first_sheet_with_data_is_read(tmp_path: Path) -> None:
    """An empty sheet before it is passed over as ever."""
    book = openpyxl.Workbook()
    book.create_sheet("Data").append(["A-1", 10])
    book.save(tmp_path / "a.xlsx")
    with opened(tmp_path / "a.xlsx", Reading(no_header=True)) as sheet:
        assert (sheet.name, sheet.row_count) == ("Data", 1)


def test_two_rows_that_could_be_the_header_are_named(tmp_path: Path) -> None:
    """A footnote at the right would drop the whole list above it."""
    path = workbook(tmp_path, ["No", "Net", 2026], ["A", 1, "x"], ["B", 2, "y"], [None, None, "see overleaf"])
    with pytest.raises(SheetError, match="row 1 or row 4 could be the header row; say which: --header-row 1 or"):
        opened(path)


def test_an_autofilter_says_which_row_it_is(tmp_path: Path) -> None:
    """Somebody chose the row: numbers in it are headers."""
    with opened(workbook(tmp_path, ["No", 2025], ["A", 1], ["B", 2], autofilter="A1:B3")) as sheet:
        assert [column.name for column in sheet.columns] == ["No", "2025"]
