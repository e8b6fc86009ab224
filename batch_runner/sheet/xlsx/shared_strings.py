"""The shared strings of a workbook, kept as they stand in the file."""

from __future__ import annotations

import re
from array import array
from itertools import accumulate, chain
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from batch_runner.sheet.xlsx.package import MarkupError, OddMarkup, Parser, plain, plain_start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_runner.sheet.xlsx.package import Package


ITEM_END = b"</si>"
_SIMPLE = re.compile(rb'<si><t(?: xml:space="preserve")?(?:>([^<]*)</t>|/>)</si>')
_REFERENCE = re.compile(r"&(?:amp|lt|gt|quot|apos|#[0-9]+|#x[0-9a-fA-F]+);")
_NAMED = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&apos;": "'"}
_ESCAPED = re.compile(r"_x([0-9a-fA-F]{4})_")
_START = plain_start("sst")


class SharedStrings:
    """The workbook's shared strings, by their place from 0. Memory: their own bytes, and four more for each."""

    def __init__(self, texts: bytearray, ends: array[int]) -> None:
        self._texts = texts
        self._ends = ends

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, place: int) -> str:
        """The text of a string, rich text run together, without phonetic hints. Raises `IndexError`."""
        if place < 0:
            raise IndexError(place)
        return plain_text(self._texts[self._ends[place] : self._ends[place + 1]])

    def is_blank(self, place: int) -> bool:
        """Whether a string shows nothing. Raises `IndexError`."""
        return is_blank(self._texts[self._ends[place] : self._ends[place + 1]])


def is_blank(escaped: bytes | bytearray) -> bool:
    """Whether text that stands so in XML is empty, or only blanks."""
    return not escaped or (not escaped[:1].isalnum() and not plain_text(escaped).strip())


def plain_text(escaped: bytes | bytearray) -> str:
    """The text that stands so in XML, references and `_xHHHH_` (ECMA-376 part 1, 22.9.2.19 ST_Xstring) resolved."""
    text = escaped.decode()
    if "&" in text:
        text = _REFERENCE.sub(_resolve, text)
    if "_x" in text:
        text = unescape_units(text)
    return text


def _resolve(match: re.Match[str]) -> str:
    name = match[0]
    known = _NAMED.get(name)
    if known:
        return known
    number = int(name[3:-1], 16) if name[2] in "xX" else int(name[2:-1])
    return chr(number) if number < 0x110000 else "\ufffd"


def unescape_units(text: str) -> str:
    """The text with every `_xHHHH_` made the UTF-16 unit that it names, pairs of surrogates joined."""
    text = _ESCAPED.sub(lambda match: chr(int(match[1], 16)), text)
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def read_strings(package: Package) -> SharedStrings:
    """The shared strings of a workbook; none where it has no such part. Raises `SheetError`."""
    texts = bytearray()
    ends = array("I", [0])
    part = next(iter(package.related(package.main, "sharedStrings")), None)
    if part is not None:
        for pieces in _string_pieces(package, part):
            ends.extend(accumulate(map(len, pieces), initial=len(texts)))
            del ends[-len(pieces) - 1]
            texts += b"".join(pieces)
    return SharedStrings(texts, ends)


def _string_pieces(package: Package, part: str) -> Iterator[list[bytes]]:
    """The escaped strings of a part, a list for each chunk of it."""
    chunks = package.open_part(part)
    items = _Items()
    try:
        rest = next(chunks, b"")
        head = _START.match(rest)
        if head and not head[1].endswith(b"/>"):
            items.feed(head[0])
            rest = rest[head.end() :]
            while ITEM_END in rest:
                block, end, rest = rest.rpartition(ITEM_END)
                try:
                    yield _divide(plain(block + end), items)
                except OddMarkup:
                    rest = block + end + rest
                    break
                rest += next(chunks, b"")
        for chunk in chain([rest], chunks):
            yield items.feed(chunk)
        yield items.feed(b"", last=True)
    except MarkupError as error:
        raise package.damaged(part, str(error)) from error


def _divide(block: bytes, items: _Items) -> list[bytes]:
    """The strings of a block of whole items: simple ones by a regex, whatever stands between them by the parser."""
    found: list[bytes] = []
    fields = _SIMPLE.split(block)
    for between, simple in zip(fields[::2], [*fields[1::2], None], strict=True):
        if between:
            found += items.feed(between)
        found.append(simple or b"")
    del found[-1]
    return found


class ItemText:
    """The text of an element `si` or `is` (ECMA-376 part 1, 18.4.8), or of a `v`, told by its inner tags one by one.

    It is what stands directly in its `t`, and in the `t` of its runs `r`; in a `v`, what stands directly in it. All
    else, phonetic hints and elements that nobody knows included, is no text of it.
    """

    def __init__(self, name: str) -> None:
        self._own: tuple[list[str], ...] = ([],) if name == "v" else (["t"], ["r", "t"])
        self._path: list[str] = []
        self._text: list[str] = []

    def start(self, name: str) -> None:
        """An element begins within it."""
        self._path.append(name)

    def characters(self, text: str) -> None:
        """Text stands within it."""
        if self._path in self._own:
            self._text.append(text)

    def end(self) -> bytes | None:
        """An element ends: itself, and this is its text, escaped as it would stand in XML; or one within it (None)."""
        if self._path:
            self._path.pop()
            return None
        return escape("".join(self._text)).encode()


class _Items:
    """Collects the text of each `si` that a parser meets."""

    def __init__(self) -> None:
        self._found: list[bytes] = []
        self._item: ItemText | None = None
        self._parser = Parser(self._start, self._end, self._characters)

    def feed(self, chunk: bytes, *, last: bool = False) -> list[bytes]:
        """The strings that end within the next bytes. Raises `MarkupError`."""
        self._parser.feed(chunk, last=last)
        found, self._found = self._found, []
        return found

    def _start(self, name: str, _attributes: dict[str, str]) -> None:
        if self._item is not None:
            self._item.start(name)
        elif name == "si":
            self._item = ItemText(name)

    def _characters(self, text: str) -> None:
        if self._item is not None:
            self._item.characters(text)

    def _end(self, _name: str) -> None:
        text = self._item.end() if self._item is not None else None
        if text is not None:
            self._found.append(text)
            self._item = None
