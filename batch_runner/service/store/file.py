"""Runs in a file: what was answered for is known after a restart, and forgotten when it is old enough.

Nothing of an ended run is held in memory. Whatever is recorded waits for its group's commit; reading has a connection
of its own, so that nobody waits for the disk to be told how a run is.
"""

from __future__ import annotations

import sqlite3
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import anyio
from anyio import to_thread

from batch_runner.api import Run
from batch_runner.errors import JournalFailed
from batch_runner.journal.commits import Commits, commit
from batch_runner.log import LOG
from batch_runner.service.store.opening import opened
from batch_runner.service.store.store import Named, NotRecorded, Promise

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from batch_runner.journal.commits import Event
    from batch_runner.service.asked import Asked
    from batch_runner.service.store.opening import Opened

UPKEEP_GAP = 3600.0
"""Seconds between two looks for runs that are old enough to be forgotten; less where they are kept for some hours."""

_FORGOTTEN_AT_ONCE = 500
"""Runs that are forgotten in one commit: who waits for the next doesn't wait long."""


def utc_now() -> datetime:
    """This moment."""
    return datetime.now(UTC)


@contextmanager
def kept_in(path: Path, keep: float, now: Callable[[], datetime] = utc_now) -> Iterator[InFile]:
    """The runs at `path`, for as long as the block runs; ended ones are kept for `keep` seconds.

    Raises as `opening.opened` does.
    """
    with opened(path, _text(now())) as file:
        store = InFile(file, keep, now)
        try:
            yield store
        finally:
            store.close()


class InFile:
    """See Store. Needs an event loop with threads, and the file to itself."""

    def __init__(self, file: Opened, keep: float, now: Callable[[], datetime]) -> None:
        self._writer, self._reader, self._memory = file
        self._keep = timedelta(seconds=keep)
        self._now = now
        self._commits = Commits(self._write)
        self._unwritten: dict[str, Run] = {}
        self._trouble: str | None = None

    async def queued(self, run: Run, asked: Asked) -> None:
        """See Store."""
        await self._commit(partial(_insert, run, asked, self._moment()))

    async def running(self, run_id: str) -> None:
        """See Store."""
        await self._commit(partial(_begin, run_id, self._moment()))

    async def ended(self, run: Run) -> None:
        """See Store."""
        try:
            await self._commit(partial(_end, run, self._moment()))
        except NotRecorded:
            self._unwritten[run.run_id] = run

    def tell(self, run_id: str) -> Run | None:
        """See Store."""
        return self._unwritten.get(run_id) or _read(self._reader, run_id)

    def named(self, key: str) -> Named | None:
        """See Store."""
        found = self._reader.execute("SELECT run_id, asked FROM run WHERE key = ?", (key,)).fetchone()
        return found and Named(*found)

    def promise(self) -> Promise:
        """See Store."""
        (since,) = self._reader.execute("SELECT since FROM memory").fetchone()
        known = self._now() - datetime.fromisoformat(since)
        return Promise(max(0.0, min(known, self._keep).total_seconds()), self._memory)

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
        before = _text(self._now() - self._keep)
        forgotten: list[int] = []
        while True:
            await self._commit(partial(_forget, before, forgotten))
            if forgotten.pop() < _FORGOTTEN_AT_ONCE:
                return

    def close(self) -> None:
        """Write what could not be written before, if it can be now."""
        try:
            commit(self._writer, self._late_events())
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
        await to_thread.run_sync(commit, self._writer, [*self._late_events(), *events])
        for run_id in late:
            del self._unwritten[run_id]

    def _late_events(self) -> list[Event]:
        return [partial(_end, run, self._moment()) for run in self._unwritten.values()]

    def _moment(self) -> str:
        return _text(self._now())


def _text(moment: datetime) -> str:
    """As recorded: UTC, to the millisecond; such texts sort as their moments do."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _insert(run: Run, asked: Asked, moment: str, connection: sqlite3.Connection) -> None:
    connection.execute(
        "INSERT INTO run (run_id, key, asked, task, session_id, status, started) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (run.run_id, asked.key, asked.fingerprint, asked.task_id, run.session_id, run.status, moment),
    )


def _begin(run_id: str, moment: str, connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE run SET status = 'running', began = ? WHERE run_id = ?", (moment, run_id))


def _end(run: Run, moment: str, connection: sqlite3.Connection) -> None:
    connection.execute(
        "UPDATE run SET status = ?, ended = ?, error = ?, began = iif(?, NULL, began) WHERE run_id = ?",
        (run.status, moment, run.error, run.never_began, run.run_id),
    )
    if result := bytes(run.result):
        connection.execute(
            "INSERT OR REPLACE INTO result SELECT number, ? FROM run WHERE run_id = ?", (result.decode(), run.run_id)
        )


def _forget(before: str, forgotten: list[int], connection: sqlite3.Connection) -> None:
    """Delete some of the runs that ended before that moment; how many they were is appended to `forgotten`."""
    connection.execute("UPDATE memory SET since = max(since, ?)", (before,))
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
    run = Run(run_id, status, error=error, session_id=session_id, never_began=bool(never_began))
    return run.with_result(result.encode())
