"""A cell's text as an amount with its currency. What may be read in two ways isn't read at all."""

from __future__ import annotations

import re
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import TYPE_CHECKING

import msgspec

from batch_runner.sheet.numfmt.digits import decimal_of
from batch_runner.sheet.numfmt.meaning import CURRENCY_CODES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_runner.sheet.model import Column, TypedCell


SIGNS = {
    "€": "EUR",
    "euro": "EUR",
    "us$": "USD",
    "r$": "BRL",
    "zł": "PLN",
    "kč": "CZK",
    "₹": "INR",
    "₺": "TRY",
    "₩": "KRW",
    "₪": "ILS",
    "₴": "UAH",
    "₽": "RUB",
    "₫": "VND",
    "₱": "PHP",
    "฿": "THB",
}
"""Signs that one currency alone has."""

_DOLLARS = "ARS AUD BBD BMD BND BSD BZD CAD CLP COP FJD HKD JMD MXN NZD SGD SRD TTD TWD USD UYU XCD"
SHARED_SIGNS = {
    "$": frozenset(_DOLLARS.split()),
    "£": frozenset({"EGP", "FKP", "GBP", "GIP", "LBP", "SDG", "SHP", "SYP"}),
    "¥": frozenset({"CNY", "JPY"}),
}
"""Signs of several: alone they are a currency of their own, beside the code of one of these they mean that one."""

COLUMN_NAMES = frozenset(
    {
        *("currency", "currency code", "curr", "curr.", "ccy", "währung", "waehrung", "whg", "whg.", "devise"),
        *("monnaie", "moneda", "moeda", "divisa", "valuta", "waluta", "měna", "pénznem"),
    }
)
"""What a column is called that names the currency of each row, in small letters."""


def currency_of(word: str) -> str | None:
    """The currency that a word or sign names: a code of ISO 4217 or a shared sign; None where it names none."""
    code = word.upper()
    if code in CURRENCY_CODES or word in SHARED_SIGNS:
        return code
    return SIGNS.get(word.lower())


def agreed(one: str, other: str) -> str | None:
    """The currency that two places name, either of which may be ""; None where they contradict each other."""
    if not one or not other or one == other:
        return one or other
    if other in SHARED_SIGNS.get(one, ()):
        return other
    return one if one in SHARED_SIGNS.get(other, ()) else None


def currency_column(columns: Iterable[Column]) -> Column | None:
    """The one column that names currencies; None where there is none, or more than one."""
    found = [column for column in columns if column.name.strip().lower() in COLUMN_NAMES]
    return found[0] if len(found) == 1 else None


EXACT = Context(prec=80, traps=[Inexact, InvalidOperation])
"""Adds without ever rounding: 80 digits are more than any sheet's amounts come to."""
MOST_DIGITS = 30

_SPACES = " \u00a0\u2009\u202f"
_AMOUNT = re.compile(rf"([^0-9]*)([0-9](?:[0-9.,'’{_SPACES}]*[0-9])?)([^0-9]*)")
_PLAIN = re.compile(r"([0-9]+)(?:[.,]([0-9]+))?")
_GROUPED = re.compile(rf"([1-9][0-9]{{0,2}}([.,'’{_SPACES}])[0-9]{{3}}(?:\2[0-9]{{3}})*)(?:(?!\2)[.,]([0-9]+))?")
_EITHER = re.compile(r"[1-9][0-9]{0,2}[.,][0-9]{3}")
"""`1.234` is 1234 to some and 1.234 to others."""
_SCIENTIFIC = re.compile(r"-?[0-9]+(?:\.[0-9]+)?[eE][+-]?[0-9]+")
_ANY_DIGIT = re.compile("[0-9A-Za-z%]")
_SIGN = {"": 1, "+": 1, "-": -1, "()": -1}
_SIGN_MARKS = "+-−()"
_NO_SIGNS = dict.fromkeys(map(ord, _SIGN_MARKS))
_FIGURES = re.compile(rf"[0-9.,'’{_SPACES}{re.escape(_SIGN_MARKS)}]+")


class Amount(msgspec.Struct, frozen=True):
    """So much of a currency: a code of ISO 4217, a sign, or "" where none is named."""

    value: Decimal
    currency: str


class NoAmount(msgspec.Struct, frozen=True):
    """Why a cell's amount is not known for sure: a phrase without the cell's text, which is nobody else's."""

    why: str


def read_amount(text: str, *, typed: bool = False) -> Amount | NoAmount:
    """The amount that a text stands for.

    It may have a sign (`-5.00`, `5.00-`, `(5.00)`), a currency before or after it, and a comma or point before its
    decimals; thousands may be grouped by commas, points, apostrophes or spaces. `typed`: the cell is a number, so a
    comma can only group and a point only divide.
    """
    if not text.strip():
        return NoAmount("empty")
    found = _AMOUNT.fullmatch(text.strip())
    if found is None:
        return NoAmount("not an amount")
    before, number, after = found.groups()
    value = _value(number, typed)
    sign = _SIGN.get("".join(mark for mark in before + after if mark in _SIGN_MARKS).replace("−", "-"))
    words = [word for word in (_word(before), _word(after)) if word]
    currency = currency_of(words[0]) if len(words) == 1 else None if words else ""
    if isinstance(value, NoAmount):
        return value
    if sign is None or currency is None:
        return NoAmount("not an amount in a currency that is known")
    return Amount(value if sign > 0 else EXACT.minus(value), currency)


def held_amount(text: str, cell: TypedCell) -> Amount | NoAmount:
    """The number that a cell holds, of which `text` is what is sent; with the currency that the text names.

    Excel's SUM adds this number, whatever the cell shows: fewer decimals, thousands, a dash for zero. It has 15 digits.
    A date, a percentage and the like are no amounts.
    """
    shown = read_amount(text, typed=True)
    try:
        held = decimal_of(float(cell.stored))
    except (ValueError, InvalidOperation):
        return NoAmount("not an amount")
    if not held.is_finite():
        return NoAmount("not an amount")
    if isinstance(shown, Amount):
        return shown if shown.value == held else Amount(held, shown.currency)
    if _SCIENTIFIC.fullmatch(text) or (not held and not _ANY_DIGIT.search(text)):
        return Amount(held, shown_currency(text))
    return shown


def shown_currency(text: str) -> str:
    """The currency that a number's format shows beside it; "" where it shows none that is known."""
    return currency_of(_FIGURES.sub("", text)) or ""


def worded(value: Decimal) -> str:
    """`1,234.50`: as many decimals as it has, two where it has one."""
    places = -int(value.as_tuple().exponent)
    return f"{value:,.2f}" if places == 1 else f"{value:,f}"


def _value(text: str, typed: bool) -> Decimal | NoAmount:
    if typed:
        text = text.replace(",", "")
    elif _EITHER.fullmatch(text):
        return NoAmount("its one comma or point may mark thousands or decimals")
    if plain := _PLAIN.fullmatch(text):
        whole, cents = plain[1], plain[2]
    elif grouped := _GROUPED.fullmatch(text):
        whole, cents = re.sub("[^0-9]", "", grouped[1]), grouped[3]
    else:
        return NoAmount("not an amount")
    if len(whole) + len(cents or "") > MOST_DIGITS:
        return NoAmount(f"more than {MOST_DIGITS} digits")
    return Decimal(f"{whole}.{cents}" if cents else whole)


def _word(text: str) -> str:
    return text.translate(_NO_SIGNS).strip()
