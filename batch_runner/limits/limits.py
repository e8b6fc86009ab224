"""Concurrency and rate, shared by all workers and moved by what the service says; the clock is anyio's.

A worker takes a slot for a row and holds it until the row's run has ended. In the slot it waits for its turn before
each start, and says what became of the start. All starts go through one line, in order of asking: whoever is first
waits for time (`Pace`), for a place (`Capacity`), and until no more than a few starts are unanswered.
"""

from __future__ import annotations

from collections import OrderedDict
from contextlib import asynccontextmanager
from math import inf
from typing import TYPE_CHECKING

import anyio

from batch_runner.client.signals import NO_SIGNAL, Signal
from batch_runner.limits.capacity import Capacity, is_for_concurrency
from batch_runner.limits.pace import Pace

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from batch_runner.units import Rate

AHEAD = 0.25
"""How many more unanswered starts an accepted one allows: of a service with 8 slots 3 starts too many are asked."""
PRESUMED = 2.0
"""Seconds after which a start that is not answered is taken for accepted: refusals come fast, a sync start late."""


class Limits:
    """What all workers of a batch share: at most `concurrency` slots, starts at `rate` or slower.

    With a `pace` the starts of the batches before it on the same clock count, too.
    """

    def __init__(self, concurrency: int, rate: Rate | None = None, pace: Pace | None = None) -> None:
        self._slots = anyio.Semaphore(concurrency)
        self._line = anyio.Lock()
        self._moved = anyio.Event()
        self._pace = pace or Pace(rate)
        self._capacity = Capacity(concurrency)
        self._most = concurrency
        self._in_flight = 0
        self._unanswered: OrderedDict[Slot, float] = OrderedDict()
        self._ahead = 1.0
        self._lowered_at = -inf
        self.turns = 0
        """Starts that went out."""
        self.too_soon = 0
        """Starts that were refused with 429 for coming too soon after others."""

    @property
    def settled(self) -> int | None:
        """The concurrency that the service was found to carry; None if it never refused for it."""
        return self._capacity.limit if self._capacity.was_refused else None

    @asynccontextmanager
    async def slot(self) -> AsyncIterator[Slot]:
        """A slot, held from before a start until its run has ended."""
        async with self._slots:
            slot = Slot(self)
            try:
                yield slot
            finally:
                self._leave(slot)

    async def _turn(self, slot: Slot) -> None:
        self._leave(slot)
        async with self._line:
            while (opens_at := self._opens_at(now := anyio.current_time())) > now:
                self._moved = anyio.Event()
                with anyio.move_on_after(opens_at - now):
                    await self._moved.wait()
            self._enter(slot, now)
            self._unanswered[slot] = now
            self._pace.sent(now)
            self.turns += 1

    def _opens_at(self, now: float) -> float:
        if self._in_flight >= self._capacity.limit:
            return inf
        self._presume(now)
        if len(self._unanswered) >= self._ahead:
            return next(iter(self._unanswered.values())) + PRESUMED
        return self._pace.opens_at(now)

    def _presume(self, now: float) -> None:
        while self._unanswered and next(iter(self._unanswered.values())) + PRESUMED <= now:
            self._unanswered.popitem(last=False)
            self._more_ahead()

    def _more_ahead(self) -> None:
        self._ahead = min(self._ahead + AHEAD, self._most)

    def _enter(self, slot: Slot, now: float) -> None:
        slot.entered_at = now
        self._in_flight += 1

    def _leave(self, slot: Slot) -> None:
        """The slot has no run in flight, or no more."""
        if slot.entered_at is not None:
            slot.entered_at = None
            self._in_flight -= 1
            self._unanswered.pop(slot, None)
            self._moved.set()

    def _accepted(self, slot: Slot, signal: Signal) -> None:
        now = anyio.current_time()
        if self._unanswered.pop(slot, None) is not None:
            self._more_ahead()
        self._pace.told(signal, now, len(self._unanswered))
        self._capacity.accepted(self._in_flight - len(self._unanswered), now)
        self._moved.set()

    def _refused(self, slot: Slot, status_code: int | None, why: str, signal: Signal) -> bool:
        now, entered_at, pause = anyio.current_time(), slot.entered_at, signal.retry_after or 0.0
        self._leave(slot)
        self._ahead = 1
        too_many = status_code == 429 and is_for_concurrency(why, signal)
        # With no run of ours in flight it says nothing about how many we may have.
        is_full = too_many and self._in_flight > 0
        if is_full:
            is_news = entered_at is None or entered_at > self._lowered_at
            self._lowered_at = now
            self._capacity.refused(self._in_flight, now, pause, is_news=is_news)
        else:
            self.too_soon += status_code == 429 and not too_many
            self._pace.told(signal, now, len(self._unanswered))
        self._pace.pause(now + pause)
        return is_full


class Slot:
    """One place for a run in flight. Each start is preceded by `turn` and followed by `accepted` or `refused`.

    A start whose answer was lost is neither: it may be in flight, and counts so until the slot is left or asks for
    another turn.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.entered_at: float | None = None

    async def turn(self) -> None:
        """Wait until the next start may go out, which must then follow at once."""
        await self._limits._turn(self)

    def follows(self) -> None:
        """The slot holds a run that was started in another batch."""
        self._limits._enter(self, anyio.current_time())

    def accepted(self, signal: Signal = NO_SIGNAL) -> None:
        """The start made a run."""
        self._limits._accepted(self, signal)

    def refused(self, status_code: int | None, why: str = "", signal: Signal = NO_SIGNAL) -> bool:
        """The start made no run: the service said no with this status and these words, or (None) wasn't reached.

        True if the service has no place for it until another of our runs ends.
        """
        return self._limits._refused(self, status_code, why, signal)
