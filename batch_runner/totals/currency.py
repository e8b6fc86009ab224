"""Currencies: codes, signs, and the column of a sheet that names them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_runner.sheet.numfmt.meaning import CURRENCY_CODES

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_runner.sheet.row import Column

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
