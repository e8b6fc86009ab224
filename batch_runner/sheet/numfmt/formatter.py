"""A number and its format → the text that is sent: what the person sees, made independent of their locale.

Where it can't be known what the person sees, a plain number is its own value, with a warning (`Unsure` with a text).
What may be a date, a mask or an identifier has no text then (`Unsure` without one). What is a unit and what is part of
an identifier: `meaning.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from functools import cached_property, partial
from typing import TYPE_CHECKING, NoReturn

import msgspec

from batch_runner.sheet.numfmt import dates
from batch_runner.sheet.numfmt.digits import (
    decimal_of,
    fraction,
    general,
    general_shown,
    lay_out,
    rounded,
    scientific,
)
from batch_runner.sheet.numfmt.meaning import MINUS, Among, Meaning, is_currency
from batch_runner.sheet.numfmt.parser import Part, TokenKind, split_code

if TYPE_CHECKING:
    from batch_runner.sheet.numfmt.parser import DigitLayout, Section

Wording = Callable[[float], str]
"""How a section words a number. Raises `dates.NoDate` for what can't be a date, and `Unsure`."""
_NUMBER = re.compile(r"([-+]?[0-9]+(?:[.,][0-9]+)?)(%?)")
_UNPADDED = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?%?")
_OWN = frozenset({Part.DIGIT, Part.POINT, Part.COMMA, Part.EXPONENT})


class Unsure(Exception):  # noqa: N818  a property of the number and its format
    """Nobody can be sure of what the cell shows: `text` is the number itself, None where that would be a guess."""

    def __init__(self, text: str | None, why: str) -> None:
        super().__init__(why)
        self.text = text
        self.why = why


class LiteralUse(msgspec.Struct, frozen=True):
    """What a format's literals were taken for: `what` is unit, identifier or mask; `literals` are what is meant."""

    what: str
    literals: str


class NumberFormat:
    """A number format by its code; an empty one is General. `is_1904` is the date system of its workbook."""

    def __init__(self, code: str, *, is_1904: bool = False) -> None:
        self.code = code or "General"
        parsed = split_code(self.code)
        self.is_1904 = is_1904
        self._text_section = parsed.text
        self._sections = parsed.numbers
        self._others = tuple(map(Meaning, (*self._sections, *split_code("General").numbers)))
        """The sections, and what numbers come to for which none of them is."""
        self._has_conditions = any(section.condition for section in self._sections)
        self._plain: dict[int, Wording] = {}
        first = self._sections[0]
        self.is_general = len(self._sections) == 1 and first.kind is TokenKind.GENERAL and len(first.tokens) == 1

    @cached_property
    def literal_use(self) -> LiteralUse | None:
        """What its literals were taken for; None where nobody could think otherwise."""
        return next((use for use in map(_literal_use, self._others) if use), None)

    def plain(self, number: float) -> str:
        """The text that is sent for a number (`batch-runner help cells`). Raises `dates.NoDate` and `Unsure`."""
        place = self._choose(number)[0]
        if number == 0 and self._others[place].is_dash:
            place = 0
        wording = self._plain.get(place)
        if wording is None:
            wording = self._plain[place] = self._plain_wording(place)
        return wording(number)

    def value(self, number: float) -> str:
        """What a key is made of: the whole number, whatever the format shows of it.

        Dates as ISO 8601 has them; masks, identifiers and zeros that fill up as shown, for they are part of a name.
        """
        kind = self._others[self._choose(number)[0]].section.kind
        try:
            if kind is TokenKind.DATE:
                return dates.iso(number, is_1904=self.is_1904)
            text = self.plain(number)
        except (dates.NoDate, Unsure):
            return general(number)
        is_name = kind in {TokenKind.NUMBER, TokenKind.GENERAL, TokenKind.LITERAL} and not _UNPADDED.fullmatch(text)
        return text if is_name else general(number)

    def former(self, number: float) -> str:
        """What releases sent before they told units from identifiers: rows ran under keys with this text."""
        place, is_absolute = self._choose(number)
        meaning = self._others[place]
        if meaning.is_dash:
            meaning = self._others[0]
        section, form = meaning.section, meaning.section.layout
        if section.kind is TokenKind.DATE:
            return dates.plain_wording(section, is_1904=self.is_1904)(number)
        if section.kind is TokenKind.GENERAL or (section.kind is TokenKind.LITERAL and _shows_nothing(meaning)):
            return general(number)
        if section.kind is TokenKind.NUMBER and not form.thousands and (form.percents or not _was_mask(section)):
            return _amount(form, "%" * form.percents, 0)(number)
        return _shown_wording(section, is_1904=self.is_1904, is_absolute=is_absolute)(number).strip()

    def shown(self, number: float) -> str:
        """What the cell shows in an English Excel, blanks at its ends left out. Raises `dates.NoDate` and `Unsure`.

        A sign that only a colour shows is written.
        """
        place, is_absolute = self._choose(number)
        meaning = self._others[place]
        if meaning.unshowable:
            advice = "give the cell another format, or leave out --as-shown"
            raise Unsure(None, f"what its number format shows can't be told: {meaning.unshowable}; {advice}")
        text = _shown_wording(meaning.section, is_1904=self.is_1904, is_absolute=is_absolute)(number).strip()
        if number < 0 and is_absolute and meaning.section.kind is not TokenKind.LITERAL and text:
            place, is_absolute = self._choose(-number)
            other = _shown_wording(self._others[place].section, is_1904=self.is_1904, is_absolute=is_absolute)
            return f"-{text}" if other(-number).strip() == text else text
        return text

    def shown_text(self, text: str) -> str:
        """What a cell with text shows: the format may have a section for that."""
        if self._text_section is None:
            return text
        own = {Part.TEXT, Part.GENERAL}
        return "".join(text if token.part in own else token.text for token in self._text_section.tokens).strip()

    def _choose(self, number: float) -> tuple[int, bool]:
        """The place of the section for a number, and whether it shows the number without its sign."""
        if self._has_conditions:
            return _by_condition(self._sections, number)
        count = len(self._sections)
        if count > 1 and number < 0:
            return 1, True
        return (2 if count > 2 and number == 0 else 0), False

    def _plain_wording(self, place: int) -> Wording:
        meaning = self._others[place]
        section, kind = meaning.section, meaning.section.kind
        if meaning.doubt:
            return _doubtful(meaning)
        if kind in {TokenKind.DATE, TokenKind.ELAPSED}:
            return dates.plain_wording(section, is_1904=self.is_1904)
        if kind is TokenKind.LITERAL:
            return general if _shows_nothing(meaning) else _read_back(partial(_laid_out, section=section))
        if kind is TokenKind.SCIENTIFIC:
            return _signed(partial(scientific, section=_bare(section)))
        if kind is TokenKind.FRACTION:
            return _signed(partial(fraction, section=section, is_bare=True))
        return self._with_sign_seen(place, meaning, _plain_number(meaning, is_only=len(self._sections) == 1))

    def _with_sign_seen(self, place: int, meaning: Meaning, wording: Wording) -> Wording:
        """The same, with the sign that the person sees, where the format turns it round or shows one for none.

        What is turned round (`-0.00;0.00`) is sent so, with a warning. A minus or brackets around a number that isn't
        negative are no sign by themselves, but nobody can be sure.
        """
        pair = self._others[:2] if len(self._sections) > 1 and not self._has_conditions else ()
        flips = bool(pair) and pair[0].shows_sign and not pair[1].shows_sign and place < 2
        if not (flips or meaning.shows_sign):
            return wording

        def seen(number: float) -> str:
            text = wording(-number if flips else number)
            if number == 0 or (number < 0 and not flips):
                return text
            is_named = meaning.is_mask or any(meaning.kept)
            if flips:
                why = "its number format turns its sign round; sent as shown"
            else:
                why = "its number format writes a minus or brackets beside it; sent without them"
            raise Unsure(None if is_named else text, why)

        return seen


