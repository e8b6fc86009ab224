"""What is learnt of durations of which only bounds are known."""

from __future__ import annotations

import random
from itertools import pairwise
from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st
from poll_simulation import log_normal

from batch_runner.batch.durations import EDGES, Durations, span_of

ages = st.floats(0, 1e7)
looks = st.lists(st.tuples(st.booleans(), ages, ages), max_size=30)


def taught(events: list[tuple[bool, float, float]]) -> Durations:
    durations = Durations()
    for has_ended, one, other in events:
        tell = durations.ended if has_ended else durations.going
        tell(min(one, other), max(one, other))
    return durations


def watch(durations: Durations, runs: list[float], interval: float) -> None:
    """Look at each run at fixed intervals until it has ended."""
    for seconds in runs:
        since = 0.0
        while since + interval < seconds:
            durations.going(since, since + interval)
            since += interval
        durations.ended(since, since + interval)


@given(looks, ages, st.lists(ages, min_size=2, max_size=6))
def test_a_look_is_worth_more_the_longer_it_is_put_off(
    events: list[tuple[bool, float, float]], since: float, later: list[float]
) -> None:
    """Whatever was seen, the worth of a look is never less than nothing, and never falls while the run waits."""
    durations = taught(events)
    worths = [durations.worth(since, since + more) for more in sorted(later)]
    assert all(before <= after + 1e-6 * (1 + abs(after)) for before, after in pairwise([0.0, *worths]))


@pytest.mark.parametrize("median", [2.0, 60.0, 1500.0])
@pytest.mark.parametrize("looks_a_run", [3, 10, 40])
def test_the_median_is_learnt_from_bounds(median: float, looks_a_run: int) -> None:
    """From 1,000 ends of which only the two looks around them are known: right to the span above."""
    durations = Durations()
    watch(durations, log_normal(median, 1000), 1.2 * median / looks_a_run)
    assert EDGES[span_of(median) - 1] <= durations.median <= EDGES[span_of(median) + 2]


@pytest.mark.parametrize("interval", [2.0, 7.0, 20.0])
def test_the_worth_of_a_look_is_right_where_it_can_be_computed(interval: float) -> None:
    """Exponential durations with mean m: after d seconds a look is worth m - (m + d) exp(-d / m), at any age."""
    mean, chance, durations = 60.0, random.Random(1), Durations()
    watch(durations, [chance.expovariate(1 / mean) for _ in range(2000)], interval)
    expected = mean - (mean + 30) * exp(-30 / mean)
    assert durations.worth(0, 30) == pytest.approx(expected, rel=0.2)
    assert durations.worth(60, 90) == pytest.approx(expected, rel=0.2)


def test_runs_that_go_on_count() -> None:
    """Ten short runs among a hundred that are known to go on don't make the short ones the rule."""
    durations = Durations()
    for _ in range(10):
        durations.ended(1.0, 2.0)
    for _ in range(100):
        durations.going(0.0, 50.0)
    assert durations.median > 50


def test_a_drift_is_followed() -> None:
    """After 7,000 ends of a minute, 1,000 of six seconds are enough to unlearn them."""
    durations, chance = Durations(), random.Random(1)
    watch(durations, log_normal(60, 7000), 20)
    watch(durations, [chance.uniform(5, 7) for _ in range(1000)], 1)
    assert 5 <= durations.median <= 8


@given(ages)
def test_every_age_has_its_span(age: float) -> None:
    """A span holds its ages; the last one holds all that are older."""
    span = span_of(age)
    assert EDGES[span] <= age
    assert age < EDGES[span + 1] or span == len(EDGES) - 2
