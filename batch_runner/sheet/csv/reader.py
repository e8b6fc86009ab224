"""A CSV or TSV file as a sheet: one look at all of it, its header row, its rows."""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from batch_runner.errors import SheetError, Unlike
from batch_runner.sheet.csv.encoding import end_of_text, find_encoding, open_text, refuse_other_text, texts
from batch_runner.sheet.csv.records import (
    DELIMITERS,
    OpenQuote,
    TextFile,
    dialect_of_one_column,
    dividing,
    find_dialect,
    has_text,
    is_blank,
    line_end,
    line_ends,
    unwrapped,
    whole_fields,
)
from batch_runner.sheet.csv.writer import Appending, appended_fields, write_text
from batch_runner.sheet.header import LOOK, FirstRow, added_up, find_header, header_doubt, repeats_header
from batch_runner.sheet.model import (
    Column,
    Judge,
    NewColumns,
    Reading,
    Row,
    RowKind,
    Sheet,
    column_letter,
    row_list,
)
from batch_runner.sheet.snapshot import Snapshot, take_whole_lines, uncopied

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import BinaryIO

    from batch_runner.sheet.csv.records import Dialect


SAMPLE = 1 << 16
"""Characters from which the delimiter is found."""


def open_csv(path: Path, reading: Reading, scratch: Path) -> Sheet:
    """Open a .csv or .tsv file as a sheet: one private copy in `scratch`, one look at all of it.

    Raises `SheetError` for a file that isn't text or no table, has no header row or more than one that could be it,
    holds a quote that never closes, has two equal headers or data under an empty one, or is still being written.
    """
    if reading.sheet is not None:
        raise SheetError(f"{path.name}: a text file has no sheets; leave out --sheet")
    return _open(path, take_whole_lines(path, scratch), reading, scratch)


def view_csv(path: Path, reading: Reading, scratch: Path) -> Sheet:
    """Open a .csv or .tsv file that nobody else has yet, such as a draft of the output: as it is, without a copy."""
    return _open(path, uncopied(path), reading, scratch)


def _misquoted(name: str, row: int, what: str) -> SheetError:
    return SheetError(f"{name}, row {row}: {what}")


def _open(path: Path, snapshot: Snapshot, reading: Reading, scratch: Path) -> Sheet:
    try:
        source = _text_file(snapshot, path.name, reading)
        header_row, headers = _header_of(source, path.name, reading)
        seen = survey(source.records(), source.dialect, header_row, headers)
        if seen.misquoted is not None:
            raise _misquoted(path.name, *seen.misquoted)
        sheet = CsvSheet(path, source, reading, header_row, headers, seen, scratch)
    except OpenQuote as quote:
        snapshot.file.close()
        raise SheetError(
            f"{path.name}: the quote that opens in line {quote.line} never closes; close it, or double it if it is text"
        ) from None
    except SheetError:
        snapshot.file.close()
        raise
    sheet.cautions = tuple(_cautions(source, path.name, reading))
    if seen.open_end:
        end = f"the last row, {seen.open_end}, has no line end; if the file was cut off, that row isn't whole"
        sheet.torn = (f"{path.name}: {end}",)
    sheet.notes = (*sheet.cautions, *_notes(source, path.name, reading, headers, seen), *sheet.torn)
    return sheet


