"""Concurrency and rate, shared by all workers and moved by what the service says.

Three things hold a start back: the rates (the person's own, and the quota that the service has told), a pause that the
service asked for, and a window of which the service said that nothing is left. A rate is kept in every window of its
length, wherever it begins: a start waits until the one `count` starts before it is a whole window ago.

Down to what is in flight beside the refused start, and by a factor when the service refuses again although that has
become less; up by one after a number of starts were accepted with all places taken. A probe that fails doubles the
number for the next, one that succeeds makes it 1, so that a service that carries more again is soon filled, and one
that doesn't is rarely asked.

A worker takes a slot for a row and holds it until the row's run has ended. In the slot it waits for its turn before
each start, and says what became of the start. All starts go through one line, in order of asking: whoever is first
waits for time (`Pace`), for a place (`AdaptiveLimit`), and until no more than a few starts are unanswered.
"""

from __future__ import annotations

import sys
from collections import OrderedDict, deque
from contextlib import suppress
from math import ceil, inf
from typing import TYPE_CHECKING

import anyio

from batch_runner.service.http.classify import TOO_MANY, is_for_concurrency
from batch_runner.service.protocol import NO_SIGNAL, Signal
from batch_runner.units import Rate

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self


JITTER = 1.01
"""A told window is taken this much longer: starts that leave just far enough apart may arrive a little closer."""


class Window:
    """At most so many starts in every window of that length."""

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self._sent: deque[float] = deque()

    def opens_at(self) -> float:
        """When the next start may go out."""
        return self._sent[0] + self.rate.per if len(self._sent) >= self.rate.count else 0.0

    def sent(self, now: float) -> None:
        """A start goes out."""
        while self._sent and (self._sent[0] + self.rate.per <= now or len(self._sent) >= self.rate.count):
            self._sent.popleft()
        self._sent.append(now)


class Pace:
    """All that holds starts back in time. `opens_at` is the contract; the rest is what has happened."""

    def __init__(self, rate: Rate | None) -> None:
        self._own = Window(rate) if rate else None
        self._told: Window | None = None
        self._paused_until = 0.0
        self._left: int | None = None
        self._left_until = 0.0

    def opens_at(self, now: float) -> float:
        """When the next start may go out; a time that is past: at once."""
        times = [window.opens_at() for window in (self._own, self._told) if window]
        if self._left is not None and self._left <= 0 and now < self._left_until:
            times.append(self._left_until)
        return max([self._paused_until, *times])

    def sent(self, now: float) -> None:
        """A start goes out."""
        for window in (self._own, self._told):
            if window:
                window.sent(now)
        if self._left is not None:
            self._left = self._left - 1 if now < self._left_until else None

    def pause(self, until: float) -> None:
        """No start before that time."""
        self._paused_until = max(self._paused_until, until)

    def told(self, signal: Signal, now: float, unanswered: int) -> None:
        """The service has told its limits. The starts still unanswered may not be in its numbers yet."""
        if signal.quota and signal.window:
            rate = Rate(signal.quota, signal.window * JITTER)
            if self._told is None or self._told.rate != rate:
                self._told = Window(rate)
        reset = signal.reset if signal.reset is not None else signal.window
        if signal.remaining is not None and reset is not None:
            self._left = signal.remaining - unanswered
            self._left_until = now + reset


DOWN = 0.9
"""A gentle step: where an end isn't noticed yet, a service with all slots taken refuses below its capacity, too."""
FIRST_PROBE = 32
"""Accepted starts until one more is tried."""
LAST_PROBE = 256
PAUSES_APART = 20
"""A failed probe that cost a pause isn't followed by another for so many times as long."""


