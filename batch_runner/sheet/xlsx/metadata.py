"""What stands beside a sheet's rows: sheets, tables, cell formats, rich values, merged cells."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING

import msgspec

from batch_runner.errors import SheetError
from batch_runner.sheet.model import CellProblem, RowKind, column_letter
from batch_runner.sheet.numfmt.formatter import NumberFormat
from batch_runner.sheet.numfmt.parser import BUILT_IN
from batch_runner.sheet.xlsx.cells import PLACEHOLDER, Calculation
from batch_runner.sheet.xlsx.package import may_have_computed
from batch_runner.sheet.xlsx.row_reader import is_true
from batch_runner.sheet.xlsx.values import column_index

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from batch_runner.sheet.xlsx.package import Package


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
    is_manual = attributes.get("calcMode") == "manual"
    is_unchained = is_manual and not package.related(package.main, "calcChain")
    return Calculation(is_stale, frozenset({PLACEHOLDER, b"0"} if is_unchained else {PLACEHOLDER}), is_manual)


def computed_ranges(package: Package, part: str) -> tuple[tuple[int, int, int, int], ...]:
    """The ranges of a sheet whose cells hold results of one formula: arrays, spilled ones and data tables."""
    found: list[tuple[int, int, int, int]] = []
    if not _may_have_computed(package.open_part(part)):
        return ()

    def start(name: str, attributes: dict[str, str]) -> None:
        if name == "f" and attributes.get("t") in {"array", "dataTable"} and "ref" in attributes:
            found.append(range_in(package, part, attributes["ref"]))

    package.parse(part, start)
    return tuple(found)


def _may_have_computed(chunks: Iterable[bytes]) -> bool:
    """Whether such a formula may stand in a part: to look for its words is far quicker than to parse it."""
    rest = b""
    for chunk in chunks:
        if may_have_computed(rest + chunk):
            return True
        rest = chunk[-32:]
    return False


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


def table_at(tables: Sequence[TablePart], header_row: int) -> TablePart | None:
    """The widest table whose header row this is; of two that are as wide the left one."""
    here = [table for table in tables if table.header_rows and table.first_row == header_row]
    return max(here, key=lambda table: bounds(table.ref)[2] - bounds(table.ref)[0], default=None)


class _Styles:
    """Collects number formats and cell formats from the styles part."""

    def __init__(self) -> None:
        self.codes: dict[int, str] = {}
        self.ids: list[int] = []
        self._path: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        parent = self._path[-1] if self._path else ""
        self._path.append(name)
        if name == "numFmt" and parent == "numFmts":
            self.codes[_number(attributes.get("numFmtId"))] = attributes.get("formatCode", "General")
        elif name == "xf" and parent == "cellXfs":
            self.ids.append(_number(attributes.get("numFmtId")))

    def end(self, _name: str) -> None:
        self._path.pop()


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0


def read_formats(package: Package, *, is_1904: bool) -> tuple[NumberFormat, ...]:
    """The number format of each cell format, by its place (a cell's `s`): at least one. Raises `SheetError`."""
    styles = _Styles()
    for part in package.related(package.main, "styles")[:1]:
        package.parse(part, styles.start, styles.end)
    told = {place: code for place, code in styles.codes.items() if code or place not in BUILT_IN}
    codes = {**BUILT_IN, **told}  # an empty code says nothing of an id that has one of its own (ClosedXML writes it)
    made: dict[str, NumberFormat] = {}
    return tuple(_made(codes.get(place, "General"), made, is_1904=is_1904) for place in styles.ids or [0])


def _made(code: str, made: dict[str, NumberFormat], *, is_1904: bool) -> NumberFormat:
    """The format of a code; many styles share one."""
    if code not in made:
        made[code] = NumberFormat(code, is_1904=is_1904)
    return made[code]


PICTURES = frozenset({"_localImage", "_webimage"})
SPILL = "8"


class _Rich:
    """Collects the chain from a cell's `vm` to its rich value's structure ([MS-XLSX] 2.2.4.11 and 2.3.6)."""

    def __init__(self) -> None:
        self.cells: list[int] = []
        self.future: list[int] = []
        self.values: list[tuple[int, list[str]]] = []
        self.structures: list[tuple[str, list[str]]] = []
        self._within = ""
        self._text: list[str] = []

    def metadata(self, name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(" ")[2]
        if local in {"valueMetadata", "cellMetadata", "futureMetadata"}:
            self._within = attributes.get("name", local)
        elif local == "rc" and self._within == "valueMetadata":
            self.cells.append(_rich_number(attributes.get("v")))
        elif local == "rvb" and self._within == "XLRICHVALUE":
            self.future.append(_rich_number(attributes.get("i")))

    def value(self, name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(" ")[2]
        if local == "rv":
            self.values.append((_rich_number(attributes.get("s")), []))
        self._text = []

    def value_end(self, name: str) -> None:
        if name.rpartition(" ")[2] == "v" and self.values:
            self.values[-1][1].append("".join(self._text))

    def text(self, text: str) -> None:
        self._text.append(text)

    def structure(self, name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(" ")[2]
        if local == "s":
            self.structures.append((attributes.get("t", ""), []))
        elif local == "k" and self.structures:
            self.structures[-1][1].append(attributes.get("n", ""))

    def meaning(self, metadata: int) -> str | None:
        """What the cell with this `vm` (from 1) holds; None where it can't be told."""
        if not 0 < metadata <= len(self.cells):
            return None
        try:
            place, contents = self.values[self.future[self.cells[metadata - 1]]]
            kind, keys = self.structures[place]
        except IndexError:
            return None
        if kind in PICTURES:
            return "a picture in the cell"
        if kind == "_error":
            known = dict(zip(keys, contents, strict=False))
            return "#SPILL!" if known.get("errorType") == SPILL else None
        return "a data type card in the cell, no text"


def _rich_number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0


def read_rich_values(package: Package) -> Callable[[int], str | None]:
    """A function from a cell's `vm` to what the cell holds. Nothing is read before it is first asked."""
    known: list[_Rich] = []

    def meaning(metadata: int) -> str | None:
        if not metadata:
            return None
        if not known:
            known.append(_read(package))
        return known[0].meaning(metadata)

    return meaning


def _read(package: Package) -> _Rich:
    rich = _Rich()
    for relation in package.relations(package.main):
        if relation.kind == "sheetMetadata":
            package.parse(relation.part, rich.metadata)
        elif relation.kind == "rdRichValue":
            package.parse(relation.part, rich.value, rich.value_end, rich.text)
        elif relation.kind == "rdRichValueStructure":
            package.parse(relation.part, rich.structure)
    return rich


class MergedCells:
    """The merged ranges of a sheet, (left, top, right, bottom) from 1, asked about rows in ascending order."""

    def __init__(self, ranges: Iterable[tuple[int, int, int, int]], header_row: int) -> None:
        self._header_row = header_row
        self._values: dict[tuple[int, int], str] = {}
        self._coming = sorted(ranges, key=lambda one: one[1], reverse=True)
        self._here: list[tuple[int, int, int, int]] = []

    def reaches(self, number: int) -> bool:
        """Whether a row has merged cells in it."""
        while self._coming and self._coming[-1][1] <= number:
            self._here.append(self._coming.pop())
        if self._here:
            self._here = [one for one in self._here if one[3] >= number]
        return bool(self._here)

    def reach(self, first: int, last: int) -> bool:
        """Whether one of these rows, none of which was asked about, has merged cells in it."""
        return any(one[3] >= first for one in self._here) or bool(self._coming and self._coming[-1][1] <= last)

    def cleared(
        self, number: int, texts: list[str], problems: tuple[CellProblem, ...]
    ) -> tuple[list[str], tuple[CellProblem, ...]]:
        """A row's texts and problems without those of covered cells."""
        covered: set[int] = set()
        for left, top, right, _bottom in self._here:
            covered.update(range(left if number == top else left - 1, min(right, len(texts))))
        kept = ["" if place in covered else text for place, text in enumerate(texts)]
        return kept, tuple(problem for problem in problems if problem.index not in covered)

    def carried(
        self, number: int, kind: RowKind, texts: list[str], problems: tuple[CellProblem, ...], wish: str | None
    ) -> tuple[list[str], tuple[CellProblem, ...]]:
        """A row with the values of cells merged down over it as a person wishes: filled in, left out, or refused."""
        texts, found = list(texts), list(problems)
        for left, top, _right, _bottom in self._here:
            place = left - 1
            if number == top and place < len(texts):
                self._values[left, top] = texts[place]
            value = self._values.get((left, top), "") if top > self._header_row else ""
            if number == top or not value or wish == "first" or kind not in (RowKind.DATA, RowKind.HIDDEN):
                continue
            if wish == "fill":
                texts[place] = value
                continue
            letter = column_letter(place)
            what = f"it is one cell with {letter}{top} above, {value!r}; say --merged fill or --merged first"
            found.append(CellProblem(place, f"{letter}{number}", what, refuses=True))
        return texts, tuple(found)
