"""All journals of a task on a service, wherever they lie: an index in the user's state folder, and what lies beside.

The index has a small file for each journal: its path, task and service, nothing else, for its owner only.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from contextlib import closing, contextmanager, nullcontext
from hashlib import sha256
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any
from weakref import finalize

import msgspec

from batch_runner.errors import JournalError, reason_of
from batch_runner.fs import write_private
from batch_runner.journal.batches import stamp_of
from batch_runner.journal.database import check_header, connect, reading_uri, refuse_half
from batch_runner.outcomes import FAILED, NOT_STARTED, STARTING, UNKNOWN
from batch_runner.plan.duplicates import Rival, claims_of
from batch_runner.units import local_day, local_time, service_form

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from batch_runner.plan.plan import Entry, Policy

ENDING = ".journal.db"
STATE_VARIABLE = "BATCH_RUNNER_STATE"
_PARTS = 16
"""Hexadecimal digits of a hash in the name of an index's file."""


class Purpose(msgspec.Struct, frozen=True):
    """What a journal is for. A file of tasks is named by its real path, a service in one form."""

    task: str
    service: str

    @classmethod
    def of(cls, task: str, service: str, folder: Path) -> Purpose:
        """The purpose of a batch whose journal lies in this folder and names its task from there."""
        file, colon, function = task.rpartition(".py:")
        real = str((folder / f"{file}.py").resolve()) if colon else ""
        return cls(f"{real}:{function}" if colon else task, service_form(service))


class _Line(msgspec.Struct, frozen=True):
    """One file of the index."""

    path: str
    task: str
    service: str
    is_gone: bool = False


def state_folder(environ: Mapping[str, str]) -> Path | None:
    """Where the index lies; None where there is no place for it.

    `$BATCH_RUNNER_STATE`, systemd's `$STATE_DIRECTORY` (systemd.exec(5); the first of several), else the state home of
    the XDG Base Directory Specification 0.8; on Windows, where HOME depends on the shell, `%LOCALAPPDATA%`.
    """
    if said := environ.get(STATE_VARIABLE) or environ.get("STATE_DIRECTORY", "").partition(os.pathsep)[0]:
        return Path(said)
    if sys.platform == "win32" and (home := environ.get("LOCALAPPDATA")):
        return Path(home) / "batch-runner"
    if home := environ.get("XDG_STATE_HOME"):
        return Path(home) / "batch-runner"
    user = Path(environ.get("HOME") or "~").expanduser  # without the variable, what the system's list of users says
    try:
        return user() / ".local" / "state" / "batch-runner"
    except RuntimeError:  # a user without a home
        return None


class Index:
    """The journals that this user's batches had, by what they are for."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = self._folder = folder / "journals" if folder else None

    def add(self, journal: Path, purpose: Purpose) -> str | None:
        """Remember a journal. Gives a sentence where that can't be done."""
        if self._folder is None:
            return f"there is no folder for the index of journals: set {STATE_VARIABLE}, or HOME"
        line = _Line(str(journal.resolve()), purpose.task, purpose.service)
        file = self._folder / f"{_digits(*msgspec.structs.astuple(purpose))}-{_digits(line.path)}.json"
        try:
            if not file.exists() or _read(file) != line:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_private(file, msgspec.json.encode(line))
        except OSError as error:
            return f"the index of journals can't be written in {self._folder}: {reason_of(error)}; set {STATE_VARIABLE}"
        return None

    def journals(self, purpose: Purpose) -> tuple[list[Path], list[Path]]:
        """Those that are there, and those that are gone and that nobody was told of."""
        found = [
            (line, Path(line.path))
            for _, line in self._lines()
            if (line.task, line.service) == msgspec.structs.astuple(purpose)
        ]
        there = [path for _, path in found if path.is_file()]
        gone = [path for line, path in found if not path.is_file() and not line.is_gone]
        return list(dict.fromkeys(there)), list(dict.fromkeys(gone))

    def namesakes(self, purpose: Purpose) -> list[Path]:
        """Journals of other files of tasks that have the same name, as a copy of a folder has."""
        file, colon, function = purpose.task.rpartition(".py:")
        name = f"{PurePath(file).name}.py:{function}"
        lines = (line for _, line in self._lines() if colon and line.service == purpose.service)
        others = (line for line in lines if line.task != purpose.task and PurePath(line.task).name == name)
        return [Path(line.path) for line in others if Path(line.path).is_file()]

    def told_gone(self, journals: Iterable[Path]) -> None:
        """Whoever runs this task was told that these are gone: once is enough."""
        names = set(map(str, journals))
        for file, line in self._lines() if names else ():
            if line.path in names:
                write_private(file, msgspec.json.encode(msgspec.structs.replace(line, is_gone=True)))

    def all(self) -> list[Path]:
        """Every journal that is there, whatever it is for."""
        return [Path(line.path) for _, line in self._lines() if Path(line.path).is_file()]

    def _lines(self) -> Iterator[tuple[Path, _Line]]:
        """All of them; those of earlier releases have the service, and their name from it, as it was written."""
        for file in sorted(self._folder.glob("*.json")) if self._folder else ():
            line = _read(file)
            if line is not None:
                yield file, msgspec.structs.replace(line, service=service_form(line.service))


