"""Group commit: whoever waits is told when the commit that holds their event is on disk.

It is set aside as a file before the first start, and freed when the disk is found full. From then on nothing is
started, and what was started is recorded in the room that the file leaves.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Final

import anyio
from anyio import CancelScope, to_thread
from anyio.lowlevel import checkpoint

from batch_runner import log
from batch_runner.errors import (
    ExitCode,
    JournalError,
    JournalFailed,
    JournalFull,
    JournalLocked,
    elsewhere,
    reason_of,
)
from batch_runner.fs import open_at_once

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    Event = Callable[[sqlite3.Connection], object]
    Write = Callable[[list[Event]], Awaitable[None]]
    "Writes a group of events: all of them are on disk when it returns, or none."


LOCK_LOOK = 200
"""Milliseconds of waiting for the write lock between two looks at whether there is time to wait on."""

out_of_time: ContextVar[Callable[[], ExitCode | None]] = ContextVar("out_of_time", default=lambda: None)
"""Asks whether a signal has left no more time to wait for the write lock, and for its exit code; also in threads."""


def begin_writing(connection: sqlite3.Connection) -> None:
    """Begin a transaction. As long as another program holds the write lock (a shell, a backup), wait and say so.

    Raises `JournalLocked` where `out_of_time` says that the program has to end.
    """
    (path,) = connection.execute("SELECT file FROM pragma_database_list WHERE name = 'main'").fetchone()
    (patience,) = connection.execute("PRAGMA busy_timeout").fetchone()
    began, is_told = time.monotonic(), False
    try:
        connection.execute(f"PRAGMA busy_timeout = {min(patience, LOCK_LOOK)}")
        while not begins(connection):
            code = out_of_time.get()()
            if code is not None:
                raise JournalLocked(
                    f"{path}: told to end while another program had locked the journal (a database shell, a backup?). "
                    "The journal is whole, and each start is in it. Once the lock is gone, the same command goes on "
                    "and writes the output. A row whose answer couldn't be recorded is unknown then: it is not sent "
                    "again by itself",
                    code,
                )
            if not is_told and (time.monotonic() - began) * 1000 >= patience:
                log.warning(
                    f"{path}: another program has locked the journal (a database shell, a backup?); waiting until it "
                    "lets go: nothing is started meanwhile, and nothing is lost"
                )
                is_told = True
    finally:
        connection.execute(f"PRAGMA busy_timeout = {patience}")
    if is_told:
        log.warning("the journal is free again; the batch goes on")


def begins(connection: sqlite3.Connection) -> bool:
    """Begin a transaction, unless another program holds the write lock for as long as the connection waits."""
    try:
        connection.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
            raise
        return False
    return True


LAST_CALL = 3
"""Turns of the event loop before a commit to a disk, in which others come along: whoever is just told of an answer, and
the row that gets the slot of one that has ended."""


class Commits:
    """Events gather while a commit is under way; the first of a group commits it when that is through.

    There is no task and no thread that would have to be started, stopped or outlive a cancellation: a waiter leads
    its group, and is shielded while it does. Nothing is written after a failure: what can't be recorded isn't sent.
    """

    def __init__(self, write: Write, last_call: int = 0) -> None:
        self._write: Final = write
        self._last_call: Final = last_call
        self._gathering = _Group()
        self._is_busy = False
        self._failure: BaseException | None = None

    async def add(self, event: Event) -> None:
        """Return when the event is on disk. Raises `JournalFailed` if it can't be."""
        self._raise_failure()
        group = self._gathering
        group.events.append(event)
        # The event is in the group and will be written, so who is cancelled must still learn whether it was.
        with CancelScope(shield=True):
            if group.has_leader:
                await group.done.wait()
            else:
                group.has_leader = True
                await self._lead(group)
        if not group.is_written:
            self._raise_failure()

    def add_later(self, event: Event) -> None:
        """Write the event with the next commit, whoever asks for it."""
        self._raise_failure()
        self._gathering.events.append(event)

    async def _lead(self, group: _Group) -> None:
        if self._is_busy:
            await group.turn.wait()
        for _ in range(self._last_call):
            await checkpoint()
        self._is_busy = True
        self._gathering = _Group()  # what comes during this write is committed by the next one
        try:
            self._raise_failure()
            await self._write(group.events)
            group.is_written = True
            group.events.clear()  # a thread that has written them would remember them, and what results they hold
        except BaseException as error:
            self._failure = self._failure or error
            if not isinstance(error, sqlite3.Error | JournalLocked):
                raise
        finally:
            self._is_busy = False
            self._gathering.turn.set()
            group.done.set()

    def _raise_failure(self) -> None:
        if isinstance(self._failure, JournalLocked):
            raise JournalLocked(str(self._failure), self._failure.exit_code) from self._failure
        if self._failure is not None:
            raise JournalFailed(
                f"the journal could not be written ({self._failure}), so nothing more is sent; "
                "fix that (is its disk full?) and run the same command: it goes on from what is recorded"
            ) from self._failure


