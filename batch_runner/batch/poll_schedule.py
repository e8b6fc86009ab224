"""Which run to look at next, and when; pure: no I/O, no clock, all times are passed in (seconds on one clock).

The rule: look at a run again after a small share of its age, or of the usual run's age where that is longer. So an end
is noticed late by half that share of the run's time, with a few dozen polls a run, however long runs take.

All runs share one rate of polls. Where it doesn't suffice, the look that was wanted first goes first.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from math import inf
from typing import TYPE_CHECKING, Self

import msgspec

if TYPE_CHECKING:
    from batch_runner.batch.limits import Limits
    from batch_runner.units import Rate

SHARE = 0.025
"""A run is looked at again after this share of its age, or of the usual run's."""
YOUNG, RARELY = 0.5, 3.0
"""A run younger than this share of the usual age hardly ends: it is looked at after so many times as long."""
FLOOR = 0.1
SHORTEST, LONGEST = 0.05, 1.0
"""Two looks at one run are at least this share of the usual run's age apart, within these bounds in seconds.

A tenth costs a batch of short runs a twentieth of its time. A fifth would cost a tenth.
"""
ENDS = 50
"""The usual age is the median of so many last runs."""
LATE = 0.1
"""A look that waits for longer than this share of the time since the last one is late."""

CATCH_UP = 0.02
"""Seconds of our own tardiness (a timer, a busy event loop) that the next polls make up for."""
FALL = 0.7
"""What a refusal, or answers that have become slow, leave of the rate."""
RISE, RISE_AFTER_SLOW, RISE_AFTER_REFUSAL = 2.0, 0.2, 0.03
"""By which share of itself a second of good answers raises the rate: at first, and once it has fallen for a reason."""
LEAST_RISE = 0.5
"""Polls a second that a second of good answers adds at the least."""
GOOD, SLOW = (1.25, 0.05), (2.0, 0.25)
"""Answers are good, or slow, up to or from so many times the usual time and so many seconds more."""
SMOOTHING = 0.125
"""The weight of the last answer in the mean time that answers take (as in RFC 6298, section 2.3)."""
FEW = 64
"""Runs that have ended and are remembered all the same, beside as many as there are."""
FORGET = 60.0
"""Seconds in which the usual time of answers doubles if none is as quick."""


class PollLimits(msgspec.Struct, frozen=True):
    """Polls a second: the fewest that refusals lead to, those to begin with, the most."""

    least: float
    first: float
    most: float

    @classmethod
    def fixed(cls, rate: Rate) -> Self:
        """The rate that a person chose, whatever the service does."""
        number = 1 / rate.gap
        return cls(number, number, number)


AUTO = PollLimits(1.0, 20.0, 200.0)
"""For a service that others use, too."""
AUTO_NEAR = PollLimits(1.0, 20.0, inf)
"""For a service on this machine."""
IN_PROCESS = PollLimits(1.0, 2000.0, inf)
"""For the embedded service: its polls cost a moment of this process, and nobody else anything."""


