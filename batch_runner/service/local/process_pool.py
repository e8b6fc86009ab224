"""Where tasks run: async ones in this loop, sync ones in worker processes.

To run is one awaitable that gives the run's ending; to cancel it is to cancel that awaitable. A limit counts from the
moment that the task begins: neither waiting for a turn nor starting a worker is part of it.

Calls of short tasks are sent to a worker ahead of their turn, so that it needn't wait for us between two. A worker
runs its calls in order and sends each ending before it begins the next. So when it is gone, what it sent is read to its
end: the first call without an ending may have begun, and none after it has.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import msgspec
from anyio import to_thread
from anyio.lowlevel import checkpoint

from batch_runner.errors import SIGNALS
from batch_runner.fs import OWN_GROUP
from batch_runner.service.local import result
from batch_runner.service.local.context import Line, Pipe, level_wanted
from batch_runner.service.local.result import RunEnd
from batch_runner.service.local.tasks import Executor
from batch_runner.service.local.worker_main import LENGTH_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable

    from anyio.abc import Process

    from batch_runner.service.local.tasks import Call, TaskSource


WORKER_MEMORY = 4 * 1024**3
"""Bytes of address space for one worker process, where the system can limit it."""

RUNS_PER_WORKER = 10_000
"""Runs after which a worker process is replaced, so that what a task leaks doesn't add up all night."""

AHEAD_SECONDS = 0.05
"""So much work may wait at a worker, at most: whoever waits there can't go to another that is free sooner."""

MOST_AHEAD = 64

_START_LIMIT = 60
"""Seconds within which a new worker process has to be ready."""

_LAST_ANSWERS = 5.0
"""Seconds in which a process that was killed must have let go of its pipe."""

_CHUNK = 2**18

_BOOT = """
import signal, sys
for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
    if signal.getsignal(number := getattr(signal, name, signal.SIGINT)) != signal.SIG_IGN:
        signal.signal(number, lambda *_: None)
memory, level, *sys.path = sys.argv[1:]
from batch_runner.service.local.worker_main import main
main(int(memory) or None, int(level))
"""


