"""A sheet of an .xlsx or .xlsm workbook, surveyed as a whole before its first row is read."""

from __future__ import annotations

import re
from collections import Counter
from functools import cached_property
from itertools import chain, islice
from typing import TYPE_CHECKING

import msgspec

from batch_runner.errors import SheetError
from batch_runner.sheet.model import (
    Column,
    Judge,
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
    MergedCells,
    computed_ranges,
    named_sheet,
    range_in,
    read_catalog,
    read_formats,
    read_rich_values,
    read_tables,
)
from batch_runner.sheet.xlsx.package import Package
from batch_runner.sheet.xlsx.row_reader import RowReader
from batch_runner.sheet.xlsx.survey import survey_sheet
from batch_runner.sheet.xlsx.values import AlikeRows, RawRow, column_index, read_strings

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path

    from batch_runner.sheet.xlsx.metadata import Catalog, SheetPart, TablePart
    from batch_runner.sheet.xlsx.survey import WorkbookSurvey


MOST_NAMED = 3
"""Sheets that are named beside the one that is read."""
VOLATILE_LOOK = 100
"""Rows below the header that are looked at for formulas which give another value at each save."""
_VOLATILE = re.compile(rb"(?<![A-Z0-9_.])(TODAY|NOW|RAND|RANDBETWEEN|RANDARRAY)\(", re.IGNORECASE)
_EMPTY_FORMULA = re.compile(rb"<f[^>]*(?:/>|></f>)")


_REFERENCE = re.compile(rb"(?<![\w.!$'])\$?([A-Z]{1,3})\$?([0-9]{1,7})(?![\w(.!])")


def volatile_cells(formulas: Mapping[tuple[int, int], bytes]) -> dict[tuple[int, int], str]:
    """Which cells, by row and place, hold another value at each save, and the function that makes it.

    A formula that is shared has its text further up (ECMA-376 part 1, 18.3.1.40); one may hang on another cell.
    """
    found: dict[tuple[int, int], str] = {}
    for cell, formula in formulas.items():
        if match := _VOLATILE.search(formula):
            found[cell] = f"{match[1].decode().upper()}()"
    known = 0
    while known < len(found):
        known = len(found)
        for cell, formula in formulas.items():
            sources = (name for source in _sources(cell, formula) if (name := found.get(source)))
            if cell not in found and (name := next(sources, None)):
                found[cell] = name
    return found


def _sources(cell: tuple[int, int], formula: bytes) -> Iterator[tuple[int, int]]:
    """The cells of the same sheet that a formula names."""
    if _EMPTY_FORMULA.fullmatch(formula):
        yield cell[0] - 1, cell[1]
    for letters, row in _REFERENCE.findall(formula.partition(b">")[2]):
        yield int(row), column_index(letters)


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
        scan = RowReader(source.package, sheet.part)
        asked_row = 0 if source.reading.no_header else source.reading.header_row
        seen = survey_sheet(scan, source.cells, asked_row, tables, f"{name}, {sheet.name}")
        if seen is not None:
            workbook = Workbook(source, sheet, tables, seen, scan)
            if catalog.calculation.is_stale and not source.reading.trust_formulas:
                source.cells.computed = workbook.computed
            workbook.notes = tuple(_notes(workbook, catalog, source.reading))
            return workbook
    what = f"the sheet {candidates[0].name!r} is" if asked else "all its sheets are"
    raise SheetError(f"{name}: {what} empty; name a sheet with a header row")


def _notes(workbook: Workbook, catalog: Catalog, reading: Reading) -> Iterator[str]:
    others = [repr(sheet.name) for sheet in catalog.sheets if sheet.is_visible and sheet.name != workbook.name]
    if others and reading.sheet is None:
        more = ", …" if len(others) > MOST_NAMED else ""
        yield f"the sheet {workbook.name!r} is read; --sheet reads another: {', '.join(others[:MOST_NAMED])}{more}"
    if workbook.repeated:
        yield f"not run, since it is the header row once more: {row_list(workbook.repeated)}"
    seen = workbook._seen
    if seen.totals:
        yield f"not run, since it adds up its column: {row_list(seen.totals)}"
    if seen.outside and seen.end:
        yield f"not run, since it stands below row {seen.end.last}, and {seen.end.what}: {row_list(seen.outside)}"
    if workbook.aside:
        letters = ", ".join(column.letter for column in workbook.aside)
        what = f"column{'s' * (len(workbook.aside) > 1)} {letters}"
        yield f"not sent unless --columns names it, since it belongs to another table or stands beside this one: {what}"
    if apart := _behind_gap(workbook):
        letters = ",".join(column.letter for column in apart)
        what = f"columns {letters.replace(',', ', ')}; --exclude {letters} leaves them out"
        yield f"sent like the others, though they stand behind an empty column: {what}"
    if workbook.hidden_rows:
        done = "left out" if reading.hidden == "skip" else "read like the others"
        yield f"hidden or filtered-out rows among the data: {workbook.hidden_rows}, {done}"
    if workbook.package.is_signed:
        yield "the workbook is digitally signed; what is written from it is another file, and the signature won't hold"


