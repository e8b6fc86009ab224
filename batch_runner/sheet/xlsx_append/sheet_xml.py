"""A sheet's own part, streamed with new columns in it: head, rows, tail."""

from __future__ import annotations

import codecs
import re
from itertools import chain, islice
from typing import TYPE_CHECKING
from unicodedata import east_asian_width

from batch_runner.sheet.xlsx_append.ranges import parse_range
from batch_runner.sheet.xlsx_append.rows import NewRows, ParsedRows, QuickRows
from batch_runner.sheet.xlsx_append.xml_tokens import Edit, Element, attribute, edited, elements, tag_of, with_attribute

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from batch_runner.sheet.xlsx_append.ranges import Place, Range


LOOK = 1000
"""How many rows' texts the widths are taken from: the columns stand in the part before the rows."""
NARROWEST, WIDEST = 10, 60
"""In characters of the default font, as a column's `width` counts (ECMA-376 part 1, 18.3.1.13)."""
_ROWS = tag_of("sheetData")

Cells = tuple[int, tuple[str, ...]]


def take_head(chunks: Iterator[bytes]) -> tuple[bytes, bytes]:
    """The part up to and with its tag `<sheetData>`, and what was read beyond. Raises `ValueError` if it has none."""
    data = b""
    for chunk in chunks:
        data += chunk
        for found in _ROWS.finditer(data):
            head = data[: found.end()]
            if elements(head)[-1].path == ("worksheet", "sheetData"):
                return head, data[found.end() :]
    raise ValueError("has no rows")


def measure(headers: Sequence[str], cells: Iterable[Cells]) -> tuple[tuple[int, ...], Iterator[Cells]]:
    """Widths that show the headers and the first texts, and the cells from the first on again."""
    stream = iter(cells)
    first = list(islice(stream, LOOK))
    columns = zip(headers, *(texts for _number, texts in first), strict=True)
    widths = tuple(min(WIDEST, max(NARROWEST, *map(_width, texts)) + 2) for texts in columns)
    return widths, chain(first, stream)


def grown_head(head: bytes, place: Place, widths: Sequence[int]) -> bytes:
    """The head with room for the new columns."""
    found = elements(head)
    return edited(head, [*_dimension(head, found, place), *_columns(head, found, place, widths)])


def _width(text: str) -> int:
    """How wide a text's longest line is; East Asian characters are two wide (Unicode annex 11)."""
    lines = text[: 4 * WIDEST].splitlines() or [""]
    return max(
        len(line) + (0 if line.isascii() else sum(east_asian_width(sign) in "WF" for sign in line)) for line in lines
    )


def _dimension(head: bytes, found: Sequence[Element], place: Place) -> Iterator[Edit]:
    for element in found:
        old = parse_range(element.attributes.get("ref", ""))
        if element.path == ("worksheet", "dimension") and old:
            tag = with_attribute(head[element.start : element.opened], "ref", old.around(place.cells).text)
            yield Edit(element.start, element.opened, tag)


def _columns(head: bytes, found: Sequence[Element], place: Place, widths: Sequence[int]) -> Iterator[Edit]:
    """The edits that give each new column a width of its own; an earlier output's column keeps what it has."""
    ranges = [element for element in found if element.path == ("worksheet", "cols", "col")]
    fresh = {
        index: width
        for index, width in zip(place.places, widths, strict=True)
        if index >= place.start + place.replaced or not any(index in _span(column) for column in ranges)
    }
    given = set[int]()
    for column in ranges:
        inside = [index for index in fresh if index in _span(column)]
        given.update(inside)
        if inside:
            tag = head[column.start : column.opened]
            yield Edit(column.start, column.end, b"".join(_split(tag, column, {i: fresh[i] for i in inside})))
    missing = {index: width for index, width in fresh.items() if index not in given}
    if missing:
        yield from _insertions(found, ranges, missing)


