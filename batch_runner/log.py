"""The log on stderr and in a file: text for people, JSON lines for programs.

An event is logged by its name with its facts: `info("run started", row=17, attempt=5, run_id=…)`; every line also says
which `batch` it is of. What a cell or a result holds stands in none of them above debug; the API key in none at all.
Where nobody listens to a level, an event of it costs the call.
"""

from __future__ import annotations

import errno
import io
import logging
import os
import re
import sys
import tempfile
from contextvars import ContextVar
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler, WatchedFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from batch_runner.errors import printable
from batch_runner.fs import open_at_once
from batch_runner.units import problem_of_name

if TYPE_CHECKING:
    from collections.abc import Callable

    Form = Literal["text", "json"]
    Level = Literal["debug", "info", "warning", "error"]
    Fact = str | float | None


LOG = logging.getLogger("batch_runner")
OLD_FILES = 5
"""Log files of earlier times that are kept when a new one is begun."""
SECRET_MARK = "<the API key>"  # noqa: S105  it is what stands instead of one
SHORTEST_SECRET = 8
"""Characters of a key that is looked for in facts and results: a test's `1` would take their sense with it."""
LONGEST_FACT = 10_000
"""Characters of a text that a line has: a service may call a run by an id of megabytes."""
_FACTS = "facts"
_PLAIN = re.compile(r"[^\s\"=]+")
_BATCH: ContextVar[Fact] = ContextVar("batch", default=None)


def debug(event: str, **facts: Fact) -> None:
    """Log what helps to find out how something came about; only here a fact may hold what a cell or a result holds."""
    _log(logging.DEBUG, event, facts)


def info(event: str, **facts: Fact) -> None:
    """Log what happened: row, attempt, run_id, status, duration (seconds), …; a fact that is None is left out."""
    _log(logging.INFO, event, facts)


def warning(event: str, **facts: Fact) -> None:
    """Log what a person should look at, as one sentence."""
    _log(logging.WARNING, event, facts)


def hears_info() -> bool:
    """Whether anybody listens to what is logged with `info`."""
    return LOG.isEnabledFor(logging.INFO)


def hears_debug() -> bool:
    """As `hears_info`, for `debug`."""
    return LOG.isEnabledFor(logging.DEBUG)


def facts(**values: Fact) -> dict[str, object]:
    """The facts of an event as the `extra` of a logger's call; those that are None are left out."""
    return {_FACTS: {name: value for name, value in values.items() if value is not None}}


def facts_of(record: logging.LogRecord) -> dict[str, Fact]:
    """The facts of an event that was logged."""
    found: dict[str, Fact] = getattr(record, _FACTS, {})
    return found


def event_of(record: logging.LogRecord) -> str:
    """What happened, on one line; with the exception, if one was logged."""
    text = record.getMessage()
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        text = f"{text}: {type(error).__name__}: {error}"
    return " ".join(line.strip() for line in text.splitlines())


class of_batch:  # noqa: N801  each run in flight is in one: a generator would weigh six times as much
    """What is logged in here is of this batch: its number in the journal, or any word as long as it has none."""

    __slots__ = ("_batch", "_token")

    def __init__(self, batch: str) -> None:
        self._batch = batch

    def __enter__(self) -> None:
        self._token = _BATCH.set(self._batch)

    def __exit__(self, *error: object) -> None:
        _BATCH.reset(self._token)


def write_log(form: Form, level: Level, say: Callable[[str], None], secret: str | None = None) -> None:
    """Send what is logged from now on to `say`, a line each, without the secret."""
    for handler in LOG.handlers[:]:
        LOG.removeHandler(handler)
        handler.close()
    LOG.propagate = False
    LOG.setLevel(logging.CRITICAL)
    _add(_Saying(say), form, level, secret)


def write_log_file(path: Path, form: Form, level: Level, most_bytes: int, secret: str | None = None) -> None:
    """Append it to a file, too (0600); with `most_bytes` a new one is begun before it grows larger. Raises `OSError`.

    A file that can't be written later on (a full disk) is spoken of once on the log, and tried again with each line.
    """
    _refuse_name(path)
    _add(_File(path, most_bytes), form, level, secret)


def look_at_log_file(path: Path) -> None:
    """Raise `OSError` where `write_log_file` would; nothing is written, and nothing made that stays."""
    _refuse_name(path)
    if path.exists():
        os.close(open_at_once(path, os.O_WRONLY | os.O_APPEND, by_link=True))
    else:
        with tempfile.TemporaryFile(dir=path.parent):
            return


def _refuse_name(path: Path) -> None:
    if problem := problem_of_name(path):
        raise OSError(errno.EINVAL, problem)


def is_json() -> bool:
    """Whether what is said on stderr is to be JSON lines."""
    return any(isinstance(handler, _Saying) and isinstance(handler.formatter, _Json) for handler in LOG.handlers)


def json_line(event: str, level: Level = "info", **values: Fact) -> str:
    """A line as they stand in a log of JSON lines, for what is only shown."""
    number = logging.getLevelNamesMapping()[level.upper()]
    return _Json(None).format(LOG.makeRecord(LOG.name, number, "", 0, "%s", (event,), None, extra=facts(**values)))


def _log(level: int, event: str, facts: dict[str, Fact]) -> None:
    if LOG.isEnabledFor(level):
        known = {name: value for name, value in facts.items() if value is not None}
        LOG.log(level, "%s", event, extra={_FACTS: known})


def _add(handler: logging.Handler, form: Form, level: Level, secret: str | None) -> None:
    hidden = secret if secret and len(secret) >= SHORTEST_SECRET else None
    handler.setFormatter(_Json(hidden) if form == "json" else _Text(hidden))
    handler.setLevel(level.upper())
    LOG.addHandler(handler)
    LOG.setLevel(min(LOG.level, handler.level))


