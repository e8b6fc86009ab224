"""The seam between what becomes of runs and where they are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from batch_runner.api import Run
    from batch_runner.service.asked import Asked


class NotRecorded(Exception):  # noqa: N818  it is what has happened
    """It could not be written, so it must not happen; the text says why."""


class Named(msgspec.Struct, frozen=True):
    """The run that was started with a key, and the fingerprint of what was asked for with it."""

    run_id: str
    fingerprint: bytes


class Promise(msgspec.Struct, frozen=True):
    """How many seconds back every key is known, and the name of what knows them."""

    seconds: float
    memory: str


class Store(Protocol):
    """Keeps runs. What an awaited call has recorded is there after a kill, if the store is one that lasts."""

    async def queued(self, run: Run, asked: Asked) -> None:
        """Record that a run was started. Raises NotRecorded: then there is no such run."""

    async def running(self, run_id: str) -> None:
        """Record that its task is about to begin. Raises NotRecorded: then it must not."""

    async def ended(self, run: Run) -> None:
        """Record its end. Where that can't be written now, it is told all the same, and written later."""

    def tell(self, run_id: str) -> Run | None:
        """A run that has ended; None if there is none, or if it was forgotten by now."""

    def named(self, key: str) -> Named | None:
        """The run that was started with this key, if it is known."""

    def promise(self) -> Promise | None:
        """For how long keys are known; None where nothing can be promised."""

    async def trouble(self) -> str | None:
        """Why nothing can be recorded just now, a sentence; what failed last is tried again to see. None if it can."""

    async def upkeep(self) -> None:
        """Forget old runs from time to time, until cancelled; returns at once where there is nothing to do."""
