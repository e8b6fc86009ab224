"""What became of an attempt, as it is written: by the service's word, or by a person's, kept with who and when.

A run belongs to one row. Where a service tells one run for the starts of two rows, nobody can know for which of them it
ran: both are `unknown`. A person may look what became of an unknown row, or of a run that never ends, and say so.
A person may also have the rows known by other columns.
"""

from __future__ import annotations

import getpass
import os
import sqlite3
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import msgspec

from batch_runner.errors import JournalError, OutputFailed, UsageError
from batch_runner.journal.batches import hold_journal, now, real_path, sheet_of, sheets
from batch_runner.journal.database import open_file
from batch_runner.journal.group_commit import commit, put_result
from batch_runner.journal.register import attempts_of
from batch_runner.journal.same_key import clear_places, doubted, find_twins, renamed, see, tell_apart
from batch_runner.outcomes import NOT_STARTED, UNKNOWN
from batch_runner.plan.plan import Entry, last_sent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from batch_runner.journal.batches import JournalSheet
    from batch_runner.plan.edits import Attempt


INTEND = (
    "INSERT INTO attempt (id, row, batch, params, posts, intended_at, status, claim, conflict, cells, sent)"
    " VALUES (?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?)"
)
INTEND_AGAIN = "UPDATE attempt SET posts = posts + 1, status = ?, ended_at = NULL, error = NULL WHERE id = ?"
WITHDRAW = "UPDATE attempt SET status = ?, ended_at = ?, error = ?, run_id = NULL, started_at = NULL WHERE id = ?"
SEE = "UPDATE attempt SET status = ?, error = ? WHERE id = ?"
LEFT_GOING = (
    "UPDATE attempt SET error = ? WHERE run_id IS NOT NULL AND ended_at IS NULL AND EXISTS"
    " (SELECT 1 FROM place WHERE place.row = attempt.row AND place.batch = ? AND takes_part)"
)
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
        put_result(connection, attempt, outcome.result)
    error = _hold_same_run(connection, attempt, moment) if run_id else ""
    return Outcome(UNKNOWN, run_id, error=error) if error else outcome


_SAME_RUN = (
    "SELECT other.id, other.row FROM attempt AS own JOIN attempt AS other ON other.run_id = own.run_id"
    " WHERE own.id = ? AND other.row <> own.row"
    " AND NOT EXISTS (SELECT 1 FROM same WHERE substr(params, 1, 4) <> CAST('key ' AS BLOB)"
    " AND (row = own.row AND own.origin IS NOT NULL OR row = other.row AND other.origin IS NOT NULL)) ORDER BY other.id"
)
"""But for a run that a person gave to a row (`--same`)."""
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


_SHARED_RUN = (  # of those that no person gave to a row (--same)
    "SELECT run_id FROM attempt WHERE run_id IS NOT NULL AND status <> 'unknown'"
    " AND (origin IS NULL OR row NOT IN (SELECT row FROM same WHERE substr(params, 1, 4) <> CAST('key ' AS BLOB)))"
    " GROUP BY run_id HAVING count(DISTINCT row) > 1 LIMIT 1"
)


def check_runs(connection: sqlite3.Connection) -> None:
    """Raise `OutputFailed` if a run stands beside two rows: each has its own, one that a person gave it, or none."""
    found = connection.execute(_SHARED_RUN).fetchone()
    if found is not None:
        raise OutputFailed(
            f"two rows have the run {found[0]}, so no output was written: look up at the service which row it ran for; "
            "the journal has all the others"
        )


_PLACE = "SELECT row FROM place WHERE batch = ? AND number = ?"
_RESOLVE = "UPDATE attempt SET status = ?, run_id = ?, ended_at = ?, error = ? WHERE id = ?"
_RECORD = "INSERT INTO resolution (attempt, was, status, note, who, at) VALUES (?, ?, ?, ?, ?, ?)"


