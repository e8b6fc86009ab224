"""Rows with the same key or the same dedup key, as the journal knows them: which history is whose, who is alike.

Rule 1  A row that would send exactly what was sent last for one of the journal's rows with its key is that row.
Rule 2  Where several would, or several were, the first is the first: nothing but their order tells them apart. One of
        which nothing can be sent has what the others leave.
Rule 3  Who is left over then, on both sides, is told apart by order, too; a row for which the journal has none is new.

Before that, a row whose key the journal doesn't know is looked for under the other forms of it: as a sheet of another
format has it, or as earlier releases made it. It is then the row that is found, unless that has its own place in this
sheet.

Keys that stand once in the sheet and once in the journal take no part: an edited row with such a key is that row.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

import msgspec

from batch_runner.outcomes import FAILED, UNKNOWN
from batch_runner.plan.duplicates import Rival, claims_of
from batch_runner.plan.edits import cell_of, cells_of, differing, values_of
from batch_runner.units import local_time

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping, Sequence

    from batch_runner.plan.plan import Entry, Policy


_HAS_TO_LOOK = (
    "SELECT EXISTS (SELECT 1 FROM sent) OR EXISTS"
    " (SELECT 1 FROM place WHERE place.batch >= :first AND place.batch < :batch)"
)
_SEE = "INSERT INTO ahead VALUES (?, ?, ?, ?, ?, ?)"
_SEE_FORM = "INSERT INTO form VALUES (?, ?, ?)"
_OWN_FORMS = "INSERT INTO form SELECT number, 0, key FROM ahead WHERE key NOT IN (SELECT key FROM row)"
_RENAME_BY_ROW = (
    "INSERT OR IGNORE INTO renamed SELECT number, row.key, rank >= 100 FROM form JOIN row ON row.key = form.key"
    " WHERE number IN (SELECT number FROM form WHERE rank = 0) AND row.key NOT IN (SELECT key FROM ahead)"
    " ORDER BY rank, row.id"
)
_RENAME_BY_ALIAS = _RENAME_BY_ROW.replace(
    "JOIN row ON row.key = form.key", "JOIN alias ON alias.key = form.key JOIN row ON row.id = alias.row"
)
_RENAME_IN_DOUBT = (
    _RENAME_BY_ALIAS.replace("alias.key = form.key", "alias.key = CAST('? ' || form.key AS BLOB)")
    .replace("rank >= 100", "1")
    .replace(
        "rank, row.id",
        "rank, row_number() OVER (PARTITION BY number, rank ORDER BY row.id)"
        " <> dense_rank() OVER (PARTITION BY form.key ORDER BY number), row.id",
    )
)
"""Where several rows may be either of several that ran, the second is taken for the second."""
_TAKE_NAMES = (
    "UPDATE ahead SET key = coalesce((SELECT key FROM renamed WHERE renamed.number = ahead.number), key)"
    " WHERE number IN (SELECT number FROM renamed)"
)
_AS_SENT = (
    "UPDATE ahead SET params = sent WHERE sent IS NOT NULL AND EXISTS (SELECT 1 FROM row JOIN main.attempt"
    " ON attempt.row = row.id WHERE row.key = ahead.key AND attempt.params = ahead.sent AND attempt.sent IS NULL)"
)
"""Releases before these were two hashes wrote down the one of the texts."""
_OF_THE_SHEET = (
    "INSERT INTO apart SELECT key, params, number, NULL, number, refusal IS NOT NULL FROM ahead WHERE key IN"
    " (SELECT key FROM ahead GROUP BY key HAVING count(*) > 1 UNION SELECT key FROM row WHERE nth = 2)"
)
_COUNT_REPEATED = "INSERT INTO repeated SELECT key, count(*) FROM apart GROUP BY key HAVING count(*) > 1"
_OF_THE_JOURNAL = (
    "INSERT INTO apart SELECT key, coalesce((SELECT params FROM sending WHERE sending.row = row.id),"
    " (SELECT params FROM sent WHERE sent.row = row.id ORDER BY id DESC LIMIT 1)),"
    " NULL, id, nth, 0 FROM row WHERE key IN (SELECT key FROM apart)"
)
"""With what another sheet of this night is about to send for each, or what was sent last, by an attempt that was not
withdrawn (`last_sent`); empty: nothing was."""
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
    _OWN_FORMS,
    _RENAME_BY_ROW,
    _RENAME_BY_ALIAS,
    _RENAME_IN_DOUBT,
    _TAKE_NAMES,
    _AS_SENT,
    _OF_THE_SHEET,
    _COUNT_REPEATED,
    _OF_THE_JOURNAL,
    _PAIR_ALIKE,
    _LEAVE_OTHERS,
    _PAIR_BY_ORDER,
    "DELETE FROM apart",
    "DELETE FROM renamed WHERE number IN (SELECT number FROM twin WHERE row IS NULL)",
    "DELETE FROM form",
)


IN_DOUBT = 100
"""The first rank of the forms of a key that a row may have, or may not."""


def has_to_look(connection: sqlite3.Connection, batch: int, first: int) -> bool:
    """Whether a row may be confused with what was sent for another, or be known under another form of its key.

    Also with what the sheets of this night, from the batch `first` on, are about to send.
    """
    return bool(connection.execute(_HAS_TO_LOOK, {"batch": batch, "first": first}).fetchone()[0])


def has_row(connection: sqlite3.Connection, key: bytes) -> bool:
    """Whether a row of the journal has this key."""
    return connection.execute("SELECT 1 FROM row WHERE key = ? LIMIT 1", (key,)).fetchone() is not None


def see(connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """Note rows of the sheet, before the first one finds its place; those whose key isn't known are nobody's twins."""
    known = [entry for entry in entries if entry.key is not None]
    rows = ((e.row_number, e.key, e.digest, e.sent, e.refusal, e.bare) for e in known)
    connection.executemany(_SEE, rows)
    forms = (
        (e.row_number, rank, key)
        for e in known
        for rank, key in (*enumerate((*e.forms, *e.former_keys), 1), *enumerate(e.doubtful_keys, IN_DOUBT))
    )
    connection.executemany(_SEE_FORM, forms)


def tell_apart(connection: sqlite3.Connection) -> None:
    """Find out who is who, of all rows that were seen and have another key here, or one which occurs more than once."""
    for step in _STEPS:
        connection.execute(step)


def find_twins(connection: sqlite3.Connection, entries: Sequence[Entry]) -> dict[int, int | None]:
    """Which rows of the journal those of these entries are, by number, that were told apart; None for a new one."""
    return dict(connection.execute("SELECT number, row FROM twin WHERE number BETWEEN ? AND ?", _span(entries)))


def renamed(connection: sqlite3.Connection, entries: Sequence[Entry]) -> list[Entry]:
    """The entries, each with the key under which the journal knows it."""
    sql = "SELECT number, key FROM renamed WHERE number BETWEEN ? AND ?"
    names = dict(connection.execute(sql, _span(entries)))
    return [_named(entry, names[entry.row_number]) if entry.row_number in names else entry for entry in entries]


def doubted(connection: sqlite3.Connection, entries: Sequence[Entry]) -> frozenset[int]:
    """The numbers of those which the journal may know or not: a text of their key, then or now, has two readings."""
    sql = "SELECT number FROM renamed WHERE is_doubtful AND number BETWEEN ? AND ?"
    return frozenset(number for (number,) in connection.execute(sql, _span(entries)))


def _span(entries: Sequence[Entry]) -> tuple[int, int]:
    numbers = [entry.row_number for entry in entries]
    return min(numbers, default=0), max(numbers, default=0)


def _named(entry: Entry, key: bytes) -> Entry:
    """The entry with that key, its own one being an alias."""
    assert entry.key is not None
    forms = tuple(alias for alias in (entry.key, *entry.forms) if alias != key)
    return msgspec.structs.replace(entry, key=key, forms=forms)


_BESIDE = (
    "SELECT place.params, held, batch.input, number, cells FROM place JOIN batch ON batch.id = place.batch"
    " LEFT JOIN tonight ON tonight.row = place.row"
    " WHERE place.row = ? AND batch >= ? AND batch < ? AND takes_part AND refusal IS NULL ORDER BY batch LIMIT 1"
)


class Beside(msgspec.Struct, frozen=True):
    """What another sheet of this very night sends for a row, or why it holds it."""

    params: bytes
    held: str | None
    sheet: str
    number: int
    cells: bytes | None

    def differing(self, entry: Entry, policy: Policy) -> tuple[str, ...]:
        """The columns in which a row with the same key differs; one of them is "" where it isn't known which."""
        if self.params == entry.digest:
            return ()
        found = differing(self.cells, entry.named(), policy.ignore)
        return ("",) if found is None else found


