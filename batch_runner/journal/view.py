"""Looks into a journal without touching it: outcomes, batches, times, sheets, one row's story."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import msgspec

from batch_runner.errors import JournalError, cant_be_read
from batch_runner.fs import seems_held
from batch_runner.journal.batches import check_same_job, real_path, sheets, turns
from batch_runner.journal.changes import Origin, origins
from batch_runner.journal.database import (
    LOST,
    check_header,
    connect,
    make_readable,
    reading_uri,
    refuse_half,
)
from batch_runner.journal.group_commit import long_result
from batch_runner.journal.outputs import never_sent, outputs_of, unknown_runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from batch_runner.journal.batches import BatchInfo, JournalSheet, Turn
    from batch_runner.journal.outputs import WrittenOutput
    from batch_runner.plan.plan import Policy


_LAST = "SELECT id, ended, pid FROM batch ORDER BY id DESC LIMIT 1"
_FIRST_LIVING = (
    "SELECT min(batch.id), batch.pid FROM batch JOIN (SELECT * FROM batch ORDER BY id DESC LIMIT 1) AS last"
    " WHERE batch.ended IS NULL AND batch.pid = last.pid AND batch.command = last.command"
    " AND (batch.id = last.id OR last.command <> '')"
)
"""Of the batches that one command began, the first that has not ended; version 1 knew no commands."""
_LIVING_OUTCOMES = """\
CREATE TEMP TABLE living (batch INTEGER NOT NULL);
CREATE TEMP VIEW outcome AS
SELECT told.batch, told.number, iif(awaited.id IS NULL, told.status, 'starting') AS status, told.run_id, told.result,
       iif(awaited.id IS NULL, told.error, NULL) AS error, told.changed, told.attempt, told.row
FROM main.outcome AS told
LEFT JOIN main.attempt AS awaited ON awaited.id = told.attempt
      AND awaited.batch >= (SELECT batch FROM living) AND awaited.run_id IS NULL AND awaited.ended_at IS NULL;
"""
"""Stands before the journal's own view for this connection only: what is alive, no table can know."""


def living_batch(path: Path, connection: sqlite3.Connection) -> int | None:
    """The first batch that seems to run just now with the journal at `path`; None where there is none."""
    if connection.execute("PRAGMA user_version").fetchone()[0] == 1:
        batch, ended, pid = connection.execute(_LAST).fetchone() or (None, None, 0)
        return batch if batch is not None and ended is None and seems_held(path, pid) else None
    batch, pid = connection.execute(_FIRST_LIVING).fetchone()
    return batch if batch is not None and seems_held(path, pid) else None


def tell_as_starting(connection: sqlite3.Connection, living: int | None) -> None:
    """Let `outcome` call `starting` what the living batch has sent and awaits the answer to."""
    if living is not None:
        connection.executescript(_LIVING_OUTCOMES)
        connection.execute("INSERT INTO living VALUES (?)", (living,))


_PAGE, _MOST_TEXT = 500, 4 << 20  # rows, and characters of results, that are read together
_SAMPLES = 5

_OUTCOMES = (
    "SELECT number, status, coalesce(run_id, ''), iif(typeof(json) = 'blob', NULL, json), coalesce(error, ''),"
    " coalesce(changed, 0), iif(typeof(json) = 'blob', result.attempt, NULL) FROM outcome"
    " LEFT JOIN result ON result.attempt = outcome.attempt AND run_id IS NOT NULL"
    " WHERE batch = ? AND number > ? ORDER BY number LIMIT ?"
)
"""A held row has no run, so no result. A long one is read by itself: to ask here whether it is one costs no copy."""
_OUTCOME = _OUTCOMES.partition(" AND number >")[0] + " AND number = ?"
_COUNTS = "SELECT status, count(*) FROM outcome WHERE batch = ? GROUP BY status ORDER BY count(*) DESC, status"
_FAILURES = (
    "SELECT status, coalesce(error, ''), count(*) FROM outcome"
    " WHERE batch = ? AND (status IN ('failure', 'timeout', 'cancelled', 'error', 'unknown')"
    " OR (status IN ('running', 'queued') AND error IS NOT NULL))"
    " GROUP BY status, error ORDER BY count(*) DESC, min(number) LIMIT ?"
)
_HELD = "SELECT held, count(*) FROM place WHERE batch = ? AND held IS NOT NULL GROUP BY held ORDER BY held"
_NUMBERS = (
    "SELECT number FROM outcome WHERE batch = ? AND status = ? AND coalesce(error, '') = ? ORDER BY number LIMIT ?"
)
_NUMBERS_OF = "SELECT number FROM outcome WHERE batch = :batch AND (:status IS NULL OR status = :status)"
_HAVING = (
    " AND number IN (SELECT number FROM place WHERE batch = :batch AND (refusal LIKE :like ESCAPE '\\' OR row IN"
    " (SELECT row FROM attempt WHERE error LIKE :like ESCAPE '\\' OR run_id = :words)))"
    " AND (error LIKE :like ESCAPE '\\' OR run_id = :words)"
)
"""The first of both finds few rows quickly, the second those of them whose last attempt it is."""
_RUN_TIMES = (
    "SELECT (julianday(ended_at) - julianday(started_at)) * 86400 FROM sent"
    " WHERE run_id IS NOT NULL AND ended_at >= started_at ORDER BY id DESC LIMIT ?"
)
_BATCHES = (
    "SELECT id, started, ended, exit_code, input, output, task, service, version, pid, input_sha256 FROM batch"
    " ORDER BY id"
)
_STORY = (
    "SELECT attempt.id, attempt.batch, place.number, iif(is_lost, 'unknown', attempt.status), posts, intended_at,"
    " started_at, ended_at, coalesce(run_id, ''), coalesce(CAST(json AS TEXT), ''),"
    " iif(is_lost, :lost, coalesce(error, '')), coalesce(session_id, ''),"
    " (SELECT input FROM batch WHERE batch.id = attempt.batch), coalesce(origin, '')"
    " FROM (SELECT *, run_id IS NULL AND ended_at IS NULL AND batch IS NOT :living AS is_lost"
    " FROM attempt WHERE row = :row) AS attempt"
    " LEFT JOIN place ON place.row = attempt.row AND place.batch = attempt.batch"
    " LEFT JOIN result ON result.attempt = attempt.id ORDER BY attempt.id"
)
_RESOLUTIONS = "SELECT at, who, was, status, note FROM resolution WHERE attempt = ? ORDER BY rowid"