def _by_condition(sections: tuple[Section, ...], number: float) -> tuple[int, bool]:
    """The first section whose condition holds; one without a condition is for all the rest."""
    for place, section in enumerate(sections):
        condition = section.condition
        if place == len(sections) - 1 and condition is None:
            break
        holds = condition.holds(number) if condition else place == 1 and number < 0
        if holds:
            below_zero = condition is None or (condition.operator in {"<", "<="} and condition.limit <= 0)
            return place, below_zero and len(sections) > 1
    if sections[-1].condition:
        return len(sections), False
    first = sections[0].condition
    only_negative_left = len(sections) == 2 and first is not None and first.operator == ">=" and first.limit == 0
    return len(sections) - 1, only_negative_left


def _literal_use(meaning: Meaning) -> LiteralUse | None:
    """What a section's literals were taken for, where another reader could think otherwise."""
    if meaning.doubt or meaning.section.kind not in {TokenKind.NUMBER, TokenKind.GENERAL}:
        return None
    if meaning.is_mask:
        return LiteralUse("mask", meaning.words)
    if any(meaning.kept):
        return LiteralUse("identifier", " and ".join(repr(text) for text in meaning.kept if text))
    units = [text for text in (meaning.prefix, meaning.suffix) if any(map(str.isalpha, text)) and not is_currency(text)]
    return LiteralUse("unit", " and ".join(map(repr, units))) if units else None


def _shows_nothing(meaning: Meaning) -> bool:
    return meaning.is_dash or not meaning.words.strip()


def _was_mask(section: Section) -> bool:
    """Whether former releases took its digits for a mask: zeros in front, or literals among them."""
    form = section.layout
    if form.integer.count("0") > 1 and not form.grouped:
        return True
    places = [place for place, token in enumerate(section.tokens) if token.part is Part.DIGIT]
    within = section.tokens[places[0] : places[-1]]
    return any(token.part is Part.LITERAL and token.text.strip() for token in within)


