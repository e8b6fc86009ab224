"""A new workbook of texts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell

from batch_runner.sheet.errors import SheetError
from batch_runner.sheet.quoting import storable
from batch_runner.sheet.sheet import column_letter

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import BinaryIO

    from openpyxl.cell import Cell
    from openpyxl.worksheet.worksheet import Worksheet

    from batch_runner.sheet.tables import Grid

MOST_ROWS, MOST_COLUMNS, MOST_UNITS = 1_048_576, 16_384, 32_767
"""Rows, columns, and UTF-16 units of a cell (Excel specifications and limits)."""
NARROWEST, WIDEST = 12, 40
"""Characters that a column shows."""
_GUESSED = ("=", "#")
"""How a text begins that openpyxl takes for a formula or an error."""
_UNWRITABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0d\x0e-\x1f]|_(?=x[0-9A-Fa-f]{4}_)")
_NO_CHARACTERS = re.compile("[\ufffe\uffff]")


def write_workbook(target: BinaryIO, grid: Grid) -> None:
    """Write a workbook of one sheet, every cell a text. Raises `SheetError` for what a workbook can't hold."""
    book = Workbook(write_only=True)
    page = book.create_sheet(grid.sheet.name or "Sheet1")
    _set_widths(page, grid)
    for row, own, new in grid.rows():
        texts = (*own, *new)
        if row.number > MOST_ROWS or len(texts) > MOST_COLUMNS:
            raise _too_much(grid, f"{MOST_ROWS:,} rows and {MOST_COLUMNS:,} columns")
        for index, text in enumerate(texts):
            if len(text) > MOST_UNITS // 2 and len(text.encode("utf-16-le", "surrogatepass")) > 2 * MOST_UNITS:
                raise _too_much(grid, f"{MOST_UNITS:,} characters in a cell", grid.sheet.address(row.number, index))
        page.append(_cells(page, texts))
    book.save(target)


def _set_widths(page: Worksheet, grid: Grid) -> None:
    for place, header in zip(grid.places, grid.headers, strict=True):
        page.column_dimensions[column_letter(place)].width = max(NARROWEST, min(len(header) + 2, WIDEST))


def _cells(page: Worksheet, texts: Sequence[str]) -> list[object]:
    return [(_text_cell(page, text) if text.startswith(_GUESSED) else escaped(text)) or None for text in texts]


def _text_cell(page: Worksheet, text: str) -> Cell:
    cell = WriteOnlyCell(page, escaped(text))
    cell.data_type = "s"
    return cell


def escaped(text: str) -> str:
    """The text as a cell's XML holds it: `_xHHHH_` for what XML can't (ECMA-376 part 1, 22.9.2.19 ST_Xstring)."""
    text = _UNWRITABLE.sub(lambda found: f"_x{ord(found[0]):04X}_", text)
    return text if text.isascii() else _NO_CHARACTERS.sub("\ufffd", storable(text))


def _too_much(grid: Grid, limit: str, where: str | None = None) -> SheetError:
    return SheetError(
        f"{where or grid.sheet.path.name}: a workbook holds at most {limit}; name an output ending in .csv"
    )
