"""A number and its format → the text that is sent: what the person sees, made independent of their locale."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from batch_runner.sheet.format import dates, digits
from batch_runner.sheet.format.formatcode import Kind, Part, split_code

if TYPE_CHECKING:
    from decimal import Decimal

    from batch_runner.sheet.format.formatcode import Section


Wording = Callable[[float], str]
"""How a section words a number. Raises `dates.NoDate` for what can't be a date."""


class NumberFormat:
    """A number format by its code. `is_1904` is the date system of its workbook."""

    def __init__(self, code: str, *, is_1904: bool = False) -> None:
        sections = split_code(code)
        self._is_1904 = is_1904
        self._text_section = _text_section(sections)
        self._sections = sections[:3]
        self._others = (*self._sections, *split_code("General"))
        """The sections, and what numbers come to for which none of them is."""
        self._has_conditions = any(section.condition for section in self._sections)
        self._plain: dict[tuple[int, bool], Wording] = {}
        self.is_general = len(sections) == 1 and sections[0].kind is Kind.GENERAL and len(sections[0].tokens) == 1

    def plain(self, number: float) -> str:
        """The text that is sent for a number (`batch-runner help cells`). Raises `dates.NoDate`."""
        chosen = self._choose(number)
        wording = self._plain.get(chosen)
        if wording is None:
            wording = self._plain[chosen] = self._plain_wording(*chosen)
        return wording(number)

    def shown(self, number: float) -> str:
        """What the cell shows in an English Excel, blanks at its ends left out. Raises `dates.NoDate`."""
        place, is_absolute = self._choose(number)
        return _shown_wording(self._others[place], is_1904=self._is_1904, is_absolute=is_absolute)(number).strip()

    def shown_text(self, text: str) -> str:
        """What a cell with text shows: the format may have a section for that."""
        if self._text_section is None:
            return text
        return "".join(text if token.part is Part.TEXT else token.text for token in self._text_section.tokens).strip()

    def _choose(self, number: float) -> tuple[int, bool]:
        """The place of the section for a number, and whether it shows the number without its sign."""
        if self._has_conditions:
            return _by_condition(self._sections, number)
        count = len(self._sections)
        if count > 1 and number < 0:
            return 1, True
        return (2 if count > 2 and number == 0 else 0), False

    def _plain_wording(self, place: int, is_absolute: bool) -> Wording:
        section = self._others[place]
        if _is_dash(section):
            section = self._sections[0]
        kind = section.kind
        if kind is Kind.DATE:
            return dates.iso_wording(section, is_1904=self._is_1904)
        if kind is Kind.GENERAL or _shows_nothing(section):
            return digits.general
        if kind is Kind.NUMBER and not _is_mask(section):
            return _plain_number(section)
        shown = _shown_wording(section, is_1904=self._is_1904, is_absolute=is_absolute)
        return lambda number: shown(number).strip()


def _text_section(sections: tuple[Section, ...]) -> Section | None:
    if len(sections) > 3:
        return sections[3]
    return sections[-1] if sections[-1].has(Part.TEXT) else None


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


def _shows_nothing(section: Section) -> bool:
    return section.kind is Kind.LITERAL and not section.literal.strip()


def _is_dash(section: Section) -> bool:
    """Whether it shows a zero as a mere dash, as accounting formats do: `_-* "-"??_-`."""
    if section.kind is Kind.LITERAL:
        return bool(section.literal.strip()) and not section.literal.strip(" -–—")
    form = section.layout
    return section.kind is Kind.NUMBER and "-" in section.literal and "0" not in form.integer + form.decimals


def _is_mask(section: Section) -> bool:
    """Whether its digits are no amount: zeros in front (`00000`), or literals among them (`000-00-0000`)."""
    form = section.layout
    if form.thousands or form.percents:
        return form.thousands > 0
    if form.integer.count("0") > 1 and not form.grouped:
        return True
    places = [place for place, token in enumerate(section.tokens) if token.part is Part.DIGIT]
    within = section.tokens[places[0] : places[-1]]
    return any(token.part is Part.LITERAL and token.text.strip() for token in within)


def _plain_number(section: Section) -> Wording:
    """As many decimals as shown, a point, no separator, no symbol but `%`."""
    form = section.layout
    places = len(form.decimals)
    optional = places - len(form.decimals.rstrip("#?"))
    percents = "%" * form.percents

    def wording(number: float) -> str:
        value = digits.decimal_of(number)
        text = f"{digits.rounded(value.scaleb(form.shift) if form.shift else value, places):f}"
        if optional:
            text = text[:-optional] + text[-optional:].rstrip("0")
            text = text.rstrip(".")
        if text[0] == "-" and not text.strip("-0."):
            text = text[1:]
        return text + percents

    return wording


def _shown_wording(section: Section, *, is_1904: bool, is_absolute: bool) -> Wording:
    kind = section.kind
    if kind is Kind.DATE:
        return partial(dates.shown, section=section, is_1904=is_1904)
    if kind is Kind.ELAPSED:
        return partial(dates.elapsed, section=section)

    def wording(number: float) -> str:
        value = digits.decimal_of(number)
        sign = "-" if value < 0 and not is_absolute else ""
        return sign + _laid_out(abs(value), section)

    return wording


def _laid_out(value: Decimal, section: Section) -> str:
    kind = section.kind
    if kind is Kind.NUMBER:
        return digits.lay_out(value, section)
    if kind is Kind.SCIENTIFIC:
        return digits.scientific(value, section)
    if kind is Kind.FRACTION:
        return digits.fraction(value, section)
    general = digits.general_shown(float(value))
    return "".join(general if token.part in {Part.GENERAL, Part.TEXT} else token.text for token in section.tokens)
