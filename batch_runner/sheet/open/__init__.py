"""Opens a spreadsheet, whatever its format.

sheet.py        what every sheet can do, whatever its format
row.py          the values that a sheet is read as: rows, columns, problems of cells
header.py       which row is the header
snapshot.py     the private copy that is read
text/           .csv and .tsv
workbook/       .xlsx and .xlsm, read
format/         a number and its format → text
splice/         .xlsx and .xlsm, written back with new columns
written.py      what was written from a sheet, opened again
tables.py       a sheet written in another format than its own
newworkbook.py  that as .xlsx
parquet.py      that as .parquet
grid.py         a sheet and its new columns as one grid of texts
newcells.py     the new cells, handed out row by row
errors.py       `SheetError`
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_runner.errors import SheetError

if TYPE_CHECKING:
    from pathlib import Path

    from batch_runner.sheet.model import Reading, Sheet


TEXT_ENDINGS = (".csv", ".tsv")
WORKBOOK_ENDINGS = (".xlsx", ".xlsm")


def open_sheet(path: Path, reading: Reading, scratch: Path) -> Sheet:
    """Open a sheet, keep it as it is now, and look at all of it once.

    `scratch` is the folder for the private copy, which vanishes with the process. Raises `SheetError`.
    """
    ending = path.suffix.lower()
    if ending in TEXT_ENDINGS:
        from batch_runner.sheet.text.delimited import open_delimited

        return open_delimited(path, reading, scratch)
    if ending in WORKBOOK_ENDINGS:
        from batch_runner.sheet.xlsx.workbook import open_workbook

        return open_workbook(path, reading, scratch)
    raise SheetError(f"{path.name}: not a file this program reads; save it as .xlsx, .xlsm, .csv or .tsv")
