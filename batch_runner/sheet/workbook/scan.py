"""One streaming pass over a sheet's own XML, without a parser where the part is plain.

Most sheets are written by a few programs and look alike: cells of one shape, in rows that end with `</row>`. Such a
part is cut at these ends, and each row divided by one compiled regex, many times as fast as a parser. What the regex
leaves over must be nothing at all; otherwise a parser (`rowparser`) reads the part from its beginning, and goes on
where the regex stopped.
"""

from __future__ import annotations

import re
from itertools import chain, islice
from typing import TYPE_CHECKING

from batch_runner.sheet.workbook.markup import OddMarkup, plain, plain_start
from batch_runner.sheet.workbook.rawrow import MAX_ROWS, RawRow
from batch_runner.sheet.workbook.rowparser import RowParser, parse_chunks, parse_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batch_runner.sheet.workbook.package import Package

HEAD_LIMIT = 1 << 20
START = b"<sheetData>"
END = b"</sheetData>"
ROW_END = b"</row>"
_CELL = re.compile(
    rb'<c(?: r="([A-Z]{1,3})[0-9]{1,7}")?+((?: [a-qs-z][a-z]*+="[^"<>&]*+")*+) ?+'
    rb"(?:><v>([^<]*+)</v></c>|/>"
    rb"|>(?:(<f)(?: [^<>]*)?(?:/>|>[^<]*</f>))?"
    rb'(?:<v(?: xml:space="preserve")?>([^<]*)</v>)?</c>'
    rb'|><is><t(?: xml:space="preserve")?>([^<]*)</t></is></c>)'
)
"""A cell: its column, its other attributes, its value; or a formula and its value; or a text of its own."""
_STEP = 7
_ROW = re.compile(rb'\s*+<row(?: r="([0-9]{1,9})")?+((?: [a-zA-Z:0-9]++="[^"<>&]*+")*+) ?+(/?)>')
_HIDDEN = re.compile(rb' hidden="(?:1|true|on)"')
_HEAD = plain_start("worksheet")


class Scan:
    """The rows of a sheet's part that have something in them, in order, and what stands beside them.

    Can be iterated again. `quick=False` reads by the parser only. Raises `SheetError` where the rows' numbers don't
    ascend: no reader knows which is meant.
    """

    def __init__(self, package: Package, part: str, *, quick: bool = True) -> None:
        self.package = package
        self.part = part
        self.quick = quick
        self.beside = RowParser()
        """Autofilter and merged cells: complete once the rows have been iterated to their end."""
        self.skims: Callable[[RawRow], bool] | None = None
        """Set, even in mid-iteration, when only each row's last cell and last formula matter, wherever they stand at
        its end: it is offered rows with these alone, and those that it takes (True) don't come."""
        self._given = 0

    def __iter__(self) -> Iterator[RawRow]:
        self._given = 0
        if self.quick:
            try:
                yield from self._divide()
            except OddMarkup:
                self.quick = False
            else:
                return
        self.beside = RowParser()
        yield from islice(self._parse(), self._given, None)

    def _parse(self) -> Iterator[RawRow]:
        before = 0
        for row in parse_rows(self.package, self.part, self.beside):
            if not before < row.number <= MAX_ROWS:
                raise self.package.damaged(self.part, f"has row {row.number} after row {before}")
            before = row.number
            yield row

    def _divide(self) -> Iterator[RawRow]:
        chunks = self.package.open_part(self.part)
        head, rest = _take_head(chunks)
        number = 0
        for block in _blocks(rest, chunks):
            if block.startswith(END):
                self.beside = RowParser()
                tail = chain([head, block], chunks)
                yield from parse_chunks(self.package, self.part, self.beside, tail)
                return
            *pieces, between = block.split(ROW_END)
            for piece in pieces:
                if _has_only_blanks(piece) and (start := _ROW.match(piece)):
                    number = _number(start, number)
                elif self.skims and (row := _skimmed(piece, number)) and self.skims(row):
                    number = row.number
                    self._given += 1
                else:
                    row = _divide_row(piece, number)
                    number = row.number
                    if not row.is_blank:
                        self._given += 1
                        yield row
            number = _pass_over(between, number)
        raise OddMarkup


