"""A worker process from its own side: calls on standard input, results on standard output.

Each message is 8 bytes of length and so many bytes of JSON. An ending of no bytes, sent first, says that it is ready.
The lines that a task logs go before its ending. What it prints goes to standard error.

Signals that reach every process (a service manager's or a shutdown's SIGTERM, Ctrl-Break) are the parent's to answer,
so from its first moment on the worker does nothing at them (`process_pool._BOOT`). It doesn't ignore them: programs
that its task starts would inherit that, and could not be told to end. Nor do processes that are forked off inherit it.

The worker never outlives its parent: a thread of its own reads the input and ends the whole process group when that
ends, and a watchdog that needs no interpreter ends a task that holds the interpreter's lock past its time. Windows has
no such groups to kill. There the worker and the programs that its tasks start are a job, which ends with the worker.
"""

from __future__ import annotations

import contextlib
import faulthandler
import inspect
import io
import logging
import os
import queue
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import anyio
import msgspec

from batch_runner.errors import UsageError
from batch_runner.service.local import result
from batch_runner.service.local.context import send_lines
from batch_runner.service.local.tasks import Call

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping

    from batch_runner.service.local.context import Line
    from batch_runner.service.local.result import RunEnd


LENGTH_BYTES = 8

_WATCHDOG_GRACE = 5.0
"""Seconds after a run's limit; by then the parent has killed this process, unless the parent is gone."""


def main(memory: int | None, level: int) -> None:
    """Serve calls until the parent goes.

    `memory` is the address space in bytes that this process may have, `level` that of the parent's log.
    """
    calls, answers = _take_over_stdio()
    send_lines(answers.say, level)
    _lead_job()
    if memory is not None:
        _limit_memory(memory)
    inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(calls, inbox), daemon=True).start()
    answers.send(b"")
    watchdog = _Watchdog()
    while True:
        if inbox.empty():
            watchdog.rest()
        call = _decode(inbox.get())
        watchdog.watch(call.limit)
        ending = _ending_of(call)
        answers.send(msgspec.json.encode(ending))
        if ending.is_last:
            _end_group()


_decode = msgspec.json.Decoder(Call).decode


class _Watchdog:
    """Ends this process when a run has long had its time, also where its task holds the interpreter's lock.

    That is a thread in C, which costs more than many a call, so one serves several calls in a row.
    """

    def __init__(self) -> None:
        self._nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115  as long as this process
        self._until = 0.0

    def watch(self, limit: float) -> None:
        """A run of so many seconds begins."""
        least = time.monotonic() + limit + _WATCHDOG_GRACE
        if not least <= self._until <= least + limit:
            faulthandler.dump_traceback_later(least + limit - time.monotonic(), exit=True, file=self._nowhere)
            self._until = least + limit

    def rest(self) -> None:
        """No run is at work."""
        faulthandler.cancel_dump_traceback_later()
        self._until = 0.0


