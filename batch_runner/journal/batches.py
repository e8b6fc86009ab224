"""The batches of a journal: what each says of itself, whether it may go on, and the lock that it holds."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import time
import uuid
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from filelock import lock_descriptor

from batch_runner.errors import (
    FIX_THAT,
    NEW_JOURNAL,
    ExitCode,
    JournalBusy,
    JournalError,
    UsageError,
    elsewhere,
    quote_words,
    reason_of,
)
from batch_runner.fs import LockHeld, hold_lock, sync_folder
from batch_runner.journal.database import connect, make_readable, uri_of
from batch_runner.journal.group_commit import begin_writing
from batch_runner.journal.same_key import forget_other_claims
from batch_runner.plan.plan import NIGHT, Policy
from batch_runner.units import local_day, problem_of_name, service_form

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


COMPLETE = (ExitCode.OK, ExitCode.SOME_FAILED, ExitCode.SOME_UNKNOWN)
"""How a batch ends that got through its whole sheet; after any other end the same command goes on."""

_INSERT = (
    "INSERT INTO batch (id, continues, started, input, input_sha256, output, task, service, key_columns,"
    " retry, on_unknown, version, pid, series, command, whole_sheet, unique_columns, conflict_columns, start_key)"
    " VALUES (:id, :continues, :started, :input, :input_sha256, :output, :task, :service, :key_columns, :retry,"
    " :on_unknown, :version, :pid, :series, :command, :whole_sheet, :unique_columns, :conflict_columns, :start_key)"
)
_HAS_STARTED = "SELECT EXISTS (SELECT 1 FROM sent)"
"""Whether any start of the journal counts: with none, a mistyped task or key has done no harm yet."""
_KEY_OF_SHEET = (
    "SELECT key_columns FROM batch WHERE input = :input AND EXISTS (SELECT 1 FROM place JOIN sent ON sent.row ="
    " place.row WHERE place.batch = batch.id) ORDER BY id DESC LIMIT 1"
)
_KEY_OF_SERIES = _KEY_OF_SHEET.replace("input = :input", "(series = :series OR (series = '' AND input = :input))")
"""By which columns this very sheet was known when something of it was started; others of its task may have others."""
_NIGHT = (
    "SELECT last.continues, first.started, last.exit_code, last.retry, last.on_unknown"
    " FROM batch AS last JOIN batch AS first ON first.id = last.continues"
)
_LAST = _NIGHT + " ORDER BY last.id DESC LIMIT 1"
_TOGETHER = _NIGHT + " WHERE last.command = :command AND :command <> '' ORDER BY last.id"
_LAST_OF_SHEET = (
    _NIGHT + " WHERE last.series = :series OR (last.series = '' AND last.input = :input) ORDER BY last.id DESC LIMIT 1"
)
_TURNS = (
    "SELECT command, series, started, exit_code, {left} FROM batch WHERE command = (SELECT command FROM batch"
    " WHERE command <> '' AND retry = ? AND on_unknown = ? ORDER BY id DESC LIMIT 1) ORDER BY id"
)


class BatchInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is recorded of a batch when it begins. `service` is recorded as given: it must hold no secret."""

    input: str
    input_sha256: str
    output: str
    task: str
    service: str
    key_columns: tuple[str, ...] = ()
    """Empty: all params are the key."""
    policy: Policy = Policy()
    version: str
    series: str = ""
    """What the input is one night's of, where its name holds a date; empty: the input itself."""
    command: str = ""
    """The same for all sheets that one command runs with this journal: they are one night. Empty: it has no others."""
    whole_sheet: bool = True
    """Whether every row of the sheet gets a place, so that one without has left it."""


class Turn(msgspec.Struct, frozen=True):
    """One sheet's batch among those of a command, whose word is the same in all journals."""

    command: str
    series: str
    began: str
    exit_code: int | None
    left: str = "[]"
    """A JSON list: the sheets of that command that had not begun when this one ended."""


