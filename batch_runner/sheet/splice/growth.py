"""What grows with a sheet so that sorting and filtering keep results with their rows: its table, its autofilter."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_runner.sheet.sheet import column_letter
from batch_runner.sheet.splice.ranges import Range, parse_range

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_runner.sheet.splice.place import Place
    from batch_runner.sheet.splice.tablepart import Table


def table_of(tables: Iterable[Table], place: Place) -> Table | None:
    """The table that the new columns stand beside: the last one from the left that has the sheet's rows."""
    rows = Range(place.header_row, 0, place.last_row, place.cleared - 1)
    ours = [
        table
        for table in tables
        if table.cells.right < place.cleared
        and (table.cells.top == place.header_row if table.has_header else table.cells.meets(rows))
    ]
    return max(ours, key=lambda table: table.cells.right, default=None)


def table_note(table: Table, place: Place) -> str | None:
    """Why the table can't take in the new columns, as a sentence for a person; None if it can."""
    why = table.obstacle(place)
    if why is None:
        return None
    return (
        f"the table {table.name} {why}, so the new columns stand beside it: sort them together with it, "
        "or results part from their rows"
    )


def grown_filter(autofilter: str | None, place: Place) -> tuple[Range, Range] | None:
    """The autofilter's range, and the one with the new columns in it; None where it stays. It never gets narrower."""
    old = parse_range(autofilter or "")
    if old is None or old.top != place.header_row or not place.adjacent <= old.right + 1 < place.end:
        return None
    return old, old.with_right(place.end - 1)


def filter_note(autofilter: str | None, place: Place) -> str | None:
    """A sentence for a person where the autofilter ends among the sheet's columns, so that it can't grow."""
    old = parse_range(autofilter or "")
    if old is None or old.top != place.header_row or old.right + 1 >= place.adjacent:
        return None
    return (
        f"the autofilter ends at column {column_letter(old.right)}, left of other columns, so it doesn't take in "
        "the new ones: sorting by it parts results from their rows"
    )
