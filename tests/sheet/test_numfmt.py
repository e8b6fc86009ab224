"""Number formats: what is sent for a number or a date, and what its cell shows."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_runner.sheet.numfmt.dates import NoDate
from batch_runner.sheet.numfmt.formatter import NumberFormat, Unsure
from batch_runner.sheet.numfmt.parser import BUILT_IN

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
        ("[$-409]ddd, d/m/yy", 46081, "2026-02-28", "Sat, 28/2/26"),
        ("[$-407]d/m/yy", 46081, "2026-02-28", "28/2/26"),
        ("mmm-yy", 46081, "2026-02-28", "Feb-26"),
        ("h:mm AM/PM", 0.75, "18:00:00", "6:00 PM"),
        ("h:mm", 46081.75, "18:00:00", "18:00"),
        ("yyyy-mm-ddThh:mm:ssZ", 46081.5, "2026-02-28T12:00:00", "2026-02-28T12:00:00Z"),
        ("yyyy年m月d日", 46081, "2026-02-28", "2026年2月28日"),
        ("dd.mm.yyyy г.", 46081, "2026-02-28", "28.02.2026 г."),
        ("0.0x", 1.25, "1.3", "1.3x"),
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
        ('[>=1000]0.0,"K";0', 12345, "12345", "12.3K"),
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


EURO = '_-* #,##0\\ "€"_-;\\-* #,##0\\ "€"_-;_-* "-"\\ "€"_-;_-@_-'.replace("\\\\", "\\")


@pytest.mark.parametrize(
    ("code", "plain", "shown"),
    [
        (EURO, "0", "- €"),
        (BUILT_IN[41], "0", "-"),
        (BUILT_IN[42], "0", "$-"),
        (BUILT_IN[43], "0.00", "-"),
        (BUILT_IN[44], "0.00", "$-"),
        ("[$CHF] #,##0;[$CHF] -#,##0;[$CHF] –", "0", "CHF –"),
        ('0.0%;-0.0%;"-"', "0.0%", "-"),
        ('[>0]0.00;[<0]-0.00;"--"', "0.00", "--"),
        ('#,##0;-#,##0;"nil"', "nil", "nil"),
        ("###\\-####", "0", "-"),
        ("#,##0;-#,##0;", "0", ""),
    ],
)
def test_a_dash_for_zero_is_a_zero(code: str, plain: str, shown: str) -> None:
    """Beside any currency, with decimals or without: a dash shows no digit; the first section says how zero is sent."""
    assert (NumberFormat(code).plain(0), NumberFormat(code).shown(0)) == (plain, shown)


@pytest.mark.parametrize(
    ("code", "number", "plain"),
    [
        ("[<=9999999]###\\-####;\\(###\\)\\ ###\\-####", 5551234, "555-1234"),
        ("[<=9999999]###\\-####;\\(###\\)\\ ###\\-####", 5551234567, "(555) 123-4567"),
        ("[<=99999]#####;#####-####", 123456789, "12345-6789"),
        ("##\\-##", 1234, "12-34"),
        ("##\\-##", -1234, "-12-34"),
        ("###-###-###;-###-###-###", -123456789, "-123-456-789"),
        ('0#" "##" "##" "##" "##', 102030405, "01 02 03 04 05"),
        ("00\\:00", 930, "09:30"),
        ("0##", 5, "005"),
        ("0?", 5, "05"),
        ("00000;(00000)", -5, "-00005"),
        ("00000;00000", -5, "-00005"),
        ('00" kg"', 5, "05"),
        ('"INV-"0', 5, "INV-5"),
        ('"INV-"0;"INV-"0', -5, "-INV-5"),
        ('"Order "0', 5, "Order 5"),
        ('"INV-"General', 5, "INV-5"),
        ('0"/2026"', 17, "17/2026"),
        ('0" (2026)"', 17, "17 (2026)"),
        ("0\\%", 19, "19%"),
        ('0.0" %"', 19.5, "19.5%"),
        ('0" kg"', 5, "5"),
        ('0"kg"', 5, "5"),
        ('0" m2"', 5, "5"),
        ('0" km/h"', 5, "5"),
        ('"EUR "0', 5, "5"),
        ('"R$ "0', 5, "5"),
        ('"+"0', 491511234567, "+491511234567"),
        ("+0;-0;0", 5, "5"),
        ('"Nr. "#,##0', 1234, "1234"),
    ],
)
def test_a_literal_is_a_unit_or_part_of_an_identifier(code: str, number: float, plain: str) -> None:
    """By the one rule that stands in `meaning.py`: masks and identifiers are sent whole, units are left out."""
    assert NumberFormat(code).plain(number) == plain


@pytest.mark.parametrize(
    ("code", "number", "plain"),
    [
        ("#'##0.00", 1234567.5, "1234567.50"),
        ('"Fr. "#’##0.00', 1234.5, "1234.50"),
        ("#\\.##0", 1234567, "1234567"),
        ("#\\ ##0", 1234567, "1234567"),
        ("[>=10000000]##\\,##\\,##\\,##0.00;[>=100000]##\\,##\\,##0.00;##,##0.00", 12345678.5, "12345678.50"),
        ("[>=10000000]##\\,##\\,##\\,##0.00;[>=100000]##\\,##\\,##0.00;##,##0.00", 5000, "5000.00"),
        ("0 000.00", 1234.5, "1234.50"),
        ("#,##0,", 1234567, "1234567"),
        ('0.0,,"M"', -1234567.25, "-1234567.25"),
        ('#,"k"', 12345, "12345"),
    ],
)
def test_amounts_have_one_form_whatever_separates_their_thousands(code: str, number: float, plain: str) -> None:
    """Apostrophes, points, blanks, lakhs; and a scaled number is sent as the cell holds it."""
    assert NumberFormat(code).plain(number) == plain


@pytest.mark.parametrize(
    ("code", "plain", "shown"),
    [
        ("0.00;@", "-1.50", "-1.50"),
        ("# ?/?;@", "-1 1/2", "-1 1/2"),
        ("# ?/?;(# ?/?)", "-1 1/2", "(1 1/2)"),
        ('# ?/?" in"', "-1 1/2", "-1 1/2 in"),
        ('#" and "?/?', "-1 1/2", "-1 and 1/2"),
        ("0.0E+00;(0.0E+00)", "-1.5E+00", "(1.5E+00)"),
        ("0.00;[Red]0.00", "-1.50", "-1.50"),
        ("General;General", "-1.5", "-1.5"),
        ("0.00;0.00 \\D\\R", "-1.50", "1.50 DR"),
        ('0.00;"-"', "-1.5", "-"),
    ],
)
def test_a_minus_is_never_lost(code: str, plain: str, shown: str) -> None:
    """Not in a negative section, a fraction, a power, nor where only a colour shows it."""
    assert (NumberFormat(code).plain(-1.5), NumberFormat(code).shown(-1.5)) == (plain, shown)


@pytest.mark.parametrize(
    ("code", "number", "text"),
    [
        ("-#,##0.00;#,##0.00", 1234.5, "-1234.50"),
        ("-#,##0.00;#,##0.00", -1234.5, "1234.50"),
        ("\\(0.00\\);0.00", 5, "-5.00"),
        ("\\(0.00\\)", 5, "5.00"),
        ("-0", 5, "5"),
        ("[foo]0.00", 5.25, "5.25"),
        ('0.00"', 5.255, "5.255"),
        ('#,##0"000"', 5, "5"),
        ("0.00E+00%", 5.25, "5.25"),
        ('0!.0,"万"', 12345, "12345"),
        ("0;0;0;@;0", 5.25, "5.25"),
    ],
)
def test_a_plain_number_that_nobody_can_be_sure_of_is_sent_with_a_warning(code: str, number: float, text: str) -> None:
    """A code that can't be read: the cell's value. A sign that is turned round: as it is seen."""
    with pytest.raises(Unsure) as found:
        NumberFormat(code).plain(number)
    assert found.value.text == text


@pytest.mark.parametrize(
    ("code", "number"),
    [
        ("0 days", 5),
        ("00/00/0000", 1022026),
        ("[foo]00000", 5),
        ("[foo]yyyy-mm-dd", 46081),
        ("Standard", 46081),
        ("Number", 1234.5),
        ("Short Date", 46081),
        ("[h] hours", 1.5),
        ("[h]:mm d", 1.5),
        ("0E0", 12),
        ('"INV-"0"', 5),
        ("0\\.00", 1235),
        ('"1"0', 5),
        ('0"000"', 5),
        ('"20"00', 26),
        ("-000-00;000-00", 12345),
    ],
)
def test_what_may_be_a_date_a_mask_or_an_identifier_is_never_guessed(code: str, number: float) -> None:
    """There is no text that could be sent: the cell is refused."""
    with pytest.raises(Unsure) as found:
        NumberFormat(code).plain(number)
    assert found.value.text is None


@pytest.mark.parametrize(
    ("code", "number", "plain"),
    [
        ('[$-411]ggge"年"m"月"d"日"', 46081, "2026-02-28"),
        ("[DBNum1][$-804]General", 46081, "46081"),
        ("[$-D07041E]d mmm yyyy", 46081, "2026-02-28"),
        ("B2dd/mm/yyyy", 46081, "2026-02-28"),
        ("[$-407]d. mmmm yyyy", 46081, "2026-02-28"),
        ("[$-411]h:mm AM/PM", 0.75, "18:00:00"),
        ("[foo]0.00", 1, None),
    ],
)
def test_what_an_english_excel_would_not_show_is_not_sent_as_shown(code: str, number: float, plain: str | None) -> None:
    """Other scripts, calendars and languages: `--as-shown` refuses; without it the value is as clear as any."""
    with pytest.raises(Unsure) as found:
        NumberFormat(code).shown(number)
    assert found.value.text is None
    if plain is not None:
        assert NumberFormat(code).plain(number) == plain


@pytest.mark.parametrize(
    ("code", "text", "shown"),
    [
        ("0;0;0;General", "x", "x"),
        ('0;0;0;"» "@', "x", "» x"),
        ("0;0;0;", "x", ""),
        ("", "x", "x"),
        ('@" kg"', "12", "12 kg"),
    ],
)
def test_a_text_is_shown_by_its_own_section(code: str, text: str, shown: str) -> None:
    """`General` there is the text; a section without it hides the text, as Excel does."""
    assert NumberFormat(code).shown_text(text) == shown


def test_an_empty_code_is_general() -> None:
    """Excel shows such numbers, and so does `--as-shown`."""
    assert (NumberFormat("").plain(12.5), NumberFormat("").shown(12.5)) == ("12.5", "12.5")


@pytest.mark.parametrize(
    ("code", "text"),
    [("hh:mm:ss", "-06:00:00"), ("h:mm", "-06:00:00"), ("mm:ss.0", "-00:00:00.0"), ("[h]:mm", "-6:00")],
)
def test_negative_times_of_1904_keep_their_sign(code: str, text: str) -> None:
    """Excel shows them there, and only there."""
    assert NumberFormat(code, is_1904=True).plain(-0.25) == text.replace("-00:00:00.0", "-06:00:00.0")
    assert NumberFormat("hh:mm:ss", is_1904=True).shown(-0.25) == "-06:00:00"


@pytest.mark.parametrize("code", ["yyyy-mm-dd", "d/m/yy h:mm"])
def test_negative_dates_of_1904_are_none(code: str) -> None:
    """A date before 1904 can't be meant: Excel shows `####`."""
    with pytest.raises(NoDate):
        NumberFormat(code, is_1904=True).plain(-1)


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
