"""New cells for rows of any shape: expat judges them, their bytes stay."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.parsers import expat

import msgspec

from batch_runner.sheet.splice.newrow import Cut
from batch_runner.sheet.splice.ranges import column_place
from batch_runner.sheet.splice.tags import split_name, tag_end

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from batch_runner.sheet.splice.newrow import NewRows

_LETTERS = re.compile("[A-Za-z]+")
_SHEET_DATA, _ROW, _CELL = 2, 3, 4
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
        if self._depth == _ROW and local == "row":
            self._number = int(attributes.get("r", self._number + 1))
            self._row = _Row(self._number, prefix, at, [])
        elif self._row is not None and self._depth == _CELL:
            index = self._index(attributes.get("r", "")) if local == "c" else None
            self._row.cells.append(_Cell(at, index, attributes.get("s", "")))
        elif self._row is not None and self._depth == _CELL + 1 and local == "f":
            self._row.cells[-1].has_formula = True

    def _close(self, _name: str) -> None:
        if self._depth == _ROW and self._row is not None:
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
        cut = self._cut(row, close)
        if texts is None or cut.spares(texts):
            return data[start:end], end
        new = self._new.cells(row.number, texts, cut, row.prefix.decode())
        end_tag = data[close:end] or b"</" + row.prefix + b"row>"
        tag = self._new.opened(data[start:opened])
        return b"".join((tag, data[opened : cut.first], new, data[cut.after : close], end_tag)), end

    def _cut(self, row: _Row, close: int) -> Cut:
        start, cleared = self._new.place.start, self._new.place.cleared
        first, after, left = close, close, ""
        styles: dict[int, str] = {}
        formula = None
        for cell in reversed(row.cells):
            if cell.index is not None and cell.index < start:
                left = cell.style
                break
            first = cell.start - self._at
            if cell.index is None or cell.index >= cleared:
                after = first
            else:
                styles[cell.index] = cell.style
                formula = cell.index if cell.has_formula else formula
        return Cut(first, after, styles, left, formula)
