"""A first look at all rows of a workbook's sheet: where the list is, where it ends, and what stands in it."""

from __future__ import annotations

import re
from itertools import chain, islice
from typing import TYPE_CHECKING

import msgspec

from batch_runner.errors import SheetError
from batch_runner.sheet.header import (
    LOOK,
    AddedUp,
    FirstRow,
    added_up,
    find_header,
    header_doubt,
    is_total_word,
    repeats_header,
)
from batch_runner.sheet.model import column_letter
from batch_runner.sheet.xlsx.metadata import bounds, range_in, table_at
from batch_runner.sheet.xlsx.row_reader import MAX_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from batch_runner.sheet.xlsx.cells import Cells
    from batch_runner.sheet.xlsx.metadata import TablePart
    from batch_runner.sheet.xlsx.row_reader import RowReader
    from batch_runner.sheet.xlsx.values import AlikeRows, RawRow


MAX_COLUMNS = 16_384
"""So many columns has a sheet (Excel's limit)."""


_SHARED = re.compile(rb'<f[^>]* si="([0-9]+)"')
"""A formula that is the same in several cells: the first of them alone has its text."""
_TOTAL = re.compile(rb">\s*(?:ROUND\()?(?:SUM|SUBTOTAL|(?:_xlfn\.)?AGGREGATE)\(")
_OURS = ("run_id", "status", "result", "error")


class ListEnd(msgspec.Struct, frozen=True):
    """The last row of a list and what says so.

    A row right below an own table or filter may be one that it has outgrown: before `stop`, where another begins.
    """

    what: str
    last: int
    can_grow: bool = False
    stop: int = 0


def _outside(tables: Sequence[TablePart], header: FirstRow) -> list[int]:
    """The places of headers that stand in none of the tables with headers in this row."""
    here = [bounds(table.ref) for table in tables if table.header_rows and table.first_row == header.number]
    return [at for at in header.filled if not any(left <= at + 1 <= right for left, _top, right, _bottom in here)]


def own_table(tables: Sequence[TablePart], header: FirstRow) -> TablePart | None:
    """The table that a header row belongs to; none where a wider list has its headers beside it."""
    table = table_at(tables, header.number)
    if table is None:
        return None
    left, _top, right, _bottom = bounds(table.ref)
    return table if len({*_outside(tables, header)} - _ours(header)) <= right - left + 1 else None


def list_end(
    tables: Sequence[TablePart], header: FirstRow, autofilter: tuple[int, int, int, int] | None
) -> tuple[ListEnd | None, frozenset[int]]:
    """Where the list under a header row ends, and the places of the columns that aren't the list's.

    Those are the columns of other tables; and, where a table or autofilter says what the list is, all beside that but
    those of an earlier output. An autofilter over the header row alone says nothing.
    """
    bare = (table for table in tables if not table.header_rows and table.first_row == header.number + 1)
    own = own_table(tables, header) or next(bare, None)
    columns = set(_outside(tables, header))
    is_filtered = own is None and autofilter is not None and autofilter[1] == header.number < autofilter[3]
    said = bounds(own.ref) if own is not None else autofilter if is_filtered else None
    if said is not None:
        columns = set(range(said[0] - 1, said[2])) | _ours(header)
    ends: list[ListEnd] = []
    foreign = set(range(MAX_COLUMNS)) - columns if said is not None else set[int]()
    for table in tables:
        left, top, right, bottom = bounds(table.ref)
        places = range(left - 1, right)
        if table is own or bottom < header.number:
            continue
        if columns.isdisjoint(places):
            foreign.update(places)
        elif top > header.number + 1:
            ends.append(ListEnd(f"the table {table.name} ({table.ref}) begins below", top - 1))
    stop = min((end.last + 1 for end in ends), default=0)
    if own is not None and not own.totals_rows:
        ends.append(ListEnd(f"the table {own.name} ends there ({own.ref})", bounds(own.ref)[3], True, stop))
    elif is_filtered and autofilter is not None:
        ends.append(ListEnd("its autofilter ends there", autofilter[3], True, stop))
    return min(ends, key=lambda end: end.last, default=None), frozenset(foreign)


def _ours(header: FirstRow) -> set[int]:
    """The places of the columns that an output of ours has where its table or filter couldn't take them in."""
    names = {at: header.text(at).lower().removeprefix("batch_") for at in header.filled}
    if "run_id" not in names.values():
        return set()
    return {at for at, name in names.items() if name in _OURS or name.startswith("result.")}


