"""How long to wait before another try, and when to give up. Pure: times are passed in.

Exponential backoff with full jitter: each wait is drawn evenly between nothing and a bound that doubles up to a ceiling
(Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). What the service says with `Retry-After`
is a floor: it is waited for in full, and the drawn wait comes on top, so that all do not return in the same instant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from batch_runner.service.protocol import Lost, Refused

if TYPE_CHECKING:
    import random


_DOUBLINGS = 64
"""More than any ceiling needs; keeps the power of two a float."""


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """How to try again: `base` and `ceiling` bound the drawn waits, `budget` and `tries` end it; all in seconds.

    The budget counts from the first failure to the last moment at which a try may begin.
    """

    base: float = 0.5
    ceiling: float = 30.0
    budget: float = 300.0
    tries: int | None = None

    def wait(
        self, failures: int, elapsed: float, chance: random.Random, retry_after: float | None = None
    ) -> float | None:
        """Seconds to wait before the next try; None: give up.

        `failures` is how many tries have failed in a row (1 or more), `elapsed` the seconds since the first of them.
        """
        if self.tries is not None and failures >= self.tries:
            return None
        left = self.budget - elapsed
        floor = max(0.0, retry_after or 0.0)
        if left <= 0 or floor > left:
            return None
        return min(floor + self.draw(failures, chance), left)

    def draw(self, failures: int, chance: random.Random) -> float:
        """Seconds to wait after so many failures in a row, where something else ends the trying."""
        return chance.uniform(0.0, min(self.ceiling, self.base * 2.0 ** min(failures - 1, _DOUBLINGS)))


POLLS = Backoff(base=1.0, ceiling=60.0, budget=900.0)
"""Polls may be repeated freely: a service that restarts is waited for, a quarter of an hour long."""

FRESH_RUN = Backoff(base=1.0, ceiling=5.0, budget=30.0)
"""A 404 on a run id that was just given: the service may not have it everywhere yet."""

STARTS = Backoff(base=0.5, ceiling=60.0, budget=900.0)
"""Starts of which it is certain that they made no run."""

NEVER_REACHED = 30.0
"""Seconds until a service is given up that has neither said yes once in this batch nor told us to wait."""
LONGEST_PAUSE = 3600.0
"""Seconds of a pause that are waited for: who asks for more (a quota of the day, say) is asked by a later batch."""


class CircuitBreaker:
    """Knows since when no start has got through, whichever row it was for."""

    def __init__(self) -> None:
        self._said_yes = False
        self._failing_since: float | None = None
        self._longest_pause = 0.0

    def yes(self) -> None:
        """A start got through."""
        self._said_yes = True
        self._failing_since = None
        self._longest_pause = 0.0

    def no(self, answer: Refused | Lost, now: float) -> str | None:
        """A start did not get through: why to give up, None to try on.

        One that was refused only until another run ends is none of these.
        """
        if self._failing_since is None:
            self._failing_since = now
        elapsed, pause = now - self._failing_since, _pause(answer)
        self._longest_pause = max(self._longest_pause, pause)
        if pause > LONGEST_PAUSE:
            return f"{answer.why}; it asks for a pause of {pause / 3600:.1f} h"
        is_there = self._said_yes or (isinstance(answer, Refused) and answer.status_code is not None)
        if elapsed > (STARTS.budget if is_there else NEVER_REACHED) + self._longest_pause:
            return f"{answer.why}; no start has got through for {elapsed:.0f} s"
        return None


def _pause(answer: Refused | Lost) -> float:
    """Seconds that the service asks for."""
    return (isinstance(answer, Refused) and answer.signal.retry_after) or 0.0
