"""Where the new columns stand in a sheet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from batch_runner.sheet.errors import SheetError
from batch_runner.sheet.sheet import column_letter
from batch_runner.sheet.splice.ranges import MAX_COLUMNS, Range

if TYPE_CHECKING:
    from collections.abc import Iterable


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
        return Range(self.header_row, self.start, self.last_row, self.end - 1)


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
                f"{name}: {met.text} is merged, or a pivot table, where {place.headers[0]} and the columns after it "
                "belong; split or move it, then try again"
            )
        place = msgspec.structs.replace(place, start=met.right + 1)
    if place.end > MAX_COLUMNS:
        raise SheetError(
            f"{name}: no room for {len(place.headers)} columns right of {column_letter(wanted.start - 1)}: a sheet "
            "ends at XFD, and merged cells can't hold results; delete what stands there, then try again"
        )
    return place
