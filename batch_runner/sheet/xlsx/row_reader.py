"""One streaming pass over a sheet's XML: a regex where it is plain, else expat.

Most sheets are written by a few programs and look alike: cells of one shape, in rows that end with `</row>`. Such a
part is cut at these ends, and each row divided by one compiled regex, many times as fast as a parser. What the regex
leaves over must be nothing at all; otherwise a parser (`rowparser`) reads the part from its beginning, and goes on
where the regex stopped.
"""

from __future__ import annotations

import re
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

from batch_runner.sheet.xlsx.package import MarkupError, OddMarkup, Parser, may_have_computed, plain, plain_start
from batch_runner.sheet.xlsx.shared_strings import ItemText

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from batch_runner.sheet.xlsx.package import Package


MAX_ROWS = 1_048_576
"""Excel specifications and limits."""


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


class RowParser:
    """Collects, chunk by chunk, the rows that have something in them, and what stands beside them in the part."""

    def __init__(self) -> None:
        self.autofilter: str | None = None
        """The range of the sheet's own autofilter, such as `A3:F90`."""
        self.merges: list[str] = []
        """The ranges of merged cells."""
        self.hidden_columns: list[tuple[int, int]] = []
        """The first and the last place of columns that are hidden or of no width, from 1."""
        self._formula: list[str] | None = None
        self._rows: list[RawRow] = []
        self._row = RawRow(0, False, [], [], [], [])
        self._depth = 0
        self._value: ItemText | None = None
        self._parser = Parser(self._start, self._end, self._characters)

    def feed(self, chunk: bytes, *, last: bool = False) -> list[RawRow]:
        """The rows that end within the next bytes. Raises `MarkupError`."""
        self._parser.feed(chunk, last=last)
        rows, self._rows = self._rows, []
        return rows

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._value is not None:
            self._value.start(name)
        elif name == "c":
            self._begin_cell(attributes)
        elif name == "row":
            self._begin_row(attributes)
        elif name == "f":
            self._row.formulas[-1] = b"<f"
            self._formula = []
        elif name in {"v", "is"}:
            self._value = ItemText(name)
        elif name == "autoFilter" and self._depth == 2:
            self.autofilter = attributes.get("ref")
        elif name == "col" and (is_true(attributes.get("hidden")) or _is_zero(attributes.get("width"))):
            self.hidden_columns.append((_whole(attributes.get("min")), _whole(attributes.get("max"))))
        elif name == "mergeCell":
            self.merges.append(attributes.get("ref", ""))

    def _begin_row(self, attributes: dict[str, str]) -> None:
        number = attributes.get("r")
        if number is not None and not _PLAIN_NUMBER.fullmatch(number):
            raise MarkupError(f"has a row whose number is {number[:20]!r}")
        self._row = RawRow(
            self._row.number + 1 if number is None else int(number),
            is_true(attributes.get("hidden")) or _is_zero(attributes.get("ht")),
            [], [], [], [],
        )  # fmt: skip

    def _begin_cell(self, attributes: dict[str, str]) -> None:
        letters = attributes.get("r", "").upper().rstrip("0123456789")
        if len(letters) > 3:
            raise MarkupError(f"has a cell in column {letters[:9]}, and XFD is the last")
        mark = "".join(f' {key}="{attributes[key]}"' for key in ("s", "t", "vm") if key in attributes)
        self._row.letters.append(letters.encode() if letters.isalpha() and letters.isascii() else None)
        self._row.marks.append(mark.encode())
        self._row.formulas.append(None)
        self._row.values.append(None)

    def _characters(self, text: str) -> None:
        if self._value is not None:
            self._value.characters(text)
        elif self._formula is not None:
            self._formula.append(text)

    def _end(self, name: str) -> None:
        self._depth -= 1
        if self._value is not None:
            text = self._value.end()
            if text is not None:
                self._row.values[-1] = text
                self._value = None
        elif name == "f" and self._formula is not None:
            self._row.formulas[-1] = f"<f>{''.join(self._formula)}</f>".encode()
            self._formula = None
        elif name == "row" and not self._row.is_blank:
            self._rows.append(self._row)


_PLAIN_NUMBER = re.compile("[0-9]{1,9}")
"""What a row's number may be; one without a number follows the row before it (ECMA-376 part 1, 18.3.1.73)."""


def _is_zero(value: str | None) -> bool:
    return value is not None and value.rstrip("0").rstrip(".") == "" and value[:1] == "0"


def _whole(value: str | None) -> int:
    return int(value) if value and value.isdigit() else 0


def is_true(value: str | None) -> bool:
    """Whether an attribute says yes (XML Schema part 2, 3.2.2: boolean)."""
    return value in {"1", "true", "on"}


def parse_rows(package: Package, part: str, parser: RowParser) -> Iterator[RawRow]:
    """Stream the rows of a part. Raises `SheetError` where it is damaged."""
    yield from parse_chunks(package, part, parser, package.open_part(part))


def parse_chunks(package: Package, part: str, parser: RowParser, chunks: Iterable[bytes]) -> Iterator[RawRow]:
    """The same for some chunks that are well-formed as a whole."""
    try:
        for chunk in chunks:
            yield from parser.feed(chunk)
        yield from parser.feed(b"", last=True)
    except MarkupError as error:
        raise package.damaged(part, str(error)) from error