class _Answers:
    """The pipe to the parent. Threads of a task may log while it ends: each message goes whole."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe: BinaryIO | None = pipe
        self._lock = threading.Lock()

    def send(self, message: bytes) -> None:
        """Send a message; nothing from a process that was forked off."""
        with self._lock:
            if self._pipe is not None:
                self._pipe.write(len(message).to_bytes(LENGTH_BYTES, "big") + message)
                self._pipe.flush()

    def say(self, line: Line) -> None:
        """Send a line of the log, which a process that was forked off says by itself."""
        if self._pipe is None:
            print(line.text, file=sys.stderr)  # noqa: T201  all that is left to it
        else:
            self.send(msgspec.json.encode(line))

    def leave(self) -> None:
        """In a process that was forked off: it would keep the pipe open if this one dies."""
        assert self._pipe is not None
        os.close(self._pipe.fileno())
        self._pipe, self._lock = None, threading.Lock()


def _take_over_stdio() -> tuple[BinaryIO, _Answers]:
    """Keep the two pipes for messages alone: a task finds an empty input, and its output goes to standard error."""
    calls, answers = os.fdopen(os.dup(0), "rb"), _Answers(os.fdopen(os.dup(1), "wb"))
    if sys.platform != "win32":
        os.register_at_fork(after_in_child=answers.leave)
        deferred = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
        os.register_at_fork(after_in_child=lambda: _end_as_usual(deferred))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    return calls, answers


def _end_as_usual(deferred: Mapping[signal.Signals, object]) -> None:
    """In a process that was forked off: the signals that this one defers end it, as its task expects."""
    for number, handler in deferred.items():
        if callable(handler) and signal.getsignal(number) is handler:
            signal.signal(number, signal.SIG_DFL)


def _lead_job() -> None:
    """On Windows, have the system end the programs that tasks start when this process ends, however it does.

    A job has its members ended when its last handle is closed. This process has the only one, which nobody inherits.
    """
    if sys.platform == "win32":
        import ctypes

        kernel = ctypes.WinDLL("kernel32", use_last_error=True)
        kernel.CreateJobObjectW.restype = kernel.GetCurrentProcess.restype = ctypes.c_void_p
        job = ctypes.c_void_p(kernel.CreateJobObjectW(None, None))
        limits = (ctypes.c_uint32 * (36 if sys.maxsize > 2**32 else 28))()  # JOBOBJECT_EXTENDED_LIMIT_INFORMATION
        limits[4] = 0x2000  # its LimitFlags: JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
        if not kernel.SetInformationJobObject(job, 9, limits, ctypes.sizeof(limits)):
            raise ctypes.WinError(ctypes.get_last_error())
        process = ctypes.c_void_p(kernel.GetCurrentProcess())
        if not kernel.AssignProcessToJobObject(job, process):  # a job around it that takes no other in (Windows 7)
            logging.getLogger(__name__).info("programs that tasks start outlive them")


def _limit_memory(limit: int) -> None:
    """Where the system can (not on Windows): then a greedy task fails with MemoryError and takes nothing down."""
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _listen(calls: BinaryIO, inbox: queue.SimpleQueue[bytes]) -> None:
    while len(head := calls.read(LENGTH_BYTES)) == LENGTH_BYTES:
        inbox.put(calls.read(int.from_bytes(head, "big")))
    _end_group()


def _end_group() -> None:
    """End this process and the programs that its task has started."""
    if sys.platform != "win32" and os.getpgrp() == os.getpid():
        os.killpg(os.getpgrp(), signal.SIGKILL)
    os._exit(1)


def _ending_of(call: Call) -> RunEnd:
    """The ending of a call, in this process alone: a fork of it ends here."""
    worker = os.getpid()
    try:
        ending = _run(call)
        if os.getpid() != worker:
            # The task has forked off this process, and it came back as if it were the worker.
            if ending.error is not None:
                print(ending.error, file=sys.stderr)  # noqa: T201  the run's ending is the worker's to give
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(0 if ending.status == "success" else 1)
        return ending
    finally:
        for stream in (sys.stdout, sys.stderr):  # a line without an end: this process may be killed before the next
            with contextlib.suppress(Exception):  # whatever a task has done to it, or put in its place
                stream.flush()


async def _awaited(given: Awaitable[object]) -> object:
    return await given


def _run(call: Call) -> RunEnd:
    try:
        function = call.source.load()
    except UsageError as error:
        return result.RunEnd("failure", error=str(error), cant_load=True)
    try:
        given = call.bind(function)()
        if inspect.isawaitable(given):  # an async function that a decorator, or an object, gives out as a sync one
            given = anyio.run(_awaited, given)
        return result.success(given)
    except MemoryError:
        return result.out_of_memory()
    except BaseException as error:  # noqa: BLE001  whatever a user's function raises is its run's ending
        return result.exception(error)
