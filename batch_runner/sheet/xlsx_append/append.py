"""Which parts of a workbook change when columns are appended to one of its sheets, or cells replaced, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO
from xml.parsers import expat

import msgspec

from batch_runner.errors import SheetError
from batch_runner.sheet.model import column_letter
from batch_runner.sheet.xlsx_append.rows import formula_in_the_way
from batch_runner.sheet.xlsx_append.sheet_xml import Change, copy_package, with_columns
from batch_runner.sheet.xlsx_append.xml_tokens import (
    Edit,
    Element,
    Place,
    Range,
    as_utf8,
    attribute,
    attribute_text,
    edited,
    elements,
    find_place,
    inline_string,
    no_room,
    parse_range,
    tag_of,
    with_attribute,
    xstring,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from batch_runner.sheet.model import NewColumns
    from batch_runner.sheet.xlsx.package import Package
    from batch_runner.sheet.xlsx.workbook import Workbook


def table_of(tables: Iterable[Table], place: Place) -> Table | None:
    """The table that the new columns stand beside: the last one from the left that has the sheet's rows."""
    rows = Range(max(place.header_row, 1), 0, place.last_row, place.cleared - 1)
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


NAME = "_xlnm._FilterDatabase"


def sheet_position(workbook: bytes, name: str) -> int:
    """A sheet's position among all sheets of the workbook, from 0. Raises `ValueError` where there is none."""
    sheets = [element for element in elements(workbook) if element.path == ("workbook", "sheets", "sheet")]
    return [sheet.attributes.get("name") for sheet in sheets].index(name)


def grown_name(workbook: bytes, position: int, new: Range) -> bytes | None:
    """The workbook's part with the name over the filter's new range; None where the sheet has no such name.

    `position` is the sheet's among all sheets of the workbook, from 0: `localSheetId` counts so (ECMA-376 part 1,
    18.2.5). What stands before the range (`'My sheet'!`) stays to the letter.
    """
    for element in elements(workbook):
        marks = element.attributes
        if (
            element.path[-1] == "definedName"
            and marks.get("name") == NAME
            and marks.get("localSheetId") == str(position)
        ):
            close = workbook.rindex(b"</", element.opened, element.end)
            sheet, mark, _old = workbook[element.opened : close].rpartition(b"!")
            return edited(workbook, [Edit(element.opened, close, sheet + mark + new.absolute.encode())])
    return None


BEFORE_CALCULATION = ("sheets", "functionGroups", "externalReferences", "definedNames")
"""What stands before `calcPr` in a workbook's part; it must have the first of these (ECMA-376 part 1, 18.2.27)."""
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
            (
                any(index in place.kept for index in range(self.cells.right + 1, place.end)),
                "ends left of other columns",
            ),
            (any(len(_column_name(header)) > LONGEST_NAME for header in place.headers), "can't have headers so long"),
            (_clash(_names(self.data, self.cells.left, place), place.headers), "has a column by one of their names"),
        )
        return next((why for holds, why in obstacles if holds), None)

    def grown(self, place: Place) -> bytes:
        """The table's part with the new columns, an earlier output's renamed or dropped as needed."""
        found = elements(self.data)
        new = self.cells.with_right(max([place.end - 1, *(index for index in place.kept if index <= self.cells.right)]))
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
    """The names of the table's columns that aren't new ones, as they are compared: without regard to case."""
    columns = [element for element in elements(data) if element.path[-1] == "tableColumn"]
    return {
        column.attributes.get("name", "").casefold()
        for index, column in enumerate(columns, left)
        if not place.is_ours(index)
    }


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
    wanted = {index: _column_name(header) for index, header in zip(place.places, place.headers, strict=True)}
    width = 0
    for index, column in enumerate(columns, left):
        name = wanted.pop(index, None)
        if name is None and index >= place.start and index not in place.kept:
            yield Edit(column.start, column.end, b"")
            continue
        width += 1
        if name is not None and column.attributes.get("name") != name:
            yield Edit(column.start, column.opened, with_attribute(data[column.start : column.opened], "name", name))
    added = list(wanted.values())
    tag = with_attribute(data[around.start : around.opened], "count", str(width + len(added)))
    yield Edit(around.start, around.opened, tag)
    first = max(int(column.attributes["id"]) for column in columns) + 1
    new = b"".join(_column(around.prefix, number, name) for number, name in enumerate(added, first))
    yield Edit(columns[-1].end, columns[-1].end, new)


