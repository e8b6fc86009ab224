"""What becomes of a run: queued → running → success | failure | timeout | cancelled.

A run lives in the task group that Runs was given, not in the request that started it: a client that goes away stops
nothing. It waits for its turn twice: in its session, where runs go one after another, and for a place in the executor.
Each of its steps is recorded before it is taken (and told), so that a store that lasts knows after a kill which runs
there were, and which of them had begun.
"""

from __future__ import annotations

import contextlib
import uuid
from typing import TYPE_CHECKING

import anyio
import msgspec

from batch_runner.service.local.context import Context
from batch_runner.service.local.result import Ending, not_begun
from batch_runner.service.local.store import NotRecorded
from batch_runner.service.local.tasks import Call, Task
from batch_runner.service.wire import Run

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from anyio.abc import TaskGroup

    from batch_runner.service.local.process_pool import Executor
    from batch_runner.service.local.request import Asked
    from batch_runner.service.local.store import Store


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


_NEVER_BEGUN = not_begun("The service was stopped before the run had begun.", "cancelled")
_CUT_OFF = Ending("cancelled", error="The service was stopped before the run had ended.")


class NotStarted(Exception):  # noqa: N818  it is what has happened
    """No run was started; the text says why."""


class Stopping(NotStarted):
    """The service is about to end."""


class QueueFull(NotStarted):
    """So many runs wait that there is no room for one more."""


class Trouble(NotStarted):
    """What runs the tasks can't run any just now."""


class KeyReused(NotStarted):
    """The key of this start is that of another, which asked for something else."""