def refuse_wider_list(scan: RowReader, cells: Cells, tables: Sequence[TablePart], table: TablePart, name: str) -> None:
    """Raises `SheetError` where a wider list stands above, beside or below the table that would be read.

    A list is two rows, one below the other, that fill more cells outside all tables than the table has columns. Beside
    a table only the first rows are looked at: a list that wide begins there, or above or below.
    """
    ranges = [bounds(one.ref) for one in tables]
    left, top, right, bottom = bounds(table.ref)
    other = max(tables, key=lambda one: bounds(one.ref)[2] - bounds(one.ref)[0])
    found = (bounds(other.ref)[1], f"the wider table {other.name} ({other.ref})")
    if bounds(other.ref)[2] - bounds(other.ref)[0] <= right - left:
        places = _wider_rows(scan, cells, ranges, (left, top, right, bottom))
        if places is None:
            return
        row, first, last = places
        found = (row, f"the wider list that begins in {column_letter(first)}{row}:{column_letter(last)}{row}")
    which = f"--header-row {top} or --header-row {found[0]}" if found[0] != top else f"--header-row {top} for that list"
    raise SheetError(
        f"{name}: the table {table.name} ({table.ref}) and {found[1]} could each be meant; say which: {which}"
    )


def _wider_rows(
    scan: RowReader, cells: Cells, ranges: list[tuple[int, int, int, int]], own: tuple[int, int, int, int]
) -> tuple[int, int, int] | None:
    """The first of two rows that fill more cells outside all tables than a table has columns: (row, first, last)."""
    left, top, right, bottom = own
    seen = 0
    ours = set[int]()
    before: tuple[int, int, int] | None = None

    def are_inside(rows: AlikeRows) -> bool:
        return seen > LOOK and top <= rows.numbers[0] and rows.numbers[-1] <= bottom and cells.place(rows, -1) < right

    scan.takes = are_inside
    try:
        for row in scan:
            seen += 1
            if row.number == top:
                ours = _ours(_first_row(row, cells))
            taken = [one for one in ranges if one[1] <= row.number <= one[3]]
            filled = (at for at in cells.filled(row) if at not in ours)
            free = [at for at in filled if not any(one[0] <= at + 1 <= one[2] for one in taken)]
            if len(free) <= right - left + 1:
                before = None
                continue
            if before is not None and before[0] == row.number - 1:
                return before
            before = (row.number, free[0], free[-1])
    finally:
        scan.takes = None
    return None


class WorkbookSurvey(msgspec.Struct, frozen=True):
    """What stands in a sheet.

    Row numbers are what Excel shows, 0 where there is none; places of columns count from 0. `filled_rows` are rows
    below the header that have text and are no totals, hidden ones included. `strays` are the places with text under an
    empty header, each with its first row. `formulas` has the last cell with a formula of each row from the header row
    to the last data row, whatever it shows, as (place of its column, number of the first such row).
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
    strays: dict[int, int]
    formulas: tuple[tuple[int, int], ...] = ()
    repeated: tuple[int, ...] = ()
    """The rows that are the header row once more."""
    totals: tuple[int, ...] = ()
    """The rows whose amounts are formulas over the column above, or below."""
    sums: dict[int, frozenset[int]] = {}
    """The places of the cells that are sums of their column, by the numbers of their rows."""
    end: ListEnd | None = None
    """Where the list ends, if anything says so."""
    outside: tuple[int, ...] = ()
    """The rows with text below that end which take no part."""
    grown: tuple[int, ...] = ()
    """The rows right below that end which look like data."""
    foreign: frozenset[int] = frozenset()
    """The places of columns with text that aren't the list's: another table's, or beside its own table or filter."""
    table: TablePart | None = None
    """The list's table."""
    doubt: str | None = None
    """Why it isn't certain which row holds the headers."""


