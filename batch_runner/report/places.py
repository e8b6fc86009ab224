"""Where a row stands in the output, and the link to it.

Excel and LibreOffice read `FILE#'Sheet'!A17` as a place in a workbook where the system's browser hands it on; of a text
file `FILE#row=17` is the place (RFC 7111). The address always stands there as text, too.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

WORKBOOKS = (".xlsx", ".xlsm")
TEXTS = (".csv", ".tsv")


class Link(msgspec.Struct, frozen=True):
    """What stands there, and where it leads; None for nowhere."""

    text: str
    href: str | None = None


class Places(msgspec.Struct, frozen=True):
    """The rows of an output as seen from a report. `sheet` is the name of the sheet, None for a text file."""

    output: Path
    report: Path
    sheet: str | None

    @property
    def file(self) -> Link:
        """The output itself."""
        way = os.path.relpath(self.output.absolute(), self.report.absolute().parent)
        return Link(self.output.name, quote(os.fsencode(way)))

    def row(self, number: int) -> Link:
        """A row of it."""
        ending = self.output.suffix.lower()
        if ending in WORKBOOKS:
            tab = (self.sheet or "Sheet1").replace("'", "''")
            place = quote(f"'{tab}'!A{number}", safe="'!", errors="replace")
            return Link(f"A{number}", f"{self.file.href}#{place}")
        return Link(str(number), f"{self.file.href}#row={number}" if ending in TEXTS else None)
