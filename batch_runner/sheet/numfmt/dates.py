"""Dates and times: what day and second a number is, and how a section of a number format shows it."""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from batch_runner.sheet.numfmt.parser import Part, TokenKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_runner.sheet.numfmt.parser import Section, Token


DAY = 86_400
LAST_1900 = 2_958_465
"""9999-12-31 in the 1900 system."""
LEAP_1900 = 60
"""1900-02-29, a day that never was: Lotus 1-2-3 took 1900 for a leap year, and Excel keeps to that."""
SHIFT_1904 = 1462
"""How many days the 1904 system is behind the 1900 system (ECMA-376 part 1, 18.17.4.1)."""
MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_CLOCK = frozenset("hns")
WEEKDAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")


class NoDate(Exception):  # noqa: N818  a property of the number
    """The number is no date: Excel shows `####`."""


class Moment(msgspec.Struct, frozen=True):
    """A day and a time of day; `second` has its fraction. The 1900 system has a 1900-02-29 and a 1900-01-00."""

    year: int
    month: int
    day: int
    weekday: int
    """0 is Sunday."""
    hour: int
    minute: int
    second: float


def moment(number: float, *, is_1904: bool, digits: int | None) -> Moment:
    """The moment that a number stands for, its seconds rounded to `digits` after the point; None: time not looked at.

    Raises `NoDate` for a negative number and after the year 9999.
    """
    days_1900 = number + SHIFT_1904 if is_1904 else number
    if number < 0 or days_1900 >= LAST_1900 + 1:
        raise NoDate
    number = days_1900
    days = math.floor(number)
    seconds = 0.0
    if digits is not None:
        seconds = math.floor((number - days) * DAY * 10**digits + 0.5) / 10**digits
        if seconds >= DAY:
            days, seconds = days + 1, 0.0
    year, month, day = _civil(days)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(int(minutes), 60)
    return Moment(year, month, day, (days + 6) % 7, hour, minute, round(second, digits or 0))


def _civil(days: int) -> tuple[int, int, int]:
    if days == LEAP_1900:
        return 1900, 2, 29
    if days == 0:
        return 1900, 1, 0
    try:
        found = date(1899, 12, 31 if days < LEAP_1900 else 30) + timedelta(days)
    except OverflowError:
        raise NoDate from None
    return found.year, found.month, found.day


def second_digits(section: Section) -> int:
    """How many digits of a second a section shows."""
    tokens = section.tokens
    for place, token in enumerate(tokens):
        if token.part is Part.POINT and place and place + 1 < len(tokens) and tokens[place + 1].text == "0":
            after = tokens[place + 1 :]
            return next((count for count, other in enumerate(after) if other.text != "0"), len(after))
    return 0


def serial(moment: datetime, *, is_1904: bool) -> float:
    """The number that stands for a moment without an offset. Raises `NoDate` before the date system's first day."""
    days = (moment - (datetime(1904, 1, 1) if is_1904 else datetime(1899, 12, 30))).total_seconds() / DAY
    if not is_1904 and days < LEAP_1900 + 1:
        days -= 1
    if days < 0:
        raise NoDate
    return days


def plain_wording(section: Section, *, is_1904: bool) -> Callable[[float], str]:
    """A function from a number to the date, the time, or both, as ISO 8601 has them: what of them the section shows.

    Hours that have gone by are as shown. A workbook that counts from 1904 has negative times, but no negative dates.
    It raises `NoDate`.
    """
    if section.kind is TokenKind.ELAPSED:
        return partial(elapsed, section=section)
    letters = _letters(section)
    has_time = bool(letters & _CLOCK) or section.has(Part.HALF)
    has_date = bool(letters - _CLOCK)
    digits = second_digits(section)

    def wording(number: float) -> str:
        is_below = number < 0 and is_1904 and not has_date
        found = moment(-number if is_below else number, is_1904=is_1904, digits=digits if has_time else None)
        day = f"{found.year:04}-{found.month:02}-{found.day:02}"
        if not has_time:
            return day
        time = f"{found.hour:02}:{found.minute:02}:{_seconds(found.second, 2, digits)}"
        return f"{day}T{time}" if has_date else f"{_minus(time) if is_below else ''}{time}"

    return wording


def iso(number: float, *, is_1904: bool) -> str:
    """The day and, where there is one, the time of day, to the millisecond. Raises `NoDate`."""
    is_below = number < 0 and is_1904
    found = moment(-number if is_below else number, is_1904=is_1904, digits=3)
    day = f"{'-' if is_below else ''}{found.year:04}-{found.month:02}-{found.day:02}"
    if not (found.hour or found.minute or found.second):
        return day
    whole, _, rest = _seconds(found.second, 2, 3).partition(".")
    return f"{day}T{found.hour:02}:{found.minute:02}:{whole}{f'.{rest}'.rstrip('0').rstrip('.')}"


