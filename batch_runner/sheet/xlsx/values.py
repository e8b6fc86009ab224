"""What a workbook's parts hold: raw rows, shared strings as they stand in the file, and texts kept at hand."""

from __future__ import annotations

import re
from array import array
from itertools import accumulate, chain
from typing import TYPE_CHECKING, NamedTuple
from xml.sax.saxutils import escape

from batch_runner.sheet.model import NumberForms
from batch_runner.sheet.xlsx.package import MarkupError, OddMarkup, Parser, plain, plain_start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batch_runner.sheet.xlsx.package import Package


class RawRow(NamedTuple):
    """A row of a sheet's part: four lists with one place for each of its cells.

    `letters` is the cell's column (`b"AB"`) or None where it only follows the one before; `marks` its other attributes
    as they stand (see `read_mark`); `formulas` is its formula's whole element, or None; `values` is the text of its
    `v` or `is`, escaped as in XML, or None.
    """

    number: int
    hidden: bool
    letters: list[bytes | None]
    marks: list[bytes | None]
    formulas: list[bytes | None]
    values: list[bytes | None]

    @property
    def is_blank(self) -> bool:
        """Whether it has neither a value nor a formula: formatting, or nothing at all."""
        return not any(self.values) and not any(self.formulas)


class AlikeRows(NamedTuple):
    """Rows that follow one another in the part, with cells in the same columns and with the same attributes.

    `formulas` and `values` have a list for each cell of a row, with one place for each of the rows; `formulas` has None
    where no row has one. A cell that some of the rows lack has neither there. None of them is hidden, none is blank.
    """

    numbers: list[int]
    letters: list[bytes | None]
    marks: list[bytes | None]
    formulas: list[list[bytes | None] | None]
    values: list[list[bytes | None]]

    def distinct(self, order: int) -> list[RawRow]:
        """A row with nothing but one of their cells, by its order, for each value that it has."""
        filled = map(bool, self.formulas[order] or [None] * len(self.numbers))
        here = self.numbers[0], False, [self.letters[order]], [self.marks[order]]
        pairs = set(zip(filled, self.values[order], strict=True))
        return [RawRow(*here, [b"<f/>" if is_formula else None], [value]) for is_formula, value in pairs]

    def rows(self) -> Iterator[RawRow]:
        """One by one."""
        nothing = [None] * len(self.numbers)
        formulas = zip(*(column or nothing for column in self.formulas), strict=True)
        for number, own, values in zip(self.numbers, formulas, zip(*self.values, strict=True), strict=True):
            yield RawRow(number, False, self.letters, self.marks, list(own), list(values))


def column_index(letters: bytes) -> int:
    """The place of a column, from 0: `b"A"` → 0, `b"XFD"` → 16,383."""
    number = 0
    for letter in letters:
        number = number * 26 + (letter & 31)
    return number - 1


def column_places(letters: list[bytes | None], known: dict[bytes | None, int]) -> list[int]:
    """The places of a row's cells, from 0. `known` remembers columns that were met before."""
    try:
        return [known[name] for name in letters]
    except KeyError:
        return _count_on(letters, known)


def _count_on(letters: list[bytes | None], known: dict[bytes | None, int]) -> list[int]:
    places: list[int] = []
    for name in letters:
        if name is None:  # a cell without `r` stands right of the one before it (ECMA-376 part 1, 18.3.1.4)
            places.append(places[-1] + 1 if places else 0)
        else:
            places.append(known.setdefault(name, column_index(name)))
    return places


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
    return resolved(escaped.decode())


def resolved(text: str) -> str:
    """The same for text that is decoded already."""
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


CACHE = 1 << 13
LONGEST_KEPT = 256
"""Longer texts, which seldom come again, aren't kept at hand: all that is stays small."""
_SHORT = re.compile(rb"(?:0|-?[1-9][0-9]{0,14})|-?(?:0|[1-9][0-9]{0,6})\.[0-9]{0,7}[1-9]")
"""Numbers of at most 15 digits that stand as format General shows them."""
_NOT_SHORT = re.compile(rb"^(?!(?:%b)$).++$" % _SHORT.pattern, re.MULTILINE)
"""The others of such numbers, each in a line of its own."""


class KeptTexts(dict[bytes | None, str]):
    """The texts of the cells that have the same attributes by their values; the last few thousand stay at hand."""

    def __init__(self, read: Callable[[bytes], str]) -> None:
        self.read = read

    def of(self, values: list[bytes | None]) -> list[str]:
        """Those of a column."""
        return list(map(self.__getitem__, values))

    def __missing__(self, value: bytes | None) -> str:
        text = self.read(value) if value else ""
        if len(text) <= LONGEST_KEPT:
            if len(self) >= CACHE:
                self.clear()
            self[value] = text
        return text


class KeptForms(dict[bytes, NumberForms | None]):
    """The other forms of numbers with the same attributes by their values; the last few thousand stay at hand."""

    def __init__(self, read: Callable[[bytes], NumberForms | None]) -> None:
        self._read = read

    def __missing__(self, value: bytes) -> NumberForms | None:
        if len(self) >= CACHE:
            self.clear()
        forms = self[value] = self._read(value)
        return forms


class KeptNumbers(KeptTexts):
    """The same for numbers of format General: most are their own text, quicker said than remembered."""

    def of(self, values: list[bytes | None]) -> list[str]:
        """As `KeptTexts.of`."""
        column = b"\n".join([value or b"" for value in values])
        texts = _NOT_SHORT.sub(lambda found: self[found[0]].encode(), column).decode().split("\n")
        return texts if len(texts) == len(values) else super().of(values)

    def __missing__(self, value: bytes | None) -> str:
        if value and _SHORT.fullmatch(value):
            return value.decode()
        return super().__missing__(value)
