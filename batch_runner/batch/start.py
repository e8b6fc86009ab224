"""A row's start on its way: which attempt it is, and whether its lost answer can still be asked for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio

from batch_runner.journal import Send, Settle

if TYPE_CHECKING:
    from batch_runner.client.features import Features


class Start:
    """The start of one row, over all its tries.

    `intended_at` is on this batch's clock (seconds). `is_lost`: nobody knows what came of it, and the same start can be
    sent again to learn that, from a service of this `memory`, which knows it by its Idempotency-Key.
    """

    def __init__(self) -> None:
        self.attempt: int | None = None
        self.intended_at = 0.0
        self.memory: str | None = None
        self.is_lost = False
        self.unbegun = 0
        """How many runs it made that ended without having begun."""

    def intended(self, attempt: int) -> int:
        """It is about to be sent as this attempt, which is returned."""
        self.attempt, self.intended_at = attempt, anyio.current_time()
        return attempt

    def answer_lost(self, memory: str | None) -> None:
        """Nobody knows what came of it. Where it can't be asked for (no memory), another try is another attempt."""
        self.memory = self.memory or memory
        self.is_lost = self.memory is not None
        if not self.is_lost:
            self.attempt = None

    def begin_anew(self) -> None:
        """The run that it made has ended, and nothing of it was done: another try is another attempt."""
        self.attempt, self.memory, self.is_lost = None, None, False
        self.unbegun += 1

    def is_known_to(self, features: Features) -> bool:
        """Whether a service with these features surely knows it, so that sending it again makes no second run."""
        return features.is_one_run(self.memory, anyio.current_time() - self.intended_at)


def start_of(plan: Send | Settle) -> Start:
    """A row's first try in this batch; with `Settle` that of an earlier batch, whose answer was lost."""
    start = Start()
    if isinstance(plan, Settle):
        age = datetime.now(UTC) - datetime.fromisoformat(plan.intended_at)
        start.intended(plan.attempt)
        start.intended_at -= age.total_seconds()
        start.answer_lost(plan.memory)
    return start
