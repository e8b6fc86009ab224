"""What is found on an invoice: its fields and lines; and values as invoices write them.

These are amounts in either decimal convention, currencies, dates, account and VAT ids.
"""

from __future__ import annotations

import datetime
import re
import unicodedata
from decimal import Decimal
from typing import Literal, NamedTuple

import msgspec
from stdnum import iban
from stdnum.eu import vat
from stdnum.gb import vat as gb_vat
from stdnum.no import mva

Confidence = Literal["data", "checked", "label"]


class Fields(msgspec.Struct, frozen=True):
    """What an invoice says; None where it doesn't, or where there is no sufficient ground for a value.

    Dates are ISO 8601, `currency` is an ISO 4217 code, amounts are decimal numbers as text, with a point, no separators
    and the decimals that were written. A credit note's amounts have the sign that they have on the invoice.
    """

    number: str | None = None
    invoice_date: str | None = None
    due_date: str | None = None
    seller: str | None = None
    currency: str | None = None
    net: str | None = None
    tax: str | None = None
    total: str | None = None
    """The grand total, tax included."""
    payable: str | None = None
    """What is to be paid, where it differs from the total: a part is paid already."""
    iban: str | None = None
    seller_vat_id: str | None = None
    buyer: str | None = None
    order_number: str | None = None
    kind: Literal["invoice", "credit note"] | None = None
    source: Literal["xml", "page"] = "page"
    warnings: tuple[str, ...] = ()
    """One sentence each; it begins with the field that it is about."""
    confidence: dict[str, Confidence] = {}
    """Of each field that is given: `data` (from the XML), `checked` (amounts that add up, check digits that are right),
    `label` (it stands where its label says)."""


VALUES = tuple(name for name in Fields.__struct_fields__ if name not in ("source", "warnings", "confidence"))
"""The fields that an invoice itself has."""


class InvoiceLine(msgspec.Struct, frozen=True):
    """One line of an invoice; numbers as in Fields."""

    position: str | None = None
    description: str | None = None
    quantity: str | None = None
    unit: str | None = None
    """A code of UN/ECE Recommendation 20 (`C62` is one piece, `HUR` an hour)."""
    unit_price: str | None = None
    tax_rate: str | None = None
    net: str | None = None


_SIGNS = {
    "€": "EUR", "£": "GBP", "R$": "BRL", "A$": "AUD", "AU$": "AUD", "C$": "CAD", "CA$": "CAD", "US$": "USD",
    "NZ$": "NZD", "HK$": "HKD", "S$": "SGD", "$": "USD", "¥": "JPY", "\uffe5": "JPY", "円": "JPY", "元": "CNY",
    "₹": "INR", "₽": "RUB", "₴": "UAH", "₩": "KRW", "₺": "TRY", "₪": "ILS", "฿": "THB", "₫": "VND",
}  # fmt: skip
"""A sign that several currencies share stands for the one that writes it without a prefix most often."""

_WORDS = {"zł": "PLN", "Kč": "CZK", "Ft": "HUF", "Fr": "CHF", "Euro": "EUR", "Rs": "INR"}

_CODES = (
    "AED|ARS|AUD|BGN|BHD|BRL|CAD|CHF|CLP|CNY|COP|CZK|DKK|EGP|EUR|GBP|GEL|HKD|HUF|IDR|ILS|"
    "INR|ISK|JOD|JPY|KES|KRW|KWD|KZT|MAD|MXN|MYR|NGN|NOK|NZD|OMR|PEN|PHP|PKR|PLN|QAR|RON|RSD|"
    "RUB|SAR|SEK|SGD|THB|TND|TRY|TWD|UAH|USD|UYU|VND|ZAR"
)