class InWorkers(Executor):
    """Runs sync functions in processes of their own, started when they are needed and used again.

    Each is a fresh interpreter (as with the start method spawn, but without importing the program's main module a
    second time: a script of a few lines may call us without a guard), in a process group of its own.
    """

    trouble = None

    def __init__(
        self,
        fits: int,
        *,
        memory: int | None = WORKER_MEMORY,
        runs_per_worker: int = RUNS_PER_WORKER,
        level: int | None = None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        """`level` is the lowest of what tasks log that matters to somebody: else that of this process's log.

        The lines that tasks print go to `tell`, from threads of their own; to this process's standard error without it.
        """
        self._level = level
        self._tell = tell
        self.places = anyio.CapacityLimiter(fits)
        self.runs_are_short = False
        self._fits = fits
        self._memory = memory
        self._runs_per_worker = runs_per_worker
        self._workers: list[_Worker] = []
        self._pace: dict[TaskSource, float] = {}

    async def open(self) -> None:
        """See Executor: a worker starts when it is needed."""

    async def run(self, call: Call, hear: Callable[[Line], None] = Line.log) -> RunEnd:
        """See Executor. A timeout or a cancellation kills the worker, and the programs that its task has started.

        What the task logs is told to `hear`.
        """
        sent = _SentCall(call, hear)
        while sent.ending is None:
            try:
                await self._worker().run(sent)
            finally:
                # Workers that are not to be used again end with their last call; once, where several calls end now.
                done = [worker for worker in self._workers if not (worker.takes_calls or worker.calls)]
                self._workers = [worker for worker in self._workers if worker not in done]
                for worker in done:
                    await worker.kill()
        self._learn(call.source, sent.seconds)
        return sent.ending

    def wind_down(self) -> None:
        """See Executor: a call that has its place is about to begin."""

    async def aclose(self) -> None:
        """See Executor."""
        while self._workers:
            await self._workers.pop().kill()

    def _worker(self) -> _Worker:
        """One that has nothing to do, else a new one while there is room, else the one with the least to do."""
        usable = [worker for worker in self._workers if worker.takes_calls]
        least = min(usable, key=lambda worker: len(worker.calls), default=None)
        if least is None or (least.calls and len(usable) < self._fits):
            level = level_wanted() if self._level is None else self._level
            least = _Worker(self._memory, level, self._tell, self._runs_per_worker)
            self._workers.append(least)
        return least

    def _learn(self, source: TaskSource, seconds: float) -> None:
        """How long a run of this task takes."""
        self._pace[source] = _pace_after(self._pace.get(source, AHEAD_SECONDS), seconds)
        fits = self._fits * (1 + min(MOST_AHEAD, int(AHEAD_SECONDS / max(self._pace.values()))))
        if fits != self.places.total_tokens:
            self.places.total_tokens = fits
            self.runs_are_short = fits > 2 * self._fits


def _pace_after(pace: float, seconds: float) -> float:
    """How long runs take, after one more. One that is slow counts at once, and is forgotten slowly."""
    return max(seconds, 0.9 * pace + 0.1 * seconds)


class _SentCall:
    """A call at a worker, or on its way to one."""

    def __init__(self, call: Call, hear: Callable[[Line], None]) -> None:
        self.call = call
        self.hear = hear
        self.ending: RunEnd | None = None
        self.seconds = 0.0
        self.turn: anyio.Event
        """It has ended, or it is the first of its worker's calls now, or the worker is gone."""


class _Worker:
    """A worker process from its parent's side.

    `calls` are those that it has, in order. Whoever waits for the first of them reads the answers.
    """

    def __init__(self, memory: int | None, level: int, tell: Callable[[str], None] | None, most_runs: int) -> None:
        self.calls: deque[_SentCall] = deque()
        self._memory = memory
        self._level = level
        self._tell = tell
        self._runs_left = most_runs
        self._process: Process | None = None
        self._prints: Pipe | None = None
        self._is_ready = False
        self._is_gone = False
        self._is_sending = False
        self._outbox = bytearray()
        self._inbox = bytearray()
        self._since = 0.0

    @property
    def takes_calls(self) -> bool:
        """Whether one more call may go to it."""
        is_alive = self._process is None or self._process.returncode is None
        return is_alive and not self._is_gone and self._runs_left > 0

    async def run(self, sent: _SentCall) -> None:
        """Run a call. Where it has no ending then, the worker was gone before it began. Cancelled, it kills the worker.

        A call that is cancelled before its turn waits for it, so that no other's run is cut off.
        """
        self._runs_left -= 1
        sent.turn = anyio.Event()
        self.calls.append(sent)
        message = msgspec.json.encode(sent.call)
        self._outbox += len(message).to_bytes(LENGTH_BYTES, "big") + message
        try:
            await self._run(sent)
        except anyio.get_cancelled_exc_class():
            with anyio.CancelScope(shield=True):
                if sent in self.calls and self.calls[0] is not sent:
                    await sent.turn.wait()
                if sent in self.calls:
                    await self._give_up(result.failure("It was cancelled."))
            raise

    async def _run(self, sent: _SentCall) -> None:
        if self.calls[0] is sent:
            if self._process is None:
                await self._start()
            self._since = time.monotonic()
        await self._send()
        if self.calls and self.calls[0] is not sent:
            await sent.turn.wait()
        if sent.ending is not None or self._is_gone:
            return
        with anyio.move_on_after(sent.call.limit):
            while sent.ending is None and not self._is_gone:
                await self._read()
            return
        await self._give_up(result.timeout(sent.call.limit))

    async def kill(self) -> None:
        """End the process and whatever its task has started; it takes no time that could be cancelled."""
        self._is_gone = True
        # Cancelled here, a task would go on with nobody to end it.
        with anyio.CancelScope(shield=True):
            if self._process is not None:
                _kill_group(self._process)
                await self._process.wait()
                await self._process.aclose()
            if self._prints:
                await to_thread.run_sync(self._prints.wait)

    async def _start(self) -> None:
        """Start the process, and wait until it has said that it is ready."""
        self._prints = Pipe(self._tell) if self._tell else None
        paths = (path or str(Path.cwd()) for path in sys.path)
        command = [sys.executable, "-c", _BOOT, str(self._memory or 0), str(self._level), *paths]
        try:
            with anyio.CancelScope(shield=True):  # cancelled halfway, asyncio forgets a process that is there
                stderr = self._prints.entrance if self._prints else None
                self._process = await anyio.open_process(command, stderr=stderr, **OWN_GROUP)
        except OSError as error:
            self._end(result.failure(f"The worker process could not be started: {error}"))
            return
        finally:
            if self._prints:
                self._prints.close()
        with anyio.move_on_after(_START_LIMIT):
            while not self._is_ready and not self._is_gone:
                await self._read()
            return
        await self._give_up(result.failure(f"The worker process could not be started in {_START_LIMIT} s."))

    async def _send(self) -> None:
        """Send what waits, unless somebody is about it. The worker always reads, so it takes no time.

        Calls that come in the same turn of the event loop go together.
        """
        if self._is_sending or not self._is_ready:
            return
        assert self._process is not None
        assert self._process.stdin is not None
        self._is_sending = True
        try:
            # Half a message would leave the worker waiting for its end, and the calls of others with it.
            with anyio.CancelScope(shield=True):
                while self._outbox and not self._is_gone:
                    await checkpoint()
                    message, self._outbox = bytes(self._outbox), bytearray()
                    await self._process.stdin.send(message)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return  # whoever reads its answers finds that it has ended
        finally:
            self._is_sending = False

    async def _read(self) -> None:
        """Take what the worker sends next; its end, too."""
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            self._inbox += await self._process.stdout.receive(_CHUNK)
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            self._end(self._cut_off(await self._process.wait()))
            return
        self._take()

    def _cut_off(self, code: int) -> RunEnd:
        """The ending of the first call where the process has ended with this code."""
        why = f"worker died: {_last_words(code)}"
        if self._is_ready:
            return result.cut_off(why, repeatable=self.calls[0].call.repeatable)
        why = f"The worker process could not be started: {why}"
        # A shutdown tells every process to end, also one that is not yet so far as to leave that to its parent.
        return result.not_begun(why) if -code in SIGNALS else result.failure(why)

    def _take(self) -> None:
        """Give each call the ending that has come for it."""
        endings, at, now = list[RunEnd](), 0, time.monotonic()
        while len(self._inbox) - at >= LENGTH_BYTES:
            end = at + LENGTH_BYTES + int.from_bytes(self._inbox[at : at + LENGTH_BYTES], "big")
            if end > len(self._inbox):
                break
            message, at = self._inbox[at + LENGTH_BYTES : end], end
            if not message:
                self._is_ready = True
            elif isinstance(told := _decode(message), RunEnd):
                endings.append(told)
            else:
                self.calls[len(endings)].hear(told)
        del self._inbox[:at]
        for ending in endings:
            sent = self.calls.popleft()
            sent.ending, sent.seconds = ending, (now - self._since) / len(endings)
            sent.turn.set()
        if endings:
            self._since = now
        if endings and endings[-1].is_last:
            self._end(None)
        elif self.calls:
            self.calls[0].turn.set()

    def _end(self, ending: RunEnd | None) -> None:
        """It runs nothing more. The first call that has no ending has this one; those after it have not begun."""
        self._is_gone = True
        if self.calls and ending is not None:
            self.calls[0].ending = ending
        for sent in self.calls:
            sent.turn.set()
        self.calls.clear()

    async def _give_up(self, ending: RunEnd) -> None:
        """Kill the process, whose first call has had its time. It may have ended just then, and the next have begun."""
        first, process = self.calls[0], self._process
        if process is not None and process.stdout is not None:
            _kill_group(process)
            with (
                anyio.move_on_after(_LAST_ANSWERS, shield=True),
                contextlib.suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError),
            ):
                while True:
                    self._inbox += await process.stdout.receive(_CHUNK)
            self._take()
        if self.calls and self.calls[0] is not first:
            why = "Its worker process was killed when the run before it had had its time."
            ending = result.cut_off(why, repeatable=self.calls[0].call.repeatable)
        self._end(ending)


