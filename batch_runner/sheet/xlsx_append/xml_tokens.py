"""XML as the bytes it is written in, and ranges of cells as it names them: where the new columns stand."""

from __future__ import annotations

import codecs
import re
from itertools import chain
from typing import TYPE_CHECKING
from xml.parsers import expat
from xml.sax.saxutils import escape

import msgspec

from batch_runner.errors import SheetError, Unlike
from batch_runner.sheet.model import NewColumns, column_letter
from batch_runner.sheet.xlsx.package import MAIN
from batch_runner.sheet.xlsx.row_reader import END, HEAD_LIMIT, ROW_END, START
from batch_runner.sheet.xlsx.values import resolved

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from batch_runner.sheet.xlsx.package import Package


_TAG = re.compile(rb"<[^<>\"']*(?:\"[^\"]*\"[^<>\"']*|'[^']*'[^<>\"']*)*>")
_PREFIX = rb"(?:[^\s<>/\"'=]+:)?"
_ATTRIBUTE = re.compile(rb"\s([^\s=<>\"'/]+)\s*=\s*(\"[^\"]*\"|'[^']*')")


class Element(msgspec.Struct, frozen=True):
    """An element of SpreadsheetML in a piece of XML.

    `path` are the names from the root down to its own, those of foreign namespaces as "". `prefix` is what its own name
    begins with (`b"x:"` or `b""`). Its start tag is `data[start:opened]`, its end tag ends at `end`.
    """

    path: tuple[str, ...]
    prefix: bytes
    attributes: Mapping[str, str]
    start: int
    opened: int
    end: int

    @property
    def is_self_closed(self) -> bool:
        """Whether it is written as one tag."""
        return self.opened == self.end


class Edit(msgspec.Struct, frozen=True):
    """Bytes to put in the place of `data[start:end]`."""

    start: int
    end: int
    new: bytes


def elements(data: bytes) -> list[Element]:
    """All elements of a part, or of its beginning, in the order of their start tags.

    One whose end isn't there ends with the data. Raises `expat.ExpatError`.
    """
    found: list[Element] = []
    open_: list[tuple[int, Element]] = []
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.namespace_prefixes = True

    def start(name: str, attributes: dict[str, str]) -> None:
        at = parser.CurrentByteIndex
        local, prefix = split_name(name)
        path = (*(open_[-1][1].path if open_ else ()), local)
        element = Element(path, prefix, attributes, at, tag_end(data, at), len(data))
        open_.append((len(found), element))
        found.append(element)

    def end(_name: str) -> None:
        place, element = open_.pop()
        at = element.opened
        if data[at - 2 : at] != b"/>":
            at = tag_end(data, parser.CurrentByteIndex)
        found[place] = msgspec.structs.replace(element, end=at)

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.Parse(data, False)
    return found


def split_name(name: str) -> tuple[str, bytes]:
    """A name as expat gives it with `namespace_prefixes`: its local part, "" if it is foreign, and its prefix."""
    uri, _, rest = name.partition(" ")
    local, _, prefix = rest.partition(" ")
    return (local if uri in MAIN else "", f"{prefix}:".encode() if prefix else b"")


def tag_end(data: bytes, start: int) -> int:
    """Where the tag that begins at `start` ends."""
    tag = _TAG.match(data, start)
    if tag is None:
        raise ValueError(f"no tag begins at byte {start}")
    return tag.end()


def tag_of(name: str) -> re.Pattern[bytes]:
    """What finds whole start tags by this name, whatever their prefix; also those in comments."""
    return re.compile(b"(?=<" + _PREFIX + name.encode() + rb"[\s>/])" + _TAG.pattern)


def attribute(tag: bytes, name: str) -> str | None:
    """An attribute's value as it stands in a tag, without its quotes; None where it isn't there."""
    for found in _ATTRIBUTE.finditer(tag):
        if found[1] == name.encode():
            return found[2][1:-1].decode()
    return None


