"""Runs kept in a file: known after a restart, forgotten when old enough.

Nothing of an ended run is held in memory. Whatever is recorded waits for its group's commit; reading has a connection
of its own, so that nobody waits for the disk to be told how a run is.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
import uuid
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import anyio

from batch_runner._version import __version__
from batch_runner.errors import JournalFailed, RunsBusy, UsageError, reason_of
from batch_runner.fs import LockHeld, hold_lock
from batch_runner.journal.database import uri_of
from batch_runner.journal.group_commit import SHORT, Brief, Commits, commit, commit_in_thread
from batch_runner.log import LOG
from batch_runner.service.local.store import Named, NotRecorded, Promise, fingerprint_of
from batch_runner.service.protocol import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from batch_runner.journal.group_commit import Event
    from batch_runner.service.protocol import StartRequest


APPLICATION_ID = 0x62725231
"""`brR1`, in the file's header (SQLite file format, section 1.3.15): says whose file this is."""

VERSION = 1
"""The schema's own, in the header's `user_version`."""

SCHEMA = """\
-- The runs of batch-runner serve: each run that was started, and what it came to.
-- Times are UTC (ISO 8601). Params are not kept: what was asked for stands here as a hash only.

CREATE TABLE memory (             -- one row: what this file knows
    id      TEXT NOT NULL,        -- its name; a new file has another, so that a client sees that keys were forgotten
    since   TEXT NOT NULL,        -- every run that was started since then is in here
    version TEXT NOT NULL,        -- of the batch-runner that holds it, or held it last
    pid     INTEGER NOT NULL,     -- its process
    opened  TEXT NOT NULL         -- since when
);

CREATE TABLE run (
    number  INTEGER PRIMARY KEY,
    run_id  TEXT NOT NULL UNIQUE,
    key     TEXT UNIQUE,          -- the Idempotency-Key of its start, if it had one
    asked   BLOB NOT NULL,        -- hash of the task's id and the start's body
    task    TEXT NOT NULL,
    session_id TEXT,
    status  TEXT NOT NULL,        -- queued, running: until its end is known; unknown: a failure that was cut off
    started TEXT NOT NULL,        -- on disk before the start was answered
    began   TEXT,                 -- on disk before its task began; empty: it has not
    ended   TEXT,
    error   TEXT
);
CREATE INDEX run_ended ON run (ended);

CREATE TABLE result (             -- what a run gave back: JSON, to the letter
    run  INTEGER PRIMARY KEY REFERENCES run,
    json TEXT NOT NULL
);
"""

CUT_OFF = "The service was restarted while the task ran; how far it had come is not known."
NEVER_BEGUN = "The service was restarted before the task had begun: nothing of it was done."

_UNKNOWN = "unknown"
"""The file's word for a run that was cut off."""
_NEXT_STEP = "name another --runs: this service will then know none of its runs"
_UNUSABLE = (OSError, sqlite3.Error, MemoryError, UnicodeDecodeError)


class Connections(NamedTuple):
    """The file's two connections, its name for itself, and since when it knows all runs.

    Each connection is for one thread at a time.
    """

    writer: sqlite3.Connection
    reader: sqlite3.Connection
    memory: str
    since: datetime


@contextmanager
def open_connections(path: Path, moment: str, repeatable: Sequence[str]) -> Iterator[Connections]:
    """Hold the runs at `path`, which are made if there are none, and end what was interrupted as of `moment`.

    A run of a `repeatable` task has failed by that; of any other it isn't known how far it came.

    Raises `RunsBusy` if another service holds them, `UsageError` where they can't be used.
    """
    path = path.absolute()
    with _hold(path), closing(_writer(path, moment, repeatable)) as writer, closing(_connect(path, "ro")) as reader:
        memory, since = reader.execute("SELECT id, since FROM memory").fetchone()
        yield Connections(writer, reader, memory, datetime.fromisoformat(since))