class Placed(msgspec.Struct, frozen=True):
    """What a row of the batch came to. `result` is JSON text; all texts are "" where there is nothing.

    `changed`: what was sent had other values, also where a person said that it is the same (`--same`).
    """

    number: int
    status: str
    run_id: str
    result: str
    error: str
    changed: bool


class Count(msgspec.Struct, frozen=True):
    """So many rows have this status."""

    status: str
    rows: int


class Failures(msgspec.Struct, frozen=True):
    """Rows that failed alike; `numbers` are the first few of them."""

    status: str
    error: str
    rows: int
    numbers: tuple[int, ...]


class BatchRecord(msgspec.Struct, frozen=True):
    """One night as recorded. Times are UTC; `ended` is None while it runs and after it was killed."""

    id: int
    started: str
    ended: str | None
    exit_code: int | None
    input: str
    output: str
    task: str
    service: str
    version: str
    pid: int
    input_sha256: str = ""


class Resolution(msgspec.Struct, frozen=True):
    """What a person found out about an attempt that was unknown. `at` is UTC."""

    at: str
    who: str
    was: str
    status: str
    note: str


class Try(msgspec.Struct, frozen=True):
    """One attempt of a row's story; `number` is where the row stood then, in the sheet of this path. Times are UTC.

    `origin` says which start of another journal it is, if it was carried over from there.
    """

    batch: int
    number: int | None
    status: str
    posts: int
    intended_at: str
    started_at: str | None
    ended_at: str | None
    run_id: str
    result: str
    error: str
    session_id: str = ""
    sheet: str = ""
    origin: str = ""
    resolutions: tuple[Resolution, ...] = ()


def outcomes(connection: sqlite3.Connection, batch: int) -> Iterator[Placed]:
    """The batch's rows in order of number; page by page, so that a slow reader doesn't hold up the WAL."""
    number = -1
    while page := _page(connection, connection.execute(_OUTCOMES, (batch, number, _PAGE))):
        number = page[-1].number
        while page:  # of what was handed on nothing is kept here: a result may be as large as all the others
            yield page.pop(0)


_Found = tuple[int, str, str, str | None, str, int, int | None]


def _page(connection: sqlite3.Connection, found: Iterable[_Found]) -> list[Placed]:
    """The first of these rows: none more once they hold so much text that memory would grow with the results."""
    page, size = [], 0
    for row in found:
        page.append(_placed(connection, row))
        if (size := size + len(page[-1].result)) >= _MOST_TEXT:
            break
    return page


def _placed(connection: sqlite3.Connection, found: _Found) -> Placed:
    number, status, run_id, result, error, changed, long = found
    result = long_result(connection, long) if long is not None else result or ""
    return Placed(number, status, run_id, result, error, bool(changed))


def counts(connection: sqlite3.Connection, batch: int) -> tuple[Count, ...]:
    """How many rows have which status, the most frequent first."""
    return tuple(Count(*found) for found in connection.execute(_COUNTS, (batch,)))


