"""Writing a CSV file back with new columns: each record's own bytes stay, new fields follow them. And lines of JSON."""

from __future__ import annotations

import codecs
import csv
import shutil
import tempfile
from io import TextIOWrapper
from itertools import chain, repeat, zip_longest
from typing import TYPE_CHECKING

import msgspec

from batch_runner.errors import Unlike
from batch_runner.sheet.csv.encoding import CHUNK, Encoding
from batch_runner.sheet.csv.records import has_text, line_end, whole_fields
from batch_runner.sheet.model import NewCells
from batch_runner.sheet.snapshot import uncopied
from batch_runner.units import plain_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import IO, BinaryIO

    from batch_runner.sheet.csv.records import TextFile
    from batch_runner.sheet.model import NewColumns


AT_ONCE = 1 << 18
"""Characters that are encoded and written together."""
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\v", "\f", "\x85", "\u2028", "\u2029", "＝", "＋", "－", "＠")
"""What makes a spreadsheet take a field for a formula (OWASP, *CSV Injection*): also behind a line break, which some
programs pass over, and in full width, as Excel has it in East Asian locales.
"""
_TO_QUOTE = frozenset('"\r\n\0\x1a')
"""Also what would be no text at the end of a file."""


class Appending:
    """New columns for a text file, whose first one stands at the place `start` of every record."""

    def __init__(self, source: TextFile, header_row: int, start: int, new: NewColumns) -> None:
        self._source = source
        self._header_row = header_row
        self._start = start
        self._headers = new.headers
        self._places = new.places_from(start) if new.kept else ()
        """Where they stand, if fields of the person's own stand between or behind them."""
        self._delimiter = source.dialect.delimiter
        self._kept = whole_fields(self._delimiter, start)
        self._field = whole_fields(self._delimiter, 1)

    def records(self, cells: Iterable[tuple[int, tuple[str, ...]]]) -> Iterator[str]:
        """Every record of the file, in order; those of header and data rows with new fields."""
        new = NewCells(cells)
        nothing = ("",) * len(self._headers)
        dialect = self._source.dialect
        yield dialect.preface
        for number, (text, size) in enumerate(self._source.records(), 1):
            texts = new.of(number)
            if number == self._header_row:
                yield self._extended(text, size, self._headers)
            elif texts is not None:
                yield self._extended(text, size, texts)
            elif number > self._header_row and has_text(text, dialect):
                yield self._extended(text, size, nothing)
            else:
                yield text
        new.finish()

    def _extended(self, text: str, size: int, new: tuple[str, ...]) -> str:
        """A record with new fields at their place: padded where it is too short, cut where it holds older ones."""
        end = line_end(text)
        if self._places:
            return self._woven(text.removesuffix(end), new) + end
        if size > self._start:
            kept = self._kept.match(text)
            assert kept is not None, "a record has as many fields as the reader has counted"
            text, size = kept[0][:-1], self._start
        else:
            text = text.removesuffix(end)
        padding = self._delimiter * (self._start - max(size, 1) + 1)
        return text + padding + self._delimiter.join([field(one, self._delimiter) for one in new]) + end

    def _woven(self, text: str, new: tuple[str, ...]) -> str:
        """A record's own fields to the letter, with new ones at their places."""
        fields = dict(enumerate(found[0][:-1] for found in self._field.finditer(text + self._delimiter)))
        fields |= dict(zip(self._places, (field(one, self._delimiter) for one in new), strict=True))
        return self._delimiter.join(fields.get(place, "") for place in range(max(fields) + 1))


def replaced(source: TextFile, cells: Mapping[tuple[int, int], str]) -> Iterator[str]:
    """Every record of the file, in order; one with a cell among these (row number, place) has its fields anew."""
    dialect, numbers = source.dialect, {number for number, _ in cells}
    yield dialect.preface
    for number, (text, _) in enumerate(source.records(), 1):
        if number not in numbers:
            yield text
            continue
        fields = dialect.one(text)
        fields += [""] * (max(place for row, place in cells if row == number) + 1 - len(fields))
        quoted = (_quoted(one, dialect.delimiter) for one in fields)
        texts = [cells.get((number, place)) for place in range(len(fields))]
        anew = (
            field(new, dialect.delimiter) if new is not None else one for new, one in zip(texts, quoted, strict=True)
        )
        yield dialect.delimiter.join(anew) + line_end(text)


def _quoted(text: str, delimiter: str) -> str:
    """A field of the file's own, as it is, quoted where it must be."""
    return '"' + text.replace('"', '""') + '"' if delimiter in text or not _TO_QUOTE.isdisjoint(text) else text


