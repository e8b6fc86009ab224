"""New cells for the rows of a sheet: by cutting at `</row>` where the XML is plain, else by expat."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple
from xml.parsers import expat

import msgspec

from batch_runner.errors import SheetError
from batch_runner.sheet.model import NewCells, column_letter
from batch_runner.sheet.xlsx.package import has_more_than_elements
from batch_runner.sheet.xlsx_append.xml_tokens import (
    CELL_UNITS,
    SURELY_FITS,
    are_plain,
    column_place,
    fits,
    inline_string,
    split_name,
    tag_end,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping

    from batch_runner.sheet.xlsx_append.xml_tokens import Place


CACHE = 1 << 10
"""Attributes of rows that are kept at hand."""
_SPANS = re.compile(rb"\sspans\s*=\s*(?:\"[0-9: ]+\"|'[0-9: ]+')")


class Cut(NamedTuple):
    """Where a row is cut: new cells go between `data[:first]` and `data[after:]`.

    `styles` has the `s` of the cells that go, by their place, "" for none; `left` that of the cell left of them;
    `formula` is the place of a cell among them that holds a formula. `kept` are the cells between the new ones that
    stay, to the letter.
    """

    first: int
    after: int
    styles: Mapping[int, str] = MappingProxyType({})
    left: str = ""
    formula: int | None = None
    kept: Mapping[int, bytes] = MappingProxyType({})

    def spares(self, texts: tuple[str, ...]) -> bool:
        """Whether the row stays to the letter: no cell goes, and none comes."""
        return self.first == self.after and not any(texts)


class NewRows:
    """The new cells of all rows, handed out in ascending order of the rows' numbers."""

    def __init__(self, name: str, place: Place, cells: Iterable[tuple[int, tuple[str, ...]]]) -> None:
        self.name = name
        self.place = place
        self._cells = NewCells(cells)
        self._nothing = ("",) * len(place.headers)
        self._places = place.places
        self._letters = [column_letter(index) for index in self._places]
        self._attributes: dict[bytes, bytes] = {}

    def texts_of(self, number: int) -> tuple[str, ...] | None:
        """The texts of a row's new cells; None for a row that stays as it is."""
        place = self.place
        texts = self._cells.of(number)
        if number == place.header_row:
            return place.headers
        if texts is None and place.replaced and place.header_row < number <= place.last_row:
            return self._nothing
        return texts

    def finish(self) -> None:
        """Raises `ValueError` where cells are left for a row that the sheet doesn't have."""
        self._cells.finish()

    def cells(self, number: int, texts: tuple[str, ...], cut: Cut, prefix: str = "") -> bytes:
        """The new cells of a row, as XML. Raises `SheetError` where one can't be written."""
        if cut.formula is not None:
            raise formula_in_the_way(self.name, number, cut.formula)
        if not cut.styles and not cut.kept and not prefix and number != self.place.header_row and are_plain(texts):
            own = zip(self._letters, texts, strict=True)
            plain = [f'<c r="{at}{number}" t="inlineStr"><is><t>{text}</t></is></c>' for at, text in own if text]
            return "".join(plain).encode()
        styles = self._header_styles(cut) if number == self.place.header_row else cut.styles
        written: dict[int, str] = {}
        for order, text in enumerate(texts):
            style = styles.get(self._places[order]) if styles else None
            if not text and not style:
                continue
            address = f"{self._letters[order]}{number}"
            mark = f' s="{style}"' if style else ""
            if not text:
                written[self._places[order]] = f'<{prefix}c r="{address}"{mark}/>'
                continue
            if len(text) > SURELY_FITS and not fits(text):
                raise SheetError(f"{self.name}!{address}: a cell holds {CELL_UNITS:,} characters, not more")
            inside = inline_string(text, prefix)
            written[self._places[order]] = f'<{prefix}c r="{address}"{mark} t="inlineStr">{inside}</{prefix}c>'
        if not cut.kept:
            return "".join(written.values()).encode()
        cells = {place: cell.encode() for place, cell in written.items()} | dict(cut.kept)
        return b"".join(cells[place] for place in sorted(cells))

    def opened(self, tag: bytes) -> bytes:
        """A row's start tag, opened if it was closed, its `spans` grown (18.3.1.73: first and last column, from 1)."""
        if tag.endswith(b"/>"):
            tag = tag[:-2].rstrip() + b">"
        return _SPANS.sub(self._grown, tag) if b"spans" in tag else tag

    def grown(self, attributes: bytes) -> bytes:
        """A row's attributes behind its number, as `opened` leaves them: most rows have the same."""
        grown = self._attributes.get(attributes)
        if grown is None:
            if len(self._attributes) >= CACHE:
                self._attributes.clear()
            grown = self._attributes[attributes] = self.opened(attributes)
        return grown

    def _header_styles(self, cut: Cut) -> dict[int, str]:
        """An earlier output's headers keep their style, a new one takes that of its left neighbour."""
        place, left, styles = self.place, cut.left, {}
        for index in self._places:
            if index < place.start + place.replaced:
                left = cut.styles.get(index, left)
            styles[index] = left
        return styles

    def _grown(self, spans: re.Match[bytes]) -> bytes:
        """One span over all that there were, and the new columns."""
        ends = [int(number) for number in re.findall(rb"[0-9]+", spans[0])]
        return f' spans="{min(*ends, self.place.start + 1)}:{max(*ends, self.place.end)}"'.encode()


