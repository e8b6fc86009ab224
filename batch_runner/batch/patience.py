"""When a batch gives up starting because no start gets through; pure: times are passed in (seconds on one clock)."""

from __future__ import annotations

from batch_runner.client.client import Lost, Refused
from batch_runner.retry import STARTS

NEVER_REACHED = 30.0
"""Seconds until a service is given up that has neither said yes once in this batch nor told us to wait."""
LONGEST_PAUSE = 3600.0
"""Seconds of a pause that are waited for: who asks for more (a quota of the day, say) is asked by a later batch."""


class Patience:
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
        is_there = self._said_yes or _has_answered(answer)
        if elapsed > (STARTS.budget if is_there else NEVER_REACHED) + self._longest_pause:
            return f"{answer.why}; no start has got through for {elapsed:.0f} s"
        return None


def _has_answered(answer: Refused | Lost) -> bool:
    return isinstance(answer, Refused) and answer.status_code is not None


def _pause(answer: Refused | Lost) -> float:
    """Seconds that the service asks for."""
    return (isinstance(answer, Refused) and answer.signal.retry_after) or 0.0
