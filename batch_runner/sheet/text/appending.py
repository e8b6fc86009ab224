"""Writing a CSV file back with new columns: each record's own bytes stay, new fields follow them."""

from __future__ import annotations

import codecs
import tempfile
from io import TextIOWrapper
from itertools import islice
from typing import TYPE_CHECKING

from batch_runner.sheet.model import NewCells
from batch_runner.sheet.text.encoding import CHUNK, Encoding
from batch_runner.sheet.text.quoting import field
from batch_runner.sheet.text.records import line_end, whole_fields
from batch_runner.sheet.text.survey import has_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    from batch_runner.sheet.text.textfile import TextFile


AT_ONCE = 4096
"""Records that are encoded and written together."""


class Appending:
    """New columns for a text file, whose first one stands at the place `start` of every record."""

    def __init__(self, source: TextFile, header_row: int, start: int, headers: tuple[str, ...]) -> None:
        self._source = source
        self._header_row = header_row
        self._start = start
        self._headers = headers
        self._delimiter = source.dialect.delimiter
        self._kept = whole_fields(self._delimiter, start)

    def records(self, cells: Iterable[tuple[int, tuple[str, ...]]]) -> Iterator[str]:
        """Every record of the file, in order; those of header and data rows with new fields."""
        new = NewCells(cells)
        nothing = ("",) * len(self._headers)
        dialect = self._source.dialect
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
        if size > self._start:
            kept = self._kept.match(text)
            assert kept is not None, "a record has as many fields as the reader has counted"
            text, size = kept[0][:-1], self._start
        else:
            text = text.removesuffix(end)
        padding = self._delimiter * (self._start - max(size, 1) + 1)
        return text + padding + self._delimiter.join([field(one, self._delimiter) for one in new]) + end


def write_text(target: BinaryIO, records: Iterator[str], encoding: Encoding, scratch: Path) -> Encoding:
    """Write records in their encoding, or in UTF-8 with a mark where it can't hold them all; says which it was."""
    if encoding.is_unicode:
        _encode(target, _joined(records), encoding)
        return encoding
    with tempfile.TemporaryFile(dir=scratch) as spool:
        fits = True
        for text in _joined(records):
            fits = fits and _holds(encoding, text)
            spool.write(text.encode())
        spool.seek(0)
        used = encoding if fits else Encoding("utf-8", codecs.BOM_UTF8)
        with TextIOWrapper(spool, "utf-8", newline="") as stream:
            _encode(target, iter(lambda: stream.read(CHUNK), ""), used)
    return used


def _joined(records: Iterator[str]) -> Iterator[str]:
    return iter(lambda: "".join(islice(records, AT_ONCE)), "")


def _encode(target: BinaryIO, texts: Iterable[str], encoding: Encoding) -> None:
    encoder = codecs.getincrementalencoder(encoding.codec)()
    target.write(encoding.bom)
    for text in texts:
        target.write(encoder.encode(text))
    target.write(encoder.encode("", final=True))


def _holds(encoding: Encoding, text: str) -> bool:
    try:
        text.encode(encoding.codec)
    except UnicodeEncodeError:
        return False
    return True
