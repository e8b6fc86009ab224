"""What bounds a night of several batches: one deadline and one pace of starts, not one for each."""

from __future__ import annotations

import time
from itertools import pairwise

import anyio
import pytest
import trio
import trio.testing

from batch_runner.batch.limits import Limits
from batch_runner.batch.stop import NightBudget
from batch_runner.job.job import Job


def test_the_deadline_counts_from_the_nights_begin() -> None:
    """A batch that begins after it has no time left; a deadline of each batch's own would never come."""
    bounds = NightBudget(Job(input="*.csv", deadline="0.01s"))
    time.sleep(0.02)

    async def begin() -> bool:
        past = bounds.past_deadline()
        return past is not None and past()

    assert anyio.run(begin)


def test_without_a_deadline_there_is_none() -> None:
    """Nobody has to look at the clock."""
    assert NightBudget(Job(input="*.csv")).past_deadline() is None


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_many_small_sheets_keep_to_the_rate(rows: int) -> None:
    """A hundred sheets of one row are a hundred starts: the rate holds for all of them together."""
    bounds, sent = NightBudget(Job(input="*.csv", rate="2/min")), []

    async def night() -> None:
        for _ in range(4):
            limits = Limits(5, pace=bounds.pace)
            for _ in range(rows):
                async with limits.slot() as slot:
                    await slot.turn()
                    sent.append(anyio.current_time())
                    slot.accepted()

    trio.run(night, clock=trio.testing.MockClock(autojump_threshold=0))
    assert len(sent) == 4 * rows
    assert all(later - first >= 60 for first, later in zip(sent, sent[2:], strict=False))
    assert all(later >= first for first, later in pairwise(sent))
