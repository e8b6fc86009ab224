"""A row's cells → their texts, and what is wrong with them."""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import datetime, time
from operator import getitem
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from batch_runner.sheet.model import CellProblem, NumberForms, TypedCell, column_letter
from batch_runner.sheet.numfmt.dates import DAY, NoDate, serial
from batch_runner.sheet.numfmt.digits import general
from batch_runner.sheet.numfmt.formatter import Unsure
from batch_runner.sheet.xlsx.package import read_mark
from batch_runner.sheet.xlsx.values import KeptForms, KeptNumbers, KeptTexts, column_places, is_blank, plain_text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from batch_runner.sheet.numfmt.formatter import LiteralUse, NumberFormat
    from batch_runner.sheet.xlsx.values import AlikeRows, RawRow, SharedStrings


_TEXTS = frozenset({"s", "str", "inlineStr"})
SAFE_WHOLE = 1e15
"""From here on a whole number has more digits than the 15 that Excel keeps."""
PLACEHOLDER = b"0.0"
"""What Apache POI writes as the value of a formula that nobody has calculated. Excel and LibreOffice write `0`."""
_STALE = "a formula whose value is out of date, as the file itself says"
_NEVER = "a formula that was never calculated: its zero only holds the place"


class Calculation(msgspec.Struct, frozen=True):
    """Which values of a workbook's formulas are none: all of them, or those that only hold the place of one.

    What says so is `calcPr` (ECMA-376 part 1, 18.2.2): `fullCalcOnLoad`, which programs write that can't calculate,
    and `calcCompleted="0"`, which Excel writes where it was told not to. Excel keeps `forceFullCalc` with values that
    are right, and so Excel for Mac does with a sheet's `sheetCalcPr`: these say nothing. LibreOffice writes neither.
    """

    is_stale: bool = False
    placeholders: frozenset[bytes] = frozenset()
    is_manual: bool = False

    @property
    def advice(self) -> str:
        """What helps a person whose row is refused."""
        key = ", press F9" if self.is_manual else ""
        return f"open the workbook in Excel{key} and save it, or say --trust-formulas"


TRUSTED = Calculation()


class FormatNote(msgspec.Struct, frozen=True):
    """What the literals of a column's number format were taken for, and the first number as shown and as sent."""

    index: int
    code: str
    use: LiteralUse
    shown: str
    sent: str

    def __str__(self) -> str:
        if self.use.what == "mask":
            return f"format {self.code}: a mask, sent as shown: {self.sent}"
        if self.use.what == "identifier":
            return f"format {self.code}: {self.use.literals} is part of an identifier, sent as {self.sent}"
        return f"format {self.code}: {self.use.literals} is a unit and left out: {self.shown} is sent as {self.sent}"


class Flaw(Exception):  # noqa: N818  a property of the cell
    """A cell has something wrong with it: `what` as in `CellProblem`, and the text that it has nevertheless."""

    def __init__(self, text: str, what: str, *, refuses: bool = True) -> None:
        super().__init__(what)
        self.text = text
        self.what = what
        self.refuses = refuses


class _Same(NamedTuple):
    """What rows have in common whose letters and marks are the same lists: where cells stand, and how they are read.

    `side_by_side` is their number where none is left out from the first column on, else -1.
    """

    letters: list[bytes | None]
    marks: list[bytes | None]
    places: list[int]
    readers: list[KeptTexts]
    forms: list[tuple[int, KeptForms]]
    side_by_side: int


