"""Progress: lines for logs, a bar on a terminal, nothing when asked; never a reason for a batch to end."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_runner.progress import Bar, Forecast, Lines, Progress, Tally, progress_for


class Terminal(io.StringIO):
    """A stream that says it is a terminal, and keeps what was shown on it."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


class Clock:
    """The monotonic clock, moved by hand."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        patch.setattr("batch_runner.progress.time.monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_lines_are_silent_under_a_second(clock: Clock) -> None:
    """A small batch says nothing but its summary."""
    stream = io.StringIO()
    lines = Lines(stream)
    tally = Tally(2)
    lines.begin(tally)
    clock.now += 0.9
    tally.done = tally.success = 2
    lines.moved(tally)
    lines.end(tally)
    assert stream.getvalue() == ""


def test_lines_come_now_and_then(clock: Clock) -> None:
    """One after a second, then one every half minute, and one at the end: cron's mail stays short."""
    stream = io.StringIO()
    lines, tally = Lines(stream), Tally(1000, running=5)
    lines.begin(tally)
    for _ in range(100):
        clock.now += 1
        for status in ("success", "success", "success", "failure"):
            tally.ended(status)
        lines.moved(tally)
    lines.end(tally)
    shown = stream.getvalue().splitlines()
    assert len(shown) == 5
    assert shown[0] == "4/1000 done, 3 success, 1 failure, 5 running, 4.0 rows/s"
    assert shown[-1] == "400/1000 done, 300 success, 100 failure, 5 running, 4.0 rows/s, 2:13 to 2:49 left"


def test_rows_of_another_night_are_not_this_nights_pace(clock: Clock) -> None:
    """Rows that were carried over took no time: what is left is reckoned from those that did."""
    stream = io.StringIO()
    lines = Lines(stream)
    clock.now += 10
    lines.moved(Tally(1000, done=910, success=910, carried=900))
    assert stream.getvalue() == "910/1000 done, 910 success, 0 failure, 0 running, 1.0 rows/s, 0:54 to 2:29 left\n"


def test_the_next_sheet_is_timed_from_its_own_begin(clock: Clock) -> None:
    """In a night of several sheets each one's pace is its own, and a small one is silent after a long one."""
    stream = io.StringIO()
    lines = Lines(stream)
    clock.now += 1000
    lines.begin(Tally(100))
    clock.now += 0.9
    lines.moved(Tally(100, done=9, success=9))
    assert stream.getvalue() == ""
    clock.now += 0.1
    lines.moved(Tally(100, done=10, success=10))
    assert stream.getvalue() == "10/100 done, 10 success, 0 failure, 0 running, 10.0 rows/s, 0:05 to 0:15 left\n"


def test_nothing_done_yet_has_no_time_left(clock: Clock) -> None:
    """No guess is made from nothing."""
    stream = io.StringIO()
    lines = Lines(stream)
    clock.now += 5
    lines.moved(Tally(10, running=5))
    assert stream.getvalue() == "0/10 done, 0 success, 0 failure, 5 running, 0.0 rows/s\n"


def test_a_running_row_is_no_failure_in_the_progress_lines(clock: Clock) -> None:
    """Nor is any other that isn't called so: each has its own word."""
    stream = io.StringIO()
    lines, tally = Lines(stream), Tally(9, running=1)
    clock.now += 1
    for status in ("success", "timeout", "running", "unknown", "timeout"):
        tally.ended(status)
    lines.moved(tally)
    assert stream.getvalue().startswith(
        "5/9 done, 1 success, 0 failure, 2 timeout, 1 left running, 1 unknown, 1 running, 5.0 rows/s"
    )


def test_progress_is_an_event_where_the_log_is_json(clock: Clock) -> None:
    """With its numbers; there is no bar, whoever asked for one, and a sentence is an event, too."""
    stream = Terminal()
    lines = progress_for("always", stream, "json")
    clock.now += 1
    lines.moved(Tally(40, done=20, success=12, failure=1, running=3, others={"error": 7}))
    lines.tell("stopping")
    lines.printed('a "task"')
    first, second, third = (json.loads(line) for line in stream.getvalue().splitlines())
    assert 0 < first.pop("left_from") < 1 < first.pop("left_to") < 2
    numbers = {"done": 20, "total": 40, "success": 12, "failure": 1, "other": 7, "running": 3, "rate": 20.0}
    assert first.pop("time").endswith("Z")
    assert first == {"level": "info", "event": "progress", **numbers}
    assert second["event"] == "stopping"
    assert (third["event"], third["text"]) == ("task printed", 'a "task"')