def _column(prefix: bytes, number: int, name: str) -> bytes:
    return b'<%btableColumn id="%d" name="%b"/>' % (prefix, number, attribute_text(name))


def append_columns(
    workbook: Workbook, target: BinaryIO, new: NewColumns, cells: Iterable[tuple[int, tuple[str, ...]]]
) -> tuple[str, ...]:
    """Write the workbook to the seekable `target` with new columns in its sheet; all else stays byte for byte.

    `cells` are (row number, one text for each new header) in ascending order. Returns notes for a person, a sentence
    each. Raises `SheetError` where there is no room for the columns, or a cell can't be written.
    """
    place = place_of(workbook, new)
    package, notes = workbook.package, _moved(place)
    growth = grown_filter(workbook.autofilter, place)
    note = filter_note(workbook.autofilter, place)
    notes += [note] if note else []
    changes = [Change(package.entry(workbook.part), _sheet(workbook, place, cells, growth))]
    table = table_of(_tables(workbook), place)
    if table and (note := table_note(table, place)):
        notes.append(note)
    elif table:
        changes.append(Change(package.entry(table.part), [table.grown(place)]))
    if growth:
        changes += _filter_name(workbook, growth[1])
    copy_package(package.file, target, changes)
    return tuple(f"{workbook.path.name}, {workbook.name}: {note}" for note in notes)


def place_of(workbook: Workbook, new: NewColumns) -> Place:
    """Where new columns will stand: right of the list if there is room for them beside another table or a note there.

    Otherwise they stand right of everything, and of every formula, also of one that shows nothing yet. Raises
    `SheetError` where there is no room: ask before any run is started.
    """
    own, count = workbook.list_width, len(new.headers)
    if not new.replaced and own < workbook.width and workbook.has_room(own, own + count - 1):
        beside = Place(own, new.headers, 0, workbook.header_row, _last_row(workbook), own)
        if not any(beside.cells.meets(one) for one in _taken(workbook)):
            return beside
    adjacent = workbook.columns[-new.replaced].index if new.replaced else workbook.width
    in_the_way = {index: row for index, row in workbook.formulas if index >= adjacent}
    places = new.places_from(adjacent)
    if new.replaced and any(column.index > adjacent for column in workbook.aside):
        grown = workbook.columns[-1].index + 1
        fresh = [place for place in places if place >= grown]
        if fresh and (fresh[-1] - fresh[0] >= len(fresh) or not workbook.has_room(grown, fresh[-1])):
            raise no_room(_called(workbook), count, adjacent, "the columns of another table stand there")
    if new.replaced and in_the_way.keys() & set(places):
        index, row = min((index, row) for index, row in in_the_way.items() if index in places)
        raise formula_in_the_way(_called(workbook), row, index)
    start = adjacent if new.replaced else max(in_the_way, default=adjacent - 1) + 1
    replaced = workbook.columns[-1].index + 1 - adjacent if new.replaced else 0
    wanted = Place(start, new.headers, replaced, workbook.header_row, _last_row(workbook), adjacent, new.kept)
    return find_place(_called(workbook), wanted, _taken(workbook))


def _last_row(workbook: Workbook) -> int:
    return workbook.last_data_row or workbook.header_row