def with_attribute(tag: bytes, name: str, value: str) -> bytes:
    """A start tag in which one attribute has a new value; added at its end where it isn't there."""
    new = b'"' + attribute_text(value) + b'"'
    for found in _ATTRIBUTE.finditer(tag):
        if found[1] == name.encode():
            return tag[: found.start(2)] + new + tag[found.end(2) :]
    close = len(tag) - (2 if tag.endswith(b"/>") else 1)
    return tag[:close].rstrip() + b" " + name.encode() + b"=" + new + tag[close:]


def attribute_text(value: str) -> bytes:
    """A value as it stands between double quotes."""
    return escape(value, {'"': "&quot;", "\n": "&#10;", "\r": "&#13;", "\t": "&#9;"}).encode()


def edited(data: bytes, edits: Iterable[Edit]) -> bytes:
    """The data with all edits made; they don't overlap."""
    pieces, at = [], 0
    for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
        pieces += [data[at : edit.start], edit.new]
        at = edit.end
    return b"".join([*pieces, data[at:]])


CELL_UNITS = 32_767
"""What one cell holds, in UTF-16 units (Excel specifications and limits)."""
SURELY_FITS = CELL_UNITS // 2
"""A text of so many characters fits, whatever they are."""
_ODD = re.compile("[\0-\x1f&<>\ud800-\udfff\ufffe\uffff]")
"""What most texts have none of."""
_CONTROL = re.compile("[\0-\x08\x0b-\x1f]")
_NO_CHARACTER = re.compile("[\ud800-\udfff\ufffe\uffff]")
_LOOKS_ESCAPED = re.compile("_(?=x[0-9A-Fa-f]{4}(?:_|[\0-\x08\x0b-\x1f]))")
"""A `_` that would be read as the beginning of an escape, also where the escape of a control character ends it."""


def inline_string(text: str, prefix: str = "") -> str:
    """The children of a cell of type `inlineStr` that holds a text. `prefix` is that of the part's elements."""
    is_plain = _ODD.search(text) is None and "_x" not in text  # which may begin what looks like an escape
    if is_plain and text.strip() == text and "  " not in text:  # nearly all are so
        return f"<{prefix}is><{prefix}t>{text}</{prefix}t></{prefix}is>"
    space = ' xml:space="preserve"' if _space_matters(text) else ""
    return f"<{prefix}is><{prefix}t{space}>{escaped(text)}</{prefix}t></{prefix}is>"


def are_plain(texts: tuple[str, ...]) -> bool:
    """Whether texts surely stand in XML as they are, and fit into their cells."""
    line = "|".join(texts)
    if len(line) > SURELY_FITS or not line.isascii() or _ODD.search(line):
        return False
    return not ("_x" in line or "  " in line or " |" in line or "| " in line or line[:1] == " " or line[-1:] == " ")


