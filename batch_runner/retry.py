"""When to try again and how long to wait; pure, without a clock.

Exponential backoff with full jitter: each wait is drawn evenly between nothing and a bound that doubles up to a ceiling
(Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). What the service says with `Retry-After`
is a floor: it is waited for in full, and the drawn wait comes on top, so that all do not return in the same instant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

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
        return min(floor + self.drawn(failures, chance), left)

    def drawn(self, failures: int, chance: random.Random) -> float:
        """Seconds to wait after so many failures in a row, where something else ends the trying."""
        return chance.uniform(0.0, min(self.ceiling, self.base * 2.0 ** min(failures - 1, _DOUBLINGS)))


POLLS = Backoff(base=1.0, ceiling=60.0, budget=900.0)
"""Polls may be repeated freely: a service that restarts is waited for, a quarter of an hour long."""

FRESH_RUN = Backoff(base=1.0, ceiling=5.0, budget=30.0)
"""A 404 on a run id that was just given: the service may not have it everywhere yet."""

STARTS = Backoff(base=0.5, ceiling=60.0, budget=900.0)
"""Starts of which it is certain that they made no run."""