def _skimmed(piece: bytes, before: int) -> RawRow | None:
    """A row with its last formula and its last cell alone; None where only all of it can tell."""
    cell = _CELL.fullmatch(piece, max(piece.rfind(b"<c "), 0))
    start = _ROW.match(piece)
    if cell is None or start is None or start[3]:
        return None
    letters, mark, plain, formula, beside, inline = cell.groups()
    row = RawRow(
        _number(start, before), _is_hidden(start), [letters], [mark], [formula], [_value(plain, beside, inline)]
    )
    at = -1 if formula else piece.rfind(b"<f", 0, cell.start())
    if at >= 0:
        other = _CELL.match(piece, max(piece.rfind(b"<c ", 0, at), 0))
        if other is None or not other[4]:
            return None
        for cells, own in zip(row[2:], (other[1], other[2], other[4], other[5]), strict=True):
            cells.insert(0, own)
    return None if None in row.letters else row


def _take_head(chunks: Iterator[bytes]) -> tuple[bytes, bytes]:
    """What stands before the rows, and what of them was read with it. Raises `OddMarkup` where it isn't plain."""
    buffer = b""
    while START not in buffer and len(buffer) < HEAD_LIMIT:
        chunk = next(chunks, None)
        if chunk is None:
            break
        buffer += chunk
    head, start, rest = buffer.partition(START)
    if not start or not _HEAD.match(head) or b"<!" in head:
        raise OddMarkup
    return head + start, rest


def _blocks(rest: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Cut the rows into blocks of whole ones. The last block begins with their end; the rest is left in `chunks`."""
    for chunk in chain([b""], chunks):
        rest += chunk
        end = rest.find(END)
        cut = end if end >= 0 else max(rest.rfind(ROW_END) + len(ROW_END), rest.rfind(b"/><row ") + 2)
        if end < 0 and cut < len(ROW_END):
            continue
        yield plain(rest[:cut]).replace(b"<v />", b"<v></v>").replace(b"<v/>", b"<v></v>")  # empty, not missing
        rest = rest[cut:]
        if end >= 0:
            yield rest
            return


def _has_only_blanks(piece: bytes) -> bool:
    """Whether a row is nothing but formatting, which may run to the sheet's end: one start, and closed cells."""
    return piece.endswith(b"/>") and piece.count(b"<") == piece.count(b"<c ") + 1 == piece.count(b"/>") + 1


def _divide_row(piece: bytes, before: int) -> RawRow:
    """A row from its start to where its end was cut off; `before` is the number of the row before it."""
    fields = _CELL.split(piece)
    if any(fields[_STEP::_STEP]):
        raise OddMarkup
    start = fields[0]
    match = _ROW.fullmatch(start)
    if match is None:  # rows without any cell may stand before it
        own = start.rfind(b"<row")
        before = _pass_over(start[:own], before)
        match = _ROW.fullmatch(start, own)
    if match is None or match[3]:
        raise OddMarkup
    values = fields[3::_STEP]
    if None in values:
        values = list(map(_value, values, fields[5::_STEP], fields[6::_STEP]))
    return RawRow(
        _number(match, before), _is_hidden(match), fields[1::_STEP], fields[2::_STEP], fields[4::_STEP], values
    )


def _value(plain: bytes | None, beside: bytes | None, inline: bytes | None) -> bytes | None:
    """A cell's value, wherever it stands: alone, beside a formula, or as a text of its own."""
    if plain is not None:
        return plain
    return beside if beside is not None else inline


def _pass_over(text: bytes, before: int) -> int:
    """The number of the last of some rows that have no cells. Raises `OddMarkup` where anything else stands there."""
    place = 0
    while match := _ROW.match(text, place):
        if not match[3]:
            raise OddMarkup
        before = _number(match, before)
        place = match.end()
    if text[place:].strip():
        raise OddMarkup
    return before


def _number(match: re.Match[bytes], before: int) -> int:
    number = before + 1
    if match[1] is not None:
        number = int(match[1])
    elif b' r="' in match[2]:
        raise OddMarkup
    if not before < number <= MAX_ROWS:
        raise OddMarkup
    return number


def _is_hidden(match: re.Match[bytes]) -> bool:
    return b"hidden" in match[2] and bool(_HIDDEN.search(match[2]))
