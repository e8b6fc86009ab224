"""When the runs behind a batch's rows began and ended; looks only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from batch_runner.journal.reading import Batch

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

_BATCH = "SELECT id, started, ended, exit_code, input, output, task, service, version, pid FROM batch WHERE id = ?"
_SPANS = (
    "SELECT number, outcome.status, coalesce(outcome.error, ''), attempt.batch = outcome.batch,"
    " started_at, ended_at FROM outcome LEFT JOIN attempt ON attempt.id = outcome.attempt"
    " WHERE outcome.batch = ? AND number > ? ORDER BY number LIMIT ?"
)
_PAGE = 2000


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


def batch_of(connection: sqlite3.Connection, batch: int) -> Batch:
    """What is recorded of the batch."""
    return Batch(*connection.execute(_BATCH, (batch,)).fetchone())


def spans(connection: sqlite3.Connection, batch: int) -> Iterator[Span]:
    """The batch's rows in order of number, page by page."""
    number = -1
    while page := connection.execute(_SPANS, (batch, number, _PAGE)).fetchall():
        for placed, status, error, here, started, ended in page:
            yield Span(placed, status, error, bool(here), started, ended)
        number = page[-1][0]
