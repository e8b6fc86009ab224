"""What a sheet is: columns, rows, cells, what is wrong with a cell, and the new columns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum
from itertools import count, islice
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

import msgspec

from batch_runner.errors import SheetError
from batch_runner.sheet.header import ListShape, Suspicion

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType


class RowKind(Enum):
    """What a row is to the table that it stands in."""

    ABOVE = "above"
    """Stands above the header row: a title, an address block."""
    HEADER = "header"
    DATA = "data"
    EMPTY = "empty"
    """No cell of it has text."""
    HIDDEN = "hidden"
    """Data, but hidden or filtered out, and the person said to skip such rows."""
    REPEATED = "repeated"
    """The header row once more, as printed lists have it on each page."""
    TOTALS = "totals"
    """The totals row of the sheet's table, or a row whose amounts are formulas over the column above or below."""
    OUTSIDE = "outside"
    """Stands below the end of the list: that of its table or autofilter, or where another table begins."""
    SUSPECT = "suspect"
    """Looks like a total, a heading or a note, and the person said to skip such rows."""


TEXT_ENDINGS = (".csv", ".tsv")
WORKBOOK_ENDINGS = (".xlsx", ".xlsm")
"""The files that can be read, by how their names end."""
LIST_ROWS = (RowKind.DATA, RowKind.HIDDEN, RowKind.SUSPECT)
"""The rows of a list, whether they take part or a person said to skip them."""


class CellProblem(msgspec.Struct, frozen=True):
    """What is wrong with one cell.

    `index` is the cell's place in `Row.texts`, `address` its name in the sheet (`C17`), `what` a short
    phrase that completes "`Sheet1!C17: …`". A cell that `refuses` has no text that could be sent in good faith
    (an error value, a formula without a value); otherwise it is a warning.
    """

    index: int
    address: str
    what: str
    refuses: bool


class NumberForms(msgspec.Struct, frozen=True):
    """What a cell that holds a number is beside the text that is sent for it.

    `value` says all of its number, however many digits the sheet shows: a number without trailing zeros, a date with
    its time; masks and identifiers as shown. `raw` is the number alone, whatever its format: a date's day count.
    `former` is the text that an earlier release sent for it.
    """

    value: str
    raw: str
    former: str


class Row(msgspec.Struct, frozen=True):
    """One row of the sheet, of whatever kind.

    `number` is what Excel shows (from 1; in a CSV file the place of the record). `texts` are the cells from
    column A on, exactly `Sheet.width` of them, "" for an empty one.
    """

    number: int
    kind: RowKind
    texts: tuple[str, ...]
    problems: tuple[CellProblem, ...] = ()
    former: dict[int, str] | None = None
    """The cells, by their places in `texts`, of a text file that an earlier release read otherwise, as it did."""
    numbers: dict[int, NumberForms] | None = None
    """Those that hold numbers which have other forms than their texts."""
    refusal: str | None = None
    """Why the row as a whole can't be sent in good faith, as a sentence that names it."""
    suspicion: Suspicion | None = None
    """Why it looks like no row of a plain list, where it does."""

    @property
    def is_suspect(self) -> bool:
        """Whether it is a row only if a person says so."""
        return self.kind is RowKind.SUSPECT or (self.kind is RowKind.DATA and self.suspicion is not None)


class TypedCell(msgspec.Struct, frozen=True):
    """A cell that is no text: what the file holds (`1234.5`), and what an English Excel shows (`1,234.50 €`)."""

    stored: str
    shown: str


class TypedRow(Row, frozen=True):
    """A row with its numbers, dates, booleans and errors, by their places in `texts`, where these were asked for."""

    typed: dict[int, TypedCell] = {}


class Column(msgspec.Struct, frozen=True):
    """A column of the table: its header to the letter, its place in `Row.texts`, its letter in the sheet."""

    name: str
    index: int
    letter: str


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """How a person wants the sheet read; every default means "find out"."""

    sheet: str | None = None
    header_row: int | None = None
    no_header: bool = False
    """There is no header row: all rows are data, and the columns are called by their letters."""
    encoding: str | None = None
    delimiter: str | None = None
    hidden: str | None = None
    """`include`, `skip`, or None: refuse a sheet that has hidden rows among its data."""
    merged: str | None = None
    """`fill`: a cell merged down over rows counts in each of them; `first`: in the first; None: refuse the others."""
    suspect_rows: str | None = None
    """`run`, `skip`, or None: refuse a row that looks like a total, a heading or a note."""
    as_shown: bool = False
    trust_formulas: bool = False
    """Take the values of formulas although the file says that they are out of date."""


