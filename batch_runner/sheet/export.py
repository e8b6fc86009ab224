"""Opens a spreadsheet, whatever its format, and writes one in another; that is opened again to be checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import msgspec

from batch_runner.errors import SheetError, Unlike
from batch_runner.sheet.csv.reader import CsvSheet, open_csv, view_csv
from batch_runner.sheet.csv.records import DELIMITERS
from batch_runner.sheet.csv.writer import harmless, replaced, storable, write_lines, write_table_of_text, write_text
from batch_runner.sheet.model import (
    LIST_ROWS,
    TEXT_ENDINGS,
    WORKBOOK_ENDINGS,
    NewCells,
    Reading,
    RowKind,
    TypedRow,
    column_letter,
)
from batch_runner.sheet.xlsx.package import Package
from batch_runner.sheet.xlsx.row_reader import MAX_ROWS
from batch_runner.sheet.xlsx.workbook import Workbook, open_workbook, view_workbook
from batch_runner.sheet.xlsx_append.xml_tokens import CELL_UNITS, MAX_COLUMNS, fits, new_cells, xstring

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import BinaryIO

    import polars
    from openpyxl.cell import Cell
    from openpyxl.worksheet.worksheet import Worksheet

    from batch_runner.sheet.model import Column, NewColumns, Row, Sheet


def open_sheet(path: Path, reading: Reading, scratch: Path) -> Sheet:
    """Open a sheet, keep it as it is now, and look at all of it once.

    `scratch` is the folder for the private copy, which vanishes with the process. Raises `SheetError`.
    """
    ending = path.suffix.lower()
    if ending in TEXT_ENDINGS:
        return open_csv(path, reading, scratch)
    if ending in WORKBOOK_ENDINGS:
        return open_workbook(path, reading, scratch)
    raise SheetError(f"{path.name}: not a file this program reads; save it as .xlsx, .xlsm, .csv or .tsv")


_R = TypeVar("_R", bound="Row")

NARROWEST, WIDEST = 12, 40
"""Characters that a column shows."""
_GUESSED = ("=", "#")
"""How a text begins that openpyxl takes for a formula or an error."""


def write_workbook(target: BinaryIO, grid: Grid) -> None:
    """Write a workbook of one sheet, every cell a text. Raises `SheetError` for what a workbook can't hold."""
    from zipfile import ZIP_DEFLATED, ZipFile

    import openpyxl
    from openpyxl.writer.excel import ExcelWriter

    from batch_runner.sheet.xlsx_append.sheet_xml import pack_less

    book = openpyxl.Workbook(write_only=True)
    page = book.create_sheet(grid.sheet.name or "Sheet1")
    try:
        _set_widths(page, grid)
        for row, texts in grid.rows():
            _refuse_row(grid, row, texts)
            page.append([_value(page, text) for text in texts])
    except BaseException:
        page.close()
        raise
    with ZipFile(target, "w", ZIP_DEFLATED) as archive:  # closed here also where the disk is full
        ExcelWriter(book, archive).save()
    pack_less(target, grid.sheet.scratch)


def refuse_too_much(grid: Grid) -> None:
    """Raises `SheetError` for a sheet that a workbook can't hold, naming the first cell that is too much."""
    for row, texts in grid.rows():
        _refuse_row(grid, row, texts)


def _set_widths(page: Worksheet, grid: Grid) -> None:
    for place, header in zip(grid.places, grid.headers, strict=True):
        page.column_dimensions[column_letter(place)].width = max(NARROWEST, min(len(header) + 2, WIDEST))


def _value(page: Worksheet, text: str) -> Cell | str | None:
    """What openpyxl makes a text cell of; no cell for no text."""
    if not text.startswith(_GUESSED):
        return xstring(text) or None
    from openpyxl.cell import WriteOnlyCell

    cell = WriteOnlyCell(page, xstring(text))
    cell.data_type = "s"
    return cell


def _refuse_row(grid: Grid, row: Row, texts: Sequence[str]) -> None:
    if row.number > MAX_ROWS or len(texts) > MAX_COLUMNS:
        raise _too_much(grid.sheet.path.name, f"{MAX_ROWS:,} rows and {MAX_COLUMNS:,} columns")
    for index, text in enumerate(texts):
        if not fits(text):
            raise _too_much(grid.sheet.address(row.number, index), f"{CELL_UNITS:,} characters in a cell")


