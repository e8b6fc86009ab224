"""Rates, durations, sizes, deadlines, days, rows, failure limits, templates, file names: how they are written."""

from __future__ import annotations

import os
import re
import sys
from bisect import bisect_right
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


_PERIODS = {"s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "hour": 3600.0, "d": 86400.0, "day": 86400.0}
_RATE = re.compile(r"(\d{1,9})\s*/\s*([a-z]+)", re.ASCII)
_DURATION = re.compile(
    r"(?:(?P<d>\d+(?:\.\d+)?)\s*d)?\s*(?:(?P<h>\d+(?:\.\d+)?)\s*h)?\s*"
    r"(?:(?P<m>\d+(?:\.\d+)?)\s*m(?:in)?)?\s*(?:(?P<s>\d+(?:\.\d+)?)\s*s?)?",
    re.ASCII,
)
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3})?", re.ASCII)
BRACES = re.compile(r"\{\{|\}\}|\{((?:[^{}]|\{\{[^{}]*\}\})*)\}|[{}]")
"""Braces within a place are doubled, too: `{Amount {{EUR}}}`."""
_CLOCK_TIME = re.compile(r"(\d{1,2}):(\d{2})(?::(\d{2}))?", re.ASCII)
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)
_LONGEST = 3650 * 86400.0
_SIZE = re.compile(r"(\d{1,9})\s*([kmg]?)i?b?", re.ASCII)
_RANGE = re.compile(r"(\d{1,9})(?:(\s*-\s*)(\d{1,9})?)?", re.ASCII)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_NO_NAME = re.compile(r'[<>:"/\\|?*\x00-\x1f]+')
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\.|$)", re.IGNORECASE)
_UNSAFE = re.compile(r"[^\w.-]+")
LONGEST_NAME = 100
_POWERS = {"": 0, "k": 10, "m": 20, "g": 30}


def local_time(moment: str, to: str = "minutes") -> str:
    """A recorded moment (ISO 8601, UTC) on this computer's clock, `to` the minutes or the seconds."""
    return datetime.fromisoformat(moment).astimezone().replace(tzinfo=None).isoformat(" ", to)


@lru_cache(maxsize=256)
def local_day(moment: str) -> str:
    """The day of a recorded moment on this computer's clock: `29 Nov`, with the year where it isn't this one."""
    day = datetime.fromisoformat(moment).astimezone().date()
    year = "" if day.year == datetime.now().astimezone().year else f" {day.year}"
    return f"{day.day} {_MONTHS[day.month - 1]}{year}"


class Rate(msgspec.Struct, frozen=True):
    """So many in so many seconds: `Rate(5, 60.0)` is five a minute."""

    count: int
    per: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `20/s`, `5/min` or `1000/h`. Raises `ValueError` with a sentence."""
        found = _RATE.fullmatch(text.strip().lower())
        if found is None or found[2] not in _PERIODS:
            raise ValueError(f"{text!r} is not a rate; write for example 20/s, 5/min or 1000/h")
        if int(found[1]) == 0:
            raise ValueError(f"{text!r} would let nothing through; a rate is 1 or more, for example 1/min")
        return cls(int(found[1]), _PERIODS[found[2]])

    @property
    def gap(self) -> float:
        """Seconds from one to the next when they are evenly spaced."""
        return self.per / self.count


def parse_duration(text: str | float, *, may_be_none: bool = False) -> float:
    """Seconds: `30m`, `90s`, `1h30m`, `2d`; a plain number is seconds, 0 where that `may_be_none`.

    Raises `ValueError` with a sentence.
    """
    found = _DURATION.fullmatch(str(text).strip().lower())
    if found is None or not any(found.groups()):
        raise ValueError(f"{text!r} is not a duration; write for example 90s, 30m, 1h30m or 2d")
    seconds = sum(float(number) * _PERIODS[unit] for unit, number in found.groupdict().items() if number)
    if seconds > _LONGEST or not (seconds or may_be_none):
        raise ValueError(f"{text!r} is out of range; a duration is more than 0 and at most {_LONGEST / 86400:.0f}d")
    return seconds


def parse_size(text: str) -> int:
    """Bytes: `10MB`, `500k`, `1 GiB`; a K is 1024 of them in any spelling. Raises `ValueError` with a sentence."""
    found = _SIZE.fullmatch(text.strip().lower())
    if found is None:
        raise ValueError(f"{text!r} is not a size; write for example 10MB or 500KB")
    if int(found[1]) == 0:
        raise ValueError(f"{text!r} has no room for anything; write for example 10MB")
    return int(found[1]) << _POWERS[found[2]]


JUST_PASSED = timedelta(hours=6)
"""So long a time of day has just passed; after that it is tomorrow's."""


