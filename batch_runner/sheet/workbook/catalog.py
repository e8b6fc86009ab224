"""What a workbook's own part says of its sheets, and what stands beside a sheet: its tables."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

import msgspec

from batch_runner.sheet.errors import SheetError
from batch_runner.sheet.workbook.cells import PLACEHOLDER, Calculation
from batch_runner.sheet.workbook.rawrow import column_index
from batch_runner.sheet.workbook.rowparser import is_true

if TYPE_CHECKING:
    from batch_runner.sheet.workbook.package import Package


_RANGE = re.compile(r"\$?([A-Za-z]{1,3})\$?([0-9]{1,7})(?::\$?([A-Za-z]{1,3})\$?([0-9]{1,7}))?")
"""ST_Ref (ECMA-376 part 1, 18.18.62)."""


class SheetPart(msgspec.Struct, frozen=True):
    """A worksheet of a workbook: its name, its part, and whether a person sees its tab. `place` counts from 0."""

    name: str
    part: str
    is_visible: bool
    place: int


class TablePart(msgspec.Struct, frozen=True):
    """A table of a sheet (ECMA-376 part 1, 18.5.1.2). `ref` is its range, header and totals row included."""

    part: str
    name: str
    ref: str
    type: str
    header_rows: int
    totals_rows: int

    @property
    def first_row(self) -> int:
        """The row that its range begins with."""
        return bounds(self.ref)[1]

    @property
    def totals_row(self) -> int | None:
        """Its first totals row."""
        return bounds(self.ref)[3] - self.totals_rows + 1 if self.totals_rows else None


class Catalog(msgspec.Struct, frozen=True):
    """The worksheets of a workbook in the order of their tabs, whether its dates count from 1904, and its formulas."""

    sheets: tuple[SheetPart, ...]
    is_1904: bool
    calculation: Calculation


def bounds(ref: str) -> tuple[int, int, int, int]:
    """A range as (first column, first row, last column, last row), all from 1. Raises `ValueError`."""
    match = _RANGE.fullmatch(ref)
    if match is None:
        raise ValueError(ref)
    left, top, right, bottom = match[1], match[2], match[3] or match[1], match[4] or match[2]
    return column_index(left.upper().encode()) + 1, int(top), column_index(right.upper().encode()) + 1, int(bottom)


def range_in(package: Package, part: str, ref: str) -> tuple[int, int, int, int]:
    """The bounds of a range that a part names. Raises `SheetError` for what is none."""
    try:
        return bounds(ref)
    except ValueError as error:
        raise package.damaged(part, f"has the range {ref!r}") from error


def read_catalog(package: Package) -> Catalog:
    """The worksheets of a workbook; chart, dialog and macro sheets are none. Raises `SheetError`."""
    parts = {relation.id: relation.part for relation in package.relations(package.main) if relation.kind == "worksheet"}
    sheets: list[SheetPart] = []
    is_1904 = False
    calculation: dict[str, str] = {}
    place = 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal is_1904, calculation, place
        if name == "workbookPr":
            is_1904 = is_true(attributes.get("date1904"))
        if name == "calcPr":
            calculation = attributes
        if name != "sheet":
            return
        part = parts.get(attributes.get("r:id", ""))
        if part is not None:
            visible = attributes.get("state", "visible") == "visible"
            sheets.append(SheetPart(attributes.get("name", ""), part, visible, place))
        place += 1

    package.parse(package.main, start)
    return Catalog(tuple(sheets), is_1904, _calculation(package, calculation))


def _calculation(package: Package, attributes: dict[str, str]) -> Calculation:
    """Which values of formulas are none.

    XlsxWriter writes `0` for every formula. It says so by `fullCalcOnLoad`, but not where a person is to press F9
    (`calcMode="manual"`): then its files lack the chain of formulas that Excel keeps whenever it has calculated any.
    """
    is_stale = is_true(attributes.get("fullCalcOnLoad")) or not is_true(attributes.get("calcCompleted", "1"))
    is_unchained = attributes.get("calcMode") == "manual" and not package.related(package.main, "calcChain")
    return Calculation(is_stale, frozenset({PLACEHOLDER, b"0"} if is_unchained else {PLACEHOLDER}))


def computed_ranges(package: Package, part: str) -> tuple[tuple[int, int, int, int], ...]:
    """The ranges of a sheet whose cells hold results of one formula: arrays, spilled ones and data tables."""
    found: list[tuple[int, int, int, int]] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        if name == "f" and attributes.get("t") in {"array", "dataTable"} and "ref" in attributes:
            found.append(range_in(package, part, attributes["ref"]))

    package.parse(part, start)
    return tuple(found)


def named_sheet(catalog: Catalog, name: str, file: str) -> SheetPart:
    """The sheet that a person named, in whatever case. Raises `SheetError` with the names that there are."""
    for sheet in catalog.sheets:
        if sheet.name.casefold() == name.strip().casefold() or sheet.name == name:
            return sheet
    names = [sheet.name for sheet in catalog.sheets]
    near = get_close_matches(name, names, 1, 0.5)
    hint = f"did you mean {near[0]!r}?" if near else "name one of these with --sheet"
    raise SheetError(f"{file}: no sheet is called {name!r}; its sheets are {', '.join(map(repr, names))}; {hint}")


def read_tables(package: Package, sheet: str) -> tuple[TablePart, ...]:
    """The tables of a sheet, from top to bottom. Raises `SheetError`."""
    tables: list[TablePart] = []
    for part in package.related(sheet, "table"):

        def start(name: str, attributes: dict[str, str], part: str = part) -> None:
            if name == "table":
                tables.append(_table(package, part, attributes))

        package.parse(part, start)
    return tuple(sorted(tables, key=lambda table: bounds(table.ref)[1::-1]))


def _table(package: Package, part: str, attributes: dict[str, str]) -> TablePart:
    ref = attributes.get("ref", "")
    range_in(package, part, ref)
    try:
        header_rows = int(attributes.get("headerRowCount", "1"))
        totals_rows = int(attributes.get("totalsRowCount", "0"))
    except ValueError as error:
        raise package.damaged(part, "has a count of rows that is no number") from error
    name = attributes.get("displayName") or attributes.get("name", "")
    return TablePart(part, name, ref, attributes.get("tableType", "worksheet"), header_rows, totals_rows)


def table_at(tables: tuple[TablePart, ...], header_row: int) -> TablePart | None:
    """The first table whose header row this is."""
    return next((table for table in tables if table.header_rows and table.first_row == header_row), None)
