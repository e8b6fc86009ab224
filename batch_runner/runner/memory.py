"""The memory of a task: which journal a job goes on with, what is recorded there, and which others know what ran."""

from __future__ import annotations

import os
import sqlite3
from contextlib import asynccontextmanager, closing, contextmanager, nullcontext, suppress
from datetime import datetime
from itertools import count
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import msgspec

from batch_runner._version import __version__
from batch_runner.errors import BatchRunnerError, JournalError, SheetError, UsageError, cant_be_read
from batch_runner.fs import LockHeld, hold_lock, is_lock_there
from batch_runner.job.config import load_job
from batch_runner.job.inputs import SheetJob, night_job_of
from batch_runner.job.options import options
from batch_runner.job.validation import OUTPUT_ENDINGS
from batch_runner.journal.batches import BatchInfo, look_at_place, moment_ago, real_path, stamp_of
from batch_runner.journal.database import copy_journal, open_memory
from batch_runner.journal.index import (
    ENDING,
    Index,
    LaterJournals,
    OtherJournals,
    Purpose,
    journals_in,
    key_columns_of,
    purpose_in,
    state_folder,
    uuid_in,
)
from batch_runner.journal.journal import Journal, JournalFile
from batch_runner.journal.outputs import StartWords
from batch_runner.journal.view import JournalView, Placed
from batch_runner.outcomes import UNKNOWN
from batch_runner.plan.plan import Policy
from batch_runner.rows.source import look_ahead, plan_rows
from batch_runner.runner.connect import purpose_of, task_from_journal
from batch_runner.units import safe_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator
    from datetime import date

    from batch_runner.batch.attempts import Terms
    from batch_runner.job.inputs import NightJob
    from batch_runner.job.job import Job
    from batch_runner.rows.source import Source
    from batch_runner.runner.connect import ChosenService


class Memory(msgspec.Struct, frozen=True):
    """What is known of a job's task outside its journal.

    `key_columns` are the columns by which other sheets of the task know their rows. `cautions` are sentences that a
    person must hear, `gone` the journals that they are told of as gone.
    """

    purpose: Purpose
    others: OtherJournals = OtherJournals()
    key_columns: frozenset[tuple[str, ...]] = frozenset()
    cautions: tuple[str, ...] = ()
    gone: tuple[Path, ...] = ()


def index_of_user() -> Index:
    """The index of all journals, in the state folder that the environment names."""
    return Index(state_folder(os.environ))


def recall(job: Job, chosen: ChosenService) -> Memory:
    """Look for the other journals of the job's task. Raises `JournalError` for one that is a half, or damaged.

    Where the task is declared safe to repeat, nobody asks them.
    """
    purpose, own = purpose_of(job), job.journal_path.resolve()
    keys = key_columns_of(own) if own.is_file() else set()
    if chosen.repeatable:
        return Memory(purpose)
    look = _look_again(purpose, own)
    there, gone = index_of_user().journals(purpose)
    folders = (path.absolute().parent for path in (job.input_path, job.output_path, own))
    found, cautions = list[Path](), list[str]()
    for path in dict.fromkeys([*there, *journals_in(folders)]):
        if path.resolve() != own and _is_for(path, purpose, cautions, is_known=path in there):
            found.append(path)
    found += _copies_of(own, index_of_user().namesakes(purpose), cautions)
    others = OtherJournals(found, look=look)
    cautions += (
        f"{path}: this journal of the same task is gone, so what ran in it isn't known: bring it back, if it was moved"
        for path in gone
    )
    return Memory(purpose, others, frozenset(keys | others.key_columns()), tuple(cautions), tuple(gone))


def _look_again(purpose: Purpose, own: Path) -> LaterJournals | None:
    """How to find the journals that a batch of the same task began after this one, or of a copy of it."""
    index = index_of_user()

    def find() -> list[Path]:
        there = (path for path in index.journals(purpose)[0] if path.resolve() != own)
        return [*there, *_copies_of(own, index.namesakes(purpose), [])]

    folder = index.folder  # its stamp is taken before anybody looks at what is there
    return LaterJournals(folder, stamp_of(folder), find) if folder is not None else None