class Begun(msgspec.Struct, frozen=True):
    """A batch that has its place in the journal.

    `id` is its number there, `night` that of the batch which its night began with, `start_key` its random part of
    the keys of its starts: a journal that was brought back from a backup must not use one again. `first` is
    the first one that this program began: those from there on go on beside it. `has_others`: it is one of several.
    """

    id: int
    night: int
    start_key: str
    first: int = 0
    has_others: bool = False


def now() -> str:
    """This moment as recorded: UTC, to the millisecond."""
    return recorded_time(datetime.now(UTC))


def moment_ago(seconds: float) -> str:
    """The moment so many seconds before this one, as recorded."""
    return recorded_time(datetime.now(UTC) - timedelta(seconds=seconds))


def recorded_time(moment: datetime) -> str:
    """A moment of UTC as recorded."""
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def begin(path: Path | None, connection: sqlite3.Connection, info: BatchInfo, under_way: int = 1) -> Begun:
    """Record the batch, with what tells its WAL where none was under way before (`keep_wal`).

    Raises `JournalError` if the journal is another task's or service's, or can't be written.
    """
    try:
        begin_writing(connection)
        start_key = uuid.uuid4().hex
        check_same_job(path, connection, info)
        (batch,) = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM batch").fetchone()
        night = _night_gone_on_with(connection, info) or batch
        forget_other_claims(connection, info.policy)
        _insert(connection, batch, night, info, start_key)
        connection.execute("UPDATE about SET under_way = ? WHERE NOT under_way", (under_way,))
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise JournalError(f"{path}: the journal can't be written: {error}; {FIX_THAT}") from error
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    return Begun(batch, night, start_key, has_others=bool(info.command))


def begin_beside(path: Path, info: BatchInfo) -> Begun:
    """Begin a batch on a connection of its own: what is in flight of the others is committed meanwhile."""
    with closing(connect(uri_of(path))) as connection:
        make_readable(connection)
        connection.execute("PRAGMA synchronous = FULL")
        return begin(path, connection, info)


def _night_gone_on_with(connection: sqlite3.Connection, info: BatchInfo) -> int | None:
    """The night that this batch goes on with: that of its own sheet first, which others may have come after."""
    named = {"series": info.series or info.input, "input": info.input, "command": info.command}
    for sql in (_LAST_OF_SHEET, _TOGETHER, _LAST):
        last = connection.execute(sql, named).fetchone()
        if last and _goes_on(last, info.policy, together=sql == _TOGETHER):
            return int(last[0])
    return None


def _goes_on(last: tuple[int, str, int | None, str, str], policy: Policy, *, together: bool = False) -> bool:
    """Whether a batch with this policy is the same night as the `last` one (a row of `_NIGHT`).

    It is if that was stopped and its night isn't over (`Policy.night`), or is one of the same command's.
    """
    _, began, exit_code, *words = last
    if words != [_words(policy), policy.on_unknown]:
        return False
    if together:
        return True
    return exit_code not in COMPLETE and not _is_over(began, policy.night)


def turns(connection: sqlite3.Connection, policy: Policy) -> tuple[Turn, ...]:
    """What the last command over several sheets, with this policy, has of them in this journal, the oldest first.

    Version 1 knew no such commands, version 2 not which sheets were left.
    """
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 1:
        return ()
    sql = _TURNS.format(left="'[]'" if version == 2 else "sheets_left")
    return tuple(Turn(*found) for found in connection.execute(sql, (_words(policy), policy.on_unknown)))


def command_gone_on_with(turns: Iterable[Turn], series: Sequence[str], policy: Policy) -> str | None:
    """The word of the command whose night goes on where these sheets are run again; None where a new night begins.

    `turns` are those of all journals of these sheets. The last command's night goes on if one of the sheets was stopped
    in it, or was to come and did not come to its turn: a stop may fall between two sheets. The latter for as long as
    `NIGHT` only: it may be a sheet that can't be read. A sheet that this night never knew of begins a new one.
    """
    ordered = sorted(turns, key=lambda turn: turn.began)
    night = [turn for turn in ordered if turn.command == ordered[-1].command]
    ends = {turn.series: turn.exit_code for turn in night}
    was_stopped = any(name in ends and ends[name] not in COMPLETE for name in series)
    left = [msgspec.json.decode(turn.left, type=list[str]) for turn in night if turn.exit_code is not None]
    was_left_out = not set(series).isdisjoint(set(left[0]).intersection(*left) if left else ())
    if night and (
        (was_stopped and not _is_over(night[0].began, policy.night))
        or (was_left_out and not _is_over(night[0].began, NIGHT))
    ):
        return night[0].command
    return None