def test_hours_left(clock: Clock) -> None:
    """A long night is told in hours."""
    stream = io.StringIO()
    lines = Lines(stream)
    clock.now += 1
    clock.now += 99
    lines.moved(Tally(10000, done=100, success=100))
    assert stream.getvalue().endswith("2:17:51 to 3:17:30 left\n")


@given(
    rate=st.floats(0.1, 1000), ended=st.integers(10, 10_000), rest=st.integers(20, 10_000), seed=st.integers(0, 2**32)
)
def test_a_forecast_holds_nineteen_times_in_twenty(rate: float, ended: int, rest: int, seed: int) -> None:
    """Rows that end at random moments: the rest take a time within the range (here: of 60 nights at least 48 do)."""
    held, chance = 0, Random(seed)
    for _ in range(60):
        seconds, last = (chance.gammavariate(rows, 1 / rate) for rows in (ended, rest))
        left = Forecast.of(Tally(ended + rest, done=ended), seconds).left
        assert left is not None
        held += left[0] <= last <= left[1]
    assert held >= 48


def test_a_bar_shows_done_total_and_counts() -> None:
    """On a terminal: done and total, the counts, and at the end the full bar."""
    stream = Terminal()
    bar, tally = Bar(stream), Tally(4)
    bar.begin(tally)
    assert "0/4" in stream.getvalue()
    tally.running = 2
    bar.moved(tally)
    tally.done, tally.success, tally.failure, tally.running = 4, 3, 1, 0
    bar.moved(tally)
    bar.end(tally)
    last = stream.getvalue().rstrip().rsplit("\r", 1)[-1]
    assert re.match(r"100%\|█+\| 4/4 ", last)
    assert "3 success, 1 failure, 0 running" in last


def test_a_line_does_not_break_the_bar() -> None:
    """What is said while the bar stands comes on a line of its own, and the bar is drawn again."""
    stream = Terminal()
    bar = Bar(stream)
    bar.begin(Tally(4))
    bar.say("heard")
    bar.end(Tally(4))
    assert re.search(r"\r\s*\rheard\n", stream.getvalue())


def test_a_bar_of_zero_rows() -> None:
    """A sheet without rows is fine, also to look at."""
    stream = Terminal()
    bar = Bar(stream)
    bar.begin(Tally(0))
    bar.end(Tally(0))
    assert "0 success" in stream.getvalue()


def test_who_gets_what() -> None:
    """`auto` looks for a terminal, `always` is a bar anywhere, `never` and no stream at all are nothing."""
    assert isinstance(progress_for("auto", Terminal()), Bar)
    assert isinstance(progress_for("auto", io.StringIO()), Lines)
    assert isinstance(progress_for("always", io.StringIO()), Bar)
    assert type(progress_for("never", Terminal())) is Progress
    assert type(progress_for("auto", None)) is Progress


def test_never_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Without progress nothing is shown but what is said."""
    silent = progress_for("never", Terminal())
    silent.begin(Tally(1))
    silent.moved(Tally(1))
    silent.end(Tally(1))
    assert capsys.readouterr() == ("", "")
    silent.say("heard")
    assert capsys.readouterr() == ("", "heard\n")


@pytest.mark.parametrize("wish", ["auto", "always"])
def test_a_reader_that_left_does_not_end_the_batch(wish: str) -> None:
    """`2>&1 | head` takes what it wants; a batch that pays invoices goes on without an audience."""
    code = f"""
import sys, time
from batch_runner.progress import Tally, progress_for
shown = progress_for({wish!r}, sys.stderr)
shown.begin(Tally(3))
time.monotonic = lambda now=time.monotonic(): now + 99
for done in range(3):
    shown.moved(Tally(3, done=done))
    shown.say("heard")
shown.end(Tally(3, done=3))
print("to its end")
"""
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=writer, text=True, check=False)
    os.close(writer)
    assert (done.stdout, done.returncode) == ("to its end\n", 0)