def failures(connection: sqlite3.Connection, batch: int, limit: int) -> tuple[Failures, ...]:
    """The rows that did not succeed, grouped by status and error, at most `limit` groups, the most frequent first."""
    return tuple(
        Failures(status, error, rows, _numbers(connection, batch, status, error, _SAMPLES))
        for status, error, rows in connection.execute(_FAILURES, (batch, limit)).fetchall()
    )


def _numbers(connection: sqlite3.Connection, batch: int, status: str, error: str, limit: int) -> tuple[int, ...]:
    return tuple(number for (number,) in connection.execute(_NUMBERS, (batch, status, error, limit)))


class JournalView:
    """A journal opened for looking only; nothing is created, locked or written, and a running batch isn't disturbed.

    `living` is the batch that seemed to run when it was opened: what that one has sent and awaits the answer to is
    `starting` here; None where there is none, and what has no answer is `unknown`.
    """

    def __init__(self, connection: sqlite3.Connection, living: int | None) -> None:
        self._connection = connection
        self._version = connection.execute("PRAGMA user_version").fetchone()[0]
        self.living = living

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[JournalView]:
        """The journal at `path`. Raises `JournalError` if there is none, or none that can be read."""
        path = real_path(path)
        if not path.is_file():
            raise JournalError(f"{path}: there is no journal here; give the path of a batch's journal")
        try:
            with closing(connect(reading_uri(path))) as connection:
                check_header(path, connection)
                refuse_half(path, connection)
                make_readable(connection)
                living = living_batch(path, connection)
                tell_as_starting(connection, living)
                yield cls(connection, living)
        except sqlite3.Error as error:
            raise cant_be_read(path, error) from error

    def is_running(self, batch: BatchRecord) -> bool:
        """Whether a batch seems to run just now: the living one, or one of another sheet that its program has begun."""
        if self.living is None or batch.ended is not None or batch.id < self.living:
            return False
        return any(other.id == self.living and other.pid == batch.pid for other in self.batches())

    def check_job(self, path: Path, info: BatchInfo) -> None:
        """Raise `JournalError` if a batch such as this one can't go on with the journal, which is at `path`."""
        check_same_job(path, self._connection, info)

    def turns(self, policy: Policy) -> tuple[Turn, ...]:
        """See `batches.turns`."""
        return turns(self._connection, policy)

    def batches(self) -> tuple[BatchRecord, ...]:
        """All batches, the oldest first."""
        return tuple(BatchRecord(*found) for found in self._connection.execute(_BATCHES))

    def counts(self, batch: int) -> tuple[Count, ...]:
        """As `Journal.counts`, for any batch."""
        return counts(self._connection, batch)

    def failures(self, batch: int, limit: int = 20) -> tuple[Failures, ...]:
        """As `Journal.failures`, for any batch."""
        return failures(self._connection, batch, limit)

    def origins(self, batch: int) -> tuple[Origin, ...]:
        """As `Journal.origins`, for any batch; the first versions knew less of that."""
        return () if self._version < 3 else origins(self._connection, batch)

    def outcomes(self, batch: int) -> Iterator[Placed]:
        """As `Journal.outcomes`, for any batch."""
        return outcomes(self._connection, batch)

    def page(self, batch: int, status: str | None, after: int, limit: int) -> tuple[Placed, ...]:
        """The first rows behind the number `after`, of one status or of any."""
        only, values = ("", ()) if status is None else (" AND status = ?", (status,))
        sql = _OUTCOMES.replace(" ORDER BY", f"{only} ORDER BY")
        every = self._connection.execute(sql, (batch, after, *values, limit))
        return tuple(_placed(self._connection, found) for found in every)

    def numbers(self, batch: int, status: str, error: str) -> tuple[int, ...]:
        """All rows that came to this status with this error."""
        return _numbers(self._connection, batch, status, error, -1)

    def numbers_of(self, batch: int, status: str | None, words: str = "") -> list[int]:
        """All rows of one status or of any; with `words`, those that have them in their error, or as their run's id."""
        plain = words.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        named = {"batch": batch, "status": status, "words": words, "like": f"%{plain}%"}
        sql = f"{_NUMBERS_OF}{_HAVING if words else ''} ORDER BY number"
        return [number for (number,) in self._connection.execute(sql, named)]

    def held(self, batch: int) -> dict[str, int]:
        """How many rows were held back, by why; version 1 knew none."""
        if self._version == 1:
            return {}
        return dict(self._connection.execute(_HELD, (batch,)).fetchall())

    def run_times(self, most: int) -> list[float]:
        """How many seconds each of the last runs took, of whatever night."""
        return [seconds for (seconds,) in self._connection.execute(_RUN_TIMES, (most,))]

    def ended_here(self, batch: int) -> dict[str, int]:
        """How many of the batch's own runs have ended, by status."""
        sql = "SELECT status, count(*) FROM sent WHERE batch = ? AND ended_at IS NOT NULL GROUP BY status"
        return dict(self._connection.execute(sql, (batch,)))

    def is_refused(self, batch: int, number: int) -> bool:
        """Whether nothing could be sent for a row, so that it never ran in this batch and would be refused again."""
        sql = "SELECT 1 FROM place WHERE batch = ? AND number = ? AND refusal IS NOT NULL"
        return self._connection.execute(sql, (batch, number)).fetchone() is not None

    def told(self, batch: int) -> str | None:
        """What was said of a batch at its end, as JSON; the first versions kept nothing of it."""
        if self._version < 4:
            return None
        found = self._connection.execute("SELECT json FROM told WHERE batch = ?", (batch,)).fetchone()
        return str(found[0]) if found else None

    def sheets(self) -> tuple[JournalSheet, ...]:
        """All sheets of the journal, the latest first."""
        return sheets(self._connection)

    def outputs(self) -> tuple[WrittenOutput, ...]:
        """All outputs that were written with this journal, the latest first."""
        return outputs_of(self._connection)

    def unknown_runs(self, run_ids: Iterable[str]) -> frozenset[str]:
        """Those of these ids that no attempt of it has."""
        return unknown_runs(self._connection, run_ids)

    def never_sent(self, keys: Iterable[bytes]) -> frozenset[bytes]:
        """Those of these keys of which no row of it was sent."""
        return never_sent(self._connection, keys)

    def outcome(self, batch: int, number: int) -> Placed | None:
        """What the row of this number came to; None if no such row took part."""
        found = self._connection.execute(_OUTCOME, (batch, number)).fetchone()
        return _placed(self._connection, found) if found else None

    def story(self, batch: int, number: int) -> tuple[Try, ...]:
        """All attempts, of all nights, for the row that had this number in the batch; the oldest first."""
        found = self._connection.execute("SELECT row FROM place WHERE batch = ? AND number = ?", (batch, number))
        return self._tries(row for (row,) in found.fetchall())

    def key_columns(self, batch: int | None = None) -> tuple[str, ...]:
        """The columns that a batch, or the last one, knew its rows by; none where all params were the key."""
        sql = "SELECT key_columns FROM batch WHERE coalesce(id = ?, 1) ORDER BY id DESC LIMIT 1"
        found = self._connection.execute(sql, (batch,)).fetchone()
        return tuple(msgspec.json.decode(found[0], type=list[str])) if found else ()

    def story_of_key(self, key: bytes, form: bytes | None = None) -> tuple[Try, ...]:
        """As `story`, for all rows with this key, or with another form of it."""
        found = self._connection.execute(_OF_KEY, {"key": key, "form": form})
        return self._tries(row for (row,) in found.fetchall())

    def _tries(self, rows: Iterator[int]) -> tuple[Try, ...]:
        tries = []
        sql = _STORY.replace("coalesce(origin, '')", "''") if self._version < 3 else _STORY
        for row in rows:
            named = {"row": row, "living": self.living, "lost": LOST}
            for attempt, *found in self._connection.execute(sql, named).fetchall():
                resolutions = tuple(Resolution(*each) for each in self._connection.execute(_RESOLUTIONS, (attempt,)))
                tries.append(msgspec.structs.replace(Try(*found), resolutions=resolutions))
        return tuple(tries)


