"""The fields of an invoice, read from its pages: a value is given only where there is ground for it."""

from __future__ import annotations

import re
from collections import Counter
from decimal import Decimal, InvalidOperation
from functools import cached_property
from itertools import zip_longest
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from batch_runner.service.local.invoice.amounts import sums_of
from batch_runner.service.local.invoice.layout import CELL, Label, TextLine, lines_of, pattern_of
from batch_runner.service.local.invoice.parties import Parties
from batch_runner.service.local.invoice.values import (
    Confidence,
    Day,
    Fields,
    amounts_in,
    currencies_in,
    currency_in,
    dates_in,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from batch_runner.service.local.invoice.pdf import Document, PageText


class LabelPlace(NamedTuple):
    """A label's surroundings."""

    field: str
    is_weak: bool
    begins_cell: bool
    beside: str
    """What is right of it, up to the next label; cells are separated by CELL."""
    under: str
    """The cell below it, unless it heads a column of a list."""


def fields_of(pages: Sequence[PageText]) -> Fields:
    """Read the fields from the pages of a PDF."""
    lines = lines_of(pages)
    places = list(_places(lines))
    title = _title(lines)
    sums = sums_of(lines)
    currency = _currency(lines, sums.line)
    dates = _Dates(lines, currency)
    invoice_date = _invoice_date(dates, places, title)
    parties = Parties(lines)
    found: dict[str, tuple[str | None, Confidence]] = {
        "number": (_number(places, title), "label"),
        "invoice_date": (invoice_date, "label"),
        "due_date": (_due_date(dates, places, invoice_date), "label"),
        "seller": (parties.seller, "label"),
        "currency": (currency, "label"),
        "net": (sums.net, sums.confidence),
        "tax": (sums.tax, sums.confidence),
        "total": (sums.total, sums.confidence),
        "payable": (sums.payable, "checked"),
        "iban": (parties.iban(), "checked"),
        "seller_vat_id": (parties.seller_vat_id(), "checked"),
        "buyer": (parties.buyer, "label"),
        "order_number": (_order_number(places), "label"),
        "kind": (_kind(lines, sums.total), "label"),
    }
    given: dict[str, Any] = {field: value for field, (value, _) in found.items() if value}
    return Fields(**given, source="page", confidence={field: found[field][1] for field in given})


def _places(lines: Sequence[TextLine]) -> Iterator[LabelPlace]:
    """All labels in order; what is beside one ends where the next begins."""
    for number, line in enumerate(lines):
        for place, label in enumerate(line.labels):
            if label.field == "none":
                continue
            following = line.labels[place + 1 :]
            start, end = label.end, following[0].start if following else len(line.text)
            if following and _JOINS.fullmatch(line.text[start:end]):  # `Rechnungsdatum/Lieferdatum 12.3.2026`
                start, end = following[0].end, following[1].start if len(following) > 1 else len(line.text)
            before = line.text[: label.start]
            begins = not before.strip(" \t#*•·-–:") or before.rstrip(" #*•·-–").endswith(CELL)
            beside = line.text[start:end]
            under = "" if _VALUE.search(beside.split(CELL)[0]) else _under(lines, number, label)
            is_heading = (
                label.is_weak and len(line.cells) > 2 and not any(other.field == "number" for other in line.labels)
            )
            yield LabelPlace(label.field, label.is_weak, begins, beside, "" if is_heading else under)


_JOINS = re.compile(r"\s*(?:[/&+]|und|and|et|en|y|e|i)\s*")
_VALUE = re.compile(r"\d")
_FURTHER_DOWN = 2.6  # lines: so far below its label a value may stand


def _under(lines: Sequence[TextLine], number: int, label: Label) -> str:
    """The text of the nearest cell below a label. Of numbers of the same shape below one another none is meant."""
    line, found = lines[number], ""
    left, right = line.span(label.start, label.end)
    for below in lines[number + 1 : number + 4]:
        reach = (2 if found else 1) * _FURTHER_DOWN * line.height
        if below.page != line.page or below.top - line.bottom > reach:
            break
        text = next((cell.text for cell in below.cells if cell.left < right and cell.right > left), "")
        if found and text:
            is_list = _VALUE.search(found) and _shape(found) == _shape(text)
            return "" if is_list and (label.is_weak or label.field == "number") else found
        found = found or text
    return found


def _shape(text: str) -> str:
    """`HP-17` and `HP-18` have the same."""
    return re.sub(r"\d+", "9", re.sub(r"[^\W\d_]+", "a", text))


_SEPARATOR = r"[\s:：.#№°º|_=–-]*"
_SIGN = rf"{_SEPARATOR}(?:\(\d{{2,3}}\){_SEPARATOR})?(?:(?:no|nr|number|num|n|nummer|numéro|č|nº|id)\b{_SEPARATOR})?"
_PIECE = r"(?=[\w/.-]*\d)\w[\w/.-]*"
_NUMBER = re.compile(rf"{_SIGN}((?-i:[A-Z]{{1,6}} )?{_PIECE}(?: ?[/-] ?{_PIECE})*)", re.IGNORECASE)


_TITLE = re.compile(
    r"\W*(?P<title>(?:[^\W\d]|[ '’()/&.-]|\(\d{3}\)){3,60}?)\s*(?:\(\d{3}\)\s*)?\b(?:nr|no|n°|nº|n|num|č|#)[.:°º]?:?\s*"
    r"(?P<rest>(?:\S*\d).*)",
    re.IGNORECASE,
)
_NUMBERED = re.compile(pattern_of("titles", "numbered"), re.IGNORECASE)
_OF_ANOTHER = re.compile(pattern_of("titles", "of_another"), re.IGNORECASE)
_LEADS_ON = re.compile(r"\b(?:vom|du|dated|del|van)\s*$")
_LED = re.compile(r"\W*(?:vom|du|dated|del|van)\s+\d")


def _title(lines: Sequence[TextLine]) -> str:
    """What follows `Nr.` in a title such as `Rechnung des Versicherers Nr. 7 vom 12.3.2026`.

    The date may stand a line below.
    """
    for line, under in zip_longest(lines[:80], lines[1:81]):
        match = _TITLE.match(line.text.replace(CELL, " "))
        if match and _NUMBERED.search(match["title"]) and not _OF_ANOTHER.search(match["title"]):
            rest = match["rest"]
            goes_on = under is not None and (_LEADS_ON.search(rest) or _LED.match(under.text))
            return f" {rest} {under.text.split(CELL)[0]}" if goes_on else f" {rest}"
    return ""


def _number(places: list[LabelPlace], title: str) -> str | None:
    """The best labelled one: a label that names a number, beside it before under it; else a title that one follows."""
    strong = [place for place in places if place.field == "number" and not place.is_weak and place.begins_cell]
    weak = [place for place in places if place.field == "number" and place.is_weak and place.begins_cell]
    for texts in (
        [place.beside for place in strong],
        [place.under for place in strong if not _VALUE.search(place.beside)],
        [title],
        [place.beside for place in weak],
        [place.under for place in weak if not place.beside.strip(" \t:.#")],
    ):
        if number := next((number for text in texts if (number := _number_in(text))), None):
            return number
    like_dates = (_NUMBER_LIKE_DATE.match(place.beside) for place in strong)
    return next((match[1] for match in like_dates if match), None)


_NUMBER_LIKE_DATE = re.compile(rf"{_SIGN}(\d{{1,4}}/\d{{1,4}}/\d{{2,4}})(?:$|\t| )", re.IGNORECASE)
"""Poland and Italy count within months: invoice 15/03/2026."""

_GROUPS = re.compile(r"\d+(?: \d+)+(?=$|\t)")


def _number_in(text: str) -> str | None:
    match = _NUMBER.match(text)
    if not match or CELL in match[1]:
        return None
    in_groups = _GROUPS.match(text, match.start(1))  # `73 4512 8891`
    number = in_groups[0] if in_groups and not dates_in(in_groups[0]) else match[1].rstrip(".-/,")
    is_date = any(day.start < match.end(1) and day.end >= match.start(1) + len(number) for day in dates_in(text))
    rest = text[match.end(1) :]
    return None if (is_date and len(number) != 8) or rest.startswith((" %", "%", ",")) else number


def _order_number(places: list[LabelPlace]) -> str | None:
    """The one order that is named; of several none is the invoice's."""
    numbers = set()
    for place in places:
        if place.field == "order_number" and place.begins_cell:
            text = place.beside if place.beside.strip(" \t:.#") else place.under
            match = _NUMBER.match(text)
            if match and not dates_in(match[1]) and CELL not in match[1]:
                numbers.add(match[1].rstrip(".-/,"))
    return numbers.pop() if len(numbers) == 1 else None


class _Dates:
    """Reads the dates of one invoice, in the order of day and month that it has."""

    def __init__(self, lines: Sequence[TextLine], currency: str | None) -> None:
        self._lines = lines
        self._month_first = _month_first(lines, currency)

    def in_text(self, text: str) -> list[Day]:
        """All dates in a text; where either could be the month, and nothing says which, it isn't sure."""
        days = dates_in(text, month_first=bool(self._month_first))
        return [day for day in days if not day.is_either] if self._month_first is None else days

    def beside(self, text: str) -> str | None:
        """A date that a text begins with, after a word or two that lead to it."""
        lead = _LEAD.match(text)
        start = lead.end() if lead else 0
        return next((day.iso for day in self.in_text(text) if day.start <= start), None)

    def at(self, places: list[LabelPlace]) -> list[str]:
        """The dates beside the labels, else those under them."""
        beside = [day for place in places if (day := self.beside(place.beside))]
        empty = [place for place in places if not _VALUE.search(place.beside)]
        return beside or [day for place in empty if (day := self.beside(place.under))]

    def behind(self, texts: Iterable[str]) -> list[str]:
        """The dates in texts such as `Nr. 7 vom 12. März 2026`."""
        return [
            day.iso
            for text in texts
            for day in self.in_text(text)
            if any(lead.end() == day.start for lead in _DATED.finditer(text))
        ]

    def with_places(self) -> list[str]:
        """The dates in cells such as `München, den 12. März 2026`, above or below a letter."""
        cells = [cell.text for line in self._lines if line.page == 0 for cell in line.cells if len(cell.text) < 50]
        return [
            day.iso
            for text in cells
            if (lead := _PLACE.match(text))
            for day in self.in_text(text)
            if day.start == lead.end() and day.end >= len(text) - 1
        ]


_LEAD = re.compile(
    r"(?:[/&][^\W\d]+)?[\s:：.\-–|(]*(?:(?:le|den|am|du|vom|von|at|on|of|the|dated|from|del|il|el|op|d|dnia|bis|zum|zu|au|until|till|is|ist|"
    r"dne|per|před)\b[\s:.]*){0,3}(?:\w{2,10}\.?,\s+)?",
    re.IGNORECASE,
)
_DATED = re.compile(
    r"(?:\bissued(?: on| at)?|\bvom|\bvon|\bdu|\bdated|\bdel|\bfrom|\bvan|\bz dnia|\bze dne|\bden|\bof|\bav|\baf)\s+"
    r"|[,\t]\s*",
    re.IGNORECASE,
)
_PLACE = re.compile(r"[A-ZÀ-Ž][\w.-]+(?: [\w/.-]+){0,3}, (?:(?:den|le|the|il|dnia|am|dne|el|a)\s+)?")


def _invoice_date(dates: _Dates, places: list[LabelPlace], title: str) -> str | None:
    """By the first ground that gives a date; where it gives several, the most frequent.

    A label of its own; behind the invoice's number; the mere word `date`; within a sentence; with the place.
    """
    labelled = [place for place in places if place.field == "invoice_date" and not place.is_weak]
    mere = [place for place in places if place.field == "invoice_date" and place.is_weak and place.begins_cell]
    numbers = [place.beside for place in places if place.field == "number" and place.begins_cell]
    for days in (
        dates.at([place for place in labelled if place.begins_cell]),
        dates.behind([title, *numbers]),
        dates.at(mere),
        dates.at([place for place in labelled if not place.begins_cell]),
        dates.with_places(),
    ):
        if days:
            most = Counter(days).most_common()
            return most[0][0] if len(most) == 1 or most[0][1] > most[1][1] else None
    return None


_DISCOUNT = re.compile(pattern_of("titles", "discount"), re.IGNORECASE)


def _due_date(dates: _Dates, places: list[LabelPlace], invoice_date: str | None) -> str | None:
    """The one date by which all is to be paid, not the earlier one for a discount."""
    found = [place for place in places if place.field == "due_date"]
    days = dates.at([place for place in found if not _DISCOUNT.search(place.beside)] or found)
    sensible = {day for day in days if not invoice_date or day >= invoice_date}
    return sensible.pop() if len(sensible) == 1 else None


_TWO_NUMBERS = re.compile(r"(?<![\d/])(\d{1,2})/(\d{1,2})/(?:\d{4}|\d{2})(?![\d/])")
_ENGLISH = re.compile(r"\b(?:invoice|bill to|due|amount|total)\b", re.IGNORECASE)


def _month_first(lines: Sequence[TextLine], currency: str | None) -> bool | None:
    """Whether 03/04/2026 is the 4th of March: as another date on the pages has it, else as the currency's country does.

    None where nothing says so: Canada writes both, and dollars are billed in other languages, too.
    """
    votes = Counter[bool]()
    for line in lines:
        for first, second in _TWO_NUMBERS.findall(line.text):
            if (int(first) > 12) != (int(second) > 12):
                votes[int(second) > 12] += 1
    if votes:
        return votes[True] > votes[False]
    if currency == "USD":
        return True if any(_ENGLISH.search(line.text) for line in lines) else None
    return None if currency == "CAD" else False


_CURRENCY_LABEL = re.compile(rf"{pattern_of('titles', 'currency')}\s*[:\t ]\s*(.{{1,20}})", re.IGNORECASE)


def _currency(lines: Sequence[TextLine], total_line: int | None) -> str | None:
    """That of the total; else the one that a label names; else the only one on the invoice."""
    if total_line is not None and (codes := set(_settled(currencies_in(lines[total_line].text), lines))):
        return codes.pop() if len(codes) == 1 else None
    for line in lines:
        labelled = _CURRENCY_LABEL.search(line.text)
        if labelled and (code := currency_in(labelled[1])):
            return code
    every = set(_settled([code for line in lines for code in currencies_in(line.text)], lines))
    return every.pop() if len(every) == 1 else None


_OTHER_DOLLARS = {
    "CAD": re.compile(r"\bCAD\b|\bCanada\b|\bHST\b|\bQST\b"),
    "AUD": re.compile(r"\bAUD\b|\bAustralia\b|\bABN\b"),
    "NZD": re.compile(r"\bNZD\b|New Zealand"),
    "SGD": re.compile(r"\bSGD\b|Singapore"),
    "HKD": re.compile(r"\bHKD\b"),
}
_US_DOLLARS = re.compile(r"\bUSD\b|US\s?\$|US Dollar")


def _settled(codes: list[str], lines: Sequence[TextLine]) -> list[str]:
    """A mere `$` is that of the country that the pages speak of."""
    text = "\n".join(line.text for line in lines) if "USD" in codes else ""
    other = [code for code, pattern in _OTHER_DOLLARS.items() if pattern.search(text)]
    if len(other) != 1 or _US_DOLLARS.search(text):
        return codes
    return [other[0] if code == "USD" else code for code in codes]


_CREDIT = re.compile(pattern_of("titles", "credit_note"), re.IGNORECASE)
_EITHER = re.compile(pattern_of("titles", "correction"), re.IGNORECASE)
_INVOICE = re.compile(pattern_of("titles", "invoice"), re.IGNORECASE)


def _kind(lines: Sequence[TextLine], total: str | None) -> Literal["invoice", "credit note"] | None:
    """What the title says. `Gutschrift` is a credit note only where the total is negative; a correction is either."""
    titles = [cell.text for line in lines[:60] if line.page == 0 for cell in line.cells if len(cell.text) < 60]
    credit = next((match[0] for text in titles if (match := _CREDIT.match(text.lstrip(" *#")))), None)
    is_negative = (total or "").startswith("-")
    if credit:
        is_correction = _EITHER.match(credit) or (credit.casefold() == "gutschrift" and not is_negative)
        return None if is_correction else "credit note"
    return "invoice" if any(_INVOICE.search(line.text) for line in lines) and not is_negative else None


def contradictions(xml: Fields, document: Document, ends: int | None = None) -> tuple[str, ...]:
    """One sentence for each field of the XML that the pages give another value, and nowhere that of the XML.

    Most pages show all that the XML says; to read their fields takes longer than to find these values in the text.
    Reads so many pages as `ends` says at both ends. Raises TaskFailed as `Document.pages` does.
    """
    shown = _Shown(document.text(ends))
    ours = {field: value for field in _COMPARED if (value := getattr(xml, field)) and not shown.has(field, value)}
    if not ours:
        return ()
    page = fields_of(document.pages(ends))
    theirs = {field: getattr(page, field) for field in ours}
    return tuple(
        f"{field}: the XML says {value}, the page {theirs[field]}."
        for field, value in ours.items()
        if theirs[field] and not _is_same(value, theirs[field])
    )


_SUMS = ("net", "tax", "total", "payable")
_COMPARED = ("number", "invoice_date", "due_date", "seller", "currency", *_SUMS, "iban")


def _is_same(one: str, other: str) -> bool:
    """A credit note's amounts may have a minus on the page and none in the XML."""
    try:
        return abs(Decimal(one)) == abs(Decimal(other))
    except InvalidOperation:
        return _letters(one) == _letters(other)


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", text.casefold())


class _Shown:
    """What a text shows anywhere, however it is written there."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._letters = _letters(text)

    def has(self, field: str, value: str) -> bool:
        """Whether a field's value is shown."""
        if field in _SUMS:
            return abs(Decimal(value)) in self._amounts
        if field.endswith("date"):
            return value in self._days
        return _letters(value) in self._letters

    @cached_property
    def _amounts(self) -> set[Decimal]:
        return {abs(amount.value) for amount in amounts_in(self._text)}

    @cached_property
    def _days(self) -> set[str]:
        """All dates, and those that could be read in the other order of day and month in both."""
        days = dates_in(self._text)
        swapped = {
            f"{year}-{day}-{month}" for year, month, day in (day.iso.split("-") for day in days if day.is_either)
        }
        return swapped | {day.iso for day in days}
