"""Which encoding a text file is in.

The order was measured on western files: BOM → UTF-16 by its NULs → strict UTF-8 → Windows-1252. A file that fits none
of them is refused, for no guess at another encoding is safe.
"""

from __future__ import annotations

import codecs
import hashlib
from io import BufferedReader, BytesIO, RawIOBase, TextIOWrapper
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from batch_runner.errors import SheetError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import WriteableBuffer as Buffer

    from batch_runner.sheet.snapshot import Snapshot


CHUNK = 1 << 20
SAMPLE = 1 << 16
LONGEST_LINE = 1 << 24
"""Characters that one line may have, give or take a chunk: a line is read as a whole."""
BOMS = (  # UTF-32 first: its little-endian BOM begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
WORKBOOKS = (b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")
"""How a zip package (.xlsx, .ods) and an OLE file (.xls) begin."""
BINARIES = (b"%PDF-", b"\x89PNG", b"\x1f\x8b", b"GIF8", b"\xff\xd8\xff", b"SQLite format 3", b"PAR1", b"\x7fELF")
CONTROLS = bytes({*range(32), 127} - set(b"\0\t\n\v\f\r\x1a"))
EXACT = frozenset({"utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "cp1252", "iso8859-1", "ascii"})
"""Codecs that give back the very bytes that they read."""


class Encoding(msgspec.Struct, frozen=True):
    """How the file's bytes are text: a byte order mark (or b""), then text in a codec that writes no mark itself."""

    codec: str
    bom: bytes = b""

    @property
    def is_unicode(self) -> bool:
        """Whether it can hold every text."""
        return self.codec.startswith(("utf-8", "utf-16", "utf-32"))

    @property
    def label(self) -> str:
        """Its name as people know it."""
        return {"cp1252": "Windows-1252"}.get(self.codec, self.codec.upper())


def find_encoding(snapshot: Snapshot, name: str, asked: str | None) -> Encoding:
    """The encoding of a whole file, checked from its first byte to its last.

    `name` is what messages call the file, `asked` the encoding that a person named. Raises `SheetError` for an empty
    or binary file, an unknown encoding, and one that the file isn't in.
    """
    snapshot.file.seek(0)
    sample = snapshot.file.read(SAMPLE)
    if not sample:
        raise SheetError(f"{name}: the file is empty; name a file with a header row")
    if asked is not None:
        return _asked(snapshot, name, asked, sample)
    if sample.startswith(WORKBOOKS):
        raise SheetError(f"{name}: this is a workbook, not text; give it the ending .xlsx, or save it as .csv")
    candidates = _candidates(sample)
    for candidate in candidates:
        if _decodes(snapshot, candidate, name):
            return candidate
    if not candidates:
        raise SheetError(f"{name}: not a text file; name a .csv, .tsv or .xlsx file")
    tried = " nor ".join(candidate.label for candidate in candidates)
    raise SheetError(f"{name}: the text is not in {tried}; name its encoding with --encoding")


def _candidates(sample: bytes) -> list[Encoding]:
    """The encodings to try, the likeliest first; none for a binary file."""
    marked = _by_bom(sample)
    if marked:
        return [marked]
    guessed = _by_nulls(sample)
    wide = [guessed] if guessed else []
    return wide if _is_binary(sample) else [*wide, Encoding("utf-8"), Encoding("cp1252")]


def _asked(snapshot: Snapshot, name: str, asked: str, sample: bytes) -> Encoding:
    try:
        codec = codecs.lookup(asked).name
        TextIOWrapper(BytesIO(), codec).close()
    except LookupError:
        raise SheetError(
            f"{name}: no encoding is called {asked!r}; say for example --encoding utf-8 or --encoding cp1252"
        ) from None
    encoding = _meant(codec.removesuffix("-sig"), sample)
    if not _decodes(snapshot, encoding, name) or (encoding.codec not in EXACT and not _gives_back(snapshot, encoding)):
        raise SheetError(f"{name}: the text is not in {asked}; name its encoding with --encoding")
    return encoding


def _meant(codec: str, sample: bytes) -> Encoding:
    """The encoding that a person means by a codec's name. A mark is stronger: an output that had to be written in UTF-8
    is read again by the same command.
    """
    if codec in {"utf-16", "utf-32"}:
        codec = f"{codec}-be" if sample[:1] == b"\0" else f"{codec}-le"
    return _by_bom(sample) or Encoding(codec)


def _by_bom(sample: bytes) -> Encoding | None:
    return next((Encoding(codec, bom) for bom, codec in BOMS if sample.startswith(bom)), None)


def _by_nulls(sample: bytes) -> Encoding | None:
    """UTF-16 without a mark: separators and digits leave NULs, all at even or all at odd places."""
    even, odd = sample[::2].count(0), sample[1::2].count(0)
    if even + odd < len(sample) / 5 or min(even, odd) > max(even, odd) / 10:
        return None
    return Encoding("utf-16-be" if even > odd else "utf-16-le")


def _is_binary(sample: bytes) -> bool:
    """Also a file of NULs only, which is what a power cut may leave of one that was being saved."""
    controls = len(sample) - len(sample.translate(None, CONTROLS))
    return sample.startswith(BINARIES) or controls > len(sample) / 10 or not sample.strip(b"\0")


def open_text(snapshot: Snapshot, encoding: Encoding) -> TextIOWrapper:
    """The file's text from its beginning, line ends as they stand; several may be read at once."""
    return TextIOWrapper(BufferedReader(_View(snapshot.file, len(encoding.bom)), CHUNK), encoding.codec, newline="")


class _View(RawIOBase):
    """A file read from an offset of one's own, also while another thread reads it."""

    _seeking = Lock()

    def __init__(self, file: BinaryIO, offset: int) -> None:
        self._file = file
        self._offset = offset

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        with memoryview(buffer) as view:
            with self._seeking:
                self._file.seek(self._offset)
                chunk = self._file.read(len(view))
            view[: len(chunk)] = chunk
        self._offset += len(chunk)
        return len(chunk)


def texts(snapshot: Snapshot, encoding: Encoding) -> Iterator[str]:
    """The file's text, a chunk at a time. Raises `UnicodeError`."""
    with open_text(snapshot, encoding) as stream:
        while text := stream.read(CHUNK):
            yield text


def _decodes(snapshot: Snapshot, encoding: Encoding, name: str) -> bool:
    """Whether the whole file is text in an encoding. Raises `SheetError` for a line that no table has."""
    length = 0
    try:
        for text in texts(snapshot, encoding):
            length = 0 if "\n" in text or "\r" in text else length + len(text)
            if length > LONGEST_LINE:
                raise SheetError(f"{name}: a line is longer than {LONGEST_LINE:,} characters; name a file with a table")
    except UnicodeError:
        return False
    return True


def _gives_back(snapshot: Snapshot, encoding: Encoding) -> bool:
    """Whether encoding what was decoded gives the file's own bytes again: only then can they be kept."""
    encoder = codecs.getincrementalencoder(encoding.codec)()
    digest = hashlib.sha256(encoding.bom)
    for text in texts(snapshot, encoding):
        digest.update(encoder.encode(text))
    digest.update(encoder.encode("", final=True))
    return digest.hexdigest() == snapshot.fingerprint
