"""A sheet and its new columns as one grid of texts, whatever it is to be written as."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_runner.sheet.newcells import NewCells
from batch_runner.sheet.row import RowKind
from batch_runner.sheet.text.quoting import storable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from batch_runner.sheet.row import NewColumns, Row
    from batch_runner.sheet.sheet import Sheet


class Grid:
    """The rows of a sheet as they are to be written. May be gone through once."""

    def __init__(self, sheet: Sheet, new: NewColumns, cells: Iterable[tuple[int, tuple[str, ...]]]) -> None:
        self.sheet = sheet
        self.start = sheet.columns[-new.replaced].index if new.replaced else sheet.width
        """Where the new columns begin."""
        kept = sheet.columns[: len(sheet.columns) - new.replaced]
        self.headers = (*(column.name for column in kept), *new.headers)
        self.places = (*(column.index for column in kept), *range(self.start, self.start + len(new.headers)))
        """Where each of `headers` stands in the row, from 0."""
        self._new = new
        self._cells = cells

    def rows(self) -> Iterator[tuple[Row, tuple[str, ...], tuple[str, ...]]]:
        """(row, its own texts, its new ones) for every row of the sheet, in order."""
        new = NewCells(self._cells)
        nothing = ("",) * len(self._new.headers)
        for row in self.sheet.rows():
            texts = self._new.headers if row.kind is RowKind.HEADER else new.of(row.number) or nothing
            yield row, row.texts[: self.start], texts
        new.finish()

    def data(self) -> Iterator[tuple[str, ...]]:
        """One text for each of `headers`, for every row of data."""
        own_places = [place for place in self.places if place < self.start]
        for row, own, texts in self.rows():
            if row.kind in {RowKind.DATA, RowKind.HIDDEN}:
                yield (*[own[place] for place in own_places], *map(storable, texts))