def _taken(workbook: Workbook) -> Iterator[Range]:
    """Where no new cells may stand: merged cells, and what a formula or a pivot table fills when it is refreshed."""
    for left, top, right, bottom in (*workbook.merges, *workbook.computed):
        yield Range(top, left - 1, bottom, right - 1)
    for part in workbook.package.related(workbook.part, "pivotTable"):
        for element in elements(_whole(workbook.package, part)):
            covered = parse_range(element.attributes.get("ref", ""))
            if element.path == ("pivotTableDefinition", "location") and covered:
                yield covered


def _called(workbook: Workbook) -> str:
    return f"{workbook.path.name}, {workbook.name}"


def _moved(place: Place) -> list[str]:
    if place.start == place.adjacent:
        return []
    return [
        f"the new columns begin at {column_letter(place.start)}: merged cells, formulas or a pivot table reach beyond "
        f"column {column_letter(place.adjacent - 1)}"
    ]


def _sheet(
    workbook: Workbook,
    place: Place,
    cells: Iterable[tuple[int, tuple[str, ...]]],
    growth: tuple[Range, Range] | None,
) -> Iterator[bytes]:
    chunks = workbook.package.open_part(workbook.part)
    try:
        yield from with_columns(chunks, _called(workbook), place, cells, growth)
    except (expat.ExpatError, UnicodeDecodeError) as error:
        raise workbook.package.damaged(workbook.part, f"is damaged: {error}") from error


def _tables(workbook: Workbook) -> Iterator[Table]:
    """The tables that may grow: a sheet's own one alone, where it has one."""
    for table_part in (workbook.table,) if workbook.table else workbook.tables:
        table = read_table(table_part.part, _whole(workbook.package, table_part.part))
        if table:
            yield table


def _filter_name(workbook: Workbook, grown: Range) -> Iterator[Change]:
    """The workbook's own part, if the autofilter has its hidden name there."""
    package = workbook.package
    data = _whole(package, package.main)
    named = grown_name(data, sheet_position(data, workbook.name or ""), grown)
    if named and named != data:
        yield Change(package.entry(package.main), [named])


def _whole(package: Package, part: str) -> bytes:
    return b"".join(as_utf8(package.open_part(part)))


def replace_cells(workbook: Workbook, target: BinaryIO, cells: Mapping[tuple[int, int], str]) -> None:
    """Write the workbook to the seekable `target` with other texts in these cells; all else stays byte for byte.

    `cells` are known by row number and place in the row. Raises `SheetError` for one that can't be taken out of its
    place: a formula that fills others, a row that doesn't say its number.
    """
    data, package = _whole(workbook.package, workbook.part), workbook.package
    wanted: dict[int, dict[int, str]] = {}
    for (number, index), text in cells.items():
        wanted.setdefault(number, {})[index] = text
    root = next(tag_of("worksheet").finditer(data))[0]
    edits: list[Edit] = []
    freed: list[str] = []
    for found in tag_of("row").finditer(data):
        number = int(attribute(found[0], "r") or 0)
        if number in wanted:
            end = data.find(b"row>", found.end()) + 4 if not found[0].endswith(b"/>") else found.end()
            row = elements(root + data[found.start() : end])
            for edit in _replaced(workbook, row, number, wanted.pop(number), freed):
                shift = found.start() - len(root)
                edits.append(Edit(edit.start + shift, edit.end + shift, edit.new))
    if wanted:
        raise _unmendable(workbook, f"row {min(wanted)} doesn't say its number")
    changes = [Change(package.entry(workbook.part), [edited(data, edits)])]
    is_calculated = bool(package.related(package.main, "calcChain")) or any(tag_of("f").finditer(data))
    changes += [_to_be_calculated(workbook)] if is_calculated else []
    copy_package(package.file, target, [*changes, *_unchained(workbook, freed)])


