"""What a run waits for: its turn in its session, and a place in its executor."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from batch_runner.service.executors import Executor


class Places:
    """The places of an executor, and how many runs have one or wait for one (`taken`)."""

    def __init__(self, executor: Executor, queue: int | None) -> None:
        self.executor = executor
        self.taken = 0
        self._queue = queue

    @property
    def are_full(self) -> bool:
        """Whether as many runs wait as may, beside those that fit."""
        return self._queue is not None and self.taken >= self.executor.places.total_tokens + self._queue


class Sessions:
    """The order of runs within a session. One that no run is in is forgotten: there is nothing else to it."""

    def __init__(self) -> None:
        self._locks: dict[str, anyio.Lock] = {}

    @contextlib.asynccontextmanager
    async def turn(self, session_id: str) -> AsyncIterator[None]:
        """Wait until the runs that came before into the same session have ended."""
        lock = self._locks.setdefault(session_id, anyio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked() and not lock.statistics().tasks_waiting:
                self._locks.pop(session_id, None)
