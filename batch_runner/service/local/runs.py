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
from anyio.lowlevel import checkpoint

from batch_runner.service.local.context import Context
from batch_runner.service.local.result import RunEnd, not_begun
from batch_runner.service.local.store import NotRecorded, fingerprint_of
from batch_runner.service.local.tasks import Call, Task
from batch_runner.service.protocol import RefusalScope, Refused, Run, Signal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from anyio.abc import TaskGroup

    from batch_runner.service.local.store import Store
    from batch_runner.service.local.tasks import Executor, Tasks
    from batch_runner.service.protocol import StartRequest


class Queue:
    """The runs that have a place of an executor or wait for one: so many are `taken`."""

    def __init__(self, executor: Executor, longest: int | None) -> None:
        self.executor = executor
        self.taken = 0
        self._longest = longest

    @property
    def is_full(self) -> bool:
        """Whether as many runs wait as may, beside those that fit."""
        return self._longest is not None and self.taken >= self.executor.places.total_tokens + self._longest

    def enter_at_once(self, run: _Going) -> None:
        """Take a place of the executor if one is free."""
        with contextlib.suppress(anyio.WouldBlock):
            self.executor.places.acquire_on_behalf_of_nowait(run)
            run.has_place = True

    async def enter(self, run: _Going) -> None:
        """Wait for a place of the executor."""
        await self.executor.places.acquire_on_behalf_of(run)
        run.has_place = True

    def leave(self, run: _Going) -> None:
        """Give the place back, if there is one to give."""
        if run.has_place:
            self.executor.places.release_on_behalf_of(run)
            run.has_place = False


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
_CUT_OFF = RunEnd("cancelled", error="The service was stopped before the run had ended.")

_LATER = Signal(retry_after=5.0)
"""Seconds after which a start may be tried again."""


def refusal_for_now(why: str, status_code: int = 503) -> Refused:
    """No run was started; that may be otherwise in a moment."""
    return Refused(why, status_code, RefusalScope.LATER, _LATER)


MOMENT = 0.5
"""Seconds that a start waits for a run's end where runs are short: on a busy machine its commits alone take 0.1."""

VERSIONS = (None, "latest", "1")
"""Of a task that runs here there is only one."""


