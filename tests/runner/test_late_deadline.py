"""A time of day that has just passed is not silently tomorrow's."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest
from program import run_program

from batch_runner.units import JUST_PASSED, Deadline

if TYPE_CHECKING:
    from pathlib import Path

TASK = "async def pay(params):\n    return {}\n"
RUN = ("in.csv", "--task", "task.py:pay")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "in.csv").write_text("Row\n1\n2\n")
    return tmp_path


def clock(minutes: float) -> str:
    """A time of day so many minutes from now."""
    return f"{datetime.now().astimezone() + timedelta(minutes=minutes):%H:%M}"


def test_a_batch_that_begins_after_its_deadline_says_so(folder: Path) -> None:
    """5, before a row is started; the rows are `not_started`, and the command runs them with the one that it names."""
    done = run_program("run", *RUN, "--deadline", clock(-10), "--json", cwd=folder)
    told = json.loads(done.stdout)
    assert (done.returncode, told["counts"]) == (5, {"not_started": 2}), done.stderr
    assert "had passed when it began" in told["stopped"]
    assert clock(-10) in told["stopped"]
    assert told["stopped"].endswith("now with --deadline 2h")
    assert run_program("run", *RUN, "--deadline", "2h", cwd=folder).returncode == 0


def test_check_shows_the_moment(folder: Path) -> None:
    """Day and time, and how long it is until then; of one that has passed, what a batch would do."""
    ahead = run_program("check", *RUN, "--deadline", clock(90), cwd=folder)
    assert ahead.returncode == 0
    day = f"{datetime.now().astimezone() + timedelta(minutes=90):%Y-%m-%d %H:%M}"
    assert f"  until:   {day}, in 1 h " in ahead.stdout
    late = run_program("check", *RUN, "--deadline", clock(-10), "--json", cwd=folder)
    assert "has passed" in json.loads(late.stdout)["deadline"]
    assert json.loads(run_program("check", *RUN, "--json", cwd=folder).stdout)["deadline"] is None


@pytest.mark.parametrize(
    ("text", "hours"),
    [("06:00", -0.5), ("22:00", 15.5), ("00:31", -6 + 1 / 60), ("00:30", 18), ("06:31", 1 / 60), ("2h", 2)],
)
def test_what_has_just_passed(text: str, hours: float) -> None:
    """At half past six: six o'clock has, ten in the evening comes, and half past midnight is as far back as it goes."""
    now = datetime(2026, 6, 1, 6, 30, tzinfo=ZoneInfo("Europe/Berlin"))
    assert timedelta(hours=6) == JUST_PASSED
    assert Deadline.of_batch(text, now).seconds == pytest.approx(hours * 3600)
