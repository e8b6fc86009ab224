"""What becomes of a run: queued → running → success | failure | timeout | cancelled.

A run lives in the task group that Runs was given, not in the request that started it: a client that goes away stops
nothing. It waits for its turn twice: in its session, where runs go one after another, and for a place in the executor.
"""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING

import anyio
import msgspec

from batch_runner.api import Run, RunRequest
from batch_runner.service.endings import Ending
from batch_runner.service.tasks import Call, Context, Task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import TaskGroup

    from batch_runner.service.executors import Executor

TOLD_KEPT = 1_000
"""How many ended runs are kept after their end was told, for a client that lost the answer."""

UNTOLD_KEPT = 100_000
"""How many ended runs are kept that nobody has asked for yet."""

_STOPPED = Ending("cancelled", error="The service was stopped before the run had ended.")


class Runs:
    """All runs of a service: those that go on, and the newest of those that have ended."""

    def __init__(self, group: TaskGroup, in_loop: Executor, in_workers: Executor, *, limit: float, files: str) -> None:
        self._group = group
        self._in_loop = in_loop
        self._in_workers = in_workers
        self._limit = limit
        self._files = files
        self._sessions = _Sessions()
        self._going: dict[str, _Going] = {}
        self._ended = _EndedRuns()
        self.is_stopping = False

    def start(self, task: Task, request: RunRequest) -> Run:
        """Start a run of the task, in the session that was named or in a new one. It begins `queued`."""
        going = _Going(run_id=f"run_{uuid.uuid4().hex}", session_id=request.session_id or f"session_{uuid.uuid4().hex}")
        context = Context(going.run_id, going.session_id, self._files, request.identity_id)
        self._going[going.run_id] = going
        call = Call(task.source, request.input_params, context, self._limit, task.repeatable)
        self._group.start_soon(self._follow, going, task, call)
        return going.run

    @property
    def going(self) -> tuple[str, ...]:
        """The ids of the runs that have not ended, in the order of their starts."""
        return tuple(self._going)

    async def wait(self, run_id: str) -> Run:
        """A run of `going`, once it has ended."""
        going = self._going[run_id]
        await going.has_ended.wait()
        return self._ended.tell(run_id) or going.run

    def tell(self, run_id: str) -> Run | None:
        """The run as it is now; None if there never was one, or if it ended so long ago that it was forgotten."""
        going = self._going.get(run_id)
        return going.run if going else self._ended.tell(run_id)

    def stop(self) -> None:
        """End all runs as `cancelled`. There must be no start after that."""
        self.is_stopping = True
        for going in self._going.values():
            going.scope.cancel()

    def trouble(self, task: Task) -> str | None:
        """Why no run of the task can be started just now, a sentence; None while all is well."""
        return self._executor(task).trouble

    def _executor(self, task: Task) -> Executor:
        return self._in_loop if task.is_async else self._in_workers

    async def _follow(self, going: _Going, task: Task, call: Call) -> None:
        executor = self._executor(task)
        ending = _STOPPED
        try:
            with going.scope:
                async with self._sessions.turn(going.session_id), executor.places:
                    going.run = Run(going.run_id, "running", session_id=going.session_id)
                    ending = await executor.run(call)
        finally:
            self._end(going, ending)

    def _end(self, going: _Going, ending: Ending) -> None:
        run = Run(going.run_id, ending.status, error=ending.error, session_id=going.session_id)
        going.run = msgspec.structs.replace(run, result=ending.result) if bytes(ending.result) else run
        del self._going[going.run_id]
        self._ended.keep(going.run)
        going.has_ended.set()


class _Going:
    """A run that has not ended."""

    def __init__(self, run_id: str, session_id: str) -> None:
        self.run_id = run_id
        self.session_id = session_id
        self.run = Run(run_id, "queued", session_id=session_id)
        self.scope = anyio.CancelScope()
        self.has_ended = anyio.Event()


class _Sessions:
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


class _EndedRuns:
    """Ended runs by id. One whose end was told goes earlier than one that still waits to be asked for."""

    def __init__(self) -> None:
        self._untold: dict[str, Run] = {}
        self._told: dict[str, Run] = {}

    def keep(self, run: Run) -> None:
        """Keep a run that has just ended."""
        self._untold[run.run_id] = run
        _forget_oldest(self._untold, UNTOLD_KEPT)

    def tell(self, run_id: str) -> Run | None:
        """The run, if it is still known."""
        if run := self._untold.pop(run_id, None):
            self._told[run_id] = run
            _forget_oldest(self._told, TOLD_KEPT)
        return run or self._told.get(run_id)


def _forget_oldest(runs: dict[str, Run], kept: int) -> None:
    while len(runs) > kept:
        del runs[next(iter(runs))]
