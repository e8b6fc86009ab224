"""The pool: one producer, a bounded stream, and workers that bring each row to its outcome.

After a stop nothing is started; the rest of the sheet still finds its place in the journal, and runs in flight are
followed to their end; after an interrupt, for some seconds only.
"""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from batch_runner import log
from batch_runner.batch.attempts import Canary, Doubt, Going, PlacedSheet, different_shapes
from batch_runner.batch.limits import open_files, sheets_at_once
from batch_runner.batch.stop import Stop
from batch_runner.batch.worker import STILL_UNKNOWN
from batch_runner.errors import Catching, ExitCode, JournalFull
from batch_runner.outcomes import ERROR, NOT_STARTED
from batch_runner.plan.plan import Keep, Poll, Refuse, Resend, Send
from batch_runner.rows.source import CHUNK, LARGE_CHUNK, look_ahead, plan_rows

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence

    from batch_runner.batch.attempts import Came
    from batch_runner.batch.limits import Limits, Slot
    from batch_runner.batch.poller import Following
    from batch_runner.batch.stop import Stopping
    from batch_runner.batch.worker import Worker
    from batch_runner.journal.journal import Journal, Outcome
    from batch_runner.progress import Progress, Tally
    from batch_runner.rows.params import RowParams
    from batch_runner.rows.source import Source


WINDOW = 1_000
"""So many rows are looked at to find some of different shapes."""
GRACE = 10.0
"""Seconds that runs in flight get to end after Ctrl-C."""
SHORT_GRACE, PLACING_GRACE = 1.0, 2.5
"""The same after SIGTERM and SIGHUP, and for finding earlier outcomes where that is slow: an output that takes a second
more is to be there in five, and on a busy machine before Docker kills, after ten."""
MOST_ROWS = 100_000
"""Rows for which there is time to write the outputs when the machine goes down."""
SPARE = 16
"""Workers beside those with a start or a run at hand: they wait for their turn, or record what rows came to whose slots
are others' by now. A run that is polled has no worker."""
TICK, DEADLINE_LOOK = 5.0, 1.0
"""Seconds between two looks at the progress when nothing happens, and at the clocks."""


class SheetBatch(PlacedSheet):
    """One sheet's batch on its way through the pool.

    An `error` is what nobody could go on from, where the pool has other sheets that can.
    """

    def __init__(self, source: Source, journal: Journal, worker: Worker) -> None:
        super().__init__(source, journal)
        self.worker = worker
        self.sheets_left: Callable[[], Sequence[str]] = tuple
        """Which sheets of its command have not begun so far."""
        self.error: Exception | None = None
        self.left = 1
        """Rows whose end is still to come, and 1 more while the sheet is being placed."""
        self.cautions: tuple[str, ...] = ()  # what a person must hear of what `--unique` can't know
        self.waits_for_others = False
        """Whether some of its rows are another sheet's, too: they end when those do."""


class Work(msgspec.Struct):
    """A row on its way to a worker, which takes it from the one who hands it on."""

    plan: Send | Resend | Poll
    row: RowParams
    batch: SheetBatch
    is_taken: bool = False


