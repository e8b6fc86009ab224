"""The embedded service as a whole."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

import anyio

from batch_runner.service.local.process_pool import ASYNC_RUNS, InLoop, InWorkers
from batch_runner.service.local.runs import Runs
from batch_runner.service.local.store import InMemory
from batch_runner.service.serve.app import make_app

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from batch_runner.service.local.process_pool import Executor
    from batch_runner.service.local.store import Store
    from batch_runner.service.local.tasks import Tasks


class Service:
    """A service of the Tasks API that runs its tasks itself; an async context manager.

    `app` is its ASGI application, there while the service is entered. `executor` runs sync functions, or so many worker
    processes do (one for each CPU), each started when first needed. `async_runs` is how many async ones do, all in this
    event loop: a service that runs only those starts no thread and no process. `run_timeout` is the seconds that one
    run may take. `store` keeps its runs (memory does, if none is given), and `queue` is how many may wait for a place
    (any number). Leaving it ends all runs as `cancelled` and kills the workers.
    """

    app: ASGIApp
    runs: Runs

    def __init__(
        self,
        tasks: Tasks,
        executor: Executor | int | None = None,
        run_timeout: float = 1800.0,
        api_key: str | None = None,
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
        self._api_key = api_key
        self._store = store or InMemory()
        self._queue = queue

    @property
    def asks_for_key(self) -> bool:
        """Whether only those are let in who have the key."""
        return bool(self._api_key)

    async def __aenter__(self) -> Self:
        """Raises UsageError if the executor can't be made ready."""
        await self._in_workers.open()
        self._upkeep = anyio.CancelScope()
        self._group = await anyio.create_task_group().__aenter__()
        self.runs = Runs(
            self._group,
            self._in_loop,
            self._in_workers,
            store=self._store,
            limit=self._run_timeout,
            files=str(self._tasks.files),
            queue=self._queue,
        )
        self.app = make_app(self._tasks, self.runs, self._store, self._api_key)
        self._group.start_soon(self._keep_up)
        return self

    async def __aexit__(self, *_: object) -> None:
        """An exception of the block passes as it is: the task group, which would wrap it, never sees it."""
        self.stop()
        try:
            await self._group.__aexit__(None, None, None)
        finally:
            await self._in_workers.aclose()

    def stop(self) -> None:
        """Start no more runs, and end as `cancelled` those that go on: whoever waits for one hears it now."""
        self.runs.stop()
        self._upkeep.cancel()

    async def wind_down(self, grace: float) -> None:
        """Start no more runs, end those that have not begun, and give the others so many seconds to end."""
        self.runs.wind_down()
        with anyio.move_on_after(grace):
            await self.runs.all_ended()

    async def _keep_up(self) -> None:
        with self._upkeep:
            await self._store.upkeep()
