"""A worker process from its own side: it takes calls on standard input and gives endings on standard output.

Each message is 8 bytes of length and so many bytes of JSON. An ending of no bytes, sent first, says that it is ready.
What a task prints goes to standard error. The worker never outlives its parent: a thread of its own reads the input
and ends the whole process group when that ends, and a watchdog that needs no interpreter ends a task that holds the
interpreter's lock past its time.
"""

from __future__ import annotations

import faulthandler
import os
import queue
import signal
import sys
import threading
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from batch_runner.errors import UsageError
from batch_runner.service import endings
from batch_runner.service.tasks import Call

if TYPE_CHECKING:
    from batch_runner.service.endings import Ending

LENGTH_BYTES = 8

_WATCHDOG_GRACE = 5.0
"""Seconds after a run's limit; by then the parent has killed this process, unless the parent is gone."""


def main(memory: int | None) -> None:
    """Serve calls until the parent goes. `memory` is the address space in bytes that this process may have."""
    calls, answers = _take_over_stdio()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if memory is not None:
        _limit_memory(memory)
    inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(calls, inbox), daemon=True).start()
    _send(answers, b"")
    while True:
        call = msgspec.json.decode(inbox.get(), type=Call)
        _send(answers, msgspec.json.encode(_ending_of(call)))


def _take_over_stdio() -> tuple[BinaryIO, BinaryIO]:
    """Keep the two pipes for messages alone: a task finds an empty input, and its output goes to standard error."""
    calls, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    if sys.platform != "win32":  # a process that a task forks would keep the pipe open if this one dies
        os.register_at_fork(after_in_child=partial(os.close, answers.fileno()))
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return calls, answers


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


def _send(answers: BinaryIO, message: bytes) -> None:
    answers.write(len(message).to_bytes(LENGTH_BYTES, "big") + message)
    answers.flush()


def _ending_of(call: Call) -> Ending:
    with Path(os.devnull).open("w") as nowhere:
        faulthandler.dump_traceback_later(call.limit + _WATCHDOG_GRACE, exit=True, file=nowhere)
        try:
            return _run(call)
        finally:
            faulthandler.cancel_dump_traceback_later()


def _run(call: Call) -> Ending:
    try:
        return endings.success(call.bind(call.source.load())())
    except UsageError as error:
        return endings.failure(str(error))
    except MemoryError:
        return endings.failure("The task needed more memory than a worker process may have.")
    except (Exception, SystemExit) as error:  # noqa: BLE001  whatever a user's function raises is its run's ending
        return endings.raised(error)
