"""When to look at a run: what holds whatever the runs do."""

from __future__ import annotations

import sys
from itertools import pairwise
from math import inf

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from poll_simulation import BUDGET, Noted, log_normal, simulate

from batch_runner.batch.poll_schedule import LONGEST, RARELY, SHARE, SHORTEST, PollLimits, Schedule
from batch_runner.units import Rate

LIMITS = PollLimits.fixed(BUDGET)


def test_no_waves() -> None:
    """With 500 runs begun together, polls go out evenly: each second of the batch's middle has 19 to 20 of them."""
    schedule = Noted()
    simulate(schedule, log_normal(60, 2000), 500)
    counts = [0] * 300
    for now, _ in schedule.polls:
        if now < 300:
            counts[int(now)] += 1
    assert min(counts[60:240]) >= 19
    assert max(counts) <= 21


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.floats(0, 500), min_size=1, max_size=80),
    st.integers(1, 40),
    st.sampled_from([Rate(20, 1.0), Rate(1, 1.0), Rate(30, 60.0), Rate(500, 1.0)]),
)
def test_budget_and_floor_hold_whatever_the_runs_do(durations: list[float], in_flight: int, budget: Rate) -> None:
    """Polls are a gap apart, a run's own never less than the shortest floor; all ends are seen."""
    schedule = Noted(budget)
    simulate(schedule, durations, in_flight)
    slack = 1e-9
    assert all(after - before >= budget.gap - slack for (before, _), (after, _) in pairwise(schedule.polls))
    last: dict[int, float] = {}
    for now, run in schedule.polls:
        assert now - last.get(run, -SHORTEST) >= SHORTEST - slack
        last[run] = now
    assert last.keys() == set(range(len(durations)))
    assert len(schedule) == 0


class Batch:
    """A schedule under any events, and what must be true of it."""

    def __init__(self) -> None:
        self.schedule = Noted(Rate(10, 1.0))
        self.alive: set[int] = set()
        self.out: list[int] = []
        self.now = 0.0

    def add(self, value: float) -> None:
        run = int(self.now * 1e6) * 1000 + len(self.alive)
        if run not in self.alive:
            self.alive.add(run)
            self.schedule.add(run, self.now, age=value, until=inf if value > 25 else self.now + value)

    def remove(self, _value: float) -> None:
        run = min(self.alive, default=-1)
        self.alive.discard(run)
        self.out = [other for other in self.out if other != run]
        self.schedule.remove(run)

    def hold(self, value: float) -> None:
        self.schedule.hold(self.now + value)

    def looked(self, _value: float) -> None:
        if self.out:
            self.schedule.looked(self.out.pop(0), self.now, self.now)

    def refused(self, _value: float) -> None:
        self.schedule.refused(self.now, self.now)

    def hurry(self, _value: float) -> None:
        self.schedule.hurry(self.now)

    def missed(self, value: float) -> None:
        if self.out:
            self.schedule.missed(self.out.pop(0), self.now, value)

    def ended(self, _value: float) -> None:
        if self.out:
            run = self.out.pop(0)
            self.alive.discard(run)
            self.schedule.ended(run, self.now, self.now)

    def choose(self) -> None:
        run = self.schedule.due(self.now)
        if run is not None:
            assert run in self.alive, "only runs that are watched are handed out"
            assert run not in self.out, "and none of them twice"
            self.out.append(run)

    def finish(self) -> None:
        """Wake as told until nothing is due, ending all that is handed out."""
        while (next_at := self.schedule.next_at()) < inf:
            self.now = max(self.now, next_at)
            self.choose()
            self.ended(0.0)


words = st.sampled_from(["add", "add", "remove", "hold", "looked", "missed", "refused", "hurry", "ended"])


@settings(deadline=None)
@given(st.lists(st.tuples(words, st.floats(0, 50), st.floats(0, 5))))
def test_any_order_of_events_is_borne(events: list[tuple[str, float, float]]) -> None:
    """Only runs that are watched and not out are handed out, and none is forgotten."""
    batch = Batch()
    for word, value, pause in events:
        batch.now += pause
        getattr(batch, word)(value)
        batch.choose()
        assert len(batch.schedule) == len(batch.alive)
    batch.finish()
    assert batch.alive == set(batch.out)


def looks_at(durations: list[float], in_flight: int = 25) -> dict[int, list[float]]:
    """When each run was looked at, without a bound on polls."""
    schedule, looks = Noted(Rate(1_000_000, 1.0)), dict[int, list[float]]()
    simulate(schedule, durations, in_flight)
    for now, run in schedule.polls:
        looks.setdefault(run, []).append(now)
    return looks


def gaps(times: list[float]) -> list[float]:
    return [after - before for before, after in pairwise(times)]


@pytest.mark.long
@settings(deadline=None, max_examples=25)
@given(st.floats(0.5, 2000), st.integers(0, 100))
def test_the_floor_follows_the_run_times(median: float, seed: int) -> None:
    """Once ends were seen, two looks at a run are a tenth of the usual run apart, and 50 ms to a second at the least.

    What is known of a run's time is the last look before its end, so the usual one may be taken for a little shorter.
    """
    looks = looks_at(log_normal(median, 200, seed))
    floor = min(max(SHORTEST, 0.1 * 0.6 * median), LONGEST)
    assert min(gap for run in range(100, 200) for gap in gaps(looks[run]) or [LONGEST]) >= floor - 1e-9


@pytest.mark.long
@settings(deadline=None, max_examples=25)
@given(st.floats(0.05, 2000), st.integers(0, 100))
def test_no_run_is_left_for_longer_than_the_rule_says(median: float, seed: int) -> None:
    """With polls enough no look comes later than the floor, or the share of the usual or the run's own age."""
    durations = log_normal(median, 200, seed)
    for times in looks_at(durations).values():
        for before, after in pairwise(times):
            assert after - before <= max(LONGEST, RARELY * SHARE * max(after - times[0], 1.5 * median)) + 1e-6


def test_a_run_followed_from_another_night_is_looked_at_first() -> None:
    """It may have ended hours ago, so it goes before those that were started just now."""
    schedule = Schedule(LIMITS)
    for run in range(10):
        schedule.add(run, 0.0)
    schedule.add(10, 0.0, age=3600.0)
    assert schedule.due(0.2) == 10


def test_a_pause_holds_all_polls() -> None:
    """What the service asks for holds for every run."""
    schedule = Schedule(LIMITS)
    schedule.add(1, 0.0)
    schedule.hold(30.0)
    assert schedule.next_at() == 30.0
    assert schedule.due(29.9) is None
    assert schedule.due(30.0) == 1


def calls_of_a_choice(in_flight: int) -> float:
    """How many function calls a choice, its outcome and the next wake-up take on average."""
    schedule, now, count = Schedule(LIMITS), 0.0, 0

    def called(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "call"

    for run in range(in_flight):
        schedule.add(run, -run * 100 / in_flight)
    sys.setprofile(called)
    try:
        for _ in range(400):
            run_due = schedule.due(now)
            if run_due is not None:
                schedule.looked(run_due, now, now)
            now = max(now, schedule.next_at())
    finally:
        sys.setprofile(None)
    return count / 400


def test_a_choice_costs_the_same_with_many_runs_in_flight() -> None:
    """10,000 in flight take no more steps a choice than 1,000, since a heap finds the one that is due."""
    assert calls_of_a_choice(10_000) <= 1.2 * calls_of_a_choice(1000)