def write_text(target: BinaryIO, records: Iterator[str], source: TextFile, scratch: Path) -> Encoding:
    """Write records in the encoding of the file that they are from, and what stands behind its text.

    They are written in UTF-8 with a mark (by which Excel knows it) where the encoding can't hold them all. Returns the
    encoding that was used. `target` is empty, and can be read as well.
    """
    encoding = source.encoding
    encoder = codecs.getincrementalencoder(encoding.codec)()
    target.write(encoding.bom)
    for text in _chunks(records):
        try:
            target.write(encoder.encode(text))
        except UnicodeEncodeError:
            encoding = _begin_anew(target, encoding, scratch)
            encoder = codecs.getincrementalencoder(encoding.codec)()
            target.write(encoder.encode(text))
    target.write(encoder.encode("", final=True))
    target.write(source.tail())
    return encoding


def appended_fields(source: TextFile, path: Path, start: int, width: int) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Each record's number and its `width` new fields, in what `Appending` at `start` made, and `write_text` wrote.

    A record's own fields have been compared with those of the source by then. Raises `Unlike`, also in mid-iteration,
    where anything isn't as it was to be written, or was written in another encoding.
    """
    nothing, tail = ("",) * width, source.tail()
    snapshot = uncopied(path)
    with snapshot.file as file:
        marked = file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8
        file.seek(max(snapshot.size - len(tail), 0))
        if file.read() != tail or (marked and not source.encoding.bom):
            raise Unlike
        draft = msgspec.structs.replace(source, snapshot=snapshot, end=snapshot.size - len(tail))
        try:
            with source.lines() as lines, draft.lines() as written:
                pairs = zip_longest(source.dialect.fields(lines), source.dialect.fields(written))
                for number, (own, back) in enumerate(pairs, 1):
                    size = len(own or ())
                    if own is None or back is None or back[:size] != own:
                        raise Unlike
                    if len(back) == size:
                        yield number, nothing
                    elif len(back) != start + width or any(back[size:start]):
                        raise Unlike
                    else:
                        yield number, tuple(back[start:])
        except (UnicodeError, csv.Error) as error:
            raise Unlike from error


def write_table_of_text(target: BinaryIO, delimiter: str, rows: Iterable[tuple[str, ...]]) -> None:
    """Write rows as a text file of its own: UTF-8 with a mark, CR LF."""
    stream = TextIOWrapper(target, "utf-8-sig", newline="")
    try:
        csv.writer(stream, delimiter=delimiter, lineterminator="\r\n").writerows(rows)
    finally:
        stream.detach()


def _chunks(records: Iterator[str]) -> Iterator[str]:
    """The records, many at once, but never more text than it takes to be quick."""
    chunk, size = [], 0
    for record in records:
        chunk.append(record)
        size += len(record)
        if size >= AT_ONCE:
            yield "".join(chunk)
            chunk, size = [], 0
    yield "".join(chunk)


def _begin_anew(target: BinaryIO, encoding: Encoding, scratch: Path) -> Encoding:
    """Write what has been written so far in UTF-8 with a mark."""
    with tempfile.TemporaryFile(dir=scratch) as spool:
        target.seek(0)
        shutil.copyfileobj(target, spool, CHUNK)
        target.seek(0)
        target.truncate()
        target.write(codecs.BOM_UTF8)
        spool.seek(0)
        with TextIOWrapper(spool, encoding.codec, newline="") as stream:
            while text := stream.read(CHUNK):
                target.write(text.encode())
    return Encoding("utf-8", codecs.BOM_UTF8)


def harmless(text: str) -> str:
    """The text, with a leading `'` where a spreadsheet would run it as a formula. A plain number stays a number."""
    if text.startswith(FORMULA_STARTS) and plain_number(text.replace(",", ".", 1)) is None:
        return f"'{text}"
    return text


def field(text: str, delimiter: str) -> str:
    """A new text as one field: made harmless, quoted only where the file's dialect needs it (RFC 4180, 2.6 and 2.7)."""
    if not text or text.isalnum():
        return text
    text = harmless(storable(text))
    return _quoted(text, delimiter)


PIECE = 1 << 20
"""Characters of a long text that are encoded at once."""


def write_json_text(target: IO[bytes], text: str) -> None:
    """Write a text as a string of JSON; of a long one no second copy is made."""
    target.write(b'"')
    for start in range(0, len(text), PIECE):
        target.write(msgspec.json.encode(storable(text[start : start + PIECE]))[1:-1])
    target.write(b'"')


def write_lines(target: BinaryIO, headers: Sequence[str], rows: Iterator[tuple[str, ...]]) -> None:
    """Write an object of JSON a line."""
    encoder = msgspec.json.Encoder()
    for texts in rows:
        if sum(map(len, texts)) < PIECE:
            target.write(encoder.encode(dict(zip(headers, texts, strict=True))) + b"\n")
        else:
            for begin, header, text in zip(chain((b"{",), repeat(b",")), headers, texts, strict=False):
                target.write(begin + encoder.encode(header) + b":")
                write_json_text(target, text)
                del text
            target.write(b"}\n")
        del texts  # they may be long, and the next ones are made before this name is given to them


def storable(text: str) -> str:
    """The text with U+FFFD for each lone surrogate, which no encoding can hold."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
