"""New cells for rows that look as most programs write them, without a parser: cut at `</row>`, add, go on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from batch_runner.sheet.splice.newrow import Cut
from batch_runner.sheet.splice.ranges import column_place
from batch_runner.sheet.workbook.markup import has_more_than_elements

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from batch_runner.sheet.splice.newrow import NewRows

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
        self._start, self._cleared = new.place.start, new.place.cleared
        self._indices: dict[bytes, int] = {}
        self._is_plain = True

    def stream(self, rest: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """The rows with their new cells; `rest` and then `chunks` are what follows the tag `<sheetData>`."""
        self.rest = rest
        while True:
            yield b"".join(self._whole_rows())
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
        if tag is None or tag[3] or not (number := _number(tag)) or b"<ext" in row:
            raise _OddRow
        cut = self._cut(row, tag.end())
        self.number = number
        texts = self._new.texts_of(number)
        if texts is None or cut.spares(texts):
            return row + _END
        new = self._new.cells(number, texts, cut)
        return b"".join((self._new.opened(tag[0]), row[tag.end() : cut.first], new, row[cut.after :], _END))

    def _cut(self, row: bytes, begin: int) -> Cut:
        """Where the row is cut: its cells are looked at from the last one to the left, as far as it takes."""
        first = after = len(row)
        styles: dict[int, str] = {}
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
            else:
                styles[index] = style[1].decode() if style else ""
                formula = index if row.find(b"<f", at, first) >= 0 else formula
            first = at
        if at < 0 and row.find(b"<c", begin, first) >= 0:
            raise _OddRow
        return Cut(first, after, styles, left, formula)

    def _index(self, letters: bytes) -> int:
        index = self._indices.get(letters)
        if index is None:
            index = self._indices[letters] = column_place(letters.decode())
        return index


def _number(tag: re.Match[bytes]) -> int:
    """A row's own number, 0 if its tag has none."""
    found = tag[1] or (_NUMBER.findall(tag[2]) or [b"0"])[0]
    return int(found)
