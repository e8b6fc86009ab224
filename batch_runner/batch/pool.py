"""The pool: one producer, a bounded stream, and workers that bring each row to its outcome.

After a stop nothing is started; the rest of the sheet still finds its place in the journal, and runs in flight are
followed to their end; when a person interrupted, for `GRACE` seconds.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

import anyio

from batch_runner import log
from batch_runner.batch.stop import Stop
from batch_runner.batch.worker import NOT_STARTED, STILL_UNKNOWN, Work
from batch_runner.errors import ExitCode
from batch_runner.plan.plan import Carry, Follow, Refuse, Send, Settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

    from batch_runner.batch.limits import Limits, Slot
    from batch_runner.batch.stop import Stopping
    from batch_runner.batch.worker import Worker
    from batch_runner.journal.journal import Journal, Outcome
    from batch_runner.plan.plan import Step
    from batch_runner.progress import Progress, Tally
    from batch_runner.rows.params import RowParams
    from batch_runner.rows.source import Source

    Stream = MemoryObjectSendStream[Work]


WINDOW = 1_000
"""So many rows are looked at to find some of different shapes."""


class Canary:
    """Waits for some rows to end, and knows whether they all succeeded."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self._waiting = set(numbers)
        self._failed = 0
        self._over = anyio.Event()
        if not self._waiting:
            self._over.set()

    def row_ended(self, number: int, status: str) -> None:
        """Hear of any row's end; what isn't ours is passed over."""
        if number in self._waiting:
            self._waiting.discard(number)
            self._failed += status != "success"
            if not self._waiting:
                self._over.set()

    async def failures(self) -> int:
        """Wait for the last of them, then say how many did not succeed."""
        await self._over.wait()
        return self._failed


def different_shapes(rows: Sequence[RowParams], number: int) -> tuple[int, ...]:
    """The places of up to `number` rows: first one of each shape (which params are filled), then the first others."""
    first_of_shape: dict[frozenset[str], int] = {}
    for place, row in enumerate(rows):
        first_of_shape.setdefault(frozenset(row.params), place)
    chosen = list(first_of_shape.values())[:number]
    others = (place for place in range(len(rows)) if place not in chosen)
    while len(chosen) < min(number, len(rows)):
        chosen.append(next(others))
    return tuple(sorted(chosen))


CHUNK = 128
"""Rows that are read and placed in the journal at once: some milliseconds' work."""


async def placed(source: Source, journal: Journal) -> AsyncIterator[list[tuple[Step, RowParams]]]:
    """The plan: what to do with each row, in the sheet's order; a chunk is placed when it is asked for."""
    for chunk in _chunks(source.places()):
        yield list(zip(await journal.register(chunk), chunk, strict=True))


async def look_ahead(source: Source, journal: Journal) -> int:
    """Ask the whole sheet what has to be known before its first row is `placed`.

    Gives for how many rows that ran before it could not tell what makes them unique.
    """
    await _tell_twins_apart(source, journal)
    return await _learn_claims(source, journal)


async def _tell_twins_apart(source: Source, journal: Journal) -> None:
    """Of rows with equal keys one can be known only when all are: a later one may be what was sent before."""
    if not journal.may_have_twins:
        return
    for chunk in _chunks(source.every()):
        await journal.see(chunk)
    await journal.tell_apart()


async def _learn_claims(source: Source, journal: Journal) -> int:
    """Where rows ran before anybody asked what makes them unique, ask the sheet; gives for how many it didn't know."""
    if not journal.needs_claims:
        return 0
    for chunk in _chunks(source.every()):
        await journal.adopt(chunk)
    return journal.unclaimed()


def _chunks(rows: Iterator[RowParams]) -> Iterator[tuple[RowParams, ...]]:
    while chunk := tuple(islice(rows, CHUNK)):
        yield chunk


GRACE = 10.0
"""Seconds that runs in flight get to end after an interrupt."""
TICK = 5.0
"""Seconds between two looks at the progress when nothing happens."""
DEADLINE_LOOK = 1.0
"""Seconds between two looks at the clocks."""