def find_beside(connection: sqlite3.Connection, row: int, first: int, batch: int) -> Beside | None:
    """What another sheet of this very night sends for the row, and why it holds it; None where none has it.

    The sheets of the night are those of the batches from `first` on, before this one.
    """
    found = connection.execute(_BESIDE, (row, first, batch)).fetchone() if first != batch else None
    return Beside(*found) if found else None


_RAN_AS_ANOTHER = (
    "SELECT other.id, other.status FROM row AS own JOIN row ON row.key = own.key AND row.id <> own.id"
    " JOIN sent AS other ON other.row = row.id WHERE own.id = ? AND other.params = ? AND EXISTS"
    " (SELECT 1 FROM sent AS later WHERE later.row = row.id AND later.id > other.id AND later.params <> other.params)"
    " AND NOT (other.run_id IS NULL AND other.status = 'error') ORDER BY other.id DESC"
)


def ran_as_another(connection: sqlite3.Connection, row: int, params: bytes) -> int | None:
    """A start of just these params for another row with this one's key, which sent others since: no row of the sheet
    is paired with it, but it may have run.
    """
    found = connection.execute(_RAN_AS_ANOTHER, (row, params))
    return next((attempt for attempt, status in found if status not in FAILED), None)


_MAY_HAVE_RUN = (
    "SELECT id, cells FROM sent WHERE cells IS NOT NULL AND NOT (run_id IS NULL AND status = 'error')"
    " AND status NOT IN ('failure', 'timeout', 'cancelled')"
)
_FIND_ALMOST = "SELECT id, cells FROM almost JOIN main.attempt ON id = attempt WHERE cell = ? ORDER BY id DESC"


