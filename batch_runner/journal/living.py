"""A journal whose batch is alive: a start without an answer is awaited there, and not lost yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_runner.lock import seems_held

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

_LAST = "SELECT id, ended, pid FROM batch ORDER BY id DESC LIMIT 1"
_LIVING_OUTCOMES = """\
CREATE TEMP TABLE living (batch INTEGER NOT NULL);
CREATE TEMP VIEW outcome AS
SELECT told.batch, told.number, iif(awaited.id IS NULL, told.status, 'starting') AS status, told.run_id, told.result,
       iif(awaited.id IS NULL, told.error, NULL) AS error, told.changed, told.attempt, told.row
FROM main.outcome AS told
LEFT JOIN main.attempt AS awaited ON awaited.id = told.attempt
      AND awaited.batch = (SELECT batch FROM living) AND awaited.run_id IS NULL AND awaited.ended_at IS NULL;
"""
"""Stands before the journal's own view for this connection only: what is alive, no table can know."""


def living_batch(path: Path, connection: sqlite3.Connection) -> int | None:
    """The batch that seems to run just now with the journal at `path`; None where there is none."""
    batch, ended, pid = connection.execute(_LAST).fetchone() or (None, None, 0)
    return batch if batch is not None and ended is None and seems_held(path, pid) else None


def tell_as_starting(connection: sqlite3.Connection, living: int | None) -> None:
    """Let `outcome` call `starting` what the living batch has sent and awaits the answer to."""
    if living is not None:
        connection.executescript(_LIVING_OUTCOMES)
        connection.execute("INSERT INTO living VALUES (?)", (living,))
