"""Ranges of cells, and where the new columns stand."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from batch_runner.errors import SheetError
from batch_runner.sheet.model import column_letter

if TYPE_CHECKING:
    from collections.abc import Iterable


MAX_COLUMNS = 16_384
"""Excel specifications and limits."""
_RANGE = re.compile(r"\$?([A-Za-z]{1,3})\$?([0-9]+)(?::\$?([A-Za-z]{1,3})\$?([0-9]+))?")


class Range(msgspec.Struct, frozen=True):
    """A rectangle of cells. Rows count from 1, columns from 0; both ends are part of it."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def text(self) -> str:
        """Such as `A1:L100`, or `A1` for one cell."""
        first = f"{column_letter(self.left)}{self.top}"
        last = f"{column_letter(self.right)}{self.bottom}"
        return first if first == last else f"{first}:{last}"

    @property
    def absolute(self) -> str:
        """Such as `$A$1:$L$100`, as a defined name has it."""
        return f"${column_letter(self.left)}${self.top}:${column_letter(self.right)}${self.bottom}"

    def meets(self, other: Range) -> bool:
        """Whether they share a cell."""
        return (
            self.top <= other.bottom
            and other.top <= self.bottom
            and self.left <= other.right
            and other.left <= self.right
        )

    def with_right(self, right: int) -> Range:
        """The same rows, up to another last column."""
        return msgspec.structs.replace(self, right=right)

    def around(self, other: Range) -> Range:
        """The smallest range that holds both."""
        return Range(
            min(self.top, other.top),
            min(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )


def parse_range(text: str) -> Range | None:
    """`A1:L100`, `$A$1` and the like; None for anything else (a whole column, several ranges)."""
    found = _RANGE.fullmatch(text)
    if found is None:
        return None
    left, top, right, bottom = found.groups()
    return Range(int(top), column_place(left), int(bottom or top), column_place(right or left))


def column_place(letters: str) -> int:
    """The place of a column, from 0: `A` → 0, `XFD` → 16,383."""
    number = 0
    for letter in letters:
        number = number * 26 + (ord(letter) & 31)
    return number - 1


class Place(msgspec.Struct, frozen=True):
    """The new columns and the rows in which they have cells.

    `start` is the place of the first, from 0. The first `replaced` places from there on hold an earlier output's
    columns. `header_row` and `last_row` are the first and the last row that belong to the table; a row below (a totals
    row) isn't touched. `adjacent` is where the table's own columns end: less than `start` where something was in the
    way.
    """

    start: int
    headers: tuple[str, ...]
    replaced: int
    header_row: int
    last_row: int
    adjacent: int

    @property
    def end(self) -> int:
        """The place right of the last new column."""
        return self.start + len(self.headers)

    @property
    def cleared(self) -> int:
        """The place right of the last column whose cells go: an earlier output's may reach further than ours."""
        return max(self.end, self.start + self.replaced)

    @property
    def cells(self) -> Range:
        """All new cells."""
        return Range(max(self.header_row, 1), self.start, self.last_row, self.end - 1)


def find_place(name: str, wanted: Place, taken: Iterable[Range]) -> Place:
    """The place from `wanted.start` on where no new cell falls into a range that is taken: merged cells, a pivot table.

    `name` is what messages call the sheet. An earlier output's columns can't move. Raises `SheetError` where there is
    no room.
    """
    place = wanted
    in_the_way = [one for one in taken if one.right >= wanted.start]
    while (met := next((one for one in in_the_way if one.meets(place.cells)), None)) is not None:
        if place.replaced:
            raise SheetError(
                f"{name}: {met.text} is merged, or a pivot table, where "
                f"{place.headers[0]} and the columns after it belong "
                "(or a formula fills it); split or move it, then try again"
            )
        place = msgspec.structs.replace(place, start=met.right + 1)
    if place.end > MAX_COLUMNS:
        why = "a sheet ends at XFD, and merged cells can't hold results"
        raise no_room(name, len(place.headers), wanted.start, why)
    return place


def no_room(name: str, count: int, start: int, why: str) -> SheetError:
    """The error for so many new columns from a place on; `name` is what messages call the sheet."""
    where = f"{name}: no room for {count} columns right of {column_letter(start - 1)}"
    return SheetError(f"{where}: {why}; delete what stands there, then try again")
