"""How many runs the service carries at once, found out by what it accepts and refuses; pure.

Down to what is in flight beside the refused start, and by a factor when the service refuses again although that has
become less; up by one after a number of starts were accepted with all places taken. A probe that fails doubles the
number for the next, one that succeeds makes it 1, so that a service that carries more again is soon filled, and one
that doesn't is rarely asked.
"""

from __future__ import annotations

import re
from math import ceil, inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batch_runner.client.signals import Signal

DOWN = 0.9
"""A gentle step: where an end isn't noticed yet, a service with all slots taken refuses below its capacity, too."""
FIRST_PROBE = 32
"""Accepted starts until one more is tried."""
LAST_PROBE = 256
PAUSES_APART = 20
"""A failed probe that cost a pause isn't followed by another for so many times as long."""

_CONCURRENCY = re.compile(
    r"concurren|in flight|in-flight|simultan|parallel|already running|too many (active|running|open)"
)
_RATE = re.compile(r"per (second|minute|hour|day)|\brate\b|too many requests|quota")


class Capacity:
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


def is_for_concurrency(why: str, signal: Signal) -> bool:
    """Whether a 429 is for too many runs in flight rather than for too many starts in a time.

    By its words if they tell, else by its numbers: a quota of which nothing is left, or that comes without a number
    left, is about time.
    """
    words = why.lower()
    if _CONCURRENCY.search(words):
        return True
    if signal.remaining is not None:
        return signal.remaining > 0
    return signal.quota is None and signal.window is None and not _RATE.search(words)
