"""Room for what is in flight when the journal's disk fills up: without it, answers under way could not be recorded.

It is set aside as a file before the first start, and freed when the disk is found full. From then on nothing is
started, and what was started is recorded in the room that the file leaves.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from batch_runner.errors import NEW_JOURNAL, JournalError, JournalFull, reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROOM = 1 << 20
"""Bytes. Some hundred rows in flight end in that, if their results are not long."""

NO_ROOM = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)
"""What sqlite says on a full disk, of the journal and of the shared memory beside it (sqlite.org/rescode.html)."""


class Reserve:
    """Room that was set aside beside a journal."""

    def __init__(self, file: Path) -> None:
        self._file: Final = file
        self._is_freed = False

    def free(self, error: sqlite3.Error) -> bool:
        """Whether the error says that the disk is full, and the room was still there; now it is free."""
        if self._is_freed or getattr(error, "sqlite_errorcode", None) not in NO_ROOM:
            return False
        self._file.unlink()
        self._is_freed = True
        return True

    def check(self) -> None:
        """Raise `JournalFull` once the room is in use: then it is kept for what was started before."""
        if self._is_freed:
            raise JournalFull(
                f"the disk is full ({self._file.parent}), so nothing more was started, and what had been is recorded; "
                "make room and run the same command: it goes on from there"
            )


@contextmanager
def set_aside(path: Path) -> Iterator[Reserve]:
    """Hold the room beside the journal at `path` while the block runs. Raises `JournalError` where there is none."""
    file = path.with_name(f"{path.name}-reserve")
    try:
        try:
            file.write_bytes(os.urandom(ROOM))  # zeros would take no room where the file system compresses
        except OSError as error:
            raise JournalError(
                f"{path}: no room can be set aside in {path.parent} ({reason_of(error)}); "
                f"a batch needs 1 MB there at least: make room, or use {NEW_JOURNAL}"
            ) from error
        yield Reserve(file)
    finally:
        file.unlink(missing_ok=True)
