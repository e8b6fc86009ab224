"""A batch rehearsed on a copy of the journal that nobody keeps: what would become of each row."""

from __future__ import annotations

import sqlite3
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING

from batch_runner.errors import JournalError
from batch_runner.journal.database import NEXT_STEP, copied, open_memory
from batch_runner.journal.journal import JournalFile

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from batch_runner.journal.batches import BatchInfo
    from batch_runner.journal.journal import Journal


@asynccontextmanager
async def rehearsed(path: Path | None, info: BatchInfo) -> AsyncIterator[Journal]:
    """A journal that knows what the one at `path` knows, if there is one, and is gone when the block ends.

    The journal itself is only read; a batch that holds it isn't disturbed. Raises `JournalError`, as `Journal.open`.
    """
    try:
        with closing(copied(path) if path and path.exists() else open_memory()) as connection:
            yield await JournalFile(connection).begin(info)
    except sqlite3.Error as error:
        raise JournalError(f"{path}: the journal can't be read: {error}; {NEXT_STEP}") from error
