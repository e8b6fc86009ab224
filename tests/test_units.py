"""How people write rates, durations, sizes, deadlines and failure limits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from datetime import time as clock_time
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_runner.units import Deadline, FailureLimit, Rate, parse_duration, parse_size

if TYPE_CHECKING:
    from collections.abc import Callable

BERLIN = ZoneInfo("Europe/Berlin")
LORD_HOWE = ZoneInfo("Australia/Lord_Howe")


@pytest.mark.parametrize(
    ("text", "rate"),
    [("20/s", Rate(20, 1)), ("5/min", Rate(5, 60)), ("100 / MIN", Rate(100, 60)), ("1000/h", Rate(1000, 3600))],
)
def test_rates(text: str, rate: Rate) -> None:
    """A rate is a count and a period, in any case and with spaces."""
    assert Rate.parse(text) == rate


@pytest.mark.parametrize(
    ("text", "size"),
    [("10MB", 10 << 20), ("500k", 500 << 10), ("1 GiB", 1 << 30), ("4096", 4096), ("10b", 10), (" 2mb ", 2 << 20)],
)
def test_sizes(text: str, size: int) -> None:
    """A size is bytes, or so many times 1024 of them, however that is spelt."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "MB", "ten", "0", "0MB", "-1MB", "1.5MB", "10TB", "10 M B", "٥MB"])
def test_what_is_no_size(text: str) -> None:
    """What is no size, or has room for nothing, is refused with the text and an example."""
    with pytest.raises(ValueError, match="for example 10MB"):
        parse_size(text)


@pytest.mark.parametrize("text", ["", "5", "5/", "/s", "0/s", "-1/s", "1.5/s", "5/fortnight", "5/s/s", "٥/s"])
def test_what_is_no_rate(text: str) -> None:
    """What is no rate is refused with the text and an example."""
    with pytest.raises(ValueError, match=r"for example|is 1 or more"):
        Rate.parse(text)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30m", 1800),
        ("90s", 90),
        ("1h30m", 5400),
        ("1 h 30 min", 5400),
        ("2d", 172800),
        ("1D", 86400),
        ("45", 45),
        ("1.5h", 5400),
        (45, 45),
        (0.5, 0.5),
    ],
)
def test_durations(text: str | float, seconds: float) -> None:
    """A duration is numbers with units, the greater first; a plain number is seconds."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", " ", "m", "30x", "-5", "0", "1m1h", "inf", "nan", "1e9", "9999999d", True])
def test_what_is_no_duration(text: str | float) -> None:
    """What is no duration, or none that makes sense, is refused with the text in the sentence."""
    with pytest.raises(ValueError, match=r"is not a duration|is out of range"):
        parse_duration(text)


def at(zone: ZoneInfo, *parts: int, fold: int = 0) -> datetime:
    return datetime(*parts, tzinfo=zone, fold=fold)  # type: ignore[misc,arg-type]


@pytest.mark.parametrize(
    ("text", "now", "hours"),
    [
        ("06:00", at(BERLIN, 2026, 6, 1, 22, 0), 8),
        ("06:00", at(BERLIN, 2026, 6, 1, 5, 59, 59), 1 / 3600),
        ("6:00", at(BERLIN, 2026, 6, 1, 6, 0), 24),
        ("06:00", at(BERLIN, 2026, 3, 28, 22, 0), 7),
        ("06:00", at(BERLIN, 2026, 10, 24, 22, 0), 9),
        ("02:30", at(BERLIN, 2026, 10, 25, 1, 30), 1),
        ("02:30", at(BERLIN, 2026, 10, 25, 2, 45), 0.75),
        ("02:30", at(BERLIN, 2026, 10, 25, 2, 45, fold=1), 23.75),
        ("02:30", at(BERLIN, 2026, 3, 29, 1, 0), 1.5),
        ("01:45", at(LORD_HOWE, 2026, 4, 5, 1, 50), 5 / 12),
        ("2h", at(BERLIN, 2026, 3, 29, 1, 0), 2),
        ("90s", at(BERLIN, 2026, 3, 29, 1, 0), 1 / 40),
    ],
)
def test_deadlines(text: str | float, now: datetime, hours: float) -> None:
    """A time of day is the next moment at which the wall clock shows it, also when the clocks change that night."""
    deadline = Deadline.parse(text, now)
    assert deadline.seconds == pytest.approx(hours * 3600)
    assert deadline.at - now.astimezone(UTC) == timedelta(seconds=deadline.seconds)


@pytest.mark.parametrize("text", ["6", " 6 ", "0.5", 6, 90, 1.5])
def test_a_deadline_that_is_a_bare_number_was_six_seconds(text: str | float) -> None:
    """Whoever writes 6 may mean hours, or six o'clock: it is refused, with all three ways to say it."""
    with pytest.raises(ValueError, match="has no unit; write for example 6h, 6m or 06:00"):
        Deadline.parse(text, at(BERLIN, 2026, 6, 1, 22, 0))


def test_deadline_on_this_computers_clock(in_zone: Callable[[str], None]) -> None:
    """A `now` with a mere offset is read on the computer's own clock, with its changes."""
    in_zone("America/New_York")
    now = datetime(2026, 3, 7, 22, 0).astimezone()  # the clocks go forward that night
    assert Deadline.parse("06:00", now).seconds == 7 * 3600


@given(
    st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.sampled_from([BERLIN, LORD_HOWE])),
    st.times(),
)
def test_a_time_of_day_comes_within_a_day_and_the_change_of_clocks(now: datetime, wanted: clock_time) -> None:
    """Whatever the night, the deadline lies ahead, at most 25 hours away."""
    assert 0 < Deadline.parse(f"{wanted.hour}:{wanted.minute:02}", now).seconds <= 25 * 3600


@pytest.mark.parametrize("text", ["24:00", "6:60", "12:5", "later", "06:00 pm"])
def test_what_is_no_deadline(text: str) -> None:
    """What is neither is refused, naming both forms."""
    with pytest.raises(ValueError, match="time of day"):
        Deadline.parse(text, at(BERLIN, 2026, 6, 1))


def test_a_deadline_is_passed_on_either_clock() -> None:
    """A laptop that slept is found out by its wall clock, a clock that was set back by the monotonic one."""
    now = at(BERLIN, 2026, 6, 1, 12, 0)
    deadline = Deadline.parse("1h", now)
    assert not deadline.passed(now + timedelta(minutes=59), 59 * 60)
    assert deadline.passed(now + timedelta(hours=8), 60)
    assert deadline.passed(now - timedelta(hours=3), 3600)


@pytest.mark.parametrize(("text", "failures", "reached"), [("5%", 9, False), ("5%", 10, True), (20, 20, True)])
def test_failure_limits(text: str | int, failures: int, reached: bool) -> None:
    """A limit is so many rows, or so many of a hundred; here of 200."""
    assert FailureLimit.parse(text).reached(failures, 200) is reached


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "101%", "0%", "nan%", "1.5"])
def test_what_is_no_failure_limit(text: str) -> None:
    """What is none is refused with an example."""
    with pytest.raises(ValueError, match="for example 20 or 5%"):
        FailureLimit.parse(text)


@given(st.integers(0, 10**6))
def test_no_rows_no_limit(rows: int) -> None:
    """Without a failure no limit is reached, however few rows there are."""
    assert not FailureLimit.parse("1%").reached(0, rows)