def user_name() -> str:
    """Who is logged in; the number where the system has no name for it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        if sys.platform == "win32":
            return "somebody"
        return f"user {os.getuid()}"


class Finding(msgspec.Struct, frozen=True):
    """What a person found: the status (of `WORDS`), why, who says so, and the run's id if there is one."""

    status: str
    note: str
    who: str
    run_id: str | None = None


def resolve(path: Path, numbers: Sequence[int], verdict: Finding, sheet: str | None = None) -> JournalSheet:
    """Record the verdict for these rows of a sheet: for all of them, or for none. Gives the sheet.

    The numbers are those of the last batch over the sheet, which is to be named where the journal has several. Raises
    `UsageError` for a row that isn't there or has ended, `JournalBusy` while a batch runs, `JournalError`.
    """
    path = real_path(path)
    if not path.is_file():
        raise JournalError(f"{path}: there is no journal here; give the path of a batch's journal")
    with hold_journal(path), closing(open_file(path)) as connection:
        meant = sheet_of(path, sheets(connection), sheet)
        attempts = [_unknown(meant, connection, number, verdict) for number in dict.fromkeys(numbers)]
        try:
            commit(connection, [_Resolving(attempt, verdict) for attempt in attempts])
        except sqlite3.Error as error:
            raise JournalError(f"{path}: the journal can't be written: {error}; nothing was resolved") from error
        return meant


class _Resolving(msgspec.Struct, frozen=True):
    """The event of one row."""

    attempt: Attempt
    verdict: Finding

    def __call__(self, connection: sqlite3.Connection) -> None:
        said, moment = self.verdict, now()
        error = "" if said.status == "success" else said.note
        run_id = said.run_id or self.attempt.run_id
        connection.execute(_RESOLVE, (said.status, run_id, moment, error or None, self.attempt.id))
        connection.execute(_RECORD, (self.attempt.id, self.attempt.outcome, said.status, said.note, said.who, moment))


def _unknown(sheet: JournalSheet, connection: sqlite3.Connection, number: int, verdict: Finding) -> Attempt:
    """The attempt of the row that nobody knows the end of, or that doesn't come to one."""
    placed = connection.execute(_PLACE, (sheet.batch, number)).fetchone()
    if placed is None:
        raise UsageError(f"{sheet.path}: it has no row {number}; `batch-runner status` tells the unknown ones")
    last = None if placed[0] is None else last_sent(attempts_of(connection, placed[0]))
    if last is None:
        raise UsageError(f"{sheet.path}: no run was started for row {number}: there is nothing to resolve")
    if not (last.outcome == UNKNOWN or last.is_going):
        is_what = f"row {number} is {last.outcome}, neither unknown nor still going"
        raise UsageError(f"{sheet.path}: {is_what}: there is nothing to resolve")
    if verdict.status == NOT_STARTED and (last.run_id or verdict.run_id):
        raise UsageError(
            f"{sheet.path}: row {number} has the run {last.run_id or verdict.run_id}, so it was started; if you know "
            "that it did nothing, say --as failure, and --retry failure starts the row again"
        )
    return last


_FILES = "SELECT input, output, key_columns FROM batch ORDER BY id DESC"
_SENT = "SELECT DISTINCT sent.row, place.number FROM sent LEFT JOIN place ON place.row = sent.row GROUP BY sent.row"
_ALONE = "SELECT id FROM row WHERE key = ? AND nth = 1"
_MOST_NAMED = 5
Rekeyed = tuple[Entry, Entry]
"""A row of a sheet under the key that it had, and under the one that it is to have."""


def rekey(path: Path, columns: tuple[str, ...], rows: Callable[[Path, tuple[str, ...]], Iterable[Rekeyed]]) -> int:
    """Have the journal know its rows by these columns; gives how many it knows.

    `rows` gives those of a file, an input or an output of the journal, known by some columns until now. All or nothing:
    raises `UsageError` where a row that was sent isn't found again, or not by this key alone; and `JournalBusy`,
    `JournalError`, and what `rows` raises.
    """
    path = real_path(path)
    if not path.is_file():
        raise JournalError(f"{path}: there is no journal here; give the path of a batch's journal")
    with hold_journal(path), closing(open_file(path)) as connection:
        sent = dict(connection.execute(_SENT).fetchall())
        found: dict[int, Entry] = {}
        for file, before in _files(connection):
            if not sent.keys() <= found.keys():
                found = _found_in(connection, list(rows(file, before))) | found
        _refuse_unknown(path, columns, sent, found)
        try:
            _give_keys(connection, columns, found)
        except sqlite3.Error as error:
            raise JournalError(f"{path}: the journal can't be written: {error}; nothing was changed") from error
        return len(sent)