class _Saying(logging.Handler):
    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__()
        self._say = say

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._say(self.format(record))
        except Exception:  # noqa: BLE001  as everywhere in logging: a task's line that can't be made fails no run
            self.handleError(record)


class _File(RotatingFileHandler, WatchedFileHandler):
    """Writes each line at once and whole, so that nothing is pending when a disk is full.

    A file that somebody else has moved away (logrotate) is begun anew, as logging's `WatchedFileHandler` does.
    """

    def __init__(self, path: Path, most_bytes: int) -> None:
        self.dev = self.ino = -1
        RotatingFileHandler.__init__(self, path, maxBytes=most_bytes, backupCount=OLD_FILES, encoding="utf-8")
        self._complained = False
        self._statstream()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if sys.platform != "win32":  # there nobody can move away what we have open
                self.reopenIfNeeded()
        except OSError:
            self.handleError(record)
        else:
            super().emit(record)

    def doRollover(self) -> None:  # noqa: N802  logging's own name
        """A rotation of our own is none of somebody else's."""
        super().doRollover()
        self._statstream()

    def _open(self) -> io.TextIOWrapper:
        handle = os.open(self.baseFilename, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        return io.TextIOWrapper(io.FileIO(handle, "a"), encoding="utf-8", write_through=True)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802, ARG002  logging's own name
        """A log that can't be written is no reason to end, nor to speak of it more than once."""
        if not self._complained:
            self._complained = True
            warning(f"{Path(self.baseFilename).name}: the log file can't be written any more; the batch goes on")


_ESCAPED = '"\\/'
"""Characters that JSON may write with a backslash before them (RFC 8259, section 7)."""

_ESCAPE = r"\\(?:u[0-9a-fA-F]{4}|.)"
"""An escape of any other character, taken as a whole: a key of digits is not looked for in the middle of one."""


class Redactor:
    """Over one key, which is printable ASCII; one that is empty hides nothing.

    In what a run says a key of a few characters is left: it could be any part of it.
    """

    def __init__(self, key: str) -> None:
        self._key = key
        spelled = "".join(map(_spellings, key))
        self._plain = re.compile(re.escape(key).encode())
        self._spelled = re.compile(f"({spelled})|{_ESCAPE}".encode()) if len(key) >= SHORTEST_SECRET else None

    def redact_words(self, text: str) -> str:
        """A sentence of ours without the key, which may be in it as the service has spelled it."""
        return self.redact_text(text.replace(self._key, SECRET_MARK) if self._key else text)

    def redact_text(self, text: str) -> str:
        """A text of a run without the key. It may be JSON itself."""
        if self._spelled is None:
            return text
        plain = text.replace(self._key, SECRET_MARK)
        return self.redact_json(plain.encode(errors="surrogatepass")).decode(errors="surrogatepass")

    def is_in(self, data: bytes | memoryview) -> bool:
        """Whether JSON has the key, whichever way it is escaped."""
        if self._spelled is None:
            return False
        if not re.search(rb"\\", data):  # as in most, which is told much sooner
            return self._plain.search(data) is not None
        return any(found[1] for found in self._spelled.finditer(data))

    def redact_json(self, data: bytes) -> bytes:
        """JSON without the key. Of what doesn't have it no copy is made: it may be long."""
        if self._spelled is None or not self.is_in(data):
            return data
        return self._spelled.sub(lambda found: SECRET_MARK.encode() if found[1] else found[0], data)


def _spellings(character: str) -> str:
    """A pattern of all ways in which JSON may write a character."""
    code = rf"\\u(?i:{ord(character):04x})"
    plain = [] if character in '"\\' else [re.escape(character)]
    return "(?:" + "|".join([*plain, *([re.escape(f"\\{character}")] if character in _ESCAPED else []), code]) + ")"


class _Form(logging.Formatter):
    def __init__(self, secret: str | None) -> None:
        super().__init__()
        self._secret = secret

    def facts_of(self, record: logging.LogRecord) -> dict[str, Fact]:
        """The event itself, its batch, and its facts: texts that can be written anywhere, without the secret."""
        facts: dict[str, Fact] = {"batch": _BATCH.get(), "event": event_of(record), **facts_of(record)}
        return {name: self._clean(value) for name, value in facts.items() if value is not None}

    def _clean(self, value: Fact) -> Fact:
        if isinstance(value, float):
            return round(value, 3)
        if not isinstance(value, str):
            return value
        text = value.encode("utf-8", "backslashreplace").decode()
        text = text.replace(self._secret, SECRET_MARK) if self._secret else text
        # Only then it is cut: a half of the secret would not be found.
        return text if len(text) <= LONGEST_FACT else f"{text[:LONGEST_FACT]}… ({len(text)} characters)"


class _Text(_Form):
    """`2026-11-24T02:00:00.000Z info run started batch=7 row=17 attempt=5 run_id=…`."""

    def format(self, record: logging.LogRecord) -> str:
        facts = self.facts_of(record)
        event = facts.pop("event")
        words = " ".join(f"{name}={_word(value)}" for name, value in facts.items())
        return printable(f"{_moment(record)} {record.levelname.lower()} {event} {words}".rstrip())


class _Json(_Form):
    """One object: time, level, batch, event, and the facts."""

    def format(self, record: logging.LogRecord) -> str:
        line = {"time": _moment(record), "level": record.levelname.lower()}
        return printable(msgspec.json.encode(line | self.facts_of(record)).decode())


def _word(value: Fact) -> str:
    """A value as one word: in quotes, as in JSON, where it has spaces or quotes in it."""
    text = str(value)
    return text if _PLAIN.fullmatch(text) else msgspec.json.encode(text).decode()


def _moment(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
