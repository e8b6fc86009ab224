"""Rows with the same key find each its own history, wherever they stand tonight; asked of the whole sheet beforehand.

Rule 1  A row that would send exactly what was sent last for one of the journal's rows with its key is that row.
Rule 2  Where several would, or several were, the first is the first: nothing but their order tells them apart. One of
        which nothing can be sent has what the others leave.
Rule 3  Who is left over then, on both sides, is told apart by order, too; a row for which the journal has none is new.

Keys that stand once in the sheet and once in the journal take no part: an edited row with such a key is that row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence

    from batch_runner.journal.history import Entry

_HAS_TO_LOOK = (
    "SELECT key_columns <> '[]'"
    " AND EXISTS (SELECT 1 FROM attempt WHERE NOT (run_id IS NULL AND status = 'not_started'))"
    " FROM batch WHERE id = ?"
)
_SEE = "INSERT INTO ahead VALUES (?, ?, ?, ?)"
_OF_THE_SHEET = (
    "INSERT INTO apart SELECT key, params, number, NULL, number, is_refused FROM ahead WHERE key IN"
    " (SELECT key FROM ahead GROUP BY key HAVING count(*) > 1 UNION SELECT key FROM row WHERE nth = 2)"
)
_COUNT_REPEATED = "INSERT INTO repeated SELECT key, count(*) FROM apart GROUP BY key HAVING count(*) > 1"
_OF_THE_JOURNAL = (
    "INSERT INTO apart SELECT key, (SELECT params FROM attempt WHERE attempt.row = row.id"
    " AND NOT (run_id IS NULL AND status = 'not_started') ORDER BY id DESC LIMIT 1),"
    " NULL, id, nth, 0 FROM row WHERE key IN (SELECT key FROM apart)"
)
"""With what was sent last for each, by an attempt that was not withdrawn (`last_sent`); empty: nothing was."""
_PAIR_ALIKE = (
    "INSERT INTO twin SELECT max(number), max(row) FROM"
    " (SELECT *, row_number() OVER (PARTITION BY key, params, row IS NULL ORDER BY is_refused, place) AS rank"
    " FROM apart WHERE params IS NOT NULL) GROUP BY key, params, rank HAVING count(*) = 2"
)
"""Each rank has a row of the sheet, one of the journal, or both; joined by sorting, so that no sheet is too long."""
_LEAVE_OTHERS = "DELETE FROM apart WHERE number IN (SELECT number FROM twin) OR row IN (SELECT row FROM twin)"
_PAIR_BY_ORDER = (
    "INSERT INTO twin SELECT max(number), max(row) FROM"
    " (SELECT *, row_number() OVER (PARTITION BY key, row IS NULL ORDER BY place) AS rank FROM apart)"
    " GROUP BY key, rank HAVING max(number) IS NOT NULL"
)
_STEPS = (
    _OF_THE_SHEET,
    _COUNT_REPEATED,
    _OF_THE_JOURNAL,
    _PAIR_ALIKE,
    _LEAVE_OTHERS,
    _PAIR_BY_ORDER,
    "DELETE FROM apart",
    "DELETE FROM ahead",
)


def has_to_look(connection: sqlite3.Connection, batch: int) -> bool:
    """Whether rows with one key may differ in what they send, and one may be confused with what was sent for another.

    Where all params are the key, those with the same key are alike in all.
    """
    return bool(connection.execute(_HAS_TO_LOOK, (batch,)).fetchone()[0])


def see(connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """Note rows of the sheet, before the first one finds its place; those whose key isn't known are nobody's twins."""
    known = ((e.number, e.key, e.params, e.refusal is not None) for e in entries if e.key is not None)
    connection.executemany(_SEE, known)


def tell_apart(connection: sqlite3.Connection) -> None:
    """Find out who is who, of all rows that were seen and have a key which occurs more than once."""
    for step in _STEPS:
        connection.execute(step)


def told_apart(connection: sqlite3.Connection, entries: Sequence[Entry]) -> dict[int, int | None]:
    """Which rows of the journal those of these entries are, by number, that were told apart; None for a new one."""
    if not entries:
        return {}
    between = (min(entry.number for entry in entries), max(entry.number for entry in entries))
    return dict(connection.execute("SELECT number, row FROM twin WHERE number BETWEEN ? AND ?", between))
