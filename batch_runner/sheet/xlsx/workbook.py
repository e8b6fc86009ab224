"""A sheet of an .xlsx or .xlsm workbook, surveyed as a whole before its first row is read."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING

import msgspec

from batch_runner.errors import SheetError
from batch_runner.sheet.header import LOOK, FirstRow, find_header, header_doubt, repeats_header
from batch_runner.sheet.model import (
    Column,
    Reading,
    Row,
    RowKind,
    Sheet,
    TypedRow,
    column_letter,
    row_list,
)
from batch_runner.sheet.snapshot import Snapshot, take_snapshot, uncopied
from batch_runner.sheet.xlsx.cells import TRUSTED, Cells
from batch_runner.sheet.xlsx.metadata import (
    computed_ranges,
    named_sheet,
    range_in,
    read_catalog,
    read_formats,
    read_rich_values,
    read_tables,
    table_at,
)
from batch_runner.sheet.xlsx.package import Package
from batch_runner.sheet.xlsx.row_reader import RowReader
from batch_runner.sheet.xlsx.shared_strings import read_strings

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

    from batch_runner.sheet.model import CellProblem
    from batch_runner.sheet.xlsx.metadata import Catalog, SheetPart, TablePart
    from batch_runner.sheet.xlsx.row_reader import RawRow


MAX_COLUMNS = 16_384
"""So many columns has a sheet (Excel's limit)."""


class WorkbookSurvey(msgspec.Struct, frozen=True):
    """What stands in a sheet.

    Row numbers are what Excel shows, 0 where there is none; places of columns count from 0. `filled_rows` are rows
    below the header that have text and are no totals, hidden ones included. `strays` are
    the places with text under an empty header, each with its first row. `formulas` has the last cell with a formula of each row from the header row to the last data row,
    whatever it shows, as (place of its column, number of the first such row).
    """

    header_row: int
    headers: tuple[str, ...]
    last_row: int
    width: int
    first_data_row: int
    last_data_row: int
    filled_rows: int
    hidden_rows: int
    first_hidden: int
    strays: dict[int, int]
    formulas: tuple[tuple[int, int], ...] = ()
    repeated: tuple[int, ...] = ()
    """The rows that are the header row once more."""
    doubt: str | None = None
    """Why it isn't certain which row holds the headers."""


class _Tally:
    """Counts the rows below the header, one after the other."""

    def __init__(self, header: FirstRow, cells: Cells, totals_row: int | None) -> None:
        self.header = header
        self.cells = cells
        self.totals_row = totals_row
        self.covered = next((place for place, text in enumerate(header.texts) if not text), len(header.texts))
        """Up to this place no header is empty."""
        if not header.number:
            self.covered = MAX_COLUMNS
        self.repeated: list[int] = []
        self.last_row = header.number
        self.width = header.width
        self.first = self.last = self.filled = self.hidden = self.first_hidden = 0
        self.strays: dict[int, int] = {}
        self.formulas: dict[int, int] = {}

    def take(self, row: RawRow) -> bool:
        """Count a row of which only the last formula and the last cell are known, if these say it all."""
        if not self.cells.is_filled(row, -1) or self._ends_as_header(row, -1):
            return False
        end = self.cells.place(row, -1) + 1
        if end > self.covered:
            return False
        self._count(row, end)
        return True

    def add(self, row: RawRow) -> None:
        """Count a row."""
        end = self.cells.last_filled(row) + 1
        if 0 < self.header.number < row.number and end and self._repeats(row, end):
            self.repeated.append(row.number)
        self._count(row, end)

    def _ends_as_header(self, row: RawRow, order: int) -> bool:
        """Whether a cell of a row, by its order, says the same as the header above it."""
        header = self.header.text(self.cells.place(row, order))
        return bool(header) and self.cells.says(row, order, header)

    def _repeats(self, row: RawRow, end: int) -> bool:
        """Whether a row is the header row once more."""
        order = next(order for order in range(len(row.values) - 1, -1, -1) if self.cells.is_filled(row, order))
        if not self._ends_as_header(row, order):
            return False
        return repeats_header(self.header.texts, self.cells.texts(row, end)[0])

    def _count(self, row: RawRow, end: int) -> None:
        """Count a row whose last cell with text stands left of the place `end`; 0 for a row without text."""
        number = row.number
        if end:
            self.last_row = number
        if number < self.header.number or (self.totals_row is not None and number >= self.totals_row):
            return
        formula = self.cells.last_formula(row)
        if formula >= 0:
            self.formulas.setdefault(formula, number)
        if not end or number == self.header.number:
            return
        self.first = self.first or number
        self.last = number
        self.width = max(self.width, end)
        if self.repeated and self.repeated[-1] == number:
            return
        self.filled += 1
        if row.hidden:
            self.hidden += 1
            self.first_hidden = self.first_hidden or number
        if end > self.covered:
            self._note_strays(row)

    def _note_strays(self, row: RawRow) -> None:
        texts = self.header.texts
        for place in self.cells.filled(row):
            if place >= len(texts) or not texts[place]:
                self.strays.setdefault(place, row.number)


def survey_sheet(scan: RowReader, cells: Cells, asked: int | None, table: TablePart | None) -> WorkbookSurvey | None:
    """Look at all rows of a sheet; None for a sheet without text.

    `asked` is the header row that a person named (0: there is none), `table` the table that is read otherwise; without
    either, the autofilter counts, which is known only at the sheet's end: where its first row isn't the one that was
    found, the sheet is looked at again.
    """
    known = asked if asked is not None else table.first_row if table else None
    totals_row = table.totals_row if table and table.first_row == known else None
    seen = _look(scan, cells, known, totals_row)
    if seen is None or known is not None or not scan.beside.autofilter:
        return seen
    top = range_in(scan.package, scan.part, scan.beside.autofilter)[1]
    if top == seen.header_row:
        return msgspec.structs.replace(seen, doubt=None)
    again = _look(scan, cells, top, None)
    return again if again and any(again.headers) else seen


def _look(scan: RowReader, cells: Cells, known: int | None, totals_row: int | None) -> WorkbookSurvey | None:
    scan.skims = None
    rows = iter(scan)
    first = list(islice(rows, LOOK)) if known is None else _until(rows, known)
    shown = [_first_row(row, cells) for row in first]
    number = find_header(shown, known)
    if number is None:
        return None
    header = next((row for row in shown if row.number == number), FirstRow(number, ()))
    tally = _Tally(header, cells, totals_row)
    if tally.covered >= header.width:  # without a gap among the headers a row's end says it all
        scan.skims = tally.take
    for row in chain(first, rows):
        tally.add(row)
    if not number and not tally.width:
        return None
    headers = header.texts[: tally.width] if number else tuple(map(column_letter, range(tally.width)))
    return WorkbookSurvey(
        header.number, headers, tally.last_row, tally.width, tally.first, tally.last, tally.filled,
        tally.hidden, tally.first_hidden, tally.strays,
        tuple(item for item in tally.formulas.items() if item[1] <= (tally.last or header.number)),
        tuple(tally.repeated), header_doubt(shown, number) if known is None else None,
    )  # fmt: skip


def _until(rows: Iterator[RawRow], number: int) -> list[RawRow]:
    """The row with this number and some before it: no more than those that are looked at."""
    found: list[RawRow] = []
    for row in rows:
        found = [*found[-LOOK:], row]
        if row.number >= number:
            break
    return found


def _first_row(row: RawRow, cells: Cells) -> FirstRow:
    width = max(cells.filled(row), default=-1) + 1
    return FirstRow(row.number, tuple(cells.texts(row, width)[0]), cells.typed(row))


class MergedCells:
    """The merged ranges of a sheet, (left, top, right, bottom) from 1, asked about rows in ascending order."""

    def __init__(self, ranges: Iterable[tuple[int, int, int, int]]) -> None:
        self._coming = sorted(ranges, key=lambda one: one[1], reverse=True)
        self._here: list[tuple[int, int, int, int]] = []

    def reaches(self, number: int) -> bool:
        """Whether a row has merged cells in it."""
        while self._coming and self._coming[-1][1] <= number:
            self._here.append(self._coming.pop())
        if self._here:
            self._here = [one for one in self._here if one[3] >= number]
        return bool(self._here)

    def cleared(
        self, number: int, texts: list[str], problems: tuple[CellProblem, ...]
    ) -> tuple[list[str], tuple[CellProblem, ...]]:
        """A row's texts and problems without those of covered cells."""
        covered: set[int] = set()
        for left, top, right, _bottom in self._here:
            covered.update(range(left if number == top else left - 1, min(right, len(texts))))
        kept = ["" if place in covered else text for place, text in enumerate(texts)]
        return kept, tuple(problem for problem in problems if problem.index not in covered)


def open_workbook(path: Path, reading: Reading, scratch: Path) -> Workbook:
    """Open the sheet of a workbook that `reading` names or that is found, and look at all of it once.

    The file is copied to the folder `scratch` first. Raises `SheetError`.
    """
    return _open(path, take_snapshot(path, scratch), reading, scratch)


def view_workbook(path: Path, reading: Reading, scratch: Path) -> Workbook:
    """Open a workbook that nobody else has yet, such as a draft of the output: as it is, without a copy."""
    return _open(path, uncopied(path), reading, scratch)


def _open(path: Path, snapshot: Snapshot, reading: Reading, scratch: Path) -> Workbook:
    try:
        package = Package(snapshot.file, path.name)
        catalog = read_catalog(package)
        cells = Cells(
            read_strings(package),
            read_formats(package, is_1904=catalog.is_1904),
            read_rich_values(package),
            calculation=TRUSTED if reading.trust_formulas else catalog.calculation,
            as_shown=reading.as_shown,
        )
        workbook = _choose(OpenedWorkbook(path, snapshot, package, cells, reading, scratch), catalog)
        _refuse_unclear(workbook)
    except SheetError:
        snapshot.file.close()
        raise
    return workbook


def _choose(source: OpenedWorkbook, catalog: Catalog) -> Workbook:
    """The sheet that was named, else the first one with data whose tab can be seen. Raises `SheetError`."""
    name, asked = source.path.name, source.reading.sheet
    candidates = catalog.sheets
    if asked is not None:
        candidates = (named_sheet(catalog, asked, name),)
    elif any(sheet.is_visible for sheet in catalog.sheets):
        candidates = tuple(sheet for sheet in catalog.sheets if sheet.is_visible)
    for sheet in candidates:
        tables = read_tables(source.package, sheet.part)
        hint = next((table for table in tables if table.header_rows), None)
        scan = RowReader(source.package, sheet.part)
        asked_row = 0 if source.reading.no_header else source.reading.header_row
        seen = survey_sheet(scan, source.cells, asked_row, hint)
        if seen is not None:
            if catalog.calculation.is_stale and not source.reading.trust_formulas:
                source.cells.computed = computed_ranges(source.package, sheet.part)
            workbook = Workbook(source, sheet, tables, seen, scan)
            workbook.notes = tuple(_notes(workbook, catalog, source.reading))
            return workbook
    what = f"the sheet {candidates[0].name!r} is" if asked else "all its sheets are"
    raise SheetError(f"{name}: {what} empty; name a sheet with a header row")


def _notes(workbook: Workbook, catalog: Catalog, reading: Reading) -> Iterator[str]:
    others = sum(sheet.is_visible for sheet in catalog.sheets) - 1
    if others > 0 and reading.sheet is None:
        yield f"the sheet {workbook.name!r} is read; {others} more can be named with --sheet"
    if workbook.repeated:
        yield f"not run, since it is the header row once more: {row_list(workbook.repeated)}"
    if workbook.hidden_rows:
        done = "left out" if reading.hidden == "skip" else "read like the others"
        yield f"hidden or filtered-out rows among the data: {workbook.hidden_rows}, {done}"
    if workbook.package.is_signed:
        yield "the workbook is digitally signed; what is written from it is another file, and the signature won't hold"


class OpenedWorkbook(msgspec.Struct, frozen=True):
    """A workbook that has been opened: what all its sheets share."""

    path: Path
    snapshot: Snapshot
    package: Package
    cells: Cells
    reading: Reading
    scratch: Path


class Workbook(Sheet):
    """A sheet of an .xlsx or .xlsm workbook, and what its writing must know of it.

    Row numbers are what Excel shows. `table` is the table whose header row is this sheet's, if there is one.
    """

    def __init__(
        self,
        source: OpenedWorkbook,
        sheet: SheetPart,
        tables: tuple[TablePart, ...],
        seen: WorkbookSurvey,
        scan: RowReader,
    ) -> None:
        self.path = source.path
        self.name = sheet.name
        self.header_row = seen.header_row
        self.columns = tuple(
            Column(name, index, column_letter(index)) for index, name in enumerate(seen.headers) if name
        )
        self.width = seen.width
        self.notes = ()
        self.fingerprint = source.snapshot.fingerprint
        self.scratch = source.scratch
        self.package = source.package
        self.part = sheet.part
        """The name of the sheet's part in the package."""
        self.tables = tables
        self.table = table_at(tables, seen.header_row)
        self.autofilter = scan.beside.autofilter
        """The range of the sheet's own autofilter, such as `A3:F90`."""
        self.first_data_row = seen.first_data_row
        """The first row below the header that has text; 0 where there is none."""
        self.last_data_row = seen.last_data_row
        self.last_row = seen.last_row
        self.hidden_rows = seen.hidden_rows
        self.first_hidden = seen.first_hidden
        self.strays = seen.strays
        self.formulas = seen.formulas
        """As `WorkbookSurvey.formulas`."""
        self.repeated = seen.repeated
        """As `WorkbookSurvey.repeated`."""
        self.doubt = seen.doubt
        self.reading = source.reading
        self.row_count = seen.filled_rows - (seen.hidden_rows if source.reading.hidden == "skip" else 0)
        self.merges = [range_in(self.package, self.part, ref) for ref in scan.beside.merges]
        """The merged ranges as (left, top, right, bottom), from 1."""
        self._quick = scan.quick
        self._source = source
        self._repeated = frozenset(seen.repeated)

    def rows(self) -> Iterator[Row]:
        """As `Sheet.rows`."""
        return (row for row, _ in self._rows())

    def typed_rows(self, places: Collection[int]) -> Iterator[TypedRow]:
        """As `Sheet.typed_rows`. Formatting a cell costs more than reading it: only what is asked for is formatted."""
        cells = self._source.cells.shown()
        for row, raw in self._rows():
            typed = cells.typed_cells(raw, places) if raw is not None else {}
            yield TypedRow(row.number, row.kind, row.texts, row.problems, typed=typed)

    def describe_formats(self) -> tuple[str, ...]:
        """As `Sheet.describe_formats`."""
        names = {column.index: column.name for column in self.columns}
        found = sorted(self._source.cells.format_notes.values(), key=lambda one: one.index)
        return tuple(f"{names[one.index]}, {one}" for one in found if one.index in names)

    def _rows(self) -> Iterator[tuple[Row, RawRow | None]]:
        """Every row, and what it was read from: None for one that the file leaves out."""
        blank = ("",) * self.width
        number = 0
        merged = MergedCells(self.merges)
        for raw in RowReader(self.package, self.part, quick=self._quick):
            for gap in range(number + 1, raw.number):
                yield Row(gap, RowKind.EMPTY, blank), None
            number = raw.number
            yield self._row(raw, merged), raw
            if number == self.last_row:
                return

    def _row(self, raw: RawRow, merged: MergedCells) -> Row:
        texts, problems = self._source.cells.texts(raw, self.width)
        kind = self._kind(raw)
        if not any(map(str.strip, texts)) and not any(problem.refuses for problem in problems):
            kind = RowKind.EMPTY
        if kind is RowKind.DATA:
            self._source.cells.note(raw)
        if merged.reaches(raw.number):
            texts, problems = merged.cleared(raw.number, texts, problems)
        return Row(raw.number, kind, tuple(texts), problems)

    def _kind(self, raw: RawRow) -> RowKind:
        if raw.number <= self.header_row:
            return RowKind.HEADER if raw.number == self.header_row else RowKind.ABOVE
        if self.table and self.table.totals_row and raw.number >= self.table.totals_row:
            return RowKind.TOTALS
        if raw.number in self._repeated:
            return RowKind.REPEATED
        if raw.hidden and self.reading.hidden == "skip":
            return RowKind.HIDDEN
        return RowKind.DATA

    def reading_again(self) -> Reading:
        """As `Sheet.reading_again`."""
        return Reading(
            sheet=self.name,
            header_row=self.header_row or None,
            no_header=not self.header_row,
            hidden="include",
            as_shown=self.reading.as_shown,
            trust_formulas=self.reading.trust_formulas,
        )

    def close(self) -> None:
        """Let go of the private copy."""
        self.package.close()
        self._source.snapshot.file.close()


def _refuse_unclear(sheet: Workbook) -> None:
    """Raises `SheetError` where a row's texts couldn't be told apart by header, or nobody knows which rows count."""
    if not sheet.columns:
        raise SheetError(
            f"{sheet.address(sheet.header_row, 0)}: no header stands in row {sheet.header_row}; name another"
        )
    if sheet.doubt is not None:
        raise SheetError(f"{sheet.path.name}, {sheet.name}: {sheet.doubt}")
    if sheet.hidden_rows and sheet.reading.hidden is None:
        where = f"{sheet.path.name}, {sheet.name}: {sheet.hidden_rows} of the rows with data are hidden or filtered out"
        raise SheetError(f"{where}, the first is row {sheet.first_hidden}; say --hidden include or --hidden skip")
