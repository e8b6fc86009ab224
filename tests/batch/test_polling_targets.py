"""How soon ends are noticed, in virtual time and beside other policies; learning and the last runs are included."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from poll_simulation import BUDGET, Intervals, Noted, fixed_with, growing, log_normal, simulate

from batch_runner.batch.poll_schedule import Schedule


def test_few_runs_in_flight_are_noticed_at_once() -> None:
    """25 in flight with a median of 60 s: ends are noticed within 3 % of the median, learning included."""
    result = simulate(Schedule(BUDGET), log_normal(60, 500), 25)
    assert result.delay <= 0.03 * 60


@pytest.mark.parametrize(("median", "in_flight", "rounds"), [(60, 500, 10), (600, 5000, 3)])
def test_many_runs_in_flight_are_noticed_sooner_than_by_fixed_intervals(
    median: float, in_flight: int, rounds: int
) -> None:
    """At least 15 % less delay than the fixed interval with as many polls, learning and the last runs included."""
    durations = log_normal(median, rounds * in_flight)
    ours = simulate(Schedule(BUDGET), durations, in_flight)
    fixed = fixed_with(ours.polls, durations, in_flight)
    assert fixed.polls == pytest.approx(ours.polls, rel=0.02)
    assert ours.delay <= 0.85 * fixed.delay


def test_less_delay_than_a_growing_interval() -> None:
    """A fifth less than the usual ×1.5-to-30 s within the same budget."""
    durations = log_normal(60, 3000)
    ours, grown = simulate(Schedule(BUDGET), durations, 500), simulate(Intervals(growing), durations, 500)
    assert ours.delay < 0.8 * grown.delay


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


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("in_flight", [25, 300])
def test_any_distribution_is_followed_about_as_well_as_by_fixed_intervals(kind: str, in_flight: int) -> None:
    """Two kinds of runs, heavy tails, drifts: never a tenth later than the fixed interval with as many polls."""
    chance, rows = random.Random(7), max(600, 5 * in_flight)
    durations = [HOSTILE[kind](chance, place / rows) for place in range(rows)]
    ours = simulate(Schedule(BUDGET), durations, in_flight)
    assert ours.delay <= 1.1 * fixed_with(ours.polls, durations, in_flight).delay


def test_constant_durations_are_found_out() -> None:
    """Runs that all take 60 s: few polls before that, and the end is noticed within 1 s with few in flight."""
    result = simulate(Schedule(BUDGET), [60.0] * 1000, 25)
    assert result.delay < 1
    assert result.polls < 20


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
