"""Numbers as digits: rounded as Excel does, and laid out as a section of a number format says."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import TYPE_CHECKING

import msgspec

from batch_runner.sheet.numfmt.parser import Part, written

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batch_runner.sheet.numfmt.parser import DigitLayout, Section, Token


_UNITS = tuple(Decimal(1).scaleb(-places) for places in range(16))


def decimal_of(number: float) -> Decimal:
    """The 15 significant digits that Excel computes a number's text from."""
    return Decimal(f"{number:.15g}")


def rounded(number: Decimal, places: int) -> Decimal:
    """Rounded to so many decimals, halves away from zero."""
    if number.adjusted() + places > 26:  # far more digits than it has: nothing to round
        return number
    return number.quantize(_UNITS[places] if places < len(_UNITS) else Decimal(1).scaleb(-places), ROUND_HALF_UP)


def general(number: float) -> str:
    """A number as format General has it in a cell as wide as need be: 15 significant digits, no exponent."""
    text = f"{decimal_of(number):f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in {"-0", ""} else text


def general_shown(number: float) -> str:
    """A number as format General has it in a cell of ordinary width: eleven characters."""
    value = decimal_of(abs(number))
    sign = "-" if number < 0 else ""
    if value == 0:
        return "0"
    size = value.adjusted()
    if size >= 11 or size < -9 or (size < -4 and len(f"{value.normalize():f}") > 11):
        mantissa, _, exponent = f"{rounded(value.scaleb(-size), 5)}E{size}".partition("E")
        if mantissa.startswith("10"):
            mantissa, exponent = "1", str(size + 1)
        mantissa = mantissa.rstrip("0").rstrip(".")
        return f"{sign}{mantissa}E{int(exponent):+03}"
    text = f"{rounded(value, max(0, 9 - max(size, 0))):f}"
    return sign + (text.rstrip("0").rstrip(".") if "." in text else text)


def decimal_places(number: Decimal, decimals: str) -> list[str]:
    """What each placeholder after the point shows, for a number already rounded to as many."""
    digits = f"{number:f}".partition(".")[2].ljust(len(decimals), "0")
    kept = len(digits.rstrip("0"))
    blank = {"0": "0", "?": " ", "#": ""}
    return [
        digit if place < kept else blank[mark]
        for place, (digit, mark) in enumerate(zip(digits, decimals, strict=False))
    ]


def lay_out(number: Decimal, section: Section) -> str:
    """A number that isn't negative, shown by a section with digits, literals and all."""
    form = section.layout
    value = rounded(number.scaleb(form.shift) if form.shift else number, len(form.decimals))
    if section.frame is not None:  # Python's own formatting says the same, several times as fast
        before, behind = section.frame
        return f"{before}{value:{',' if form.grouped else ''}.{len(form.decimals)}f}{behind}"
    whole = f"{value:f}".partition(".")[0].lstrip("0")
    places = iter([*_integer_places(whole, form), *decimal_places(value, form.decimals)])
    pieces: list[str] = []
    for token in section.tokens:
        if token.part is Part.DIGIT:
            pieces.append(next(places))
        elif token.part is Part.POINT:
            pieces.append("." if form.integer else f"{whole}.")
        elif token.part is not Part.COMMA:
            pieces.append(token.text)
    return "".join(pieces)


def _integer_places(whole: str, form: DigitLayout) -> list[str]:
    """What each integer placeholder shows: the first takes all digits that are too many."""
    places = form.integer
    missing = len(places) - len(whole)
    fill = {"0": "0", "?": " ", "#": ""}
    padded = places[: len(places) - form.padding] + "0" * form.padding
    digits = [fill[mark] for mark in padded[: max(missing, 0)]] + list(whole[max(-missing, 0) :])
    if missing < 0 and digits:
        digits[0] = whole[: 1 - missing]
    elif not places:
        return []
    if not form.grouped:
        return digits
    return _with_commas(digits, len("".join(digits)))


def _with_commas(digits: list[str], count: int) -> list[str]:
    """The same places, with a comma behind each digit that has a multiple of three behind it."""
    found: list[str] = []
    for text in digits:
        piece = ""
        for digit in text:
            count -= 1
            piece += digit + ("," if count and count % 3 == 0 and digit != " " else "")
        found.append(piece)
    return found


def scientific(number: Decimal, section: Section) -> str:
    """A number that isn't negative with an exponent, as the section shows it."""
    place = next(place for place, token in enumerate(section.tokens) if token.part is Part.EXPONENT)
    mantissa = msgspec.structs.replace(section, tokens=section.tokens[:place])
    form = mantissa.layout
    step = max(len(form.integer), 1)
    exponent = _exponent(number, step)
    value = rounded(number.scaleb(-exponent), len(form.decimals))
    if value and value.adjusted() >= step:
        exponent += step
        value = rounded(number.scaleb(-exponent), len(form.decimals))
    written = section.tokens[place].text
    sign = "-" if exponent < 0 else written[1].replace("-", "")
    return f"{lay_out(value, mantissa)}{written[0]}{_exponent_shown(sign, abs(exponent), section.tokens[place + 1 :])}"


def _exponent_shown(sign: str, exponent: int, tokens: Sequence[Token]) -> str:
    """The exponent where its first placeholder stands, what is literal around it."""
    text = f"{sign}{exponent:0{sum(token.part is Part.DIGIT for token in tokens)}}"
    pieces: list[str] = []
    for token in tokens:
        if token.part is Part.DIGIT:
            pieces.append(text)
            text = ""
        else:
            pieces.append(token.text)
    return "".join(pieces)


def _exponent(number: Decimal, step: int) -> int:
    if not number:
        return 0
    return (number.adjusted() // step) * step


def fraction(number: Decimal, section: Section, *, is_bare: bool) -> str:
    """A number that isn't negative as a fraction, `1 1/2`, blanks that only align left out; `is_bare`: no literals."""
    tokens = section.tokens
    own = [place for place, token in enumerate(tokens) if token.part is Part.DIGIT]
    slash = section.place_of(Part.SLASH)
    before = [place for place in own if place < slash]
    apart = next((place for place in range(before[0], before[-1]) if tokens[place].part is not Part.DIGIT), None)
    end = slash + 1
    while end < len(tokens) and (tokens[end].part is Part.DIGIT or tokens[end].text.isdecimal()):
        end += 1
    behind = "".join(token.text for token in tokens[slash + 1 : end])
    whole, upper, lower = _parts_of(Fraction(number), behind, has_whole=apart is not None)
    parts = [f"{upper}/{lower}"] if upper or apart is None else []
    parts = [str(whole), *parts] if whole or not parts else parts
    if is_bare:
        return " ".join(parts)
    between = "" if apart is None else written(tokens[apart : before[-1]])
    return f"{written(tokens[: before[0]])}{(between if between.strip() else ' ').join(parts)}{written(tokens[end:])}"


def _parts_of(number: Fraction, denominator: str, *, has_whole: bool) -> tuple[int, int, int]:
    """The whole, and the numerator and denominator nearest to the rest: a given one, or one with so many digits."""
    whole = int(number) if has_whole else 0
    rest = number - whole
    if denominator.isdigit() and int(denominator):
        lower = int(denominator)
        upper = int(rounded(Decimal(rest.numerator) * lower / rest.denominator, 0))
    else:
        near = rest.limit_denominator(10 ** max(len(denominator), 1) - 1)
        upper, lower = near.numerator, near.denominator
    return (whole + 1, 0, lower) if has_whole and upper == lower else (whole, upper, lower)