def _behind_gap(workbook: Workbook) -> tuple[Column, ...]:
    """The columns of what may be a list of its own: two or more behind a column without any text.

    An earlier output's are none.
    """
    places = [column.index for column in workbook.columns]
    filled = {*places, *workbook.strays, *(column.index for column in workbook.aside)}
    gaps = [at for at in range(min(places, default=0), max(places, default=0)) if at not in filled]
    apart = tuple(column for column in workbook.columns if gaps and column.index > gaps[0])
    return apart if len(apart) > 1 and not any(column.name.lower().endswith("run_id") for column in apart) else ()


class OpenedWorkbook(msgspec.Struct, frozen=True):
    """A workbook that has been opened: what all its sheets share."""

    path: Path
    snapshot: Snapshot
    package: Package
    cells: Cells
    reading: Reading
    scratch: Path


def _columns_of(seen: WorkbookSurvey) -> tuple[tuple[Column, ...], tuple[Column, ...]]:
    """The list's own columns, and those beside it."""
    headers = {index: name for index, name in enumerate(seen.headers) if name}
    own = (Column(name, index, column_letter(index)) for index, name in headers.items() if index not in seen.foreign)
    letters = ((index, column_letter(index)) for index in sorted(seen.foreign))
    return tuple(own), tuple(Column(headers.get(index, letter), index, letter) for index, letter in letters)


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
        self.columns, self.aside = _columns_of(seen)
        self.sums = seen.sums
        self.width = seen.width
        self.notes = ()
        self.fingerprint = source.snapshot.fingerprint
        self.scratch = source.scratch
        self.package = source.package
        self.part = sheet.part
        """The name of the sheet's part in the package."""
        self.tables = tables
        self.table = seen.table
        self.is_table = seen.table is not None
        hidden = scan.beside.hidden_columns
        self.hidden_columns = frozenset(
            column.index for column in self.columns if any(a <= column.index + 1 <= b for a, b in hidden)
        )
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
        self._may_have_computed = scan.may_have_computed
        self._source = source
        self._kinds = {
            **dict.fromkeys(seen.repeated, RowKind.REPEATED),
            **dict.fromkeys(seen.totals, RowKind.TOTALS),
            **dict.fromkeys(seen.outside, RowKind.OUTSIDE),
        }
        self._seen = seen

    @cached_property
    def computed(self) -> tuple[tuple[int, int, int, int], ...]:
        """See `computed_ranges`: looked for once, and only where the survey has met their words."""
        return computed_ranges(self.package, self.part) if self._may_have_computed else ()

    def rows(self) -> Iterator[Row]:
        """As `Sheet.rows`."""
        return chain.from_iterable(rows for rows, _ in self._alike())

    def typed_rows(self, places: Collection[int]) -> Iterator[TypedRow]:
        """As `Sheet.typed_rows`. Formatting a cell costs more than reading it: only what is asked for is formatted."""
        cells = self._source.cells.shown()
        for row, raw in self._rows():
            typed = cells.typed_cells(raw, places) if raw is not None else {}
            yield TypedRow(row.number, row.kind, row.texts, row.problems, suspicion=row.suspicion, typed=typed)

    def volatile_columns(self) -> dict[int, str]:
        """As `Sheet.volatile_columns`: those where most of the first cells hold such formulas."""
        formulas: dict[tuple[int, int], bytes] = {}
        filled: Counter[int] = Counter()
        for row, raw in islice(self._rows(), self.header_row + VOLATILE_LOOK):
            if raw is None:
                continue
            for order, formula in enumerate(raw.formulas):
                place = self._source.cells.place(raw, order)
                if formula:
                    formulas[row.number, place] = formula
                if row.kind is RowKind.DATA and self._source.cells.is_filled(raw, order):
                    filled[place] += 1
        names: dict[int, list[str]] = {}
        for (number, place), name in volatile_cells(formulas).items():
            if number > self.header_row:
                names.setdefault(place, []).append(name)
        return {place: found[0] for place, found in names.items() if 2 * len(found) > filled[place]}

    def describe_formats(self) -> tuple[str, ...]:
        """As `Sheet.describe_formats`."""
        names = {column.index: column.name for column in self.columns}
        found = sorted(self._source.cells.format_notes.values(), key=lambda one: one.index)
        return tuple(f"{names[one.index]}, {one}" for one in found if one.index in names)

    @property
    def list_width(self) -> int:
        """Up to which place the list's own columns go; less than `width` where others have text right of them."""
        own = (*(column.index for column in self.columns), *self.strays)
        return (
            max(own, default=-1) + 1
            if any(column.index > max(own, default=-1) for column in self.aside)
            else self.width
        )

    def has_room(self, first: int, last: int) -> bool:
        """Whether no cell of the list's rows holds a value or a formula in these columns; looks at all rows."""
        for raw in RowReader(self.package, self.part, quick=self._quick):
            if self.header_row <= raw.number <= self.last_data_row:
                for order, (formula, value) in enumerate(zip(raw.formulas, raw.values, strict=True)):
                    if (formula or value) and first <= self._source.cells.place(raw, order) <= last:
                        return False
        return True

    def _rows(self) -> Iterator[tuple[Row, RawRow | None]]:
        """Every row, and what it was read from: None for one that the file leaves out."""
        for rows, raw in self._alike():
            yield from zip(rows, raw, strict=True)

    def _alike(self) -> Iterator[tuple[Iterable[Row], Iterable[RawRow | None]]]:
        """The same, many at a time where they are alike."""
        blank = ("",) * self.width
        number = 0
        merged, judge = MergedCells(self.merges, self.header_row), Judge(self)
        for found in RowReader(self.package, self.part, quick=self._quick).alike():
            if isinstance(found, AlikeRows) and (rows := self._together(found, number, merged)):
                number = rows[-1].number
                yield map(judge.judged, rows), found.rows()
                if number == self.last_row:
                    return
                continue
            for raw in (found,) if isinstance(found, RawRow) else found.rows():
                for gap in range(number + 1, raw.number):
                    yield (judge.judged(Row(gap, RowKind.EMPTY, blank)),), (None,)
                number = raw.number
                yield (judge.judged(self._row(raw, merged)),), (raw,)
                if number == self.last_row:
                    return

    def _together(self, raw: AlikeRows, before: int, merged: MergedCells) -> list[Row] | None:
        """Rows that are alike, if all are data without a gap, and nothing about them has to be looked at one by one."""
        first, last = raw.numbers[0], raw.numbers[-1]
        end, seen, cells = self.table.totals_row if self.table else None, self._seen, self._source.cells
        is_plain = max(self.header_row, before) < first and last <= self.last_row and last < (end or last + 1)
        if not is_plain or last - before != len(raw.numbers) or seen.foreign or seen.grown or merged.reach(first, last):
            return None
        texts = cells.texts_together(raw, self.width) if self._kinds.keys().isdisjoint(raw.numbers) else None
        if texts is None or not cells.has_noted(raw) or not all(map(_has_text, texts)):
            return None
        numbers = cells.numbers_together(raw, self.width)
        return [
            Row(number, RowKind.DATA, own, (), None, forms)
            for number, own, forms in zip(raw.numbers, texts, numbers, strict=True)
        ]

    def _row(self, raw: RawRow, merged: MergedCells) -> Row:
        texts, problems = self._source.cells.texts(raw, self.width)
        kind = self._kind(raw)
        foreign = self._seen.foreign
        own = [text for place, text in enumerate(texts) if place not in foreign] if foreign else texts
        if kind is not RowKind.OUTSIDE and not any(map(str.strip, own)) and not any(p.refuses for p in problems):
            kind = RowKind.EMPTY
        if kind is RowKind.DATA:
            self._source.cells.note(raw)
        if merged.reaches(raw.number):
            texts, problems = merged.cleared(raw.number, texts, problems)
            texts, problems = merged.carried(raw.number, kind, texts, problems, self.reading.merged)
        numbers = self._source.cells.numbers(raw, self.width)
        refusal = self._outgrown(raw.number)
        return Row(raw.number, kind, tuple(texts), problems, None, numbers, refusal)

    def _outgrown(self, number: int) -> str | None:
        end = self._seen.end
        if end is None or number not in self._seen.grown:
            return None
        return (
            f"{self.path.name}, {self.name}, row {number}: it looks like data, but stands below row {end.last}, and "
            f"{end.what}; make that include the row, or put an empty row between them"
        )

    def _kind(self, raw: RawRow) -> RowKind:
        if raw.number <= self.header_row:
            return RowKind.HEADER if raw.number == self.header_row else RowKind.ABOVE
        if self.table and self.table.totals_row and raw.number >= self.table.totals_row:
            return RowKind.TOTALS
        if raw.number in self._kinds:
            return self._kinds[raw.number]
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
            merged="first",
            as_shown=self.reading.as_shown,
            trust_formulas=self.reading.trust_formulas,
        )

    def close(self) -> None:
        """Let go of the private copy."""
        self.package.close()
        self._source.snapshot.file.close()


def _has_text(texts: tuple[str, ...]) -> bool:
    return any(map(str.strip, texts))


def _refuse_unclear(sheet: Workbook) -> None:
    """Raises `SheetError` where a row's texts couldn't be told apart by header, or nobody knows which rows count."""
    if not sheet.columns:
        raise SheetError(
            f"{sheet.address(sheet.header_row, 0)}: no header stands in row {sheet.header_row}; name another"
        )
    if sheet.doubt is not None:
        raise SheetError(f"{sheet.path.name}, {sheet.name}: {sheet.doubt}")
    if sheet.hidden_rows and sheet.reading.hidden is None:
        where = f"{sheet.path.name}, {sheet.name}: hidden or filtered-out rows among the data: {sheet.hidden_rows}"
        raise SheetError(f"{where}, the first is row {sheet.first_hidden}; say --hidden include or --hidden skip")
