"""Whole batches under a plan's limits, in virtual time: slots, windows, pauses; what the summary then advises."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from itertools import pairwise
from math import log
from typing import TYPE_CHECKING

import pytest
from nights import Fault, Night, night, numbered
from plans import Quota, Slots

from batch_runner.errors import ExitCode

if TYPE_CHECKING:
    from pathlib import Path

NOON = datetime(2026, 2, 28, 12, 0, 0, tzinfo=UTC)


def refused(done: Night) -> int:
    """How many starts the service refused."""
    return sum(post.status in (429, 503) for post in done.front.posts)


@pytest.mark.long
def test_eight_slots_and_a_concurrency_of_64(tmp_path: Path) -> None:
    """At least 90 % of what eight slots can do, under 5 % refused, and the summary says what it settled on."""
    chance = random.Random(1)
    times = [chance.lognormvariate(log(30), 0.5) for _ in range(480)]
    rows = [{"Row": str(row), "Seconds": f"{seconds:.3f}"} for row, seconds in enumerate(times, 1)]
    done = night(tmp_path, rows, within=lambda app: Slots(app, 8), concurrency=64)
    assert done.summary.count("success") == len(rows)
    assert sum(times) / 8 / done.seconds >= 0.9
    assert refused(done) / len(done.front.posts) < 0.05
    assert "the service took no more than 8 runs at once; --concurrency 8 says so" in done.summary.notes


@pytest.mark.parametrize(("tells_always", "most_refused"), [(True, 0), (False, 1)])
def test_a_told_window_is_waited_for(tmp_path: Path, tells_always: bool, most_refused: int) -> None:
    """`"5-in-60s"`, told with every answer, is never run into; told with a refusal only, it is run into once."""
    done = night(
        tmp_path,
        numbered(30),
        within=lambda app: Quota(app, 5, 60, tells_always=tells_always),
        concurrency=25,
    )
    assert done.summary.count("success") == 30
    assert refused(done) == most_refused
    assert done.seconds < 5 * 62 + 15


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_as_a_date(tmp_path: Path, status: int) -> None:
    """A date is counted from the service's own clock, and holds all starts as a number of seconds does."""
    headers = (
        ("Retry-After", format_datetime(NOON + timedelta(seconds=90), usegmt=True)),
        ("Date", format_datetime(NOON, usegmt=True)),
    )
    done = night(
        tmp_path,
        numbered(20),
        lambda row, earlier: Fault(status, headers) if row == "4" and not earlier else None,
        concurrency=3,
    )
    times = [post.at for post in done.front.posts]
    at = next(post.at for post in done.front.posts if post.status == status)
    assert [later for earlier, later in pairwise(times) if later - earlier > 60] == [
        min(t for t in times if t >= at + 90)
    ]
    assert not [time for time in times if at < time < at + 90]
    assert set(done.front.starts().values()) == {1}
    assert done.summary.exit_code == ExitCode.OK


def test_a_503_without_retry_after_may_hide_a_run(tmp_path: Path) -> None:
    """Only who says until when has certainly started nothing: without it the row is `unknown`, and sent once."""
    done = night(tmp_path, numbered(3), lambda row, _: Fault(503) if row == "2" else None)
    assert done.statuses == ["success", "unknown", "success"]
    assert [post.row for post in done.front.posts].count("2") == 1