def formula_in_the_way(name: str, number: int, index: int) -> SheetError:
    """The error for a formula in a row's cell where a new one belongs; `name` is what messages call the sheet."""
    return SheetError(
        f"{name}!{column_letter(index)}{number} holds a formula where a result belongs; "
        "delete it or move it to another column, then try again"
    )


_LETTERS = re.compile("[A-Za-z]+")
_SHEET_DATA, _ROW_NAME, _CELL_NAME = 2, 3, 4
"""How deep these elements are."""


class _Cell(msgspec.Struct):
    """A child of a row. `index` is its column from 0, None for what is no cell (`extLst`)."""

    start: int
    index: int | None
    style: str
    has_formula: bool = False


class _Row(msgspec.Struct):
    """A row, by offsets into what the parser has read; `close` is where its end tag begins, if it has one."""

    number: int
    prefix: bytes
    start: int
    cells: list[_Cell]
    close: int = 0


class ParsedRows:
    """Goes along the rows of a sheet's part from any row on.

    `head` is the part up to its tag `<sheetData>`, `number` that of the last row before those it will see.
    """

    def __init__(self, head: bytes, number: int, new: NewRows) -> None:
        self._new = new
        self._number = number
        self._rows: list[_Row] = []
        self._row: _Row | None = None
        self._ended = False
        self._at = len(head)
        parser = self._parser = expat.ParserCreate(namespace_separator=" ")
        parser.namespace_prefixes = True
        parser.Parse(head, False)
        self._depth = _SHEET_DATA
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._close

    def stream(self, rest: bytes, chunks: Iterator[bytes]) -> Generator[bytes, None, bytes]:
        """The rows with their new cells; returns what was read of what follows them, from `</sheetData>` on.

        `rest` and then `chunks` are the part's bytes after the last row that was passed on. Raises `expat.ExpatError`.
        """
        data, chunk = b"", rest
        while True:
            self._parser.Parse(chunk, not chunk)
            data += chunk
            passed = 0
            for row in self._rows:
                yield data[passed : row.start - self._at]
                spliced, passed = self._spliced(data, row)
                yield spliced
            self._rows.clear()
            data = data[passed:]
            self._at += passed
            if self._ended:
                return data
            chunk = next(chunks, b"")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._ended:
            return
        local, prefix = split_name(name)
        at = self._parser.CurrentByteIndex
        if self._depth == _ROW_NAME and local == "row":
            self._number = int(attributes.get("r", self._number + 1))
            self._row = _Row(self._number, prefix, at, [])
        elif self._row is not None and self._depth == _CELL_NAME:
            index = self._index(attributes.get("r", "")) if local == "c" else None
            self._row.cells.append(_Cell(at, index, attributes.get("s", "")))
        elif self._row is not None and self._depth == _CELL_NAME + 1 and local == "f":
            self._row.cells[-1].has_formula = True

    def _close(self, _name: str) -> None:
        if self._depth == _ROW_NAME and self._row is not None:
            self._row.close = self._parser.CurrentByteIndex
            self._rows.append(self._row)
            self._row = None
        self._ended = self._ended or self._depth == _SHEET_DATA
        self._depth -= 1

    def _index(self, address: str) -> int:
        """A cell's column: it follows the one before where it has no `r` (ECMA-376 part 1, 18.3.1.4)."""
        letters = _LETTERS.match(address)
        if letters:
            return column_place(letters[0])
        before = self._row.cells[-1].index if self._row and self._row.cells else None
        return 0 if before is None else before + 1

    def _spliced(self, data: bytes, row: _Row) -> tuple[bytes, int]:
        """The row with its new cells, and where it ended in `data`."""
        start = row.start - self._at
        opened = tag_end(data, start)
        is_open = data[opened - 2 : opened] != b"/>"
        close = row.close - self._at if is_open else opened
        end = tag_end(data, close) if is_open else opened
        texts = self._new.texts_of(row.number)
        cut = self._cut(data, row, close)
        if texts is None or cut.spares(texts):
            return data[start:end], end
        new = self._new.cells(row.number, texts, cut, row.prefix.decode())
        end_tag = data[close:end] or b"</" + row.prefix + b"row>"
        tag = self._new.opened(data[start:opened])
        return b"".join((tag, data[opened : cut.first], new, data[cut.after : close], end_tag)), end

    def _cut(self, data: bytes, row: _Row, close: int) -> Cut:
        start, cleared = self._new.place.start, self._new.place.cleared
        first, after, left = close, close, ""
        styles: dict[int, str] = {}
        kept: dict[int, bytes] = {}
        formula = None
        for cell in reversed(row.cells):
            if cell.index is not None and cell.index < start:
                left = cell.style
                break
            begin, end = cell.start - self._at, first
            first = begin
            if cell.index is None or cell.index >= cleared:
                after = first
            elif cell.index in self._new.place.kept:
                kept[cell.index] = data[begin:end]
            else:
                styles[cell.index] = cell.style
                formula = cell.index if cell.has_formula else formula
        return Cut(first, after, styles, left, formula, kept)


