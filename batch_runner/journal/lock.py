"""One batch at a time holds a journal."""

from __future__ import annotations

import sqlite3
import tempfile
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING

from batch_runner.errors import NEW_JOURNAL, JournalBusy, JournalError, reason_of
from batch_runner.lock import Held, locked

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def holding(path: Path) -> Iterator[None]:
    """Hold the journal at `path` for as long as the block runs.

    Raises `JournalBusy` at once if another process holds it, `JournalError` where no lock can be had: the folder is
    missing or read-only, or its file system has no locks.
    """
    _check_place(path)
    with ExitStack() as held:
        try:
            held.enter_context(locked(path))
        except Held:
            raise JournalBusy(f"{path}: {_holder(path)}; wait until it ends") from None
        except OSError as error:
            raise _no_lock(path, error) from error
        yield


def _check_place(path: Path) -> None:
    """Raise `JournalError` where no journal can be: its folder is missing, or it is a folder itself."""
    if not path.parent.is_dir():
        raise JournalError(
            f"{path}: there is no folder {path.parent}; make it for a first batch, or bring back the one that was there"
        )
    if path.is_dir():
        raise JournalError(f"{path}: the journal is a folder; name a file")


def look_at_place(path: Path) -> None:
    """Raise `JournalError` where no batch could hold a journal; nothing is made that stays."""
    _check_place(path)
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            return
    except OSError as error:
        raise _no_lock(path, error) from error


def _no_lock(path: Path, error: OSError) -> JournalError:
    """What to say where nothing can be written beside a journal."""
    return JournalError(f"{path}: no lock can be had in {path.parent} ({reason_of(error)}); use {NEW_JOURNAL}")


def _holder(path: Path) -> str:
    """Who holds the journal, as far as it says itself; its first moments are not recorded yet."""
    query = "SELECT pid, started FROM batch WHERE ended IS NULL ORDER BY id DESC LIMIT 1"
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=0.2)) as connection:
            pid, started = connection.execute(query).fetchone()
    except (sqlite3.Error, TypeError):
        return "another batch holds this journal"
    return f"another batch holds this journal: process {pid}, started {started}"
