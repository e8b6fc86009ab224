"""Starts and ends, counted by spans of time of equal length."""

from __future__ import annotations

from datetime import datetime
from math import floor

import msgspec

MOST_BINS = 60
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_WIDTHS = (
    *(0.1, 0.2, 0.5),
    *(1, 2, 5, 10, 15, 30),
    *(minutes * _MINUTE for minutes in (1, 2, 5, 10, 15, 30)),
    *(hours * _HOUR for hours in (1, 2, 3, 6, 12)),
    *(days * _DAY for days in (1, 2, 7, 14, 28, 91, 364, 3640)),
)


class Bin(msgspec.Struct):
    """What happened in one span of time: runs that started, that ended well, that ended otherwise."""

    starts: int = 0
    succeeded: int = 0
    failed: int = 0

    @property
    def ends(self) -> int:
        """All runs that ended."""
        return self.succeeded + self.failed


class Timeline:
    """The bins of a batch from `begin` to `end` (seconds since 1970), few enough to be seen, on round local times."""

    def __init__(self, begin: float, end: float) -> None:
        end = max(begin, end)
        self.width = next((width for width in _WIDTHS if (end - begin) / width <= MOST_BINS), _WIDTHS[-1])
        offset = local(begin).utcoffset()
        seconds = offset.total_seconds() if offset is not None else 0.0
        self.begin = floor((begin + seconds) / self.width) * self.width - seconds
        self.bins = [Bin() for _ in range(floor((end - self.begin) / self.width) + 1)]

    def at(self, moment: float) -> Bin | None:
        """The bin of a moment; None for one that is not in the batch's time."""
        place = floor((moment - self.begin) / self.width)
        return self.bins[place] if 0 <= place < len(self.bins) else None

    def edge(self, place: int) -> datetime:
        """When a bin begins, in local time."""
        return local(self.begin + place * self.width)


def local(moment: float) -> datetime:
    """A moment in this computer's time zone."""
    return datetime.fromtimestamp(moment).astimezone()
