"""What the summary advises after a batch, in virtual time; and that it keeps quiet where nothing could be better."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from nights import Fault, Night, night, numbered
from plans import Quota, Slots
from poll_simulation import log_normal, simulate

from batch_runner.batch.poll_schedule import PollLimits, Schedule
from batch_runner.units import Rate

if TYPE_CHECKING:
    from pathlib import Path

ELSEWHERE = "http://service"
"""A service that is not the embedded one has the poll rate that the job says."""


def told(done: Night, word: str) -> list[str]:
    """The notes with this word."""
    return [note for note in done.summary.notes if word in note]


@pytest.mark.long
def test_short_runs_wait_for_polls(tmp_path: Path) -> None:
    """Runs of a second, fifty at once, twenty polls a second: the batch was as fast as its polls, and says so."""
    done = night(tmp_path, numbered(200, Seconds="1"), service=ELSEWHERE, concurrency=50, poll_rate="20/s")
    assert done.seconds > 200 / 20
    assert len(told(done, "a higher --poll-rate")) == 1


@pytest.mark.long
def test_a_higher_poll_rate_is_faster(tmp_path: Path) -> None:
    """Who takes the advice has a faster batch, and hears no more of it."""
    done = night(tmp_path, numbered(200, Seconds="1"), service=ELSEWHERE, concurrency=50, poll_rate="200/s")
    assert done.seconds < 8
    assert not told(done, "--poll-rate")


@pytest.mark.long
def test_by_itself_it_is_as_fast_and_says_nothing(tmp_path: Path) -> None:
    """Whoever leaves the poll rate to the program needs no advice about it."""
    done = night(tmp_path, numbered(200, Seconds="1"), service=ELSEWHERE, concurrency=50)
    assert done.seconds < 8
    assert not told(done, "--poll-rate")


@pytest.mark.parametrize(
    ("in_flight", "median", "is_short"),
    [
        (25, 60, False),
        pytest.param(500, 600, False, marks=pytest.mark.long),
        pytest.param(1000, 60, True, marks=pytest.mark.long),
    ],
)
def test_the_advice_is_for_who_needs_it(in_flight: int, median: float, is_short: bool) -> None:
    """Long runs want few polls; a thousand of a minute end faster than twenty polls a second can notice."""
    schedule = Schedule(PollLimits.fixed(Rate(20, 1.0)))
    result = simulate(schedule, log_normal(median, 3 * in_flight), in_flight)
    assert (schedule.shortfall > 0.2) == is_short
    assert (result.delay > 0.2 * median) == is_short


def test_an_untold_quota_is_worth_a_rate(tmp_path: Path) -> None:
    """A service that refuses again and again for the rate and never tells it: the summary names --rate."""
    no = Fault(429, (("Retry-After", "20"),), b'{"error": {"code": 429, "message": "Too Many Requests"}}')
    done = night(tmp_path, numbered(24), lambda row, earlier: no if int(row) % 2 and not earlier else None)
    assert done.summary.count("success") == 24
    assert told(done, "--rate") == [
        "the service refused 12 of 36 starts because they came too fast (429); a --rate of what it allows avoids that"
    ]


def test_what_was_learnt_by_itself_needs_no_advice(tmp_path: Path) -> None:
    """A quota that is told is kept without anybody's help, and a good night has no notes."""
    quiet = night(tmp_path, numbered(20), within=lambda app: Quota(app, 5, 60, tells_always=False), concurrency=25)
    assert quiet.summary.notes == ()


@pytest.mark.long
def test_too_many_at_once_is_about_concurrency(tmp_path: Path) -> None:
    """Refusals for too many runs at once advise --concurrency, and no --rate."""
    done = night(tmp_path, numbered(60, Seconds="5"), within=lambda app: Slots(app, 4), concurrency=30)
    assert told(done, "--concurrency") == ["the service took no more than 4 runs at once; --concurrency 4 says so"]
    assert not told(done, "--rate")