class Deadline(msgspec.Struct, frozen=True):
    """A moment on the wall clock, and how many seconds after the batch's begin it was expected to come.

    Two clocks are asked and the first to reach it counts. A laptop that slept has a monotonic clock that stood still
    (Linux, macOS) but a right wall clock; one whose wall clock was set back has a right monotonic clock.
    """

    at: datetime
    seconds: float

    @classmethod
    def parse(cls, text: str | float, now: datetime) -> Self:
        """Read a duration (`2h`) or the next such time on the wall clock (`06:00`), counted from `now` (aware).

        The wall clock is that of `now`'s `ZoneInfo`, else this computer's. A time that the clock skips in spring is
        taken as if the clock had not been put forward. Raises `ValueError` with a sentence.
        """
        clock = _CLOCK_TIME.fullmatch(str(text).strip())
        if clock is None:
            seconds = _duration_until(text)
            return cls(now.astimezone(UTC) + timedelta(seconds=seconds), seconds)
        at = _next_time(_clock_time(text, clock), now)
        return cls(at, (at - now).total_seconds())

    @classmethod
    def of_batch(cls, text: str | float, now: datetime) -> Self:
        """The deadline of a batch that begins `now`: as `parse`, but a time of day that has just passed has passed.

        Whoever is late (a machine that slept, a cron that hung) doesn't want to go on until tomorrow's.
        """
        clock = _CLOCK_TIME.fullmatch(str(text).strip())
        if clock is not None:
            at = _next_time(_clock_time(text, clock), now - JUST_PASSED)
            if at <= now:
                return cls(at, (at - now).total_seconds())
        return cls.parse(text, now)

    def __str__(self) -> str:
        return local_time(self.at.isoformat())

    def passed(self, wall: datetime, elapsed: float) -> bool:
        """Whether it is over: `wall` is now (aware), `elapsed` the monotonic seconds since the batch began."""
        return wall >= self.at or elapsed >= self.seconds


def plain_number(text: str) -> Decimal | None:
    """The number that a program writes so, such as `-1234.50` or `1.5E+03`; None for all else, `1,234.50` too."""
    return Decimal(text) if _NUMBER.fullmatch(text) else None


class SingleBrace(ValueError):  # noqa: N818  it says what stands there
    """A brace in a template that is neither doubled nor one of a place's."""


class Braced(msgspec.Struct, frozen=True):
    """A place in a template: what stands between its braces, and the place as it is written."""

    inside: str
    written: str


def template_parts(text: str) -> Iterator[str | Braced]:
    """A template as texts and places; `{{` and `}}` are the braces themselves. Raises `SingleBrace`."""
    end = 0
    for match in BRACES.finditer(text):
        yield text[end : match.start()]
        if match.group() in ("{", "}"):
            raise SingleBrace(text)
        yield match.group()[0] if match.group(1) is None else Braced(match.group(1), match.group())
        end = match.end()
    yield text[end:]