class CsvSheet(Sheet):
    """A text file of records. Its numbers, headers and texts are as `Sheet` says; fields are text, never guessed at."""

    name = None

    def __init__(
        self,
        path: Path,
        source: TextFile,
        reading: Reading,
        header_row: int,
        headers: Sequence[str],
        seen: Survey,
        scratch: Path,
    ) -> None:
        self.path = path
        self.header_row = header_row
        self.columns = tuple(
            Column(header, index, column_letter(index)) for index, header in enumerate(headers) if header
        )
        self.strays = seen.strays
        self.width = max(len(headers), max(seen.strays, default=-1) + 1)
        self.row_count = seen.row_count
        self.reach = seen.reach
        self.notes = ()
        self.fingerprint = source.snapshot.fingerprint
        self.scratch = scratch
        self._headers = headers
        self.source = source
        self._reading = reading
        self._seen = seen
        self._lost_end = source.lost_end()
        more_marks = source.encoding.bom.decode(source.encoding.codec)[1:]
        if more_marks and header_row == 1 and headers[0]:
            self.former_headers = {0: more_marks + headers[0]}

    def rows(self) -> Iterator[Row]:
        """As `Sheet.rows`."""
        width, header_row = self.width, self.header_row
        kinds = {
            **dict.fromkeys(self._seen.repeated, RowKind.REPEATED),
            **dict.fromkeys(self._seen.totals, RowKind.TOTALS),
        }
        unwraps = bool(self._seen.wrapped) and not self._reading.as_shown
        padding, judge = [""] * width, Judge(self)
        for number, fields in enumerate(islice(self._records(), self._seen.last_row), 1):
            kind = kinds.get(number, RowKind.DATA)
            if number <= header_row:
                kind = RowKind.HEADER if number == header_row else RowKind.ABOVE
            if not (fields and fields[0].strip()) and is_blank(fields):
                kind = RowKind.EMPTY
            former = None
            if unwraps:
                texts = [unwrapped(field) for field in fields]
                pairs = enumerate(zip(fields, texts, strict=True))
                former = {place: field for place, (field, text) in pairs if field != text} or None
                fields = texts  # noqa: PLW2901  as a person sees them
            refusal = None
            own = len(self._headers)
            if len(fields) > own and kind is RowKind.DATA and any(map(str.strip, fields[own:])):
                refusal = (
                    f"{self.path.name}, row {number}: it has more fields than there are headers, so its cells may "
                    "stand in the wrong columns; put a text that holds the delimiter in quotes"
                )
            if self._lost_end and fields and number == self._seen.last_row:
                former = {**(former or {}), len(fields) - 1: fields[-1] + self._lost_end}
            if len(fields) != width:
                fields = (fields + padding)[:width]  # noqa: PLW2901  the same record, as wide as the table
            yield judge.judged(Row(number, kind, tuple(fields), (), former, None, refusal))

    def _records(self) -> Iterator[list[str]]:
        """The fields of each record. A CR inside one, which the stdlib's reader can't have, takes a longer way."""
        dialect = self.source.dialect
        if self._seen.inner_cr:
            yield from (dialect.one(text) for text, _size in self.source.records())
            return
        with self.source.lines() as lines:
            yield from dialect.fields(lines)

    def append(
        self, target: BinaryIO, new: NewColumns, cells: Iterable[tuple[int, tuple[str, ...]]]
    ) -> tuple[str, ...]:
        """As `append_columns`: each record's own bytes stay, the new fields follow where all of them begin."""
        start = self.columns[-new.replaced].index if new.replaced else self.reach
        appending = Appending(self.source, self.header_row, start, new)
        encoding = self.source.encoding
        used = write_text(target, appending.records(cells), self.source, self.scratch)
        if used == encoding or encoding.codec == "ascii":
            return ()
        return (
            f"{self.path.name} is in {encoding.label}, which can't hold all of the new text: "
            f"the output is in UTF-8 with a byte order mark",
        )

    def appended(self, path: Path, new: NewColumns) -> Iterator[tuple[int, tuple[str, ...]]]:
        """As `export.appended`, in what `append` wrote."""
        if new.kept or not {column.name for column in self.columns}.isdisjoint(new.headers):
            raise Unlike  # of two equal headers, the reader has to say that it can't tell them apart
        return appended_fields(self.source, path, self.reach, len(new.headers))

    def reading_again(self) -> Reading:
        """As `Sheet.reading_again`."""
        return Reading(
            header_row=self.header_row or None,
            no_header=not self.header_row,
            encoding=self.source.encoding.codec,
            delimiter=self.source.dialect.delimiter,
            as_shown=self._reading.as_shown,
        )

    def close(self) -> None:
        """Let go of the private copy."""
        self.source.snapshot.file.close()


def _text_file(snapshot: Snapshot, name: str, reading: Reading) -> TextFile:
    encoding = find_encoding(snapshot, name, reading.encoding)
    end = end_of_text(snapshot, encoding)
    with open_text(snapshot, encoding, end) as text:
        sample = text.read(SAMPLE)
    refuse_other_text(sample, name)
    found = find_dialect(sample, name, reading.delimiter, is_whole=len(sample) < SAMPLE)
    dialect = found or dialect_of_one_column(texts(snapshot, encoding), name)
    return TextFile(snapshot, encoding, dialect, end, line_ends(sample))


def _header_of(source: TextFile, name: str, reading: Reading) -> tuple[int, list[str]]:
    """The header row's number, and its cells up to the last one with text; "" for one without.

    Without a header row that is 0 and the columns' letters. Raises `SheetError`, `OpenQuote`.
    """
    if reading.no_header:
        return 0, _letters(source, name)
    if reading.header_row is None:
        number, fields = _found(source, name)
    else:
        number, fields = _asked(source, name, reading.header_row)
    texts = fields if reading.as_shown else [unwrapped(field) for field in fields]
    headers = [text.lstrip("\ufeff") if text.strip() else "" for text in texts]
    while headers and not headers[-1]:
        headers.pop()
    if not headers:
        raise SheetError(f"{name}: no header stands in row {number}; name another with --header-row")
    return number, headers


