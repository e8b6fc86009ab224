"""Where runs are kept: the seam, and the store in memory."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

import msgspec

if TYPE_CHECKING:
    from batch_runner.service.protocol import Run, StartRequest


class NotRecorded(Exception):  # noqa: N818  it is what has happened
    """It could not be written, so it must not happen; the text says why."""


def fingerprint_of(request: StartRequest) -> bytes:
    """The same for two starts that ask for the same: SHA-256 of the task's id and the JSON.

    The row is no part of it, because a sheet may be sorted between two nights, nor is `sync`, which only says how to
    answer.
    """
    asked = msgspec.json.encode(msgspec.structs.replace(request.run, sync=False), order="sorted")
    return hashlib.sha256(request.task_id.encode() + b"\0" + asked).digest()


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

    async def queued(self, run: Run, request: StartRequest) -> None:
        """Record that a run was started; if it is `running`, also that its task is about to begin.

        Raises NotRecorded: then there is no such run.
        """

    async def running(self, run_id: str) -> None:
        """Record that the task of a queued run is about to begin. Raises NotRecorded: then it must not."""

    async def ended(self, run: Run) -> None:
        """Record its end, which isn't cut short by a cancellation.

        Where that can't be written now, it is told all the same, and written later.
        """

    def tell(self, run_id: str) -> Run | None:
        """A run that has ended; None if there is none, or if it was forgotten by now."""

    def told(self, run_id: str) -> None:
        """The end of this run has been told."""

    def named(self, key: str) -> Named | None:
        """The run that was started with this key, if it is known."""

    def promise(self) -> Promise | None:
        """For how long keys are known; None where nothing can be promised."""

    async def trouble(self) -> str | None:
        """Why nothing can be recorded just now, a sentence; what failed last is tried again to see. None if it can."""

    async def upkeep(self) -> None:
        """Forget old runs from time to time, until cancelled; returns at once where there is nothing to do."""


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

    async def queued(self, run: Run, request: StartRequest) -> None:
        """See Store."""
        if request.key is not None:
            self._named[request.key] = Named(run.run_id, fingerprint_of(request))
            self._keys[run.run_id] = request.key

    async def running(self, run_id: str) -> None:
        """See Store: there is nothing to be known of it later."""

    async def ended(self, run: Run) -> None:
        """See Store."""
        self._untold[run.run_id] = run
        self._forget_oldest(self._untold, UNTOLD_KEPT)

    def tell(self, run_id: str) -> Run | None:
        """See Store."""
        self.told(run_id)
        return self._told.get(run_id)

    def told(self, run_id: str) -> None:
        """See Store."""
        if run := self._untold.pop(run_id, None):
            self._told[run_id] = run
            self._forget_oldest(self._told, TOLD_KEPT)

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