class AdaptiveLimit:
    """The number of runs that may be in flight, `limit`, never above `most`."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.limit = most
        self.was_refused = False
        self._probe = FIRST_PROBE
        self._accepted = 0
        self._refused_at = 0
        self._others: int | None = None
        self._no_probe_until = -inf

    def lower(self, most: int) -> None:
        """No more than this from now on; what was learned below it stays."""
        self._most = most
        self.limit = min(self.limit, most)

    def accepted(self, in_flight: int, now: float) -> None:
        """A start was accepted and makes so many in flight."""
        self._others = None
        if in_flight < self.limit or self.limit == self._most:
            return
        if in_flight > self._refused_at:
            self._probe = 1
        self._accepted += 1
        if self._accepted >= self._probe and now >= self._no_probe_until:
            self._accepted = 0
            self.limit += 1

    def refused(self, in_flight: int, now: float, pause: float, *, is_news: bool) -> None:
        """The service refused a start with so many others in flight, and asked for a pause of so many seconds.

        It is no news if the start was out before an earlier refusal came: a burst is refused together.
        """
        sinks = is_news and self._others is not None and in_flight < self._others
        level = max(1, ceil(DOWN * in_flight) if sinks else in_flight)
        if is_news:
            fails_again = level == self._refused_at
            self._probe = min(LAST_PROBE, max(FIRST_PROBE, 2 * self._probe)) if fails_again else FIRST_PROBE
        self.was_refused = True
        self._others = in_flight
        self._accepted = 0
        self._no_probe_until = now + PAUSES_APART * pause
        self.limit = self._refused_at = min(self.limit, level)


AHEAD = 0.25
"""How many more unanswered starts an accepted one allows: of a service with 8 slots 3 starts too many are asked."""
FIRST_PROBE_PAUSE, LONGEST_PROBE_PAUSE = 1.0, 60.0
"""Seconds between two starts while the answers are lost: doubled each time. The first probe goes out at once."""
PRESUMED = 2.0
"""Seconds after which a start that is not answered is taken for accepted: refusals come fast, a sync start late."""


class Limits:
    """What all workers of a batch share: at most `concurrency` slots, starts at `rate` or slower.

    With a `pace` the starts of the batches before it on the same clock count, too.
    """

    def __init__(self, concurrency: int, rate: Rate | None = None, pace: Pace | None = None) -> None:
        self._slots = anyio.CapacityLimiter(concurrency)
        self._line = anyio.Lock()
        self._moved = anyio.Event()
        self._pace = pace or Pace(rate)
        self._capacity = AdaptiveLimit(concurrency)
        self.concurrency = concurrency
        """How many runs a person lets be in flight."""
        self._in_flight = 0
        self._unanswered: OrderedDict[Slot, float] = OrderedDict()
        self._ahead = 1.0
        self._lowered_at = -inf
        self._outage: Outage | None = None
        self.turns = 0
        """Starts that went out."""
        self.too_soon = 0
        """Starts that were refused with 429 for coming too soon after others."""

    @property
    def settled(self) -> int | None:
        """The concurrency that the service was found to carry; None if it never refused for it."""
        return self._capacity.limit if self._capacity.was_refused else None

    def slot(self) -> Slot:
        """A slot to be taken before a start, and released when its run has ended; a block of it does both.

        One that isn't taken is beside the others, for a run that no longer counts.
        """
        return Slot(self)

    def adjust(self, concurrency: int) -> None:
        """Another number of runs in flight at most, from now on; with fewer, those that are in flight end first.

        More is a person's word that the service carries more: what refusals have taught is forgotten.
        """
        if concurrency > self.concurrency:
            self._capacity = AdaptiveLimit(concurrency)
            self._ahead = 1.0
        else:
            self._capacity.lower(concurrency)
        self.concurrency = concurrency
        self._slots.total_tokens = concurrency
        self._moved.set()

    def _turn_at_once(self, slot: Slot) -> bool:
        self._leave(slot)
        now = anyio.current_time()
        if self._line.locked() or self._opens_at(now) > now:
            return False
        self._send(slot, now)
        return True

    async def _turn(self, slot: Slot) -> None:
        self._leave(slot)
        async with self._line:
            while (opens_at := self._opens_at(now := anyio.current_time())) > now:
                self._moved = anyio.Event()
                with anyio.move_on_after(opens_at - now):
                    await self._moved.wait()
            self._send(slot, now)

    def _send(self, slot: Slot, now: float) -> None:
        self._enter(slot, now)
        if self._outage:
            self._outage.probe = slot
        self._unanswered[slot] = now
        self._pace.sent(now)
        self.turns += 1

    def _opens_at(self, now: float) -> float:
        if self._in_flight >= self._capacity.limit or (self._outage and self._outage.probe):
            return inf
        # A start whose answer takes longer has most likely been taken, so it holds up no other one.
        while self._unanswered and next(iter(self._unanswered.values())) + PRESUMED <= now:
            self._unanswered.popitem(last=False)
            self._more_ahead()
        if len(self._unanswered) >= self._ahead:
            return next(iter(self._unanswered.values())) + PRESUMED
        return self._pace.opens_at(now)

    def _more_ahead(self) -> None:
        self._ahead = min(self._ahead + AHEAD, self.concurrency)

    def _enter(self, slot: Slot, now: float) -> None:
        slot.entered_at = now
        self._in_flight += 1
        slot.begins()

    def _leave(self, slot: Slot) -> None:
        """The slot has no run in flight, or no more."""
        if slot.entered_at is not None:
            slot.entered_at = None
            self._in_flight -= 1
            self._unanswered.pop(slot, None)
            if self._outage and self._outage.probe is slot:
                self._outage.probe = None
            self._moved.set()

    def _answered(self) -> None:
        """The service answers: starts may go out side by side."""
        if self._outage:
            self._outage = None
            self._moved.set()

    def _lost(self, slot: Slot) -> None:
        """The answer to a start was lost: from now on one goes out at a time, until one is answered.

        Those that were out before are lost together, so they count once.
        """
        now = anyio.current_time()
        if self._outage is None:
            self._outage = Outage()
            self._ahead = 1.0
        elif self._outage.probe is slot:
            pause = min(LONGEST_PROBE_PAUSE, FIRST_PROBE_PAUSE * 2**self._outage.lost_probes)
            self._outage.lost_probes = min(self._outage.lost_probes + 1, 10)
            self._outage.probe = None
            self._pace.pause(now + pause)
        self._moved.set()

    def _accepted(self, slot: Slot, signal: Signal) -> None:
        now = anyio.current_time()
        self._answered()
        if self._unanswered.pop(slot, None) is not None:
            self._more_ahead()
        self._pace.told(signal, now, len(self._unanswered))
        self._capacity.accepted(self._in_flight - len(self._unanswered), now)
        self._moved.set()

    def _refused(self, slot: Slot, status_code: int | None, why: str, signal: Signal) -> bool:
        now, entered_at, pause = anyio.current_time(), slot.entered_at, signal.retry_after or 0.0
        self._leave(slot)
        if status_code is not None:
            self._answered()
        self._ahead = 1.0
        too_many = status_code == TOO_MANY and is_for_concurrency(why, signal)
        # With no run of ours in flight it says nothing about how many we may have.
        is_full = too_many and self._in_flight > 0
        if is_full:
            is_news = entered_at is None or entered_at > self._lowered_at
            self._lowered_at = now
            self._capacity.refused(self._in_flight, now, pause, is_news=is_news)
        else:
            self.too_soon += status_code == TOO_MANY and not too_many
            self._pace.told(signal, now, len(self._unanswered))
        self._pace.pause(now + pause)
        return is_full


class Outage:
    """The answer to a start was lost, and none has come since. `probe` is the one start that is out, to learn more."""

    def __init__(self) -> None:
        self.probe: Slot | None = None
        self.lost_probes = 0


class Slot:
    """One place for a run in flight. Each start is preceded by `turn` and followed by what became of it.

    A start whose answer was `lost` may be in flight, and counts so until the slot is left or asks for another turn.
    """

    __slots__ = ("_limits", "entered_at", "is_taken", "on_begin", "on_release")  # each run in flight has one

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.entered_at: float | None = None
        self.is_taken = False
        self.on_begin: Callable[[], None] | None = None
        """Called once, when its row goes on to a start or to a run."""
        self.on_release: Callable[[], None] | None = None

    async def take(self) -> None:
        """Wait for a free place."""
        try:
            self._limits._slots.acquire_on_behalf_of_nowait(self)
        except anyio.WouldBlock:
            await self._limits._slots.acquire_on_behalf_of(self)
        self.is_taken = True

    async def __aenter__(self) -> Self:
        await self.take()
        return self

    async def __aexit__(self, *error: object) -> None:
        self.release()

    def begins(self) -> None:
        """Its row goes on to a start or to a run."""
        if self.on_begin is not None:
            on_begin, self.on_begin = self.on_begin, None
            on_begin()

    def release(self) -> None:
        """The run has ended, and no other start comes: another row may have the slot. Once is enough."""
        self._limits._leave(self)
        if self.is_taken:
            self.is_taken = False
            self._limits._slots.release_on_behalf_of(self)
        if self.on_release is not None:
            on_release, self.on_release = self.on_release, None
            on_release()

    def turn_at_once(self) -> bool:
        """Whether the next start may go out now, which must then follow at once. False: wait for the `turn`."""
        return self._limits._turn_at_once(self)

    async def turn(self) -> None:
        """Wait until the next start may go out, which must then follow at once."""
        await self._limits._turn(self)

    def follows(self) -> None:
        """The slot holds a run that was started in another batch."""
        self._limits._enter(self, anyio.current_time())

    def accepted(self, signal: Signal = NO_SIGNAL) -> None:
        """The start made a run."""
        self._limits._accepted(self, signal)

    def answered(self) -> None:
        """The start was refused for good: that says nothing of the pace, but the service is there."""
        self._limits._answered()

    def lost(self) -> None:
        """Nobody knows what came of the start."""
        self._limits._lost(self)

    def refused(self, status_code: int | None, why: str = "", signal: Signal = NO_SIGNAL) -> bool:
        """The start made no run: the service said no with this status and these words, or (None) wasn't reached.

        True if the service has no place for it until another of our runs ends.
        """
        return self._limits._refused(self, status_code, why, signal)


RESERVED = 64
"""Open files that are for all else: sheets, journal, log, standard streams, libraries."""
MOST_FILES = 65_536
"""Open files that are asked for where the system names no end."""


def open_files() -> int | None:
    """The process's limit of open files (RLIMIT_NOFILE), raised as far as the system lets it. None: no limit known."""
    if sys.platform == "win32":
        return None
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else hard
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):  # what the system says is endless may have an end all the same
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return None if soft == resource.RLIM_INFINITY else soft


SHEET_FILES = 8
"""Files that an open sheet needs at most: its copy, its journal with lock, log and reserve, its output."""
MOST_SHEETS = 32


def sheets_at_once(files: int | None) -> int:
    """So many sheets are open at once at most, where a process may have so many open files."""
    return MOST_SHEETS if files is None else max(2, min(MOST_SHEETS, files // (4 * SHEET_FILES)))


def limit_by_files(concurrency: int, files: int | None) -> tuple[int, str | None]:
    """The concurrency that so many open files allow, and a warning where it is less than asked for."""
    allowed = concurrency if files is None else max(1, min(concurrency, files - RESERVED))
    if allowed == concurrency:
        return concurrency, None
    return allowed, (
        f"this process may open {files} files, so {allowed} runs are in flight at most instead of {concurrency}; "
        f"raise the limit (ulimit -n {concurrency + RESERVED}) for more"
    )