def _letters(source: TextFile, name: str) -> list[str]:
    width = max((FirstRow(0, tuple(map(str.strip, fields))).width for fields in _fields(source)), default=0)
    if not width:
        raise SheetError(f"{name}: the file is empty; name a file with rows")
    return [column_letter(index) for index in range(width)]


def _fields(source: TextFile) -> Iterator[list[str]]:
    return (source.dialect.one(text) for text, _size in source.records())


def _asked(source: TextFile, name: str, asked: int) -> tuple[int, list[str]]:
    fields = next(islice(_fields(source), asked - 1, asked), []) if asked > 0 else []
    if is_blank(fields):
        raise SheetError(f"{name}: there is nothing in row {asked}; name another with --header-row")
    return asked, fields


def _found(source: TextFile, name: str) -> tuple[int, list[str]]:
    filled = {}
    for number, fields in enumerate(_fields(source), 1):
        if not is_blank(fields):
            filled[number] = fields
        if len(filled) == LOOK:
            break
    rows = [FirstRow.of_texts(number, fields) for number, fields in filled.items()]
    place = find_header(rows)
    if place is None:
        raise SheetError(f"{name}: the file is empty; name a file with a header row")
    if doubt := header_doubt(rows, place):
        raise SheetError(f"{name}: {doubt}")
    if len(rows) == 1 and all(text[:1] == " " for text in rows[0].texts[1:]):  # one text, or prose with its commas
        text = source.dialect.delimiter.join(rows[0].texts)
        raise SheetError(
            f"{name}: all that it holds is {text[:60]!r}; if those are the headers of an empty list, say "
            f"--header-row {place}"
        )
    return place, filled[place]


_BROKEN = "it looks like the rest of the row before it, in which a line break stands without quotes; put it in quotes"
_BEFORE_TEXT = ' \t"=\ufeff\xa0'
"""What may stand before the text of a record's first field."""


class Survey(msgspec.Struct, frozen=True):
    """What stands in the header row and below it.

    `last_row` is the number of the last row with text. `reach` is the greatest number of fields of a header or data
    record, empty ones included. `strays` are the places with text under no header, each with its first row.
    """

    row_count: int
    last_row: int
    reach: int
    strays: dict[int, int] = {}
    repeated: tuple[int, ...] = ()
    """The rows that are the header row once more."""
    totals: tuple[int, ...] = ()
    """The rows with a formula over the column above, as a person writes it: `=SUM(C2:C9)`."""
    wrapped: int = 0
    """The first row with a field like `="00123"`, 0 for none."""
    inner_cr: int = 0
    """The first row with a CR inside it that ends no line, 0 for none."""
    misquoted: tuple[int, str] | None = None
    """The first row whose quotes are no quotes (row number, the sentence for it)."""
    open_end: int = 0
    """The last row where it has no line end, else 0."""


class _RecordTally:
    """Counts the records below a header row, one after the other.

    A record is parsed only where its text leaves open whether it is blank, or has text under no header.
    """

    def __init__(self, dialect: Dialect, header_row: int, headers: Sequence[str]) -> None:
        self.dialect = dialect
        self.header_row = header_row
        self.headers = headers
        self.holes = [index for index, header in enumerate(headers) if not header]
        self.covered = self.holes[0] if self.holes else len(headers)
        """Up to this place no header is empty."""
        self.first = next((header.strip() for header in headers if header), "") if header_row else ""
        self.row_count, self.last_row, self.reach = 0, header_row, 0
        fields, mark = whole_fields(dialect.delimiter).pattern.removesuffix("+"), re.escape(dialect.delimiter)
        self.spaced = re.compile(rf'{fields} +"[^"{mark}\r\n]*(?:{mark}|[\r\n]|\Z)')
        self.escaped = re.compile(rf'{fields}"(?:[^"]|"")*+(?<=\\)"(?=[^{mark}\r\n])')
        self.repeated: list[int] = []
        self.totals: list[int] = []
        self.strays: dict[int, int] = {}
        self.width = 0
        self.before = ("", 0)
        self.ends_crlf = False
        self.wrapped = self.inner_cr = 0
        self.misquoted: tuple[int, str] | None = None

    def look_for_oddities(self, number: int, text: str) -> None:
        """What of a record's text has to be read in another way, or can't be read."""
        if '="' in text and not self.wrapped and any(unwrapped(one) != one for one in self.dialect.one(text)):
            self.wrapped = number
        if "\r" in text[:-2] and not self.inner_cr:
            self.inner_cr = number
        if self.misquoted is None and (what := self._misquoted(text)):
            self.misquoted = (number, what)

    def _misquoted(self, text: str) -> str | None:
        """Why a record's quotes don't quote as its writer meant, if so."""
        if '\\"' in text and self.escaped.match(text):
            return 'a quote inside a text is written as \\", which ends the text here; write "" for it'
        if ' "' in text and self.spaced.match(text):
            return "a quote that follows a blank quotes nothing, so a delimiter behind it divides; take the blank away"
        return None

    def is_broken(self, text: str, size: int) -> bool:
        """Whether a record is the rest of the one before it, which a LF has cut although lines end in CR LF."""
        before, fields = self.before
        is_cut = self.ends_crlf and before.endswith("\n") and not before.endswith("\r\n")
        return is_cut and text.endswith("\r\n") and fields + size - 1 == self.width

    def repeats(self, text: str) -> bool:
        """Whether a record is the header row once more."""
        if not self.first or not text.lstrip(_BEFORE_TEXT + self.dialect.delimiter).startswith(self.first):
            return False
        return repeats_header(self.headers, [unwrapped(field) for field in self.dialect.one(text)])

    def adds_up(self, number: int, text: str) -> bool:
        """Whether a field of a record is a formula over the column above."""
        if "(" not in text:
            return False
        fields = enumerate(self.dialect.one(text))
        return any(added_up(one.strip().encode(), column_letter(place).encode(), number) for place, one in fields)

    def note_strays(self, number: int, text: str, size: int) -> None:
        """Note the places of a record's fields with text under an empty header, or beyond the last."""
        delimiter = self.dialect.delimiter
        if size <= self.covered or text.rstrip(f"{delimiter}\r\n").count(delimiter) < self.covered:
            return
        fields = self.dialect.one(text)
        for place in (*self.holes, *range(len(self.headers), len(fields))):
            if place < len(fields) and fields[place].strip():
                self.strays.setdefault(place, number)


