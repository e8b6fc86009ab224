"""The embedded service as a whole."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Self

import anyio

from batch_runner.service.app import make_app
from batch_runner.service.executors import ASYNC_RUNS, InLoop
from batch_runner.service.runs import Runs
from batch_runner.service.workers import InWorkers

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from batch_runner.service.executors import Executor
    from batch_runner.service.tasks import Tasks


class Service:
    """A service of the Tasks API that runs its tasks itself; an async context manager.

    `app` is its ASGI application, there while the service is entered. `workers` is how many sync functions run at
    once, each in a process (started when first needed); `executor` is what runs them instead. `async_runs` is how many
    async ones do, all in this event loop: a service that runs only those starts no thread and no process.
    `run_timeout` is the seconds that one run may take. Leaving it ends all runs as `cancelled` and kills the workers.
    """

    app: ASGIApp
    runs: Runs

    def __init__(
        self,
        tasks: Tasks,
        workers: int | None = None,
        run_timeout: float = 1800.0,
        api_key: str | None = None,
        *,
        async_runs: int = ASYNC_RUNS,
        executor: Executor | None = None,
    ) -> None:
        self._tasks = tasks
        self._in_workers = executor or InWorkers(workers or os.cpu_count() or 1)
        self._in_loop = InLoop(async_runs)
        self._run_timeout = run_timeout
        self._api_key = api_key

    async def __aenter__(self) -> Self:
        """Raises UsageError if the executor can't be made ready."""
        await self._in_workers.open()
        self._group = await anyio.create_task_group().__aenter__()
        self.runs = Runs(
            self._group, self._in_loop, self._in_workers, limit=self._run_timeout, files=str(self._tasks.files)
        )
        self.app = make_app(self._tasks, self.runs, self._api_key)
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
