"""A cell's text as an amount: read where it can be nothing else, and never guessed at."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_runner.rows.amounts import (
    Amount,
    NoAmount,
    agreed,
    currency_of,
    may_be_doubted,
    read_amount,
    shown_currency,
    style_of,
    worded,
)
from batch_runner.sheet.numfmt.meaning import CURRENCY_CODES


@pytest.mark.parametrize(
    ("text", "value", "currency"),
    [
        ("1234.50", "1234.50", ""),
        ("1234,50", "1234.50", ""),
        ("1,234.50", "1234.50", ""),
        ("1.234,50", "1234.50", ""),
        ("1 234,50", "1234.50", ""),
        ("1\u202f234,50 €", "1234.50", "EUR"),
        ("1’234.50", "1234.50", ""),
        ("1,234,567", "1234567", ""),
        ("1.234.567,8", "1234567.8", ""),
        ("0.500", "0.500", ""),
        ("1234.567", "1234.567", ""),
        ("12", "12", ""),
        ("007", "7", ""),
        ("-5.00", "-5.00", ""),
        ("−5.00", "-5.00", ""),
        ("+5.00", "5.00", ""),
        ("5.00-", "-5.00", ""),
        ("(5.00)", "-5.00", ""),
        ("-€5.00", "-5.00", "EUR"),
        ("€ (5.00)", "-5.00", "EUR"),
        ("USD 5", "5", "USD"),
        ("5.00 usd", "5.00", "USD"),
        ("$5", "5", "$"),
        ("US$ 5", "5", "USD"),
        ("12,50 zł", "12.50", "PLN"),
        ("  7.10  ", "7.10", ""),
    ],
)
def test_what_can_be_read_in_one_way_only(text: str, value: str, currency: str) -> None:
    """Signs, currencies, decimals after a comma or a point, thousands in groups."""
    assert read_amount(text) == Amount(Decimal(value), currency)


@pytest.mark.parametrize(
    "text",
    [
        *("", "   ", "abc", "-", "€", "1.234", "1,234", "999,999", "1.234 €", "(1,234)"),
        *("12,34.5", "1,2345,678", "1.234.50", "1,234 567", "5 000 0", "1'23", "1 2", "12:30", "2026-02-28"),
        *("1E5", "19.5%", "5 Mio", "5k", "12.50 EUR USD", "--5", "(5", "5)", "-(5)", ".50", "5.", "٣", "½", "9" * 31),
    ],
)
def test_what_is_not_sure_is_no_amount(text: str) -> None:
    """Whatever could be another amount, or none, has a reason instead of a value."""
    found = read_amount(text)
    assert isinstance(found, NoAmount)
    assert found.why


@pytest.mark.parametrize(("text", "value"), [("1.234", "1.234"), ("1,234", "1234"), ("1,234.50 €", "1234.50")])
def test_a_number_of_a_workbook_is_sure(text: str, value: str) -> None:
    """Where the cell is a number a point can only divide and a comma only group."""
    found = read_amount(text, typed=True)
    assert isinstance(found, Amount)
    assert found.value == Decimal(value)


amounts = st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=2)
NOTATIONS = ((",", "."), (".", ","), (" ", ","), ("’", "."), ("\u00a0", ","))


@given(amounts, st.sampled_from(NOTATIONS), st.booleans(), st.sampled_from(["", " €", " CHF"]))
def test_every_notation_with_cents_gives_the_amount_back(
    amount: Decimal, notation: tuple[str, str], grouped: bool, currency: str
) -> None:
    """An amount to the cent, written in any of the notations, is read as itself to the cent."""
    thousands, point = notation
    text = f"{amount:,.2f}" if grouped else f"{amount:.2f}"
    text = text.translate({ord(","): thousands, ord("."): point})
    assert read_amount(text + currency) == Amount(amount, {"": "", " €": "EUR", " CHF": "CHF"}[currency])


@given(st.text(max_size=20))
def test_any_text_is_an_amount_or_has_a_reason(text: str) -> None:
    """Nothing raises, whatever a cell holds."""
    assert isinstance(read_amount(text), Amount | NoAmount)
    assert shown_currency(text) == "" or currency_of(shown_currency(text)) == shown_currency(text)


@pytest.mark.parametrize(
    ("shown", "currency"),
    [("1,234.50 €", "EUR"), ("CHF -5.00", "CHF"), ("$1,000", "$"), ("€ -", "EUR"), ("12 pieces", ""), ("12", "")],
)
def test_the_currency_that_a_format_shows(shown: str, currency: str) -> None:
    """Known currencies only: a unit of another kind is none."""
    assert shown_currency(shown) == currency


def test_currencies_agree_or_contradict() -> None:
    """A sign that several currencies share agrees with each of these, and with no other."""
    assert agreed("", "EUR") == agreed("EUR", "") == agreed("EUR", "EUR") == "EUR"
    assert agreed("$", "USD") == agreed("USD", "$") == "USD"
    assert agreed("$", "EUR") is None
    assert agreed("EUR", "USD") is None
    assert {"EUR", "USD", "JPY", "KWD"} <= CURRENCY_CODES


@pytest.mark.parametrize(
    ("value", "words"),
    [("1234.5", "1,234.50"), ("1234", "1,234"), ("-0.125", "-0.125"), ("1234567.00", "1,234,567.00")],
)
def test_amounts_in_words(value: str, words: str) -> None:
    """All decimals that there are, two where there is one."""
    assert worded(Decimal(value)) == words


@pytest.mark.parametrize(
    ("others", "is_doubtful"),
    [
        (("12.50", "7", "2.500"), False),
        ((), False),
        (("abc", "", "28.02.2026"), False),
        (("99,00",), True),
        (("1.234.567",), True),
        (("1'000",), True),
        (("1,234",), True),
        (("5,00 €",), True),
    ],
)
def test_the_others_of_a_column_say_what_a_point_is(others: tuple[str, ...], is_doubtful: bool) -> None:
    """`1.234` is a number where all are written as programs do; beside a comma or groups it may be a thousand."""
    style = style_of([*others, "1.234"])
    assert may_be_doubted("1.234")
    assert (style.doubt("1.234") is not None) == is_doubtful
    assert style.doubt("1.23") is None


def test_a_number_has_one_currency() -> None:
    """Two currencies in a column are no plain numbers; one, with or without its sign, is."""
    assert style_of(["5 €", "5,00 EUR", "7"]).doubt("5 €") is None
    assert style_of(["5 €", "5 CHF"]).doubt("5 €") == "has amounts in CHF and EUR, and a number has no currency"
    assert style_of(["5 €", "5 CHF"]).doubt("5") is None
    assert not may_be_doubted("5.00")
