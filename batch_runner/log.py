"""The log on stderr: text for people, JSON lines for programs. Values of cells and results stand in none of them.

An event is logged by its name with its facts in `extra`: `log.info("run started", extra=facts(row=17, run_id=…))`.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

LOG = logging.getLogger("batch_runner")
_FACTS = "facts"


def facts(**values: str | float | None) -> dict[str, object]:
    """The facts of an event: row, run_id, status, attempt, seconds; those that are None are left out."""
    return {_FACTS: {name: value for name, value in values.items() if value is not None}}


def write_log(
    form: Literal["text", "json"], level: Literal["debug", "info", "warning", "error"], say: Callable[[str], None]
) -> None:
    """Send what is logged from now on to `say`, a line each."""
    handler = _Saying(say)
    handler.setFormatter(_Json() if form == "json" else _Text())
    LOG.handlers = [handler]
    LOG.setLevel(level.upper())
    LOG.propagate = False


class _Saying(logging.Handler):
    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._say(self.format(record))
        except Exception:  # noqa: BLE001  as everywhere in logging: a task's line that can't be made fails no run
            self.handleError(record)


class _Text(logging.Formatter):
    """`2026-11-24T02:00:00Z info run started row=17 run_id=…`."""

    def format(self, record: logging.LogRecord) -> str:
        values = " ".join(f"{name}={value}" for name, value in facts_of(record).items())
        return f"{_moment(record)} {record.levelname.lower()} {event_of(record)} {values}".rstrip()


class _Json(logging.Formatter):
    """One object: time, level, event, and the facts."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"time": _moment(record), "level": record.levelname.lower(), "event": event_of(record)}
        return msgspec.json.encode(line | facts_of(record)).decode()


def event_of(record: logging.LogRecord) -> str:
    """What happened, on one line; with the exception, if one was logged."""
    text = record.getMessage()
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        text = f"{text}: {type(error).__name__}: {error}"
    return " ".join(line.strip() for line in text.splitlines())


def facts_of(record: logging.LogRecord) -> dict[str, object]:
    """The facts of an event that was logged."""
    found: dict[str, object] = getattr(record, _FACTS, {})
    return found


def _moment(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
