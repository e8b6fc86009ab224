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

    `intended_at` is on this batch's clock (seconds). `memory` is that of the service which knows the start by its
    Idempotency-Key, None where none does. `is_lost`: nobody knows what came of it, and the same start can be sent again
    to learn that.
    """

    def __init__(self) -> None:
        self.attempt: int | None = None
        self.intended_at = 0.0
        self.memory: str | None = None
        self.is_lost = False

    def intended(self, attempt: int, memory: str | None) -> int:
        """It is about to be sent as this attempt, which is returned."""
        self.attempt, self.memory, self.intended_at = attempt, memory, anyio.current_time()
        return attempt

    def answer_lost(self) -> None:
        """Nobody knows what came of it. Where it can't be asked for, another try is another attempt."""
        self.is_lost = self.memory is not None
        if not self.is_lost:
            self.attempt = None

    def is_known_to(self, features: Features) -> bool:
        """Whether a service with these features surely knows it, so that sending it again makes no second run."""
        age = anyio.current_time() - self.intended_at
        return features.memory == self.memory and age <= (features.idempotency_seconds or 0.0)


def start_of(plan: Send | Settle) -> Start:
    """A row's first try in this batch; with `Settle` that of an earlier batch, whose answer was lost."""
    start = Start()
    if isinstance(plan, Settle):
        age = datetime.now(UTC) - datetime.fromisoformat(plan.intended_at)
        start.intended(plan.attempt, plan.memory)
        start.intended_at -= age.total_seconds()
        start.is_lost = True
    return start