def _duration_until(text: str | float) -> float:
    """As `parse_duration`; a plain number is refused: whoever writes 6 may mean hours, or six o'clock."""
    if plain_number(str(text).strip()) is not None:
        raise ValueError(f"{text!r} has no unit; write for example 6h, 6m or 06:00")
    try:
        return parse_duration(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither a duration such as 2h nor a time of day such as 06:00") from None


def _clock_time(text: str | float, clock: re.Match[str]) -> time:
    hour, minute, second = (int(part) for part in clock.groups("0"))
    try:
        return time(hour, minute, second)
    except ValueError:
        raise ValueError(f"{text!r} is not a time of day; write for example 06:00 or 23:30") from None


def _next_time(wanted: time, now: datetime) -> datetime:
    """The first moment after `now`, in UTC, at which the wall clock shows the time."""
    zone = now.tzinfo if isinstance(now.tzinfo, ZoneInfo) else None
    today = now.astimezone(zone).date()
    moments = [
        moment for day in (today, today + timedelta(days=1)) for moment in _moments(datetime.combine(day, wanted, zone))
    ]
    return min(moment for moment in moments if moment > now)


def _moments(wall: datetime) -> tuple[datetime, datetime]:
    """The moments, in UTC, at which a wall clock shows this: two in the autumn hour that comes twice, else one twice.

    In the hour that spring skips, fold 1 would be the moment an hour before (PEP 495); `max` leaves that out.
    """
    first, second = (wall.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
    return first, max(first, second)


def parse_day(text: str, today: date) -> date:
    """Read `2026-11-24`, `today` or `yesterday`, counted from `today`. Raises `ValueError` with a sentence."""
    words = {"today": today, "yesterday": today - timedelta(days=1)}
    word = text.strip().lower()
    if word in words:
        return words[word]
    try:
        if _DAY.fullmatch(word):
            return date.fromisoformat(word)
    except ValueError:
        raise ValueError(f"{text!r} is no day of the calendar") from None
    raise ValueError(f"{text!r} is not a day; write for example 2026-11-24, or yesterday")


class FailureLimit(msgspec.Struct, frozen=True):
    """`20`: so many rows; `5%`: so many of a hundred rows of the batch."""

    number: float
    percent: bool

    @classmethod
    def parse(cls, text: str | int) -> Self:
        """Read the text form. Raises `ValueError` with a sentence."""
        digits = str(text).strip()
        percent = digits.endswith("%")
        try:
            number = float(digits.removesuffix("%")) if percent else int(digits)
        except ValueError:
            raise ValueError(f"{text!r} is not a number of rows; write for example 20 or 5%") from None
        if not 0 < number <= (100 if percent else float("inf")):
            raise ValueError(f"{text!r} is out of range; write for example 20 or 5%")
        return cls(number, percent)

    def reached(self, failures: int, rows: int) -> bool:
        """Whether so many failures among so many rows are too many."""
        return failures > 0 and failures >= (rows * self.number / 100 if self.percent else self.number)


class RowRanges(msgspec.Struct, frozen=True):
    """Row numbers as Excel shows them: `2-100,205`, `500-` for all from there. Sorted and without overlap."""

    firsts: tuple[int, ...]
    lasts: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form. Raises `ValueError` with a sentence."""
        merged: list[tuple[int, float]] = []
        for first, last in sorted(_range(part.strip()) for part in text.split(",")):
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
            else:
                merged.append((first, last))
        return cls(tuple(first for first, _ in merged), tuple(last for _, last in merged))

    def __contains__(self, number: int) -> bool:
        place = bisect_right(self.firsts, number) - 1
        return place >= 0 and number <= self.lasts[place]


def _range(part: str) -> tuple[int, float]:
    found = _RANGE.fullmatch(part)
    if found is None:
        raise ValueError(f"{part!r} is not a row or a range of rows; write for example 2-100,205")
    first = int(found[1])
    last = first if not found[2] else int(found[3]) if found[3] else float("inf")
    if first < 1 or last < first:
        raise ValueError(f"{part!r} is not a range of rows: rows count from 1, and the first comes first")
    return first, last


def ranges_of(numbers: Iterable[int]) -> str:
    """Row numbers as `--rows` takes them: `4-6,9`."""
    found: list[list[int]] = []
    for number in sorted(set(numbers)):
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in found)


def windows_problem(name: str) -> str | None:
    """What keeps Windows from having a file of this name, as the end of a sentence.

    Some of them it would take, for a device or a hidden stream of another file: what is written there is lost
    (learn.microsoft.com, "Naming Files, Paths, and Namespaces").
    """
    if found := _NO_NAME.search(name):
        return f"Windows has no file with {found[0]!r} in its name"
    if name != name.rstrip(". "):
        return "Windows has no file whose name ends in a dot or a space"
    if found := _DEVICE.match(name):
        return f"{found[1]} is the name of a device in Windows"
    return None


def windows_name(name: str) -> str:
    """The name, changed as little as makes Windows have a file of it; `file` for what has nothing left."""
    fit = _NO_NAME.sub("-", name).rstrip(". ") or "file"
    return f"file-{fit}" if _DEVICE.match(fit) else fit


def problem_of_name(path: Path) -> str | None:
    """What keeps this system from having a file of this name, as the end of a sentence."""
    return windows_problem(path.name) if sys.platform == "win32" else None


def real_place(path: Path | str) -> str:
    """Where a path leads, in one form for all names of a file. Only on Linux do names differ by case alone."""
    real = os.path.realpath(path)
    return real if sys.platform == "linux" else real.casefold()


def way_to(path: Path, folder: Path) -> str:
    """A path as seen from a folder; the whole path where it is on another drive of Windows."""
    try:
        return os.path.relpath(path, folder)
    except ValueError:
        return str(path.absolute())


def safe_name(task: str, *, windows: bool = sys.platform == "win32") -> str:
    """A task's name as part of a file's: its last part, with a hyphen for what may mean something in a path."""
    last = (task.replace("\\", "/") if windows else task).rpartition("/")[2]
    name = _UNSAFE.sub("-", last).strip("-.")[:LONGEST_NAME] or "task"
    return windows_name(name) if windows else name


def service_form(service: str) -> str:
    """What all ways to write a service's address have in common; a word such as `local` as it is.

    Case, the usual port, a slash at the end and the name of this machine make no other service of it.
    """
    try:
        url = urlsplit(service)
        port = url.port
    except ValueError:
        return service
    if not url.hostname:
        return service
    host = "127.0.0.1" if url.hostname in ("localhost", "::1") else url.hostname
    usual = {"http": 80, "https": 443}.get(url.scheme)
    return f"{url.scheme}://{host}{'' if port in (None, usual) else f':{port}'}{url.path.rstrip('/')}"