def _to_be_calculated(workbook: Workbook) -> Change:
    """The workbook's own part, which says that the values of formulas are none until Excel has calculated them anew.

    Such a value may be made of a cell that was replaced (ECMA-376 part 1, 18.2.2).
    """
    package = workbook.package
    data = _whole(package, package.main)
    found = [element for element in elements(data) if len(element.path) == 2]
    own = next((element for element in found if element.path[-1] == "calcPr"), None)
    if own is not None:
        tag = with_attribute(data[own.start : own.opened], "fullCalcOnLoad", "1")
        edit = Edit(own.start, own.opened, tag)
    else:
        before = max((e for e in found if e.path[-1] in BEFORE_CALCULATION), key=lambda element: element.end)
        edit = Edit(before.end, before.end, b'<%bcalcPr fullCalcOnLoad="1"/>' % before.prefix)
    return Change(package.entry(package.main), [edited(data, [edit])])


def _replaced(
    workbook: Workbook, row: Sequence[Element], number: int, texts: Mapping[int, str], freed: list[str]
) -> Iterator[Edit]:
    """The edits of one row's cells; `freed` gets the addresses of formulas that go."""
    own = next(element for element in row if element.path[-1] == "row")
    cells = {element.attributes.get("r", ""): element for element in row if element.path[-1] == "c"}
    for index, text in sorted(texts.items()):
        address = f"{column_letter(index)}{number}"
        old = cells.get(address)
        if "" in cells or own.is_self_closed:
            raise _unmendable(workbook, f"row {number} doesn't say where its cells stand")
        inner = [e for e in row if e.path[-1] == "f" and old and old.start < e.start < old.end]
        if any("ref" in formula.attributes for formula in inner):
            raise _unmendable(workbook, f"{address} holds a formula that fills other cells, too")
        freed += [address] if inner else []
        new = _cell(own.prefix, address, old.attributes.get("s") if old else None, text)
        behind = [e.start for place, e in cells.items() if parse_range(place).left > index]  # type: ignore[union-attr]
        at = (old.start, old.end) if old else (min(behind),) * 2 if behind else (_before_end(row, own),) * 2
        yield Edit(*at, new)


def _before_end(row: Sequence[Element], own: Element) -> int:
    """Where a cell goes that comes behind all others of the row."""
    return max((element.end for element in row if element.path[-1] == "c"), default=own.opened)


def _cell(prefix: bytes, address: str, style: str | None, text: str) -> bytes:
    mark = f' s="{style}"' if style else ""
    name = prefix.decode()
    if not text:
        return f'<{name}c r="{address}"{mark}/>'.encode()
    return f'<{name}c r="{address}"{mark} t="inlineStr">{inline_string(text, name)}</{name}c>'.encode()


def _unchained(workbook: Workbook, freed: Sequence[str]) -> Iterator[Change]:
    """The order in which Excel calculates, without the formulas that are gone (ECMA-376 part 1, 18.6.1).

    An entry without a sheet has that of the one before it.
    """
    package = workbook.package
    for part in package.related(package.main, "calcChain") if freed else ():
        data, main = _whole(package, part), elements(_whole(package, package.main))
        ours = next(e.attributes.get("sheetId") for e in main if e.attributes.get("name") == workbook.name)
        entries = [element for element in elements(data) if element.path[-1] == "c"]
        sheets, edits, sheet = [], list[Edit](), ""
        for entry in entries:
            sheet = entry.attributes.get("i", sheet)
            sheets.append(sheet)
        gone = [e for e, i in zip(entries, sheets, strict=True) if i == ours and e.attributes.get("r") in freed]
        if len(gone) == len(entries):
            raise _unmendable(workbook, f"{freed[0]} holds the last formula of the workbook")
        for entry, i in zip(entries, sheets, strict=True):
            tag = b"" if entry in gone else with_attribute(data[entry.start : entry.opened], "i", i)
            edits.append(Edit(entry.start, entry.end if entry in gone else entry.opened, tag))
        yield Change(package.entry(part), [edited(data, edits)])


def _unmendable(workbook: Workbook, why: str) -> SheetError:
    return SheetError(f"{_called(workbook)}: {why}: mend it in Excel, and run it again")
