"""Where tasks run: async ones in this loop, sync ones in worker processes.

To run is one awaitable that gives the run's ending; to cancel it is to cancel that awaitable. A limit counts from the
moment that the task begins: neither waiting for a turn nor starting a worker is part of it.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

import anyio
import msgspec
from anyio import to_thread
from anyio.streams.buffered import BufferedByteReceiveStream

from batch_runner.service.local import result
from batch_runner.service.local.capture import Pipe
from batch_runner.service.local.context import Line, level_wanted
from batch_runner.service.local.result import RESULT_LIMIT, Ending
from batch_runner.service.local.worker_main import LENGTH_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from anyio.abc import Process

    from batch_runner.service.local.tasks import Call


WORKER_MEMORY = 4 * 1024**3
"""Bytes of address space for one worker process, where the system can limit it."""

RUNS_PER_WORKER = 2_000
"""Runs after which a worker process is replaced, so that what a task leaks doesn't add up all night."""

_START_LIMIT = 60
"""Seconds within which a new worker process has to be ready."""

_MESSAGE_LIMIT = RESULT_LIMIT + 1024 * 1024

_BOOT = """
import sys
memory, level, *sys.path = sys.argv[1:]
from batch_runner.service.local.worker_main import main
main(int(memory) or None, int(level))
"""


class InWorkers:
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
        self._memory = memory
        self._runs_per_worker = runs_per_worker
        self._idle: list[_Worker] = []

    async def open(self) -> None:
        """See Executor: a worker starts when the first run needs it."""

    async def run(self, call: Call) -> Ending:
        """See Executor. A timeout or a cancellation kills the worker, and the programs that its task has started."""
        return (await self.run_in_turn([call], lambda _: False))[0]

    async def run_in_turn(
        self, calls: Sequence[Call], is_enough: Callable[[Ending], bool], hear: Callable[[Line], None] = Line.log
    ) -> list[Ending]:
        """Run calls, repeatable ones, in one worker in turn; the endings of the first of them, of one at least.

        No more are begun after a run that was its worker's last, or soon after one of which it was said that it is
        enough.
        What the tasks log is told to `hear`.
        """
        try:
            worker = await self._worker()
        except _WorkerDied as death:
            return [result.failure(f"The worker process could not be started: {death}")]
        ended: list[Ending] = []
        try:
            await worker.run_in_turn(calls, ended, is_enough, hear)
        except _WorkerDied as death:
            ended.append(result.failure(f"worker died: {death}"))
        finally:
            await self._put_back(worker)
        return ended

    def wind_down(self) -> None:
        """See Executor: a call that has its place is about to begin."""

    async def aclose(self) -> None:
        """See Executor."""
        while self._idle:
            await self._idle.pop().kill()

    async def _worker(self) -> _Worker:
        while self._idle:
            worker = self._idle.pop()
            if worker.is_alive:
                return worker
            await worker.kill()
        return await _Worker.start(self._memory, level_wanted() if self._level is None else self._level, self._tell)

    async def _put_back(self, worker: _Worker) -> None:
        if worker.is_ready and worker.runs < self._runs_per_worker:
            self._idle.append(worker)
        else:
            await worker.kill()


class _WorkerDied(Exception):  # noqa: N818  it is what has happened
    """The process is gone; the text says how."""


