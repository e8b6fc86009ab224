"""Runs sync functions on a Dask cluster, and says what becomes of calls that were lost."""

from __future__ import annotations

import uuid
from collections import deque
from itertools import zip_longest
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import msgspec
from anyio import to_thread
from anyio.lowlevel import checkpoint

from batch_runner import log
from batch_runner._version import __version__
from batch_runner.service.local import result
from batch_runner.service.local.dask.bundle import (
    FILES_LIMIT,
    NOT_REPEATED,
    SOURCE,
    Bundle,
    BundledCall,
    Done,
    PendingCall,
    code_of,
    done_by,
    merged,
    named_files,
)
from batch_runner.service.local.dask.connection import Connection
from batch_runner.service.local.process_pool import AHEAD_SECONDS
from batch_runner.service.local.tasks import Executor

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_runner.service.local.result import RunEnd
    from batch_runner.service.local.tasks import Call, TaskSource


STOPPED = "the service was stopped"

WORKER_LOST = "the Dask worker that had it went away"


BUNDLE_SECONDS = 0.4
"""Repeatable calls are bundled until they take so long together: Dask's own work for one task is milliseconds."""

MOST_IN_BUNDLE = 64

MOST_UNREPEATABLE = 8
"""The same for calls that may not be repeated, which are bundled until they take `AHEAD_SECONDS`. With the scheduler
it is lost which of them have begun."""

AT_HAND = 2
"""Bundles for each thread of a worker: one at work, and one at hand so that it needn't wait for our next."""

CANCELLED_WITHIN = 1.0
"""Seconds in which a bundle of short calls ends by itself, so that the cancellation of one cuts off no other."""


NO_WORKERS_FOR = 60.0
"""Seconds without workers until it is trouble: a cluster that grows with its work needs a while for its first."""

GIVEN_UP_AFTER = 960.0
"""Seconds of an outage after which the runs that wait are ended. A batch gives up starting a minute before, so its
rows are not sent after those that are ended here."""


class Availability:
    """Knows whether a cluster can run calls now, from what is seen of it now and then, and tells a person when it
    changes."""

    def __init__(self) -> None:
        self._threads: int | None = 1
        self._since = 0.0
        self.lasts = 0.0
        """Seconds for which nothing could be run; 0 while all is well."""

    def look(self, threads: int | None, now: float) -> None:
        """So many threads of workers are there; None where the scheduler is away."""
        was = self._threads
        self._threads = threads
        if threads:
            self.lasts = 0.0
            if not was:
                log.info("the Dask cluster has workers again")
        else:
            self._since = now if was else self._since
            self.lasts = now - self._since
        if threads is None and was is not None:
            log.warning(
                "the Dask scheduler went away, or stands still; nothing is started until it answers: "
                "where it has ended, start it and its workers again, or end this program with Ctrl-C"
            )
        if threads is not None and was is None:
            log.warning("the Dask scheduler answers again")
        if threads == 0 and was != 0:
            log.warning(
                "the Dask cluster has no workers; runs wait until there are some: start one with `dask worker`, "
                "or end this program with Ctrl-C"
            )

    @property
    def trouble(self) -> str | None:
        """What a start is told where there have been no workers for a while."""
        if self._threads == 0 and self.lasts >= NO_WORKERS_FOR:
            return f"The Dask cluster has had no workers with batch_runner {__version__} for {self.lasts:.0f} s."
        return None

    @property
    def verdict(self) -> str | None:
        """Why the runs that wait are to wait no longer; None while they are to."""
        if self.lasts < GIVEN_UP_AFTER or self._threads:
            return None
        what = "the Dask scheduler was away" if self._threads is None else "the Dask cluster had no workers"
        return f"{what} for {self.lasts:.0f} s"