def know_keys(memory: Memory, job: Job, source: Source) -> Memory:
    """Have rows looked up by the keys of the task's other sheets; with a caution where this sheet has none of these.

    So it is where a column was renamed: all its rows are new then, whatever ran.
    """
    known, own = memory.key_columns, {column.name for column in source.layout.own}
    source.template.know_also(known)
    if not known or tuple(sorted(set(job.key))) in known or any(map(own.issuperset, known)):
        return memory
    keys = "; ".join(", ".join(key) for key in sorted(known))
    caution = (
        f"{job.input}: rows of this task are known by {keys} so far, which this sheet can't be asked for: each of its "
        "rows counts as new and is sent; if a column was only renamed, give it its name back first"
    )
    return msgspec.structs.replace(memory, cautions=(*memory.cautions, caution))


def _is_for(path: Path, purpose: Purpose, cautions: list[str], *, is_known: bool) -> bool:
    """Whether a journal is for this. One that `is_known` from the index is, and its rows would run again unseen."""
    try:
        return purpose_in(path) == purpose
    except JournalError as error:
        if is_known:
            raise JournalError(
                f"{error}; rows of this task ran in it, and can't be held: restore it from a backup (rows that ran "
                "since then start again)"
            ) from error
        cautions.append(f"{error}; rows that ran in it can't be held")
        return False


def _copies_of(own: Path, others: Iterable[Path], cautions: list[str]) -> Iterator[Path]:
    """Those which the journal is a copy of, or that are copies of it: their folder was copied with its file of tasks.

    Such a file is another task, but what runs now in the one folder is what waits in the other.
    """
    for path in others if own.is_file() else ():
        try:
            is_copy = (uuid := uuid_in(own)) is not None and uuid == uuid_in(path)
        except JournalError as error:
            cautions.append(f"{error}; rows that ran in it can't be held")
        else:
            if is_copy:
                yield path


def place_journals(plan: NightJob) -> NightJob:
    """Say for each sheet which journal it has, where nobody named one."""
    return msgspec.structs.replace(plan, batches=tuple(map(place_journal, plan.batches)))


def place_alone(job: Job) -> SheetJob:
    """As `place_journals`, for a job whose paths are to the letter."""
    folder = job.output_path.parent
    return place_journal(SheetJob(job, str(job.input_path.absolute()), folder, job.former_journal))


def place_journal(planned: SheetJob) -> SheetJob:
    """The sheet's own journal of an earlier release, or the one of its task: the first of its names that is free.

    A file by such a name that another task or service has is left alone.
    """
    job = planned.job
    if job.journal is not None or not job.task:
        return planned
    purpose = purpose_of(job)
    if planned.former.is_file() and _belongs_to(planned.former, purpose):
        note = f"{planned.former}: this sheet has a journal of its own from an earlier release, and goes on with it"
        return _with_journal(planned, planned.former, (note,))
    taken: list[str] = []
    for path in _names(planned.memory, job.task):
        if not path.exists() or _belongs_to(path, purpose):
            note = f"{', '.join(taken)}: the journal of another task or service; this one's is {path}"
            return _with_journal(planned, path, (note,) if taken else ())
        taken.append(str(path))
    raise AssertionError


def _with_journal(planned: SheetJob, path: Path, notes: Iterable[str]) -> SheetJob:
    job = msgspec.structs.replace(planned.job, journal=str(path))
    return msgspec.structs.replace(planned, job=job, notes=tuple(notes))


def _names(folder: Path, task: str) -> Iterator[Path]:
    name = safe_name(task)
    yield folder / f"{name}{ENDING}"
    yield from (folder / f"{name}-{number}{ENDING}" for number in count(2))


def _belongs_to(path: Path, purpose: Purpose) -> bool:
    """Whether a journal is for this, or for nothing yet; one that can't be read may be, so that it is refused later."""
    try:
        return purpose_in(path) in (purpose, None)
    except JournalError:
        return True


def look_at_journal(path: Path, info: BatchInfo | None = None) -> None:
    """Look, without making anything, whether there can be a journal here, and one for a batch such as `info` says.

    Raises `UsageError`.
    """
    try:
        path = real_path(path)
        look_at_place(path)
        if path.exists():
            with JournalView.open(path) as journal:
                if info is not None:
                    journal.check_job(path, info)
    except JournalError as error:
        raise UsageError(str(error)) from None


def is_held(journal: Path) -> bool:
    """Whether another process holds it just now. Not to be asked while this one does."""
    path = real_path(journal)
    try:
        with hold_lock(path) if is_lock_there(path) else nullcontext():
            return False
    except LockHeld:
        return True
    except OSError:  # who opens the journal says what is wrong
        return False


