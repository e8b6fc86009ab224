"""Number formats: what is sent for a number or a date, and what its cell shows."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_runner.sheet.format.dates import NoDate
from batch_runner.sheet.format.formatcode import BUILT_IN
from batch_runner.sheet.format.numfmt import NumberFormat

ACCOUNTING = '_-* #,##0.00\\ "€"_-;\\-* #,##0.00\\ "€"_-;_-* "-"??\\ "€"_-;_-@_-'


@pytest.mark.parametrize(
    ("code", "number", "plain", "shown"),
    [
        ("General", 0.1 + 0.2, "0.3", "0.3"),
        ("General", 1e22, "10000000000000000000000", "1E+22"),
        ("General", 1234567.891234, "1234567.891234", "1234567.891"),
        ("0.00", 1.005, "1.01", "1.01"),
        ("0.00", -0.001, "0.00", "-0.00"),
        ("0.0#", 1.5, "1.5", "1.5"),
        ("#", 0, "0", ""),
        ('#,##0.00 "€"', 1234567.5, "1234567.50", "1,234,567.50 €"),
        ("####0.0", 1234567.25, "1234567.3", "1234567.3"),
        ('"2. "#,##0.00" 0,0"', 1234.5, "1234.50", "2. 1,234.50 0,0"),
        ("#,##0.00", 1e27, "1000000000000000000000000000", "1,000,000,000,000,000,000,000,000,000.00"),
        ("[$€-407] #,##0.00", 1234.5, "1234.50", "€ 1,234.50"),
        ("#,##0_);(#,##0)", -1234, "-1234", "(1,234)"),
        ("#,##0.00;[Red]-#,##0.00", -0.5, "-0.50", "-0.50"),
        (ACCOUNTING, 1234.5, "1234.50", "1,234.50 €"),
        (ACCOUNTING, -12.5, "-12.50", "-12.50 €"),
        (ACCOUNTING, 0, "0.00", "-   €"),
        ("# ##0.00", 12345.5, "12345.50", "12 345.50"),
        ("0.0%", 0.195, "19.5%", "19.5%"),
        ("0%", 0.195, "20%", "20%"),
        ("#,##0%", 12, "1200%", "1,200%"),
        ("00000", 123, "00123", "00123"),
        ('"R-"00000', 123, "R-00123", "R-00123"),
        ("000-00-0000", 123456789, "123-45-6789", "123-45-6789"),
        ("(000) 000-0000", 5551234567, "(555) 123-4567", "(555) 123-4567"),
        ("0.00E+00", 12345.678, "1.23E+04", "1.23E+04"),
        ("##0.0E+0", 12345.678, "12.3E+3", "12.3E+3"),
        ("0.0E+0", 9.96, "1.0E+1", "1.0E+1"),
        ("# ?/?", 1.5, "1 1/2", "1 1/2"),
        ("# ?/8", 0.25, "2/8", "2/8"),
        ("yyyy-mm-dd", 46081.9, "2026-02-28", "2026-02-28"),
        ("dd/mm/yyyy hh:mm", 46081.5868, "2026-02-28T14:05:00", "28/02/2026 14:05"),
        ("d. mmmm yyyy", 46081, "2026-02-28", "28. February 2026"),
        ("[$-407]ddd, d/m/yy", 46081, "2026-02-28", "Sat, 28/2/26"),
        ("mmm-yy", 46081, "2026-02-28", "Feb-26"),
        ("h:mm AM/PM", 0.75, "18:00:00", "6:00 PM"),
        ("h:mm", 46081.75, "18:00:00", "18:00"),
        ("mm:ss.0", 0.0012345, "00:01:46.7", "01:46.7"),
        ("yyyy-mm-dd hh:mm:ss", 46080.999999, "2026-02-28T00:00:00", "2026-02-28 00:00:00"),
        ("yyyy-mm-dd", 60, "1900-02-29", "1900-02-29"),
        ("yyyy-mm-dd", 59, "1900-02-28", "1900-02-28"),
        ("yyyy-mm-dd", 61, "1900-03-01", "1900-03-01"),
        ("[h]:mm", 27.5 / 24, "27:30", "27:30"),
        ("[h]:mm:ss", 1.5, "36:00:00", "36:00:00"),
        ("[mm]:ss", 0.5, "720:00", "720:00"),
        (";;;", 42.5, "42.5", ""),
        ("0;;", -42.5, "-42.5", ""),
        ('"yes";"no";"none"', -1, "no", "no"),
        ('[>=1000]0.0,"K";0', 12345, "12.3K", "12.3K"),
        ('[>=1000]0.0,"K";0', 12, "12", "12"),
        ("[<10]0.00;0", 7, "7.00", "7.00"),
        ("[=5]0.0", 7, "7", "7"),
        ("@", 12.5, "12.5", "12.5"),
        ("0.0 kg", 3.25, "3.3", "3.3 kg"),
    ],
)
def test_a_number_is_worded_as_its_format_says(code: str, number: float, plain: str, shown: str) -> None:
    """What is sent follows `batch-runner help cells`; what is shown is Excel's own text."""
    shape = NumberFormat(code)
    assert (shape.plain(number), shape.shown(number)) == (plain, shown)