class PollRate:
    """How many polls may go out, evenly spaced.

    It rises while polls wait for it and answers come well: tenfold in a second or two at first, and slowly once it has
    fallen. It falls with a refusal, or when answers take twice as long as usual.
    """

    def __init__(self, limits: PollLimits) -> None:
        self._limits = limits
        self.rate = limits.first
        self.opens_at = 0.0
        self.was_refused = False
        self._rise = RISE
        self._changed_at = -inf
        self._usual = inf
        self._mean: float | None = None
        self._answered_at = 0.0

    @property
    def is_at_most(self) -> bool:
        """Whether only a person could let more polls go out."""
        return self.rate >= self._limits.most and not self.was_refused

    def take(self, wanted_at: float, now: float) -> float:
        """A poll goes out that was wanted at that time; how many seconds it had to wait for the rate.

        If this process is what can't keep up, the poll waited for that: then a higher rate would change nothing.
        """
        waited = self.opens_at - wanted_at
        if waited < 0 or now - self.opens_at > CATCH_UP:
            self.opens_at, waited = now, 0.0
        self.opens_at += 1 / self.rate
        return waited

    def answered(self, asked_at: float, now: float, *, was_late: bool) -> None:
        """A poll brought an answer; `was_late` says that it should have gone out sooner."""
        took = now - asked_at
        self._mean = took if self._mean is None else self._mean + SMOOTHING * (took - self._mean)
        # The best mean so far; a service that has become slow for good is forgiven in a minute or two.
        self._usual = min(self._usual * (1 + (now - self._answered_at) / FORGET), self._mean)
        self._answered_at = now
        if self._mean > SLOW[0] * self._usual + SLOW[1]:
            self._fall(asked_at, now, RISE_AFTER_SLOW)
        elif was_late and asked_at > self._changed_at and self._mean <= GOOD[0] * self._usual + GOOD[1]:
            self.rate = min(self.rate + max(self._rise, LEAST_RISE / self.rate), self._limits.most)

    def refused(self, asked_at: float, now: float) -> None:
        """The service said that polls come too fast. A burst of refusals counts once."""
        self.was_refused = True
        self._fall(asked_at, now, RISE_AFTER_REFUSAL)

    def hold(self, until: float) -> None:
        """Let no poll go out before that time."""
        self.opens_at = max(self.opens_at, until)

    def _fall(self, asked_at: float, now: float, rise: float) -> None:
        if asked_at > self._changed_at:
            self._changed_at = now
            self._rise = min(self._rise, rise)
            self.rate = max(FALL * self.rate, self._limits.least)


class _Watched(msgspec.Struct):
    """A run in flight: when it started, was last seen going, and is to be looked at next (inf: it is being looked at).

    `is_fresh`: it has been watched from its start. `waited`: how long the look that is out had to wait for the rate.
    At `until` it is due, whatever the rate.
    """

    started: float
    seen: float
    wanted: float
    is_fresh: bool
    until: float
    waited: float = 0.0


