"""A sheet's table and the part that describes it (ECMA-376 part 1, 18.5.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from batch_runner.sheet.splice.inline import xstring
from batch_runner.sheet.splice.ranges import Range, parse_range
from batch_runner.sheet.splice.tags import Edit, Element, attribute_text, edited, elements, with_attribute

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from batch_runner.sheet.splice.place import Place

LONGEST_NAME = 255
"""A table column's name in UTF-16 units; Excel cuts a longer header."""


class Table(msgspec.Struct, frozen=True):
    """A table: its part, the bytes of that, and what decides whether it can grow."""

    part: str
    data: bytes
    name: str
    cells: Range
    has_header: bool
    is_query: bool

    def obstacle(self, place: Place) -> str | None:
        """Why the new columns can't become columns of the table: what completes "it …"; None if they can."""
        obstacles = (
            (self.is_query, "is filled by a query"),
            (not self.has_header, "has no header row"),
            (self.cells.right + 1 < place.adjacent, "ends left of other columns"),
            (place.start > place.adjacent, "ends left of merged cells or a pivot table"),
            (any(len(_column_name(header)) > LONGEST_NAME for header in place.headers), "can't have headers so long"),
            (_clash(_names(self.data, self.cells.left, place), place.headers), "has a column by one of their names"),
        )
        return next((why for holds, why in obstacles if holds), None)

    def grown(self, place: Place) -> bytes:
        """The table's part with the new columns, an earlier output's renamed or dropped as needed."""
        found = elements(self.data)
        new = self.cells.with_right(place.end - 1)
        edits = [
            *_ranges(self.data, found, new),
            *_filters(found, new.right - new.left + 1),
            *_columns(self.data, found, self.cells.left, place),
        ]
        return edited(self.data, edits)


def read_table(part: str, data: bytes) -> Table | None:
    """A table from its part, in UTF-8; None where it says no range. Raises `expat.ExpatError`."""
    root = elements(data)[0]
    marks = root.attributes
    cells = parse_range(marks.get("ref", ""))
    if cells is None:
        return None
    name = marks.get("displayName") or marks.get("name", "")
    return Table(
        part, data, name, cells, marks.get("headerRowCount", "1") != "0", marks.get("tableType") == "queryTable"
    )


def _names(data: bytes, left: int, place: Place) -> set[str]:
    """The names of the table's columns left of the new ones, as they are compared: without regard to case."""
    columns = [element for element in elements(data) if element.path[-1] == "tableColumn"]
    return {column.attributes.get("name", "").casefold() for column in columns[: place.start - left]}


def _clash(names: set[str], headers: Sequence[str]) -> bool:
    wanted = [_column_name(header).casefold() for header in headers]
    return len(set(wanted)) < len(wanted) or not names.isdisjoint(wanted)


def _column_name(header: str) -> str:
    """A header as a table column's name: Excel writes its line breaks as escapes."""
    return xstring(header).replace("\t", "_x0009_").replace("\n", "_x000a_")


def _ranges(data: bytes, found: Sequence[Element], new: Range) -> Iterator[Edit]:
    """The table's own range, and its autofilter's, which has the same columns."""
    for element in found:
        old = parse_range(element.attributes.get("ref", ""))
        if old and element.path in (("table",), ("table", "autoFilter")):
            tag = with_attribute(data[element.start : element.opened], "ref", old.with_right(new.right).text)
            yield Edit(element.start, element.opened, tag)


def _filters(found: Sequence[Element], width: int) -> Iterator[Edit]:
    """Filters and sort orders over columns that the table no longer has go with them."""
    for element in found:
        if element.path == ("table", "autoFilter", "filterColumn") and int(element.attributes["colId"]) >= width:
            yield Edit(element.start, element.end, b"")


def _columns(data: bytes, found: Sequence[Element], left: int, place: Place) -> Iterator[Edit]:
    (around,) = (element for element in found if element.path == ("table", "tableColumns"))
    columns = [element for element in found if element.path == ("table", "tableColumns", "tableColumn")]
    wanted = [_column_name(header) for header in place.headers]
    kept = columns[: place.start - left]
    for column, name in zip(columns[len(kept) :], wanted, strict=False):
        if column.attributes.get("name") != name:
            yield Edit(column.start, column.opened, with_attribute(data[column.start : column.opened], "name", name))
    for column in columns[len(kept) + len(wanted) :]:
        yield Edit(column.start, column.end, b"")
    tag = with_attribute(data[around.start : around.opened], "count", str(len(kept) + len(wanted)))
    yield Edit(around.start, around.opened, tag)
    first = max(int(column.attributes["id"]) for column in columns) + 1
    added = wanted[len(columns) - len(kept) :]
    new = b"".join(_column(around.prefix, number, name) for number, name in enumerate(added, first))
    yield Edit(columns[-1].end, columns[-1].end, new)


def _column(prefix: bytes, number: int, name: str) -> bytes:
    return b'<%btableColumn id="%d" name="%b"/>' % (prefix, number, attribute_text(name))