HEAD_LIMIT = 1 << 20
START = b"<sheetData>"
END = b"</sheetData>"
ROW_END = b"</row>"
_CELL = re.compile(
    rb'<c(?: r="([A-Z]{1,3})[0-9]{1,7}")?+((?: [a-qs-z][a-z]*+="[^"<>&]*+")*+) ?+'
    rb"(?:><v>([^<]*+)</v></c>|/>"
    rb"|>(<f(?: [^<>]*)?(?:/>|>[^<]*</f>))?"
    rb'(?:<v(?: xml:space="preserve")?>([^<]*)</v>)?</c>'
    rb'|><is><t(?: xml:space="preserve")?>([^<]*)</t></is></c>)'
)
"""A cell: its column, its other attributes, its value; or a formula and its value; or a text of its own."""
_STEP = 7
_ROW = re.compile(rb'\s*+<row(?: r="([0-9]{1,9})")?+((?: [a-zA-Z:0-9]++="[^"<>&]*+")*+) ?+(/?)>')
_HIDDEN = re.compile(rb' (?:hidden="(?:1|true|on)"|ht="0(?:\.0*)?")')
"""A row of no height is as hidden as one that says so."""
_TOTAL = re.compile(rb">(?:ROUND\()?(?:SUM|SUBTOTAL|(?:_xlfn\.)?AGGREGATE)\(")
_HEAD = plain_start("worksheet")


class RowReader:
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
        self.may_have_computed = True
        """Whether a formula may stand there that fills other cells: known once the rows have been iterated."""
        self._given = 0

    def __iter__(self) -> Iterator[RawRow]:
        self._given = 0
        self.may_have_computed = True
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
        shapes = _RowShapes()
        words = False
        for block in _blocks(rest, chunks):
            if block.startswith(END):
                self.beside = RowParser()
                tail = chain([head, block], chunks)
                self.may_have_computed = words
                yield from parse_chunks(self.package, self.part, self.beside, tail)
                return
            words = words or may_have_computed(block)
            *pieces, between = block.split(ROW_END)
            for piece in pieces:
                if _has_only_blanks(piece) and (start := _ROW.match(piece)):
                    number = _number(start, number)
                elif self.skims and (skimmed := _skimmed(piece, number)) and self.skims(skimmed):
                    number = skimmed.number
                    self._given += 1
                else:
                    row = shapes.divide(piece, number)
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
    if cell is None or start is None or start[3] or (b"<f" in piece and _TOTAL.search(piece)):
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


class _RowShape(NamedTuple):
    """How plain cells stand one beside the other: rows that are alike are divided by one match each.

    Only cells that hold a plain value are looked for: numbers, and texts of the shared strings.
    """

    row: re.Pattern[bytes]
    letters: list[bytes | None]
    marks: list[bytes | None]
    formulas: list[bytes | None]

    @classmethod
    def of(cls, row: RawRow) -> _RowShape:
        """That of a row whose cells all have a column and a value, and no formula."""
        cells = (
            rb'<c r="%b[0-9]{1,7}"%b><v>([^<]*+)</v></c>' % (letter or b"", re.escape(mark or b""))
            for letter, mark in zip(row.letters, row.marks, strict=True)
        )
        start = rb'\s*+<row r="([0-9]{1,9})"((?: [a-zA-Z:0-9]++="[^"<>&]*+")*+)>'
        return cls(re.compile(start + b"".join(cells)), row.letters, row.marks, row.formulas)

    def divide(self, piece: bytes, before: int) -> RawRow | None:
        """A row of this shape, as `_divide_row` does it; None for any other."""
        found = self.row.fullmatch(piece)
        if found is None:
            return None
        number, values = _number(found, before), list(found.groups()[2:])
        return RawRow(number, _is_hidden(found), self.letters, self.marks, self.formulas, values)


MOST_SHAPES, WIDEST = 64, 256
"""Shapes that are kept of one sheet, and columns of a row that one is kept of."""


class _RowShapes:
    """Divides rows: one like the last by its shape, which is made for the second of two, others cell by cell."""

    def __init__(self) -> None:
        self._known: dict[object, _RowShape] = {}
        self._before: object = None
        self._shape: _RowShape | None = None

    def divide(self, piece: bytes, before: int) -> RawRow:
        """A row from its start to where its end was cut off; `before` is the number of the row before it."""
        if self._shape and (row := self._shape.divide(piece, before)):
            return row
        row = _divide_row(piece, before)
        if row.letters and None not in row.letters and None not in row.values and not any(row.formulas):
            alike = (tuple(row.letters), tuple(row.marks))
            if (
                alike not in self._known
                and alike == self._before
                and len(self._known) < MOST_SHAPES
                and len(row.letters) <= WIDEST
            ):
                self._known[alike] = _RowShape.of(row)
            self._shape, self._before = self._known.get(alike), alike
        return row


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
    return (b"hidden" in match[2] or b' ht="0' in match[2]) and bool(_HIDDEN.search(match[2]))