class Schedule:
    """Decides which run to look at next. Runs are ints that the caller chooses.

    A run is added, then handed out by `due` any number of times; each time the caller says what the look gave:
    `looked` (still going), `missed` (no answer) or `ended`. While it is handed out it is not due.
    """

    def __init__(self, limits: PollLimits) -> None:
        self._rate = PollRate(limits)
        self._runs: dict[int, _Watched] = {}
        self._queue: list[tuple[float, int]] = []
        self._lasts: list[tuple[float, int]] = []
        self._ages: deque[float] = deque(maxlen=ENDS)
        self._usual = 0.0
        self._floor = SHORTEST
        self._share = SHARE
        self._lasted = 0.0
        self._unnoticed = 0.0

    def __len__(self) -> int:
        return len(self._runs)

    @property
    def shortfall(self) -> float:
        """The share of the runs' time that passed unnoticed because more polls than the most were wanted."""
        return self._unnoticed / self._lasted if self._lasted else 0.0

    def add(self, run: int, now: float, age: float | None = 0.0, until: float = inf) -> None:
        """Watch a run that started `age` seconds ago; None: long ago, so it is looked at soon and counts from then.

        At `until` it is due, whatever the rate: nobody is asked for it then.
        """
        self._runs[run] = watched = _Watched(now - (age or 0.0), now, inf, age == 0, until)
        if until < inf:
            heappush(self._lasts, (until, run))
        if len(self._lasts) > 2 * len(self._runs) + FEW:  # most have ended long before
            self._lasts = sorted((other.until, number) for number, other in self._runs.items() if other.until < inf)
        self._want(run, watched, now + self._interval(0.0) if watched.is_fresh else now)

    def remove(self, run: int) -> None:
        """Forget a run whose end is of no interest or was not seen. One that is not watched is no error."""
        self._runs.pop(run, None)

    def looked(self, run: int, asked_at: float, now: float) -> None:
        """The run was looked at, and is still going."""
        watched = self._runs.get(run)
        if watched is None:
            return
        self._answered(watched, asked_at, now)
        watched.seen = asked_at
        age = asked_at - watched.started
        if not self._ages:
            # None has ended yet: for all that is known, the oldest has half of its time before it.
            self._learn(max(self._usual, 2 * age))
        self._want(run, watched, asked_at + self._interval(age))

    def ended(self, run: int, asked_at: float, now: float) -> None:
        """The run was looked at, and has ended."""
        watched = self._runs.pop(run, None)
        if watched is None:
            return
        self._answered(watched, asked_at, now)
        if watched.is_fresh:
            self._lasted += asked_at - watched.started
            if self._rate.is_at_most:
                self._unnoticed += min((asked_at - watched.seen) / 2, watched.waited)
            # The age that it surely reached: looks that come late must not make runs seem longer, and so come later.
            self._ages.append(watched.seen - watched.started)
            self._learn(sorted(self._ages)[len(self._ages) // 2])

    def missed(self, run: int, now: float, wait: float) -> None:
        """The look gave no answer; the run is due again after `wait` seconds, and not before a second has passed."""
        watched = self._runs.get(run)
        if watched is not None:
            self._want(run, watched, now + max(wait, LONGEST))

    def refused(self, asked_at: float, now: float) -> None:
        """The service wants fewer looks."""
        self._rate.refused(asked_at, now)

    def hold(self, until: float) -> None:
        """Let no poll go out before that time: the service said so."""
        self._rate.hold(until)

    def hurry(self, now: float) -> None:
        """From now on look as often as may be: there is little time left to notice an end."""
        self._share = 0.0
        for run, watched in self._runs.items():
            if now < watched.wanted < inf:
                self._want(run, watched, now)

    def due(self, now: float) -> int | None:
        """The run to look at now, None if it isn't time. What is handed out counts against the rate."""
        while self._last_at() <= now:
            watched = self._runs[run := heappop(self._lasts)[1]]
            if watched.wanted < inf:
                watched.wanted = inf
                return run
        if now < self.next_at():
            return None
        wanted, run = heappop(self._queue)
        watched = self._runs[run]
        watched.wanted = inf
        watched.waited = self._rate.take(wanted, now)
        return run

    def next_at(self) -> float:
        """When to ask again; inf: not before a run is added or comes back."""
        while self._queue:
            wanted, run = self._queue[0]
            watched = self._runs.get(run)
            if watched is not None and watched.wanted == wanted:
                return min(max(wanted, self._rate.opens_at), self._last_at())
            heappop(self._queue)
        return self._last_at()

    def _last_at(self) -> float:
        """When the first run is due for the last time."""
        while self._lasts:
            until, run = self._lasts[0]
            if run in self._runs:
                return until
            heappop(self._lasts)
        return inf

    def _want(self, run: int, watched: _Watched, at: float) -> None:
        watched.wanted = min(at, watched.until)
        heappush(self._queue if at < watched.until else self._lasts, (watched.wanted, run))

    def _interval(self, age: float) -> float:
        # Before the first end nobody knows what is young: a burst of equal starts ends in one moment.
        share = RARELY * self._share if self._ages and age < YOUNG * self._usual else self._share
        return max(self._floor, share * max(age, self._usual))

    def _learn(self, usual: float) -> None:
        self._usual = usual
        self._floor = min(max(SHORTEST, FLOOR * usual), LONGEST)

    def _answered(self, watched: _Watched, asked_at: float, now: float) -> None:
        interval = asked_at - watched.waited - watched.seen
        self._rate.answered(asked_at, now, was_late=watched.waited > LATE * interval)


MANY_REFUSED = 10
SHARE_REFUSED = 0.05
"""So many starts refused for coming too soon, and such a share of all, are worth a word."""
SHARE_UNNOTICED = 0.2
"""A batch that waited for polls for this share of its runs' time could have been that much faster."""


def advise(limits: Limits, schedule: Schedule) -> tuple[str, ...]:
    """A sentence for each option that could be set better."""
    found: list[str] = []
    if limits.settled is not None:
        found.append(
            f"the service took no more than {limits.settled} runs at once; --concurrency {limits.settled} says so"
        )
    if limits.too_soon >= max(MANY_REFUSED, SHARE_REFUSED * limits.turns):
        found.append(
            f"the service refused {limits.too_soon} of {limits.turns} starts because they came too fast (429); "
            "a --rate of what it allows avoids that"
        )
    if schedule.shortfall >= SHARE_UNNOTICED:
        found.append(
            f"all polls were used, so ended runs were noticed late ({schedule.shortfall:.0%} of the runs' time); "
            "where the service allows more, a higher --poll-rate makes this batch faster"
        )
    return tuple(found)