class OnCluster(Executor):
    """Runs sync functions on a Dask cluster: `address` is its scheduler's, or `local` for one of our own.

    With `send_files` the files that a call's params name go along with it; else the workers share the folder. The
    cluster of our own has so many `workers`.
    """

    def __init__(self, address: str, *, send_files: bool = False, workers: int | None = None) -> None:
        self.places = anyio.CapacityLimiter(1)
        self.runs_are_short = False
        self._connection = Connection(address, workers)
        self._send_files = send_files
        self._codes: dict[str | None, dict[str, bytes]] = {}
        self._threads: int | None = 1
        self._outage = Availability()
        self._pace: dict[TaskSource, float] = {}
        self._together: dict[TaskSource, int] = {}
        self._waiting: deque[PendingCall] = deque()
        self._under_way: set[PendingCall] = set()
        self._bundles = 0
        self._is_winding_down = False

    @property
    def session(self) -> str:  # type: ignore[override]
        """See Executor."""
        return self._connection.session

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
        await self._withdraw(self._under_way)
        for way in [way for way in self._under_way if way.key is None]:
            way.give_up(STOPPED)

    async def _withdraw(self, ways: Iterable[PendingCall]) -> None:
        """What has not begun of the bundles of these never will: its calls have no key any more."""
        bundles = {way.key: [each.errand.call.context.run_id for each in way.bundle] for way in ways if way.key}
        begun = await self._connection.withdraw(bundles) if bundles else {}
        for way in self._under_way:
            number = begun.get(way.key) if way.key else None
            if number == 0 or (number and not way.errand.call.repeatable and way.bundle.index(way) >= number):
                way.key = None

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
        try:
            await checkpoint()  # what comes in the same turn goes together
            self._send()
            await way.has_ended.wait()
        except anyio.get_cancelled_exc_class():
            way.is_wanted = False
            with anyio.CancelScope(shield=True):
                await self._cancel(way)
            raise
        return way.told

    def _keep_code(self, file: str | None) -> None:
        """The task's files as they were when they were first needed: the same for the whole batch."""
        if file not in self._codes:
            self._codes[file] = code_of(file)

    async def _cancel(self, way: PendingCall) -> None:
        """Nobody waits for this call any more. It ends, and no other's run is cut off."""
        if way in self._waiting:
            self._waiting.remove(way)
        if way.ending is not None:
            return
        await checkpoint()  # the others of its bundle may be cancelled, too
        if way.key is not None and way.others and not way.errand.call.repeatable:
            await self._withdraw([way])
            with anyio.move_on_after(CANCELLED_WITHIN):
                while way.key is not None and way in self._under_way:
                    await anyio.sleep(0.02)
                return
        if way.scope is not None:
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
        return AT_HAND * self._threads if self._threads else 1

    def _bundle(self) -> list[PendingCall]:
        """The calls of the next bundle: one, or several of the same task that is short."""
        ways = [self._waiting.popleft()]
        call, size = ways[0].errand.call, ways[0].errand.size
        free = max(1, self._most_bundles - self._bundles + 1)
        most = min(self._in_bundle(call), ceil((len(self._waiting) + 1) / free))
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
                    way.scope, way.bundle = scope, ways
                if ways:
                    await self._deliver(ways)
        finally:
            self._bundles -= 1
            self._under_way.difference_update(ways)
        if scope.cancelled_caught:
            _cut_short(ways, "it was in a bundle with a run that was cancelled")
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

    def _take(self, ways: list[PendingCall], all_done: list[Done | None]) -> None:
        """What came back for the calls of a bundle, in order: None, or nothing, for one that was lost."""
        first = all_done[0]
        if first is not None and first.declined_by is not None:
            self._decline(ways, first, first.declined_by)
            return
        for way, done in zip_longest(ways, all_done):
            if done is not None and done.is_left:
                way.key = None
            elif done is not None:
                for line in done.lines:
                    line.log()
                self._learn(way.errand.call, done.seconds)
                way.end(done.ending)
            elif way.key is not None:  # else it was withdrawn before it had begun
                _lose([way], WORKER_LOST)

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

    async def _ask(self, ways: list[PendingCall]) -> list[Done | None]:
        from distributed.client import FutureCancelledError

        await self._connection.ready()
        key = f"{ways[0].errand.call.source.function}-{uuid.uuid4().hex}"
        code = self._codes[ways[0].errand.call.source.file]
        bundle = msgspec.msgpack.encode(Bundle(key, tuple(way.errand for way in ways), code))
        values = {"source": SOURCE, "version": __version__, "key": key, "bundle": bundle}
        for way in ways:
            way.key = key
        try:
            future = await self._connection.submit(key, values)
        except Exception:  # nothing was sent: the connection was closed just now
            for way in ways:
                way.key = None
            raise
        try:
            told = done_by(await self._connection.result_of(future))
            all_done: list[Done | None] = [*told]
            if not told or told[0].begun_before:
                all_done = merged(told, done_by(await self._connection.answer(key)), len(ways))
            if len(all_done) < len(ways) or None in all_done:
                await self._withdraw(ways)
        except FutureCancelledError:  # the connection was lost, or all of the cluster's tasks were given up
            if not ways[0].errand.call.repeatable:
                await self._connection.back()
                await self._withdraw(ways)
            raise
        except Exception:
            await self._withdraw(ways)  # while the scheduler knows of it: it may only have waited
            raise
        finally:
            self._connection.release(future)
        return all_done

    def _learn(self, call: Call, seconds: float) -> None:
        """How long a call of this task takes."""
        self._pace[call.source] = 0.7 * self._pace.get(call.source, seconds) + 0.3 * seconds
        self._together[call.source] = self._in_bundle(call)
        self._fit()

    def _in_bundle(self, call: Call) -> int:
        most, together = (MOST_IN_BUNDLE, BUNDLE_SECONDS) if call.repeatable else (MOST_UNREPEATABLE, AHEAD_SECONDS)
        pace = self._pace.get(call.source, together)
        return min(most, max(1, int(together / max(pace, 1e-6))))

    def _follow(self, threads: int | None) -> None:
        """So many threads are there now; None while the scheduler is away."""
        self._threads = threads
        self._outage.look(threads, anyio.current_time())
        if why := self._outage.verdict:
            self._group.start_soon(self._abandon, why)
        if threads is not None:
            self._fit()
            self._send()

    async def _abandon(self, why: str) -> None:
        """Wait no longer. Where only the workers are away, the scheduler says what has not begun."""
        await self._withdraw(self._under_way)
        self._give_up([*self._waiting, *self._under_way], why)

    def _give_up(self, ways: Iterable[PendingCall], why: str) -> None:
        """Wait no longer; nothing is left waiting then."""
        for way in ways:
            way.give_up(why)
        self._waiting.clear()

    def _fit(self) -> None:
        fits = AT_HAND * max(1, self._threads or 0) * max(self._together.values(), default=1)
        if fits != self.places.total_tokens:
            self.places.total_tokens = fits