class Cells:
    """Turns raw rows into texts. `formats` are the workbook's cell formats; `rich` says what a `vm` stands for.

    `calculation` says which values of formulas are none.
    """

    def __init__(
        self,
        strings: SharedStrings,
        formats: Sequence[NumberFormat],
        rich: Callable[[int], str | None],
        *,
        calculation: Calculation = TRUSTED,
        as_shown: bool = False,
    ) -> None:
        self._strings = strings
        self._formats = formats
        self._rich = rich
        self._calculation = calculation
        self._as_shown = as_shown
        self.computed: tuple[tuple[int, int, int, int], ...] = ()
        """Ranges (left, top, right, bottom) from 1 whose cells hold results of a formula that stands in another."""
        self._places: dict[bytes | None, int] = {}
        self._known = _ByMark(self._texts_of)
        self._noted: dict[bytes | None, NumberFormat] = {}
        self._forms: dict[bytes | None, KeptForms] = {}
        self.format_notes: dict[tuple[int, NumberFormat], FormatNote] = {}
        """What a column's formats were taken for, as far as another reader could think otherwise (see `note`)."""
        self._types: dict[bytes | None, str] = {}
        self._same = _Same([], [], [], [], [], 0)

    def texts(self, row: RawRow, width: int) -> tuple[list[str], tuple[CellProblem, ...]]:
        """The texts of a row's first `width` cells, and their problems."""
        same = self._same_as(row)
        found, problems = self._all_at_once(row, same.readers) or self._one_by_one(row, same.places, width)
        if same.side_by_side == width:
            return found, problems
        texts = [""] * width
        for place, text in zip(same.places, found, strict=True):
            if text and place < width:
                texts[place] = text
        return texts, problems

    def texts_together(self, rows: AlikeRows, width: int) -> list[tuple[str, ...]] | None:
        """The texts of rows that are alike; None where one of their cells may have a problem."""
        same = self._same_as(rows)
        if self.computed or not width or not all(map(self._are_calculated, rows.formulas, rows.values)):
            return None
        try:
            columns = [texts.of(values) for texts, values in zip(same.readers, rows.values, strict=True)]
        except Flaw:
            return None
        if same.side_by_side != width:
            found = columns
            columns = [[""] * len(rows.numbers)] * width
            for place, column in zip(same.places, found, strict=True):
                if place < width:
                    columns[place] = column
        return list(zip(*columns, strict=True))

    def _are_calculated(self, formulas: list[bytes | None] | None, values: list[bytes | None]) -> bool:
        """Whether none of these cells has a formula whose value is none."""
        said = self._calculation
        return formulas is None or (not said.is_stale and all(values) and said.placeholders.isdisjoint(values))

    def numbers_together(self, rows: AlikeRows, width: int) -> list[dict[int, NumberForms] | None]:
        """The other forms of their numbers, as `numbers` has them."""
        same = self._same_as(rows)
        found: list[dict[int, NumberForms] | None] = [None] * len(rows.numbers)
        for order, forms in same.forms:
            place = same.places[order]
            for at, value in enumerate(rows.values[order] if place < width else ()):
                if value and (number := forms[value]) is not None:
                    row = found[at] = found[at] or {}
                    row[place] = number
        return found

    def numbers(self, row: RawRow, width: int) -> dict[int, NumberForms] | None:
        """The other forms of a row's numbers, by their places; only after its `texts` have been asked for."""
        same = self._same_as(row)
        if not same.forms:
            return None
        found: dict[int, NumberForms] = {}
        for order, forms in same.forms:
            value, place = row.values[order], same.places[order]
            if value and place < width and (number := forms[value]) is not None:
                found[place] = number
        return found or None

    def shown(self) -> Cells:
        """The same cells as the sheet shows them."""
        return Cells(self._strings, self._formats, self._rich, calculation=self._calculation, as_shown=True)

    def has_noted(self, rows: AlikeRows) -> bool:
        """Whether `note` has nothing to look for in these rows any more."""
        places = zip(self._same_as(rows).places, map(self._noted.get, rows.marks), strict=True)
        return all(not shape or not shape.literal_use or (at, shape) in self.format_notes for at, shape in places)

    def note(self, row: RawRow) -> None:
        """Note for which of a row's cells it was decided what is a unit and what is part of an identifier."""
        if self._noted.keys().isdisjoint(row.marks):
            return
        for place, mark, value in zip(column_places(row.letters, self._places), row.marks, row.values, strict=True):
            shape = self._noted.get(mark)
            if shape and shape.literal_use and value and (place, shape) not in self.format_notes:
                with suppress(ValueError, NoDate, Unsure):
                    number = float(value)
                    note = FormatNote(place, shape.code, shape.literal_use, shape.shown(number), shape.plain(number))
                    self.format_notes[place, shape] = note

    def _same_as(self, row: RawRow | AlikeRows) -> _Same:
        """What this row has in common with the last one, or may have with the next."""
        same = self._same
        if row.marks is same.marks and row.letters is same.letters:
            return same
        places = column_places(row.letters, self._places)
        readers = [self._known[mark] for mark in row.marks]
        forms = [(order, self._forms[mark]) for order, mark in enumerate(row.marks) if mark in self._forms]
        side_by_side = len(places) if places == list(range(len(places))) else -1
        self._same = _Same(row.letters, row.marks, places, readers, forms, side_by_side)
        return self._same

    def _all_at_once(self, row: RawRow, readers: list[KeptTexts]) -> tuple[list[str], tuple[CellProblem, ...]] | None:
        """A text for each cell of a row; None where it has formulas, or anything wrong with it."""
        if any(row.formulas) or self.computed:
            return None
        try:
            return list(map(getitem, readers, row.values)), ()
        except Flaw:
            return None

    def _one_by_one(self, row: RawRow, places: list[int], width: int) -> tuple[list[str], tuple[CellProblem, ...]]:
        """A text for each cell of a row that has formulas, or something wrong with it."""
        found: list[str] = []
        problems: list[CellProblem] = []
        for place, mark, formula, value in zip(places, row.marks, row.formulas, row.values, strict=True):
            try:
                texts = self._known[mark]
                if formula or self._is_computed(row.number, place + 1):
                    self._refuse_uncalculated(mark, value)
                found.append(texts[value])
            except Flaw as flaw:
                found.append(flaw.text)
                if place < width:
                    problems.append(self._problem(row.number, place, flaw))
        return found, tuple(problems)

    def _refuse_uncalculated(self, mark: bytes | None, value: bytes | None) -> None:
        """Raises `Flaw` for a formula without a value; that of a text may be empty, but then it stands there."""
        is_text = self._type(mark) in _TEXTS
        if not value and (value is None or not is_text):
            raise Flaw("", "a formula without a calculated value; open and save the workbook in Excel")
        if self._calculation.is_stale:
            raise Flaw("", f"{_STALE}; {self._calculation.advice}")
        if value in self._calculation.placeholders and not is_text:
            raise Flaw("", f"{_NEVER}; {self._calculation.advice}")

    def _is_computed(self, number: int, column: int) -> bool:
        return any(left <= column <= right and top <= number <= end for left, top, right, end in self.computed)

    def filled(self, row: RawRow) -> list[int]:
        """The places of a row's cells that aren't empty, from the left."""
        places = column_places(row.letters, self._places)
        return [place for order, place in enumerate(places) if self.is_filled(row, order)]

    def is_filled(self, row: RawRow, order: int) -> bool:
        """Whether a cell of a row, by its order among them, isn't empty."""
        value = row.values[order]
        kind = self._type(row.marks[order])
        if kind == "s" and value:
            return not self._is_blank_string(value)
        if kind in _TEXTS and (value is not None or row.formulas[order] is None):
            return not is_blank(value or b"")
        return bool(value) or row.formulas[order] is not None

    def last_full(self, rows: AlikeRows) -> int | None:
        """Which cell is the last one that isn't empty, by its order, if that is the same in all these rows."""
        for order in range(len(rows.values) - 1, -1, -1):
            if self._type(rows.marks[order]) not in _TEXTS and all(rows.values[order]):
                return order
            filled = [self.is_filled(cell, 0) for cell in rows.distinct(order)]
            if any(filled):
                return order if all(filled) else None
        return None

    def says(self, row: RawRow, order: int, text: str) -> bool:
        """Whether a cell of a row, by its order among them, is a text and this one, blanks around it aside."""
        value = row.values[order]
        if not value or self._type(row.marks[order]) not in _TEXTS:
            return False
        return self._text(row.marks[order], value).strip() == text.strip()

    def place(self, row: RawRow | AlikeRows, order: int) -> int:
        """Where a cell of a row, by its order among them, stands in the sheet; from 0."""
        place = self._places.get(row.letters[order])
        return column_places(row.letters, self._places)[order] if place is None else place

    def last_filled(self, row: RawRow) -> int:
        """Where the last cell of a row stands that isn't empty; -1 for an empty row."""
        for order in range(len(row.values) - 1, -1, -1):
            if self.is_filled(row, order):
                return self.place(row, order)
        return -1

    def last_formula(self, row: RawRow) -> int:
        """Where the last cell of a row stands that holds a formula, whatever it shows; -1 where none does."""
        if not any(row.formulas):
            return -1
        return self.place(row, max(order for order, formula in enumerate(row.formulas) if formula))

    def typed(self, row: RawRow) -> frozenset[int]:
        """The places of numbers, dates, booleans and errors."""
        places = column_places(row.letters, self._places)
        return frozenset(
            place
            for place, mark, value in zip(places, row.marks, row.values, strict=True)
            if value and self._type(mark) not in _TEXTS
        )

    def typed_cells(self, row: RawRow, places: Collection[int]) -> dict[int, TypedCell]:
        """The same with the cells themselves, of those at these places alone."""
        own = column_places(row.letters, self._places)
        return {
            place: TypedCell(value.decode("utf-8", "replace"), self._text(mark, value))
            for place, mark, value in zip(own, row.marks, row.values, strict=True)
            if place in places and value and self._type(mark) not in _TEXTS
        }

    def _text(self, mark: bytes | None, value: bytes) -> str:
        try:
            return self._known[mark][value]
        except Flaw as flaw:
            return flaw.text

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

    def _texts_of(self, raw: bytes | None) -> KeptTexts:
        """How cells with these attributes become text."""
        mark = read_mark(raw or b"")
        shape = self._formats[mark.style] if mark.style < len(self._formats) else self._formats[0]
        if mark.type == "n":
            if shape.literal_use and not self._as_shown:
                self._noted[raw] = shape
            if not shape.is_general or self._as_shown:
                self._forms[raw] = KeptForms(lambda value: self._number_forms(value, shape))
            kept = KeptNumbers if shape.is_general and not self._as_shown else KeptTexts
            return kept(lambda value: self._number(value, shape))
        if mark.type == "b":
            return KeptTexts(lambda value: "TRUE" if value.strip() in {b"1", b"true"} else "FALSE")
        if mark.type == "e":
            return KeptTexts(lambda value: _error(value, self._rich(mark.metadata)))
        if mark.type == "d":
            return KeptTexts(lambda value: self._iso_date(value, shape))
        read = self._shared if mark.type == "s" else plain_text
        return KeptTexts((lambda value: shape.shown_text(read(value))) if self._as_shown else read)

    def _shared(self, value: bytes) -> str:
        try:
            return self._strings[int(value)] if value else ""
        except (ValueError, IndexError):
            raise Flaw("", "its text is missing from the workbook's shared strings") from None

    def _number(self, value: bytes, shape: NumberFormat) -> str:
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise Flaw(plain_text(value), "no number, though the cell says that it is one")
        text = self._formatted(number, shape)
        if abs(number) >= SAFE_WHOLE and number.is_integer() and len(text) > 15:
            raise Flaw(text, "a number of 16 or more digits: Excel keeps only 15 of them", refuses=False)
        return text

    def _number_forms(self, value: bytes, shape: NumberFormat) -> NumberForms | None:
        """Its forms; None where they are all its text."""
        try:
            number = float(value)
            text = self._formatted(number, shape)
            forms = NumberForms(shape.value(number), general(number), shape.former(number))
        except (Flaw, NoDate, ValueError):
            return None
        return None if {text} == {forms.value, forms.raw, forms.former} else forms

    def _formatted(self, number: float, shape: NumberFormat) -> str:
        try:
            return shape.shown(number) if self._as_shown else shape.plain(number)
        except NoDate:
            raise Flaw(general(number), f"shows ####: {general(number)} is no date or time") from None
        except Unsure as unsure:
            text = general(number) if unsure.text is None else unsure.text
            raise Flaw(text, unsure.why, refuses=unsure.text is None) from None

    def _iso_date(self, value: bytes, shape: NumberFormat) -> str:
        """A date that stands as ISO 8601 (ECMA-376 part 1, 18.18.11: type `d`), with what of it the format shows.

        An offset from UTC is left aside: what counts is the clock that was written.
        """
        text = plain_text(value).strip()
        try:
            if "-" not in text and ":" in text:
                found = datetime.combine(datetime.min, time.fromisoformat(text)).replace(tzinfo=None)
                number = (found - datetime.min).total_seconds() / DAY
                return found.time().isoformat() if shape.is_general else self._formatted(number, shape)
            moment = datetime.fromisoformat(text).replace(tzinfo=None)
            if shape.is_general:
                return moment.isoformat().removesuffix("T00:00:00")
            return self._formatted(serial(moment, is_1904=shape.is_1904), shape)
        except ValueError:
            raise Flaw(text, "no date, though the cell says that it is one") from None
        except NoDate:
            raise Flaw(text, f"shows ####: {text} is before the first day that the workbook counts") from None


class _ByMark(dict[bytes | None, KeptTexts]):
    """The texts of cells by their attributes as they stand."""

    def __init__(self, new: Callable[[bytes | None], KeptTexts]) -> None:
        self._new = new

    def __missing__(self, mark: bytes | None) -> KeptTexts:
        texts = self[mark] = self._new(mark)
        return texts


def _error(value: bytes, rich: str | None) -> str:
    text = plain_text(value)
    if rich and not rich.startswith("#"):
        raise Flaw("", rich)
    raise Flaw(rich or text, f"the error {rich or text}")