def _files(connection: sqlite3.Connection) -> dict[tuple[Path, tuple[str, ...]], None]:
    """The sheets of the journal and then its outputs, as far as they are there, the latest first, with their keys."""
    batches = connection.execute(_FILES).fetchall()
    named = [(file, key) for place in (0, 1) for *files, key in batches for file in [files[place]]]
    keys = {key: tuple(msgspec.json.decode(key, type=list[str])) for _, key in named}
    return {(Path(file), keys[key]): None for file, key in named if Path(file).is_file()}


def _found_in(connection: sqlite3.Connection, rows: Sequence[Rekeyed]) -> dict[int, Entry]:
    """Which rows of the journal these are, each with what it is to be."""
    before = [entry for entry, _ in rows]
    see(connection, before)
    tell_apart(connection)
    twins, unclear, found = find_twins(connection, before), doubted(connection, before), dict[int, Entry]()
    for old, (_, new) in zip(renamed(connection, before), rows, strict=True):
        alone = connection.execute(_ALONE, (old.key,)).fetchone() or (None,)
        row = twins.get(old.row_number, alone[0])
        if row is not None and old.row_number not in unclear:
            found.setdefault(row, new)
    clear_places(connection, "")
    return found


def _refuse_unknown(
    path: Path, columns: tuple[str, ...], sent: Mapping[int, int | None], found: Mapping[int, Entry]
) -> None:
    by_key: dict[bytes | None, list[int]] = {}
    for row, entry in found.items():
        by_key.setdefault(entry.key, []).append(row)
    lost = [number for row, number in sent.items() if row not in found]
    shared = [sent[row] for key, rows in by_key.items() for row in rows if row in sent and (len(rows) > 1 or not key)]
    if lost:
        raise UsageError(
            f"{path}: {_listed(lost)} ran and can't be found as they were in the sheets and outputs that are there, so "
            "nothing was changed; bring those files back, give the job file instead of the journal if it says which "
            "columns are sent, or keep the key"
        )
    if shared:
        raise UsageError(
            f"{path}: {_listed(shared)} have no key of their own in {', '.join(columns)}, so nothing was changed; name "
            "more columns, or keep the key"
        )


def _listed(numbers: Sequence[int | None]) -> str:
    """The first few rows, by where they stood last."""
    named = [*map(str, sorted(number for number in numbers if number is not None))]
    more = ["…"] if len(named) > _MOST_NAMED else []
    return f"{len(numbers)} rows ({', '.join([*named[:_MOST_NAMED], *more])})"


def _give_keys(connection: sqlite3.Connection, columns: tuple[str, ...], found: Mapping[int, Entry]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        # First out of each other's way: a key may go from one row to another.
        connection.executemany("UPDATE row SET key = randomblob(16), nth = 1 WHERE id = ?", ((row,) for row in found))
        known = [(entry.key, row) for row, entry in found.items() if entry.key is not None]
        nth: Counter[bytes] = Counter()
        for key, row in known:
            nth[key] += 1
            connection.execute("UPDATE row SET key = ?, nth = ? WHERE id = ?", (key, nth[key], row))
        connection.executemany("DELETE FROM alias WHERE row = ?", ((row,) for row in found))
        forms = ((form, row) for row, entry in found.items() for form in entry.kept_forms)
        connection.executemany("INSERT OR IGNORE INTO alias VALUES (?, ?)", forms)
        names = msgspec.json.encode(columns).decode()
        connection.execute("UPDATE batch SET key_columns = ?", (names,))
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