class Batch:
    """One batch over one sheet. `run` may be called once; what came of it stands in the journal."""

    def __init__(
        self,
        source: Source,
        worker: Worker,
        *,
        journal: Journal,
        limits: Limits,
        stopping: Stopping,
        progress: Progress,
        tally: Tally,
    ) -> None:
        self._source = source
        self._worker = worker
        self._journal = journal
        self._limits = limits
        self._stopping = stopping
        self._progress = progress
        self._tally = tally
        self._canary = Canary(())

    async def run(self, workers: int, canaries: int | None) -> None:
        """Bring every row that takes part to its outcome, or as far as a stop lets it.

        At most `workers` runs are in flight. Raises `JournalFailed`.
        """
        send, receive = anyio.create_memory_object_stream[Work](0)
        async with anyio.create_task_group() as clocks:
            clocks.start_soon(self._cut_off, clocks.cancel_scope)
            clocks.start_soon(self._tick)
            if self._stopping.has_deadline:
                clocks.start_soon(self._look_at_deadline)
            async with anyio.create_task_group() as pool:
                pool.start_soon(self._produce, send, canaries)
                with receive:
                    for _ in range(min(workers, self._tally.total)):
                        pool.start_soon(self._work, receive.clone())
            clocks.cancel_scope.cancel()

    async def _produce(self, stream: Stream, canaries: int | None) -> None:
        """Place the sheet's rows in the journal, and hand on those that have to be started or followed."""
        async with stream:
            with self._stopping.when_full():
                await self._hand_out(stream, canaries)

    async def _hand_out(self, stream: Stream, canaries: int | None) -> None:
        works = self._works()
        if canaries is not None:
            await self._send_canaries(works, canaries, stream)
        async for work in works:
            await self._hand_on(work, stream)

    async def _works(self) -> AsyncIterator[Work]:
        if missing := await look_ahead(self._source, self._journal):
            log.warning(
                f"rows that ran before, but are not in the sheet as they were then: {missing}; --unique can't know them"
            )
        is_first = True
        async for chunk in placed(self._source, self._journal):
            if is_first and (warning := self._journal.all_new()) is not None:
                log.warning(warning)
            is_first = False
            for plan, row in chunk:
                if isinstance(plan, Send | Follow | Settle):
                    yield Work(plan, row)
                elif isinstance(plan, Carry | Refuse):
                    self._carry(plan)

    def _carry(self, plan: Carry | Refuse) -> None:
        if isinstance(plan, Refuse):
            status = "error"
            log.info("row refused", row=plan.number)
            log.debug("row refused", row=plan.number, why=plan.why)
        else:
            status = plan.status
            log.debug("row carried over", row=plan.number, status=status)
        self._tally.carried += isinstance(plan, Carry)
        self._tally.changed += isinstance(plan, Carry) and plan.changed
        self._row_done(status)

    async def _hand_on(self, work: Work, stream: Stream) -> None:
        is_start = not isinstance(work.plan, Follow)
        if self._stopping.is_interrupted or (is_start and self._stopping.is_stopped()):
            self._canary.row_ended(work.plan.number, "not_started")
        else:
            await stream.send(work)

    async def _send_canaries(self, works: AsyncIterator[Work], number: int, stream: Stream) -> None:
        """Let a few rows of different shapes go first; the rest follow only if they all succeed."""
        window = [work async for work in _first(works, WINDOW)]
        tonights = [work for work in window if not isinstance(work.plan, Settle)]
        canaries = [tonights[place] for place in different_shapes([work.row for work in tonights], number)]
        numbers = frozenset(work.plan.number for work in canaries)
        self._canary = Canary(tuple(numbers))
        for work in canaries:
            await self._hand_on(work, stream)
        failures = await self._canary.failures()
        if failures:
            first = f"{failures} of the first {len(canaries)} rows (--canary)"
            self._stopping.now(Stop(f"{first} did not succeed, so the rest was not started", ExitCode.STOPPED))
        for work in window:
            if work.plan.number not in numbers:
                await self._hand_on(work, stream)

    async def _work(self, receive: MemoryObjectReceiveStream[Work]) -> None:
        async with receive:
            async for work in receive:
                async with self._limits.slot() as slot:
                    await self._do(work, slot)

    async def _do(self, work: Work, slot: Slot) -> None:
        self._tally.running += 1
        self._progress.moved(self._tally)
        outcome = NOT_STARTED
        try:
            with self._stopping.when_full():
                outcome = await self._worker.do(work, slot)
        finally:
            self._tally.running -= 1
        self._ended(work.plan.number, outcome)

    def _ended(self, number: int, outcome: Outcome) -> None:
        self._canary.row_ended(number, outcome.status)
        if outcome.status == "not_started":
            return
        if outcome != STILL_UNKNOWN:
            self._stopping.row_ended(outcome.status, outcome.error, started=outcome.run_id is not None)
        self._row_done(outcome.status)

    def _row_done(self, status: str) -> None:
        self._tally.ended(status)
        self._progress.moved(self._tally)

    async def _cut_off(self, scope: anyio.CancelScope) -> None:
        """After an interrupt, what has not ended in time is left as it is: the same command goes on from there."""
        await self._stopping.interrupted()
        scope.deadline = anyio.current_time() + GRACE

    async def _tick(self) -> None:
        """Let the progress be seen to go on while nothing ends."""
        while True:
            await anyio.sleep(TICK)
            self._progress.moved(self._tally)

    async def _look_at_deadline(self) -> None:
        while self._stopping.stop is None:
            await anyio.sleep(DEADLINE_LOOK)
            self._stopping.look_at_deadline()


async def _first(works: AsyncIterator[Work], number: int) -> AsyncIterator[Work]:
    while number:
        try:
            yield await anext(works)
        except StopAsyncIteration:
            return
        number -= 1
