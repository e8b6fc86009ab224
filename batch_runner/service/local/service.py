"""The embedded service as a whole: our tasks, called directly."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Self

import anyio
import msgspec

from batch_runner import log
from batch_runner._version import __version__
from batch_runner.outcomes import FAILURE
from batch_runner.service.local.process_pool import ASYNC_RUNS, InLoop, InWorkers
from batch_runner.service.local.runs import Runs
from batch_runner.service.local.store import InMemory
from batch_runner.service.protocol import (
    IDEMPOTENCY_FEATURE,
    ROW_FEATURE,
    STOP_FEATURE,
    WAIT_FEATURE,
    Capabilities,
    Health,
    LookFailed,
    Refused,
    Run,
    RunSeen,
    Started,
)

if TYPE_CHECKING:
    from batch_runner.service.local.store import Store
    from batch_runner.service.local.tasks import Executor, Tasks
    from batch_runner.service.protocol import StartRequest


NEVER_BEGAN = "It was not begun: the program that had started it was ended."


class LocalService:
    """A service that runs its tasks itself (see `protocol.Service`); an async context manager.

    `executor` runs sync functions, or so many worker processes do (one for each CPU), each started when first needed.
    `async_runs` is how many async ones do, all in this event loop: a service that runs only those starts no thread and
    no process. `run_timeout` is the seconds that one run may take. `store` keeps its runs (memory does, if none is
    given), and `queue` is how many may wait for a place (any number). Leaving it ends all runs as `cancelled` and kills
    the workers.
    """

    runs: Runs

    def __init__(
        self,
        tasks: Tasks,
        executor: Executor | int | None = None,
        run_timeout: float = 1800.0,
        *,
        async_runs: int = ASYNC_RUNS,
        store: Store | None = None,
        queue: int | None = None,
    ) -> None:
        self._tasks = tasks
        self._in_workers: Executor = (
            InWorkers(executor or os.cpu_count() or 1) if isinstance(executor, int | None) else executor
        )
        self._in_loop = InLoop(async_runs)
        self._run_timeout = run_timeout
        self._store = store or InMemory()
        self._queue = queue

    async def __aenter__(self) -> Self:
        """Raises UsageError if the executor can't be made ready."""
        if sys.platform == "win32":
            log.info("the memory of tasks is not limited: Windows has no such limit")
        await self._in_workers.open()
        self._upkeep = anyio.CancelScope()
        self._group = await anyio.create_task_group().__aenter__()
        self.runs = Runs(
            self._group,
            self._tasks,
            self._in_loop,
            self._in_workers,
            store=self._store,
            limit=self._run_timeout,
            queue=self._queue,
        )
        self._group.start_soon(self._keep_up)
        return self

    async def __aexit__(self, *_: object) -> None:
        """An exception of the block passes as it is: the task group, which would wrap it, never sees it."""
        self.stop_all()
        try:
            await self._group.__aexit__(None, None, None)
        finally:
            await self._in_workers.aclose()

    async def start(self, request: StartRequest) -> Started | Refused:
        """See Service. It is answered when the run is recorded, and tells its end if it has ended by then."""
        answer = await self.runs.start(request)
        return answer if isinstance(answer, Refused) else Started(await self._as_known(answer))

    async def look(self, run_id: str, wait: float = 0.0) -> RunSeen | LookFailed:
        """See Service."""
        run = await self.runs.look(run_id, wait)
        if run is None and await self._in_workers.never_began(run_id):
            run = Run(run_id, FAILURE, error=NEVER_BEGAN, never_began=True)
        return _seen(run_id, run and await self._as_known(run))

    async def _as_known(self, run: Run) -> Run:
        """A run that was cut off with an earlier service may still be known, where tasks run, to have never begun."""
        if not run.cut_off or not await self._in_workers.never_began(run.run_id):
            return run
        return msgspec.structs.replace(run, error=NEVER_BEGAN, never_began=True, cut_off=False)

    async def stop(self, run_id: str) -> RunSeen | LookFailed:
        """See Service. It returns when the run has ended."""
        return _seen(run_id, await self.runs.stop(run_id))

    def has_task(self, task_id: str) -> bool:
        """Whether a run of this task could be started."""
        return self._tasks.find(task_id) is not None

    async def capabilities(self) -> Capabilities:
        """See Service."""
        promise = self._store.promise()
        return Capabilities(
            idempotency_seconds=promise.seconds if promise else None,
            memory=promise.memory if promise else None,
            row_number=True,
            tells_ends=True,
            stops=True,
        )

    async def health(self) -> Health:
        """How it is, and what it can do, for whoever asks from outside."""
        can, running = await self.capabilities(), self.runs.running
        trouble = await self.runs.trouble()
        return Health(
            status="stopping" if self.runs.is_stopping else "ok" if trouble is None else "trouble",
            trouble=trouble,
            version=__version__,
            features=(*([IDEMPOTENCY_FEATURE] if can.memory else []), ROW_FEATURE, WAIT_FEATURE, STOP_FEATURE),
            idempotency_seconds=can.idempotency_seconds,
            memory=can.memory,
            queued=len(self.runs.going) - running,
            running=running,
        )

    def stop_all(self) -> None:
        """Start no more runs, and end as `cancelled` those that go on: whoever waits for one hears it now."""
        self.runs.stop_all()
        self._upkeep.cancel()

    async def wind_down(self, grace: float) -> None:
        """Start no more runs, end those that have not begun, and give the others so many seconds to end."""
        self.runs.wind_down()
        with anyio.move_on_after(grace):
            await self.runs.all_ended()

    async def _keep_up(self) -> None:
        with self._upkeep:
            await self._store.upkeep()


def _seen(run_id: str, run: Run | None) -> RunSeen | LookFailed:
    return LookFailed(f"There is no run {run_id!r}.", 404, again=False) if run is None else RunSeen(run, waited=True)