_OF_KEY = (
    "SELECT id FROM row WHERE key IN (:key, :form) OR id IN (SELECT row FROM alias WHERE key IN (:key, :form))"
    " ORDER BY nth, id"
)
_BATCH = _BATCHES.replace("ORDER BY id", "WHERE id = ?")
_SPANS = (
    "SELECT number, outcome.status, coalesce(outcome.error, ''), attempt.batch = outcome.batch,"
    " started_at, ended_at, coalesce(outcome.run_id, '') FROM outcome LEFT JOIN attempt ON attempt.id = outcome.attempt"
    " WHERE outcome.batch = ? AND number > ? ORDER BY number LIMIT ?"
)
_SPANS_PAGE = 2000


class Span(msgspec.Struct, frozen=True):
    """What a row of a batch came to, and when its run was known to have begun and to have ended.

    Times are UTC as recorded, None where that is not known. `here`: this batch sent it, not an earlier one.
    """

    number: int
    status: str
    error: str
    here: bool
    started: str | None
    ended: str | None
    run_id: str = ""


def batch_of(connection: sqlite3.Connection, batch: int) -> BatchRecord:
    """What is recorded of the batch."""
    return BatchRecord(*connection.execute(_BATCH, (batch,)).fetchone())


def spans(connection: sqlite3.Connection, batch: int) -> Iterator[Span]:
    """The batch's rows in order of number, page by page."""
    number = -1
    while page := connection.execute(_SPANS, (batch, number, _SPANS_PAGE)).fetchall():
        for number, status, error, here, *rest in page:
            yield Span(number, status, error, bool(here), *rest)