class Runs:
    """All runs of a service: those that go on are here, those that have ended in the store.

    `queue` is how many may wait for a place in their executor; None: any number.
    """

    def __init__(
        self,
        group: TaskGroup,
        tasks: Tasks,
        in_loop: Executor,
        in_workers: Executor,
        *,
        store: Store,
        limit: float,
        queue: int | None = None,
    ) -> None:
        self._group = group
        self._tasks = tasks
        self._async_queue = Queue(in_loop, queue)
        self._queue = Queue(in_workers, queue)
        self._store = store
        self._limit = limit
        self._files = str(tasks.files)
        self._sessions = Sessions()
        self._going: dict[str, _Going] = {}
        self._going_by_key: dict[str, _Going] = {}
        self.is_stopping = False

    async def start(self, request: StartRequest) -> Run | Refused:
        """Start a run, in the session that was named or in a new one. It is `queued`, unless it has ended by now.

        Where runs are short the end is waited for a moment: then nobody has to look for it.

        A start with a key that is known gives the run that this key has started, as it is now, even if its task is gone
        by now. With `sync` the answer comes when the run has ended.
        """
        going = self._known(request) or self._new(request)
        if not isinstance(going, _Going):
            return going
        run = going.run
        await going.is_recorded.wait()
        if going.refusal is not None:
            return going.refusal
        if request.run.sync:
            await going.has_ended.wait()
        elif going.is_short and not going.has_ended.is_set():
            with anyio.move_on_after(MOMENT):
                await going.has_ended.wait()
        return self._ended(going) if going.has_ended.is_set() else run

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
        executors = (self._queue.executor.trouble, self._async_queue.executor.trouble)
        return next(filter(None, executors), None) or await self._store.trouble()

    async def look(self, run_id: str, wait: float = 0.0) -> Run | None:
        """The run as it is now, or when it has ended, if that is within `wait` seconds.

        None if there never was one, or if it ended so long ago that it was forgotten.
        """
        going = self._going.get(run_id)
        if going is None:
            return self._store.tell(run_id)
        if wait:
            with anyio.move_on_after(wait):
                await going.has_ended.wait()
            if going.has_ended.is_set():
                return self._ended(going)
        return going.run if going.is_recorded.is_set() else None

    def _ended(self, going: _Going) -> Run:
        self._store.told(going.run.run_id)
        return going.run

    async def all_ended(self) -> None:
        """Wait until no run goes on."""
        while self._going:
            await next(iter(self._going.values())).has_ended.wait()

    def wind_down(self) -> None:
        """Start no more runs, and end those that have not begun."""
        self.is_stopping = True
        for queue in (self._queue, self._async_queue):
            queue.executor.wind_down()
        for going in self._going.values():
            if going.run.status == "queued":
                going.scope.cancel()

    async def stop(self, run_id: str) -> Run | None:
        """End a run as `cancelled`, unless it has ended; it as it is then, None where there is none."""
        if going := self._going.get(run_id):
            going.scope.cancel()
            await going.has_ended.wait()
        return self._store.tell(run_id)

    def stop_all(self) -> None:
        """End all runs as `cancelled`. There are no starts after that."""
        self.is_stopping = True
        for going in self._going.values():
            going.scope.cancel()

    def _known(self, request: StartRequest) -> _Going | Run | Refused | None:
        """The run of this start's key, be it going on or ended; a refusal where the key is another start's."""
        if request.key is None:
            return None
        going, named = self._going_by_key.get(request.key), self._store.named(request.key)
        if going is not None:
            known: _Going | Run | None = going
            first = fingerprint_of(going.request)
        elif named is not None:
            known, first = self._store.tell(named.run_id), named.fingerprint
        else:
            return None
        if first == fingerprint_of(request):
            return known
        return Refused("This Idempotency-Key was used for a start with another task or body.", 422, RefusalScope.ROW)

    def _new(self, request: StartRequest) -> _Going | Refused:
        task = self._tasks.find(request.task_id)
        if task is None:
            there = ", ".join(sorted(self._tasks.by_id))
            return Refused(f"There is no task {request.task_id!r}; there is {there}.", 404, RefusalScope.TASK)
        if (version := request.run.version) not in VERSIONS:
            why = f"The task {request.task_id!r} has no version {version!r}; it has 1, which is the latest."
            return Refused(why, 404, RefusalScope.TASK)
        queue = self._async_queue if task.is_async else self._queue
        if self.is_stopping:
            return refusal_for_now("The service is stopping and starts no more runs.")
        if trouble := queue.executor.trouble:
            return refusal_for_now(trouble)
        if queue.is_full:
            return refusal_for_now("The queue is full: too many runs wait for their turn.", 429)
        going = _Going(request, queue.executor)
        queue.taken += 1
        self._going[going.run.run_id] = going
        if request.key is not None:
            self._going_by_key[request.key] = going
        self._group.start_soon(self._follow, going, task, queue)
        return going

    async def _follow(self, going: _Going, task: Task, queue: Queue) -> None:
        """The whole life of a run. Nothing of it hangs on the request that started it."""
        if going.request.run.session_id is None:  # nobody else is in its session
            queue.enter_at_once(going)
        # What begins at once is recorded as begun with its start: one commit for both.
        recorded = msgspec.structs.replace(going.run, status="running") if going.has_place else going.run
        try:
            await self._store.queued(recorded, going.request)
        except NotRecorded as error:
            going.refusal = refusal_for_now(f"The run could not be recorded, so it was not started: {error}.")
        else:
            going.is_recorded.set()
            await self._run(going, task, queue)
        finally:
            queue.leave(going)
            queue.taken -= 1
            del self._going[going.run.run_id]
            if going.request.key is not None:
                del self._going_by_key[going.request.key]
            going.is_recorded.set()
            going.has_ended.set()

    async def _run(self, going: _Going, task: Task, queue: Queue) -> None:
        try:
            with going.scope:
                if going.request.run.session_id is None:
                    await self._work(going, task, queue)
                else:
                    async with self._sessions.turn(going.request.run.session_id):
                        await self._work(going, task, queue)
        except NotRecorded as error:
            going.ending = not_begun(f"That the run begins could not be recorded, so it did not begin: {error}")
        finally:
            await self._end(going)

    async def _work(self, going: _Going, task: Task, queue: Queue) -> None:
        request, session_id = going.request, going.run.session_id or ""
        context = Context(going.run.run_id, session_id, self._files, request.run.identity_id, request.row_number)
        limit = self._limit if task.timeout is None else min(self._limit, task.timeout)
        call = Call(task.source, request.run.input_params, context, limit, repeatable=task.repeatable)
        try:
            if not going.has_place:
                await queue.enter(going)
                await self._store.running(going.run.run_id)
            if going.scope.cancel_called:  # since the last wait: it would begin all the same, and be cut off
                await checkpoint()
            going.run = msgspec.structs.replace(going.run, status="running")
            going.ending = _CUT_OFF
            going.ending = await queue.executor.run(call)
        finally:
            queue.leave(going)

    async def _end(self, going: _Going) -> None:
        """Record the end, which no cancellation cuts short (see Store)."""
        ending = going.ending
        run = msgspec.structs.replace(
            going.run,
            status=ending.status,
            error=ending.error,
            never_began=ending.never_began,
            cut_off=ending.cut_off,
        ).with_result(ending.result)
        await self._store.ended(run)
        going.run = run


class _Going:
    """A run that has not ended."""

    def __init__(self, request: StartRequest, executor: Executor) -> None:
        self.request = request
        self.is_short = executor.runs_are_short
        self.has_place = False
        name = (executor.session + uuid.uuid4().hex)[:32]
        self.run = Run(f"run_{name}", "queued", session_id=request.run.session_id or f"session_{name}")
        self.scope = anyio.CancelScope()
        self.ending = _NEVER_BEGUN
        """Its end, if it came now."""
        self.refusal: Refused | None = None
        self.is_recorded = anyio.Event()
        self.has_ended = anyio.Event()