def _letters(section: Section) -> set[str]:
    """For what its tokens stand: `y m d` and the like, `h n s` of the clock."""
    return {token.text[0].lower() for token in roles(section) if token.part is Part.DATE}


def _minus(time: str) -> str:
    return "-" if any("1" <= letter <= "9" for letter in time) else ""


def _seconds(second: float, width: int, digits: int) -> str:
    return f"{second:0{width + (digits + 1 if digits else 0)}.{digits}f}"


def roles(section: Section) -> list[Token]:
    """The section's tokens with each `m` that means minutes written `n`: it follows hours or precedes seconds."""
    tokens = list(section.tokens)
    clock = [place for place, token in enumerate(tokens) if token.part in {Part.DATE, Part.ELAPSED}]
    for order, place in enumerate(clock):
        token = tokens[place]
        if token.part is not Part.DATE or token.text[0] not in "mM" or len(token.text) > 2:
            continue
        before = tokens[clock[order - 1]].text[0] if order else ""
        after = tokens[clock[order + 1]].text[0] if order + 1 < len(clock) else ""
        if before in {"h", "H"} or after in {"s", "S"}:
            tokens[place] = msgspec.structs.replace(token, text="n" * len(token.text))
    return tokens


def shown(number: float, section: Section, *, is_1904: bool) -> str:
    """A date or time as the section shows it in English. Raises `NoDate`."""
    digits = second_digits(section)
    if number < 0 and is_1904 and not _letters(section) - _CLOCK:
        text = shown(-number, section, is_1904=True)
        return _minus(text) + text
    found = moment(number, is_1904=is_1904, digits=digits)
    half = section.has(Part.HALF)
    pieces: list[str] = []
    skip = 0
    for token in roles(section):
        if skip:
            skip -= 1
        elif token.part is Part.DATE:
            pieces.append(_date_part(token.text.lower(), found, half=half))
        elif token.part is Part.HALF:
            pieces.append(_half(token.text, found.hour))
        elif token.part is Part.POINT and digits:
            pieces.append(f"{found.second % 1:.{digits}f}"[1:])
            skip = digits
        else:
            pieces.append(token.text)
    return "".join(pieces)


def _half(text: str, hour: int) -> str:
    first, _, second = text.partition("/")
    name = second if hour >= 12 else first
    return name.upper() if len(name) > 1 else name


def _date_part(text: str, found: Moment, *, half: bool) -> str:
    letter, width = text[0], len(text)
    if letter in "yeb":
        year = found.year + (543 if letter == "b" else 0)
        return f"{year % 100:02}" if width <= 2 and letter != "e" else f"{year:04}"
    if letter == "m":
        return _name(MONTHS[found.month - 1], found.month, width)
    if letter in "da":
        return _name(WEEKDAYS[found.weekday], found.day, width)
    if letter == "g":
        return ""
    hour = (found.hour % 12 or 12) if half else found.hour
    value = {"h": hour, "n": found.minute, "s": int(found.second)}[letter]
    return f"{value:0{min(width, 2)}}"


def _name(name: str, number: int, width: int) -> str:
    """A month or weekday: `3`, `03`, `Mar`, `March`, `M`."""
    if width <= 2:
        return f"{number:0{width}}"
    return {3: name[:3], 5: name[:1]}.get(width, name)


def elapsed(number: float, section: Section) -> str:
    """Hours, minutes or seconds that have gone by, as the section shows them: `[h]:mm` → `27:30`."""
    digits = second_digits(section)
    total = math.floor(abs(number) * DAY * 10**digits + 0.5) / 10**digits
    hours, minutes, seconds = int(total // 3600), int(total // 60), int(total)
    counted = {token.text[0].lower() for token in section.tokens if token.part is Part.ELAPSED}
    units = {
        "h": hours if "h" in counted else hours % 24,
        "m": minutes if "m" in counted else minutes % 60,
        "n": minutes if "m" in counted else minutes % 60,
        "s": seconds if "s" in counted else seconds % 60,
    }
    pieces = ["-"] if number < 0 and total else []
    skip = 0
    for token in roles(section):
        letter, width = token.text[:1].lower(), len(token.text)
        if skip:
            skip -= 1
        elif token.part in {Part.ELAPSED, Part.DATE}:
            pieces.append(f"{units[letter]:0{width}}" if letter in units else "")
        elif token.part is Part.POINT and digits:
            pieces.append(f"{total % 1:.{digits}f}"[1:])
            skip = digits
        else:
            pieces.append(token.text)
    return "".join(pieces)