_END = b"</row>"
_ROW = re.compile(rb'\s*+<row(?: r="([0-9]++)")?+((?: [A-Za-z0-9:]++="[^"<>&]*+")*+) ?+(/?)>')
_NUMBER = re.compile(rb' r="([0-9]+)"')
_CELL = re.compile(rb'<c r="([A-Z]{1,3})[0-9]++"((?: [a-z]++="[^"<>&]*+")*+) ?+/?>')
_STYLE = re.compile(rb' s="([0-9]+)"')


class _OddRow(Exception):  # noqa: N818  it is a state of the part: the parser takes over
    """What only a parser can judge."""


class QuickRows:
    """Goes along the rows until something stands there that isn't plain, such as what follows the last row.

    `rest` is then what it hasn't passed on, and `number` that of the last row before it: the parser goes on there.
    """

    def __init__(self, new: NewRows) -> None:
        self.rest = b""
        self.number = 0
        self._new = new
        self._start, self._cleared, self._kept = new.place.start, new.place.cleared, new.place.kept
        self._indices: dict[bytes, int] = {}
        self._beyond = re.compile(rb"<c(?=[ />])(?! r=\"(?:%b)[0-9])" % _letters_before(new.place.start))
        """A cell that may stand in a new column, or right of them all."""
        self._is_plain = True

    def stream(self, rest: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The rows with their new cells; `rest` and then `chunks` are what follows the tag `<sheetData>`."""
        self.rest = rest
        while True:
            yield from _joined(self._whole_rows())
            chunk = next(chunks, None) if self._is_plain else None
            if chunk is None:
                return
            self.rest += chunk

    def _whole_rows(self) -> Iterator[bytes]:
        """The rows that end in `rest`, which keeps what follows them."""
        if has_more_than_elements(self.rest):  # a comment could hold what looks like the end of a row
            self._is_plain = False
            return
        pieces = self.rest.split(_END)
        last = pieces.pop()
        self._is_clear = self._beyond.search(self.rest) is None
        for place, piece in enumerate(pieces):
            tag, row = _ROW.match(piece), piece
            if tag and tag[3]:
                row = yield from self._closed_rows(piece)
                tag = _ROW.match(row)
            try:
                yield self._row(row, tag)
            except _OddRow:
                self._is_plain = False
                self.rest = _END.join([row, *pieces[place + 1 :], last])
                return
        self.rest = yield from self._closed_rows(last)
        begun = self.rest.lstrip()
        self._is_plain = begun.startswith(b"<row"[: len(begun)])

    def _closed_rows(self, piece: bytes) -> Generator[bytes, None, bytes]:
        """The rows without cells, each one closed tag, that a piece begins with; returns what follows them."""
        at = 0
        while (tag := _ROW.match(piece, at)) and tag[3] and (number := _number(tag)):
            at, self.number = tag.end(), number
            texts = self._new.texts_of(number)
            if not texts or not any(texts):
                yield tag[0]
            else:
                yield self._new.opened(tag[0]) + self._new.cells(number, texts, Cut(0, 0)) + _END
        return piece[at:]

    def _row(self, row: bytes, tag: re.Match[bytes] | None) -> bytes:
        """A row, up to its end tag, with its new cells and its end tag."""
        if tag is None or tag[3] or not (number := _number(tag)) or (row[-4:] != b"</c>" and b"<ext" in row):
            raise _OddRow
        is_clear = self._is_clear and number != self._new.place.header_row
        cut = Cut(len(row), len(row)) if is_clear else self._cut(row, tag.end())
        self.number = number
        texts = self._new.texts_of(number)
        if texts is None or cut.spares(texts):
            return row + _END
        new = self._new.cells(number, texts, cut)
        begin, end = tag.span(2)
        return b"".join((row[:begin], self._new.grown(tag[2]), row[end : cut.first], new, row[cut.after :], _END))

    def _cut(self, row: bytes, begin: int) -> Cut:
        """Where the row is cut: its cells are looked at from the last one to the left, as far as it takes."""
        first = after = len(row)
        styles: dict[int, str] = {}
        kept: dict[int, bytes] = {}
        left, formula = "", None
        while (at := row.rfind(b"<c ", begin, first)) >= 0:
            cell = _CELL.match(row, at)
            if cell is None or row.find(b"<c", cell.end(), first) >= 0:
                raise _OddRow
            index = self._index(cell[1])
            style = _STYLE.search(cell[2])
            if index < self._start:
                left = style[1].decode() if style else ""
                break
            if index >= self._cleared:
                after = at
            elif index in self._kept:
                kept[index] = row[at:first]
            else:
                styles[index] = style[1].decode() if style else ""
                formula = index if row.find(b"<f", at, first) >= 0 else formula
            first = at
        if at < 0 and row.find(b"<c", begin, first) >= 0:
            raise _OddRow
        return Cut(first, after, styles, left, formula, kept)

    def _index(self, letters: bytes) -> int:
        index = self._indices.get(letters)
        if index is None:
            index = self._indices[letters] = column_place(letters.decode())
        return index


def _letters_before(start: int) -> bytes:
    """Matches the letters of the columns left of a place."""
    last = column_letter(start - 1) if start else ""
    ways = ["[A-Z]" * length for length in range(1, len(last))]
    ways += [
        last[:at] + (f"[A-{chr(ord(letter) - 1)}]" if letter > "A" else "(?!)") + "[A-Z]" * (len(last) - at - 1)
        for at, letter in enumerate(last)
    ]
    return "|".join([*ways, last or "(?!)"]).encode()


MOST_AT_ONCE = 1 << 20
"""Bytes. A chunk of a sheet may hold a thousand short rows, and each of them gets texts of 32 kB."""


def _joined(rows: Iterator[bytes]) -> Iterator[bytes]:
    """The rows in larger pieces."""
    piece = bytearray()
    for row in rows:
        piece += row
        if len(piece) >= MOST_AT_ONCE:
            yield bytes(piece)
            piece.clear()
    yield bytes(piece)


def _number(tag: re.Match[bytes]) -> int:
    """A row's own number, 0 if its tag has none."""
    found = tag[1] or (_NUMBER.findall(tag[2]) or [b"0"])[0]
    return int(found)
