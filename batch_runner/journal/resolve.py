"""A person looked what became of an `unknown` row, or of a run that never ends, and says so: kept with who and when."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec

from batch_runner.errors import JournalError, UsageError
from batch_runner.journal.batches import hold_journal, now, real_path
from batch_runner.journal.database import open_file
from batch_runner.journal.group_commit import commit
from batch_runner.journal.register import attempts_of
from batch_runner.journal.view import sheet_of, sheets
from batch_runner.outcomes import NOT_STARTED, UNKNOWN
from batch_runner.plan.plan import Attempt, last_sent

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from batch_runner.journal.view import JournalSheet


_PLACE = "SELECT row FROM place WHERE batch = ? AND number = ?"
_RESOLVE = "UPDATE attempt SET status = ?, run_id = ?, ended_at = ?, error = ? WHERE id = ?"
_RECORD = "INSERT INTO resolution (attempt, was, status, note, who, at) VALUES (?, ?, ?, ?, ?, ?)"


class Finding(msgspec.Struct, frozen=True):
    """What a person found: the status (of `WORDS`), why, who says so, and the run's id if there is one."""

    status: str
    note: str
    who: str
    run_id: str | None = None


def resolve(path: Path, numbers: Sequence[int], verdict: Finding, sheet: str | None = None) -> str:
    """Record the verdict for these rows of a sheet: for all of them, or for none. Gives the sheet's path.

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
        return meant.path


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
    if placed is None or placed[0] is None:
        raise UsageError(f"{sheet.path}: it has no row {number}; `batch-runner status` tells the unknown ones")
    last = last_sent(attempts_of(connection, placed[0]))
    outcome = "not_started" if last is None else last.outcome
    if last is None or not (outcome == UNKNOWN or last.is_going):
        raise UsageError(
            f"{sheet.path}: row {number} is {outcome}, neither unknown nor still going: there is nothing to resolve"
        )
    if verdict.status == NOT_STARTED and (last.run_id or verdict.run_id):
        raise UsageError(f"{sheet.path}: row {number} has the run {last.run_id or verdict.run_id}, so it was started")
    return last
