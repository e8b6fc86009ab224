"""A new workbook of texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell

from batch_runner.sheet.errors import SheetError
from batch_runner.sheet.sheet import column_letter
from batch_runner.sheet.splice.inline import CELL_UNITS, fits, xstring
from batch_runner.sheet.splice.ranges import MAX_COLUMNS
from batch_runner.sheet.workbook.rawrow import MAX_ROWS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    from openpyxl.cell import Cell
    from openpyxl.worksheet.worksheet import Worksheet

    from batch_runner.sheet.grid import Grid
    from batch_runner.sheet.row import Row

NARROWEST, WIDEST = 12, 40
"""Characters that a column shows."""
_GUESSED = ("=", "#")
"""How a text begins that openpyxl takes for a formula or an error."""


def write_workbook(target: BinaryIO, grid: Grid) -> None:
    """Write a workbook of one sheet, every cell a text. Raises `SheetError` for what a workbook can't hold."""
    book = Workbook(write_only=True)
    page = book.create_sheet(grid.sheet.name or "Sheet1")
    try:
        _set_widths(page, grid)
        for row, own, new in grid.rows():
            texts = (*own, *new)
            _refuse_row(grid, row, texts)
            page.append([_value(page, text) for text in texts])
    except BaseException:
        page.close()
        raise
    book.save(target)


def refuse_too_much(grid: Grid) -> None:
    """Raises `SheetError` for a sheet that a workbook can't hold, naming the first cell that is too much."""
    for row, own, new in grid.rows():
        _refuse_row(grid, row, (*own, *new))


def _set_widths(page: Worksheet, grid: Grid) -> None:
    for place, header in zip(grid.places, grid.headers, strict=True):
        page.column_dimensions[column_letter(place)].width = max(NARROWEST, min(len(header) + 2, WIDEST))


def _value(page: Worksheet, text: str) -> Cell | str | None:
    """What openpyxl makes a text cell of; no cell for no text."""
    if not text.startswith(_GUESSED):
        return xstring(text) or None
    cell = WriteOnlyCell(page, xstring(text))
    cell.data_type = "s"
    return cell


def _refuse_row(grid: Grid, row: Row, texts: Sequence[str]) -> None:
    if row.number > MAX_ROWS or len(texts) > MAX_COLUMNS:
        raise _too_much(grid.sheet.path.name, f"{MAX_ROWS:,} rows and {MAX_COLUMNS:,} columns")
    for index, text in enumerate(texts):
        if not fits(text):
            raise _too_much(grid.sheet.address(row.number, index), f"{CELL_UNITS:,} characters in a cell")


def _too_much(where: str, limit: str) -> SheetError:
    return SheetError(f"{where}: a workbook holds at most {limit}; name an output that ends in .csv")