class NewColumns(msgspec.Struct, frozen=True):
    """Columns to write right of the table.

    `headers` are the new header cells. The last `replaced` columns of the table (an earlier output's) are
    dropped first, and the new ones begin where they began. Of these places those in `kept` stay as they are: a person
    has put columns of her own there.
    """

    headers: tuple[str, ...]
    replaced: int = 0
    kept: frozenset[int] = frozenset()

    def places_from(self, start: int) -> tuple[int, ...]:
        """Where the new columns stand, the first of them at `start` or right of it."""
        if not self.kept:
            return tuple(range(start, start + len(self.headers)))
        return tuple(islice((place for place in count(start) if place not in self.kept), len(self.headers)))


class Sheet(ABC):
    """A sheet as it was when it was opened: later edits of the file change nothing.

    Opening has looked at the whole sheet once: what refuses it as a whole (hidden rows that nobody spoke about, a
    damaged file) has been raised as `SheetError` before the first row is read. Two equal headers, or text under an
    empty one, refuse it only where they are wanted: see `refuse_ambiguity`.
    """

    path: Path
    name: str | None
    """The sheet's name in its workbook; None for a text file."""
    header_row: int
    """0 where there is none."""
    columns: tuple[Column, ...]
    """The columns that have a header, from left to right."""
    aside: tuple[Column, ...] = ()
    """Those beside the list: another table's, or outside its own table or autofilter. One without a header has its
    letter as name."""
    sums: Mapping[int, frozenset[int]] = {}
    """The places of the cells that are sums of their column for certain, by the numbers of their rows."""
    strays: Mapping[int, int]
    """The places of columns without a header that have text, each with the first row that has it."""
    width: int
    """How many texts each `Row` has: up to the last cell of any header or data row that isn't empty."""
    row_count: int
    """How many rows are of kind DATA."""
    notes: tuple[str, ...]
    """What a person should hear about how the sheet was read: a sentence each."""
    cautions: tuple[str, ...] = ()
    """Those of the notes that a person should hear once, however quiet the program is to be."""
    torn: tuple[str, ...] = ()
    """Those that they should hear on each night that brought new rows: one of these may be half a row."""
    is_table: bool = False
    """Whether Excel knows the list as a table: then every row of it is one, whatever it looks like."""
    hidden_columns: frozenset[int] = frozenset()
    """The places of columns that nobody sees."""
    shape: ListShape | None = None
    """Once it is set, rows that look like none of the list are refused, or skipped with `skips_suspects`."""
    skips_suspects: bool = False
    former_headers: Mapping[int, str] = MappingProxyType({})
    """The headers, by the places of their columns, that an earlier release read otherwise, as it did."""
    fingerprint: str
    """SHA-256 of the file's bytes, in hex."""
    scratch: Path
    """The folder for private copies."""

    @abstractmethod
    def rows(self) -> Iterator[Row]:
        """Stream every row from 1 to the last one that isn't empty, of whatever kind, in order. May be called again."""

    def typed_rows(self, places: Collection[int]) -> Iterator[TypedRow]:  # noqa: ARG002  a text file has only texts
        """The same rows, with their cells at these places that are no texts."""
        return (TypedRow(*msgspec.structs.astuple(row)) for row in self.rows())

    def volatile_columns(self) -> dict[int, str]:
        """The places of columns whose formulas give another value at each save, each with the function that does so."""
        return {}

    def describe_formats(self) -> tuple[str, ...]:
        """What the number formats of the rows read so far were taken for, where a person may think otherwise.

        A sentence for each column and format: which of its literals are units, which are part of an identifier.
        """
        return ()

    def is_total(self, row: Row) -> bool:
        """Whether a row is, or looks like, a total of the list."""
        is_said = row.kind is RowKind.TOTALS or row.number in self.sums
        return is_said or (row.suspicion is not None and row.suspicion.is_total)

    @abstractmethod
    def reading_again(self) -> Reading:
        """How to read what was written so that it says the same: what was found is named, hidden rows included."""

    def has_room(self, first: int, last: int) -> bool:  # noqa: ARG002  a workbook may have gaps
        """Whether nothing stands in these columns."""
        return first >= self.width

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""

    def address(self, row: int, column: int) -> str:
        """How a person finds a cell: `invoices.xlsx, Sheet1!C17` (`column` counts from 0)."""
        where = f"{self.name}!" if self.name else ""
        return f"{self.path.name}, {where}{column_letter(column)}{row}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def column_letter(index: int) -> str:
    """The letters of a column that counts from 0: 0 → A, 25 → Z, 26 → AA (ECMA-376 part 1, 18.18.7 ST_CellRef)."""
    letters = ""
    number = index + 1
    while number:
        number, rest = divmod(number - 1, 26)
        letters = chr(65 + rest) + letters
    return letters


