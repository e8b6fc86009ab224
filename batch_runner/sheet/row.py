"""The values that a sheet is read as: columns, rows, and what is wrong with a cell."""

from __future__ import annotations

from enum import Enum

import msgspec


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
    TOTALS = "totals"
    """The totals row of the sheet's table, or a row below it."""


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


class Row(msgspec.Struct, frozen=True):
    """One row of the sheet, of whatever kind.

    `number` is what Excel shows (from 1; in a CSV file the place of the record). `texts` are the cells from
    column A on, exactly `Sheet.width` of them, "" for an empty one.
    """

    number: int
    kind: RowKind
    texts: tuple[str, ...]
    problems: tuple[CellProblem, ...] = ()


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
    encoding: str | None = None
    delimiter: str | None = None
    hidden: str | None = None
    """`include`, `skip`, or None: refuse a sheet that has hidden rows among its data."""
    as_shown: bool = False
    trust_formulas: bool = False
    """Take the values of formulas although the file says that they are out of date."""


class NewColumns(msgspec.Struct, frozen=True):
    """Columns to write right of the table.

    `headers` are the new header cells. The last `replaced` columns of the table (an earlier output's) are
    dropped first, and the new ones begin where they began.
    """

    headers: tuple[str, ...]
    replaced: int = 0