@pytest.mark.parametrize("place", [27, 30, 31, 36, 50, 54, 57, 58])
def test_the_date_formats_of_chinese_and_japanese_excel_are_dates(place: int) -> None:
    """Ids 27 to 36 and 50 to 58 have no code in the file, and are dates or times all the same."""
    assert NumberFormat(BUILT_IN[place]).plain(46081) == "2026-02-28"


@pytest.mark.parametrize("place", [32, 33, 34, 35, 55, 56])
def test_and_their_times_are_times(place: int) -> None:
    """Some of them are times in one language and dates in another: the number tells."""
    assert NumberFormat(BUILT_IN[place]).plain(0.5) == "12:00:00"


@pytest.mark.parametrize("number", [-1.0, 2_958_466.0, 1e300])
def test_what_excel_shows_as_hashes_is_no_date(number: float) -> None:
    """Before 1900 and after 9999 there is no date that could be sent."""
    with pytest.raises(NoDate):
        NumberFormat("yyyy-mm-dd").plain(number)


@given(st.integers(61, 2_958_465), st.booleans())
def test_every_date_is_the_calendars(serial: int, is_1904: bool) -> None:
    """From March 1900 on a number is the day that the calendar says, in both date systems."""
    number = serial - 1462 if is_1904 and serial >= 1462 else serial
    expected = date(1899, 12, 30) + timedelta(serial)
    shape = NumberFormat("d/m/yy", is_1904=is_1904 and serial >= 1462)
    assert shape.plain(number) == expected.isoformat()


@given(st.integers(0, 86_399), st.integers(0, 80_000))
def test_every_second_survives(second: int, day: int) -> None:
    """A time that a person typed comes back to the second, although a day's fraction is never exact."""
    text = NumberFormat("hh:mm:ss").plain(day + second / 86_400)
    hours, minutes, seconds = map(int, text.split(":"))
    assert hours * 3600 + minutes * 60 + seconds == second


@given(st.decimals(-(10**9), 10**9, places=4), st.integers(0, 4))
def test_amounts_are_rounded_as_by_hand(amount: Decimal, places: int) -> None:
    """Halves go away from zero, on the decimal that the person typed and not on its binary neighbour."""
    code = "#,##0" + ("." + "0" * places if places else "")
    expected = amount.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
    assert NumberFormat(code).plain(float(amount)) == f"{expected if expected else abs(expected):f}"
    assert NumberFormat(code).shown(float(abs(amount))) == f"{abs(expected):,f}"


@given(st.integers(-(10**15) + 1, 10**15 - 1))
def test_whole_numbers_are_kept_to_the_digit(number: int) -> None:
    """Up to 15 digits a General number is what was typed."""
    assert NumberFormat("General").plain(float(number)) == str(number)


@given(st.text('0#?,.%/;@"\\_*[]<>=hmsdyE+- aG€', max_size=14), st.floats(-1e12, 1e12))
def test_no_format_code_breaks_the_reading(code: str, number: float) -> None:
    """Whatever a program has written as a format, a number gets a text or is no date."""
    shape = NumberFormat(code)
    for wording in (shape.plain, shape.shown):
        try:
            assert isinstance(wording(number), str)
        except NoDate:
            continue