def _digits(*texts: str) -> str:
    return sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:_PARTS]


def _read(file: Path) -> _Line | None:
    """A line; None for a file that is none, or that another batch is writing."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=_Line)
    except (OSError, msgspec.MsgspecError):
        return None


def journals_in(folders: Iterable[Path]) -> list[Path]:
    """All journals in these folders, by their names."""
    real = dict.fromkeys(folder.resolve() for folder in folders)
    return [path for folder in real if folder.is_dir() for path in sorted(folder.glob(f"*{ENDING}")) if path.is_file()]


def purpose_in(journal: Path) -> Purpose | None:
    """What a journal, or half of one, was for last; None where no batch has begun.

    Raises `JournalError` for one that can't be read.
    """
    with looking_into(journal, half=True) as connection:
        found = connection.execute("SELECT task, service FROM batch ORDER BY id DESC LIMIT 1").fetchone()
    return Purpose.of(found[0], found[1], journal.resolve().parent) if found else None


def uuid_in(journal: Path) -> str | None:
    """What a journal and all copies of it have in common; None for one of an early release. Raises `JournalError`."""
    with looking_into(journal, half=True) as connection:
        if connection.execute("PRAGMA user_version").fetchone()[0] == 1:
            return None
        return str(connection.execute("SELECT uuid FROM about").fetchone()[0])


class Ran(msgspec.Struct, frozen=True):
    """A start that a journal knows (None: the one at hand): of which sheet, night and row, and what came of it.

    One that is about to be made tonight is `starting`, and no attempt yet (0).
    """

    journal: Path | None
    attempt: int
    sheet: str
    number: int | None
    began: str
    outcome: str
    run_id: str | None

    @property
    def names(self) -> str:
        """The night and the sheet."""
        what = "is started tonight" if self.outcome == STARTING else f"ran on {local_day(self.began)}"
        return f"{what} from {PurePath(self.sheet).name}"

    def rival(self, conflict: bytes | None) -> Rival:
        """The same as what stands in the way of a row that is alike, whatever `--retry` says."""
        return Rival(
            number=self.number,
            night=local_time(self.began),
            sheet=PurePath(self.sheet).name,
            run_id=self.run_id,
            outcome=self.outcome,
            stands=True,
            conflict=conflict,
            journal=str(self.journal or ""),
        )

    def __str__(self) -> str:
        where = f", row {self.number}" if self.number is not None else ""
        if self.outcome == STARTING:
            return f"{self.names}{where}"
        return f"{self.names}{where}: {self.outcome}{f', {self.run_id}' if self.run_id else ''}"


_RAN = (
    "SELECT attempt.id, batch.input, place.number, attempt.intended_at, attempt.status, attempt.run_id,"
    " attempt.ended_at IS NULL FROM row JOIN attempt ON attempt.row = row.id JOIN batch ON batch.id = attempt.batch"
    " LEFT JOIN place ON place.row = row.id AND place.batch = attempt.batch"
    " WHERE {which} ORDER BY attempt.id"
)
_KNOWN = "row.id IN (SELECT id FROM row WHERE key = :key)"
_KNOWN_AS = (
    "row.id IN (SELECT id FROM row WHERE key = :key"
    " UNION SELECT row FROM alias WHERE key IN (:key, CAST('? ' || :key AS BLOB)))"
)
"""Version 3 knows the other forms of its rows' keys."""
_COPY = (
    "SELECT attempt.posts, attempt.intended_at, attempt.status, attempt.run_id, attempt.started_at, attempt.ended_at,"
    " attempt.error, CAST(result.json AS TEXT), attempt.params, {cells}"
    " FROM attempt LEFT JOIN result ON result.attempt = attempt.id WHERE attempt.id = ?"
)