def survey(records: Iterable[tuple[str, int]], dialect: Dialect, header_row: int, headers: Sequence[str]) -> Survey:
    """Count the data rows under a header row; `records` are (text, number of fields) from the first on."""
    tally = _RecordTally(dialect, header_row, headers)
    number, text = 0, ""
    for number, (text, size) in enumerate(records, 1):
        is_odd = '"' in text and ('="' in text or ' "' in text or '\\"' in text)
        if is_odd or ("\r" in text and text.find("\r") < len(text) - 2):
            tally.look_for_oddities(number, text)
        if number <= header_row:
            tally.reach = tally.width = size
            tally.before = (text, size)
            tally.ends_crlf = text.endswith("\r\n")
            continue
        if (size > tally.covered or not text[0].isalnum()) and not has_text(text, dialect):
            continue
        tally.reach = max(tally.reach, size)
        tally.last_row = number
        if size < tally.width and tally.is_broken(text, size):
            tally.misquoted = tally.misquoted or (number, _BROKEN)
        tally.before = (text, size)
        if tally.first in text and tally.repeats(text):
            tally.repeated.append(number)
            continue
        if "=" in text and tally.adds_up(number, text):
            tally.totals.append(number)
            continue
        tally.note_strays(number, text, size)
        tally.row_count += 1
    return Survey(
        tally.row_count, tally.last_row, tally.reach, tally.strays, tuple(tally.repeated), tuple(tally.totals),
        tally.wrapped,
        tally.inner_cr, tally.misquoted, number if number == tally.last_row > header_row and not line_end(text) else 0,
    )  # fmt: skip


def _cautions(source: TextFile, name: str, reading: Reading) -> Iterator[str]:
    """A guess that may be wrong without anybody's seeing it: it is told once, also to those who want no notes."""
    if reading.encoding is None and source.encoding.codec not in ("utf-8", "ascii"):
        yield f"{name} was read as {source.encoding.label}; if letters look wrong, name its encoding with --encoding"


def _notes(source: TextFile, name: str, reading: Reading, headers: Sequence[str], seen: Survey) -> Iterator[str]:
    """What was found rather than said, where it isn't what one would expect; and what was said and fits badly."""
    if reading.delimiter is None and source.dialect.delimiter != DELIMITERS.get(Path(name).suffix.lower(), ","):
        what = "fields are" if len(headers) > 1 else "each line is one field; the new columns are"
        yield f"{name}: {what} separated by {source.dialect.label}"
    if reading.delimiter is not None and len(headers) == 1 and (other := dividing(headers[0])):
        yield f"{name}: with this --delimiter all of it is one column; {other.label} would divide the headers"
    if seen.repeated:
        yield f"{name}: not run, since it is the header row once more: {row_list(seen.repeated)}"
    if seen.totals:
        yield f"{name}: not run, since it adds up its column: {row_list(seen.totals)}"
    if seen.wrapped and not reading.as_shown:
        yield (
            f'{name}: fields such as ="00123", the first in row {seen.wrapped}, are read as the text in them, 00123; '
            "--as-shown sends them to the letter"
        )
    if seen.inner_cr:
        yield f"{name}: a CR that ends no line, the first in row {seen.inner_cr}, is read as a part of its text"