@contextmanager
def _hold(path: Path) -> Iterator[None]:
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}; make it, or name another --runs.")
    with ExitStack() as held:
        try:
            held.enter_context(hold_lock(path))
        except LockHeld:
            raise RunsBusy(f"{path}: {_holder(path)}; stop it, or name another --runs.") from None
        except OSError as error:
            raise UsageError(
                f"{path}: no lock can be had in {path.parent} ({reason_of(error)}); name another --runs."
            ) from error
        yield


def _holder(path: Path) -> str:
    try:
        with closing(_connect(path, "ro")) as connection:
            pid, since = connection.execute("SELECT pid, opened FROM memory").fetchone()
    except (sqlite3.Error, TypeError):
        return "another service holds these runs"
    return f"another service holds these runs: process {pid}, since {since}"


LOCK_SECONDS = 2.0
"""How long another program (a shell, a backup) may lock the file until what is to be written can't be for now."""


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    return sqlite3.connect(
        uri_of(path, f"mode={mode}"), uri=True, isolation_level=None, check_same_thread=False, timeout=LOCK_SECONDS
    )


def _take_lock(connection: sqlite3.Connection) -> None:
    """A service doesn't wait on: who starts a run is told to come back, and its own end has to come in time."""
    connection.execute("BEGIN IMMEDIATE")


def _writer(path: Path, moment: str, repeatable: Sequence[str]) -> sqlite3.Connection:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # what stands in it is nobody else's to read
        connection = _connect(path, "rw")
        try:
            _make_or_check(path, connection)
            _set_up(path, connection)
            commit(connection, [partial(_take_over, moment, repeatable)], _take_lock)
        except BaseException:
            connection.close()
            raise
    except _UNUSABLE as error:
        raise UsageError(f"{path}: the runs can't be used: {error}; {_NEXT_STEP}.") from error
    return connection


def _make_or_check(path: Path, connection: sqlite3.Connection) -> None:
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    ours, version = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version"))
    if (tables, ours) == (0, 0):
        connection.executescript(
            f"BEGIN; {SCHEMA} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT"
        )
    elif ours != APPLICATION_ID:
        raise UsageError(f"{path}: this file holds no runs of batch-runner serve; name another --runs.")
    elif version != VERSION:
        raise UsageError(
            f"{path}: these runs have version {version}, and this batch-runner knows version {VERSION}; "
            "use the batch-runner that wrote them, or a newer one."
        )
    elif (found := connection.execute("PRAGMA integrity_check(run)").fetchone()[0]) != "ok":
        raise UsageError(f"{path}: the runs are damaged ({found}); {_NEXT_STEP}.")


