"""Number formats of a generated grammar: what is sent is the cell's number, read back without a look at our parser."""

from __future__ import annotations

import re
from decimal import ROUND_HALF_UP, Decimal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_runner.sheet.numfmt.dates import NoDate
from batch_runner.sheet.numfmt.formatter import NumberFormat, Unsure

PLAIN = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")


class Sample(msgspec.Struct, frozen=True):
    """A code, and what its maker knows of it."""

    code: str
    decimals: int = 0
    optional: bool = False
    percent: bool = False
    scaled: bool = False
    padding: int = 1


colours = st.sampled_from(["", "[Red]", "[Color 10]", "[$-409]", "[DBNum1]"])
currencies = st.sampled_from(["", '"€"', "[$€-407]", "[$CHF] ", '"Rs. "', "$", '"EUR" ', "\\£", '_-* "kr" '])
units = st.sampled_from(["", '" kg"', '"Stk"', "\\ \\m", '" Tage"', "_-", '" €/Stk"', "[$€-407]", "_)", '" (netto)"'])
dashes = st.sampled_from(['"-"', '"-"??', "\\-", '_-* "-"??\\ "€"_-', '"$"* "-"', '"–"', '[$€-407]\\ "-"', '"-.-"'])
amounts = st.sampled_from(
    [
        *("#,##0", "#,##0.00", "0.00", "0.0#", "###,##0.0", "#,###.00", "# ##0.00", "#'##0.00", "#\\’##0.0", "0.000"),
        *("#\\.##0", "##\\,##\\,##0.00", "#\\ ##0", "# ### ##0.00", "??0.0?", "#.00", "0,000.00"),
    ]
)


def decimals_of(core: str) -> int:
    """How many placeholders stand behind the point that is no literal."""
    return len(re.findall(r"[0#?]", re.sub(r"\\.", "", core).partition(".")[2]))


@st.composite
def amount_formats(draw: st.DrawFn) -> Sample:
    """An amount in up to four sections: signs, colours, currencies, units, percent, scaling, dashes for zero."""
    core, sign = draw(amounts), draw(st.sampled_from(["", "%", ",", ",,"]))
    before, behind, colour = draw(currencies), draw(units), draw(colours)
    first = f"{before}{core}{sign}{behind}"
    negatives = [None, f"-{first}", f"({first})", f"{before}-{core}{sign}{behind}", f"{first}-", first, f"\\-{first}"]
    negative = draw(st.sampled_from(negatives))
    sections = [f"{colour}{first}"]
    if negative is not None:
        sections.append(f"[Red]{negative}")
        zero = draw(st.none() | dashes | st.just(first))
        sections += [zero] if zero is not None else []
    if draw(st.booleans()):
        sections.append("@")
    optional = bool(re.search(r"\.[0#?]*[#?]", core))
    return Sample(";".join(sections), decimals_of(core), optional, sign == "%", "," in sign)


numbers = st.one_of(
    st.decimals(-(10**9), 10**9, places=4), st.integers(-(10**9), 10**9).map(Decimal), st.just(Decimal(0))
)


def rounded(value: Decimal, places: int) -> Decimal:
    return value.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)


@pytest.mark.long
@settings(max_examples=400)
@given(amount_formats(), numbers)
def test_an_amount_is_sent_with_its_sign_and_its_size(sample: Sample, value: Decimal) -> None:
    """Read back, it is the cell's value to the decimals that the format shows; scaled, it is all of it."""
    text = NumberFormat(sample.code).plain(float(value))
    assert text.endswith("%") == (sample.percent and not sample.scaled)
    assert PLAIN.fullmatch(text.removesuffix("%")), text
    read = Decimal(text.removesuffix("%"))
    if sample.scaled:
        assert read == value
        return
    assert read == rounded(value * 100 if sample.percent else value, sample.decimals)
    if not sample.optional:
        assert -int(read.as_tuple().exponent) == sample.decimals


