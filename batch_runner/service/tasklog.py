"""The log of a task: `context.log`, from wherever the task runs to the log of the program.

In the process of the program it is a part of that log. Elsewhere, each of its lines goes to whom `send_lines` was told,
is carried over as a Line, and is logged there: with the run and the row it speaks of, by the program's level and form.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from batch_runner.log import LOG, event_of, facts, facts_of

if TYPE_CHECKING:
    from collections.abc import Callable

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
