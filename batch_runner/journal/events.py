"""What becomes of an attempt, as it is written; each within a commit. A run belongs to one row.

Where a service tells one run for the starts of two rows, nobody can know for which of them it ran: both are `unknown`.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

import msgspec

from batch_runner.journal.batches import now
from batch_runner.outcomes import UNKNOWN

if TYPE_CHECKING:
    import sqlite3


_START = (
    "UPDATE attempt SET run_id = ?, status = ?, started_at = ?, session_id = ?, ended_at = NULL, error = NULL"
    " WHERE id = ?"
)
_END = (
    "UPDATE attempt SET status = ?, run_id = coalesce(?, run_id), error = ?, ended_at = ?,"
    " started_at = coalesce(started_at, iif(? IS NULL, NULL, ?)), session_id = coalesce(?, session_id) WHERE id = ?"
)
_EARLIER_KEY = (
    "SELECT coalesce(batch.start_key, (SELECT uuid FROM about)) FROM attempt JOIN batch ON batch.id = attempt.batch"
    " WHERE attempt.id = ?"
)


class Outcome(msgspec.Struct, frozen=True):
    """How an attempt ended: the API's word, `error` or `unknown`; `result` is JSON text, "" for none."""

    status: str
    run_id: str | None = None
    result: str = ""
    error: str = ""
    session_id: str | None = None


def earlier_start_key(connection: sqlite3.Connection, attempt: int) -> str:
    """What the key of a start began with in the night that sent it."""
    return str(connection.execute(_EARLIER_KEY, (attempt,)).fetchone()[0])


def start(
    connection: sqlite3.Connection, attempt: int, run_id: str, status: str, session_id: str | None
) -> Outcome | None:
    """A start made this run. Gives the row's outcome where another row has it."""
    moment = now()
    connection.execute(_START, (run_id, status, moment, session_id, attempt))
    error = _hold_same_run(connection, attempt, moment)
    return Outcome(UNKNOWN, run_id, error=error) if error else None


def end(connection: sqlite3.Connection, attempt: int, outcome: Outcome) -> Outcome:
    """It came to this. Gives what is recorded: where another row has its run, both are `unknown`."""
    moment, run_id = now(), outcome.run_id
    values = (outcome.status, run_id, outcome.error or None, moment, run_id, moment, outcome.session_id, attempt)
    connection.execute(_END, values)
    if outcome.result:
        connection.execute("INSERT OR REPLACE INTO result VALUES (?, ?)", (attempt, outcome.result))
    error = _hold_same_run(connection, attempt, moment) if run_id else ""
    return Outcome(UNKNOWN, run_id, error=error) if error else outcome


_SAME_RUN = (
    "SELECT other.id, other.row FROM attempt AS own JOIN attempt AS other ON other.run_id = own.run_id"
    " WHERE own.id = ? AND other.row <> own.row ORDER BY other.id"
)
_STANDS = (
    "SELECT place.number, batch.input FROM place JOIN batch ON batch.id = place.batch"
    " WHERE place.row = (SELECT row FROM attempt WHERE id = ?) ORDER BY place.batch DESC LIMIT 1"
)
_SHARED = "UPDATE attempt SET status = ?, error = ?, ended_at = coalesce(ended_at, ?) WHERE id = ?"


def _hold_same_run(connection: sqlite3.Connection, attempt: int, moment: str) -> str:
    """Where other rows have the run of this attempt, make all of them `unknown`; gives this attempt's error, if so."""
    others = [found[0] for found in connection.execute(_SAME_RUN, (attempt,))]
    if not others:
        return ""
    error = _shared_with(connection, attempt, others[0])
    connection.execute(_SHARED, (UNKNOWN, error, moment, attempt))
    for other in others:
        connection.execute(_SHARED, (UNKNOWN, _shared_with(connection, other, attempt), moment, other))
    return error


def _shared_with(connection: sqlite3.Connection, attempt: int, other: int) -> str:
    here = connection.execute(_STANDS, (attempt,)).fetchone()
    there = connection.execute(_STANDS, (other,)).fetchone()
    if there is None:
        where = "another row"
    else:
        sheet = "" if here is None or here[1] == there[1] else f" of {PurePath(there[1]).name}"
        where = f"row {there[0]}{sheet}"
    return f"the service gave the same run id to {where}: which of the two it ran for is not known"
