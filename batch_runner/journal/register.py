"""The rows of tonight's sheet find their place in the journal, and with it their history.

Rows with the same key are who `twins` found out that they are; where it wasn't asked, their order tells them apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from batch_runner.journal.batches import now
from batch_runner.journal.database import LOST
from batch_runner.journal.same_key import Rivals, find_twins, renamed
from batch_runner.outcomes import QUEUED, UNKNOWN
from batch_runner.plan.duplicates import hold_back
from batch_runner.plan.plan import Attempt, Entry, Keep, Refuse, Send, Skip, Step, decide, last_sent

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from batch_runner.journal.batches import Begun
    from batch_runner.plan.plan import Policy


_FIRST = "SELECT id, EXISTS (SELECT 1 FROM place WHERE row = row.id AND batch = ?) FROM row WHERE key = ? AND nth = 1"
_BESIDE = (
    "SELECT params, held FROM place WHERE row = ? AND batch >= ? AND batch < ? AND takes_part AND refusal IS NULL"
    " ORDER BY batch LIMIT 1"
)
_REPEAT = "INSERT INTO repeated VALUES (?, 2) ON CONFLICT DO UPDATE SET rows = rows + 1 RETURNING rows"
_LEARN = "INSERT OR IGNORE INTO alias VALUES (?, ?)"
_SENDING = "INSERT OR REPLACE INTO sending VALUES (?, ?)"
_ATTEMPTS = (
    "SELECT attempt.id, batch, params, status, run_id, ended_at IS NOT NULL, continues, intended_at, conflict, claim,"
    " memory, sent, coalesce(ended_at, '') FROM attempt JOIN batch ON batch.id = attempt.batch WHERE row = ?"
    " ORDER BY attempt.id"
)


def register(connection: sqlite3.Connection, begun: Begun, policy: Policy, entries: Sequence[Entry]) -> list[Step]:
    """Place the entries in the batch and say what to do with each; within a transaction of the caller's."""
    twins = find_twins(connection, entries)
    return [_register(connection, begun, policy, entry, twins) for entry in renamed(connection, entries)]


def _register(
    connection: sqlite3.Connection, begun: Begun, policy: Policy, entry: Entry, twins: dict[int, int | None]
) -> Step:
    row, is_new = _find_row(connection, begun.id, entry, twins)
    if not entry.takes_part:
        step: Step = Skip(entry.row_number)
    elif row is None:
        step = Refuse(entry.row_number, entry.refusal or "a cell of its key can't be read")
    elif not is_new and (beside := _beside(connection, begun, row)) is not None:
        params, held = beside
        step = Keep(entry.row_number, row, QUEUED, params != entry.digest, held, tonight=True)
    else:
        attempts = [] if is_new else _attempts(connection, row)
        entry = _as_recorded(entry, last_sent(attempts))
        step = decide(entry, row, attempts, policy, begun.night)
        step = hold_back(step, entry, last_sent(attempts), policy, Rivals(connection, begun.night))
        if isinstance(step, Send):
            connection.execute(_SENDING, (row, step.params))
    _place(connection, begun.id, entry, row, step)
    if row is not None:
        connection.executemany(_LEARN, ((alias, row) for alias in entry.aliases))
    return step


def _as_recorded(entry: Entry, last: Attempt | None) -> Entry:
    """The entry with the hash of its texts where an earlier release wrote that down, and they are the same still."""
    if last is None or last.sent is not None or last.params != entry.sent:
        return entry
    return msgspec.structs.replace(entry, digest=last.params)


def _beside(
    connection: sqlite3.Connection, begun: Begun, row: int
) -> tuple[bytes, Literal["waiting", "parked", "duplicate"] | None] | None:
    """What another sheet of this very night sends for the row, and why it holds it; None where none has it."""
    if begun.first == begun.id:
        return None
    found: tuple[bytes, Literal["waiting", "parked", "duplicate"] | None] | None = connection.execute(
        _BESIDE, (row, begun.first, begun.id)
    ).fetchone()
    return found


def attempts_of(connection: sqlite3.Connection, row: int) -> list[Attempt]:
    """All attempts of a row, from the oldest to the newest."""
    return [Attempt(*found) for found in connection.execute(_ATTEMPTS, (row,))]


def _attempts(connection: sqlite3.Connection, row: int) -> list[Attempt]:
    """All attempts of a row; if the answer to the one that decides was lost, that is now recorded."""
    attempts = attempts_of(connection, row)
    last = last_sent(attempts)
    if last is not None and last.was_lost:
        connection.execute(
            "UPDATE attempt SET status = ?, error = ?, ended_at = ? WHERE id = ?", (UNKNOWN, LOST, now(), last.id)
        )
    return attempts


def _find_row(
    connection: sqlite3.Connection, batch: int, entry: Entry, twins: dict[int, int | None]
) -> tuple[int | None, bool]:
    """The row with the entry's key that it is, or is to be, and whether it is new; none where its key isn't known."""
    if entry.key is None:
        return None, True
    if entry.row_number not in twins:
        return _next_row(connection, batch, entry.key)
    row = twins[entry.row_number]
    if row is not None:
        return row, False
    (others,) = connection.execute("SELECT coalesce(max(nth), 0) FROM row WHERE key = ?", (entry.key,)).fetchone()
    return _add_row(connection, entry.key, others + 1), True


def _next_row(connection: sqlite3.Connection, batch: int, key: bytes) -> tuple[int, bool]:
    """The row with this key that has no place in the batch yet, and whether it is new."""
    found = connection.execute(_FIRST, (batch, key)).fetchone()
    if found is None:
        return _add_row(connection, key, 1), True
    row, is_placed = found
    if not is_placed:
        return row, False
    nth = connection.execute(_REPEAT, (key,)).fetchone()[0]
    found = connection.execute("SELECT id FROM row WHERE key = ? AND nth = ?", (key, nth)).fetchone()
    return (found[0], False) if found else (_add_row(connection, key, nth), True)


def _add_row(connection: sqlite3.Connection, key: bytes, nth: int) -> int:
    row = connection.execute("INSERT INTO row (key, nth) VALUES (?, ?)", (key, nth)).lastrowid
    assert row is not None
    return row


def _place(connection: sqlite3.Connection, batch: int, entry: Entry, row: int | None, step: Step) -> None:
    refusal = step.why if isinstance(step, Refuse) else None
    held = step.held if isinstance(step, Refuse | Keep) else None
    connection.execute(
        "INSERT INTO place (batch, number, row, params, takes_part, refusal, held) VALUES (?, ?, ?, ?, ?, ?, ?)",
        (batch, entry.row_number, row, entry.digest, entry.takes_part, refusal, held),
    )