def ran_in(path: Path | None, connection: sqlite3.Connection, keys: Iterable[bytes]) -> dict[bytes, Ran]:
    """The last start of each of these keys that succeeded, goes on, or of which nobody knows."""
    found: dict[bytes, Ran] = {}
    has_aliases = connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'alias'").fetchone()
    for key in keys:
        for ran in _may_not_run_twice(path, connection, _KNOWN_AS if has_aliases else _KNOWN, key):
            found[key] = ran
    return found


def _may_not_run_twice(path: Path | None, connection: sqlite3.Connection, which: str, key: bytes) -> Iterator[Ran]:
    """Starts that succeeded, go on, or of which nobody knows; the latest last."""
    for attempt, sheet, number, began, status, run_id, is_open in connection.execute(
        _RAN.format(which=which), {"key": key}
    ):
        outcome = UNKNOWN if run_id is None and is_open else status
        if outcome not in (*FAILED, NOT_STARTED):
            yield Ran(path, attempt, sheet, number, began, outcome, run_id)


def ran_as(connection: sqlite3.Connection, attempt: int) -> Ran:
    """The start that is an attempt of the journal at hand."""
    sql = _RAN.format(which="row.id IN (SELECT row FROM attempt WHERE id = :attempt)")
    for found, sheet, number, began, status, run_id, is_open in connection.execute(sql, {"attempt": attempt}):
        if found == attempt:
            return Ran(None, found, sheet, number, began, UNKNOWN if run_id is None and is_open else status, run_id)
    raise KeyError(attempt)


_ASKED = "SELECT unique_columns, conflict_columns FROM batch WHERE unique_columns <> '[]' ORDER BY id DESC LIMIT 1"
_CONFLICT = "SELECT conflict FROM attempt WHERE id = ?"
_COUNT_RAN = (
    "SELECT count(DISTINCT row) FROM attempt WHERE {unasked} "
    "NOT (run_id IS NULL AND status IN ('error', 'not_started')) AND status NOT IN ('failure', 'timeout', 'cancelled')"
)
_STARTS = (
    "CREATE TABLE start (mark BLOB PRIMARY KEY, journal TEXT, sheet TEXT, number INTEGER, began TEXT, conflict BLOB)"
)
_OF_ANOTHER = "SELECT journal, sheet, number, began, conflict FROM start WHERE mark = ? AND journal <> ?"
_AS_CLAIM = b"claim:"
"""Tells the mark of a claim from that of a key."""


