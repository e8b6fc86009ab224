"""CSV and TSV files: reading them, and writing them back with new columns."""

from __future__ import annotations

from itertools import chain, islice
from typing import TYPE_CHECKING

from batch_runner.errors import SheetError
from batch_runner.sheet.model import Column, Reading, Row, RowKind, Sheet, column_letter, refuse_ambiguity
from batch_runner.sheet.snapshot import Snapshot, take_snapshot, uncopied
from batch_runner.sheet.text.appending import Appending, write_text
from batch_runner.sheet.text.dialect import dividing, find_dialect
from batch_runner.sheet.text.encoding import find_encoding, open_text
from batch_runner.sheet.text.records import OpenQuote
from batch_runner.sheet.text.survey import Survey, is_blank, survey
from batch_runner.sheet.text.textfile import TextFile
from batch_runner.sheet.text.textheader import header_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path
    from typing import BinaryIO

    from batch_runner.sheet.model import NewColumns


SAMPLE = 1 << 16
"""Characters from which the delimiter is found."""


def open_delimited(path: Path, reading: Reading, scratch: Path) -> Sheet:
    """Open a .csv or .tsv file as a sheet: one private copy in `scratch`, one look at all of it.

    Raises `SheetError` for a file that isn't text, has no header row, holds a quote that never closes, has two equal
    headers or data under an empty one.
    """
    if reading.sheet is not None:
        raise SheetError(f"{path.name}: a text file has no sheets; leave out --sheet")
    return _open(path, take_snapshot(path, scratch), reading, scratch)


def view_delimited(path: Path, reading: Reading, scratch: Path) -> Sheet:
    """Open a .csv or .tsv file that nobody else has yet, such as a draft of the output: as it is, without a copy."""
    return _open(path, uncopied(path), reading, scratch)


def _open(path: Path, snapshot: Snapshot, reading: Reading, scratch: Path) -> Sheet:
    try:
        source = _text_file(snapshot, path.name, reading)
        header_row, headers = header_of(source, path.name, reading.header_row)
        seen = survey(source.records(), source.dialect, header_row, headers)
        sheet = Delimited(path, source, header_row, headers, seen, scratch)
        refuse_ambiguity(sheet, seen.stray)
    except OpenQuote as quote:
        snapshot.file.close()
        raise SheetError(
            f"{path.name}: the quote that opens in line {quote.line} never closes; close it, or double it if it is text"
        ) from None
    except SheetError:
        snapshot.file.close()
        raise
    sheet.notes = tuple(_notes(source, path.name, reading, headers))
    return sheet


class Delimited(Sheet):
    """A text file of records. Its numbers, headers and texts are as `Sheet` says; fields are text, never guessed at."""

    name = None

    def __init__(
        self, path: Path, source: TextFile, header_row: int, headers: Sequence[str], seen: Survey, scratch: Path
    ) -> None:
        self.path = path
        self.header_row = header_row
        self.columns = tuple(
            Column(header, index, column_letter(index)) for index, header in enumerate(headers) if header
        )
        self.width = len(headers)
        self.row_count = seen.row_count
        self.notes = ()
        self.fingerprint = source.snapshot.fingerprint
        self._source = source
        self._seen = seen
        self.scratch = scratch

    def rows(self) -> Iterator[Row]:
        """As `Sheet.rows`."""
        width, header_row = self.width, self.header_row
        padding = [""] * width
        with self._source.lines() as lines:
            records = islice(self._source.dialect.fields(lines), self._seen.last_row)
            for number, fields in enumerate(records, 1):
                kind = RowKind.DATA
                if number <= header_row:
                    kind = RowKind.HEADER if number == header_row else RowKind.ABOVE
                if not (fields and fields[0].strip()) and is_blank(fields):
                    kind = RowKind.EMPTY
                if len(fields) != width:
                    fields = (fields + padding)[:width]  # noqa: PLW2901  the same record, as wide as the table
                yield Row(number, kind, tuple(fields))

    def append(
        self, target: BinaryIO, new: NewColumns, cells: Iterable[tuple[int, tuple[str, ...]]]
    ) -> tuple[str, ...]:
        """As `Sheet.append`: each record's own bytes stay, the new fields follow where all of them begin."""
        start = self.columns[-new.replaced].index if new.replaced else self._seen.reach
        appending = Appending(self._source, self.header_row, start, new.headers)
        encoding = self._source.encoding
        preface = [self._source.dialect.preface]
        used = write_text(target, chain(preface, appending.records(cells)), encoding, self.scratch)
        if used == encoding:
            return ()
        return (
            f"{self.path.name} is in {encoding.label}, which can't hold all of the new text: "
            f"the output is in UTF-8 with a byte order mark",
        )

    def reading_again(self) -> Reading:
        """As `Sheet.reading_again`."""
        return Reading(
            header_row=self.header_row, encoding=self._source.encoding.codec, delimiter=self._source.dialect.delimiter
        )

    def close(self) -> None:
        """Let go of the private copy."""
        self._source.snapshot.file.close()


def _text_file(snapshot: Snapshot, name: str, reading: Reading) -> TextFile:
    encoding = find_encoding(snapshot, name, reading.encoding)
    with open_text(snapshot, encoding) as text:
        dialect = find_dialect(text.read(SAMPLE), name, reading.delimiter)
    return TextFile(snapshot, encoding, dialect)


def _notes(source: TextFile, name: str, reading: Reading, headers: Sequence[str]) -> Iterator[str]:
    """What was found rather than said, where it isn't what one would expect; and what was said and fits badly."""
    if reading.encoding is None and source.encoding.codec != "utf-8":
        yield f"{name} was read as {source.encoding.label}; if letters look wrong, name its encoding with --encoding"
    if reading.delimiter is None and source.dialect.delimiter not in {
        ",",
        "\t" if name.lower().endswith(".tsv") else ",",
    }:
        yield f"{name}: fields are separated by {source.dialect.label}"
    if reading.delimiter is not None and len(headers) == 1 and (other := dividing(headers[0])):
        yield f"{name}: with this --delimiter all of it is one column; {other.label} would divide the headers"
