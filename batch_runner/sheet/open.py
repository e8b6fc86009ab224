"""Opens a spreadsheet, whatever its format."""

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
        from batch_runner.sheet.csv.reader import open_csv

        return open_csv(path, reading, scratch)
    if ending in WORKBOOK_ENDINGS:
        from batch_runner.sheet.xlsx.workbook import open_workbook

        return open_workbook(path, reading, scratch)
    raise SheetError(f"{path.name}: not a file this program reads; save it as .xlsx, .xlsm, .csv or .tsv")
