"""How long runs took: median, 95th percentile, the slowest. A million runs take no more room than a thousand."""

from __future__ import annotations

import heapq
from collections import Counter

import msgspec

MOST_SLOWEST = 10
_DIGITS = 4


class Slow(msgspec.Struct, frozen=True, order=True):
    """A row whose run took long."""

    milliseconds: int
    number: int


class RunTimes:
    """Run times, counted as they come."""

    def __init__(self) -> None:
        self._counted: Counter[int] = Counter()
        self._slowest: list[Slow] = []

    def add(self, number: int, milliseconds: int) -> None:
        """Count the run of a row."""
        self._counted[_rounded(milliseconds)] += 1
        slow = Slow(milliseconds, -number)
        if len(self._slowest) < MOST_SLOWEST:
            heapq.heappush(self._slowest, slow)
        else:
            heapq.heappushpop(self._slowest, slow)

    @property
    def runs(self) -> int:
        """How many were counted."""
        return self._counted.total()

    @property
    def slowest(self) -> tuple[Slow, ...]:
        """The slowest rows, the slowest first; of equal ones the upper row."""
        return tuple(Slow(slow.milliseconds, -slow.number) for slow in sorted(self._slowest, reverse=True))

    def percentile(self, percent: int) -> float:
        """The time, in seconds, that so many of a hundred runs did not exceed (nearest rank), to four digits."""
        rank = -(-self.runs * percent // 100)
        for milliseconds in sorted(self._counted):
            rank -= self._counted[milliseconds]
            if rank <= 0:
                return milliseconds / 1000
        raise ValueError("no runs were counted")


def _rounded(milliseconds: int) -> int:
    """To as many digits as are shown: which of them come first stays as it is, and they are few."""
    excess = len(str(milliseconds)) - _DIGITS
    return milliseconds if excess <= 0 else round(milliseconds, -excess)
