"""A row's cells → their texts, and what is wrong with them."""

from __future__ import annotations

import math
import re
from datetime import datetime
from typing import TYPE_CHECKING

from batch_runner.sheet.format.dates import NoDate
from batch_runner.sheet.format.digits import general
from batch_runner.sheet.row import CellProblem
from batch_runner.sheet.sheet import column_letter
from batch_runner.sheet.workbook.rawrow import column_places, read_mark
from batch_runner.sheet.workbook.strings import is_blank, plain_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batch_runner.sheet.format.numfmt import NumberFormat
    from batch_runner.sheet.workbook.rawrow import Mark, RawRow
    from batch_runner.sheet.workbook.strings import SharedStrings

CACHE = 1 << 12
_TEXTS = frozenset({"s", "str", "inlineStr"})
SAFE_WHOLE = 1e15
"""From here on a whole number has more digits than the 15 that Excel keeps."""
_SHORT = re.compile(rb"(?:0|-?[1-9][0-9]{0,14})|-?(?:0|[1-9][0-9]{0,6})\.[0-9]{0,7}[1-9]")
"""Numbers of at most 15 digits that stand as format General shows them."""


class Flaw(Exception):  # noqa: N818  a property of the cell
    """A cell has something wrong with it: `what` as in `CellProblem`, and the text that it has nevertheless."""

    def __init__(self, text: str, what: str, *, refuses: bool = True) -> None:
        super().__init__(what)
        self.text = text
        self.what = what
        self.refuses = refuses


class Cells:
    """Turns raw rows into texts. `formats` are the workbook's cell formats; `rich` says what a `vm` stands for."""

    def __init__(
        self,
        strings: SharedStrings,
        formats: Sequence[NumberFormat],
        rich: Callable[[int], str | None],
        *,
        as_shown: bool = False,
    ) -> None:
        self._strings = strings
        self._formats = formats
        self._rich = rich
        self._as_shown = as_shown
        self._places: dict[bytes | None, int] = {}
        self._readers: dict[bytes | None, Callable[[bytes], str]] = {}
        self._types: dict[bytes | None, str] = {}

    def texts(self, row: RawRow, width: int) -> tuple[list[str], tuple[CellProblem, ...]]:
        """The texts of a row's first `width` cells, and their problems."""
        texts = [""] * width
        problems: tuple[CellProblem, ...] = ()
        readers = self._readers
        places = column_places(row.letters, self._places)
        for place, mark, formula, value in zip(places, row.marks, row.formulas, row.values, strict=True):
            if (not value and not formula) or place >= width:
                continue
            try:
                reader = readers.get(mark) or self._reader(mark)
                texts[place] = reader(value or b"")
            except Flaw as flaw:
                texts[place] = flaw.text
                problems += (self._problem(row.number, place, flaw),)
        return texts, problems

    def filled(self, row: RawRow) -> list[int]:
        """The places of a row's cells that aren't empty, from the left."""
        places = column_places(row.letters, self._places)
        return [place for order, place in enumerate(places) if self._is_filled(row, order)]

    def last_filled(self, row: RawRow) -> int:
        """Where the last cell of a row stands that isn't empty; -1 for an empty row."""
        for order in range(len(row.values) - 1, -1, -1):
            if self._is_filled(row, order):
                name = row.letters[order]
                return (
                    self._places.get(name, -1)
                    if name in self._places
                    else column_places(row.letters, self._places)[order]
                )
        return -1

    def typed(self, row: RawRow) -> frozenset[int]:
        """The places of numbers, dates, booleans and errors."""
        places = column_places(row.letters, self._places)
        return frozenset(
            place
            for place, mark, value in zip(places, row.marks, row.values, strict=True)
            if value and self._type(mark) not in _TEXTS
        )

    def _is_filled(self, row: RawRow, order: int) -> bool:
        value = row.values[order]
        kind = self._type(row.marks[order])
        if kind == "s" and value:
            return not self._is_blank_string(value)
        if kind in _TEXTS:
            return not is_blank(value or b"")
        return bool(value) or row.formulas[order] is not None

    def _is_blank_string(self, value: bytes) -> bool:
        try:
            return self._strings.is_blank(int(value))
        except (ValueError, IndexError):
            return False

    def _type(self, mark: bytes | None) -> str:
        kind = self._types.get(mark)
        if kind is None:
            kind = self._types[mark] = read_mark(mark or b"").type
        return kind

    def _problem(self, number: int, place: int, flaw: Flaw) -> CellProblem:
        return CellProblem(place, f"{column_letter(place)}{number}", flaw.what, flaw.refuses)

    def _reader(self, mark: bytes | None) -> Callable[[bytes], str]:
        """How cells with these attributes become text."""
        known = read_mark(mark or b"")
        reader = self._new_reader(known)
        self._readers[mark] = reader
        return reader

    def _new_reader(self, mark: Mark) -> Callable[[bytes], str]:
        shape = self._formats[mark.style] if mark.style < len(self._formats) else self._formats[0]
        if mark.type == "n":
            return _cached(lambda value: self._number(value, shape))
        if mark.type == "b":
            return lambda value: "TRUE" if value.strip() in {b"1", b"true"} else "FALSE"
        if mark.type == "e":
            return lambda value: _error(value, self._rich(mark.metadata))
        if mark.type == "d":
            return lambda value: _iso_date(value, shape)
        read = self._shared if mark.type == "s" else plain_text
        return (lambda value: shape.shown_text(read(value))) if self._as_shown else read

    def _shared(self, value: bytes) -> str:
        try:
            return self._strings[int(value)] if value else ""
        except (ValueError, IndexError):
            raise Flaw("", "its text is missing from the workbook's shared strings") from None

    def _number(self, value: bytes, shape: NumberFormat) -> str:
        if shape.is_general and not self._as_shown and _SHORT.fullmatch(value):
            return value.decode()
        if not value:
            raise Flaw("", "a formula without a calculated value; open and save the workbook in Excel")
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise Flaw(plain_text(value), "no number, though the cell says that it is one")
        try:
            text = shape.shown(number) if self._as_shown else shape.plain(number)
        except NoDate:
            raise Flaw(general(number), f"shows ####: {general(number)} is no date or time") from None
        if abs(number) >= SAFE_WHOLE and number.is_integer() and len(text) > 15:
            raise Flaw(text, "a number of 16 or more digits: Excel keeps only 15 of them", refuses=False)
        return text


def _cached(read: Callable[[bytes], str]) -> Callable[[bytes], str]:
    """The same, with the last few thousand answers at hand."""
    known: dict[bytes, str] = {}

    def reader(value: bytes) -> str:
        text = known.get(value)
        if text is None:
            text = read(value)
            if len(known) >= CACHE:
                known.clear()
            known[value] = text
        return text

    return reader


def _error(value: bytes, rich: str | None) -> str:
    text = plain_text(value)
    if rich and not rich.startswith("#"):
        raise Flaw("", rich)
    raise Flaw(rich or text, f"the error {rich or text}")


def _iso_date(value: bytes, shape: NumberFormat) -> str:
    """A date that stands as ISO 8601 (ECMA-376 part 1, 18.18.11: type `d`), with what of it the format shows."""
    text = plain_text(value)
    try:
        found = datetime.fromisoformat(text.removesuffix("Z"))
    except ValueError:
        return text
    if shape.is_general:
        return text.removesuffix("Z").removesuffix("T00:00:00")
    return shape.plain((found - datetime(1899, 12, 30)).total_seconds() / 86_400)
