"""One batch at a time holds a journal. The lock is the kernel's (flock), so it dies with its process."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from batch_runner.errors import JournalBusy, JournalError, reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def holding(path: Path) -> Iterator[None]:
    """Hold the journal at `path` for as long as the block runs.

    Raises `JournalBusy` at once if another process holds it, `JournalError` where no lock can be had: the folder is
    missing or read-only, or its file system has no locks. The lock file is `NAME-lock` beside the journal. It is
    removed at the end, while still locked: who waits for it finds that it has no name any more, and takes a new one.
    """
    if not path.parent.is_dir():
        raise JournalError(f"{path}: there is no folder {path.parent}; make it, or name another --journal")
    name = path.with_name(f"{path.name}-lock")
    lock = FileLock(name, timeout=0, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise JournalBusy(f"{path}: {_holder(path)}; wait for it to end, or use another --journal") from None
    except OSError as error:
        raise JournalError(
            f"{path}: no lock can be had in {path.parent} ({reason_of(error)}); use another --journal"
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):  # on a disk that has become read-only it stays, and does no harm
            name.unlink()
        lock.release()


def _holder(path: Path) -> str:
    """Who holds the journal, as far as it says itself; its first moments are not recorded yet."""
    query = "SELECT pid, started FROM batch WHERE ended IS NULL ORDER BY id DESC LIMIT 1"
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=0.2)) as connection:
            pid, started = connection.execute(query).fetchone()
    except (sqlite3.Error, TypeError):
        return "another batch holds this journal"
    return f"another batch holds this journal: process {pid}, started {started}"