_decode = msgspec.json.Decoder(RunEnd | Line).decode


def _last_words(code: int) -> str:
    if code < 0:
        return f"it was killed by signal {-code} ({signal.strsignal(-code)})"
    return f"it ended by itself with code {code}"


def _kill_group(process: Process) -> None:
    """Kill the process and its group; that it may be gone already is no failure."""
    with contextlib.suppress(ProcessLookupError):
        if sys.platform == "win32":
            process.kill()  # the programs that its task has started end with it: see worker_main
        else:
            os.killpg(process.pid, signal.SIGKILL)


ASYNC_RUNS = 1_000
"""How many async functions run at once: they wait more than they work, so the number of cores says nothing here."""


class InLoop(Executor):
    """Runs async functions in the event loop that is there: no thread, no process."""

    trouble: str | None = None

    def __init__(self, fits: int = ASYNC_RUNS) -> None:
        self.places = anyio.CapacityLimiter(fits)
        self.runs_are_short = False
        self._pace = AHEAD_SECONDS

    async def open(self) -> None:
        """See Executor: the loop is there."""

    async def run(self, call: Call) -> RunEnd:
        """See Executor. A function that swallows its cancellation can't be stopped: it shares this process."""
        began = anyio.current_time()
        try:
            return await self._run(call)
        finally:
            self._pace = _pace_after(self._pace, anyio.current_time() - began)
            self.runs_are_short = self._pace < AHEAD_SECONDS / 2

    async def _run(self, call: Call) -> RunEnd:
        with anyio.move_on_after(call.limit) as time:
            try:
                return result.success(await call.bind(call.source.load())())
            except GeneratorExit:
                raise  # the event loop is gone
            except BaseException as error:  # noqa: BLE001  what a user's function raises is its run's ending
                if cancellation := _cancellation_in(error):
                    raise cancellation from None
                return result.exception(error)
        assert time.cancelled_caught
        return result.timeout(call.limit)

    def wind_down(self) -> None:
        """See Executor: a call that has its place has begun."""

    async def aclose(self) -> None:
        """See Executor: every run has ended with its awaitable."""


def _cancellation_in(error: BaseException) -> BaseException | None:
    """What of it is the cancellation that this run was asked for; None where nobody asked, so the task raised it."""
    if anyio.current_effective_deadline() != -math.inf:
        return None
    kind = anyio.get_cancelled_exc_class()
    if isinstance(error, BaseExceptionGroup):  # of a task group of the user's: what else is in it came too late
        return error.subgroup(kind)
    return error if isinstance(error, kind) else None
