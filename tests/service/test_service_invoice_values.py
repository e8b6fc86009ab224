"""Amounts, currencies and dates, as invoices of many countries write them."""

from __future__ import annotations

import datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_runner.service.local.invoice.values import amounts_in, currency_in, date_in, ibans_in, is_vat_id, vat_ids_in


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("1,234.50", "1234.50"),
        ("1.234,50 €", "1234.50"),
        ("1 234,50 zł", "1234.50"),
        ("1\u202f234,50 €", "1234.50"),
        ("CHF 1’234.50", "1234.50"),
        ("1'234.5", "1234.5"),
        ("1,23,456.00", "123456.00"),
        ("¥123,456", "123456"),
        ("EUR1234", "1234"),
        ("12.345 €", "12345"),
        ("0,07", "0.07"),
        ("-5.00", "-5.00"),
        ("−1.000,00", "-1000.00"),
        ("$(5.00)", "-5.00"),
        ("9 999 999,99", "9999999.99"),
    ],
)
def test_amounts_in_either_convention(text: str, amount: str) -> None:
    """One or two digits behind the last mark are decimals; three are a group."""
    assert [found.text for found in amounts_in(text)] == [amount]


@given(
    amount=st.decimals(0, 10**9, places=2),
    marks=st.sampled_from([(",", "."), (".", ","), (" ", ","), ("\u00a0", ","), ("’", "."), ("", "."), ("", ",")]),
    form=st.sampled_from(["{}", "{} €", "€ {}", "£{}", "{} EUR", "USD {}", "{}zł", "Total: {}."]),
)
def test_every_amount_written_in_a_known_form_is_read_back(amount: Decimal, marks: tuple[str, str], form: str) -> None:
    """Any amount, in any mix of separators and currency signs, is read as the number it is."""
    whole, _, decimals = f"{amount:,}".partition(".")
    (found,) = amounts_in(form.format(whole.replace(",", marks[0]) + marks[1] + decimals))
    assert (Decimal(found.text), found.has_mark) == (amount, True)


@pytest.mark.parametrize("text", ["20%", "7,5 %", "A4", "DE123456789", "2026-02-28", "28.02.2026", "10/2026", "x12.50"])
def test_what_is_no_amount(text: str) -> None:
    """Percentages, dates, paper sizes and tax numbers are no money."""
    assert not amounts_in(text)


def test_a_bare_whole_number_is_hardly_money() -> None:
    """A number without decimals or currency is told apart as unmarked."""
    assert [found.has_mark for found in amounts_in("Total hours 40")] == [False]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Total £5.00", "GBP"),
        ("5,00 €", "EUR"),
        ("EUR 5", "EUR"),
        ("US$5", "USD"),
        ("C$ 5", "CAD"),
        ("5 zł", "PLN"),
        ("¥500", "JPY"),
        ("500円", "JPY"),
        ("Fr. 5.00", "CHF"),
        ("EUROPE After", None),
        ("5.00", None),
    ],
)
def test_currencies_by_code_or_sign(text: str, code: str | None) -> None:
    """A currency is known by code or sign, and not by what only begins like one."""
    assert currency_in(text) == code


@pytest.mark.parametrize(
    ("text", "iso"),
    [
        ("2026-02-28", "2026-02-28"),
        ("28.02.2026", "2026-02-28"),
        ("28. 2. 2026", "2026-02-28"),
        ("28/02/26", "2026-02-28"),
        ("2/28/2026", "2026-02-28"),
        ("28 February 2026", "2026-02-28"),
        ("February 28th, 2026", "2026-02-28"),
        ("28-Feb-2026", "2026-02-28"),
        ("3. März 2026", "2026-03-03"),
        ("1er août 2026", "2026-08-01"),
        ("5 de marzo de 2026", "2026-03-05"),
        ("5 maart 2026", "2026-03-05"),
        ("20 października 2026", "2026-10-20"),
        ("2026年2月28日", "2026-02-28"),
        ("31.02.2026", None),
        ("28 Smarch 2026", None),
        ("HP-2026-0117", None),
    ],
)
def test_dates_in_many_languages(text: str, iso: str | None) -> None:
    """A date in figures or words is read, and a day that doesn't exist is none."""
    assert date_in(f"on {text}, at noon") == iso


def test_a_date_that_could_be_two_is_read_as_the_country_does() -> None:
    """Day first, unless the month is said to come first."""
    assert date_in("03/04/2026") == "2026-04-03"
    assert date_in("03/04/2026", month_first=True) == "2026-03-04"


@given(
    st.dates(datetime.date(2000, 1, 1), datetime.date(2099, 12, 31)),
    st.sampled_from(["%Y-%m-%d", "%d.%m.%Y", "%d %B %Y"]),
)
def test_every_day_is_read_back(day: datetime.date, form: str) -> None:
    """Any day of a century is read as itself in each form."""
    assert date_in(day.strftime(form)) == day.isoformat()


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("IBAN: DE89 3704 0044 0532 0130 00 BIC COBADEFF", ["DE89370400440532013000"]),
        ("NO93 8601 1117 947", ["NO9386011117947"]),
        ("BE68539007547034, BE71096123456769", ["BE68539007547034", "BE71096123456769"]),
        ("DE88 3704 0044 0532 0130 00", []),
        ("order DE89-X", []),
    ],
)
def test_only_accounts_that_can_be_are_found(text: str, ids: list[str]) -> None:
    """An IBAN has its country's length and right check digits; what follows it is no part of it."""
    assert [found.id for found in ibans_in(text)] == ids


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("USt-IdNr.: DE136695976 HRB 12345", ["DE136695976"]),
        ("BTW NL810433941B01", ["NL810433941B01"]),
        ("VAT no. GB 980 7806 84", ["GB980780684"]),
        ("IBAN DE89 3704 0044 0532 0130 00", []),
        ("TVA FR40303265045", ["FR40303265045"]),
        ("Art. AB123456789", []),
    ],
)
def test_vat_ids_are_told_from_accounts(text: str, ids: list[str]) -> None:
    """A VAT id begins with its country, and is no part of a bank account."""
    assert [found.id for found in vat_ids_in(text)] == ids


@pytest.mark.parametrize(
    ("text", "is_right"), [("DE136695976", True), ("DE123456789", False), ("NO974760673MVA", True)]
)
def test_vat_ids_are_checked_as_their_country_does(text: str, is_right: bool) -> None:
    """By its check digits."""
    assert is_vat_id(text) == is_right