def know_almost(connection: sqlite3.Connection, identifying: tuple[str, ...], *, has_key: bool) -> None:
    """Note what ran by the text of the params that identify a row, for those that are new by their key.

    Without a key all params are it, and a header that is called otherwise makes each row new: note their values, too.
    """
    connection.execute("DELETE FROM almost")
    ran = (
        (cell, attempt)
        for attempt, cells in connection.execute(_MAY_HAVE_RUN)
        for cell in (cell_of(cells, identifying[0]) if identifying else None, None if has_key else values_of(cells))
        if cell
    )
    connection.executemany("INSERT INTO almost VALUES (?, ?)", ran)


def find_almost(
    connection: sqlite3.Connection,
    entry: Entry,
    identifying: tuple[str, ...],
    ignored: Sequence[str],
    *,
    has_key: bool,
) -> tuple[int, str] | None:
    """The attempt of what ran with the same identifying texts, where few others differ, and which these are.

    Or, without a key, of what ran with all of its texts under other headers.
    """
    named = entry.named()
    cells = cells_of(named)
    for attempt, before in () if has_key else connection.execute(_FIND_ALMOST, (values_of(cells),)):
        others = differing(before, named) or ()
        if "" in others:  # else two texts only changed places
            return attempt, f" (the same texts, with another header: {' and '.join(filter(None, others))})"
    if not identifying or not named.keys() >= set(identifying):
        return None
    for attempt, before in connection.execute(_FIND_ALMOST, (cell_of(cells, identifying[0]),)):
        others = differing(before, named, ignored) or ()
        beside = len(named) - len(identifying)
        if 0 < len(others) <= (beside + 1) // 2 and len(others) < beside and not set(identifying) & set(others):
            same, other = " and ".join(identifying), " and ".join(filter(None, others)) or "columns"
            return attempt, f" (the same {same}, with another {other})"
    return None


