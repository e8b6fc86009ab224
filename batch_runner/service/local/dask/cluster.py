"""Runs sync functions on a Dask cluster, and says what becomes of calls that were lost."""

from __future__ import annotations

import uuid
from collections import deque
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import msgspec
from anyio import to_thread

from batch_runner import log
from batch_runner._version import __version__
from batch_runner.service.local import result
from batch_runner.service.local.dask.bundle import (
    FILES_LIMIT,
    NOT_REPEATED,
    SENT,
    SOURCE,
    Bundle,
    BundledCall,
    Done,
    code_of,
    done_by,
    named_files,
)
from batch_runner.service.local.dask.connection import Availability, Connection
from batch_runner.service.local.process_pool import AHEAD_SECONDS
from batch_runner.service.local.tasks import Executor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_runner.service.local.result import RunEnd
    from batch_runner.service.local.tasks import Call, TaskSource


MOST_LOSSES = 3
"""How often a repeatable call is sent again after it was lost."""

STOPPED = "the service was stopped"

WORKER_LOST = "the Dask worker that had it went away"


class PendingCall:
    """One call from the moment that it is to be sent."""

    def __init__(self, errand: BundledCall) -> None:
        self.errand = errand
        self.ending: RunEnd | None = None
        self.has_ended = anyio.Event()
        self.is_wanted = True
        self.key: str | None = None
        """That of its bundle, once Dask has had it, so that it may have begun."""
        self.goes_alone = False
        """Whether it was in a bundle that took its workers down: no other call is to go with it again."""
        self.scope: anyio.CancelScope | None = None
        """That of the bundle which it is in."""
        self._losses = 0
        self._lost_by: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether somebody still waits for its end."""
        return self.is_wanted and self.ending is None

    @property
    def told(self) -> RunEnd:
        """Its ending, once it has ended."""
        assert self.ending is not None
        return self.ending

    @property
    def may_share(self) -> bool:
        """Whether other calls may be in a bundle with it."""
        return self.errand.call.repeatable and not self.goes_alone

    def may_share_with(self, other: PendingCall) -> bool:
        """Whether it may be in a bundle with that one: calls of the same task."""
        return self.may_share and self.errand.call.source == other.errand.call.source

    def end(self, ending: RunEnd) -> None:
        """It has ended so; what may have run before is said."""
        if self._lost_by is not None and self.errand.call.repeatable:
            context = self.errand.call.context
            log.warning(f"may have run twice: {self._lost_by}", row=context.row, run_id=context.run_id)
        self.ending = ending
        self.has_ended.set()

    def fail(self, sentence: str) -> None:
        """It ends as `failure`."""
        self.end(result.failure(sentence))

    def cut_off(self, why: str) -> None:
        """It may have run, in part or to its end, and is not run again."""
        self.end(result.cut_off(f"worker lost: {why}", repeatable=self.errand.call.repeatable))

    def recall(self, why: str) -> None:
        """It is to be begun again, though it may have run if Dask has had it."""
        if self.key is not None:
            self._lost_by = why

    def lose(self, why: str) -> None:
        """It may have run, in part or to its end: it ends with that, but for one that is to be repeated."""
        self._losses += 1
        if self._losses > MOST_LOSSES or not self.errand.call.repeatable:
            self.cut_off(f"{why}; {NOT_REPEATED}.")
        else:
            self.recall(why)

    def give_up(self, why: str) -> None:
        """Wait no longer for a cluster that is not there."""
        if not self.is_open:
            return
        if self.key is not None or self._lost_by is not None:
            self.cut_off(f"{why} while it was under way; {NOT_REPEATED}.")
        else:
            self.end(result.not_begun(f"It was not begun: {why}."))
        if self.scope is not None:
            self.scope.cancel()


BUNDLE_SECONDS = 0.4
"""Repeatable calls are bundled until they take so long together: Dask's own work for one task is milliseconds."""

MOST_IN_BUNDLE = 64

AT_HAND = 2
"""Bundles for each thread of a worker: one at work, and one at hand so that it needn't wait for our next."""

MOST_AT_HAND = 16
"""The same for calls that go alone and are so short that one at hand has ended before our next is there."""