class _Worker:
    """A worker process from its parent's side."""

    def __init__(self, process: Process, prints: Pipe | None) -> None:
        assert process.stdout is not None
        self.runs = 0
        self.is_ready = False
        self._process = process
        self._prints = prints
        self._answers = BufferedByteReceiveStream(process.stdout)

    @classmethod
    async def start(cls, memory: int | None, level: int, tell: Callable[[str], None] | None) -> Self:
        """A process that has said that it is ready."""
        prints = Pipe(tell) if tell else None
        paths = (path or str(Path.cwd()) for path in sys.path)
        command = [sys.executable, "-c", _BOOT, str(memory or 0), str(level), *paths]
        try:
            with anyio.CancelScope(shield=True):  # cancelled halfway, asyncio forgets a process that is there
                stderr = prints.entrance if prints else None
                worker = cls(await anyio.open_process(command, stderr=stderr, start_new_session=True), prints)
        except OSError as error:
            raise _WorkerDied(str(error)) from error
        finally:
            if prints:
                prints.close()
        try:
            with anyio.fail_after(_START_LIMIT):
                await worker._receive()
                worker.is_ready = True
        except TimeoutError as error:
            raise _WorkerDied(f"it was not ready after {_START_LIMIT} s") from error
        finally:
            if not worker.is_ready:
                await worker.kill()
        return worker

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs, as far as is known."""
        return self._process.returncode is None

    async def run_in_turn(
        self,
        calls: Sequence[Call],
        ended: list[Ending],
        is_enough: Callable[[Ending], bool],
        hear: Callable[[Line], None],
    ) -> None:
        """Run calls and append their endings. Whoever cancels this has to kill the worker: it isn't ready any more.

        The call after the one at work is sent ahead, so that the process needn't wait for us between the two.
        """
        self.is_ready = False
        sent, last = 0, len(calls)
        while len(ended) < last:
            limit = calls[len(ended)].limit
            with anyio.move_on_after(limit) as time:
                while sent < min(len(ended) + 2, last):
                    await self._send(msgspec.json.encode(calls[sent]))
                    sent += 1
                ended.append(await self._ending(hear))
            if time.cancelled_caught:
                ended.append(result.timed_out(limit))
                return
            self.runs += 1
            if ended[-1].is_last:
                return
            if is_enough(ended[-1]):
                last = sent
        self.is_ready = True

    async def kill(self) -> None:
        """End the process and whatever its task has started; it takes no time that could be cancelled."""
        with anyio.CancelScope(shield=True):
            _kill_group(self._process)
            await self._process.wait()
            await self._process.aclose()
            if self._prints:
                await to_thread.run_sync(self._prints.wait)

    async def _send(self, message: bytes) -> None:
        assert self._process.stdin is not None
        try:
            await self._process.stdin.send(len(message).to_bytes(LENGTH_BYTES, "big") + message)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise _WorkerDied(await self._last_words()) from error

    async def _ending(self, hear: Callable[[Line], None]) -> Ending:
        """What comes before it are the lines that the task logs."""
        while True:
            message = msgspec.json.decode(await self._receive(), type=Ending | Line)
            if isinstance(message, Ending):
                return message
            hear(message)

    async def _receive(self) -> bytes:
        try:
            length = int.from_bytes(await self._answers.receive_exactly(LENGTH_BYTES), "big")
            return await self._answers.receive_exactly(min(length, _MESSAGE_LIMIT))
        except (anyio.IncompleteRead, anyio.BrokenResourceError, anyio.ClosedResourceError) as error:
            raise _WorkerDied(await self._last_words()) from error

    async def _last_words(self) -> str:
        code = await self._process.wait()
        if code < 0:
            return f"it was killed by signal {-code} ({signal.strsignal(-code)})"
        return f"it ended by itself with code {code}"


def _kill_group(process: Process) -> None:
    """Kill the process and its group; that it may be gone already is no failure."""
    with contextlib.suppress(ProcessLookupError):
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)


ASYNC_RUNS = 1_000
"""How many async functions run at once: they wait more than they work, so the number of cores says nothing here."""


class Executor(Protocol):
    """Runs calls, in as many places as fit at once. Whoever runs a call holds one of the places meanwhile.

    `places` may grow and shrink while runs go on, where workers come and go.
    """

    places: anyio.CapacityLimiter

    @property
    def trouble(self) -> str | None:
        """Why no call can be run just now, a sentence; None while all is well."""

    async def open(self) -> None:
        """Make ready for calls. Raises UsageError, a sentence, if that is impossible."""

    async def run(self, call: Call) -> Ending:
        """The ending of one call. It never raises for what the task does; cancelled, it leaves nothing running."""

    def wind_down(self) -> None:
        """Begin nothing more, as far as that is in its hands: such calls end as never begun. Those at work go on."""

    async def aclose(self) -> None:
        """End what is left, at once."""


class InLoop:
    """Runs async functions in the event loop that is there: no thread, no process."""

    trouble: str | None = None

    def __init__(self, fits: int = ASYNC_RUNS) -> None:
        self.places = anyio.CapacityLimiter(fits)

    async def open(self) -> None:
        """See Executor: the loop is there."""

    async def run(self, call: Call) -> Ending:
        """See Executor. A function that swallows its cancellation can't be stopped: it shares this process."""
        with anyio.move_on_after(call.limit) as time:
            try:
                return result.success(await call.bind(call.source.load())())
            except GeneratorExit:
                raise  # the event loop is gone
            except BaseException as error:  # noqa: BLE001  what a user's function raises is its run's ending
                if cancellation := _cancellation_in(error):
                    raise cancellation from None
                return result.raised(error)
        assert time.cancelled_caught
        return result.timed_out(call.limit)

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
