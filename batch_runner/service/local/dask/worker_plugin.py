"""The Dask worker's side, and the scheduler's count of how often a call was begun.

Dask runs a task again when its worker is lost, whether it had begun or not, and also when only its result is lost.
So a worker asks here before it begins: what may not be repeated isn't begun a second time, and what may be is said to
have been begun before.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import pickle
import tempfile
import time
from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import anyio
import msgspec
from distributed import get_worker
from distributed.diagnostics.plugin import SchedulerPlugin, WorkerPlugin
from distributed.utils import sync

from batch_runner._version import __version__
from batch_runner.service.local import result
from batch_runner.service.local.dask.bundle import NOT_REPEATED, Bundle, Done, Unpacking
from batch_runner.service.local.process_pool import WORKER_MEMORY, InWorkers
from batch_runner.service.local.result import RunEnd

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributed import Scheduler, Worker

    from batch_runner.service.local.context import Line


CLAIM = "batch_runner_claim"
"""The name under which the scheduler takes claims: a call with `key`, answered by how many there were before."""


class AttemptCounter(SchedulerPlugin):
    """Counts the claims of keys, until the scheduler forgets their tasks. One for all programs on the cluster."""

    name = "batch_runner-claims"
    idempotent = True

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


NAME = "batch_runner"

ENOUGH_SECONDS = 1.0
"""After so long a bundle is sent back as it is: what was not begun goes elsewhere."""

ENOUGH_BYTES = 8 * 1024 * 1024
"""The same for the bytes of its results."""

MOST_LINES = 1_000
"""Lines of what a bundle's tasks logged that are carried home: the last ones."""

IDLE_SECONDS = 60.0
"""How long worker processes wait for the next bundle until they are ended."""

BEGUN_BEFORE = result.cut_off(
    f"worker lost: the Dask worker that had this run went away; {NOT_REPEATED}, as its task isn't declared repeatable.",
    repeatable=False,
)


def work(version: str, key: str, bundle: bytes) -> bytes:
    """Run a Bundle on this worker; gives Dones as JSON, one for each errand that was begun.

    It waits in one of the worker's threads; the worker's processes do the work. A bundle of another version is
    declined: only its `key` can be read here.
    """
    worker = get_worker()
    done: bytes = sync(worker.loop, _work, worker, version, key, bundle)
    return done


async def _work(worker: Worker, version: str, key: str, bundle: bytes) -> bytes:
    if NAME not in worker.plugins:
        await worker.plugin_add(WorkerSeat(), NAME, catch_errors=False)
    seat = cast("WorkerSeat", worker.plugins[NAME])
    if version != __version__:
        return msgspec.json.encode([await seat.decline(version, key)])
    return await seat.work(msgspec.msgpack.decode(bundle, type=Bundle))