def _is_over(began: str, lasts: timedelta | None) -> bool:
    return lasts is not None and began < recorded_time(datetime.now(UTC) - lasts)


def _insert(connection: sqlite3.Connection, batch: int, night: int, info: BatchInfo, start_key: str) -> None:
    columns = {
        "id": batch,
        "continues": night,
        "started": now(),
        "input": info.input,
        "input_sha256": info.input_sha256,
        "output": info.output,
        "task": info.task,
        "service": info.service,
        "key_columns": _names(info.key_columns),
        "retry": _words(info.policy),
        "on_unknown": info.policy.on_unknown,
        "version": info.version,
        "pid": os.getpid(),
        "series": info.series or info.input,
        "command": info.command,
        "whole_sheet": info.whole_sheet,
        "unique_columns": _names(info.policy.unique),
        "conflict_columns": _names(info.policy.conflict),
        "start_key": start_key,
    }
    connection.execute(_INSERT, columns)


def _words(policy: Policy) -> str:
    return ",".join(sorted(policy.retry))


def check_same_job(path: Path | None, connection: sqlite3.Connection, info: BatchInfo) -> None:
    """Raise `JournalError` if the journal is another task's or service's, or knows this sheet by another key.

    With nothing started, a mistyped one has done no harm.
    """
    if not connection.execute(_HAS_STARTED).fetchone()[0]:
        return
    has_series = connection.execute("PRAGMA user_version").fetchone()[0] > 1
    named = {"series": info.series or info.input, "input": info.input}
    key = connection.execute(_KEY_OF_SERIES if has_series else _KEY_OF_SHEET, named).fetchone()
    before = connection.execute("SELECT task, service FROM batch ORDER BY id DESC LIMIT 1").fetchone()
    now_given = (info.task, info.service, _names(info.key_columns))
    known = (*(before or now_given[:2]), key[0] if key else now_given[2])
    for name, old, new in zip(("task", "service", "key"), known, now_given, strict=True):
        if old != new and not (name == "service" and service_form(old) == service_form(new)):
            rekey = quote_words(["batch-runner", "rekey", str(path), "--key", ",".join(info.key_columns) or "A,B"])
            other = f"change the key of all that ran: {rekey}" if name == "key" else f"use {NEW_JOURNAL}"
            ways = f"say the same --{name}, or {other}"
            raise JournalError(
                f"{path}: this journal has the {name} {_show(old)}, and this batch has {_show(new)}; {ways}"
            )


def _names(columns: tuple[str, ...]) -> str:
    return msgspec.json.encode(columns).decode()


def _show(value: str) -> str:
    """Of a key the columns, as a person names them."""
    return ", ".join(msgspec.json.decode(value)) or "all params" if value.startswith("[") else value


@contextmanager
def hold_journal(path: Path) -> Iterator[None]:
    """Hold the journal at `path` for as long as the block runs.

    Raises `JournalBusy` at once if another process holds it, `JournalError` where no lock can be had: the folder is
    missing or read-only, or its file system has no locks.
    """
    _check_place(path)
    with ExitStack() as held:
        try:
            held.enter_context(hold_lock(path))
        except LockHeld:
            raise JournalBusy(f"{path}: {_holder(path)}; wait until it ends") from None
        except OSError as error:
            raise _no_lock(path, error) from error
        yield


def real_path(path: Path) -> Path:
    """The journal's file, which links may lead to. Raises `JournalError` for one that leads in a circle."""
    try:
        return Path(path).resolve()
    except (OSError, RuntimeError):  # the latter before Python 3.13
        raise JournalError(f"{path}: the journal is a link that leads in a circle; name the file itself") from None


