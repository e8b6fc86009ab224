"""What was written from a sheet, opened to be held against it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_runner.sheet.row import Reading
from batch_runner.sheet.text.delimited import view_delimited
from batch_runner.sheet.text.dialect import DELIMITERS

if TYPE_CHECKING:
    from pathlib import Path

    from batch_runner.sheet.sheet import Sheet


def open_written(path: Path, sheet: Sheet) -> Sheet:
    """Open what `Sheet.append` or `write_table` wrote from a sheet: row for row the same, hidden ones included.

    No private copy is made. Raises `SheetError`.
    """
    ending = path.suffix.lower()
    if ending == sheet.path.suffix.lower():
        reading = sheet.reading_again()
    elif ending in DELIMITERS:
        reading = Reading(header_row=sheet.header_row, encoding="utf-8", delimiter=DELIMITERS[ending])
    else:
        reading = Reading(header_row=sheet.header_row, hidden="include")
    if ending in DELIMITERS:
        return view_delimited(path, reading, sheet.scratch)
    from batch_runner.sheet.workbook.workbook import view_workbook

    return view_workbook(path, reading, sheet.scratch)