class _Tally:
    """Counts the rows below the header, one after the other."""

    def __init__(
        self,
        header: FirstRow,
        cells: Cells,
        totals_row: int | None,
        end: ListEnd | None = None,
        foreign: frozenset[int] = frozenset(),
    ) -> None:
        self.header = header
        self.cells = cells
        self.totals_row = totals_row
        self.end = end
        self.foreign = foreign
        self.covered = next((place for place, text in enumerate(header.texts) if not text), len(header.texts))
        """Up to this place no header is empty."""
        if not header.number:
            self.covered = MAX_COLUMNS
        self.repeated: list[int] = []
        self.totals: list[int] = []
        self.sums: dict[int, frozenset[int]] = {}
        self.outside: list[int] = []
        self.grown: list[int] = []
        self.last_row = header.number
        self.width = header.width
        self.first = self.last = self.filled = self.hidden = self.first_hidden = 0
        self.strays: dict[int, int] = {}
        self.aside = set(header.filled) & foreign
        """The places of columns that have text and aren't the list's."""
        self.formulas: dict[int, int] = {}

    def take(self, rows: AlikeRows) -> bool:
        """Count rows that are alike, if their last cells and last formulas say it all."""
        first, last = rows.numbers[0], rows.numbers[-1]
        if first <= self.header.number or last >= (self.totals_row or MAX_ROWS + 1):
            return False
        order = self.cells.last_full(rows)
        end = self.cells.place(rows, order) + 1 if order is not None else 0
        if order is None or end > self.covered or end - 1 in self.foreign or (self.end and last > self.end.last):
            return False
        header = self.header.text(end - 1)
        if header and any(self.cells.says(row, 0, header) for row in rows.distinct(order)):
            return False
        formulas = [column for column in rows.formulas if column is not None]
        if any(None in column or _TOTAL.search(b"".join(filter(None, column))) for column in formulas):
            return False
        if formulas:
            self.formulas.setdefault(self.cells.last_formula(next(rows.rows())), first)
        self.last_row = self.last = last
        self.first = self.first or first
        self.width = max(self.width, end)
        self.filled += len(rows.numbers)
        return True

    def add(self, row: RawRow) -> None:
        """Count a row."""
        end = self.cells.last_filled(row) + 1
        if 0 < self.header.number < row.number and end and self._repeats(row, end):
            self.repeated.append(row.number)
        elif row.number != self.header.number and end and any(row.formulas):
            self._note_total(row)
        self._count(row, end)

    def _note_total(self, row: RawRow) -> None:
        """Note a row with formulas over the column above or below it, and which of its cells are sums of that.

        What adds up another list's rows, or a table that isn't named here, is no total of this list.
        """
        last = self.end.last if self.end is not None else MAX_ROWS
        found: dict[int, AddedUp] = {}
        shared: dict[bytes, AddedUp] = {}
        for order, formula in enumerate(row.formulas):
            place, mark = self.cells.place(row, order), _SHARED.match(formula or b"")
            one = added_up(formula, column_letter(place).encode(), row.number) if formula else None
            if one is None and mark is not None:
                one = shared.get(mark[1])
            if one is None or (one.first and (one.first > last or one.last <= self.header.number)):
                continue
            if not one.first and not self._is_below_table(row.number):
                continue
            found[place] = one
            if mark is not None:
                shared[mark[1]] = one
        if found and row.number > self.header.number:
            self.totals.append(row.number)
        if found:
            self.sums[row.number] = frozenset(place for place, one in found.items() if one.is_sum)

    def _is_below_table(self, number: int) -> bool:
        """Whether a row stands in or below the totals row of the list's table, or below the table."""
        is_totals = self.totals_row is not None and number >= self.totals_row
        return is_totals or (self.end is not None and number > self.end.last)

    def _ends_as_header(self, row: RawRow, order: int) -> bool:
        """Whether a cell of a row, by its order, says the same as the header above it."""
        header = self.header.text(self.cells.place(row, order))
        return bool(header) and self.cells.says(row, order, header)

    def _repeats(self, row: RawRow, end: int) -> bool:
        """Whether a row is the header row once more."""
        order = next(order for order in range(len(row.values) - 1, -1, -1) if self.cells.is_filled(row, order))
        if not self._ends_as_header(row, order):
            return False
        return repeats_header(self.header.texts, self.cells.texts(row, end)[0])

    def _count(self, row: RawRow, end: int) -> None:
        """Count a row whose last cell with text stands left of the place `end`; 0 for a row without text."""
        number = row.number
        if end:
            self.last_row = number
        if number < self.header.number or (self.totals_row is not None and number >= self.totals_row):
            return
        if self.end is not None and number > self.end.last and not self._outgrows(row):
            self.outside += [number] * bool(end and not self._is_total(number))
            return
        formula = self.cells.last_formula(row)
        if formula >= 0:
            self.formulas.setdefault(formula, number)
        if not end or number == self.header.number:
            return
        self.width = max(self.width, end)
        if end > self.covered:
            self._note_strays(row)
        if self._is_total(number) or (end - 1 in self.foreign and self.foreign.issuperset(self.cells.filled(row))):
            return
        self.first = self.first or number
        self.last = number
        if self.repeated and self.repeated[-1] == number:
            return
        self.filled += 1
        if row.hidden:
            self.hidden += 1
            self.first_hidden = self.first_hidden or number

    def _is_total(self, number: int) -> bool:
        return bool(self.totals) and self.totals[-1] == number

    def _outgrows(self, row: RawRow) -> bool:
        """Whether a row follows the list's last one, and looks like one of it."""
        assert self.end is not None
        number = row.number
        follows = number == self.end.last + 1 + len(self.grown) and (number < self.end.stop or not self.end.stop)
        if not self.end.can_grow or not follows:
            return False
        headers = set(self.header.filled) - self.foreign
        filled = headers.intersection(self.cells.filled(row))
        texts = self.cells.texts(row, max(filled, default=-1) + 1)[0]
        if 2 * len(filled) < len(headers) or not filled or any(map(is_total_word, texts)):
            return False
        if self._is_total(number):
            return False
        self.grown.append(number)
        return True

    def _note_strays(self, row: RawRow) -> None:
        texts = self.header.texts
        for place in self.cells.filled(row):
            if place in self.foreign:
                self.aside.add(place)
            elif (place >= len(texts) or not texts[place]) and not self._is_total(row.number):
                self.strays.setdefault(place, row.number)


