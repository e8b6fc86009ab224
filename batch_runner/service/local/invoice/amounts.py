"""Amounts of money as invoices write them, in either decimal convention."""

from __future__ import annotations

import re
from typing import NamedTuple

_SIGNS = {
    "€": "EUR", "£": "GBP", "R$": "BRL", "A$": "AUD", "C$": "CAD", "US$": "USD", "NZ$": "NZD", "HK$": "HKD", "$": "USD",
    "¥": "JPY", "\uffe5": "JPY", "円": "JPY", "元": "CNY", "₹": "INR", "₽": "RUB", "₴": "UAH", "₩": "KRW", "₺": "TRY",
    "₪": "ILS", "฿": "THB", "₫": "VND",
}  # fmt: skip
"""A sign that several currencies share stands for the one that writes it without a prefix most often."""

_WORDS = {"zł": "PLN", "Kč": "CZK", "Ft": "HUF", "Fr": "CHF"}

_CODES = (
    "AED|ARS|AUD|BGN|BHD|BRL|CAD|CHF|CLP|CNY|COP|CZK|DKK|EGP|EUR|GBP|GEL|HKD|HUF|IDR|ILS|"
    "INR|ISK|JOD|JPY|KES|KRW|KWD|KZT|MAD|MXN|MYR|NGN|NOK|NZD|OMR|PEN|PHP|PKR|PLN|QAR|RON|RSD|"
    "RUB|SAR|SEK|SGD|THB|TND|TRY|TWD|UAH|USD|UYU|VND|ZAR"
)

_SPACES = " \u00a0\u202f\u2009"
_NUMBER = rf"\d{{1,3}}(?:[.,'’]\d{{2,3}}|[{_SPACES}]\d{{3}}(?!\d))+(?:[.,]\d{{1,2}})?|\d+(?:[.,]\d{{1,2}})?"
_AMOUNT = re.compile(rf"(?<![\w.,/-])(?P<minus>[-−(]\s?)?(?P<number>{_NUMBER})(?![\d%]|[.,/-]\d|\s?%)")
_SIGN = "|".join(re.escape(sign) for sign in sorted(_SIGNS, key=len, reverse=True))
_CURRENCY = re.compile(rf"(?<![A-Za-z])(?:{_CODES}|{'|'.join(_WORDS)})(?![A-Za-z])|{_SIGN}")
_DECIMALS = re.compile(r"[.,](\d{1,2})$")


class Amount(NamedTuple):
    """A number as text with a point and no separators (`-1234.50`, with the decimals it was written with)."""

    text: str
    has_mark: bool
    """Whether it looks like money: it has decimals, separators, or a currency beside it."""


def amounts_in(text: str) -> list[Amount]:
    """All amounts in a text, in order. Percentages and the numbers within longer words aren't."""
    text = _CURRENCY.sub(lambda match: f" {match[0]} ", text)
    return [_amount(match, text) for match in _AMOUNT.finditer(text)]


def currency_in(text: str) -> str | None:
    """The ISO 4217 code of the first currency that a text names, by code or by symbol."""
    match = _CURRENCY.search(text)
    return (_SIGNS | _WORDS).get(match[0], match[0]) if match else None


def _amount(match: re.Match[str], text: str) -> Amount:
    written = match["number"]
    beside = text[max(0, match.start() - 6) : match.start()] + text[match.end() : match.end() + 6]
    has_mark = not written.isdigit() or _CURRENCY.search(beside) is not None
    return Amount(("-" if match["minus"] else "") + _plain(written), has_mark)


def _plain(written: str) -> str:
    """One or two digits behind the last point or comma are decimals; any other mark separates groups of digits."""
    decimals = _DECIMALS.search(written)
    whole = re.sub(r"\D", "", written[: decimals.start()] if decimals else written)
    return f"{whole}.{decimals[1]}" if decimals else whole
