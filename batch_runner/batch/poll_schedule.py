"""Which run to look at next, and when; pure: no I/O, no clock, all times are passed in (seconds on one clock).

Every second between a run's end and our noticing it is a slot left unused, and every poll costs the service. So one
budget of polls, evenly spaced, is spent where a look gains most (`Durations.worth`), and never on a run that was looked
at a moment ago. There are no waves: a poll goes out each time the budget allows one, to the one run that needs it most.

A choice costs the same with 10 runs in flight as with 10,000: runs are kept by the age at which they were last seen
going, and within such a span the one that has waited longest gains most, so only the first of each span is weighed.
"""

from __future__ import annotations

from collections import OrderedDict
from heapq import heappop, heappush
from typing import TYPE_CHECKING

import msgspec

from batch_runner.batch.durations import EDGES, Durations, span_of
from batch_runner.batch.poll_budget import Budget

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_runner.units import Rate


FIRST_LOOK = 0.1
"""Seconds from a run's start to the first look at the earliest."""
BETWEEN = 1.0
"""Seconds between two looks at the same run at the least."""
LONG_AGO = 86400.0
"""A run of which nobody knows when it started has the age of one that may well have ended."""
PRICE = 0.0002
"""A look must be worth this share of the median run, budget or not: noticing an end 1 % late is soon enough."""
LONG = 4.0
"""A run that is so many times older than the median counts as one of a longer kind."""
PATIENCE = 0.1
"""Where it isn't, it is weighed again when the time since the last look has grown by this share."""


class _Watched(msgspec.Struct):
    """A run in flight: when it started, when it was last seen going, and when it may be looked at again."""

    started: float
    seen: float
    ready: float
    is_age_known: bool = True

    @property
    def span(self) -> int:
        return span_of(self.seen - self.started)


class Schedule:
    """Decides which run to look at next. Runs are ints that the caller chooses.

    A run is added, then handed out by `due` any number of times; each time the caller says what the look gave:
    `looked` (still going), `missed` (no answer) or `ended`. While it is handed out it is not due.
    """

    def __init__(self, budget: Rate) -> None:
        self._budget = Budget(budget)
        self._durations = Durations()
        self._runs: dict[int, _Watched] = {}
        self._waiting: list[OrderedDict[int, _Watched]] = [OrderedDict() for _ in EDGES]
        self._missed: list[tuple[float, int]] = []
        self._price = PRICE

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def shortfall(self) -> float:
        """The share of the runs' time that passed unnoticed because all polls were used; 0 where they were not."""
        return self._budget.shortfall

    def add(self, run: int, now: float, age: float | None = 0.0) -> None:
        """Watch a run that started `age` seconds ago; None: long ago, so it is looked at soon and counts from then."""
        started = now - (LONG_AGO if age is None else age)
        ready = started + FIRST_LOOK if age == 0 else now
        watched = _Watched(started, started, ready, age is not None)
        self._runs[run] = watched
        self._wait(run, watched)

    def remove(self, run: int) -> None:
        """Forget a run whose end is of no interest or was not seen. One that is not watched is no error."""
        watched = self._runs.pop(run, None)
        if watched is not None:
            self._waiting[watched.span].pop(run, None)

    def looked(self, run: int, now: float) -> None:
        """The run was looked at, and is still going."""
        watched = self._runs.get(run)
        if watched is None:
            return
        if watched.is_age_known:
            self._durations.going(watched.seen - watched.started, now - watched.started)
        else:
            watched.started, watched.is_age_known = now, True
        watched.seen = now
        watched.ready = now + BETWEEN
        self._wait(run, watched)

    def ended(self, run: int, now: float) -> None:
        """The run was looked at, and has ended."""
        watched = self._runs.get(run)
        if watched is not None and watched.is_age_known:
            self._durations.ended(watched.seen - watched.started, now - watched.started)
            self._budget.noticed(now - watched.started, min((now - watched.seen) / 2, now - watched.ready))
        self.remove(run)

    def missed(self, run: int, now: float, wait: float) -> None:
        """The look gave no answer; the run is due again after `wait` seconds, and the usual time between two looks."""
        watched = self._runs.get(run)
        if watched is not None:
            watched.ready = now + max(wait, BETWEEN)
            heappush(self._missed, (watched.ready, run))

    def hurry(self, now: float) -> None:
        """From now on every look is worth it: there is little time left to notice an end."""
        self._price = 0.0
        for watched in self._runs.values():
            watched.ready = min(watched.ready, now)

    def hold(self, until: float) -> None:
        """Let no poll go out before that time: the service said so."""
        self._budget.hold(until)

    def due(self, now: float) -> int | None:
        """The run to look at now, None if it isn't time. What is handed out counts against the budget."""
        if now < self._budget.opens_at:
            return None
        self._take_back(now)
        run = max(self._ready(now), default=(0.0, None))[1]
        if run is not None:
            del self._waiting[self._runs[run].span][run]
            self._budget.take(now)
        return run

    def next_at(self) -> float | None:
        """When to ask again; None: not before a run is added or comes back."""
        times = [watched.ready for _, watched in self._firsts()]
        if self._missed:
            times.append(self._missed[0][0])
        return max(min(times), self._budget.opens_at) if times else None

    def _wait(self, run: int, watched: _Watched) -> None:
        """Put a run in the line of its span; one that has waited longer than the line's first goes before it."""
        line = self._waiting[watched.span]
        first = next(iter(line.values()), None)
        line[run] = watched
        if first is not None and watched.seen < first.seen:
            line.move_to_end(run, last=False)

    def _take_back(self, now: float) -> None:
        while self._missed and self._missed[0][0] <= now:
            run = heappop(self._missed)[1]
            watched = self._runs.get(run)
            if watched is not None:
                self._wait(run, watched)

    def _firsts(self) -> Iterator[tuple[int, _Watched]]:
        return (next(iter(line.items())) for line in self._waiting if line)

    def _ready(self, now: float) -> Iterator[tuple[float, int]]:
        """The runs that may be looked at and are worth it, each with its worth."""
        for run, watched in self._firsts():
            if watched.ready > now:
                continue
            age = now - watched.started
            worth = self._durations.worth(watched.seen - watched.started, age)
            if worth >= self._price * max(self._durations.median, age / LONG):
                yield worth, run
            else:
                watched.ready = now + max(FIRST_LOOK, PATIENCE * (now - watched.seen))
