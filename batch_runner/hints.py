"""What a batch has learnt about its service that would make the next one faster: notes of the summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_runner.batch.poll_schedule import Schedule
    from batch_runner.limits.limits import Limits

MANY_REFUSED = 10
SHARE_REFUSED = 0.05
"""So many starts refused for coming too soon, and such a share of all, are worth a word."""
SHARE_UNNOTICED = 0.2
"""A batch that waited for polls for this share of its runs' time could have been that much faster."""


def hints(limits: Limits, schedule: Schedule) -> tuple[str, ...]:
    """A sentence for each option that could be set better."""
    return tuple(_hints(limits, schedule))


def _hints(limits: Limits, schedule: Schedule) -> Iterator[str]:
    if limits.settled is not None:
        yield f"the service took no more than {limits.settled} runs at once; --concurrency {limits.settled} says so"
    if limits.too_soon >= max(MANY_REFUSED, SHARE_REFUSED * limits.turns):
        yield (
            f"the service refused {limits.too_soon} of {limits.turns} starts because they came too fast (429); "
            "a --rate of what it allows avoids that"
        )
    if schedule.shortfall >= SHARE_UNNOTICED:
        yield (
            f"all polls were used, so ended runs were noticed late ({schedule.shortfall:.0%} of the runs' time); "
            "where the service allows more, a higher --poll-rate makes this batch faster"
        )
