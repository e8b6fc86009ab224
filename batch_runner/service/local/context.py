"""What a task is given: its files folder and its log; and what it prints, as whole lines.

In the process of the program it is a part of that log. Elsewhere, each of its lines goes to whom `send_lines` was told,
is carried over as a Line, and is logged there: with the run and the row it speaks of, by the program's level and form.
"""

from __future__ import annotations

import io
import logging
import os
import sys
import threading
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from contextvars import copy_context
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING

import msgspec

from batch_runner.log import LOG, event_of, facts, facts_of
from batch_runner.service.local.result import TaskFailed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def file_within(folder: Path, name: str) -> Path:
    """The file that a cell names, as a real path inside `folder`; sub-folders are fine.

    Raises TaskFailed for an absolute path (of any system), a `..` anywhere, a link that leads out of the folder, a
    file that isn't there, and for what is no regular file (opening a named pipe would wait for ever).
    """
    _refuse_paths_out(folder, name)
    try:
        root, path = folder.resolve(), (folder / name).resolve()
        is_inside, is_file, exists = path.is_relative_to(root), path.is_file(), path.exists()
    except (OSError, RuntimeError, ValueError) as error:
        raise TaskFailed(f"The file {name!r} can't be looked up in {folder}: {error}") from error
    if not is_inside:
        raise TaskFailed(f"The file {name!r} leads out of the folder {folder}; only files within it are read.")
    if not exists:
        raise TaskFailed(f"There is no file {name!r} in the folder {folder}.")
    if not is_file:
        raise TaskFailed(f"{name!r} in the folder {folder} is no file.")
    return path


def _refuse_paths_out(folder: Path, name: str) -> None:
    """Judge the name alone. Windows rules know both slashes and drives, so they cover the other systems' too."""
    path = PureWindowsPath(name)
    if not name.strip():
        raise TaskFailed("The file's name is empty.")
    if "\0" in name:
        raise TaskFailed(f"The file's name {name!r} holds a NUL character.")
    if path.drive or path.root:
        raise TaskFailed(f"The file {name!r} is an absolute path; name it as it stands within the folder {folder}.")
    if ".." in path.parts:
        raise TaskFailed(f"The file {name!r} leads out of the folder {folder} by '..'; only files within it are read.")


TASK_LOG = LOG.getChild("task")
LONGEST_LINE = 10_000
"""Characters of a line that are carried over."""


class Line(msgspec.Struct, frozen=True, tag=True):
    """What a task logged: `level` as in `logging`, the text on one line, and whose it is."""

    level: int
    text: str
    run_id: str | None = None
    row: int | None = None

    def log(self) -> None:
        """Put it into the log of this process."""
        TASK_LOG.log(self.level, "%s", self.text, extra=facts(row=self.row, run_id=self.run_id))


def log_of(run_id: str, row: int | None) -> logging.LoggerAdapter[logging.Logger]:
    """The logger of one run."""
    return logging.LoggerAdapter(TASK_LOG, facts(row=row, run_id=run_id))


def level_wanted() -> int:
    """The lowest level that this process's log holds."""
    return TASK_LOG.getEffectiveLevel()


def send_lines(say: Callable[[Line], None], level: int) -> None:
    """From now on, send what tasks log in this process, at `level` and above, to `say`."""
    TASK_LOG.handlers = [_Sending(say)]
    TASK_LOG.setLevel(level)
    TASK_LOG.propagate = False


class _Sending(logging.Handler):
    def __init__(self, say: Callable[[Line], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._say(msgspec.convert({**facts_of(record), "level": record.levelno, "text": _text(record)}, Line))
        except Exception:  # noqa: BLE001  as everywhere in logging, a line that can't be made fails no run
            self.handleError(record)


def _text(record: logging.LogRecord) -> str:
    """Surrogates can't be carried over as JSON."""
    return event_of(record)[:LONGEST_LINE].encode(errors="replace").decode()


class Context(msgspec.Struct, frozen=True):
    """What a run may know besides its params. `files` is the folder that it may read, `row` the number of its row."""

    run_id: str
    session_id: str
    files: str
    identity_id: str | None = None
    row: int | None = None

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger whose lines stand in the log of the program, with the run's id and the row."""
        return log_of(self.run_id, self.row)


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
            self._tell(_line_text(line))
        return len(data)

    def finish(self) -> None:
        """Tell what is left although its line has no end."""
        if self._rest:
            self.write(b"\n")


def _tell_all(exit_: int, tell: Callable[[str], None]) -> None:
    with os.fdopen(exit_, "rb") as pipe:
        while line := pipe.readline(LONGEST_LINE):
            tell(_line_text(line))


def _line_text(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace").rstrip("\r\n")