@st.composite
def identifier_formats(draw: st.DrawFn) -> tuple[str, str, str, int]:
    """A whole number with what is part of it before and behind it, and how many digits it has at least."""
    core = draw(st.sampled_from(["0", "#", "0000", "0##", "0#", "000000"]))
    before = draw(st.sampled_from(["", "INV-", "RE", "Order ", "KW ", "#", "Nr. ", "A/"]))
    behind = draw(st.sampled_from(["", "/2026", "-A", "/26-B", ".1", " (2026)"]))
    padding = len(core) if "0" in core else 1
    quoted = f'"{before}"{core}"{behind}"'
    return (
        draw(st.sampled_from([quoted, f"{quoted};-{quoted}", f"{quoted};@", f"[Red]{quoted}"])),
        before,
        behind,
        padding,
    )


@given(identifier_formats(), st.integers(-(10**6), 10**6))
def test_an_identifier_keeps_all_that_is_part_of_it(made: tuple[str, str, str, int], value: int) -> None:
    """Whatever has letters or digits of its own and is no unit is sent; where it would read as another number, not."""
    code, before, behind, padding = made
    shape = NumberFormat(code)
    expected = f"{'-' if value < 0 else ''}{before}{abs(value):0{padding}}{behind}".strip()
    if re.fullmatch(r"-?[0-9]+\.[0-9]+", expected):
        with pytest.raises(Unsure, match="but holds") as found:
            shape.plain(value)
        assert found.value.text is None
        return
    assert shape.plain(value) == expected


ANY = st.text("0#?,.%/;@\"\\_*[]<>=hmsdyEgb+-()$€ aG!1x'", max_size=16)
PIECES = st.lists(
    st.sampled_from(
        [
            *(
                "0",
                "#",
                "?",
                "00",
                "#,##0",
                ".",
                ",",
                "%",
                "E+0",
                "/",
                ";",
                ";",
                "@",
                '"-"',
                '"x"',
                '" kg"',
                "\\-",
                "_)",
            ),
            *(
                "* ",
                "[Red]",
                "[$€-407]",
                "[<0]",
                "[>=100]",
                "[=0]",
                "[h]",
                "[foo]",
                "[DBNum1]",
                "h",
                "mm",
                "ss",
                "yyyy",
            ),
            *("d", "AM/PM", "General", "(", ")", "-", " ", "'", '"5"', "g", "e", "!", '"', "\\", "#\\-#", "000-00"),
        ]
    ),
    max_size=9,
).map("".join)


cell_numbers = st.one_of(
    st.floats(-1e9, 1e9).map(lambda number: round(number, 6)), st.integers(-3000, 60000).map(float), st.just(0.0)
)


@pytest.mark.long
@settings(max_examples=800)
@given(ANY | PIECES, cell_numbers)
def test_no_code_at_all_makes_another_number(code: str, number: float) -> None:
    """Whatever stands in a code: what reads as a number is the cell's, to the decimals that it has itself.

    Hours that have gone by (`[h]`) count in another unit, and a format that turns the sign round is told of.
    """
    try:
        text = NumberFormat(code).plain(number)
    except NoDate:
        return
    except Unsure as unsure:
        if unsure.text is None or "turns its sign round" in unsure.why:
            return
        text = unsure.text
    if re.search(r"\[(h+|m+|s+)\]", code, re.IGNORECASE) or not PLAIN.fullmatch(text.rstrip("%‰")):
        return
    read, value = Decimal(text.rstrip("%‰")), Decimal(repr(number))
    half = Decimal(5).scaleb(int(read.as_tuple().exponent) - 1) + abs(value) * Decimal("1e-14")
    shifts = (0, -2) if text.endswith("%") else (0,)
    assert any(abs(read.scaleb(shift) - value) <= half.scaleb(shift) for shift in shifts), text
    assert read * value >= 0


@given(ANY | PIECES, st.floats(-1e12, 1e12))
def test_no_code_breaks_the_reading(code: str, number: float) -> None:
    """Whatever a program has written as a format: a number gets a text, is no date, or nobody can be sure of it."""
    shape = NumberFormat(code)
    for wording in (shape.plain, shape.shown):
        try:
            assert isinstance(wording(number), str)
        except (NoDate, Unsure):
            continue
    assert isinstance(shape.shown_text("x"), str)
