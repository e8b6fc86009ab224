"""One look at a whole sheet before its first row is sent: what is there, and what refuses it. No cell becomes text."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING

import msgspec

from batch_runner.sheet.header import LOOK, FirstRow, find_header
from batch_runner.sheet.workbook.catalog import range_in

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
    an empty header. `formulas` has the last cell with a formula of each row from the header row to the last data row,
    whatever it shows, as (place of its column, number of the first such row).
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
    formulas: tuple[tuple[int, int], ...] = ()


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
        self.formulas: dict[int, int] = {}

    def take(self, row: RawRow) -> bool:
        """Count a row of which only the last formula and the last cell are known, if these say it all."""
        if not self.cells.is_filled(row, -1):
            return False
        self._count(row, self.cells.place(row, -1) + 1)
        return True

    def add(self, row: RawRow) -> None:
        """Count a row."""
        self._count(row, self.cells.last_filled(row) + 1)

    def _count(self, row: RawRow, end: int) -> None:
        """Count a row whose last cell with text stands left of the place `end`; 0 for a row without text."""
        number = row.number
        if end:
            self.last_row = number
        if number < self.header.number or (self.totals_row is not None and number >= self.totals_row):
            return
        formula = self.cells.last_formula(row)
        if formula >= 0:
            self.formulas.setdefault(formula, number)
        if not end or number == self.header.number:
            return
        self.first = self.first or number
        self.last = number
        self.filled += 1
        self.width = max(self.width, end)
        if row.hidden:
            self.hidden += 1
            self.first_hidden = self.first_hidden or number
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
    rows = iter(scan)
    first = list(islice(rows, LOOK)) if known is None else _until(rows, known)
    shown = [_first_row(row, cells) for row in first]
    number = find_header(shown, known)
    if number is None:
        return None
    header = next((row for row in shown if row.number == number), FirstRow(number, ()))
    tally = _Tally(header, cells, totals_row)
    if tally.covered == header.width:  # without a gap among the headers a row's end says it all
        scan.skims = tally.take
    for row in chain(first, rows):
        tally.add(row)
    return Overview(
        header.number, header.texts[: tally.width], tally.last_row, tally.width, tally.first, tally.last, tally.filled,
        tally.hidden, tally.first_hidden, tally.stray,
        tuple(item for item in tally.formulas.items() if item[1] <= (tally.last or header.number)),
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