def _memory_of(worker: Worker) -> int:
    """Bytes that a task's process may have: its share of what this worker was given, which Dask doesn't watch there."""
    given = worker.memory_manager.memory_limit
    return min(WORKER_MEMORY, given // worker.state.nthreads) if given else WORKER_MEMORY


class _Enough:
    """Judges whether a bundle has taken so long, or has given so much, that the rest goes elsewhere."""

    def __init__(self) -> None:
        self._until = time.monotonic() + ENOUGH_SECONDS
        self._bytes = 0

    def is_reached(self, ending: RunEnd) -> bool:
        """Whether it is enough with this ending."""
        self._bytes += len(bytes(ending.result))
        return time.monotonic() > self._until or self._bytes > ENOUGH_BYTES


class WorkerSeat(WorkerPlugin):
    """Our place on one Dask worker: its worker processes, the bundles that are at work, and a folder."""

    def setup(self, worker: Worker) -> None:
        """Called by Dask when the plugin is added; it must not fail, and what may is done when it is needed."""
        self._worker = worker
        self._executor = InWorkers(worker.state.nthreads, memory=_memory_of(worker), level=logging.INFO)
        self._going: dict[str, anyio.CancelScope] = {}
        self._rest: asyncio.TimerHandle | None = None
        self._resting: asyncio.Task[None] | None = None
        self._knows_claims = False

    async def teardown(self, worker: Worker) -> None:  # noqa: ARG002  as Dask calls it
        """Called by Dask when the worker closes: nothing is left running."""
        for scope in self._going.values():
            scope.cancel()
        if self._rest is not None:
            self._rest.cancel()
        await self._executor.aclose()
        if "_unpacking" in self.__dict__:
            self._folder.cleanup()

    def transition(self, key: Any, start: Any, finish: Any, **_: Any) -> None:
        """Called by Dask for each change of a task: one that is released at work is wanted by nobody any more."""
        if start == "executing" and finish == "released" and key in self._going:
            self._going[key].cancel()

    async def work(self, bundle: Bundle) -> bytes:
        """See the function of this name. Of a cancelled bundle nothing goes on, and nobody reads what it gives."""
        with anyio.CancelScope() as scope:
            self._going[bundle.key] = scope
            try:
                return msgspec.json.encode(await self._done(bundle))
            finally:
                del self._going[bundle.key]
                if self._rest is not None:
                    self._rest.cancel()
                self._rest = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._rest_now)
        return b"[]"

    async def decline(self, version: str, key: str) -> Done:
        """What is said of a bundle that was sent by another version."""
        why = f"The Dask worker {self._worker.address} has batch_runner {__version__}, and {version} has sent this"
        return self._declined(result.failure(why), await self._claim(key))

    def _declined(self, ending: RunEnd, begun_before: int) -> Done:
        return Done(ending, 0.0, begun_before=begun_before, declined_by=self._worker.address)

    async def _done(self, bundle: Bundle) -> list[Done]:
        begun_before = await self._claim(bundle.key)
        if begun_before and not bundle.errands[0].call.repeatable:
            return [Done(BEGUN_BEFORE, 0.0)]
        began = time.monotonic()
        lines: deque[Line] = deque(maxlen=MOST_LINES)
        ended = await self._endings(bundle, lines.append)
        if ended[0].cant_load:
            return [self._declined(ended[0], begun_before)]
        seconds = (time.monotonic() - began) / len(ended)
        first, *others = (Done(ending, seconds, begun_before=begun_before) for ending in ended)
        return [msgspec.structs.replace(first, lines=tuple(lines)), *others]

    async def _endings(self, bundle: Bundle, hear: Callable[[Line], None]) -> list[RunEnd]:
        """The endings of errands, of fewer than all where that is enough. They share the folder of their files."""
        errands = bundle.errands
        try:
            if hindrance := self._unpacking.hindrance(errands[0]):
                return [hindrance]
            with contextlib.ExitStack() as laid_out:
                calls = [laid_out.enter_context(self._unpacking.lay_out(errand, bundle.code)) for errand in errands]
                ended, enough = list[RunEnd](), _Enough()
                for call in calls:
                    ended.append(await self._executor.run(call, hear))
                    if ended[-1].is_last or ended[-1].cant_load or ended[-1].cut_off or enough.is_reached(ended[-1]):
                        break
        except OSError as error:
            sentence = f"The Dask worker {self._worker.address} can't lay out the run's files: {error}"
            return [result.failure(sentence)] * len(errands)
        return [self._unpacking.as_at_home(*each) for each in zip(ended, errands, calls, strict=False)]

    @functools.cached_property
    def _unpacking(self) -> Unpacking:
        self._folder = tempfile.TemporaryDirectory(dir=self._worker.local_directory, prefix="batch_runner-")
        return Unpacking(Path(self._folder.name), self._worker.address)

    async def _claim(self, key: str) -> int:
        """How often the bundle that is about to begin was begun before, anywhere on this cluster."""
        scheduler = self._worker.scheduler
        if not self._knows_claims:
            await scheduler.register_scheduler_plugin(
                plugin=pickle.dumps(AttemptCounter()), name=AttemptCounter.name, idempotent=True
            )
            self._knows_claims = True
        return int(await getattr(scheduler, CLAIM)(key=key))

    def _rest_now(self) -> None:
        if not self._going:
            self._resting = asyncio.create_task(self._executor.aclose())
