"""Runs in memory: for a service within the program, whose runs nobody asks for after it has ended."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_runner.service.store.store import Named

if TYPE_CHECKING:
    from batch_runner.api import Run
    from batch_runner.service.asked import Asked
    from batch_runner.service.store.store import Promise

TOLD_KEPT = 1_000
"""How many ended runs are kept after their end was told, for a client that lost the answer."""

UNTOLD_KEPT = 100_000
"""How many ended runs are kept that nobody has asked for yet."""


class InMemory:
    """The newest of the ended runs. One whose end was told goes earlier than one that still waits to be asked for.

    A key is known for as long as its run is. That is no number of seconds, so nothing is promised.
    """

    def __init__(self) -> None:
        self._untold: dict[str, Run] = {}
        self._told: dict[str, Run] = {}
        self._named: dict[str, Named] = {}
        self._keys: dict[str, str] = {}

    async def queued(self, run: Run, asked: Asked) -> None:
        """See Store."""
        if asked.key is not None:
            self._named[asked.key] = Named(run.run_id, asked.fingerprint)
            self._keys[run.run_id] = asked.key

    async def running(self, run_id: str) -> None:
        """See Store: there is nothing to be known of it later."""

    async def ended(self, run: Run) -> None:
        """See Store."""
        self._untold[run.run_id] = run
        self._forget_oldest(self._untold, UNTOLD_KEPT)

    def tell(self, run_id: str) -> Run | None:
        """See Store."""
        if run := self._untold.pop(run_id, None):
            self._told[run_id] = run
            self._forget_oldest(self._told, TOLD_KEPT)
        return run or self._told.get(run_id)

    def named(self, key: str) -> Named | None:
        """See Store."""
        return self._named.get(key)

    def promise(self) -> Promise | None:
        """See Store."""
        return None

    async def trouble(self) -> str | None:
        """See Store: memory takes everything."""
        return None

    async def upkeep(self) -> None:
        """See Store."""

    def _forget_oldest(self, runs: dict[str, Run], kept: int) -> None:
        while len(runs) > kept:
            run_id = next(iter(runs))
            del runs[run_id]
            if key := self._keys.pop(run_id, None):
                del self._named[key]