class OnCluster(Executor):
    """Runs sync functions on a Dask cluster: `address` is its scheduler's, or `local` for one of our own.

    With `send_files` the files that a call's params name go along with it; else the workers share the folder. The
    cluster of our own has so many `workers`.
    """

    def __init__(self, address: str, *, send_files: bool = False, workers: int | None = None) -> None:
        self.places = anyio.CapacityLimiter(1)
        self.runs_are_short = False
        self._connection = Connection(address, workers)
        self.session = self._connection.session
        self._send_files = send_files
        self._codes: dict[str | None, dict[str, bytes]] = {}
        self._threads: int | None = 1
        self._outage = Availability()
        self._pace: dict[TaskSource, float] = {}
        self._lone_pace: dict[TaskSource, float] = {}
        self._waiting: deque[PendingCall] = deque()
        self._under_way: set[PendingCall] = set()
        self._bundles = 0
        self._is_winding_down = False

    @property
    def trouble(self) -> str | None:
        """See Executor."""
        return self._connection.trouble or self._outage.trouble

    async def open(self) -> None:
        """See Executor."""
        self._follow(await self._connection.open())
        self._group = await anyio.create_task_group().__aenter__()
        self._group.start_soon(self._connection.watch, self._follow)

    async def never_began(self, run_id: str) -> bool:
        """See Executor."""
        return await self._connection.never_began(run_id)

    def wind_down(self) -> None:
        """See Executor."""
        self._is_winding_down = True
        self._send()
        self._group.start_soon(self._hold_back)

    async def _hold_back(self) -> None:
        """What waits in Dask doesn't begin either. Where the scheduler is away, nobody can say which that is."""
        keys = [*dict.fromkeys(way.key for way in self._under_way if way.key)]
        withdrawn = await self._connection.withdraw(keys)
        for way in [way for way in self._under_way if way.key is None or way.key in withdrawn]:
            way.key = None
            way.give_up(STOPPED)

    async def aclose(self) -> None:
        """See Executor. What is still at work on the cluster is killed there."""
        self._group.cancel_scope.cancel()
        try:
            await self._group.__aexit__(None, None, None)
        finally:
            await self._connection.aclose()

    async def run(self, call: Call) -> RunEnd:
        """See Executor. Cancelled, it ends the call on its worker a moment later."""
        try:
            files = str(Path(call.context.files).absolute())
            call = msgspec.structs.replace(call, context=msgspec.structs.replace(call.context, files=files))
            named = await to_thread.run_sync(named_files, call) if self._send_files else None
            way = PendingCall(BundledCall(call, named))
            self._keep_code(call.source.file)
        except (result.TaskFailed, OSError) as error:
            return result.exception(error)
        if why := self._outage.verdict:
            way.give_up(why)
            return way.told
        self._waiting.append(way)
        self._send()
        try:
            await way.has_ended.wait()
        finally:
            self._withdraw(way)
        return way.told

    def _keep_code(self, file: str | None) -> None:
        """The task's files as they were when they were first needed: the same for the whole batch."""
        if file not in self._codes:
            self._codes[file] = code_of(file)

    def _withdraw(self, way: PendingCall) -> None:
        way.is_wanted = False
        if way.ending is not None:
            return
        if way in self._waiting:
            self._waiting.remove(way)
        elif way.scope is not None:
            way.scope.cancel()

    def _send(self) -> None:
        if self._is_winding_down:
            self._give_up(self._waiting, STOPPED)
        while self._waiting and self._bundles < self._most_bundles:
            self._bundles += 1
            self._group.start_soon(self._carry, self._bundle())

    @property
    def _most_bundles(self) -> int:
        """Where there are no workers, one may wait in Dask, which may start some for it."""
        return self._at_hand * self._threads if self._threads else 1

    @property
    def _at_hand(self) -> int:
        """So many bundles for each thread."""
        ahead = AHEAD_SECONDS / max(self._lone_pace.values(), default=AHEAD_SECONDS)
        return max(AT_HAND, min(MOST_AT_HAND, int(ahead)))

    def _bundle(self) -> list[PendingCall]:
        """The calls of the next bundle: one, or several of the same task that is short and may be repeated."""
        ways = [self._waiting.popleft()]
        call, size = ways[0].errand.call, ways[0].errand.size
        free = max(1, self._most_bundles - self._bundles + 1)
        most = min(self._in_bundle(call.source), ceil((len(self._waiting) + 1) / free)) if ways[0].may_share else 1
        while len(ways) < most and self._waiting and self._waiting[0].may_share_with(ways[0]):
            size += self._waiting[0].errand.size
            if size > FILES_LIMIT:
                break
            ways.append(self._waiting.popleft())
        return ways

    async def _carry(self, ways: list[PendingCall]) -> None:
        """Send a bundle and end its calls; those that were not begun, or are to be repeated, wait again."""
        ways = [way for way in ways if way.is_open]
        self._under_way.update(ways)
        try:
            with anyio.CancelScope() as scope:
                for way in ways:
                    way.scope = scope
                if ways:
                    await self._deliver(ways)
        finally:
            self._bundles -= 1
            self._under_way.difference_update(ways)
        if scope.cancelled_caught:
            _recall(ways, "it was in a bundle with a run that was cancelled")
        self._waiting.extendleft(way for way in reversed(ways) if way.is_open)
        self._send()

    async def _deliver(self, ways: list[PendingCall]) -> None:
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError

        try:
            self._take(ways, await self._ask(ways))
        except (FutureCancelledError, OSError):
            _lose(ways, "the Dask scheduler went away while it was under way")
        except KilledWorker as error:
            _lose_killed(ways, error.last_worker.address)
        except Exception as error:  # noqa: BLE001  what a foreign worker can't do is the ending of these runs
            _end(ways, f"The Dask worker can't run this: {result.exception(error).error}")

    def _take(self, ways: list[PendingCall], all_done: list[Done]) -> None:
        """What came back for a bundle: the endings of the first of its calls, of none if its worker was closed."""
        if not all_done:
            _lose(ways, WORKER_LOST)
            return
        if all_done[0].declined_by is not None:
            self._decline(ways, all_done[0], all_done[0].declined_by)
            return
        for way, done in zip(ways, all_done, strict=False):
            for line in done.lines:
                line.log()
            self._learn(way.errand.call, done.seconds)
            way.end(done.ending)
        for way in ways[len(all_done) :]:
            way.key = None

    def _decline(self, ways: list[PendingCall], done: Done, worker: str) -> None:
        """A worker didn't begin these: they go to others.

        What the last worker can't load is a mistake of the task's, not of that machine's.
        """
        if done.ending.cant_load and self._connection.has_no_other(worker):
            for way in ways:
                way.end(done.ending)
            return
        if self._connection.avoid(worker):
            advice = "" if done.ending.cant_load else "; install the same there."
            log.warning(f"{done.ending.error}{advice} Nothing more is sent to it")
        for way in ways:
            way.key = None

    async def _ask(self, ways: list[PendingCall]) -> list[Done]:
        import dask

        client, workers = await self._connection.ready()
        key = f"{ways[0].errand.call.source.function}-{uuid.uuid4().hex}"
        for way in ways:
            way.key = key
        code = self._codes[ways[0].errand.call.source.file]
        bundle = msgspec.msgpack.encode(Bundle(key, tuple(way.errand for way in ways), code))
        with dask.config.set({"distributed.admin.large-graph-warning-threshold": 4 * FILES_LIMIT}):
            where = {"workers": workers, "allow_other_workers": workers is not None}
            values = {"source": SOURCE, "version": __version__, "key": key, "bundle": bundle}
            future = client.submit(eval, SENT, values, key=key, pure=False, **where)
        try:
            all_done = done_by(await self._connection.result_of(future))
            if all_done and all_done[0].begun_before:
                all_done = done_by(await self._connection.answer(key))
            return all_done
        finally:
            future.release()

    def _learn(self, call: Call, seconds: float) -> None:
        """How long a call of this task takes."""
        pace = self._pace if call.repeatable else self._lone_pace
        pace[call.source] = 0.7 * pace.get(call.source, seconds) + 0.3 * seconds
        self._fit()

    def _in_bundle(self, source: TaskSource) -> int:
        pace = self._pace.get(source, BUNDLE_SECONDS)
        return min(MOST_IN_BUNDLE, max(1, int(BUNDLE_SECONDS / max(pace, 1e-6))))

    def _follow(self, threads: int | None) -> None:
        """So many threads are there now; None while the scheduler is away."""
        self._threads = threads
        self._outage.look(threads, anyio.current_time())
        if why := self._outage.verdict:
            self._give_up([*self._waiting, *self._under_way], why)
        if threads is not None:
            self._fit()
            self._send()

    def _give_up(self, ways: Iterable[PendingCall], why: str) -> None:
        """Wait no longer; nothing is left waiting then."""
        for way in ways:
            way.give_up(why)
        self._waiting.clear()

    def _fit(self) -> None:
        fits = self._at_hand * max(1, self._threads or 0) * max(map(self._in_bundle, self._pace), default=1)
        if fits != self.places.total_tokens:
            self.places.total_tokens = fits


def _end(ways: list[PendingCall], sentence: str) -> None:
    for way in ways:
        way.fail(sentence)


def _lose(ways: list[PendingCall], why: str) -> None:
    """Which call of a bundle took its worker down, if one did, is found out with each alone."""
    for way in ways:
        way.goes_alone = way.goes_alone or len(ways) > 1
        way.lose(why)


def _recall(ways: list[PendingCall], why: str) -> None:
    for way in ways:
        way.recall(why)


def _lose_killed(ways: list[PendingCall], last: str) -> None:
    """One worker after another went away with a bundle, before any of them could say so: as `_lose`."""
    for way in ways:
        if len(ways) > 1:
            way.goes_alone = True
            way.recall(WORKER_LOST)
        else:
            way.cut_off(f"one Dask worker after another went away with it, {last} as the last.")