_SPACES = " \u00a0\u202f\u2009"
_GROUPED = rf"[1-9]\d{{0,2}}(?:[.,'’]\d{{2,3}}|[{_SPACES}]\d{{3}}(?!\d))+(?:[.,]\s{{0,3}}\d{{1,2}})?"
_NUMBER = rf"{_GROUPED}|\d+(?:[.,]\d{{1,2}})?"
_SIGN = "|".join(re.escape(sign) for sign in sorted(_SIGNS, key=len, reverse=True))
_FIRST = "".join(sorted({code[0] for code in (*_CODES.split("|"), *_WORDS, *_SIGNS)}))
_CURRENCY = re.compile(  # looked for at a first character only, it is three times as fast
    rf"(?=[{_FIRST}])(?:(?<![^\W\d_])(?:{_CODES}|{'|'.join(_WORDS)})(?![^\W\d_])|{_SIGN})"
)
_AMOUNT = re.compile(
    rf"(?<![\w.,/:-])(?P<minus>[-−–(]\s?)?(?P<number>{_NUMBER})(?P<after>\s?-(?![\w-]))?"
    rf"(?![\d%]|[.,/:-]\d|\s?%|[-/]?[^\W\d_])"
)
_DIGIT = re.compile(r"\d")
_DECIMALS = re.compile(r"[.,](\d{1,2})$")


class Money(NamedTuple):
    """A number as text with a point and no separators (`-1234.50`, with the decimals it was written with)."""

    text: str
    has_mark: bool
    """Whether it looks like money: it has decimals, separators, or a currency beside it."""
    start: int
    end: int

    @property
    def value(self) -> Decimal:
        """The number that it is."""
        return Decimal(self.text)


def amounts_in(text: str) -> list[Money]:
    """All amounts in a text, in order. Percentages, dates and the numbers within longer words aren't."""
    if not _DIGIT.search(text):
        return []
    blanked = _CURRENCY.sub(lambda match: " " * len(match[0]), text)
    return [_amount(match, text) for match in _AMOUNT.finditer(blanked)]


def currency_in(text: str) -> str | None:
    """The ISO 4217 code of the first currency that a text names, by code or by symbol."""
    return next(iter(currencies_in(text)), None)


def currencies_in(text: str) -> list[str]:
    """The ISO 4217 codes of all currencies that a text names, in order."""
    return [(_SIGNS | _WORDS).get(found, found) for found in _CURRENCY.findall(text)]


def without_currency(text: str) -> str:
    """A text without the currencies that it names."""
    return _CURRENCY.sub(" ", text)


def sum_of(*amounts: str) -> Decimal:
    """The sum of amounts as text."""
    return sum(map(Decimal, amounts), Decimal())


def _amount(match: re.Match[str], text: str) -> Money:
    written = re.sub(r"(?<=[.,])\s+", "", match["number"])
    before, after = text[max(0, match.start() - 6) : match.start()], text[match.end() : match.end() + 6]
    beside = before.rpartition("\t")[2] + " " + after.partition("\t")[0]
    has_mark = not written.isdigit() or _CURRENCY.search(beside) is not None
    signed = re.search(
        rf"(?:^|[\s(])[-−]\s?(?:{_SIGN})$", text[max(0, match.start() - 8) : match.start()].rstrip(_SPACES)
    )
    is_minus = match["minus"] or match["after"] or signed
    return Money(("-" if is_minus else "") + _plain(written), has_mark, match.start(), match.end())


def _plain(written: str) -> str:
    """One or two digits behind the last point or comma are decimals; any other mark separates groups of digits."""
    decimals = _DECIMALS.search(written)
    whole = re.sub(r"\D", "", written[: decimals.start()] if decimals else written)
    return f"{whole}.{decimals[1]}" if decimals else whole


