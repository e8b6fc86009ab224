"""The journal of a running batch: every event is on disk before the next step is taken."""

from __future__ import annotations

import sqlite3
from contextlib import asynccontextmanager, closing, contextmanager
from functools import partial
from itertools import count
from typing import TYPE_CHECKING

import anyio
import msgspec
from anyio import to_thread
from anyio.lowlevel import checkpoint_if_cancelled

from batch_runner.errors import JournalFailed
from batch_runner.journal import changes, resolve, same_key, view
from batch_runner.journal.batches import Begun, begin, begin_beside, hold_journal, now, real_path
from batch_runner.journal.changes import HeldRows, Since, Unsettled, describe_waiting, held, since, taken, unsettled
from batch_runner.journal.database import connect, make_readable, open_file, open_memory, uri_of
from batch_runner.journal.group_commit import (
    LAST_CALL,
    SHORT,
    Brief,
    Commits,
    close,
    in_thread,
    inline,
    keep_wal,
    set_aside,
)
from batch_runner.journal.index import OtherJournals
from batch_runner.journal.outputs import OutputMemory
from batch_runner.journal.register import Registration
from batch_runner.journal.resolve import INTEND, INTEND_AGAIN, SEE, WITHDRAW, Outcome, earlier_start_key, end, start
from batch_runner.outcomes import NOT_STARTED, STARTING
from batch_runner.plan.plan import WAITING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from batch_runner.journal.batches import BatchInfo
    from batch_runner.journal.group_commit import Reserve
    from batch_runner.journal.view import BatchRecord, Count, Failures, Placed, Span
    from batch_runner.plan.plan import Entry, Send, Step


__all__ = ["Journal", "JournalFile", "Outcome"]


class JournalFile:
    """A journal that is held for one night: its batches, one or several, share its connection and its commits.

    Their sheets find their places one after another; rows of all of them may be in flight at once.
    """

    def __init__(
        self, connection: sqlite3.Connection, path: Path | None = None, reserve: Reserve | None = None
    ) -> None:
        self.connection = connection
        self.path = path
        self.reserve = reserve
        self.commits = Commits(in_thread(connection, reserve), LAST_CALL) if reserve else Commits(inline(connection))
        (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM attempt").fetchone()
        self.earlier = int(last)
        """The last attempt of earlier nights."""
        self._attempts = count(self.earlier + 1)
        self._first: int | None = None
        self._latest: Journal | None = None

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path, mode: int = 0o600) -> AsyncIterator[JournalFile]:
        """The file at `path`, made with these permissions if there is none, locked until the block ends.

        Raises `JournalBusy` within a second if another program holds it; `JournalError` if it can't be gone on with.
        """
        path = real_path(path)
        with hold_journal(path), set_aside(path) as reserve:
            connection = await to_thread.run_sync(open_file, path, mode)
            try:
                yield cls(connection, path, reserve)
            finally:
                await close(connection, path, reserve)

    async def begin(self, info: BatchInfo, others: OtherJournals | None = None) -> Journal:
        """Begin a batch; what ran in the `others` is held in it.

        Raises `JournalError` if the journal is that of another task or service, or knows this sheet by another key.

        With a batch under way, it is called when the rows of its sheet have all found their places.
        """
        latest = self._latest
        if latest is None or self.path is None:
            begun = begin(self.path, self.connection, info, keep_wal(self.path) if self.path else 1)
            # From now on the file says by itself that a batch is under way: without its WAL it is half a journal.
            self.connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        else:
            begun = await to_thread.run_sync(begin_beside, self.path, info)
        if latest is not None:
            await self.commits.add(latest.leave_places)
        self._first = self._first or begun.id
        begun = msgspec.structs.replace(begun, first=self._first)
        self._latest = Journal(self, begun, info, others or OtherJournals())
        return self._latest

    def next_attempt(self) -> int:
        """The number of a new attempt; rows that find their places ask in another thread."""
        return next(self._attempts)


