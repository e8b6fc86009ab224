"""When the next start may go out; pure: times are passed in (seconds on one clock).

Three things hold a start back: the rates (the person's own, and the quota that the service has told), a pause that the
service asked for, and a window of which the service said that nothing is left. A rate is kept in every window of its
length, wherever it begins: a start waits until the one `count` starts before it is a whole window ago.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from batch_runner.units import Rate

if TYPE_CHECKING:
    from batch_runner.client.signals import Signal

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