def journals_of_job(source: Path, day: date) -> list[Path]:
    """The journals of a job file's sheets of this day. Raises `UsageError`."""
    planned = place_journals(night_job_of(load_job(str(source), {}, os.environ).job, day))
    return [path for path in dict.fromkeys(batch.job.journal_path for batch in planned.batches) if path.is_file()]


def journal_meant(source: Path, day: date) -> tuple[Path, str | None]:
    """The journal that a person means, who names it, its job, or a sheet or output of its; and that sheet, if so.

    Of several that know a sheet it is the one that had it last; of a journal and its copies the one beside the sheet.
    Raises `UsageError` where there is none, or no one.
    """
    if source.suffix.lower() == ".toml" and source.is_file():
        journals = journals_of_job(source, day)
        if len(journals) != 1:
            names = ", ".join(map(str, journals)) or "none yet"
            raise UsageError(f"{source}: name one of its journals ({names}); batch-runner check {source} shows them")
        return journals[0], None
    if source.suffix.lower() not in OUTPUT_ENDINGS or not source.is_file():
        return source, None
    found = [known for path in _journals_near(source) for known in _known(path, source.resolve())]
    if not found:
        raise UsageError(f"{source}: this is a spreadsheet, and no journal knows it; name the journal")
    _, journal, sheet = max(found, key=itemgetter(0))
    return journal, sheet


def _journals_near(source: Path) -> list[Path]:
    return list(dict.fromkeys([*journals_in([source.absolute().parent]), *index_of_user().all()]))


def _known(journal: Path, file: Path) -> Iterator[tuple[str, Path, str]]:
    """When a batch of this journal began that had the file as its sheet or output, and the sheet."""
    try:
        with JournalView.open(journal) as view:
            for batch in view.batches():
                if file in (Path(batch.input).resolve(), Path(batch.output).resolve()):
                    yield batch.started, journal, batch.input
    except JournalError:
        return


def info_of(job: Job, source: Source, service: ChosenService | None, series: str) -> BatchInfo:
    """What a journal records of a batch of this job."""
    return BatchInfo(
        input=str(job.input_path.absolute()),
        input_sha256=source.sheet.fingerprint,
        output=str(job.output_path.absolute()),
        task=task_from_journal(job),
        service=service.name if service else job.service,
        key_columns=tuple(sorted(set(job.key))),
        policy=msgspec.structs.replace(
            policy_of(job, service.terms if service else None),
            repeatable=service is not None and service.repeatable,
            ignore=source.template.ignored,
        ),
        version=__version__,
        series=series,
        whole_sheet=job.row_ranges is None and job.where is None and job.limit is None,
    )


def policy_of(job: Job, terms: Terms | None) -> Policy:
    """What the job says about rows that were sent before."""
    return Policy(
        frozenset(job.retry),
        "resend" if terms and terms.resend else "report",
        retry_limit=job.retry_limit,
        ended_before=moment_ago(job.retry_wait_seconds),
        unique=tuple(sorted(set(job.unique))),
        conflict=tuple(sorted(set(job.unique_conflict))),
        allow_duplicates=job.allow_duplicates,
        again=job.again,
        same=job.same,
        watched=tuple(dict.fromkeys((*job.total, *job.unique_conflict))),
    )


AWAITED = "its start was sent, and the answer is awaited; a run may exist"
_AWAIT = (
    "UPDATE attempt SET status = ?, error = ?, ended_at = ?"
    " WHERE run_id IS NULL AND ended_at IS NULL AND status <> 'not_started' AND batch >= ?"
)
_NOW = (
    "SELECT new.number, told.status, coalesce(told.run_id, ''), coalesce(told.result, ''), coalesce(told.error, ''),"
    " coalesce(told.changed, 0) FROM place AS new"
    " LEFT JOIN place AS was ON {same} AND was.batch = :batch AND was.takes_part"
    " CROSS JOIN outcome AS told ON told.batch = iif(was.number IS NULL, new.batch, was.batch)"
    " AND told.number = iif(was.number IS NULL, new.number, was.number)"
    " WHERE new.batch = :new AND new.takes_part AND new.number > :after AND (:all OR was.number IS NOT NULL)"
    " ORDER BY new.number LIMIT :most"
)
_SAME = {False: "was.row = new.row", True: "was.number = new.number"}
_FOUND = (
    "SELECT count(new.number), count(*) FROM place AS was LEFT JOIN place AS new ON new.batch = :new AND {same}"
    " AND new.row IS was.row WHERE was.batch = :batch AND was.takes_part"
)
_PAGE = 500


