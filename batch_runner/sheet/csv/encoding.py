"""Which encoding a text file is in, and where its text ends.

The order was measured on western files: BOM → UTF-16 or UTF-32 by its NULs → strict UTF-8 → Windows-1252. A file that
fits none of them is refused, for no guess at another encoding is safe; so is one that is UTF-8 but for a few bytes.
"""

from __future__ import annotations

import codecs
import hashlib
import json
import re
from io import BufferedReader, BytesIO, RawIOBase, TextIOWrapper
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO, Literal

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
LEAST_UTF8 = 20
"""A file is damaged UTF-8, and not in a legacy encoding, where every so many-th of its letters beyond ASCII is UTF-8.
In Windows-1252 that happens by chance where a capital letter stands before a quote or a dash (`CAFÉ–BAR`): rarely.
"""
_LINE_END = re.compile(rb"\r\n?|\n")
_MARKUP = re.compile(r"\s*<(?:!doctype|html|head|body|!--|\?xml|([a-z][\w:.-]*)[\s/>])", re.IGNORECASE)
_HTTP = re.compile(r"HTTP/\d(\.\d)? \d{3}\b")
EXACT = frozenset({"utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "cp1252", "iso8859-1", "ascii"})
"""Codecs that give back the very bytes that they read."""


class Encoding(msgspec.Struct, frozen=True):
    """How the file's bytes are text: a byte order mark (or b""), then text in a codec that writes no mark itself."""

    codec: str
    bom: bytes = b""

    @property
    def label(self) -> str:
        """Its name as people know it."""
        return {"cp1252": "Windows-1252"}.get(self.codec, self.codec.upper())


def find_encoding(snapshot: Snapshot, name: str, asked: str | None) -> Encoding:
    """The encoding of a whole file, checked from its first byte to its last.

    Text that is all ASCII is said to be in ASCII. `name` is what messages call the file, `asked` the encoding that a
    person named. Raises `SheetError` for an empty or binary file, an unknown encoding, and one that the file isn't in.
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
        found = _checked(snapshot, candidate, name)
        if found:
            return found
        if candidate.codec == "utf-8":
            _refuse_damaged_utf8(snapshot, name)
    if not candidates:
        raise SheetError(f"{name}: not a text file; name a .csv, .tsv or .xlsx file")
    tried = " nor ".join(candidate.label for candidate in candidates)
    raise SheetError(f"{name}: the text is not in {tried}; name its encoding with --encoding")


def refuse_other_text(sample: str, name: str) -> None:
    """Raises `SheetError` for text that is no table: a page (a login, say) or an error that was saved as one."""
    markup = _MARKUP.match(sample)
    what = None
    if markup and (not markup[1] or f"</{markup[1]}".lower() in sample.lower()):
        what = "a web page or XML"
    elif _HTTP.match(sample):
        what = "the answer of a web server"
    elif sample.lstrip()[:1] in ("{", "[") and _is_json(sample.lstrip()):
        what = "JSON"
    if what:
        raise SheetError(
            f"{name}: this is {what}, not a table; look at it in an editor, and fetch or export the table once more"
        )


def _is_json(sample: str) -> bool:
    """Whether a text begins with a whole object or list, or with one that is longer than the sample."""
    try:
        json.JSONDecoder().raw_decode(sample)
    except json.JSONDecodeError as error:
        return len(sample) > SAMPLE // 2 and error.pos > len(sample) - 100
    except RecursionError:
        return True
    return True


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
    found = _checked(snapshot, encoding, name)
    if found is None or (encoding.codec not in EXACT and not _gives_back(snapshot, encoding)):
        raise SheetError(f"{name}: the text is not in {asked}; name its encoding with --encoding")
    return found


def _meant(codec: str, sample: bytes) -> Encoding:
    """The encoding that a person means by a codec's name. A mark is stronger: an output that had to be written in UTF-8
    is read again by the same command.
    """
    if codec in {"utf-16", "utf-32"}:
        codec = f"{codec}-be" if sample[:1] == b"\0" else f"{codec}-le"
    return _by_bom(sample) or Encoding(codec)


def _by_bom(sample: bytes) -> Encoding | None:
    """By the mark at the beginning; of several (a program that wrote one more) all are mark, none is text."""
    for mark, codec in BOMS:
        count = 0
        while sample.startswith(mark, count * len(mark)):
            count += 1
        if count:
            return Encoding(codec, mark * count)
    return None


def _by_nulls(sample: bytes) -> Encoding | None:
    """UTF-16 or UTF-32 without a mark: separators and digits leave NULs, all of them at the same places."""
    empty = [sample[place::4].count(0) for place in range(4)]
    most, half = 0.9 * len(sample) / 4, len(sample) / 8
    if min(empty[2:]) > most and empty[0] < half:  # few letters lie beyond U+FFFF
        return Encoding("utf-32-le")
    if min(empty[:2]) > most and empty[3] < half:
        return Encoding("utf-32-be")
    even, odd = empty[0] + empty[2], empty[1] + empty[3]
    if even + odd < len(sample) / 5 or min(even, odd) > max(even, odd) / 10:
        return None
    return Encoding("utf-16-be" if even > odd else "utf-16-le")


def _is_binary(sample: bytes) -> bool:
    """Also a file of NULs only, which is what a power cut may leave of one that was being saved."""
    controls = len(sample) - len(sample.translate(None, CONTROLS))
    return sample.startswith(BINARIES) or controls > len(sample) / 10 or not sample.strip(b"\0")


def end_of_text(snapshot: Snapshot, encoding: Encoding) -> int:
    """Where the text ends, in bytes: what stands behind is no text.

    A Ctrl-Z is how DOS ends a text, and NULs are what a power cut leaves; blanks and line ends among them go along.
    """
    wide = len("0".encode(encoding.codec))
    nothing = {sign.encode(encoding.codec) for sign in "\0\x1a"}
    blank = {sign.encode(encoding.codec) for sign in " \t\r\n"}
    end = place = snapshot.size
    while place - wide >= len(encoding.bom):
        begin = max(len(encoding.bom), place - SAMPLE // wide * wide)
        snapshot.file.seek(begin)
        block = snapshot.file.read(place - begin)
        for at in range(len(block) - wide, -1, -wide):
            sign = block[at : at + wide]
            if sign in nothing:
                end = begin + at
            elif sign not in blank:
                return end
        place = begin
    return end


def open_text(
    snapshot: Snapshot, encoding: Encoding, end: int | None = None, newline: Literal["", "\n"] = ""
) -> TextIOWrapper:
    """The file's text from its beginning to the byte `end`; several may be read at once.

    Line ends stay as they stand. `newline` says which there are: CR, LF and CR LF, or LF and CR LF alone.
    """
    view = _View(snapshot.file, len(encoding.bom), snapshot.size if end is None else end)
    return TextIOWrapper(BufferedReader(view, CHUNK), encoding.codec, newline=newline)


class _View(RawIOBase):
    """A file read from an offset of one's own to an end, also while another thread reads it."""

    _seeking = Lock()

    def __init__(self, file: BinaryIO, offset: int, end: int) -> None:
        self._file = file
        self._offset = offset
        self._end = end

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        with memoryview(buffer) as view:
            with self._seeking:
                self._file.seek(self._offset)
                chunk = self._file.read(max(0, min(len(view), self._end - self._offset)))
            view[: len(chunk)] = chunk
        self._offset += len(chunk)
        return len(chunk)


def read_bytes(snapshot: Snapshot, begin: int, end: int) -> bytes:
    """The file's bytes from one place to another, also while another thread reads it."""
    return _View(snapshot.file, begin, end).read()


def texts(snapshot: Snapshot, encoding: Encoding) -> Iterator[str]:
    """The file's text, a chunk at a time. Raises `UnicodeError`."""
    with open_text(snapshot, encoding) as stream:
        while text := stream.read(CHUNK):
            yield text


def _checked(snapshot: Snapshot, encoding: Encoding, name: str) -> Encoding | None:
    """The encoding, if the whole file is text in it; ASCII for UTF-8 without a mark that holds nothing else.

    Raises `SheetError` for a line that no table has.
    """
    length, is_ascii = 0, encoding == Encoding("utf-8")
    try:
        for text in texts(snapshot, encoding):
            is_ascii = is_ascii and text.isascii()
            length = 0 if "\n" in text or "\r" in text else length + len(text)
            if length > LONGEST_LINE:
                raise SheetError(f"{name}: a line is longer than {LONGEST_LINE:,} characters; name a file with a table")
    except UnicodeError:
        return None
    return Encoding("ascii") if is_ascii else encoding


def _refuse_damaged_utf8(snapshot: Snapshot, name: str) -> None:
    """Raises `SheetError` naming the first byte that isn't UTF-8, if most of what isn't ASCII is."""
    good = bad = 0
    number, first = 1, ""
    snapshot.file.seek(0)
    while line := snapshot.file.readline(LONGEST_LINE):
        if not line.isascii():
            text = line.decode("utf-8", "surrogateescape")
            wrong = [place for place, sign in enumerate(text) if "\udc80" <= sign <= "\udcff"]
            good += sum(not sign.isascii() for sign in text) - len(wrong)
            bad += len(wrong)
            if wrong and not first:
                before = text[: wrong[0]].encode("utf-8", "surrogateescape")
                ends = [found.end() for found in _LINE_END.finditer(before)]
                place = len(before) - (ends[-1] if ends else 0)
                first = f"line {number + len(ends)}, byte {place + 1} (0x{line[len(before)]:02X})"
        number += len(_LINE_END.findall(line))
    if good * LEAST_UTF8 >= bad:
        raise SheetError(
            f"{name}: {first} is not UTF-8, though other letters of the file are; mend it and save the file as "
            "UTF-8, or say --encoding cp1252 if all of it is in that"
        )


def _gives_back(snapshot: Snapshot, encoding: Encoding) -> bool:
    """Whether encoding what was decoded gives the file's own bytes again: only then can they be kept."""
    encoder = codecs.getincrementalencoder(encoding.codec)()
    digest = hashlib.sha256(encoding.bom)
    for text in texts(snapshot, encoding):
        digest.update(encoder.encode(text))
    digest.update(encoder.encode("", final=True))
    return digest.hexdigest() == snapshot.fingerprint