def _too_much(where: str, limit: str) -> SheetError:
    return SheetError(f"{where}: a workbook holds at most {limit}; name an output that ends in .csv")


AT_ONCE = 10_000
MOST_TEXT = 1 << 20
"""Characters that are handed on, read back or compressed at once, if one row doesn't have more: writer and reader of
Parquet hold several times as much."""
MOST_ROWS = 50_000
"""Rows that are compressed together at most."""


def _some_of(rows: Iterator[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The next of these rows: none more once they hold so much text that memory would grow with the results."""
    batch, size = [], 0
    for row in rows:
        batch.append(row)
        size += sum(map(len, row))
        if len(batch) >= AT_ONCE or size >= MOST_TEXT:
            break
    return batch


def write_parquet(target: BinaryIO, grid: Grid, longest: int) -> None:
    """Write the data rows, every column a string. They are drawn in a thread of polars' while this one waits."""
    import polars
    from polars.io.plugins import register_io_source

    schema = dict.fromkeys(grid.headers, polars.String)

    def frames(*_pushed_down: object) -> Iterator[polars.DataFrame]:
        rows = grid.data()
        count = -1
        while count:
            batch = _some_of(rows)
            count, frame = len(batch), [polars.DataFrame(batch, schema=schema, orient="row")]
            del batch
            yield frame.pop()

    at_once = min(MOST_TEXT // max(longest, 1) + 1, MOST_ROWS)
    register_io_source(frames, schema=schema).sink_parquet(target, row_group_size=at_once)


def open_written(path: Path, sheet: Sheet) -> Sheet:
    """Open what `Sheet.append` or `write_table` wrote from a sheet: row for row the same, hidden ones included.

    No private copy is made. Raises `SheetError`.
    """
    ending = path.suffix.lower()
    if ending == sheet.path.suffix.lower():
        reading = sheet.reading_again()
    elif ending in DELIMITERS:
        reading = Reading(encoding="utf-8", delimiter=DELIMITERS[ending], as_shown=True)
    else:
        reading = Reading(hidden="include", merged="first")
    reading = msgspec.structs.replace(reading, header_row=sheet.header_row or None, no_header=not sheet.header_row)
    if ending in DELIMITERS:
        return view_csv(path, reading, sheet.scratch)
    return view_workbook(path, reading, sheet.scratch)


def _own_names(sheet: Sheet, kept: Sequence[Column], new: Sequence[str]) -> dict[int, str]:
    """What each of a sheet's own columns is called where a name can stand but once, by their places."""
    names: dict[int, str] = {}
    headers = {column.name for column in kept}.union(new)
    for column in kept:
        is_taken = column.name in names.values()
        names[column.index] = _free(f"{column.name} ({column.letter})", headers) if is_taken else column.name
    for place in sheet.strays:
        names[place] = _free(column_letter(place), headers.union(names.values()))
    return dict(sorted(names.items()))


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "'"
    return name


class Grid:
    """The rows of a sheet as they are to be written. May be gone through once."""

    def __init__(self, sheet: Sheet, new: NewColumns, cells: Iterable[tuple[int, tuple[str, ...]]]) -> None:
        self.sheet = sheet
        self.start = sheet.columns[-new.replaced].index if new.replaced else sheet.width
        """Where the new columns begin."""
        kept = sheet.columns[: len(sheet.columns) - new.replaced]
        kept = (*kept, *(column for column in sheet.columns[len(kept) :] if column.index in new.kept))
        self.new_places = new.places_from(self.start)
        own = _own_names(sheet, kept, new.headers)
        named = sorted([*own.items(), *zip(self.new_places, new.headers, strict=True)])
        self.headers = tuple(name for _place, name in named)
        """Each once: of two equal ones the second has its letter beside it, and a column without one is called so."""
        self.places = tuple(place for place, _name in named)
        """Where each of `headers` stands in the row, from 0."""
        self._new = new
        self._cells = cells

    def rows(self) -> Iterator[tuple[Row, tuple[str, ...]]]:
        """(row, its texts with the new ones) for every row of the sheet, in order."""
        return ((row, self._woven(row.texts, new)) for row, new in self._beside(self.sheet.rows()))

    def _beside(self, every: Iterable[_R]) -> Iterator[tuple[_R, tuple[str, ...]]]:
        new = NewCells(self._cells)
        nothing = ("",) * len(self._new.headers)
        for row in every:
            yield row, self._new.headers if row.kind is RowKind.HEADER else new.of(row.number) or nothing
        new.finish()

    def _woven(self, own: tuple[str, ...], new: tuple[str, ...]) -> tuple[str, ...]:
        """The texts of a row: the new ones at their places, all others as they stood."""
        if not self._new.kept:
            return (*own[: self.start], *new)
        texts = dict(enumerate(own)) | dict(zip(self.new_places, new, strict=True))
        return tuple(texts.get(place, "") for place in range(max(texts) + 1))

    def texts(self) -> Iterator[tuple[str, ...]]:
        """The texts of every row of the sheet, as a text file may have them.

        What is text in a workbook would be a formula in a text file (`=cmd|…`), so it is made harmless. A number stays
        as it is, and so does what a text file had.
        """
        is_workbook = isinstance(self.sheet, Workbook)
        rows = self.sheet.typed_rows(range(self.sheet.width)) if is_workbook else self.sheet.rows()
        for row, new in self._beside(rows):
            own = row.texts
            if isinstance(row, TypedRow):
                own = tuple(text if place in row.typed else harmless(text) for place, text in enumerate(own))
            yield self._woven(own, tuple(harmless(storable(text)) for text in new))

    def data(self) -> Iterator[tuple[str, ...]]:
        """One text for each of `headers`, for every row of data."""
        for row, texts in self.rows():
            if row.kind in LIST_ROWS:
                yield tuple(storable(texts[place]) for place in self.places)
            del texts  # they may be long, and the next ones are made before this name is given to them


def append_columns(
    sheet: Sheet, target: BinaryIO, new: NewColumns, cells: Iterable[tuple[int, tuple[str, ...]]]
) -> tuple[str, ...]:
    """Write the sheet's own file with new columns to `target`, which is seekable.

    `cells` are (row number, one text for each new header), in ascending order; rows that aren't named get empty cells.
    Returns notes for a person: a sentence each. All that isn't new stays byte for byte.
    """
    if isinstance(sheet, Workbook):
        from batch_runner.sheet.xlsx_append import append

        return append.append_columns(sheet, target, new, cells)
    assert isinstance(sheet, CsvSheet)
    return sheet.append(target, new, cells)


def replace_cells(sheet: Sheet, target: BinaryIO, cells: Mapping[tuple[int, int], str]) -> None:
    """Write the sheet's own file, other texts in these cells (row number, place). Raises `SheetError` if it can't."""
    from batch_runner.sheet.xlsx_append import append

    if isinstance(sheet, CsvSheet):
        write_text(target, replaced(sheet.source, cells), sheet.source, sheet.scratch)
    elif isinstance(sheet, Workbook):
        append.replace_cells(sheet, target, cells)


def make_room(sheet: Sheet, new: NewColumns) -> None:
    """Find where `append_columns` would put new columns, before any run is started.

    Raises `SheetError` where there is no room for them, naming what is in the way. A text file has room for any.
    """
    if isinstance(sheet, Workbook):
        from batch_runner.sheet.xlsx_append.append import place_of

        place_of(sheet, new)


def appended(sheet: Sheet, path: Path, new: NewColumns) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Each row's number and its texts in the new columns, in what `append_columns` wrote to `path`.

    Every row's own bytes, or the fields of a text file, have been compared with the sheet's by then. Raises `Unlike`
    where that can't be done, also in mid-iteration: read it by `open_written` then.
    """
    is_anew = new.replaced or (isinstance(sheet, CsvSheet) and new.kept)  # in the way of a comparison
    if is_anew or path.suffix.lower() != sheet.path.suffix.lower():
        raise Unlike
    if isinstance(sheet, CsvSheet):
        yield from sheet.appended(path, new)
        return
    assert isinstance(sheet, Workbook)
    from batch_runner.sheet.xlsx_append.append import place_of

    columns = tuple(column_letter(index) for index in place_of(sheet, new).places)
    with path.open("rb") as file:
        yield from new_cells(sheet.package, Package(file, path.name, by_zlib=True), sheet.part, columns)


TABLE_ENDINGS = (*DELIMITERS, ".xlsx", ".jsonl", ".parquet")


def write_table(
    target: BinaryIO,
    ending: str,
    sheet: Sheet,
    new: NewColumns,
    cells: Iterable[tuple[int, tuple[str, ...]]],
    longest: int = 0,
) -> tuple[str, ...]:
    """Write a sheet with new columns to `target`, which is seekable; `new` and `cells` are as for `append_columns`.

    `longest` is about how many characters the new cells of one row have at most.
    `.csv` and `.tsv` (UTF-8 with a byte order mark, without which Excel takes it for its locale's encoding; CR LF) and
    `.xlsx` (every cell a text, none a formula) have each row of the sheet in its place. `.jsonl` (an object a line) and
    `.parquet` are for programs: they have the data rows only, hidden ones included, by header. Returns notes for a
    person. Raises `SheetError` for another ending, and for a sheet that the format can't hold.
    """
    grid = Grid(sheet, new, cells)
    if ending in DELIMITERS:
        write_table_of_text(target, DELIMITERS[ending], grid.texts())
    elif ending == ".xlsx":
        write_workbook(target, grid)
    elif ending == ".jsonl":
        write_lines(target, grid.headers, grid.data())
    elif ending == ".parquet":
        write_parquet(target, grid, longest)
    else:
        ways = f"use one of {' '.join(TABLE_ENDINGS)}"
        raise SheetError(f"{sheet.path.name} can't be written as {ending or 'a file without ending'}; {ways}")
    return ()


def refuse_unwritable(sheet: Sheet, ending: str, new: NewColumns) -> None:
    """Find out before any run is started whether a sheet with new columns can be written as `ending`.

    Raises `SheetError`: no room for the columns in their own format, or a sheet that another format can't hold.
    """
    if isinstance(sheet, Workbook) and ending == ".xlsx" and sheet.path.suffix.lower() == ".xlsm":
        raise SheetError(
            f"{sheet.path.name}: as a {ending} it would lose its macros, formulas and other sheets; "
            "name an output that ends in .xlsm"
        )
    if ending == sheet.path.suffix.lower():
        make_room(sheet, new)
    elif ending == ".xlsx":
        refuse_too_much(Grid(sheet, new, ()))


READ_BACK = (*TEXT_ENDINGS, *WORKBOOK_ENDINGS)
"""The formats that can be opened again as a sheet."""


def written_headers(path: Path) -> tuple[str, ...]:
    """The headers of what was written as `.jsonl` or `.parquet`. Raises `SheetError` for what wasn't."""
    if path.suffix.lower() == ".jsonl":
        with path.open("rb") as file:
            try:
                return tuple(msgspec.json.decode(next(file, b""), type=dict[str, str]))
            except msgspec.DecodeError as error:
                raise SheetError(f"{path.name}: these are no lines of JSON objects: {error}") from error
    import polars

    try:
        return tuple(polars.scan_parquet(path).collect_schema())
    except polars.exceptions.PolarsError as error:
        raise SheetError(f"{path.name}: this is no Parquet file: {error}") from error


def written_lines(path: Path) -> Iterator[tuple[str, ...]]:
    """The texts of each row that `write_table` wrote as `.jsonl` or `.parquet`, in the order of its headers."""
    if path.suffix.lower() == ".jsonl":
        with path.open("rb") as file:
            while line := file.readline():
                texts = [tuple(msgspec.json.decode(line, type=dict[str, str]).values())]
                del line
                yield texts.pop()
        return
    import polars

    rows = polars.scan_parquet(path)
    start, count = 0, 1
    while len(page := rows.slice(start, count).collect()):
        start += len(page)
        yield from page.iter_rows()
        count = min(max(1, MOST_TEXT * len(page) // max(int(page.estimated_size()), 1)), 2 * count, AT_ONCE)
