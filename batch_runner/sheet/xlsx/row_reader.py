"""One streaming pass over a sheet's XML: a regex where it is plain, else expat.

Most sheets are written by a few programs and look alike: cells of one shape, in rows that end with `</row>`. Rows that
are alike are found many at a time, by a regex made for them; others are cut at these ends and divided one by one. What
a regex leaves over must be nothing at all. Otherwise a parser reads the part from its beginning, and goes on where the
regex stopped.
"""

from __future__ import annotations

import re
from itertools import chain, islice
from operator import lt
from typing import TYPE_CHECKING, Any

from batch_runner.sheet.xlsx.package import MarkupError, OddMarkup, Parser, may_have_computed, plain, plain_start
from batch_runner.sheet.xlsx.values import AlikeRows, ItemText, RawRow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from batch_runner.sheet.xlsx.package import Package


MAX_ROWS = 1_048_576
"""Excel specifications and limits."""


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
        self.takes: Callable[[AlikeRows], bool] | None = None
        """Set, even in mid-iteration, where rows that are alike may be judged together: those that it takes (True)
        don't come."""
        self.may_have_computed = True
        """Whether a formula may stand there that fills other cells: known once the rows have been iterated."""
        self._given = 0

    def __iter__(self) -> Iterator[RawRow]:
        for found in self.alike():
            if isinstance(found, RawRow):
                yield found
            elif self.takes is None or not self.takes(found):
                yield from found.rows()

    def alike(self) -> Iterator[RawRow | AlikeRows]:
        """The same rows, many at a time where they are alike."""
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

    def _divide(self) -> Iterator[RawRow | AlikeRows]:
        chunks = self.package.open_part(self.part)
        head, rest = _take_head(chunks)
        rows = _Rows()
        for block in _blocks(rest, chunks):
            if block.startswith(END):
                self.beside = RowParser()
                self.may_have_computed = rows.may_have_computed
                yield from parse_chunks(self.package, self.part, self.beside, chain([head, block], chunks))
                return
            for found in rows.divide(block):
                self._given += 1 if isinstance(found, RawRow) else len(found.numbers)
                yield found
        raise OddMarkup


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
        yield plain(rest[:cut])
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
        _number(match, before), _is_hidden(match[2]), fields[1::_STEP], fields[2::_STEP], fields[4::_STEP], values
    )


class _RowShape:
    """A regex for rows like one that is known: with cells in the same columns and with the same attributes.

    Any of the cells may be missing or empty, but for the first one that has a value.
    """

    def __init__(self, row: RawRow) -> None:
        self.letters, self.marks = row.letters, row.marks
        self.formulas: list[int | None] = []
        """Which group of the regex has each cell's formula, None where it has none; `values` the same for its value."""
        self.values: list[int] = []
        regex, groups = _ROW_START, 2
        for letter, mark, formula in zip(row.letters, row.marks, row.formulas, strict=True):
            self.formulas.append(groups + 1 if formula else None)
            groups += 2 if formula else 1
            self.values.append(groups)
            inside = _FORMULA + _VALUE if formula else _INLINE if b'"inlineStr"' in (mark or b"") else _VALUE
            start = rb'<c r="%b[0-9]{1,7}"%b' % (letter or b"", re.escape(mark or b""))
            if len(self.values) - 1 == next(order for order, value in enumerate(row.values) if value):
                regex += start + b">" + inside.replace(b"*+)", b"++)") + b"</c>"
            else:
                regex += b"(?:" + start + b"(?:/>|>" + inside + b"</c>))?+"
        self.regex = re.compile(regex + rb"</row>\s*+")
        self.step = groups + 1
        """Of what the regex splits into: what stands between two rows, and each group."""


_ROW_START = rb'<row r="([0-9]{1,9})"((?: [a-zA-Z:0-9]++="[^"<>&]*+")*+)>'
_VALUE = rb"<v>([^<]*+)</v>"
_INLINE = rb'<is><t(?: xml:space="preserve")?>([^<]*+)</t></is>'
_FORMULA = rb"(<f(?: [^<>]*)?(?:/>|>[^<]*+</f>))?+"
MOST_SHAPES, WIDEST = 64, 256
"""Shapes that are made for one sheet, and columns of a row that one is made for."""
FEW = 4
"""So many rows below one another are worth to be handed on together."""


