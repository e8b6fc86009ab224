"""The file of kept runs: made, held by one service at a time, looked over, and what a kill left in it ended."""

from __future__ import annotations

import os
import sqlite3
import uuid
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from batch_runner import __version__
from batch_runner.errors import RunsBusy, UsageError, reason_of
from batch_runner.journal.commits import commit
from batch_runner.lock import Held, locked
from batch_runner.service.store.schema import APPLICATION_ID, SCHEMA, VERSION

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CUT_OFF = "The service was restarted while the task ran; how far it had come is not known."
NEVER_BEGUN = "The service was restarted before the task had begun: nothing of it was done."

_NEXT_STEP = "name another --runs: this service will then know none of its runs"
_UNUSABLE = (OSError, sqlite3.Error, MemoryError, UnicodeDecodeError)


class Opened(NamedTuple):
    """The file's two connections, and its name for itself. Each connection is for one thread at a time."""

    writer: sqlite3.Connection
    reader: sqlite3.Connection
    memory: str


@contextmanager
def opened(path: Path, moment: str) -> Iterator[Opened]:
    """Hold the runs at `path`, which are made if there are none, and end what was interrupted as of `moment`.

    Raises `RunsBusy` if another service holds them, `UsageError` where they can't be used.
    """
    path = path.absolute()
    with _holding(path), closing(_writer(path, moment)) as writer, closing(_connect(path, "ro")) as reader:
        (memory,) = reader.execute("SELECT id FROM memory").fetchone()
        yield Opened(writer, reader, memory)


@contextmanager
def _holding(path: Path) -> Iterator[None]:
    if not path.parent.is_dir():
        raise UsageError(f"{path}: there is no folder {path.parent}; make it, or name another --runs.")
    with ExitStack() as held:
        try:
            held.enter_context(locked(path))
        except Held:
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


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    uri = f"{path.as_uri()}?mode={mode}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=5)


def _writer(path: Path, moment: str) -> sqlite3.Connection:
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # what stands in it is nobody else's to read
        connection = _connect(path, "rw")
        try:
            _make_or_check(path, connection)
            _set_up(path, connection)
            commit(connection, [partial(_take_over, moment)])
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


def _take_over(moment: str, connection: sqlite3.Connection) -> None:
    """Say who holds the file from now on, and end what the last one left going."""
    connection.execute(
        "INSERT INTO memory SELECT ?, ?, '', 0, '' WHERE NOT EXISTS (SELECT 1 FROM memory)", (uuid.uuid4().hex, moment)
    )
    connection.execute("UPDATE memory SET version = ?, pid = ?, opened = ?", (__version__, os.getpid(), moment))
    connection.execute(
        "UPDATE run SET status = 'failure', ended = ?, error = iif(status = 'queued', ?, ?) WHERE ended IS NULL",
        (moment, NEVER_BEGUN, CUT_OFF),
    )