class StartsOfTonight:
    """What the sheets of a night are about to start, for those of them that have another journal.

    A journal knows a start when it is recorded, maybe long after. They are kept on disk: no night is too large.
    """

    def __init__(self) -> None:
        self._connection = connect("")
        finalize(self, self._connection.close)
        self._connection.execute(_STARTS)

    def add(self, journal: Path, sheet: str, began: str, entry: Entry) -> None:
        """Note a row that is about to be started."""
        marks = [*entry.keys, *([_AS_CLAIM + entry.claim] if entry.claim else [])]
        rows = ((mark, str(journal), sheet, entry.row_number, began, entry.conflict) for mark in marks)
        self._connection.executemany("INSERT OR IGNORE INTO start VALUES (?, ?, ?, ?, ?, ?)", rows)

    def find(self, own: Path, mark: bytes) -> tuple[Ran, bytes | None] | None:
        """The start that a sheet with another journal than this makes, and its conflict."""
        found = self._connection.execute(_OF_ANOTHER, (mark, str(own))).fetchone()
        if found is None:
            return None
        journal, sheet, number, began, conflict = found
        return Ran(Path(journal), 0, sheet, number, began, STARTING, None), conflict


class LaterJournals(msgspec.Struct, frozen=True):
    """The journals that come to the index in `folder` after it looked like `stamp`: `find` lists all that it has."""

    folder: Path
    stamp: tuple[int, ...]
    find: Callable[[], list[Path]]


class OtherJournals:
    """What the other journals of a task know. One is open at a time, and only for one question.

    `tonight` is what other sheets of the night are about to start, where these have other journals than the `own` one.
    `look` finds the journals anew, when their index has changed.
    """

    def __init__(
        self,
        paths: Sequence[Path] = (),
        tonight: StartsOfTonight | None = None,
        own: Path = Path(),
        look: LaterJournals | None = None,
    ) -> None:
        self.paths = tuple(paths)
        self._tonight = tonight
        self._own = own
        self._look = look
        self._seen = {path: stamp_of(path) for path in self.paths}
        self._index = look.stamp if look else ()
        self._changed: dict[Path, None] = {}

    def written_since(self) -> OtherJournals | None:
        """Those that another batch has written to since these were found, or has made; None where there is none."""
        if self._look is not None and (stamp := stamp_of(self._look.folder)) != self._index:
            self._index = stamp
            self._changed |= dict.fromkeys(path for path in self._look.find() if path not in self._seen)
        self._changed |= dict.fromkeys(path for path, stamp in self._seen.items() if stamp_of(path) != stamp)
        return OtherJournals(tuple(self._changed)) if self._changed else None

    @property
    def is_any(self) -> bool:
        """Whether there is anything to be asked."""
        return bool(self.paths) or self._tonight is not None

    def beside(self, tonight: StartsOfTonight | None, own: Path) -> OtherJournals:
        """The same in a night whose sheets have several journals; `tonight` is None where they have one."""
        return OtherJournals(self.paths, tonight, own, self._look)

    def about_to_start(self, sheet: str, began: str, entry: Entry) -> None:
        """Let the next sheets of the night know of a start."""
        if self._tonight is not None:
            self._tonight.add(self._own, sheet, began, entry)

    def ran(self, keys: Sequence[bytes]) -> dict[bytes, Ran]:
        """As `ran_in`, over all of them. Raises `JournalError` where one can't be read: what ran there isn't known."""
        found: dict[bytes, Ran] = {}
        for path in self.paths:
            with looking_into(path) as connection:
                found = ran_in(path, connection, keys) | found
        if self._tonight is not None:
            starts = ((key, self._tonight.find(self._own, key)) for key in keys if key not in found)
            found |= {key: start[0] for key, start in starts if start}
        return found

    def started_by_now(
        self, keys: Sequence[bytes], entry: Entry, policy: Policy, *, is_second: bool = False
    ) -> Ran | Rival | None:
        """What another batch has started of the row with these keys since, or of one that is alike.

        As `ran` and `alike`, by all columns that are keys there by now. What was read while it was begun is read again.
        """
        try:
            others = (key for names in self.key_columns() for key in entry.keys_by(names))
            ran = self.ran(list(dict.fromkeys((*keys, *entry.keys, *others))))
            alike = {} if ran or policy.allow_duplicates else self.alike([entry], policy)
        except JournalError:
            if is_second:
                raise
            return self.started_by_now(keys, entry, policy, is_second=True)
        found: tuple[Ran | Rival, ...] = (*ran.values(), *alike.values())
        return found[0] if found else None

    def alike(self, entries: Iterable[Entry], policy: Policy) -> dict[bytes, Rival]:
        """As `ran`, for the claims of these rows; by the journals that were asked about the same columns."""
        claims = list(dict.fromkeys(claim for entry in entries for claim in claims_of(entry)))
        found: dict[bytes, Rival] = {}
        for path in self.paths if claims else ():
            with looking_into(path) as connection:
                unique, conflict = _asked_in(connection)
                for claim in claims if unique == policy.unique else ():
                    for ran in _may_not_run_twice(path, connection, "attempt.claim = :key", claim):
                        (other,) = connection.execute(_CONFLICT, (ran.attempt,)).fetchone()
                        found[claim] = ran.rival(other if conflict == policy.conflict else None)
        if self._tonight is not None:
            starts = ((c, self._tonight.find(self._own, _AS_CLAIM + c)) for c in claims if c not in found)
            found |= {claim: start[0].rival(start[1]) for claim, start in starts if start}
        return found

    def unclaimed(self, policy: Policy) -> dict[Path, int]:
        """In which of them, and how many rows ran of which nobody said what makes them unique by these columns."""
        counted: dict[Path, int] = {}
        for path in self.paths:
            with looking_into(path) as connection:
                unasked = "claim IS NULL AND" if _asked_in(connection)[0] == policy.unique else ""
                (counted[path],) = connection.execute(_COUNT_RAN.format(unasked=unasked)).fetchone()
        return {path: rows for path, rows in counted.items() if rows}

    def key_columns(self) -> set[tuple[str, ...]]:
        """All sets of columns by which rows are known there; an empty one stands for all params."""
        return set().union(*map(key_columns_of, self.paths))


