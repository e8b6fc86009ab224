"""Which parts of a workbook change when columns are appended to one of its sheets, and how."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO
from xml.parsers import expat

from batch_runner.sheet.sheet import column_letter
from batch_runner.sheet.splice.filtername import grown_name, sheet_position
from batch_runner.sheet.splice.growth import filter_note, grown_filter, table_note, table_of
from batch_runner.sheet.splice.newrow import formula_in_the_way
from batch_runner.sheet.splice.place import Place, find_place
from batch_runner.sheet.splice.ranges import Range, parse_range
from batch_runner.sheet.splice.sheetpart import with_columns
from batch_runner.sheet.splice.tablepart import Table, read_table
from batch_runner.sheet.splice.tags import elements
from batch_runner.sheet.splice.utf8 import as_utf8
from batch_runner.sheet.splice.zipcopy import Change, copy_package

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from batch_runner.sheet.row import NewColumns
    from batch_runner.sheet.workbook.package import Package
    from batch_runner.sheet.workbook.workbook import Workbook


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
    """Where new columns will stand: right of every formula, also of one that shows nothing yet.

    Raises `SheetError` where there is no room: ask before any run is started.
    """
    adjacent = workbook.columns[-new.replaced].index if new.replaced else workbook.width
    in_the_way = {index: row for index, row in workbook.formulas if index >= adjacent}
    if new.replaced and in_the_way:
        index, row = min(in_the_way.items())
        raise formula_in_the_way(_called(workbook), row, index)
    start = max(in_the_way, default=adjacent - 1) + 1
    last_row = workbook.last_data_row or workbook.header_row
    wanted = Place(start, new.headers, new.replaced, workbook.header_row, last_row, adjacent)
    return find_place(_called(workbook), wanted, _taken(workbook))


def _taken(workbook: Workbook) -> Iterator[Range]:
    """Where no new cells may stand: merged cells, and what a pivot table covers once it is refreshed."""
    for left, top, right, bottom in workbook.merges:
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
    for table_part in workbook.tables:
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