def escaped(text: str) -> str:
    """A text as XML has it, and as Excel reads it back: control characters as `_xHHHH_`, U+FFFD for no characters."""
    return xstring(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _space_matters(text: str) -> bool:
    """Whether a reader that tidies up blanks would change the text."""
    return text.strip() != text or "  " in text or "\n" in text or "\t" in text


def xstring(text: str) -> str:
    """A text with what XML can't hold escaped as ST_Xstring says; markup characters stay as they are."""
    text = _LOOKS_ESCAPED.sub("_x005F_", text)
    text = _CONTROL.sub(lambda found: f"_x{ord(found[0]):04X}_", text)
    return _NO_CHARACTER.sub("\ufffd", text)


def fits(text: str) -> bool:
    """Whether one cell can hold a text."""
    return len(text) <= SURELY_FITS or len(text.encode("utf-16-le", "surrogatepass")) <= 2 * CELL_UNITS


MAX_COLUMNS = 16_384
"""Excel specifications and limits."""
_RANGE = re.compile(r"\$?([A-Za-z]{1,3})\$?([0-9]+)(?::\$?([A-Za-z]{1,3})\$?([0-9]+))?")


class Range(msgspec.Struct, frozen=True):
    """A rectangle of cells. Rows count from 1, columns from 0; both ends are part of it."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def text(self) -> str:
        """Such as `A1:L100`, or `A1` for one cell."""
        first = f"{column_letter(self.left)}{self.top}"
        last = f"{column_letter(self.right)}{self.bottom}"
        return first if first == last else f"{first}:{last}"

    @property
    def absolute(self) -> str:
        """Such as `$A$1:$L$100`, as a defined name has it."""
        return f"${column_letter(self.left)}${self.top}:${column_letter(self.right)}${self.bottom}"

    def meets(self, other: Range) -> bool:
        """Whether they share a cell."""
        return (
            self.top <= other.bottom
            and other.top <= self.bottom
            and self.left <= other.right
            and other.left <= self.right
        )

    def with_right(self, right: int) -> Range:
        """The same rows, up to another last column."""
        return msgspec.structs.replace(self, right=right)

    def around(self, other: Range) -> Range:
        """The smallest range that holds both."""
        return Range(
            min(self.top, other.top),
            min(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )


def parse_range(text: str) -> Range | None:
    """`A1:L100`, `$A$1` and the like; None for anything else (a whole column, several ranges)."""
    found = _RANGE.fullmatch(text)
    if found is None:
        return None
    left, top, right, bottom = found.groups()
    return Range(int(top), column_place(left), int(bottom or top), column_place(right or left))


def column_place(letters: str) -> int:
    """The place of a column, from 0: `A` → 0, `XFD` → 16,383."""
    number = 0
    for letter in letters:
        number = number * 26 + (ord(letter) & 31)
    return number - 1


class Place(msgspec.Struct, frozen=True):
    """The new columns and the rows in which they have cells.

    `start` is the place of the first, from 0. The first `replaced` places from there on hold an earlier output's
    columns; those of them in `kept` have a person's own and stay as they are. `header_row` and `last_row` are the first
    and the last row that belong to the table; a row below (a totals row) isn't touched. `adjacent` is where the table's
    own columns end: less than `start` where something was in the way.
    """

    start: int
    headers: tuple[str, ...]
    replaced: int
    header_row: int
    last_row: int
    adjacent: int
    kept: frozenset[int] = frozenset()

    @property
    def places(self) -> tuple[int, ...]:
        """Where each new column stands."""
        return NewColumns(self.headers, kept=self.kept).places_from(self.start)

    @property
    def end(self) -> int:
        """The place right of the last new column."""
        return self.places[-1] + 1 if self.headers else self.start

    def is_ours(self, index: int) -> bool:
        """Whether a new column stands at this place."""
        return self.start <= index < self.end and index not in self.kept

    @property
    def cleared(self) -> int:
        """The place right of the last column whose cells go: an earlier output's may reach further than ours."""
        return max(self.end, self.start + self.replaced)

    @property
    def cells(self) -> Range:
        """The smallest range with all new cells in it."""
        return Range(max(self.header_row, 1), self.start, self.last_row, self.end - 1)

    def meets(self, other: Range) -> bool:
        """Whether a new cell stands in a range."""
        return other.meets(self.cells) and any(map(self.is_ours, range(other.left, other.right + 1)))


def find_place(name: str, wanted: Place, taken: Iterable[Range]) -> Place:
    """The place from `wanted.start` on where no new cell falls into a range that is taken: merged cells, a pivot table.

    `name` is what messages call the sheet. An earlier output's columns can't move. Raises `SheetError` where there is
    no room.
    """
    place = wanted
    in_the_way = [one for one in taken if one.right >= wanted.start]
    while (met := next((one for one in in_the_way if place.meets(one)), None)) is not None:
        if place.replaced:
            raise SheetError(
                f"{name}: {met.text} is merged, or a pivot table, where "
                f"{place.headers[0]} and the columns after it belong "
                "(or a formula fills it); split or move it, then try again"
            )
        place = msgspec.structs.replace(place, start=met.right + 1)
    if place.end > MAX_COLUMNS:
        why = "a sheet ends at XFD, and merged cells can't hold results"
        raise no_room(name, len(place.headers), wanted.start, why)
    return place


def no_room(name: str, count: int, start: int, why: str) -> SheetError:
    """The error for so many new columns from a place on; `name` is what messages call the sheet."""
    where = f"{name}: no room for {count} columns right of {column_letter(start - 1)}"
    return SheetError(f"{where}: {why}; delete what stands there, then try again")


_DECLARED = re.compile(rb"<\?xml[^>]*?\sencoding\s*=\s*[\"']([A-Za-z][A-Za-z0-9._-]*)[\"']")
_ENCODING = re.compile(r"(<\?xml[^>]*?\sencoding\s*=\s*)(?:\"[^\"]*\"|'[^']*')")
_UTF16 = (
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (b"<\0", "utf-16-le"),
    (b"\0<", "utf-16-be"),
)
"""How a part in UTF-16 begins (XML 1.0, appendix F)."""


def as_utf8(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The part's bytes in UTF-8, with its declaration mended. One that is UTF-8 already comes as it is.

    Raises `UnicodeError` or `LookupError` where the part isn't in the encoding that it names.
    """
    stream = iter(chunks)
    first = next(stream, b"")
    codec = _codec(first)
    if codec is None:
        yield first
        yield from stream
        return
    texts = codecs.iterdecode(chain([first], stream), codec)
    yield _ENCODING.sub(r'\1"UTF-8"', next(texts, ""), count=1).encode()
    for text in texts:
        yield text.encode()


def _codec(first: bytes) -> str | None:
    """The codec to read a part with; None for UTF-8 and what is part of it."""
    for mark, codec in _UTF16:
        if first.startswith(mark):
            return codec
    declared = _DECLARED.match(first)
    name = codecs.lookup(declared[1].decode()).name if declared else "utf-8"
    return None if name in ("utf-8", "ascii") else name


_ROW = re.compile(rb'\s*+<row r="([0-9]{1,7})"(?: [A-Za-z0-9:]++="[^"<>&]*+")*+>')
_SPANS = re.compile(rb' spans="[0-9: ]*+"')
_CELL = (
    r'(?:<c r="%s\1"(?: s="[0-9]+")?'
    r'(?: t="inlineStr"><is><t(?: xml:space="preserve")?>([^<]*+)</t></is></c>|/>))?'
)


def new_cells(
    before: Package, after: Package, part: str, columns: Sequence[str]
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Each row's number, and its texts in the new columns, where `after` is `before` with columns appended.

    Raises `Unlike` where a row isn't the same row to the letter with cells of ours behind it: that may well be right,
    but only a reader can tell.
    """
    cells = re.compile("([0-9]+)" + "".join(_CELL % column for column in columns))
    alike: tuple[bytes, bytes] | None = None
    for old, new in zip(_rows(before, part), _rows(after, part), strict=False):
        tag = _ROW.match(new)
        begin = tag.end(1) if tag is not None else 0
        at = old.find(b">", begin) + 1
        if tag is None or not at or old[:begin] != new[:begin]:
            if old.startswith(END) and new.startswith(END):
                return
            raise Unlike
        attributes = old[begin:at], new[begin : tag.end()]
        if attributes != alike and _SPANS.sub(b"", attributes[0]) != _SPANS.sub(b"", attributes[1]):
            raise Unlike
        alike, end = attributes, tag.end() + len(old) - at
        if new[tag.end() : end] != old[at:]:
            raise Unlike
        behind = (tag[1] + new[end:]).decode("utf-8", "replace")
        found = cells.fullmatch(behind)
        if found is None:
            raise Unlike
        number, *texts = found.groups("")
        yield int(number), tuple(map(resolved, texts) if "&" in behind or "_x" in behind else texts)
    raise Unlike


def _rows(package: Package, part: str) -> Iterator[bytes]:
    """The rows of a part, each up to its end tag, and what follows the last one."""
    chunks = package.open_part(part)
    rest = b""
    while START not in rest and len(rest) < HEAD_LIMIT:
        chunk = next(chunks, b"")
        rest += chunk
        if not chunk:
            break
    rest = rest.partition(START)[2]
    while True:
        *rows, rest = rest.split(ROW_END)
        yield from rows
        chunk = next(chunks, b"")
        if not chunk:
            yield rest
            return
        rest += chunk
