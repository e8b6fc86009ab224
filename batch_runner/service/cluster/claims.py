"""The scheduler's side: how often a parcel was begun, whatever became of the workers that began it.

Dask runs a task again when its worker is lost, whether it had begun or not, and also when only its result is lost.
So a worker asks here before it begins: what may not be repeated isn't begun a second time, and what may be is said to
have been begun before.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from distributed.diagnostics.plugin import SchedulerPlugin

if TYPE_CHECKING:
    from distributed import Scheduler

CLAIM = "batch_runner_claim"
"""The name under which the scheduler takes claims: a call with `key`, answered by how many there were before."""


class Claims(SchedulerPlugin):
    """Counts the claims of keys, until the scheduler forgets their tasks. One for all programs on the cluster."""

    name = "batch_runner-claims"

    def __init__(self) -> None:
        self._claimed: Counter[str] = Counter()

    async def start(self, scheduler: Scheduler) -> None:
        """Take claims from now on. It awaits nothing, so two that are registered at once can't both be in force."""
        scheduler.handlers[CLAIM] = self.claim

    @property
    def number(self) -> int:
        """How many keys are known."""
        return len(self._claimed)

    def claim(self, key: str) -> int:
        """How often the key was claimed before."""
        self._claimed[key] += 1
        return self._claimed[key] - 1

    def transition(self, key: Any, start: Any, finish: Any, *_: Any, **__: Any) -> None:  # noqa: ARG002  as Dask calls it
        """Forget a key with its task: keys are never used again."""
        if finish == "forgotten":
            self._claimed.pop(key, None)