def _check_place(path: Path) -> None:
    """Raise `JournalError` where no journal can be: its folder is missing, or it is a folder itself."""
    if not path.parent.is_dir():
        raise JournalError(
            f"{path}: there is no folder {path.parent}; make it for a first batch, or bring back the one that was there"
        )
    if path.is_dir():
        raise JournalError(f"{path}: the journal is a folder; name a file")
    if problem := problem_of_name(path):
        raise JournalError(f"{path}: {problem}; name another journal with --journal")


def look_at_place(path: Path) -> None:
    """Raise `JournalError` where no batch could hold a journal; nothing is made that stays."""
    _check_place(path)
    try:
        with tempfile.TemporaryFile(dir=path.parent) as file:
            lock_descriptor(file.fileno(), blocking=False)
    except OSError as error:
        raise _no_lock(path, error) from error
    if path.exists():
        return
    try:
        sync_folder(path.parent)
    except OSError as error:
        raise JournalError(
            f"{path}: a power cut could take a new journal out of {path.parent} again ({reason_of(error)}), and what "
            "was sent with it; name a journal in another folder with --journal"
        ) from error


def _no_lock(path: Path, error: OSError) -> JournalError:
    """What to say where nothing can be written beside a journal."""
    return JournalError(f"{path}: no lock can be had in {path.parent} ({reason_of(error)}); mend that{elsewhere(path)}")


def _holder(path: Path) -> str:
    """Who holds the journal, as far as it says itself; its first moments are not recorded yet."""
    query = "SELECT pid, started FROM batch WHERE ended IS NULL ORDER BY id DESC LIMIT 1"
    try:
        with closing(sqlite3.connect(uri_of(path, "mode=ro"), uri=True, timeout=0.2)) as connection:
            pid, started = connection.execute(query).fetchone()
    except (sqlite3.Error, TypeError):
        return "another batch holds this journal"
    return f"another batch holds this journal: process {pid}, started {started}"


_SHEETS = "SELECT input, max(id), started FROM batch GROUP BY input ORDER BY max(id) DESC"
_MOST_NAMED = 5


class JournalSheet(msgspec.Struct, frozen=True):
    """One sheet: its path, the last batch over it, and when that began (UTC)."""

    path: str
    batch: int
    began: str

    @property
    def night(self) -> str:
        """The day of its last batch."""
        return local_day(self.began)


def sheets(connection: sqlite3.Connection) -> tuple[JournalSheet, ...]:
    """All sheets of the journal, the latest first."""
    return tuple(JournalSheet(*found) for found in connection.execute(_SHEETS))


def sheet_of(journal: Path, known: tuple[JournalSheet, ...], said: str | None) -> JournalSheet:
    """The sheet whose rows a person means: the one that they name by its path or its file's name, or the only one.

    Raises `UsageError` where that isn't one: a row 17 stands in each of several sheets.
    """
    path = said and str(Path(said).absolute())
    found = [sheet for sheet in known if said is None or sheet.path == path or Path(sheet.path).name == said]
    if len(found) == 1:
        return found[0]
    names = [Path(sheet.path).name for sheet in known]
    listed = names if len(set(names)) == len(names) else [sheet.path for sheet in known]
    more = f" and {len(listed) - _MOST_NAMED} more" if len(listed) > _MOST_NAMED else ""
    which = f"it has {', '.join(listed[:_MOST_NAMED])}{more}"
    what = "a row of which sheet? say --input" if said is None else f"{said!r} is no one sheet of it"
    raise UsageError(f"{journal}: {what}; {which}")


_TICK = 50_000_000
"""Nanoseconds: no system's clock for files is slower."""


def stamp_of(path: Path) -> tuple[int, ...]:
    """What tells whether a journal was written to: of it and its WAL, when and how long. Of a folder: its files.

    What was written just now may be written again at the same moment of the system's clock: that is told by no stamp.
    """
    found: list[int] = []
    for each in (path, path.with_name(f"{path.name}-wal")):
        with suppress(OSError):
            state = each.stat()
            is_young = abs(time.time_ns() - state.st_mtime_ns) < _TICK
            found += (state.st_mtime_ns, state.st_size, time.monotonic_ns() if is_young else 0)
    return tuple(found)