def _asked_in(connection: sqlite3.Connection) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Of which columns the claims in a journal are made, and the conflicts."""
    if connection.execute("PRAGMA user_version").fetchone()[0] == 1:
        return (), ()
    unique, conflict = connection.execute(_ASKED).fetchone() or ("[]", "[]")
    return msgspec.json.decode(unique, type=tuple[str, ...]), msgspec.json.decode(conflict, type=tuple[str, ...])


def key_columns_of(path: Path, sheet: Path | None = None) -> set[tuple[str, ...]]:
    """The sets of columns by which a journal knows rows, of this sheet alone, that were sent. Raises `JournalError`."""
    with looking_into(path) as connection:
        sql = "SELECT DISTINCT key_columns FROM batch WHERE id IN (SELECT batch FROM attempt) AND ? IN (input, '')"
        found = connection.execute(sql, (str(sheet.absolute()) if sheet else "",)).fetchall()
    return {tuple(msgspec.json.decode(names, type=list[str])) for (names,) in found}


def copy_of(ran: Ran, own: sqlite3.Connection) -> tuple[Any, ...]:
    """What a journal says of a start: posts, times, status, run id, error, result, and hashes of what was sent.

    `own` is the connection to the journal at hand. Raises `JournalError`.
    """
    with looking_into(ran.journal) if ran.journal else nullcontext(own) as connection:
        has_cells = connection.execute("PRAGMA user_version").fetchone()[0] >= 3
        sql = _COPY.format(cells="attempt.cells" if has_cells else "NULL")
        return tuple(connection.execute(sql, (ran.attempt,)).fetchone())


@contextmanager
def looking_into(path: Path, *, half: bool = False) -> Iterator[sqlite3.Connection]:
    """A journal of any version, for a short look. Raises `JournalError` for one that can't be read, or is a half."""
    try:
        with closing(connect(reading_uri(path))) as connection:
            check_header(path, connection)
            if not half:
                refuse_half(path, connection)
            yield connection
    except sqlite3.Error as error:
        raise JournalError(f"{path}: this journal can't be read ({error}), so what ran in it isn't known") from error
