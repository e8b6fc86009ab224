"""What every sheet can do, whatever its format."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Self

from batch_runner.sheet.errors import SheetError, Unlike
from batch_runner.sheet.row import TypedRow

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import BinaryIO

    from batch_runner.sheet.row import Column, NewColumns, Reading, Row


class Sheet(ABC):
    """A sheet as it was when it was opened: later edits of the file change nothing.

    Opening has looked at the whole sheet once: what refuses it as a whole (two equal headers, hidden rows that nobody
    spoke about, a damaged file) has been raised as `SheetError` before the first row is read.
    """

    path: Path
    name: str | None
    """The sheet's name in its workbook; None for a text file."""
    header_row: int
    columns: tuple[Column, ...]
    """The columns that have a header, from left to right."""
    width: int
    """How many texts each `Row` has: up to the last cell of any header or data row that isn't empty."""
    row_count: int
    """How many rows are of kind DATA."""
    notes: tuple[str, ...]
    """What a person should hear about how the sheet was read: a sentence each."""
    fingerprint: str
    """SHA-256 of the file's bytes, in hex."""
    scratch: Path
    """The folder for private copies."""

    @abstractmethod
    def rows(self) -> Iterator[Row]:
        """Stream every row from 1 to the last one that isn't empty, of whatever kind, in order. May be called again."""

    def typed_rows(self, places: Collection[int]) -> Iterator[TypedRow]:  # noqa: ARG002  a text file has only texts
        """The same rows, with their cells at these places that are no texts."""
        return (TypedRow(row.number, row.kind, row.texts, row.problems) for row in self.rows())

    def taken(self) -> tuple[str, ...]:
        """What the number formats of the rows read so far were taken for, where a person may think otherwise.

        A sentence for each column and format: which of its literals are units, which are part of an identifier.
        """
        return ()

    @abstractmethod
    def append(
        self, target: BinaryIO, new: NewColumns, cells: Iterable[tuple[int, tuple[str, ...]]]
    ) -> tuple[str, ...]:
        """Write the same file with new columns to `target`, which is seekable.

        `cells` are (row number, one text for each new header), in ascending order; rows that aren't named get
        empty cells. Returns notes for a person: a sentence each. All that isn't new stays byte for byte.
        """

    def make_room(self, new: NewColumns) -> None:  # noqa: B027  a text file has room for any columns
        """Find where `append` would put new columns, before any run is started.

        Raises `SheetError` where there is no room for them, naming what is in the way.
        """

    @abstractmethod
    def reading_again(self) -> Reading:
        """How to read what `append` wrote, so that it says the same: what was found is named, hidden rows included."""

    def appended(self, path: Path, new: NewColumns) -> Iterator[tuple[int, str]]:  # noqa: ARG002  for those who can
        """Each row's number and its text in the first new column, in what `append` wrote to `path`.

        Every row's own bytes have been compared with this sheet's by then. Raises `Unlike` where that can't be done,
        also in mid-iteration: read it by `open_written` then.
        """
        raise Unlike

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""

    def is_outdated(self) -> bool:
        """Whether the file is another one by now: edited, replaced or gone."""
        try:
            with self.path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() != self.fingerprint
        except OSError:
            return True

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


def refuse_ambiguity(sheet: Sheet, stray: tuple[int, int] | None) -> None:
    """Raises `SheetError` naming both cells where a row's texts couldn't be told apart by header.

    `stray` is the first cell with text under no header, as (row number, index).
    """
    first: dict[str, Column] = {}
    for column in sheet.columns:
        other = first.setdefault(column.name, column)
        if other is not column:
            cells = f"{sheet.address(sheet.header_row, other.index)} and {column.letter}{sheet.header_row}"
            raise SheetError(f"{cells}: two headers are {column.name!r}; give one of them another name")
    if stray is not None:
        row, index = stray
        cells = f"{sheet.address(sheet.header_row, index)} and {column_letter(index)}{row}"
        raise SheetError(
            f"{cells}: there is text under an empty header; give the column a header, clear the cell, "
            "or name another row with --header-row"
        )
