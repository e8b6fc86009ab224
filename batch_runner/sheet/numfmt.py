"""A number and its format → the text that is sent: what the person sees, made independent of their locale."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_runner.sheet import dates, digits
from batch_runner.sheet.formatcode import Kind, Part, split_code

if TYPE_CHECKING:
    from decimal import Decimal

    from batch_runner.sheet.formatcode import Section


class NumberFormat:
    """A number format by its code. `is_1904` is the date system of its workbook."""

    def __init__(self, code: str, *, is_1904: bool = False) -> None:
        sections = split_code(code)
        self._is_1904 = is_1904
        self._text_section = _text_section(sections)
        self._sections = sections[:3] if len(sections) > 1 or sections[0] is not self._text_section else sections
        self.is_general = len(sections) == 1 and sections[0].kind is Kind.GENERAL and len(sections[0].tokens) == 1

    def plain(self, number: float) -> str:
        """The text that is sent for a number (DESIGN, *From cell to text*). Raises `dates.NoDate`."""
        section, is_absolute = self._choose(number)
        if _shows_nothing(section):
            return digits.general(number)
        kind = section.kind
        if kind is Kind.DATE:
            return dates.iso(number, section, is_1904=self._is_1904)
        if kind is Kind.ELAPSED:
            return dates.elapsed(number, section).strip()
        if _is_dash(section, kind):
            section, kind = self._sections[0], self._sections[0].kind
        if kind is Kind.GENERAL:
            return digits.general(number)
        if kind is Kind.NUMBER and not _is_mask(section):
            return _plain_number(number, section)
        return self._lay_out(number, section, is_absolute=is_absolute).strip()

    def shown(self, number: float) -> str:
        """What the cell shows in an English Excel, blanks at its ends left out. Raises `dates.NoDate`."""
        section, is_absolute = self._choose(number)
        if section.kind is Kind.DATE:
            return dates.shown(number, section, is_1904=self._is_1904).strip()
        if section.kind is Kind.ELAPSED:
            return dates.elapsed(number, section).strip()
        return self._lay_out(number, section, is_absolute=is_absolute).strip()

    def shown_text(self, text: str) -> str:
        """What a cell with text shows: the format may have a section for that."""
        if self._text_section is None:
            return text
        return "".join(text if token.part is Part.TEXT else token.text for token in self._text_section.tokens).strip()

    def _choose(self, number: float) -> tuple[Section, bool]:
        """The section for a number, and whether it shows the number without its sign."""
        sections = self._sections
        if any(section.condition for section in sections):
            return _by_condition(sections, number)
        if len(sections) == 1 or number > 0:
            return sections[0], False
        if number < 0:
            return sections[1], True
        return sections[2 if len(sections) > 2 else 0], False

    def _lay_out(self, number: float, section: Section, *, is_absolute: bool) -> str:
        value = digits.decimal_of(number)
        sign = "-" if value < 0 and not is_absolute else ""
        return sign + _laid_out(abs(value), section)


def _text_section(sections: tuple[Section, ...]) -> Section | None:
    if len(sections) > 3:
        return sections[3]
    return sections[-1] if sections[-1].has(Part.TEXT) else None


def _by_condition(sections: tuple[Section, ...], number: float) -> tuple[Section, bool]:
    """The first section whose condition holds; one without a condition is for all the rest."""
    for place, section in enumerate(sections[:-1]):
        condition = section.condition
        holds = condition.holds(number) if condition else place == 1 and number < 0 and len(sections) > 2
        if holds:
            return section, condition is None or (condition.operator in {"<", "<="} and condition.limit <= 0)
    last = sections[-1]
    first = sections[0].condition
    only_negative_left = len(sections) == 2 and first is not None and first.operator == ">=" and first.limit == 0
    return last, only_negative_left


def _shows_nothing(section: Section) -> bool:
    return section.kind is Kind.LITERAL and not section.literal.strip()


def _is_dash(section: Section, kind: Kind) -> bool:
    """Whether it shows a zero as a mere dash, as accounting formats do: `_-* "-"??_-`."""
    if section.literal.strip(" -–—") and kind is Kind.LITERAL:
        return False
    form = digits.layout(section)
    return kind is Kind.LITERAL or (
        kind is Kind.NUMBER and "-" in section.literal and "0" not in form.integer + form.decimals
    )


def _is_mask(section: Section) -> bool:
    """Whether its digits are no amount: zeros in front (`00000`), or literals among them (`000-00-0000`)."""
    form = digits.layout(section)
    if form.thousands or form.percents:
        return form.thousands > 0
    if form.integer.count("0") > 1 and not form.grouped:
        return True
    places = [place for place, token in enumerate(section.tokens) if token.part is Part.DIGIT]
    within = section.tokens[places[0] : places[-1]]
    return any(token.part is Part.LITERAL and token.text.strip() for token in within)


def _plain_number(number: float, section: Section) -> str:
    """As many decimals as shown, a point, no separator, no symbol but `%`."""
    form = digits.layout(section)
    value = digits.rounded(digits.decimal_of(number).scaleb(form.shift), len(form.decimals))
    whole = f"{abs(value):f}".partition(".")[0]
    decimals = digits.decimals_shown(abs(value), form.decimals)
    sign = "-" if value < 0 else ""
    return f"{sign}{whole}{'.' if decimals else ''}{decimals}{'%' * form.percents}"


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