_RIVALS = (
    "SELECT place.number, batch.started, batch.input, attempt.run_id, attempt.status, attempt.ended_at, conflict,"
    " attempt.batch >= :night"
    " FROM sent AS attempt JOIN batch ON batch.id = attempt.batch"
    " LEFT JOIN place ON place.row = attempt.row AND place.batch = attempt.batch"
    " WHERE claim IN (:claim, :former) AND (attempt.row <> :row OR attempt.id < :before) AND attempt.id > :since"
    " AND NOT (run_id IS NULL AND status = 'error') ORDER BY attempt.id DESC"
)
_IN_SHEET = "SELECT number, conflict, sheet FROM claimed WHERE claim = ?"
_CLAIM = "INSERT OR IGNORE INTO claimed VALUES (?, ?, ?, '')"
_LAST_COLUMNS = (
    "SELECT unique_columns, conflict_columns FROM batch WHERE unique_columns <> '[]' ORDER BY id DESC LIMIT 1"
)
_UNCLAIMED = "SELECT count(DISTINCT row) FROM sent WHERE claim IS NULL"
_OTHERS_ASKED = (
    "SELECT coalesce(max(other.id), 0) FROM batch AS now JOIN batch AS other ON other.id < now.id"
    " WHERE now.id = ? AND other.unique_columns <> '[]'"
    " AND (other.unique_columns, other.conflict_columns) <> (now.unique_columns, now.conflict_columns)"
)
_SHEET_ASKED = (
    "SELECT coalesce(max(asked.id), 0) FROM batch AS now JOIN batch AS asked"
    " ON asked.id < now.id AND asked.series = now.series AND asked.unique_columns = now.unique_columns"
    " WHERE now.id = ? AND asked.id > ? AND EXISTS (SELECT 1 FROM place WHERE batch = asked.id)"
)
"""The last batch over this sheet that learned what it tells: it did so before its rows found their places."""
_TO_LEARN = "SELECT EXISTS (SELECT 1 FROM sent WHERE batch > ? AND (claim IS NULL OR (? AND conflict IS NULL)))"
_MET = "INSERT INTO met VALUES (?, 1) ON CONFLICT DO UPDATE SET rows = rows + 1 RETURNING rows"
_NTH = "SELECT id FROM row WHERE key = ? AND nth = ?"
_ADOPT = (
    "UPDATE attempt SET claim = :claim, conflict = coalesce(conflict, :conflict) WHERE params IN (:params, :sent)"
    " AND row = :row"
    " AND (claim IS NULL OR (claim = :claim AND conflict IS NULL))"
)


class Rivals:
    """What the journal and the rows above say of those that are alike; see `plan.duplicates.Known`."""

    def __init__(self, connection: sqlite3.Connection, night: int, elsewhere: Mapping[bytes, Rival]) -> None:
        self._connection = connection
        self._night = night
        self._elsewhere = elsewhere

    def of(self, entry: Entry, row: int, before: int, since: int) -> Iterator[Rival]:
        """Starts for rows with the same claim, the latest first; those that other journals know come last."""
        asked = {
            "claim": entry.claim,
            "former": entry.former_claim,
            "row": row,
            "night": self._night,
            "before": before,
            "since": since,
        }
        for number, started, sheet, run_id, status, ended, conflict, is_tonights in self._connection.execute(
            _RIVALS, asked
        ):
            is_lost = run_id is None and ended is None
            yield Rival(
                number=number,
                night=local_time(started),
                sheet=PurePath(sheet).name,
                run_id=run_id,
                outcome=UNKNOWN if is_lost else status,
                stands=bool(is_tonights) or (run_id is not None and ended is None),
                conflict=conflict,
            )
        yield from (self._elsewhere[claim] for claim in claims_of(entry) if claim in self._elsewhere)

    def above(self, entry: Entry) -> tuple[int, bytes | None, str] | None:
        """The row that is about to be sent with the same claim, its conflict, and its sheet, empty for this one."""
        found = self._connection.execute(_IN_SHEET, (entry.claim,)).fetchone()
        return (found[0], found[1], PurePath(found[2]).name) if found else None

    def claim(self, entry: Entry) -> None:
        """Let the rows below know that this one is about to be sent."""
        self._connection.execute(_CLAIM, (entry.claim, entry.row_number, entry.conflict))


def forget_other_claims(connection: sqlite3.Connection, policy: Policy) -> None:
    """What was made of other columns can't be compared with that of this batch."""
    last = connection.execute(_LAST_COLUMNS).fetchone()
    unique, conflict = (msgspec.json.encode(names).decode() for names in (policy.unique, policy.conflict))
    if not policy.unique or last is None:
        return
    if last[0] != unique:
        connection.execute("UPDATE attempt SET claim = NULL, conflict = NULL WHERE claim IS NOT NULL")
    elif last[1] != conflict:
        connection.execute("UPDATE attempt SET conflict = NULL WHERE conflict IS NOT NULL")


def has_to_learn(connection: sqlite3.Connection, policy: Policy, batch: int) -> bool:
    """Whether rows were sent of which it isn't known what makes them unique, and this sheet wasn't asked since."""
    (others,) = connection.execute(_OTHERS_ASKED, (batch,)).fetchone()
    (asked,) = connection.execute(_SHEET_ASKED, (batch, others)).fetchone()
    return bool(connection.execute(_TO_LEARN, (asked, bool(policy.conflict))).fetchone()[0])