def _doubtful(meaning: Meaning) -> Wording:
    """For a section that nobody can be sure of: the number's own value, or nothing where it may be no plain number."""
    code = f"its number format can't be read with certainty: {meaning.doubt}"

    def doubtful(number: float) -> NoReturn:
        if meaning.may_be_more:
            raise Unsure(None, f"{code}; give the cell another format, or type it as text")
        raise Unsure(general(number), f"{code}; sent as the cell's value")

    return doubtful


def _plain_number(meaning: Meaning, *, is_only: bool) -> Wording:
    """An amount, a mask or an identifier; a scaled number as the cell holds it.

    A plus that is shown for all numbers (`is_only`) is part of one, such as a telephone number.
    """
    section, form = meaning.section, meaning.section.layout
    if form.thousands:
        return general
    if meaning.is_mask:
        return _read_back(_mask(section))
    if meaning.is_amount and section.kind is TokenKind.NUMBER:
        return _amount(form, meaning.percent_sign, form.padding if meaning.among is Among.NOTHING else 0)
    digits = general if section.kind is TokenKind.GENERAL else _amount(form, "", form.padding)
    before, behind = meaning.kept
    if is_only and meaning.prefix.strip() == "+":
        before = "+"
    sign = meaning.percent_sign
    if not (before or behind or sign):
        return digits

    def named(number: float) -> str:
        minus = "-" if number < 0 else ""
        return f"{minus}{before}{digits(abs(number))}{behind}{sign}"

    return named if sign else _read_back(named)


def _amount(form: DigitLayout, sign: str, padding: int) -> Wording:
    """As many decimals as shown, a point, no separator, no symbol but `%`; as many integer digits as shown at least."""
    places = len(form.decimals)
    optional = places - len(form.decimals.rstrip("#?"))
    width = 0 if form.grouped else padding

    def wording(number: float) -> str:
        value = decimal_of(number)
        text = f"{rounded(value.scaleb(form.shift) if form.shift else value, places):f}"
        if optional:
            text = text[:-optional] + text[-optional:].rstrip("0")
            text = text.rstrip(".")
        if text[0] == "-" and not text.strip("-0."):
            text = text[1:]
        if width > 1:
            whole, point, rest = text.lstrip("-").partition(".")
            text = f"{'-' if text[0] == '-' else ''}{whole:0>{width}}{point}{rest}"
        return text + sign

    return wording


def _read_back(wording: Wording) -> Wording:
    """The same, but for texts that read like another number than the cell's."""

    def checked(number: float) -> str:
        text = wording(number).strip()
        match = _NUMBER.fullmatch(text)
        if match and not _is_rounded(match, decimal_of(number)):
            raise Unsure(None, f"shows {text}, but holds {general(number)}; give the cell another format")
        return text

    return checked


def _is_rounded(match: re.Match[str], value: Decimal) -> bool:
    read = Decimal(match[1].replace(",", "."))
    return read == rounded(value.scaleb(2 * len(match[2])), -int(read.as_tuple().exponent))


def _mask(section: Section) -> Wording:
    """Digits as shown, literals and all."""

    def masked(number: float) -> str:
        value = decimal_of(number)
        text = _without_sign(lay_out(abs(value), section))
        if not any(map(str.isdigit, text)):
            return general(number)
        return f"-{text}" if value < 0 and rounded(value, 0) else text

    return masked


def _without_sign(text: str) -> str:
    """What a negative section shows, without the minus or the brackets that it shows for the sign."""
    text = text.strip()
    if text.startswith("(") and text.endswith(")") and text.count("(") == 1:
        return text[1:-1].strip()
    return text.lstrip(MINUS).strip()


def _signed(wording: Callable[[Decimal], str]) -> Wording:
    """What is said of a number's size, behind its sign."""

    def signed(number: float) -> str:
        value = decimal_of(number)
        text = wording(abs(value)).strip()
        return f"-{text}" if value < 0 and any("1" <= letter <= "9" for letter in text) else text

    return signed


def _bare(section: Section) -> Section:
    """A section without its literals."""
    return msgspec.structs.replace(section, tokens=tuple(token for token in section.tokens if token.part in _OWN))


def _shown_wording(section: Section, *, is_1904: bool, is_absolute: bool) -> Wording:
    kind = section.kind
    if kind is TokenKind.DATE:
        return partial(dates.shown, section=section, is_1904=is_1904)
    if kind is TokenKind.ELAPSED:
        return partial(dates.elapsed, section=section)

    def wording(number: float) -> str:
        value = decimal_of(number)
        sign = "-" if value < 0 and not is_absolute else ""
        return sign + _laid_out(abs(value), section)

    return wording


def _laid_out(value: Decimal | float, section: Section) -> str:
    kind = section.kind
    if kind is TokenKind.NUMBER:
        return lay_out(Decimal(value), section)
    if kind is TokenKind.SCIENTIFIC:
        return scientific(Decimal(value), section)
    if kind is TokenKind.FRACTION:
        return fraction(Decimal(value), section, is_bare=False)
    text = general_shown(float(value))
    return "".join(text if token.part in {Part.GENERAL, Part.TEXT} else token.text for token in section.tokens)