class Brief(partial[object]):
    """An event of a few statements about one row, which take a moment."""


SHORT = 1 << 16
"""Characters of a result that is written in a moment."""


class _Group:
    """Events that are committed together, by the one who came first."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.turn = anyio.Event()
        self.done = anyio.Event()
        self.has_leader = False
        self.is_written = False


def commit(
    connection: sqlite3.Connection, events: list[Event], begin: Callable[[sqlite3.Connection], object] = begin_writing
) -> None:
    """Write all of them in one transaction, in order."""
    begin(connection)
    with _or_nothing(connection):
        for event in events:
            event(connection)
    _finish(connection)


async def commit_in_thread(
    connection: sqlite3.Connection, events: list[Event], begin: Callable[[sqlite3.Connection], object] = begin_writing
) -> None:
    """As `commit`, but nobody else waits for the disk: a thread does.

    Brief events are written here all the same. In a thread each of their statements would wait for the event loop to
    let go of the interpreter, and the loop for them.
    """
    if all(isinstance(event, Brief) for event in events) and _begins_at_once(connection):
        with _or_nothing(connection):
            for event in events:
                event(connection)
        await to_thread.run_sync(_finish, connection)
    else:
        await to_thread.run_sync(commit, connection, events, begin)


def _begins_at_once(connection: sqlite3.Connection) -> bool:
    """Begin a transaction, unless another program holds the write lock."""
    (patience,) = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        return begins(connection)
    finally:
        connection.execute(f"PRAGMA busy_timeout = {patience}")


def _finish(connection: sqlite3.Connection) -> None:
    with _or_nothing(connection):
        connection.execute("COMMIT")


@contextmanager
def _or_nothing(connection: sqlite3.Connection) -> Iterator[None]:
    """Take the transaction back where something fails."""
    try:
        yield
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def in_thread(connection: sqlite3.Connection, reserve: Reserve) -> Write:
    """Commits in a worker thread; where the disk is full, in the room that was set aside."""

    async def write(events: list[Event]) -> None:
        try:
            await commit_in_thread(connection, events)
        except sqlite3.Error as error:
            if not reserve.free(error):
                raise
            await commit_in_thread(connection, events)

    return write


def inline(connection: sqlite3.Connection) -> Write:
    """Commits here and now: for a journal in memory, whose clock may be a virtual one."""

    async def write(events: list[Event]) -> None:
        commit(connection, events)

    return write


ROOM = 1 << 20
"""Bytes. Some hundred rows in flight end in that, if their results are not long."""

NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_WRITE)
"""What sqlite says on a full disk, of the journal and of the shared memory beside it; and of a quota (EDQUOT)
(sqlite.org/rescode.html)."""


class Reserve:
    """Room that was set aside beside a journal."""

    def __init__(self, file: Path) -> None:
        self._file: Final = file
        self._is_freed = False

    def free(self, error: sqlite3.Error) -> bool:
        """Whether the error says that the disk is full, and the room was still there; now it is free."""
        if self._is_freed or getattr(error, "sqlite_errorcode", None) not in NO_ROOM:
            return False
        self._file.unlink(missing_ok=True)
        self._is_freed = True
        return True

    def check(self) -> None:
        """Raise `JournalFull` once the room is in use: then it is kept for what was started before."""
        if self._is_freed:
            raise JournalFull(
                f"the disk is full, or a quota used up ({self._file.parent}), so nothing more was started, and what "
                "had been is recorded; make room and run the same command: it goes on from there"
            )


@contextmanager
def set_aside(path: Path) -> Iterator[Reserve]:
    """Hold the room beside the journal at `path` while the block runs. Raises `JournalError` where there is none."""
    file = path.with_name(f"{path.name}-reserve")
    if file.is_symlink() or file.is_dir():
        raise JournalError(f"{file}: room is set aside in a file of this name, and this is none; remove it")
    try:
        try:
            handle = open_at_once(file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
            with os.fdopen(handle, "wb") as room:
                room.write(os.urandom(ROOM))  # zeros would take no room where the file system compresses
        except OSError as error:
            raise JournalError(
                f"{path}: no room can be set aside in {path.parent} ({reason_of(error)}); "
                f"a batch needs 1 MB there at least: make room{elsewhere(path)}"
            ) from error
        yield Reserve(file)
    finally:
        file.unlink(missing_ok=True)


async def close(connection: sqlite3.Connection, path: Path, reserve: Reserve) -> None:
    """Copy what is left in the WAL into the journal: one file remains, unless somebody still reads it."""
    is_whole = False
    with anyio.CancelScope(shield=True):
        if out_of_time.get()() is not None:
            connection.execute(f"PRAGMA busy_timeout = {LOCK_LOOK}")
        with suppress(sqlite3.Error):  # no room even for that: then the WAL can't be emptied either, and stays beside
            try:
                is_whole = await to_thread.run_sync(mark_whole, connection)
            except sqlite3.Error as error:  # closing may empty the WAL all the same: unmarked, it'd be half a journal
                if reserve.free(error):
                    is_whole = await to_thread.run_sync(mark_whole, connection)
        await to_thread.run_sync(connection.close)
    if is_whole:
        with suppress(OSError):  # what stays does no harm: the next batch keeps another
            _kept_of(path).unlink(missing_ok=True)


LONG_RESULT = 1 << 20
"""Characters from which on a result is written and read in pieces: SQLite makes two copies of what it is handed, keeps
one of them until the statement is used again, and makes three of what it hands out."""


def put_result(connection: sqlite3.Connection, attempt: int, result: str) -> None:
    """Write what a run gave back; within a commit."""
    if len(result) < LONG_RESULT:
        connection.execute("INSERT OR REPLACE INTO result VALUES (?, ?)", (attempt, result))
        return
    pieces = [slice(start, start + LONG_RESULT) for start in range(0, len(result), LONG_RESULT)]
    size = sum(len(result[piece].encode()) for piece in pieces)
    connection.execute("INSERT OR REPLACE INTO result VALUES (?, zeroblob(?))", (attempt, size))
    with connection.blobopen("result", "json", attempt) as blob:
        for piece in pieces:
            blob.write(result[piece].encode())


def long_result(connection: sqlite3.Connection, attempt: int) -> str:
    """A result that was written in pieces."""
    with connection.blobopen("result", "json", attempt, readonly=True) as blob:
        return str(blob.read(), "utf-8")


WAL_HEADER = 32
FRAME_HEADER = 24
"""Bytes (SQLite file format, section 4)."""
_KEPT = "-wal-kept"
_MOST = (1 << 63) - 1
"""What an integer of SQLite holds."""


def mark_whole(connection: sqlite3.Connection) -> bool:
    """Say in the journal's file that no batch is under way, and put all into it that is in the WAL; whether it is in.

    Closing does that only where nobody else reads it just now.
    """
    connection.execute("UPDATE about SET under_way = 0 WHERE under_way")
    (is_busy, *_pages) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not is_busy


def keep_wal(path: Path) -> int:
    """Give the WAL of a batch that begins a second name; gives its inode, or 1 where it can't be kept.

    After a kill a database shell puts the WAL into the journal when it ends, and takes its name away. Under the other
    one it tells whether it is all there: it is the very file to which each commit was synced. A copy has another inode.
    """
    wal, kept = path.with_name(f"{path.name}-wal"), _kept_of(path)
    try:
        if not (kept.exists() and kept.samefile(wal)):
            kept.unlink(missing_ok=True)
            kept.hardlink_to(wal)
        return _inode(kept)
    except OSError:  # a file system without links, for one
        return 1


def kept_wal(path: Path, inode: int) -> Path | None:
    """The WAL of this inode under its second name; None where nobody kept it, or it was emptied since."""
    kept = _kept_of(path)
    is_it = inode > 1 and kept.is_file() and _inode(kept) == inode and kept.stat().st_size > WAL_HEADER
    return kept if is_it else None


def is_put_in(wal: Path, path: Path) -> bool:
    """Whether each page that was committed to a WAL stands in the journal's file, byte for byte.

    A frame is the WAL's own if it has the salts of its header; one that says how long the journal is commits those
    before it. Where that can't be told (a torn frame), the answer is no.
    """
    committed: dict[int, int] = {}
    written: dict[int, int] = {}
    pages = 0
    with wal.open("rb") as frames, path.open("rb") as journal:
        header = frames.read(WAL_HEADER)
        size, salts = int.from_bytes(header[8:12]), header[16:24]
        while len(frame := frames.read(FRAME_HEADER)) == FRAME_HEADER and frame[8:16] == salts:
            written[int.from_bytes(frame[:4])] = frames.tell()
            if length := int.from_bytes(frame[4:8]):
                pages = length
                committed.update(written)
                written.clear()
            frames.seek(size, os.SEEK_CUR)
        found = [(number, place) for number, place in committed.items() if number <= pages]
        return bool(found) and all(
            _read(journal, (number - 1) * size, size) == _read(frames, place, size) for number, place in found
        )


def _read(file: BinaryIO, place: int, size: int) -> bytes:
    file.seek(place)
    return file.read(size)


def _kept_of(path: Path) -> Path:
    return path.with_name(f"{path.name}{_KEPT}")


def _inode(path: Path) -> int:
    return path.stat().st_ino & _MOST or 1