class _Rows:
    """Divides blocks of whole rows: those like the last ones by their shape, others cell by cell.

    A shape is made for the second of two rows that are alike.
    """

    def __init__(self) -> None:
        self.may_have_computed = False
        """Whether the words of a formula were met that fills other cells."""
        self._number = 0
        self._known: dict[object, _RowShape] = {}
        self._before: object = None
        self._shape: _RowShape | None = None

    def divide(self, block: bytes) -> Iterator[RawRow | AlikeRows]:
        """The rows of a block that have something in them. Raises `OddMarkup` where only a parser can judge."""
        shape, done = self._shape, 0
        if shape is None:
            yield from self._one_by_one(block)
            return
        fields = shape.regex.split(block)
        between = fields[:: shape.step]
        for order in [order for order, text in enumerate(between) if text]:
            yield from self._alike(shape, fields[done * shape.step : order * shape.step])
            yield from self._one_by_one(between[order])
            done = order
        yield from self._alike(shape, fields[done * shape.step : -1])

    def _alike(self, shape: _RowShape, fields: list[Any]) -> Iterator[RawRow | AlikeRows]:
        """Rows of one shape that follow one another."""
        if not fields:
            return
        numbers = list(map(int, fields[1 :: shape.step]))
        if not self._number < numbers[0] or numbers[-1] > MAX_ROWS or not all(map(lt, numbers, numbers[1:])):
            raise OddMarkup
        self._number = numbers[-1]
        formulas = [fields[group :: shape.step] if group else None for group in shape.formulas]
        values = [fields[group :: shape.step] for group in shape.values]
        for column in filter(None, formulas):
            self._note_words(b"".join(filter(None, column)))
        rows = AlikeRows(numbers, shape.letters, shape.marks, formulas, values)
        if len(numbers) >= FEW and not any(map(_is_hidden, set(fields[2 :: shape.step]))):
            yield rows
            return
        for row, attributes in zip(rows.rows(), fields[2 :: shape.step], strict=True):
            yield row._replace(hidden=_is_hidden(attributes))

    def _one_by_one(self, block: bytes) -> Iterator[RawRow | AlikeRows]:
        """Rows of any shapes, until a new shape is found."""
        self._note_words(block)
        block = block.replace(b"<v />", b"<v></v>").replace(b"<v/>", b"<v></v>")  # empty, not missing
        *pieces, between = block.split(ROW_END)
        for place, piece in enumerate(pieces, 1):
            if _has_only_blanks(piece) and (start := _ROW.match(piece)):
                self._number = _number(start, self._number)
                continue
            row = _divide_row(piece, self._number)
            self._number = row.number
            is_new = self._takes_shape(row)
            if not row.is_blank:
                yield row
            if is_new:
                yield from self.divide(ROW_END.join([*pieces[place:], between]).lstrip())
                return
        self._number = _pass_over(between, self._number)

    def _takes_shape(self, row: RawRow) -> bool:
        """Look for rows like this one from now on, if it is like the one before it; whether its shape is a new one."""
        alike = (*row.letters, *row.marks, *map(bool, row.formulas))
        is_second, self._before = alike == self._before, alike
        if not is_second or None in row.letters or not any(row.values) or len(row.letters) > WIDEST:
            return False
        is_new = alike not in self._known
        if is_new and len(self._known) < MOST_SHAPES:
            self._known[alike] = _RowShape(row)
        self._shape = self._known.get(alike, self._shape)
        return is_new and alike in self._known

    def _note_words(self, text: bytes) -> None:
        self.may_have_computed = self.may_have_computed or may_have_computed(text)


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


def _is_hidden(attributes: bytes) -> bool:
    return (b"hidden" in attributes or b' ht="0' in attributes) and bool(_HIDDEN.search(attributes))