def _begun(ways: list[PendingCall], why: str) -> list[PendingCall]:
    """Those that may have begun of a bundle that was lost. The others are sent again."""
    for way in ways:
        if way.key is None:
            way.miss(why)
    return [way for way in ways if way.key is not None]


def _end(ways: list[PendingCall], sentence: str) -> None:
    for way in _begun(ways, sentence):
        if way.errand.call.repeatable:
            way.fail(sentence)
        else:
            way.cut_off(f"{sentence}; {NOT_REPEATED}.")


def _lose(ways: list[PendingCall], why: str) -> None:
    """Which call of a bundle took its worker down, if one did, is found out with each alone."""
    for way in _begun(ways, why):
        way.goes_alone = way.goes_alone or len(ways) > 1
        way.lose(why)


def _cut_short(ways: list[PendingCall], why: str) -> None:
    for way in ways:
        if way.errand.call.repeatable or way.key is None:
            way.recall(why)
        elif way.is_open:
            way.lose(why)


def _lose_killed(ways: list[PendingCall], last: str) -> None:
    """One worker after another went away with a bundle, before any of them could say so: as `_lose`."""
    for way in _begun(ways, f"one Dask worker after another went away, {last} as the last"):
        if len(ways) > 1 and way.errand.call.repeatable:
            way.goes_alone = True
            way.recall(WORKER_LOST)
        else:
            way.cut_off(f"one Dask worker after another went away with it, {last} as the last.")
