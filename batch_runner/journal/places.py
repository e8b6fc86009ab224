"""The rows of tonight's sheet find their place in the journal, and with it their history."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_runner.journal.batches import now
from batch_runner.journal.history import Attempt, Entry, Plan, Refuse, decide, last_sent
from batch_runner.journal.schema import LOST, UNKNOWN

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from batch_runner.journal.batches import Begun
    from batch_runner.journal.history import Policy

_FIRST = "SELECT id, EXISTS (SELECT 1 FROM place WHERE row = row.id AND batch = ?) FROM row WHERE key = ? AND nth = 1"
_REPEAT = "INSERT INTO repeated VALUES (?, 2) ON CONFLICT DO UPDATE SET rows = rows + 1 RETURNING rows"
_ATTEMPTS = "SELECT id, batch, params, status, run_id, ended_at IS NOT NULL FROM attempt WHERE row = ? ORDER BY id"


def register(connection: sqlite3.Connection, begun: Begun, policy: Policy, entries: Sequence[Entry]) -> list[Plan]:
    """Place the entries in the batch and say what to do with each; within a transaction of the caller's."""
    return [_register(connection, begun, policy, entry) for entry in entries]


def _register(connection: sqlite3.Connection, begun: Begun, policy: Policy, entry: Entry) -> Plan:
    if entry.key is None:
        plan: Plan = Refuse(entry.number, entry.refusal or "its key is not known")
        _place(connection, begun.id, entry, None, plan)
        return plan
    row, is_new = _find_row(connection, begun.id, entry.key)
    last = None if is_new else last_sent([Attempt(*found) for found in connection.execute(_ATTEMPTS, (row,))])
    if last is not None and last.was_lost:
        _record_loss(connection, last)
    plan = decide(entry, row, last, policy, begun.night)
    _place(connection, begun.id, entry, row, plan)
    return plan


def _find_row(connection: sqlite3.Connection, batch: int, key: bytes) -> tuple[int, bool]:
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


def _place(connection: sqlite3.Connection, batch: int, entry: Entry, row: int | None, plan: Plan) -> None:
    refusal = plan.why if isinstance(plan, Refuse) else None
    connection.execute(
        "INSERT INTO place (batch, number, row, params, refusal) VALUES (?, ?, ?, ?, ?)",
        (batch, entry.number, row, entry.params, refusal),
    )


def _record_loss(connection: sqlite3.Connection, attempt: Attempt) -> None:
    connection.execute(
        "UPDATE attempt SET status = ?, error = ?, ended_at = ? WHERE id = ?", (UNKNOWN, LOST, now(), attempt.id)
    )