def count_repeated(connection: sqlite3.Connection) -> int:
    """How many rows of this sheet share their key with another."""
    return int(connection.execute("SELECT coalesce(sum(rows), 0) FROM repeated").fetchone()[0])


def count_unclaimed(connection: sqlite3.Connection) -> int:
    """How many rows were sent of which it isn't known what makes them unique."""
    return int(connection.execute(_UNCLAIMED).fetchone()[0])


def adopt(connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
    """Give the claims of these rows to the attempts that sent just them, before anybody asked for claims.

    Rows with equal keys are told apart as where they find their places: adopt a sheet once, in order.
    """
    twins = find_twins(connection, entries)
    for entry in renamed(connection, entries):
        if entry.key is not None:
            row = twins[entry.row_number] if entry.row_number in twins else _next_row(connection, entry.key)
            known = {"claim": entry.claim, "conflict": entry.conflict, "params": entry.digest, "sent": entry.sent}
            connection.execute(_ADOPT, {**known, "row": row})


def _next_row(connection: sqlite3.Connection, key: bytes) -> int | None:
    """The journal's row with this key that comes next, if it has one."""
    (nth,) = connection.execute(_MET, (key,)).fetchone()
    found = connection.execute(_NTH, (key, nth)).fetchone()
    return found[0] if found else None


def make_temporary(connection: sqlite3.Connection) -> None:
    """What is known of this batch's rows while they find their places; on disk, so no sheet is too large.

    `repeated`: how often a key was seen, for keys that were seen twice. `claimed`: what is about to be sent, by
    which sheet (empty: by the one whose rows find their places now). `met`: how often a key was seen while the sheet
    was asked.

    `sending`: what is about to be sent for a row, whose attempt may not be recorded before the next sheet is looked at.
    `almost`: what may not run twice, by what stands for its identifying text. `tonight`: the cells of rows that another
    sheet of this night may have, too.
    `elsewhere`: what ran in other journals that never were asked what makes a row unique, and what tonight's sheets
    tell of it.
    `chosen`: the numbers of the rows that take part, where they are placed all at once.
    `ahead`: the sheet's rows, seen before they find their places; `form`: the other keys of each, and `renamed`: under
    which key the journal knows it, where that is another, or may know it (`is_doubtful`). `apart`: those with the same
    key, and the journal's (`number` is empty). `twin`: which row of the journal such a row of the sheet is; empty: a
    new one.
    """
    for table in (
        "ahead (number INTEGER PRIMARY KEY, key BLOB, params BLOB, sent BLOB, refusal TEXT, bare BLOB)",
        "chosen (number INTEGER PRIMARY KEY)",
        "form (number INTEGER, rank INTEGER, key BLOB)",
        "renamed (number INTEGER PRIMARY KEY, key BLOB NOT NULL, is_doubtful INTEGER)",
        "apart (key BLOB, params BLOB, number, row, place INTEGER, is_refused INTEGER)",
        "twin (number INTEGER PRIMARY KEY, row INTEGER)",
        "sending (row INTEGER PRIMARY KEY, params BLOB NOT NULL)",
        "almost (cell BLOB NOT NULL, attempt INTEGER NOT NULL)",
        "elsewhere (claim BLOB, journal TEXT, attempt INTEGER, sheet TEXT, number INTEGER, began TEXT, outcome TEXT,"
        " run_id TEXT, conflict BLOB, PRIMARY KEY (claim, journal, attempt)) WITHOUT ROWID",
        "tonight (row INTEGER PRIMARY KEY, cells BLOB NOT NULL)",
        "met (key BLOB PRIMARY KEY, rows INTEGER NOT NULL) WITHOUT ROWID",
        "repeated (key BLOB PRIMARY KEY, rows INTEGER NOT NULL) WITHOUT ROWID",
        "claimed (claim BLOB PRIMARY KEY, number INTEGER NOT NULL, conflict BLOB, sheet TEXT NOT NULL) WITHOUT ROWID",
    ):
        connection.execute(f"CREATE TEMP TABLE {table}")
    connection.execute("CREATE INDEX temp.almost_cell ON almost (cell)")


def clear_places(connection: sqlite3.Connection, sheet: str) -> None:
    """Forget what was only needed while the rows of this sheet found their places; what it claims and sends stays."""
    for table in ("chosen", "ahead", "form", "renamed", "apart", "twin", "met", "repeated"):
        connection.execute(f"DELETE FROM {table}")  # noqa: S608  the names stand above
    connection.execute("UPDATE claimed SET sheet = ? WHERE sheet = ''", (sheet,))