class Pool:
    """Workers for the rows of any number of sheets, which share concurrency, rate, canary and failure limit.

    `finish` is called for each sheet when its last row has ended, or can't be followed any further.
    """

    def __init__(
        self,
        limits: Limits,
        stopping: Stopping,
        progress: Progress,
        tally: Tally,
        finish: Callable[[SheetBatch], Coroutine[Any, Any, None]],
        *,
        many: bool = False,
    ) -> None:
        self._limits = limits
        self._stopping = stopping
        self._progress = progress
        self._tally = tally
        self._finish = finish
        self._many = many
        self._doubted: dict[Doubt, Work] = {}
        self._canary = Canary(())
        self._open: dict[SheetBatch, None] = {}
        self._most_sheets = sheets_at_once(open_files())
        self._sheets = self._followed = 0
        self._workers = self._most_workers = self._spare = 0
        self._others_done, self._has_room, self._none_followed = anyio.Event(), anyio.Event(), anyio.Event()
        self._is_over = False  # all workers have left; outputs may still be written then

    async def run(self, batches: AsyncIterator[SheetBatch], workers: int, canaries: int | None) -> None:
        """Bring every row that takes part to its outcome, or as far as a stop lets it.

        At most `workers` runs are in flight. A sheet is taken from `batches` when those before it have been handed out.
        Raises `JournalFailed`, unless there are other sheets, which then end in order.
        """
        self._stream, self._rows = anyio.create_memory_object_stream[Work](0)
        async with anyio.create_task_group() as self._ends:
            async with anyio.create_task_group() as clocks:
                clocks.start_soon(self._tick)
                clocks.start_soon(self._blame_as_told)
                if self._stopping.has_deadline:
                    clocks.start_soon(self._look_at_deadline)
                async with anyio.create_task_group() as placing:
                    placing.start_soon(self._produce, batches, canaries)
                    with self._rows, self._until_over():
                        async with anyio.create_task_group() as self._pool:
                            clocks.start_soon(self._cut_off, self._pool.cancel_scope, placing.cancel_scope)
                            self._grow(workers)
                clocks.cancel_scope.cancel()
            await self._judge_doubts()
            for doubt in list(self._doubted):  # every row's, or nobody knows: certainly none of them was started
                self._row_ended(self._doubted.pop(doubt), None)
            for batch in list(self._open):
                self._close(batch)

    def adjust(self, concurrency: int) -> None:
        """Another number of runs in flight at most, while it runs."""
        self._limits.adjust(concurrency)
        if not self._is_over:
            self._grow(concurrency)

    def _grow(self, workers: int) -> None:
        """Allow workers for so many runs in flight at least. Those of a number since lowered wait for a slot."""
        most = max(1, min(workers + min(workers, SPARE), self._tally.total))  # a sheet may be filled by its turn
        self._most_workers = max(self._most_workers, most)
        while self._spare < SPARE and self._workers < self._most_workers:
            self._workers += 1
            self._spare += 1
            self._pool.start_soon(self._work)

    @contextmanager
    def _until_over(self) -> Iterator[None]:
        try:
            yield
        finally:
            self._is_over = True
            self._tally.running = 0  # what was left as it is

    def _begins(self) -> None:
        """A worker's row has had its turn: another one is to wait for the next."""
        self._spare -= 1
        self._grow(0)

    async def _produce(self, batches: AsyncIterator[SheetBatch], canaries: int | None) -> None:
        """Place each sheet's rows in its journal, and hand on those that have to be started or followed."""
        async with self._stream:
            works = self._works(batches)
            with self._stopping.when_full():
                if canaries is not None:
                    await self._send_canaries(works, canaries)
                async for work in works:
                    await self._hand_on(work)

    async def _works(self, batches: AsyncIterator[SheetBatch]) -> AsyncIterator[Work]:
        async for batch in batches:
            self._open[batch] = None
            self._sheets += 1
            with self._keep_errors(batch):
                async for work in self._works_of(batch):
                    batch.left += 1
                    yield work
            # One that waits for others ends last: were it counted, the others might wait for it.
            self._sheets -= batch.waits_for_others
            self._done(batch)
            with self._stopping.cut_short(interrupts_only=True):  # then there is no next sheet to be taken
                while self._sheets >= self._most_sheets:
                    self._others_done.set()  # runs that are looked at last may be what keeps a sheet open
                    await self._has_room.wait()

    async def _works_of(self, batch: SheetBatch) -> AsyncIterator[Work]:
        batch.cautions = await look_ahead(batch.source, batch.journal, lambda: self._stopping.is_hasty)
        for caution in batch.cautions:
            log.warning(caution)
        is_first = True
        async for chunk in plan_rows(batch.source, batch.journal, self._rows_at_once):
            if is_first and (sentence := batch.journal.all_new()):
                log.warning(sentence)
            is_first = False
            for step, row in chunk:
                if isinstance(step, Send | Poll | Resend):
                    yield Work(step, row, batch)
                elif isinstance(step, Keep | Refuse):
                    with log.of_batch(str(batch.journal.batch)):
                        self._carry(step, batch)
            if self._stopping.is_hasty:
                before = batch.carried
                await batch.place_rest()
                self._tally.carried += batch.carried - before
                return
        batch.is_placed = True

    def _rows_at_once(self) -> int:
        return LARGE_CHUNK if self._stopping.is_interrupted else CHUNK

    def _carry(self, step: Keep | Refuse, batch: SheetBatch) -> None:
        if isinstance(step, Refuse):
            status = ERROR
            log.info("row refused", row=step.row_number)
            log.debug("row refused", row=step.row_number, why=step.why)
        else:
            status = step.status
            log.debug("row carried over", row=step.row_number, status=status)
            batch.carried += 1
            batch.changed += step.changed
            batch.waits_for_others |= step.tonight
            self._tally.carried += 1
            self._tally.changed += step.changed
        self._row_done(status)

    async def _hand_on(self, work: Work) -> None:
        """Give the row to the next worker that is free, unless a stop comes first; an interrupt beats all."""
        if work.batch.worker.is_overdue(work.plan) and not self._stopping.is_interrupted:
            work.is_taken = True
            self._pool.start_soon(self._follow_beside, work)
            return
        is_start = not isinstance(work.plan, Poll)
        is_sent = False
        with self._stopping.cut_short(interrupts_only=not is_start):
            await self._stream.send(work)
            is_sent = True
        if not (is_sent or work.is_taken):  # cut short at the very moment, it may be with a worker all the same
            self._canary.row_ended(work, NOT_STARTED)
            self._done(work.batch)

    async def _send_canaries(self, works: AsyncIterator[Work], number: int) -> None:
        """Let a few rows of different shapes go first; the rest follow only if they all succeed."""
        window: list[Work] = []
        # The next sheet may have to wait for one of these to end, and none has been started yet.
        while len(window) < WINDOW and self._sheets < self._most_sheets:
            work = await anext(works, None)
            if work is None:
                break
            window.append(work)
        tonights = [
            work for work in window if not (isinstance(work.plan, Resend) or work.batch.worker.is_overdue(work.plan))
        ]
        canaries = [tonights[place] for place in different_shapes([work.row for work in tonights], number)]
        self._canary = Canary(canaries)
        for work in canaries:
            await self._hand_on(work)
        failures = 0
        with self._stopping.cut_short(interrupts_only=True):  # a canary that is cut off ends in no way
            failures = await self._canary.failures()
        if failures:
            await self._judge_doubts()
            first = f"{failures} of the first {len(canaries)} rows (--canary)"
            self._stopping.now(Stop(f"{first} did not succeed, so the rest was not started", ExitCode.STOPPED))
        chosen = {id(work) for work in canaries}
        for work in window:
            if id(work) not in chosen:
                await self._hand_on(work)

    async def _work(self) -> None:
        while True:
            slot = self._limits.slot()
            await slot.take()
            if (work := await anext(self._rows, None)) is None:  # one stream for all: clones would weigh more
                break
            work.is_taken = True
            slot.on_begin = self._begins
            if not isinstance(work.plan, Send):
                slot.begins()
            await self._do(work, slot)
            self._spare += slot.on_begin is None
        slot.release()
        self._workers -= 1
        if not self._workers:
            await self._no_more_followed()
            self._others_done.set()

    async def _no_more_followed(self) -> None:
        """Hold the pool open for the runs that are polled."""
        while self._followed:
            await self._none_followed.wait()

    async def _follow_beside(self, work: Work) -> None:
        """Look at a run that takes no place from another row, when all else is done."""
        await self._others_done.wait()
        await self._do(work, self._limits.slot())
        await self._no_more_followed()

    async def _do(self, work: Work, slot: Slot) -> None:
        self._tally.running += 1
        slot.on_release = self._run_left
        self._progress.moved(self._tally)
        await self._bring_on(work, slot, work.batch.worker.do(work.plan, work.row, slot))

    def _run_left(self) -> None:
        self._tally.running -= 1

    async def _bring_on(
        self, work: Work, slot: Slot, coming: Coroutine[Any, Any, Came], going: Going | None = None
    ) -> None:
        """Have a row come so far as it can. `going` is its run that was followed until now."""
        came: Came | None = None
        with self._keep_errors(work.batch), log.of_batch(str(work.batch.journal.batch)):
            try:
                with self._stopping.when_full():
                    came = await coming
            finally:
                if not isinstance(came, Going):
                    slot.release()  # the next row can't begin before this one is counted: nothing here waits
        if isinstance(came, Going):
            self._follow(work, slot, came, going)
            return
        if isinstance(came, Doubt):
            self._doubted[came] = work
            self._canary.row_ended(work, ERROR)  # it has not succeeded, whatever it is
        else:
            self._row_ended(work, came)
        if going is not None:
            self._followed -= 1
            if not self._followed:
                self._none_followed.set()

    def _follow(self, work: Work, slot: Slot, going: Going, before: Going | None) -> None:
        """Have a run polled, which then is no task: many of those would weigh too much."""
        if before is None:
            if not self._followed:
                self._none_followed = anyio.Event()
            self._followed += 1
        if going is not before:
            work.batch.worker.follow(going, partial(self._look_soon, work, slot, going))

    def _look_soon(self, work: Work, slot: Slot, going: Going, following: Following) -> None:
        if not self._is_over:
            self._pool.start_soon(self._look, work, slot, going, following)

    async def _look(self, work: Work, slot: Slot, going: Going, following: Following) -> None:
        await self._bring_on(work, slot, work.batch.worker.look(going, following, work.row, slot), going)

    def _row_ended(self, work: Work, outcome: Outcome | None) -> None:
        with self._keep_errors(work.batch):
            if outcome is not None and outcome.status != NOT_STARTED:
                if outcome != STILL_UNKNOWN:
                    started = outcome.run_id is not None
                    self._stopping.row_ended(outcome.status, outcome.error, started=started, params=work.row.params)
                self._row_done(outcome.status)
        self._canary.row_ended(work, outcome.status if outcome is not None else NOT_STARTED)
        self._done(work.batch)

    async def _judge_doubts(self) -> None:
        """No more starts come that could tell whose a refusal is."""
        self._stopping.judge_doubts()
        await self._blame()

    async def _blame_as_told(self) -> None:
        while True:
            await self._stopping.doubts.told()
            await self._blame()

    async def _blame(self) -> None:
        """Rows whose own a refusal was found to be have ended."""
        for doubt in self._stopping.doubts.take():
            work = self._doubted.pop(doubt)
            outcome: Outcome | None = None
            with (
                anyio.CancelScope(shield=True),  # what was taken is recorded, also where the batch ends just now
                self._keep_errors(work.batch),
                log.of_batch(str(work.batch.journal.batch)),
            ):
                outcome = await work.batch.worker.blame(doubt)
            self._row_ended(work, outcome)

    def _keep_errors(self, batch: SheetBatch) -> Catching:
        """Where other sheets share the pool, let what breaks one stop the starts, so that the others end in order."""
        return Catching(partial(self._keeps_error, batch))

    def _keeps_error(self, batch: SheetBatch, error: Exception) -> bool:
        if not self._many or isinstance(error, JournalFull):
            return False
        batch.error = batch.error or error
        self._stopping.now(Stop(str(error) or type(error).__name__, ExitCode.STOPPED))
        return True

    def _done(self, batch: SheetBatch) -> None:
        batch.left -= 1
        if not batch.left and not batch.waits_for_others:
            self._close(batch)

    def _close(self, batch: SheetBatch) -> None:
        if batch in self._open:
            del self._open[batch]
            self._ends.start_soon(self._end, batch)

    async def _end(self, batch: SheetBatch) -> None:
        try:
            await self._finish(batch)
        finally:
            self._sheets -= not batch.waits_for_others
            self._has_room.set()
            self._has_room = anyio.Event()

    def _row_done(self, status: str) -> None:
        self._tally.ended(status)
        self._progress.moved(self._tally)

    async def _cut_off(self, working: anyio.CancelScope, placing: anyio.CancelScope) -> None:
        """After an interrupt, what has not ended in time is left as it is: the same command goes on from there.

        The rest of the sheets finds its places all the same, for a row's earlier outcome, unless the machine goes down.
        """
        await self._stopping.interrupted()
        if not self._stopping.is_hasty:
            working.deadline = anyio.current_time() + GRACE
            return
        working.deadline = anyio.current_time() + SHORT_GRACE
        await anyio.sleep(SHORT_GRACE)
        if self._tally.total <= MOST_ROWS and not all(batch.is_known for batch in self._open):
            await anyio.sleep(PLACING_GRACE)
        placing.cancel()

    async def _tick(self) -> None:
        """Let the progress be seen to go on while nothing ends."""
        while True:
            await anyio.sleep(TICK)
            self._progress.moved(self._tally)

    async def _look_at_deadline(self) -> None:
        while self._stopping.stop is None:
            await anyio.sleep(DEADLINE_LOOK)
            self._stopping.look_at_deadline()