def _insertions(found: Sequence[Element], ranges: Sequence[Element], missing: dict[int, int]) -> Iterator[Edit]:
    """The edits that add columns which no range covers: among the ranges, in order, or as `cols` before the rows."""
    rows = found[-1]
    if not ranges:
        new = b"".join(_column(rows.prefix, index, width) for index, width in missing.items())
        yield Edit(rows.start, rows.start, b"<%bcols>%b</%bcols>" % (rows.prefix, new, rows.prefix))
        return
    for index, width in missing.items():
        before = [column for column in ranges if _span(column).stop <= index]
        at = max(column.end for column in before) if before else ranges[0].start
        yield Edit(at, at, _column(ranges[0].prefix, index, width))


def _split(tag: bytes, column: Element, fresh: dict[int, int]) -> Iterator[bytes]:
    """A range of columns around new ones, which keep its style and its width if that is wider, but are never hidden."""
    if not column.is_self_closed:
        tag = tag[:-1] + b"/>"
    at, stop = _span(column).start, _span(column).stop
    shown = column.attributes.get("hidden", "0") in ("0", "false")
    least = float(column.attributes.get("width", 0)) if shown else 0
    for index, width in fresh.items():
        if at < index:
            yield _range(tag, at, index)
        yield _column(column.prefix, index, max(width, least), column.attributes.get("style"))
        at = index + 1
    if at < stop:
        yield _range(tag, at, stop)


def _span(column: Element) -> range:
    """The places of the columns of a range, from 0."""
    return range(int(column.attributes["min"]) - 1, int(column.attributes["max"]))


def _range(tag: bytes, start: int, stop: int) -> bytes:
    return with_attribute(with_attribute(tag, "min", str(start + 1)), "max", str(stop))


def _column(prefix: bytes, index: int, width: float, style: str | None = None) -> bytes:
    look = f' style="{style}"' if style else ""
    mark = f'min="{index + 1}" max="{index + 1}" width="{width:g}"{look} customWidth="1"'
    return b"<%bcol %b/>" % (prefix, mark.encode())


_FILTER = tag_of("autoFilter")
LONGEST_TAG = 4096


def grown_tail(rest: bytes, chunks: Iterator[bytes], old: Range, new: Range) -> Iterator[bytes]:
    """The part from `</sheetData>` on (`rest`, then `chunks`), its autofilter over `old` now over `new`.

    It stands soon after the rows (ECMA-376 part 1, 18.3.1.99), so it is the first one of that range.
    """
    data = rest
    while True:
        for found in _FILTER.finditer(data):
            if parse_range(attribute(found[0], "ref") or "") == old:
                yield data[: found.start()] + with_attribute(found[0], "ref", new.text)
                yield data[found.end() :]
                yield from chunks
                return
        yield data[:-LONGEST_TAG]
        chunk = next(chunks, b"")
        data = data[-LONGEST_TAG:] + chunk
        if not chunk:
            yield data
            return


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


def with_columns(
    chunks: Iterable[bytes],
    name: str,
    place: Place,
    cells: Iterable[tuple[int, tuple[str, ...]]],
    growth: tuple[Range, Range] | None = None,
    *,
    quick: bool = True,
) -> Iterator[bytes]:
    """Stream the part with the new columns; `name` is what messages call the sheet.

    `growth` is what the sheet's autofilter is over, and what it will be over.

    Rows are added to without a parser as long as they are plain, and by one from the first that isn't; `quick=False`
    leaves all of them to the parser. Raises `SheetError` where a cell can't be written, `expat.ExpatError` or
    `UnicodeError` where the part is damaged.
    """
    stream = as_utf8(chunks)
    head, rest = take_head(stream)
    widths, cells = measure(place.headers, cells)
    yield grown_head(head, place, widths)
    new = NewRows(name, place, cells)
    rows = QuickRows(new)
    if quick:
        yield from rows.stream(rest, stream)
    else:
        rows.rest = rest
    tail = yield from ParsedRows(head, rows.number, new).stream(rows.rest, stream)
    new.finish()
    if growth:
        yield from grown_tail(tail, stream, *growth)
    else:
        yield tail
        yield from stream