class Journal:
    """The record of one batch. Made by `open`, `in_memory` or `JournalFile.begin`; used by one event loop.

    All that is awaited returns when it is on disk (fsync), and isn't cut short by a cancellation: then it returns and
    the next `await` is cancelled. Every method raises `JournalFailed` once something could not be written. When the
    disk is found full what is in flight is still recorded, while `register`, `intend`, `intend_again` and `flush`
    raise `JournalFull`.
    """

    def __init__(self, file: JournalFile, begun: Begun, info: BatchInfo, others: OtherJournals) -> None:
        self._file = file
        self._begun = begun
        self._info = info
        self._policy = info.policy
        self.path = file.path
        self._commits = file.commits
        self._repeated: int | None = None
        self.has_seen = False
        """Whether the sheet's rows were noted before they find their places."""
        self._others = others
        self._registration = Registration(begun, info, others, file.next_attempt)

    @classmethod
    @asynccontextmanager
    async def open(
        cls, path: Path, info: BatchInfo, mode: int = 0o600, others: OtherJournals | None = None
    ) -> AsyncIterator[Journal]:
        """The journal at `path` with one batch in it; see `JournalFile`."""
        async with JournalFile.open(path, mode) as file:
            yield await file.begin(info, others)

    @classmethod
    @asynccontextmanager
    async def in_memory(cls, info: BatchInfo) -> AsyncIterator[Journal]:
        """A journal without file, threads and fsync; it is gone when the block ends."""
        with closing(open_memory()) as connection:
            yield await JournalFile(connection).begin(info)

    @property
    def batch(self) -> int:
        """This batch's number in the journal."""
        return self._begun.id

    @property
    def first(self) -> int:
        """The number of the first batch that this program began: those from there on may run beside this one."""
        return self._begun.first or self._begun.id

    async def register(self, entries: Sequence[Entry]) -> list[Step]:
        """Place a chunk of the sheet's rows in this batch, in the sheet's order, and say what to do with each."""
        self._check_room()
        steps: list[Step] = []

        def place(connection: sqlite3.Connection) -> None:
            steps[:] = self._registration.register(connection, entries)

        await self._commits.add(place)
        return steps

    async def register_rest(self, numbers: Iterable[int]) -> tuple[int, list[int]]:
        """See `changes.place_rest`; after `see` and `tell_apart`."""
        self._check_room()
        told: list[tuple[int, list[int]]] = []
        rest = partial(changes.register_rest, batch=self.batch, first=self.first, info=self._info, numbers=numbers)
        await self._commits.add(lambda connection: told.append(rest(connection)))
        return told[-1]

    async def is_told_first(self) -> bool:
        """Whether nobody was told so far that no index knows this journal; from now on somebody was."""
        told: list[object] = []
        sql = "UPDATE about SET told = 1 WHERE NOT told RETURNING 1"
        await self._commits.add(lambda connection: told.extend(connection.execute(sql)))
        return bool(told)

    @property
    def named(self) -> Mapping[tuple[str, str], int]:
        """How many rows are held, carried over and retried, and of which earlier night; those placed so far."""
        return self._registration.named

    @property
    def has_sent_before(self) -> bool:
        """Whether another batch has sent anything, so that a row without a place may have an earlier outcome."""
        with self._reader() as connection:
            return changes.has_other_attempts(connection, self._begun.id)

    @property
    def may_have_twins(self) -> bool:
        """Whether this sheet is to be gone over for rows with equal keys, before the first one finds its place."""
        with self._reader() as connection:
            return same_key.has_to_look(connection, self._begun.id, self._begun.first)

    @contextmanager
    def known_keys(self) -> Iterator[Callable[[bytes], bool]]:
        """Whether a row has this key: nobody asks `see` for the other forms of such a one."""
        with self._reader() as connection:
            yield partial(same_key.has_row, connection)

    async def see(self, entries: Sequence[Entry]) -> None:
        """Note a chunk of the sheet's rows, whichever take part, for `tell_apart`."""
        self.has_seen = True
        await self._commits.add(partial(same_key.see, entries=entries))

    async def tell_apart(self, identifying: tuple[str, ...] | None = ()) -> None:
        """Find out who rows with equal keys are, or almost equal ones by `identifying`; None: nothing starts."""
        await self._commits.add(same_key.tell_apart)
        if identifying is not None:
            await self._commits.add(partial(self._registration.know_almost, identifying=identifying))

    @property
    def needs_claims(self) -> bool:
        """Whether this sheet is to be asked what makes earlier runs unique, before its rows find their places."""
        if not self._policy.unique:
            return False
        with self._reader() as connection:
            has_to_learn = same_key.has_to_learn(connection, self._policy, self._begun.id)
        return has_to_learn or bool(self._registration.unclaimed_elsewhere)

    async def adopt(self, entries: Sequence[Entry]) -> None:
        """Learn what makes earlier runs unique from the rows of the sheet that they were started for."""
        await self._commits.add(partial(same_key.adopt, entries=entries))
        await self._commits.add(partial(self._registration.adopt_elsewhere, entries=entries))

    async def leave_unasked(self) -> None:
        """Note that this batch has not learned to the end what makes earlier runs unique: the next one has to."""
        await self._write("UPDATE batch SET unique_columns = '[]', conflict_columns = '[]' WHERE id = ?", self.batch)

    def unclaimed(self) -> tuple[str, ...]:
        """A sentence for each journal with rows of which no sheet has told so far what makes them unique."""
        with self._reader() as connection:
            here = same_key.count_unclaimed(connection)
        return changes.describe_unclaimed(here, self._registration.count_unclaimed_elsewhere(self._file.connection))

    def leave_places(self, connection: sqlite3.Connection) -> None:
        """Make room for the next sheet's rows, now that this one's have their places; within a commit."""
        self._repeated = same_key.count_repeated(connection)
        same_key.clear_places(connection, self._info.input)

    def remember(self, memory: str | None) -> None:
        """Note whose service knows this batch's starts by their keys (None: nobody's); written with the next event."""
        sql = "UPDATE batch SET memory = ? WHERE id = ?"
        self._commits.add_later(Brief(_execute, sql, (memory, self._begun.id)))

    def start_key(self, attempt: int) -> str:
        """The Idempotency-Key of an attempt's start: no other start of any journal or batch has it."""
        if attempt > self._file.earlier:
            return f"{self._begun.start_key}-{attempt}"
        with self._reader() as connection:
            return f"{earlier_start_key(connection, attempt)}-{attempt}"

    async def intend(self, send: Send) -> int:
        """Record that the row is about to be sent; gives the attempt. Only then may its POST begin.

        When it is cancelled the attempt is withdrawn before it raises.
        """
        self._check_room()
        attempt = self._file.next_attempt()
        row = (attempt, send.row_id, self._begun.id, send.params, now(), STARTING)
        await self._write(INTEND, *row, send.claim, send.conflict, send.cells, send.sent)
        await self._withdraw_if_cancelled(attempt)
        return attempt

    async def hold_if_started(self, attempt: int, send: Send, entry: Entry) -> str | None:
        """Withdraw the attempt where another batch has started its row meanwhile; gives the row's error, if so."""
        if (others := None if self._policy.releases else self._others.written_since()) is None:
            return None
        told: list[str | None] = []

        def look(connection: sqlite3.Connection) -> None:
            told.append(self._registration.ran_meanwhile(connection, others, send.row_id, entry))
            if told[-1] is not None:
                connection.execute(WITHDRAW, (NOT_STARTED, now(), told[-1], attempt))

        await self._commits.add(look)
        return told[-1]

    async def intend_again(self, attempt: int) -> None:
        """Record one more POST of an attempt that was withdrawn; as `intend`."""
        self._check_room()
        await self._write(INTEND_AGAIN, STARTING, attempt)
        await self._withdraw_if_cancelled(attempt)

    async def ask_again(self, attempt: int) -> None:
        """Record one more POST of an attempt whose answer was lost: it stays unknown until an answer comes."""
        self._check_room()
        await self._write("UPDATE attempt SET posts = posts + 1 WHERE id = ?", attempt)

    async def withdrawn(self, attempt: int, why: str) -> None:
        """Record that certainly no run was started, or none that began: not connected, refused for now, not reached."""
        await self._write(WITHDRAW, NOT_STARTED, now(), why, attempt)

    async def started(self, attempt: int, run_id: str, status: str, session_id: str | None = None) -> Outcome | None:
        """Record the run. Only then may it be polled.

        Gives the row's outcome where another row has this very run: then both are `unknown`.
        """
        told: list[Outcome | None] = []
        record = Brief(lambda connection: told.append(start(connection, attempt, run_id, status, session_id)))
        await self._commits.add(record)
        return told[-1]

    def seen(self, attempt: int, status: str, why: str = "") -> None:
        """Note a run's status on the way, and why it is followed no further; it is written with the next event."""
        self._commits.add_later(Brief(_execute, SEE, (status, why or None, attempt)))

    async def left_going(self, why: str) -> None:
        """Note of each run of the batch that hasn't ended why nobody will follow it."""
        await self._write(resolve.LEFT_GOING, why, self._begun.id)

    async def ended(self, attempt: int, outcome: Outcome) -> Outcome:
        """Record the end, with or without `started` before it. Only then the row counts as done.

        Gives what was recorded: where another row has this very run, both are `unknown`.
        """
        told: list[Outcome] = []
        kind = Brief if len(outcome.result) <= SHORT else partial
        await self._commits.add(kind(lambda connection: told.append(end(connection, attempt, outcome))))
        return told[-1]

    async def finish(self, exit_code: int, left: Sequence[str] = ()) -> None:
        """Record that the batch has ended and how, and which sheets of its command have not begun so far."""
        ended = (now(), exit_code, msgspec.json.encode(left).decode(), self._begun.id)
        await self._write("UPDATE batch SET ended = ?, exit_code = ?, sheets_left = ? WHERE id = ?", *ended)

    async def tell(self, told: str) -> None:
        """Keep what is said of the batch at its end, as JSON, for who looks later."""
        await self._write("INSERT OR REPLACE INTO told VALUES (?, ?)", self._begun.id, told)

    async def flush(self) -> None:
        """Write what was only `seen`, before an output is made of it.

        On a full disk it raises: rows of the sheet may have no place in the journal. So it does (`OutputFailed`) where
        two rows have one run.
        """
        await self._write("SELECT 1")
        self._check_room()
        with self._reader() as connection:
            resolve.check_runs(connection)

    def outcomes(self) -> Iterator[Placed]:
        """This batch's rows in order of number, with what is on disk of each; may run in another thread."""
        with self._reader() as connection:
            yield from view.outcomes(connection, self._begun.id)

    def recorded(self) -> BatchRecord:
        """What is recorded of this batch."""
        with self._reader() as connection:
            return view.batch_of(connection, self._begun.id)

    def spans(self) -> Iterator[Span]:
        """As `outcomes`, with the times of the runs instead of their results."""
        with self._reader() as connection:
            yield from view.spans(connection, self._begun.id)

    def all_new(self) -> str | None:
        """A warning where earlier batches sent rows and none of them has a place in this batch so far."""
        with self._reader() as connection:
            return changes.all_new(connection, self._begun.id)

    def shared_keys(self) -> str | None:
        """A warning where rows of this batch's sheet share their key with others."""
        rows = self._repeated if self._repeated is not None else same_key.count_repeated(self._file.connection)
        return changes.describe_shared_keys(rows)

    def since(self) -> Since | None:
        """How this batch's sheet differs from that of the night before."""
        with self._reader() as connection:
            return since(connection, self._begun.id)

    def origins(self, number: int | None = None) -> tuple[changes.Origin, ...]:
        """Where outcomes were carried over from: those of all rows, or that of one."""
        with self._reader() as connection:
            return changes.origins(connection, self._begun.id, number)

    def waiting(self) -> str | None:
        """A sentence where rows are to be started again, but not yet."""
        return describe_waiting(self.held(WAITING))

    def held(self, why: str) -> HeldRows:
        """The rows of this batch that were held back."""
        with self._reader() as connection:
            return held(connection, self._begun.id, why)

    def taken(self) -> HeldRows:
        """The rows of this batch whose key another sheet's row had, with other params; they were not sent."""
        with self._reader() as connection:
            return taken(connection, self._begun.id)

    def unsettled(self) -> tuple[Unsettled, ...]:
        """The sheets of this batch's series that earlier nights did not come to the end of."""
        with self._reader() as connection:
            return unsettled(connection, self._begun.id)

    @property
    def outputs(self) -> OutputMemory:
        """What is remembered of outputs, and learnt from them."""
        return OutputMemory(self._reader, self._commits.add, self._begun.id, self._file.next_attempt)

    def counts(self) -> tuple[Count, ...]:
        """How many of this batch's rows have which status, the most frequent first."""
        with self._reader() as connection:
            return view.counts(connection, self._begun.id)

    def failures(self, limit: int = 20) -> tuple[Failures, ...]:
        """The rows of this batch that did not succeed, grouped by what is wrong, the most frequent first."""
        with self._reader() as connection:
            return view.failures(connection, self._begun.id, limit)

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own, so that reading neither waits for a commit nor sees half of one."""
        if self.path is None:
            yield self._file.connection
            return
        try:
            with closing(connect(uri_of(self.path, "mode=ro"))) as connection:
                make_readable(connection)
                yield connection
        except sqlite3.Error as error:
            what = f"{self.path}: the journal can't be read ({error}); fix that and run the same command"
            raise JournalFailed(what) from error

    def _check_room(self) -> None:
        if self._file.reserve is not None:
            self._file.reserve.check()

    async def _write(self, sql: str, *values: object) -> None:
        await self._commits.add(Brief(_execute, sql, values))

    async def _withdraw_if_cancelled(self, attempt: int) -> None:
        try:
            await checkpoint_if_cancelled()
        except anyio.get_cancelled_exc_class():
            await self.withdrawn(attempt, "interrupted before it was sent")
            raise


def _execute(sql: str, values: tuple[object, ...], connection: sqlite3.Connection) -> None:
    connection.execute(sql, values)
