"""When to try again: bounds that hold whatever chance says."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_runner.batch.stop import FRESH_RUN, POLLS, STARTS, Backoff

seconds = st.floats(0, 1e5)
backoffs = st.builds(
    Backoff,
    base=st.floats(0.01, 100),
    ceiling=st.floats(0.01, 1000),
    budget=seconds,
    tries=st.none() | st.integers(1, 20),
)


@given(backoffs, st.integers(1, 2000), seconds, st.none() | seconds, st.integers())
def test_wait_stays_within_its_bounds(
    backoff: Backoff, failures: int, elapsed: float, retry_after: float | None, seed: int
) -> None:
    """A wait is at least what the service said, at most that and the ceiling more, and never goes past the budget."""
    wait = backoff.wait(failures, elapsed, random.Random(seed), retry_after)
    if wait is None:
        return
    floor = retry_after or 0.0
    assert floor <= wait <= floor + min(backoff.ceiling, backoff.base * 2.0 ** min(failures - 1, 64))
    assert elapsed + wait <= backoff.budget * (1 + 1e-9)


@given(backoffs, st.integers(1, 100), seconds, st.none() | seconds)
def test_giving_up_has_a_reason(backoff: Backoff, failures: int, elapsed: float, retry_after: float | None) -> None:
    """It is given up exactly when the tries or the time are used up, or the service's wait would use the time up."""
    spent = backoff.tries is not None and failures >= backoff.tries
    left = backoff.budget - elapsed
    late = left <= 0 or (retry_after or 0.0) > left
    assert (backoff.wait(failures, elapsed, random.Random(0), retry_after) is None) == (spent or late)


@given(backoffs, st.integers())
def test_trying_ends(backoff: Backoff, seed: int) -> None:
    """Whoever waits as told stops within the budget, and after so many tries."""
    chance, elapsed, failures = random.Random(seed), 0.0, 1
    while failures < 500 and (wait := backoff.wait(failures, elapsed, chance)) is not None:
        elapsed += wait
        failures += 1
    assert elapsed <= backoff.budget * (1 + 1e-9)
    assert backoff.tries is None or failures <= backoff.tries


def test_waits_are_spread_evenly_between_nothing_and_the_bound() -> None:
    """Full jitter: the tenth of all waits that is shortest is under a tenth of the bound, give or take."""
    chance = random.Random(1)
    waits = sorted(Backoff(base=1, ceiling=64, budget=1e9).wait(7, 0, chance) or 0.0 for _ in range(10_000))
    assert waits[1000] == pytest.approx(6.4, rel=0.1)
    assert waits[9000] == pytest.approx(57.6, rel=0.1)


@pytest.mark.parametrize(("backoff", "budget"), [(FRESH_RUN, 30), (POLLS, 900), (STARTS, 900)])
def test_budgets_in_force(backoff: Backoff, budget: float) -> None:
    """A fresh run id is asked for again for 30 seconds, all else for a quarter of an hour."""
    chance = random.Random(1)
    assert backoff.wait(1, budget - 0.1, chance) is not None
    assert backoff.wait(1, budget, chance) is None
