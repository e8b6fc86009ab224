"""What a task is given: its files folder and its log.

In the process of the program it is a part of that log. Elsewhere, each of its lines goes to whom `send_lines` was told,
is carried over as a Line, and is logged there: with the run and the row it speaks of, by the program's level and form.
"""

from __future__ import annotations

import logging
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING

import msgspec

from batch_runner.log import LOG, event_of, facts, facts_of
from batch_runner.service.local.result import TaskFailed

if TYPE_CHECKING:
    from collections.abc import Callable


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
