"""How soon ends are noticed, in virtual time and beside other policies; learning and the last runs are included."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from poll_simulation import Intervals, Noted, fixed_with, growing, log_normal, simulate

from batch_runner.batch.poll_schedule import AUTO, Schedule

TIMES = [(60, 25), (60, 500), (600, 25), (600, 500), (600, 2000)]


@pytest.mark.long
@pytest.mark.parametrize(("median", "in_flight"), TIMES)
def test_ends_are_noticed_within_3_percent_of_the_median(median: float, in_flight: int) -> None:
    """Whatever is in flight, with the default rate, learning it included; with a few dozen polls a run."""
    result = simulate(Schedule(AUTO), log_normal(median, 4 * in_flight), in_flight)
    assert result.delay <= 0.03 * median
    assert result.polls <= 70


@pytest.mark.parametrize("ramp", [0.01, 0.002, 0.0005])
def test_equal_runs_that_start_together_are_noticed_as_soon(ramp: float) -> None:
    """Though none has told how long they last when all of them end, within a second or a few."""
    result = simulate(Schedule(AUTO), [60.0] * 1000, 500, ramp)
    assert result.delay <= 0.025 * 60
    assert result.polls <= 25


def test_short_runs_lose_little_time() -> None:
    """Runs of half a second to five: noticed within a tenth, although a service isn't to be asked without pause."""
    for median in (0.5, 1.0, 5.0):
        result = simulate(Schedule(AUTO), log_normal(median, 1000), 8)
        assert result.delay <= 0.1 * median
        assert result.polls <= 15


@pytest.mark.long
@pytest.mark.parametrize(("median", "in_flight", "rounds"), [(60, 500, 10), (600, 5000, 3)])
def test_where_polls_are_short_they_are_shared_evenly(median: float, in_flight: int, rounds: int) -> None:
    """With 20 polls a second at most, no policy of fixed intervals with as many polls is noticeably better."""
    durations = log_normal(median, rounds * in_flight)
    ours = simulate(Noted(), durations, in_flight)
    fixed = fixed_with(ours.polls, durations, in_flight)
    assert fixed.polls == pytest.approx(ours.polls, rel=0.02)
    assert ours.delay <= 1.03 * fixed.delay


def test_less_delay_than_a_growing_interval() -> None:
    """A twentieth less than the usual ×1.5-to-30 s within the same few polls."""
    durations = log_normal(60, 3000)
    ours, grown = simulate(Noted(), durations, 500), simulate(Intervals(growing), durations, 500)
    assert ours.delay < 0.95 * grown.delay


Kind = Callable[[random.Random, float], float]
HOSTILE: dict[str, Kind] = {
    "5 s beside 30 min": lambda chance, _: (
        chance.uniform(4, 6) if chance.random() < 0.8 else chance.uniform(1500, 2100)
    ),
    "5 s beside 2 min": lambda chance, _: chance.uniform(4, 6) if chance.random() < 0.5 else chance.uniform(100, 140),
    "heavy tail": lambda chance, _: 5 * chance.paretovariate(1.1),
    "uniform": lambda chance, _: chance.uniform(1, 100),
    "shorter, then longer": lambda chance, part: chance.lognormvariate(4 if part < 1 / 3 or part > 2 / 3 else 1.6, 0.5),
    "ever longer": lambda chance, part: chance.lognormvariate(1.6 + 3 * part, 0.5),
    "at once": lambda _chance, _part: 0.01,
}


@pytest.mark.long
@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("in_flight", [25, 300])
def test_any_distribution_is_followed_about_as_well_as_by_fixed_intervals(kind: str, in_flight: int) -> None:
    """Two kinds of runs, heavy tails, drifts: never later than the fixed interval with as many polls, but for 1.5 %.

    That is 1.5 % of the runs' time, which is what the batch takes longer.
    """
    chance, rows = random.Random(7), max(600, 5 * in_flight)
    durations = [HOSTILE[kind](chance, place / rows) for place in range(rows)]
    ours = simulate(Noted(), durations, in_flight)
    fixed = fixed_with(ours.polls, durations, in_flight)
    assert ours.delay <= 1.03 * fixed.delay + 0.015 * sum(durations) / rows


def test_constant_durations_cost_few_polls() -> None:
    """Runs that all take 60 s: noticed within 2 s with few in flight."""
    result = simulate(Noted(), [60.0] * 1000, 25)
    assert result.delay < 2
    assert result.polls < 40


def test_a_short_run_among_long_ones_is_not_left_waiting() -> None:
    """Once in a while a run of 1.5 s among 25 of a minute: noticed within 5 s, not after the usual minute."""
    durations = log_normal(60, 1000)
    schedule, short = Noted(), range(500, 1000, 50)
    for place in short:
        durations[place] = 1.5
    simulate(schedule, durations, 25)
    first: dict[int, float] = {}
    last: dict[int, float] = {}
    for now, run in schedule.polls:
        first.setdefault(run, now)
        last[run] = now
    assert all(last[place] - first[place] < 5 for place in short)