_MONTHS = (
    "january jan januar janner jänner janvier janv enero ene gennaio gen januari stycznia styczen janeiro leden ledna",
    "february feb februar fevrier fevr fev febrero febbraio febbr februari lutego luty fevereiro unora unor",
    "march mar marz maerz mars marzo maart mrt marca marzec marco brezna brezen marts",
    "april apr avril avr abril abr aprile kwietnia kwiecien dubna duben",
    "may mai mayo maggio mag mei maja maj maio kvetna kveten",
    "june jun juni juin junio giugno giu czerwca czerwiec junho cervna cerven",
    "july jul juli juillet juil julio luglio lug lipca lipiec julho cervence cervenec",
    "august aug aout agosto ago agustus augustus sierpnia sierpien srpna srpen augusti",
    "september sep sept septembre septiembre settembre set wrzesnia wrzesien setembro zari",
    "october oct oktober okt octobre octubre ottobre ott pazdziernika pazdziernik outubro rijna rijen",
    "november nov novembre noviembre listopada novembro listopadu",
    "december dec dezember dez decembre diciembre dic dicembre grudnia grudzien dezembro prosince prosinec desember",
)
_MONTH_OF = {name: number for number, names in enumerate(_MONTHS, 1) for name in names.split()}

_NAME = r"(?P<name>[^\W\d_]{3,12}+)\.?"
_FORMS = [
    re.compile(form, re.IGNORECASE)
    for form in (
        r"(?<![\w.-])(?P<year>\d{4})(?P<mark>[-./])(?P<month>\d{1,2})(?P=mark)(?P<day>\d{1,2})(?!\d|-\d)",
        r"(?P<year>\d{4})\s?年\s?(?P<month>\d{1,2})\s?月\s?(?P<day>\d{1,2})\s?日",
        r"(?P<year>\d{4})\s?년\s?(?P<month>\d{1,2})\s?월\s?(?P<day>\d{1,2})\s?일",
        r"(?<![\d./-])(?P<day>\d{1,2})(?P<mark>[-./])\s?(?P<month>\d{1,2})(?P=mark)\s?(?P<year>\d{4}|\d{2})(?![\d/-])",
        rf"(?<!\d)(?P<day>\d{{1,2}})(?:st|nd|rd|th|er|º|°|\.)?[-\s]*(?:de\s+)?{_NAME}(?:\s+de|\s+del)?,?[-\s]*(?P<year>\d{{4}})",
        rf"(?<![^\W\d_]){_NAME}\s+(?P<day>\d{{1,2}})(?:st|nd|rd|th)?\s?,?\s+(?P<year>\d{{4}})",
        r"(?<![\w.,/-])(?P<year>20\d\d)(?P<month>0[1-9]|1[0-2])(?P<day>0[1-9]|[12]\d|3[01])(?![\w.,/-])",
    )
]


class Day(NamedTuple):
    """A date in a text."""

    iso: str
    start: int
    end: int
    is_either: bool
    """Whether day and month could be the other way round."""


def dates_in(text: str, *, month_first: bool = False) -> list[Day]:
    """All dates in a text, in order. `month_first` decides what 03/04/2026 is, where both could be."""
    if not _DIGIT.search(text):
        return []
    found = [day for form in _FORMS for match in form.finditer(text) if (day := _day(match, month_first))]
    return sorted(found, key=lambda day: day.start)


def date_in(text: str, *, month_first: bool = False) -> str | None:
    """The first date in a text, as ISO 8601."""
    return next((day.iso for day in dates_in(text, month_first=month_first)), None)


def plain_date(text: str) -> str | None:
    """A date as XML has it: ISO 8601, or the same without hyphens (UN/CEFACT's format 102)."""
    match = re.match(r"(\d{4})-?(\d\d)-?(\d\d)", text)
    return _iso(int(match[1]), int(match[2]), int(match[3])) if match else None


def _day(match: re.Match[str], month_first: bool) -> Day | None:
    parts = match.groupdict()
    name, day, year = parts.get("name"), int(parts["day"]), int(parts["year"])
    month = _month(name) if name else int(parts["month"])
    has_two_orders = parts.get("mark") in ("/", "-") and not match[0].startswith(parts["year"])
    is_either = has_two_orders and day <= 12 and month <= 12 and day != month
    if has_two_orders and (month > 12 or (month_first and day <= 12)):
        day, month = month, day
    iso = _iso(year + 2000 if year < 100 else year, month, day)
    return Day(iso, match.start(), match.end(), is_either) if iso else None


