"""What tasks print, as whole lines, from this process and from worker processes."""

from __future__ import annotations

import io
import os
import sys
import threading
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from contextvars import copy_context
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


LONGEST_LINE = 10_000
"""Bytes of a line that are told at once; what is longer is told in pieces."""
LAST_WORDS = 1.0
"""Seconds in which the last lines of an ended process must have come: a child that it left may hold the pipe."""


@contextmanager
def capture_prints(tell: Callable[[str], None]) -> Iterator[None]:
    """What this process prints in here, on standard output and standard error, is told."""
    with ExitStack() as redirected:
        for redirect in (redirect_stdout, redirect_stderr):
            lines = _Lines(tell)
            redirected.callback(lines.finish)
            text = io.TextIOWrapper(lines, "utf-8", "backslashreplace", write_through=True)  # type: ignore[type-var]
            redirected.enter_context(redirect(text))
        yield


class Pipe:
    """What another process writes into `entrance`, a file descriptor, is told, by a thread of this one.

    Whoever has started that process has to `close` our own end.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        exit_, self.entrance = os.pipe()
        told_here = copy_context().run  # the lines are of the batch that this is
        self._thread = threading.Thread(target=told_here, args=(_tell_all, exit_, tell), daemon=True)
        self._thread.start()

    def close(self) -> None:
        """The other process has the entrance, or there is none."""
        os.close(self.entrance)

    def wait(self) -> None:
        """Wait until all is told that the process, which has ended, has written."""
        self._thread.join(LAST_WORDS)


class _Lines(io.RawIOBase):
    """A file that tells its lines; threads may write to it."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__()
        self._tell = tell
        self._rest = b""
        self._lock = threading.Lock()
        self._beneath = sys.stderr

    def writable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """That of standard error: a program that a task starts with it writes there by itself."""
        if self._beneath is None:
            raise io.UnsupportedOperation
        return self._beneath.fileno()

    def write(self, data: bytes) -> int:  # type: ignore[override]
        """Tell the lines that are whole now."""
        with self._lock:
            *lines, rest = (self._rest + bytes(data)).split(b"\n")
            if len(rest) > LONGEST_LINE:
                lines, rest = [*lines, rest], b""
            self._rest = rest
        for line in lines:
            self._tell(_text(line))
        return len(data)

    def finish(self) -> None:
        """Tell what is left although its line has no end."""
        if self._rest:
            self.write(b"\n")


def _tell_all(exit_: int, tell: Callable[[str], None]) -> None:
    with os.fdopen(exit_, "rb") as pipe:
        while line := pipe.readline(LONGEST_LINE):
            tell(_text(line))


def _text(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace").rstrip("\r\n")
