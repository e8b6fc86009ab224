"""A batch in virtual time: so many runs in flight, a policy that says whom to poll, and what came of it."""

from __future__ import annotations

import heapq
import random
from math import exp, inf, log
from typing import TYPE_CHECKING, Protocol

import anyio
import msgspec

from batch_runner.batch.poll_schedule import PollLimits, Schedule
from batch_runner.batch.poller import Following
from batch_runner.units import Rate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batch_runner.batch.poller import Followed, Poller
    from batch_runner.service.protocol import Run

BUDGET = Rate(20, 1.0)
RAMP = 0.01
"""Seconds between two of the first starts, unless told otherwise."""


class Policy(Protocol):
    def add(self, run: int, now: float) -> None: ...
    def looked(self, run: int, asked_at: float, now: float) -> None: ...
    def ended(self, run: int, asked_at: float, now: float) -> None: ...
    def due(self, now: float) -> int | None: ...
    def next_at(self) -> float: ...


class Result(msgspec.Struct, frozen=True):
    """Means over all runs of a batch: seconds from end to notice, polls; and seconds until all was done."""

    delay: float
    polls: float
    took: float


class Noted(Schedule):
    """A schedule that keeps what it handed out, and holds to the contract while it does."""

    def __init__(self, budget: Rate = BUDGET) -> None:
        super().__init__(PollLimits.fixed(budget))
        self.polls: list[tuple[float, int]] = []

    def due(self, now: float) -> int | None:
        run = super().due(now)
        if run is not None:
            self.polls.append((now, run))
        else:
            assert self.next_at() > now, "whoever waits until next_at must not spin"
        return run


class Intervals:
    """Looks at each run after intervals that depend on its number of looks only, within the same budget."""

    def __init__(self, interval: Callable[[int], float], budget: Rate = BUDGET) -> None:
        self._interval = interval
        self._gap = budget.gap
        self._next_poll = 0.0
        self._due: list[tuple[float, int]] = []
        self._looks: dict[int, int] = {}

    def add(self, run: int, now: float) -> None:
        self._looks[run] = 0
        heapq.heappush(self._due, (now + self._interval(0), run))

    def looked(self, run: int, asked_at: float, now: float) -> None:  # noqa: ARG002  it learns nothing of answers
        self._looks[run] += 1
        heapq.heappush(self._due, (now + self._interval(self._looks[run]), run))

    def ended(self, run: int, asked_at: float, now: float) -> None:  # noqa: ARG002  nor of ends
        del self._looks[run]

    def due(self, now: float) -> int | None:
        if now < self._next_poll or not self._due or self._due[0][0] > now:
            return None
        self._next_poll = now + self._gap
        return heapq.heappop(self._due)[1]

    def next_at(self) -> float:
        return max(self._next_poll, self._due[0][0]) if self._due else inf


def simulate(policy: Policy, durations: Sequence[float], in_flight: int, ramp: float = RAMP) -> Result:
    """Run a batch: a slot is free again when the end of its run was noticed; polls answer at once."""
    ends: dict[int, float] = {}
    starts = [(place * ramp, place) for place in range(min(in_flight, len(durations)))][::-1]
    begun, polls, delay, now = len(starts), 0, 0.0, 0.0
    while starts or ends:
        wake = policy.next_at()
        if starts and starts[-1][0] <= wake:
            now, run = starts.pop()
            policy.add(run, now)
            ends[run] = now + durations[run]
            continue
        assert wake < inf, "no run is forgotten"
        now = max(now, wake)
        due = policy.due(now)
        if due is None:
            continue
        polls += 1
        if now < ends[due]:
            policy.looked(due, now, now)
            continue
        delay += now - ends.pop(due)
        policy.ended(due, now, now)
        if begun < len(durations):
            starts.append((now, begun))
            begun += 1
    return Result(delay / len(durations), polls / len(durations), now)


def log_normal(median: float, count: int, seed: int = 1, sigma: float = 0.5) -> list[float]:
    chance = random.Random(seed)
    return [exp(chance.gauss(log(median), sigma)) for _ in range(count)]


def fixed_with(polls: float, durations: Sequence[float], in_flight: int) -> Result:
    """A fixed interval that comes to that many polls a run, found by halving; within the same budget."""
    mean = sum(durations) / len(durations)
    low, high = mean / (40 * polls), 4 * mean + max(durations) / polls
    for _ in range(16):
        middle = (low * high) ** 0.5
        result = simulate(Intervals(always(middle)), durations, in_flight)
        low, high = (middle, high) if result.polls > polls else (low, middle)
    return simulate(Intervals(always(high)), durations, in_flight)


def always(seconds: float) -> Callable[[int], float]:
    """The same interval after any number of looks."""
    return lambda _: seconds


def growing(looks: int) -> float:
    """1 s, then 1.5 times as long each time, up to 30 s."""
    return min(30.0, 1.5 ** min(looks, 20))


async def follow_to_its_end(
    poller: Poller, run: Run, on_status: Callable[[str], None], age: float | None = 0.0, within: float = inf
) -> Followed:
    """Look at the run whenever it is its turn, until there is no more to be learned."""
    give, turns = anyio.create_memory_object_stream[Following](1)
    with give, turns:
        poller.follow(run, on_status, give.send_nowait, age, within)
        while True:
            found = await poller.look(await turns.receive())
            if found is not None:
                return found