def row_list(numbers: Sequence[int], most: int = 10) -> str:
    """`row 4`, `rows 4, 9, 14`, `rows 4, 9, …`: the first so many of them."""
    shown = ", ".join(map(str, numbers[:most]))
    return f"row{'s' * (len(numbers) > 1)} {shown}{', …' if len(numbers) > most else ''}"


def refuse_ambiguity(sheet: Sheet, columns: Iterable[Column], strays: Collection[int]) -> None:
    """Raises `SheetError` naming both cells where these columns' texts couldn't be told apart by header.

    `strays` are those of `Sheet.strays` that are wanted as well.
    """
    first: dict[str, Column] = {}
    for column in columns:
        other = first.setdefault(column.name, column)
        if other is not column:
            cells = f"{sheet.address(sheet.header_row, other.index)} and {column.letter}{sheet.header_row}"
            raise SheetError(
                f"{cells}: two headers are {column.name!r}; give one of them another name, or name the columns that "
                f"are wanted by letter: --columns {other.letter},…"
            )
    if strays:
        row, index = min((sheet.strays[place], place) for place in strays)
        cells = f"{sheet.address(sheet.header_row, index)} and {column_letter(index)}{row}"
        raise SheetError(
            f"{cells}: there is text under an empty header; give the column a header, clear the cell, leave the column "
            f"out with --exclude {column_letter(index)}, or name another row with --header-row"
        )


class Judge:
    """Goes along a sheet's rows, in order, and says of each row of data whether it looks like one of the list.

    What stands below the headers of another list, which follow an empty row, is all that other list's.
    """

    def __init__(self, sheet: Sheet) -> None:
        self._sheet = sheet
        self._follows_empty = False
        self._another = 0
        """The row that looks like the headers of another list."""

    def judged(self, row: Row) -> Row:
        """The row as it is, or as a suspect one: of that kind, or with a refusal that says why."""
        shape = self._sheet.shape
        if shape is None:
            return row
        if row.kind is not RowKind.DATA or row.refusal:
            self._another = 0 if row.kind is RowKind.REPEATED else self._another
            self._follows_empty = row.kind is RowKind.EMPTY
            return row
        found = shape.doubt(row.texts)
        if found is not None and found.begins_another and self._follows_empty:
            self._another = row.number
        elif found is None and self._another:
            place = next((place for place in shape.places if row.texts[place].strip()), 0)
            found = Suspicion(
                place, f"it stands below row {self._another}, which looks like the headers of another list"
            )
        self._follows_empty = False
        return row if found is None else self._suspect(row, found)

    def _suspect(self, row: Row, found: Suspicion) -> Row:
        if self._sheet.skips_suspects:
            return msgspec.structs.replace(row, kind=RowKind.SUSPECT, suspicion=found)
        advice = "--suspect-rows skip leaves such rows out, --suspect-rows run sends them like the others"
        refusal = f"{self._sheet.address(row.number, found.place)}: {found.why}; {advice}"
        return msgspec.structs.replace(row, refusal=refusal, suspicion=found)


class NewCells:
    """Goes along a sheet's rows with a stream of (row number, texts) in ascending order of number."""

    def __init__(self, cells: Iterable[tuple[int, tuple[str, ...]]]) -> None:
        self._cells = iter(cells)
        self._next: tuple[int, tuple[str, ...]] | None = None

    def of(self, number: int) -> tuple[str, ...] | None:
        """The new texts of a row, None if it has none; asked for in ascending order.

        Raises `ValueError` where a row was passed over that has some: that would lose a result.
        """
        if self._next is None:  # not sooner: the texts of two rows may be more than memory is to hold
            self._next = next(self._cells, None)
        if self._next is None or self._next[0] > number:
            return None
        if self._next[0] < number:
            raise ValueError(f"new cells for row {self._next[0]} came after row {number - 1} was written")
        texts, self._next = self._next[1], None
        return texts

    def finish(self) -> None:
        """Raises `ValueError` where cells are left for a row that the sheet doesn't have."""
        left = self._next or next(self._cells, None)
        if left is not None:
            raise ValueError(f"new cells for row {left[0]}, which the sheet doesn't have")
