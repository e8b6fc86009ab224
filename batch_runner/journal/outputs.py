"""What the journal remembers of outputs, and learns from them: files as they were written, runs that only they have.

Each output is noted just before it takes its place, so that it is known again, and what a person has changed in it
since. Where an output is younger than its journal (yesterday's copy was restored), it has runs that the journal lacks.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import sha256
from heapq import nsmallest
from typing import TYPE_CHECKING, Any

import msgspec

from batch_runner.errors import JournalError
from batch_runner.fs import replace_file, write_private
from batch_runner.journal.batches import now
from batch_runner.journal.group_commit import put_result
from batch_runner.journal.index import Index, Purpose, journals_in, looking_into, state_folder
from batch_runner.outcomes import GOING
from batch_runner.units import service_form

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from batch_runner.plan.plan import Entry


WITHOUT_OUTPUTS = (1, 2)
"""The versions of the schema that have no table of outputs."""


class WrittenHeaders(msgspec.Struct, frozen=True):
    """The headers of an output as the journal knows that they were written.

    `own` came from the sheet, `ours` are our four and those of `--expand`, `hers` were carried over from before.
    """

    own: tuple[str, ...]
    ours: tuple[str, ...]
    hers: tuple[str, ...] = ()


class WrittenOutput(msgspec.Struct, frozen=True):
    """An output as it was written: where it was to go, the SHA-256 of its bytes, a hash of our cells, its headers.

    `batch` is the one that wrote it, over the sheet `input`, as that was then.
    """

    path: str
    sha256: str
    cells: bytes
    headers: WrittenHeaders
    batch: int = 0
    input: str = ""
    input_sha256: str = ""


_OF_PLACE = "SELECT row FROM place WHERE batch = ? AND number = ? AND row IS NOT NULL"
_OF_KEY = "SELECT id FROM row WHERE key = :key UNION SELECT row FROM alias WHERE key = :key"
_RUN_OF = "SELECT 1 FROM attempt WHERE row = ? AND run_id = ?"
_PARAMS_OF = "SELECT params FROM place JOIN row ON row.id = place.row WHERE batch = ? AND key = ? AND nth = ?"
_FORGET = (
    "DELETE FROM output WHERE batch = ? AND path = ? AND rowid NOT IN"
    " (SELECT rowid FROM output WHERE batch = ? AND path = ? ORDER BY rowid DESC LIMIT 2)"
)
"""Of an output that is refreshed each minute: one of the last two is what stands there, also after a kill."""
_NOTE = "INSERT INTO output VALUES (?, ?, ?, ?, ?, ?, ?)"
_WRITTEN = (
    "SELECT path, sha256, cells, own, ours, hers, batch, batch.input, input_sha256"
    " FROM output JOIN batch ON batch.id = output.batch ORDER BY output.rowid DESC"
)


def note_output(connection: sqlite3.Connection, batch: int, written: WrittenOutput) -> None:
    """Record what a batch has written; within a commit."""
    connection.execute(_FORGET, (batch, written.path, batch, written.path))
    lists = (msgspec.json.encode(names).decode() for names in msgspec.structs.astuple(written.headers))
    connection.execute(_NOTE, (batch, written.path, written.sha256, written.cells, *lists))


def outputs_of(connection: sqlite3.Connection) -> tuple[WrittenOutput, ...]:
    """All outputs that the journal knows, the latest first; those of earlier releases weren't noted."""
    if connection.execute("PRAGMA user_version").fetchone()[0] in WITHOUT_OUTPUTS:
        return ()
    return tuple(
        WrittenOutput(path, sha256, cells, WrittenHeaders(*map(_names, lists)), batch, sheet, input_sha256)
        for path, sha256, cells, *lists, batch, sheet, input_sha256 in connection.execute(_WRITTEN)
    )


def _names(text: str) -> tuple[str, ...]:
    return msgspec.json.decode(text, type=tuple[str, ...])


class FoundRun(msgspec.Struct, frozen=True):
    """A run that an output has for a row, and the journal hasn't. Without an id, its start was lost.

    `nth` counts the rows of the output with the same key, `where` is the place where it was found.
    """

    entry: Entry
    nth: int
    where: str
    run_id: str | None
    status: str
    result: str
    error: str