def survey_sheet(
    scan: RowReader, cells: Cells, asked: int | None, tables: Sequence[TablePart], name: str
) -> WorkbookSurvey | None:
    """Look at all rows of a sheet; None for a sheet without text. Raises `SheetError` where two lists could be meant.

    `asked` is the header row that a person named (0: there is none); otherwise the sheet's first table is read. Without
    either, the autofilter counts, which is known only at the sheet's end: where its first row isn't the one that was
    found, or cells stand below or beside it, the sheet is looked at again.
    """
    first = next((table for table in tables if table.header_rows), None)
    table = table_at(tables, first.first_row) if first else None
    if asked is None and table is not None:
        refuse_wider_list(scan, cells, tables, table, name)
    known = asked if asked is not None else table.first_row if table else None
    seen = _look(scan, cells, known, tables)
    if seen is None or not scan.beside.autofilter:
        return seen
    autofilter = range_in(scan.package, scan.part, scan.beside.autofilter)
    if known is None and autofilter[1] != seen.header_row:
        again = _look(scan, cells, autofilter[1], tables)
        seen = again if again and any(again.headers) else seen
    if autofilter[1] != seen.header_row:
        return seen
    is_beyond = autofilter[3] < seen.last_row or autofilter[2] < seen.width or any(seen.headers[: autofilter[0] - 1])
    if seen.table is None and autofilter[1] < autofilter[3] and is_beyond:
        seen = _look(scan, cells, autofilter[1], tables, autofilter)
    return msgspec.structs.replace(seen, doubt=None) if seen else None


def _look(
    scan: RowReader,
    cells: Cells,
    known: int | None,
    tables: Sequence[TablePart],
    autofilter: tuple[int, int, int, int] | None = None,
) -> WorkbookSurvey | None:
    scan.takes = None
    rows = iter(scan)
    first = list(islice(rows, LOOK)) if known is None else _until(rows, known)
    shown = [_first_row(row, cells) for row in first]
    number = find_header(shown, known)
    if number is None:
        return None
    header = next((row for row in shown if row.number == number), FirstRow(number, ()))
    table = own_table(tables, header)
    end, foreign = list_end(tables, header, autofilter) if number else (None, frozenset[int]())
    tally = _Tally(header, cells, table.totals_row if table else None, end, foreign)
    if tally.covered >= header.width and not tally.aside:  # without a gap among the headers a row's end says it all
        scan.takes = tally.take
    for row in chain(first, rows):
        tally.add(row)
    if not number and not tally.width:
        return None
    headers = header.texts[: tally.width] if number else tuple(map(column_letter, range(tally.width)))
    return WorkbookSurvey(
        header.number, headers, tally.last_row, tally.width, tally.first, tally.last, tally.filled,
        tally.hidden, tally.first_hidden, tally.strays,
        tuple(item for item in tally.formulas.items() if item[1] <= (tally.last or header.number)),
        tuple(tally.repeated), tuple(tally.totals), tally.sums, end, tuple(tally.outside), tuple(tally.grown),
        frozenset(tally.aside), table,
        header_doubt(shown, number) if known is None else None,
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