class Runs:
    """All runs of a service: those that go on are here, those that have ended in the store.

    `queue` is how many may wait for a place in their executor; None: any number.
    """

    def __init__(
        self,
        group: TaskGroup,
        in_loop: Executor,
        in_workers: Executor,
        *,
        store: Store,
        limit: float,
        files: str,
        queue: int | None = None,
    ) -> None:
        self._group = group
        self._async_places = Places(in_loop, queue)
        self._places = Places(in_workers, queue)
        self._store = store
        self._limit = limit
        self._files = files
        self._sessions = Sessions()
        self._going: dict[str, _Going] = {}
        self._going_by_key: dict[str, _Going] = {}
        self.is_stopping = False

    async def start(self, asked: Asked, task_of: Callable[[Asked], Task]) -> Run:
        """Start a run, in the session that was named or in a new one. It begins `queued`.

        A start with a key that is known gives the run that this key has started, as it is now, even if its task is gone
        by now: `task_of` is asked for that of a new run only. Raises NotStarted, NotRecorded where that a run was
        started could not be written, and what `task_of` raises.
        """
        going = self._known(asked) or self._new(asked, task_of(asked))
        if isinstance(going, Run):
            return going
        run = going.run
        await going.is_recorded.wait()
        if going.refusal is not None:
            raise going.refusal
        return run

    @property
    def going(self) -> tuple[str, ...]:
        """The ids of the runs that have not ended, in the order of their starts."""
        return tuple(self._going)

    @property
    def running(self) -> int:
        """How many of them have begun."""
        return sum(going.run.status == "running" for going in self._going.values())

    async def trouble(self) -> str | None:
        """Why starts are refused just now: all, or those of sync functions; None while all is well."""
        executors = (self._places.executor.trouble, self._async_places.executor.trouble)
        return next(filter(None, executors), None) or await self._store.trouble()

    async def wait(self, run_id: str) -> Run:
        """A run that was started here, once it has ended."""
        going = self._going.get(run_id)
        if going is not None:
            await going.has_ended.wait()
        run = self._store.tell(run_id)
        assert run is not None
        return run

    async def all_ended(self) -> None:
        """Wait until no run goes on."""
        while self._going:
            await next(iter(self._going.values())).has_ended.wait()

    def tell(self, run_id: str) -> Run | None:
        """The run as it is now; None if there never was one, or if it ended so long ago that it was forgotten."""
        going = self._going.get(run_id)
        if going is None:
            return self._store.tell(run_id)
        return going.run if going.is_recorded.is_set() else None

    def wind_down(self) -> None:
        """Start no more runs, and end those that have not begun."""
        self.is_stopping = True
        for places in (self._places, self._async_places):
            places.executor.wind_down()
        for going in self._going.values():
            if going.run.status == "queued":
                going.scope.cancel()

    def stop(self) -> None:
        """End all runs as `cancelled`. There are no starts after that."""
        self.is_stopping = True
        for going in self._going.values():
            going.scope.cancel()

    def _known(self, asked: Asked) -> _Going | Run | None:
        """The run of this start's key, be it going on or ended. Raises KeyReused."""
        if asked.key is None:
            return None
        if going := self._going_by_key.get(asked.key):
            _check_same(asked, going.asked.fingerprint)
            return going
        if named := self._store.named(asked.key):
            _check_same(asked, named.fingerprint)
            return self._store.tell(named.run_id)
        return None

    def _new(self, asked: Asked, task: Task) -> _Going:
        places = self._async_places if task.is_async else self._places
        if self.is_stopping:
            raise Stopping("The service is stopping and starts no more runs.")
        if trouble := places.executor.trouble:
            raise Trouble(trouble)
        if places.are_full:
            raise QueueFull("The queue is full: too many runs wait for their turn.")
        going = _Going(asked)
        places.taken += 1
        self._going[going.run.run_id] = going
        if asked.key is not None:
            self._going_by_key[asked.key] = going
        self._group.start_soon(self._follow, going, task, places)
        return going

    async def _follow(self, going: _Going, task: Task, places: Places) -> None:
        """The whole life of a run. Nothing of it hangs on the request that started it."""
        try:
            await self._store.queued(going.run, going.asked)
        except NotRecorded as error:
            going.refusal = error
        else:
            going.is_recorded.set()
            await self._run(going, task, places)
        finally:
            places.taken -= 1
            del self._going[going.run.run_id]
            if going.asked.key is not None:
                del self._going_by_key[going.asked.key]
            going.is_recorded.set()
            going.has_ended.set()

    async def _run(self, going: _Going, task: Task, places: Places) -> None:
        ending = _NEVER_BEGUN
        try:
            with going.scope:
                async with self._sessions.turn(going.session_id), places.executor.places:
                    await self._store.running(going.run.run_id)
                    going.run = msgspec.structs.replace(going.run, status="running")
                    ending = _CUT_OFF
                    ending = await places.executor.run(self._call(going, task))
        except NotRecorded as error:
            ending = not_begun(f"That the run begins could not be recorded, so it did not begin: {error}")
        finally:
            with anyio.CancelScope(shield=True):
                await self._end(going, ending)

    def _call(self, going: _Going, task: Task) -> Call:
        asked = going.asked
        context = Context(going.run.run_id, going.session_id, self._files, asked.request.identity_id, asked.row)
        limit = self._limit if task.timeout is None else min(self._limit, task.timeout)
        return Call(task.source, asked.request.input_params, context, limit, repeatable=task.repeatable)

    async def _end(self, going: _Going, ending: Ending) -> None:
        run = msgspec.structs.replace(
            going.run, status=ending.status, error=ending.error, never_began=ending.never_began
        )
        await self._store.ended(run.with_result(ending.result))


class _Going:
    """A run that has not ended."""

    def __init__(self, asked: Asked) -> None:
        self.asked = asked
        self.session_id = asked.request.session_id or f"session_{uuid.uuid4().hex}"
        self.run = Run(f"run_{uuid.uuid4().hex}", "queued", session_id=self.session_id)
        self.scope = anyio.CancelScope()
        self.refusal: NotRecorded | None = None
        self.is_recorded = anyio.Event()
        self.has_ended = anyio.Event()


def _check_same(asked: Asked, fingerprint: bytes) -> None:
    if asked.fingerprint != fingerprint:
        raise KeyReused("This Idempotency-Key was used for a start with another task or body.")
