"""The scheduler's side: a run that may not be repeated is begun once, whatever becomes of workers.

Dask runs a task again when its worker is lost, whether it had begun or not, and also when only its result is lost.
So a worker asks here before it begins such a run, and the second to ask is told no.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distributed.diagnostics.plugin import SchedulerPlugin

if TYPE_CHECKING:
    from distributed import Scheduler

CLAIM = "batch_runner_claim"
"""The name under which the scheduler takes claims: a call with `key`, answered by whether this one is the first."""


class Claims(SchedulerPlugin):
    """Knows which keys were claimed, until the scheduler forgets their tasks. One for all programs on the cluster."""

    name = "batch_runner-claims"

    def __init__(self) -> None:
        self._claimed: set[str] = set()

    async def start(self, scheduler: Scheduler) -> None:
        """Take claims from now on. It awaits nothing, so two that are registered at once can't both be in force."""
        scheduler.handlers[CLAIM] = self.claim

    @property
    def number(self) -> int:
        """How many keys are known."""
        return len(self._claimed)

    def claim(self, key: str) -> bool:
        """Whether nobody has claimed the key before."""
        is_first = key not in self._claimed
        self._claimed.add(key)
        return is_first

    def transition(self, key: Any, start: Any, finish: Any, *_: Any, **__: Any) -> None:  # noqa: ARG002  as Dask calls it
        """Forget a key with its task: keys are never used again."""
        if finish == "forgotten":
            self._claimed.discard(key)
