"""The fields of an invoice: found by their labels, in the text as it stands on the page."""

from __future__ import annotations

import re
from decimal import Decimal
from itertools import product, zip_longest
from typing import TYPE_CHECKING

import msgspec

from batch_runner.service.local.invoice.amounts import Amount, amounts_in, currency_in
from batch_runner.service.local.invoice.dates import date_in
from batch_runner.service.local.invoice.labels import LABEL, TITLE, field_of

if TYPE_CHECKING:
    from collections.abc import Iterator


class Fields(msgspec.Struct, frozen=True):
    """What an invoice says; None where it doesn't.

    Dates are ISO 8601, `currency` is an ISO 4217 code, amounts are decimal numbers as text, with a point, no separators
    and the decimals that were written.
    """

    number: str | None
    invoice_date: str | None
    due_date: str | None
    seller: str | None
    currency: str | None
    net: str | None
    tax: str | None
    total: str | None


class _Place(msgspec.Struct, frozen=True):
    """A label's surroundings: what is right of it, and what is under it."""

    field: str
    beside: str
    under: str


_GAP = re.compile(r"\s{2,}")
_SEPARATOR = r"[\s:：.#№°º|–-]*"
_PIECE = r"(?=[\w/.-]*\d)\w[\w/.-]*"
_NUMBER_SIGN = rf"{_SEPARATOR}(?:(?:no|nr|number|n)\b{_SEPARATOR})?"
_NUMBER = re.compile(rf"{_NUMBER_SIGN}((?-i:[A-Z]{{1,4}} )?{_PIECE}(?: ?[/-] ?{_PIECE})*)", re.IGNORECASE)
_WORDS = re.compile(r"[^\W\d_]{2}")


def fields_of(text: str) -> Fields:
    """Read the fields from the text of a page's layout."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    places = list(_places(lines))
    net = next(reversed(_amounts(places, "net")), None)
    tax, total = _tax_and_total(net, _amounts(places, "tax"), _amounts(places, "total"))
    currency = _currency(places, text)
    month_first = currency == "USD"
    return Fields(
        number=_number(places),
        invoice_date=_date(places, "invoice_date", month_first=month_first),
        due_date=_date(places, "due_date", month_first=month_first),
        seller=_seller(places, lines),
        currency=currency,
        net=net,
        tax=tax,
        total=total,
    )


def _places(lines: list[str]) -> Iterator[_Place]:
    """All labels in order; what is beside one ends where the next begins."""
    for line, under in zip(lines, [*lines[1:], ""], strict=True):
        labels = list(LABEL.finditer(line))
        for label, following in zip_longest(labels, labels[1:]):
            end = following.start() if following else len(line)
            yield _Place(field_of(label[0]), line[label.end() : end], _column(under, label.start(), label.end()))


def _column(line: str, start: int, end: int) -> str:
    """The stretch of a line, between wide gaps, that is under the columns from start to end."""
    position = 0
    for gap in [*_GAP.finditer(line), None]:
        stop = gap.start() if gap else len(line)
        if position < end and stop > start:
            return line[position:stop].strip()
        position = gap.end() if gap else stop
    return ""


def _all(places: list[_Place], field: str) -> list[_Place]:
    return [place for place in places if place.field == field]


def _number(places: list[_Place]) -> str | None:
    for place in _all(places, "number"):
        beside = _NUMBER.match(place.beside)
        under = None if place.beside.strip(" .:：#") else _NUMBER.match(place.under)
        if (found := beside or under) and not date_in(found[1]):
            return found[1].rstrip(".-/")
    return None


def _date(places: list[_Place], field: str, *, month_first: bool) -> str | None:
    """Beside its label or under it; the invoice's own may also stand behind its number (`Nr. 7 vom 12. März 2026`)."""
    found = _all(places, field)
    number = _all(places, "number") if field == "invoice_date" else []
    texts = [*(place.beside for place in found), *(place.under for place in found), *(place.beside for place in number)]
    dates = (date_in(text, month_first=month_first) for text in texts)
    return next((date for date in dates if date), None)


def _amounts(places: list[_Place], field: str) -> list[str]:
    """The last amount beside each label; under the labels only if there is none beside any (a row of headings)."""
    found = _all(places, field)
    beside = [amounts[-1].text for place in found if (amounts := _money(place.beside))]
    return beside or [amounts[0].text for place in found if (amounts := _money(place.under))]


def _money(text: str) -> list[Amount]:
    return [amount for amount in amounts_in(text) if amount.has_mark]


def _tax_and_total(net: str | None, taxes: list[str], totals: list[str]) -> tuple[str | None, str | None]:
    """The last of each, unless net + tax = total holds for others: several rates, or a part is paid already."""
    if net is not None and taxes:
        together = str(sum(map(Decimal, taxes), Decimal()))
        for total, tax in product(reversed(totals), (*reversed(taxes), together)):
            if Decimal(net) + Decimal(tax) == Decimal(total):
                return tax, total
    return next(reversed(taxes), None), next(reversed(totals), None)


def _currency(places: list[_Place], text: str) -> str | None:
    """That of the total, else the first that the text names."""
    for place in reversed(_all(places, "total")):
        if currency := currency_in(place.beside):
            return currency
    return currency_in(text)


def _seller(places: list[_Place], lines: list[str]) -> str | None:
    """What is labelled so, else the first words on the page that are no title and no labelled field."""
    for place in _all(places, "seller"):
        if name := next(_names(_named_by(place)), None):
            return name
    names = (name for line in lines for name in _names(line))
    return next((name for name in names if not TITLE.fullmatch(name) and not LABEL.match(name)), None)


def _named_by(place: _Place) -> str:
    """What a label for a company names: what follows its colon, or what is under it if it stands alone."""
    if place.beside.lstrip().startswith((":", "：")):
        return place.beside
    return "" if _GAP.split(place.beside)[0].strip() else place.under


def _names(line: str) -> Iterator[str]:
    """The parts of a line, between wide gaps, that have words in them and no money."""
    parts = (part.strip(" :：") for part in _GAP.split(line))
    return (part for part in parts if _WORDS.search(part) and not _money(part))