def _iso(year: int, month: int, day: int) -> str | None:
    try:
        return datetime.date(year, month, day).isoformat()
    except ValueError:
        return None


def _month(name: str) -> int:
    """The number of a month by its name or a short form, accents or not; 0 if it is none."""
    plain = unicodedata.normalize("NFKD", name.casefold())
    return _MONTH_OF.get("".join(c for c in plain if not unicodedata.combining(c)), 0)


_IBAN = re.compile(r"(?<![A-Z0-9])[A-Z]{2}\d{2}(?:[ \u00a0]?[A-Z0-9]){11,30}")


class FoundId(NamedTuple):
    """An id in a text, without its blanks."""

    id: str
    start: int
    end: int


def ibans_in(text: str) -> list[FoundId]:
    """All IBANs in a text whose check digits are right; what follows one directly isn't taken for a part of it."""
    found = []
    for match in _IBAN.finditer(text):
        parts = match[0].split()
        ends = ["".join(parts[:count]) for count in range(len(parts), 0, -1)]
        if right := next((end for end in ends if is_iban(end)), None):
            found.append(FoundId(right, match.start(), match.end()))
    return found


def is_iban(text: str) -> bool:
    """Whether a text without blanks is an IBAN with the right length for its country and the right check digits."""
    return bool(iban.is_valid(text, check_country=False))  # the countries' own lists of banks lag behind


_VAT_ID = re.compile(
    r"(?<![A-Z0-9])(?:[A-Z]{2}U?(?:[ .-]?[A-Z0-9]){8,12}|CHE[- ]?\d{3}[. ]?\d{3}[. ]?\d{3})(?![A-Z0-9])"
)


_VAT_LABEL = re.compile(
    r"(?<![^\W\d_])(?:u\.?st|uid|vat|t\.?v\.?a|btw|p?\.?iva|moms|mva|dič|nip|nif|tax)", re.IGNORECASE
)
_VAT_COUNTRIES = re.compile(
    "AT|BE|BG|CH|CY|CZ|DE|DK|EE|EL|ES|FI|FR|GB|HR|HU|IE|IT|LT|LU|LV|MT|NL|NO|PL|PT|RO|SE|SI|SK|XI"
)


def vat_ids_in(text: str) -> list[FoundId]:
    """All VAT ids in a text: what their country's check bears out, and what is only called so."""
    found, accounts = [], {one.start for one in ibans_in(text)}
    for match in _VAT_ID.finditer(text):
        before = text[max(0, match.start() - 25) : match.start()]
        compact = _without_what_follows(match[0])
        is_one = is_vat_id(compact) or (_VAT_LABEL.search(before) and _VAT_COUNTRIES.match(compact))
        is_account = match.start() in accounts or "IBAN" in before[-12:].upper()
        if is_one and not is_account and sum(char.isdigit() for char in compact) >= 7:
            found.append(FoundId(compact, match.start(), match.end()))
    return found


def _without_what_follows(written: str) -> str:
    """A VAT id of which the end isn't sure: the longest beginning that the check bears out, else the shortest."""
    parts = written.split()
    beginnings = [re.sub(r"[.-]", "", "".join(parts[:count])) for count in range(1, len(parts) + 1)]
    right = [beginning for beginning in beginnings if is_vat_id(beginning)]
    long_enough = [beginning for beginning in beginnings if len(beginning) >= 9]
    return right[-1] if right else next(iter(long_enough), "".join(parts))


def is_vat_id(text: str) -> bool:
    """Whether a text without blanks is a VAT id, by the check of its country: the EU, United Kingdom or Norway."""
    if text.startswith(("GB", "XI")):
        return bool(gb_vat.is_valid(text[2:]))
    if text.startswith("NO"):
        return bool(mva.is_valid(text))
    return bool(vat.is_valid(text))