_ROW = "SELECT id FROM row WHERE key = ? AND nth = ?"
_ADD_ROW = "INSERT INTO row (key, nth) VALUES (?, ?)"
_TAKE_BACK = (
    "INSERT INTO attempt (id, row, batch, params, posts, intended_at, status, run_id, started_at, ended_at, error,"
    " claim, conflict, origin) VALUES (?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_HAS_RUN = "SELECT 1 FROM attempt WHERE row = ? AND (run_id = ? OR (? IS NULL AND status <> 'not_started'))"


def take_back(
    connection: sqlite3.Connection, batch: int, found: Iterable[FoundRun], next_attempt: Callable[[], int]
) -> None:
    """Record runs that were found in an output, for the rows of their keys; within a commit."""
    for run in found:
        entry, moment = run.entry, now()
        row = (connection.execute(_ROW, (entry.key, run.nth)).fetchone() or [None])[0]
        if row is None:
            row = connection.execute(_ADD_ROW, (entry.key, run.nth)).lastrowid
        if connection.execute(_HAS_RUN, (row, run.run_id, run.run_id)).fetchone():
            continue
        attempt = next_attempt()
        began = moment if run.run_id else None
        ended = None if run.status in GOING else moment
        connection.execute(
            _TAKE_BACK,
            (attempt, row, batch, entry.digest, moment, run.status, run.run_id, began, ended, run.error or None,
             entry.claim, entry.conflict, run.where),
        )  # fmt: skip
        if run.result:
            put_result(connection, attempt, run.result)


def unknown_runs(connection: sqlite3.Connection, run_ids: Iterable[str]) -> frozenset[str]:
    """Those of these ids that no attempt of the journal has."""
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS found (run_id TEXT PRIMARY KEY) WITHOUT ROWID")
    connection.execute("DELETE FROM found")
    connection.executemany("INSERT OR IGNORE INTO found VALUES (?)", ((run_id,) for run_id in run_ids))
    sql = "SELECT run_id FROM found EXCEPT SELECT run_id FROM attempt WHERE run_id IS NOT NULL"
    return frozenset(run_id for (run_id,) in connection.execute(sql))


def never_sent(connection: sqlite3.Connection, keys: Iterable[bytes]) -> frozenset[bytes]:
    """Those of these keys of which no row was sent."""
    sql = "SELECT 1 FROM row JOIN sent ON sent.row = row.id WHERE key = ?"
    return frozenset(key for key in keys if connection.execute(sql, (key,)).fetchone() is None)


def has_outcome(connection: sqlite3.Connection, batch: int, entry: Entry, run_id: str) -> bool:
    """Whether a run is that of this row of the sheet; without a run, whether the journal knows the row at all.

    The row is the one that has the place in this batch, or where none has, the one with its key.
    """
    rows = [row for (row,) in connection.execute(_OF_PLACE, (batch, entry.row_number)).fetchall()]
    if not rows:
        rows = [row for key in entry.keys for (row,) in connection.execute(_OF_KEY, {"key": key}).fetchall()]
    if not run_id:
        return bool(rows)
    return any(connection.execute(_RUN_OF, (row, run_id)).fetchone() for row in rows)


def params_of(connection: sqlite3.Connection, batch: int, key: bytes, nth: int) -> bytes | None:
    """The hash of what a row of a batch would have sent."""
    found = connection.execute(_PARAMS_OF, (batch, key, nth)).fetchone()
    return found[0] if found else None


class OutputMemory:
    """What the journal of a running batch remembers of outputs, and learns from them."""

    def __init__(
        self,
        reader: Callable[[], AbstractContextManager[sqlite3.Connection]],
        commit: Callable[[Callable[[sqlite3.Connection], None]], Awaitable[None]],
        batch: int,
        next_attempt: Callable[[], int],
    ) -> None:
        self._reader = reader
        self._commit = commit
        self._batch = batch
        self._next_attempt = next_attempt

    async def note(self, written: WrittenOutput) -> None:
        """Remember an output that is about to take its place."""
        await self._commit(partial(note_output, batch=self._batch, written=written))

    async def take_back(self, found: Sequence[FoundRun]) -> None:
        """Record runs that an output has and the journal hasn't, before any row finds its place."""
        await self._commit(partial(take_back, batch=self._batch, found=found, next_attempt=self._next_attempt))

    def known(self) -> tuple[WrittenOutput, ...]:
        """All outputs that were written with the journal, the latest first."""
        with self._reader() as connection:
            return outputs_of(connection)

    @contextmanager
    def ownership(self) -> Iterator[Callable[[Entry, str], bool]]:
        """Asks whether a run is that of a row of the sheet; see `has_outcome`."""
        with self._reader() as connection:
            yield partial(has_outcome, connection, self._batch)

    @contextmanager
    def params_of(self, batch: int) -> Iterator[Callable[[bytes, int], bytes | None]]:
        """Asks what a row of a batch would have sent, by its key and its number among equal ones."""
        with self._reader() as connection:
            yield partial(params_of, connection, batch)


MOST_DIGESTS = 5
"""So many of the last versions of an output does the index know by their bytes."""
MOST_RUNS = 100
"""And so many of its runs: those whose ids have the lowest hashes, so that a part of an output has some of them."""


class IndexedOutput(msgspec.Struct, frozen=True):
    """One file of the index."""

    path: str
    task: str
    service: str
    digests: tuple[str, ...]
    runs: tuple[str, ...]


class OutputIndex:
    """All outputs of this user's batches: what they are known by, should their journal get lost."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        state = state_folder(environ)
        self._folder = state / "outputs" if state else None
        self._journals = Index(state)

    def add(self, path: Path, purpose: Purpose, digest: str, runs: Iterable[str]) -> None:
        """Remember an output that is about to take its place. Raises `OSError`."""
        if self._folder is None:
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = self._folder / f"{_digits(os.path.realpath(path))}.json"
        before = _read(file)
        digests = before.digests if before and (before.task, before.service) == _texts(purpose) else ()
        line = IndexedOutput(
            str(path), purpose.task, purpose.service, (digest, *digests)[:MOST_DIGESTS], tuple(lowest_runs(runs))
        )
        new = file.with_suffix(".new")
        new.touch(0o600)
        new.write_bytes(msgspec.json.encode(line))
        replace_file(new, file)

    def knows(self, purpose: Purpose, folders: Iterable[Path], digest: str, runs: Collection[str]) -> bool:
        """Whether an output is this task's on this service: by its bytes, or by a run of it.

        The journals that the index knows are asked, too, and those in these folders.
        """
        for file in self._folder.glob("*.json") if self._folder else ():
            line = _read(file)
            is_same_task = line is not None and (line.task, line.service) == _texts(purpose)
            if line and is_same_task and (digest in line.digests or not set(line.runs).isdisjoint(runs)):
                return True
        paths = dict.fromkeys([*self._journals.journals(purpose)[0], *journals_in(folders)])
        return any(_has_runs(path, purpose, runs) for path in paths)


def lowest_runs(runs: Iterable[str]) -> list[str]:
    """The ids that the index knows an output by."""
    return nsmallest(MOST_RUNS, runs, key=_digits)


def _has_runs(path: Path, purpose: Purpose, runs: Collection[str]) -> bool:
    """Whether a journal of this purpose has one of these runs."""
    with suppress(JournalError), looking_into(path) as connection:
        folder = path.resolve().parent
        batches = connection.execute("SELECT DISTINCT task, service FROM batch").fetchall()
        if any(Purpose.of(task, service, folder) == purpose for task, service in batches):
            return len(unknown_runs(connection, runs)) < len(runs)
    return False


def _texts(purpose: Purpose) -> tuple[str, str]:
    return purpose.task, purpose.service


def _digits(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _read(file: Path) -> IndexedOutput | None:
    """A line; None for a file that is none, or that another batch is writing."""
    try:
        line = msgspec.json.decode(file.read_bytes(), type=IndexedOutput)
    except (OSError, msgspec.MsgspecError):
        return None
    return msgspec.structs.replace(line, service=service_form(line.service))  # earlier releases wrote it as it was


class StartWords(msgspec.Struct, frozen=True):
    """How a batch was started, kept for when the page is opened again, in the user's state folder."""

    source: str
    chosen: dict[str, Any]
    job: str = ""
    """The job file that says it, if one does."""


def _start_place(journal: Path, output: str) -> Path | None:
    """The sheets of a task may share a journal, and no two an output."""
    folder, digits = state_folder(os.environ), _digits(f"{journal}\0{output}")
    return folder and folder / "starts" / f"{digits}.json"


def remember_start(journal: Path, output: str, started: StartWords) -> None:
    """Keep it for its owner only. Where that can't be done, nothing is lost but the offer to run rows again."""
    place = _start_place(journal, output)
    if place is not None:
        with suppress(OSError):
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_private(place, msgspec.json.encode(started))


def recall_start(journal: Path, output: str) -> StartWords | None:
    """How the last batch was started that wrote this output; None where nobody kept it."""
    place = _start_place(journal, output)
    try:
        return msgspec.json.decode(place.read_bytes(), type=StartWords) if place else None
    except (OSError, msgspec.DecodeError):
        return None
