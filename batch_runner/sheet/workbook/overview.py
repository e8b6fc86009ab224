"""One look at a whole sheet before its first row is sent: what is there, and what refuses it. No cell becomes text."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING

import msgspec

from batch_runner.sheet.header import LOOK, FirstRow, find_header
from batch_runner.sheet.workbook.catalog import range_in
from batch_runner.sheet.workbook.rawrow import MAX_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_runner.sheet.workbook.catalog import TablePart
    from batch_runner.sheet.workbook.cells import Cells
    from batch_runner.sheet.workbook.rawrow import RawRow
    from batch_runner.sheet.workbook.scan import Scan


class Overview(msgspec.Struct, frozen=True):
    """What stands in a sheet.

    Row numbers are what Excel shows, 0 where there is none; places of columns count from 0. `filled_rows` are rows
    below the header that have text and are no totals, hidden ones included. `stray` is the first cell with text under
    an empty header.
    """

    header_row: int
    headers: tuple[str, ...]
    last_row: int
    width: int
    first_data_row: int
    last_data_row: int
    filled_rows: int
    hidden_rows: int
    first_hidden: int
    stray: tuple[int, int] | None


class _Tally:
    """Counts the rows below the header, one after the other."""

    def __init__(self, header: FirstRow, cells: Cells, totals_row: int | None) -> None:
        self.header = header
        self.cells = cells
        self.totals_row = totals_row
        self.covered = next((place for place, text in enumerate(header.texts) if not text), len(header.texts))
        """Up to this place no header is empty."""
        self.last_row = header.number
        self.width = header.width
        self.first = self.last = self.filled = self.hidden = self.first_hidden = 0
        self.stray: tuple[int, int] | None = None

    def add(self, row: RawRow) -> None:
        end = self.cells.last_filled(row) + 1
        if not end:
            return
        self.last_row = row.number
        if row.number <= self.header.number or (self.totals_row is not None and row.number >= self.totals_row):
            return
        self.first = self.first or row.number
        self.last = row.number
        self.filled += 1
        self.width = max(self.width, end)
        if row.hidden:
            self.hidden += 1
            self.first_hidden = self.first_hidden or row.number
        if end > self.covered and self.stray is None:
            self.stray = self._stray(row)

    def _stray(self, row: RawRow) -> tuple[int, int] | None:
        texts = self.header.texts
        for place in self.cells.filled(row):
            if place >= len(texts) or not texts[place]:
                return row.number, place
        return None


def look_over(scan: Scan, cells: Cells, asked: int | None, table: TablePart | None) -> Overview | None:
    """Look at all rows of a sheet; None for a sheet without text.

    `asked` is the header row that a person named, `table` the table that is read otherwise; without either, the
    autofilter counts, which is known only at the sheet's end: where its first row isn't the one that was found, the
    sheet is looked at again.
    """
    known = asked or (table.first_row if table else None)
    totals_row = table.totals_row if table and table.first_row == known else None
    seen = _look(scan, cells, known, totals_row)
    if seen is None or known or not scan.beside.autofilter:
        return seen
    top = range_in(scan.package, scan.part, scan.beside.autofilter)[1]
    again = _look(scan, cells, top, None) if top != seen.header_row else None
    return again if again and any(again.headers) else seen


def _look(scan: Scan, cells: Cells, known: int | None, totals_row: int | None) -> Overview | None:
    scan.skims = None
    rows = _ascending(scan)
    first = list(islice(rows, LOOK)) if known is None else _until(rows, known)
    shown = [_first_row(row, cells) for row in first]
    number = find_header(shown, known)
    if number is None:
        return None
    header = next((row for row in shown if row.number == number), FirstRow(number, ()))
    tally = _Tally(header, cells, totals_row)
    if tally.covered == header.width:  # without a gap among the headers the last cell of a row says it all
        scan.skims = lambda row: cells.last_filled(row) >= 0
    for row in chain(first, rows):
        tally.add(row)
    return Overview(
        header.number, header.texts[: tally.width], tally.last_row, tally.width, tally.first, tally.last, tally.filled,
        tally.hidden, tally.first_hidden, tally.stray,
    )  # fmt: skip


def _until(rows: Iterator[RawRow], number: int) -> list[RawRow]:
    """The row with this number and some before it: no more than those that are looked at."""
    found: list[RawRow] = []
    for row in rows:
        found = [*found[-LOOK:], row]
        if row.number >= number:
            break
    return found


def _first_row(row: RawRow, cells: Cells) -> FirstRow:
    width = max(cells.filled(row), default=-1) + 1
    return FirstRow(row.number, tuple(cells.texts(row, width)[0]), cells.typed(row))


def _ascending(scan: Scan) -> Iterator[RawRow]:
    """The rows as they come. Raises `SheetError` where their numbers don't ascend: no reader knows which is meant."""
    before = 0
    for row in scan:
        if not before < row.number <= MAX_ROWS:
            raise scan.package.damaged(scan.part, f"has row {row.number} after row {before}")
        before = row.number
        yield row