class OutcomesNow(msgspec.Struct, frozen=True):
    """What a journal knew at one moment of each row of a sheet: a copy of it, in which the sheet is a new batch."""

    connection: sqlite3.Connection
    journal: Journal
    batch: int
    is_same_sheet: bool
    """Whether the sheet is still as the batch has read it: then its rows are where they were."""

    def found(self) -> tuple[int, int]:
        """How many rows of the batch are in the sheet, and of how many."""
        sql = _FOUND.format(same=_SAME[self.is_same_sheet])
        found, rows = self.connection.execute(sql, {"batch": self.batch, "new": self.journal.batch}).fetchone()
        return found, rows

    def rows(self, *, others: bool = True) -> Iterator[Placed]:
        """Each row that takes part, in order of number: what it came to in the batch, or is known to have come to.

        `others`: those that have no place in the batch, too.
        """
        sql = _NOW.format(same=_SAME[self.is_same_sheet])
        named = {"batch": self.batch, "new": self.journal.batch, "after": -1, "most": _PAGE, "all": others}
        while page := self.connection.execute(sql, named).fetchall():
            named["after"] = page[-1][0]
            for number, status, run_id, result, error, changed in page:
                yield Placed(number, status, run_id, result, error, changed=bool(changed))


@contextmanager
def outcomes_now(
    path: Path, batch: int, source: Source, info: BatchInfo, living: int | None, look: Callable[[], None]
) -> Iterator[OutcomesNow]:
    """What the journal at `path` knows just now of a sheet's rows, those included that have no place in the batch yet.

    The journal is only read. What a batch from `living` on has sent and awaits the answer to is `unknown`, with a word
    about that. `look` is called again and again while rows are gone through, and may raise. Not for an event loop.
    """
    with closing(copy_journal(path)) as connection:
        if living is not None:
            connection.execute(_AWAIT, (UNKNOWN, AWAITED, moment_ago(0), living))
        info = msgspec.structs.replace(info, command="", policy=Policy(ignore=info.policy.ignore))

        async def place() -> Journal:
            journal, rows = await JournalFile(connection).begin(info), source.beside()
            await look_ahead(rows, journal)
            async for _chunk in plan_rows(rows, journal):
                look()
            return journal

        read = connection.execute("SELECT input_sha256 FROM batch WHERE id = ?", (batch,)).fetchone()
        yield OutcomesNow(connection, anyio.run(place), batch, read == (source.sheet.fingerprint,))


@asynccontextmanager
async def rehearse(path: Path | None) -> AsyncIterator[JournalFile]:
    """A journal that knows what the one at `path` knows, if there is one, and is gone when the block ends.

    The journal itself is only read; a batch that holds it isn't disturbed. Raises `JournalError`, as `Journal.open`.
    """
    try:
        with closing(copy_journal(path) if path and path.exists() else open_memory()) as connection:
            yield JournalFile(connection)
    except sqlite3.Error as error:
        raise (cant_be_read(path, error) if path else error) from error


def started_by_job(folder: Path, journal: Path, sheet: str) -> StartWords | None:
    """How a job file in the folder starts its batches over a sheet with a journal; what may be secret is left out."""
    for path in sorted(folder.glob("*.toml")):
        with suppress(BatchRunnerError, SheetError, OSError):
            job = load_job(path.name, {}, os.environ).job
            for planned in place_journals(night_job_of(job, datetime.now().astimezone().date())).batches:
                found = planned.job
                if found.journal_path.resolve() == journal and str(found.input_path.absolute()) == sheet:
                    public = {n: each for n, each in options().items() if not each.is_secret and n != "input"}
                    said = {n: getattr(found, n) for n, option in public.items() if getattr(found, n) != option.default}
                    known = {name: value for name, value in said.items() if value not in (None, (), {})}
                    return StartWords(found.input, known, path.name)
    return None


def key_before(sheet: Path, columns: Iterable[str]) -> tuple[str, ...] | None:
    """The one key, of columns that it still has, with which rows of this sheet ran in the journals beside it."""
    found = set[tuple[str, ...]]()
    for journal in sheet.parent.glob("*.db"):
        with suppress(JournalError):
            found |= key_columns_of(journal, sheet)
    return next(iter(found)) if len(found) == 1 and set().union(*found) <= {*columns} else None