def _set_up(path: Path, connection: sqlite3.Connection) -> None:
    (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise UsageError(f"{path}: the file system has no shared memory for this file; name --runs on a local disk.")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    connection.execute("PRAGMA secure_delete = ON")  # a result that was forgotten is not left in a free page


def _take_over(moment: str, repeatable: Sequence[str], connection: sqlite3.Connection) -> None:
    """Say who holds the file from now on, and end what the last one left going."""
    connection.execute(
        "INSERT INTO memory SELECT ?, ?, '', 0, '' WHERE NOT EXISTS (SELECT 1 FROM memory)", (uuid.uuid4().hex, moment)
    )
    connection.execute("UPDATE memory SET version = ?, pid = ?, opened = ?", (__version__, os.getpid(), moment))
    may_fail = ", ".join("?" * len(repeatable))
    connection.execute(
        f"UPDATE run SET ended = ?, error = iif(status = 'queued', ?, ?),"  # noqa: S608  only question marks
        f" status = iif(status = 'queued' OR task IN ({may_fail}), 'failure', ?) WHERE ended IS NULL",
        (moment, NEVER_BEGUN, CUT_OFF, *repeatable, _UNKNOWN),
    )


UPKEEP_GAP = 3600.0
"""Seconds between two looks for runs that are old enough to be forgotten; less where they are kept for some hours."""

_FORGOTTEN_AT_ONCE = 500
"""Runs that are forgotten in one commit: who waits for the next doesn't wait long."""


CLOCK_SET = 60.0
"""Seconds that the clock gains or loses at once where somebody has set it."""


def utc_now() -> datetime:
    """This moment."""
    return datetime.now(UTC)


def steady_seconds() -> float:
    """Seconds since some moment, whatever the clock is set to; a sleep of the machine counts, where that is known."""
    if sys.platform == "linux":
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


@contextmanager
def open_runs(
    path: Path,
    keep: float,
    now: Callable[[], datetime] = utc_now,
    steady: Callable[[], float] = steady_seconds,
    *,
    repeatable: Sequence[str] = (),
) -> Iterator[InFile]:
    """The runs at `path`, for as long as the block runs; ended ones are kept for `keep` seconds.

    `repeatable` are the ids of the tasks of which a run that is cut off has simply failed.

    Raises as `open_connections` does.
    """
    with open_connections(path, _text(now()), repeatable) as file:
        store = InFile(file, keep, now, steady)
        try:
            yield store
        finally:
            store.close()


class InFile:
    """See Store. Needs an event loop with threads, and the file to itself."""

    def __init__(
        self, file: Connections, keep: float, now: Callable[[], datetime], steady: Callable[[], float]
    ) -> None:
        self._writer, self._reader, self._memory, self._since = file
        self._keep = timedelta(seconds=keep)
        self._now = now
        self._steady = steady
        self._ahead = now().timestamp() - steady()
        self._commits = Commits(self._write)
        self._unwritten: dict[str, Run] = {}
        self._trouble: str | None = None

    async def queued(self, run: Run, request: StartRequest) -> None:
        """See Store."""
        await self._commit(Brief(_insert, run, request, self._moment()))

    async def running(self, run_id: str) -> None:
        """See Store."""
        await self._commit(Brief(_begin, run_id, self._moment()))

    async def ended(self, run: Run) -> None:
        """See Store."""
        try:
            kind = Brief if len(bytes(run.result)) <= SHORT else partial
            await self._commit(kind(_end, run, self._moment()))
        except NotRecorded:
            self._unwritten[run.run_id] = run

    def tell(self, run_id: str) -> Run | None:
        """See Store."""
        return self._unwritten.get(run_id) or _read(self._reader, run_id)

    def told(self, run_id: str) -> None:
        """See Store: it is kept for as long as any."""

    def named(self, key: str) -> Named | None:
        """See Store."""
        found = self._reader.execute("SELECT run_id, asked FROM run WHERE key = ?", (key,)).fetchone()
        return found and Named(*found)

    def promise(self) -> Promise:
        """See Store."""
        known = self._now() - self._known_since()  # what is forgotten from now on is older than is kept
        return Promise(max(0.0, min(known, self._keep).total_seconds()), self._memory)

    def _known_since(self) -> datetime:
        """Every run that was started since then is known.

        By a clock that was set, runs are older or younger than they are, and some are forgotten too soon. So whatever
        was started before is promised no more.
        """
        now = self._now()
        before, self._ahead = self._ahead, now.timestamp() - self._steady()
        if abs(self._ahead - before) > CLOCK_SET:
            self._since = now
        return self._since

    async def trouble(self) -> str | None:
        """See Store."""
        if self._trouble is not None:
            with suppress(NotRecorded):
                await self.forget()
        return self._trouble

    async def upkeep(self) -> None:
        """See Store."""
        while True:
            try:
                await self.forget()
            except NotRecorded:
                LOG.debug("old runs could not be forgotten; it is tried again")
            await anyio.sleep(min(UPKEEP_GAP, self._keep.total_seconds() / 10))

    async def forget(self) -> None:
        """Delete the runs that ended too long ago, some at a time. Raises NotRecorded."""
        before = self._now() - self._keep
        since = max(before, self._known_since())
        forgotten: list[int] = []
        while True:
            await self._commit(partial(_forget, _text(before), _text(since), forgotten))
            if forgotten.pop() < _FORGOTTEN_AT_ONCE:
                return

    def close(self) -> None:
        """Write what could not be written before, if it can be now."""
        try:
            commit(self._writer, self._late_events(), _take_lock)
        except sqlite3.Error as error:
            LOG.error("how %d runs ended could not be recorded: %s", len(self._unwritten), error)

    async def _commit(self, event: Event) -> None:
        commits = self._commits
        try:
            await commits.add(event)
        except JournalFailed as error:
            if self._commits is commits:  # it writes nothing any more; the next one tries again
                self._commits = Commits(self._write)
                LOG.error("the runs can't be recorded, so none is started: %s", error.__cause__)
            self._trouble = f"The runs can't be recorded, so none is started: {error.__cause__}."
            raise NotRecorded(str(error.__cause__)) from error
        self._trouble = None

    async def _write(self, events: list[Event]) -> None:
        """What could not be written before goes first: these runs are older."""
        late = list(self._unwritten)
        await commit_in_thread(self._writer, [*self._late_events(), *events], _take_lock)
        for run_id in late:
            del self._unwritten[run_id]

    def _late_events(self) -> list[Event]:
        return [partial(_end, run, self._moment()) for run in self._unwritten.values()]

    def _moment(self) -> str:
        return _text(self._now())


def _text(moment: datetime) -> str:
    """As recorded: UTC, to the millisecond; such texts sort as their moments do."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _insert(run: Run, request: StartRequest, moment: str, connection: sqlite3.Connection) -> None:
    connection.execute(
        "INSERT INTO run (run_id, key, asked, task, session_id, status, started, began)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, iif(?6 = 'running', ?7, NULL))",
        (run.run_id, request.key, fingerprint_of(request), request.task_id, run.session_id, run.status, moment),
    )


def _begin(run_id: str, moment: str, connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE run SET status = 'running', began = ? WHERE run_id = ?", (moment, run_id))


def _end(run: Run, moment: str, connection: sqlite3.Connection) -> None:
    connection.execute(
        "UPDATE run SET status = ?, ended = ?, error = ?, began = iif(?, NULL, began) WHERE run_id = ?",
        (_UNKNOWN if run.cut_off else run.status, moment, run.error, run.never_began, run.run_id),
    )
    if result := bytes(run.result):
        connection.execute(
            "INSERT OR REPLACE INTO result SELECT number, ? FROM run WHERE run_id = ?", (result.decode(), run.run_id)
        )


def _forget(before: str, since: str, forgotten: list[int], connection: sqlite3.Connection) -> None:
    """Delete some of the runs that ended before that moment; how many they were is appended to `forgotten`."""
    connection.execute("UPDATE memory SET since = max(since, ?)", (since,))
    some = connection.execute("SELECT number FROM run WHERE ended < ? LIMIT ?", (before, _FORGOTTEN_AT_ONCE)).fetchall()
    connection.executemany("DELETE FROM result WHERE run = ?", some)
    connection.executemany("DELETE FROM run WHERE number = ?", some)
    forgotten.append(len(some))


def _read(connection: sqlite3.Connection, run_id: str) -> Run | None:
    found = connection.execute(
        "SELECT status, coalesce(json, ''), error, session_id, ended IS NOT NULL AND began IS NULL"
        " FROM run LEFT JOIN result ON run = number WHERE run_id = ?",
        (run_id,),
    ).fetchone()
    if found is None:
        return None
    status, result, error, session_id, never_began = found
    cut_off, status = status == _UNKNOWN, status.replace(_UNKNOWN, "failure")
    run = Run(run_id, status, error=error, session_id=session_id, never_began=bool(never_began), cut_off=cut_off)
    return run.with_result(result.encode())
