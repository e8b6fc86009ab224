"""The rows of tonight's sheet find their place in the journal, and with it their history.

Rows with the same key are who `twins` found out that they are; where it wasn't asked, their order tells them apart.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from batch_runner.journal.batches import now
from batch_runner.journal.database import LOST
from batch_runner.journal.group_commit import put_result
from batch_runner.journal.index import Ran, copy_of, ran_as, ran_in
from batch_runner.journal.same_key import (
    Rivals,
    doubted,
    find_almost,
    find_beside,
    find_twins,
    know_almost,
    ran_as_another,
    renamed,
)
from batch_runner.outcomes import QUEUED, STARTING, UNKNOWN
from batch_runner.plan.duplicates import as_recorded, claims_of, duplicate_of, hold_back
from batch_runner.plan.edits import ALMOST, Attempt, cells_of
from batch_runner.plan.plan import (
    DUPLICATE,
    ELSEWHERE,
    RELEASE,
    VALUES,
    Entry,
    Hold,
    Keep,
    Poll,
    Refuse,
    Resend,
    Send,
    Skip,
    Step,
    attempts_as_now,
    counted_as,
    decide,
    last_sent,
    named_by,
    send,
    watched_edit,
)
from batch_runner.sheet.model import TEXT_ENDINGS

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Mapping, Sequence

    from batch_runner.journal.batches import BatchInfo, Begun
    from batch_runner.journal.index import OtherJournals
    from batch_runner.journal.same_key import Beside
    from batch_runner.plan.duplicates import Rival


_FIRST = "SELECT id, EXISTS (SELECT 1 FROM place WHERE row = row.id AND batch = ?) FROM row WHERE key = ? AND nth = 1"
_PLACE = (
    "INSERT INTO place (batch, number, row, params, takes_part, refusal, held, attempt) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
)
_TONIGHT = "INSERT OR IGNORE INTO tonight VALUES (?, ?)"
_KEYS_OF = (
    "SELECT key FROM row WHERE id = :row UNION SELECT iif(substr(key, 1, 2) = x'3f20' AND length(key) > 16,"
    " substr(key, 3), key) FROM alias WHERE row = :row"
)
_HOLD = "UPDATE place SET refusal = ?, held = ? WHERE batch = ? AND number = ?"
_REPEAT = "INSERT INTO repeated VALUES (?, 2) ON CONFLICT DO UPDATE SET rows = rows + 1 RETURNING rows"
_LEARN = "INSERT OR IGNORE INTO alias VALUES (?, ?)"
_SENDING = "INSERT OR REPLACE INTO sending VALUES (?, ?)"
_LEARN_RAN = "INSERT OR IGNORE INTO elsewhere VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_LEARNED = (
    "SELECT journal, attempt, sheet, number, began, outcome, run_id, conflict FROM elsewhere WHERE claim = ?"
    " ORDER BY attempt"
)
_COUNT_LEARNED = "SELECT journal, count(DISTINCT attempt) FROM elsewhere GROUP BY journal"
_LAST_SHEET = (
    "SELECT input FROM place JOIN batch ON batch.id = place.batch WHERE row = ? AND takes_part AND refusal IS NULL"
    " ORDER BY batch DESC LIMIT 1"
)
_IS_SAME = "SELECT 1 FROM same WHERE row = ? AND params = ?"
_KEY = b"key "
_IS_KNOWN_BY = "SELECT 1 FROM same WHERE row = :row AND params IN (:key, :marked)"
"""An earlier release wrote down the key without a mark."""
_SAY_SAME = "INSERT OR IGNORE INTO same VALUES (?, ?, ?)"
_ATTEMPTS = (
    "SELECT attempt.id, batch, params, status, run_id, ended_at IS NOT NULL, continues, intended_at, conflict, claim,"
    " iif(origin IS NULL, memory, NULL), cells, substr(sent, 1, 16), coalesce(ended_at, ''),"
    " nullif(substr(sent, 17), x'')"
    " FROM attempt JOIN batch ON batch.id = attempt.batch WHERE row = ? ORDER BY attempt.id"
)
"""A service knows by its key only what this journal sent, not what it took over from another."""
_TAKE_OVER = (
    "INSERT INTO attempt (id, row, batch, params, posts, intended_at, status, run_id, started_at, ended_at, error,"
    " claim, conflict, cells, origin) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)


class Registration:
    """The rows of one batch find their places, chunk by chunk; each method within a transaction of the caller's.

    `named` counts what the plan says of the rows: what is done, the earlier night, and what came of it then.
    """

    def __init__(self, begun: Begun, info: BatchInfo, others: OtherJournals, next_attempt: Callable[[], int]) -> None:
        self._begun = begun
        self._sheet = info.input
        self._has_key = bool(info.key_columns)
        self._own: dict[int, Entry] = {}
        self._doubted: frozenset[int] = frozenset()
        self._twins: dict[int, int | None] = {}
        self._policy = info.policy
        self._others = others
        self._next_attempt = next_attempt
        self._elsewhere: dict[bytes, Ran] | None = None
        self._alike: dict[bytes, Rival] = {}
        self._unclaimed: dict[Path, int] | None = None
        self._identifying: tuple[str, ...] = ()
        self.named: Counter[tuple[str, str]] = Counter()

    def register(self, connection: sqlite3.Connection, entries: Sequence[Entry]) -> list[Step]:
        """Place the entries in the batch and say what to do with each."""
        self._twins = find_twins(connection, entries)
        self._elsewhere = None
        own, entries = entries, renamed(connection, entries)
        is_text = self._sheet.lower().endswith(TEXT_ENDINGS)
        self._doubted = doubted(connection, entries)
        moved = [e for e, named in zip(own, entries, strict=True) if e is not named]
        self._own = {e.row_number: e for e in moved if is_text or e.row_number in self._doubted}
        self._alike = self._alike_elsewhere(connection, [entry for entry in entries if entry.takes_part])
        return [self._register(connection, entry, entries) for entry in entries]

    def _register(self, connection: sqlite3.Connection, entry: Entry, entries: Sequence[Entry]) -> Step:
        row, is_new = _find_row(connection, self._begun.id, entry, self._twins)
        row, is_new, hold = self._tell_texts_apart(connection, entry, row, is_new=is_new)
        last: Attempt | None = None
        attempts: Sequence[Attempt] = ()
        beside: Beside | None = None
        if not entry.takes_part:
            step: Step = Skip(entry.row_number)
        elif row is None:
            step = Refuse(entry.row_number, entry.refusal or "a cell of its key can't be read")
        elif hold is not None:
            step = Refuse.hold(entry.row_number, hold)
        else:
            beside = None if is_new else find_beside(connection, row, self._begun.first, self._begun.id)
            if beside is not None:
                step, last = self._share(connection, entry, row, beside)
                row = step.row_id if isinstance(step, Send) else row
            else:
                attempts = [] if is_new else _attempts(connection, row)
                entry = as_recorded(entry, attempts)
                step, last = self._step_of(connection, entry, row, attempts, entries)
        if isinstance(step, Send):
            connection.execute(_SENDING, (step.row_id, step.params))
            self._others.about_to_start(self._sheet, now(), entry)
        self._count(step, last)
        shown = None if last is None or isinstance(step, Send) or last == last_sent(attempts) else last.id
        self._place(connection, entry, row, step, last or beside, shown)
        if row is not None and hold is None:
            connection.executemany(_LEARN, ((form, row) for form in entry.kept_forms))
        return step

    def _step_of(
        self,
        connection: sqlite3.Connection,
        entry: Entry,
        row: int,
        attempts: Sequence[Attempt],
        entries: Sequence[Entry],
    ) -> tuple[Step, Attempt | None]:
        """What to do with a row that no other sheet of the night has, and the attempt that decided it."""
        step, last = self._decide(connection, entry, row, attempts)
        if isinstance(step, Send | Poll | Resend) and (ran := self._ran_elsewhere(connection, entry, entries)):
            step, last = self._hold(connection, step, entry, ran, last)
        elif isinstance(step, Send) and last is None and not self._policy.releases:
            is_twin = entry.row_number in self._twins
            if is_twin and (before := ran_as_another(connection, row, entry.digest)) is not None:
                step, last = self._hold(connection, step, entry, ran_as(connection, before), last)
            elif near := find_almost(connection, entry, self._identifying, self._policy.ignore, has_key=self._has_key):
                step, last = self._hold(connection, step, entry, ran_as(connection, near[0]), last, also=near[1])
        rivals = Rivals(connection, self._begun.night, self._alike)
        step = hold_back(step, entry, last, self._policy, rivals)
        if entry.claim and isinstance(step, Refuse) and step.held == ELSEWHERE:
            rivals.claim(entry)  # it ran, so no row below that is alike may run either
        return step, last

    def _tell_texts_apart(
        self, connection: sqlite3.Connection, entry: Entry, row: int | None, *, is_new: bool
    ) -> tuple[int | None, bool, Hold | None]:
        """Which row it is whose key was found under another form only, whether that is new, or why it is held.

        In two text files `7.1` and `7.10` may be one number, or two invoices, and `3/4/2026` may be two days: only a
        person can tell.
        """
        own = self._own.get(entry.row_number)
        if own is None or own.key is None or row is None or is_new or not entry.takes_part:
            return row, is_new, None
        if connection.execute(_IS_KNOWN_BY, {"row": row, "key": own.key, "marked": _KEY + own.key}).fetchone():
            return row, False, None
        last, sheet = last_sent(attempts_of(connection, row)), connection.execute(_LAST_SHEET, (row,)).fetchone()
        is_either = (
            own.doubtful_keys or own.row_number in self._doubted or (sheet and sheet[0].lower().endswith(TEXT_ENDINGS))
        )
        if entry.key in own.former_keys or not is_either or self._policy.same:
            connection.execute(_SAY_SAME, (row, _KEY + own.key, self._begun.id))
            return row, False, None
        if last is None or not last.may_have_run or self._policy.releases:
            return _add_row(connection, own.key), True, None
        ran = ran_as(connection, last.id)
        why = f"its key is that of a row but for how a number or date is written, and that one {ran}; {RELEASE}"
        return row, False, Hold(ALMOST, why, ran.names)

    def _decide(
        self, connection: sqlite3.Connection, entry: Entry, row: int, attempts: Sequence[Attempt]
    ) -> tuple[Step, Attempt | None]:
        """What its own history says, and what a person said of it; and the attempt that decides."""
        last = last_sent(attempts_as_now(attempts, entry))
        is_same = False
        if last is not None and last.params != entry.digest:
            if self._policy.same and watched_edit(last, entry, self._policy):
                connection.execute(_SAY_SAME, (row, entry.digest, self._begun.id))
            is_same = connection.execute(_IS_SAME, (row, entry.digest)).fetchone() is not None
        return decide(entry, row, attempts, self._policy, self._begun.night, is_same=is_same), last

    def _share(
        self, connection: sqlite3.Connection, entry: Entry, row: int, beside: Beside
    ) -> tuple[Step, Attempt | None]:
        """A row whose key another sheet of this night has: it is that row, or is held, since both can't be it.

        Where it ran before with its own values, it stays what it was.
        """
        columns = beside.differing(entry, self._policy)
        keep = Keep(entry.row_number, row, QUEUED, bool(columns), beside.held, tonight=True)
        if not columns or entry.refusal is not None:
            return keep, None
        before = [attempt for attempt in attempts_of(connection, row) if attempt.batch < self._begun.first]
        entry = as_recorded(entry, before)
        step, last = self._decide(connection, entry, row, before)
        if isinstance(step, Keep) and last is not None and last.params == entry.digest and last.may_have_run:
            return step, last
        if self._policy.releases:
            twin = _add_row(connection, *connection.execute("SELECT key FROM row WHERE id = ?", (row,)).fetchone())
            return send(entry, twin, again=False), None
        if self._policy.same:
            connection.execute(_SAY_SAME, (row, entry.digest, self._begun.id))
        if connection.execute(_IS_SAME, (row, entry.digest)).fetchone():
            return msgspec.structs.replace(keep, changed=False), None
        others = " and ".join(filter(None, columns)) or "values"
        what = f"the same key stands in row {beside.number} of {beside.sheet.rpartition('/')[2]}, with other {others}"
        hold = Hold(VALUES, f"{what}; {RELEASE}", "the same key, with other values")
        return Refuse.hold(entry.row_number, hold), None

    def _ran_elsewhere(self, connection: sqlite3.Connection, entry: Entry, entries: Sequence[Entry]) -> Ran | None:
        """Where the row ran that is about to be sent: in another journal, or here under another sheet's key."""
        if self._policy.releases or not (self._others.is_any or entry.aliases):
            return None
        if self._elsewhere is None:  # all rows of the chunk in one question to each journal
            keys = list(dict.fromkeys(key for each in entries if each.takes_part for key in each.keys))
            self._elsewhere = self._others.ran(keys)
        here = ran_in(None, connection, entry.aliases)
        found = (here.get(key) or self._elsewhere.get(key) for key in entry.keys)
        return next(filter(None, found), None)

    def ran_meanwhile(
        self, connection: sqlite3.Connection, others: OtherJournals, row: int, entry: Entry
    ) -> str | None:
        """Why a row is held after all: another batch has started it since it found its place here, or one alike.

        Both have written down their intent before they look, so that at least one of them sees the other's.
        """
        keys = [key for (key,) in connection.execute(_KEYS_OF, {"row": row})]
        found = others.started_by_now(keys, entry, self._policy)
        if found is None:
            return None
        if isinstance(found, Ran):
            why, kind, names = f"{found}{_ways_out(found)}", ELSEWHERE, found.names
        else:
            why, kind, names = duplicate_of(found, entry, self._policy), DUPLICATE, DUPLICATE
        connection.execute(_HOLD, (why, kind, self._begun.id, entry.row_number))
        self.named["held", names] += 1
        return why

    @property
    def unclaimed_elsewhere(self) -> Mapping[Path, int]:
        """How many rows ran in which other journals, of which nobody said so far what makes them unique."""
        if self._unclaimed is None:
            asked = self._policy.unique and not (self._policy.releases or self._policy.allow_duplicates)
            self._unclaimed = self._others.unclaimed(self._policy) if asked else {}
        return self._unclaimed

    def adopt_elsewhere(self, connection: sqlite3.Connection, entries: Sequence[Entry]) -> None:
        """Learn from these rows what makes those unique that ran under their keys in such journals."""
        unasked = self.unclaimed_elsewhere
        ran = self._others.ran([key for entry in entries if entry.claim for key in entry.keys]) if unasked else {}
        for entry in entries if ran else ():
            for key in entry.keys if entry.claim else ():
                if (there := ran.get(key)) and there.journal in unasked:
                    told = (there.attempt, there.sheet, there.number, there.began, there.outcome, there.run_id)
                    connection.execute(_LEARN_RAN, (entry.claim, str(there.journal), *told, entry.conflict))

    def count_unclaimed_elsewhere(self, connection: sqlite3.Connection) -> dict[Path, int]:
        """The same, less those that this sheet has told of."""
        learned = dict(connection.execute(_COUNT_LEARNED).fetchall())
        left = {path: rows - learned.get(str(path), 0) for path, rows in self.unclaimed_elsewhere.items()}
        return {path: rows for path, rows in left.items() if rows > 0}

    def _alike_elsewhere(self, connection: sqlite3.Connection, entries: Sequence[Entry]) -> dict[bytes, Rival]:
        """What other journals know of starts with the claims of these rows."""
        if not self._policy.unique or self._policy.releases or not self._others.is_any:
            return {}
        found = self._others.alike(entries, self._policy)
        for claim in {claim for entry in entries for claim in claims_of(entry) if claim not in found}:
            for journal, *told, conflict in connection.execute(_LEARNED, (claim,)):
                found[claim] = Ran(Path(journal), *told).rival(conflict)
        return found

    def know_almost(self, connection: sqlite3.Connection, identifying: tuple[str, ...]) -> None:
        """Note what ran by the text of the params that identify a row, for those that are new by their key."""
        self._identifying = identifying
        if not self._policy.releases:
            know_almost(connection, identifying, has_key=self._has_key)

    def _hold(
        self,
        connection: sqlite3.Connection,
        step: Send | Poll | Resend,
        entry: Entry,
        ran: Ran,
        last: Attempt | None,
        *,
        also: str = "",
    ) -> tuple[Step, Attempt | None]:
        """Hold the row, or take over what it came to there; a run that goes on is followed, and never replaced."""
        if isinstance(step, Poll):
            return msgspec.structs.replace(step, otherwise=None, anew=None), last
        if isinstance(step, Resend):
            return Keep(entry.row_number, step.row_id, UNKNOWN, changed=False), last
        if self._policy.same and ran.outcome != STARTING:
            connection.execute(_SAY_SAME, (step.row_id, entry.digest, self._begun.id))
            self._take_over(connection, step.row_id, entry, ran)
            return self._decide(connection, entry, step.row_id, attempts_of(connection, step.row_id))
        why = f"{'almost a row that ' if also else ''}{ran}{also}{_ways_out(ran)}"
        return Refuse.hold(entry.row_number, Hold(ALMOST if also else ELSEWHERE, why, ran.names)), last

    def _take_over(self, connection: sqlite3.Connection, row: int, entry: Entry, ran: Ran) -> None:
        """Record here, as an attempt of this row, what is known of its start elsewhere: its values are what ran."""
        posts, intended, status, run_id, started, ended, error, result, params, cells = copy_of(ran, connection)
        if params in (entry.digest, entry.sent):
            params, cells = entry.digest, cells_of(entry.named())
        if ran.outcome == UNKNOWN:
            status, error, ended = UNKNOWN, error or LOST, ended or now()
        number = self._next_attempt()
        seen = (posts, intended, status, run_id, started, ended, error)
        known = (entry.claim, entry.conflict, cells, str(ran))
        connection.execute(_TAKE_OVER, (number, row, self._begun.id, params, *seen, *known))
        if result is not None:
            put_result(connection, number, result)

    def _count(self, step: Step, last: Attempt | None) -> None:
        name = counted_as(step)
        if name in ("held", "carried_over", "retried") and (named := named_by(step, last)):
            self.named[name, named] += 1

    def _place(
        self,
        connection: sqlite3.Connection,
        entry: Entry,
        row: int | None,
        step: Step,
        ran: Attempt | Beside | None,
        shown: int | None,
    ) -> None:
        """Note where the row stands: `ran` is what decided, `shown` the attempt that it shows if not the last one."""
        refusal = step.why if isinstance(step, Refuse) else None
        held = step.held if isinstance(step, Refuse | Keep) else None
        # A difference that doesn't count is none, also for whoever compares the places later; but where a person said
        # that it is the same, the totals have to say that what ran had other values.
        is_unchanged = isinstance(step, Keep) and not step.changed and ran is not None
        params = ran.params if is_unchanged and ran is not None else entry.digest
        if params != entry.digest and connection.execute(_IS_SAME, (row, entry.digest)).fetchone():
            params = entry.digest
        values = (self._begun.id, entry.row_number, row, params, entry.takes_part, refusal, held, shown)
        connection.execute(_PLACE, values)
        if self._begun.has_others and row is not None and entry.takes_part and refusal is None:
            connection.execute(_TONIGHT, (row, cells_of(entry.named())))


def _ways_out(ran: Ran) -> str:
    """What follows the sentence of a row that is held for what ran."""
    path = ran.journal
    return f" (journal {path}); {RELEASE}, --journal with its path goes on with it" if path else f"; {RELEASE}"


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
    return _add_row(connection, entry.key), True


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


def _add_row(connection: sqlite3.Connection, key: bytes, nth: int | None = None) -> int:
    """A new row with this key; without `nth` it is one more."""
    sql = "INSERT INTO row (key, nth) SELECT :key, coalesce(:nth, (SELECT max(nth) FROM row WHERE key = :key) + 1, 1)"
    row = connection.execute(sql, {"key": key, "nth": nth}).lastrowid
    assert row is not None
    return row
