"""A job is opened, run, and summed up."""

from __future__ import annotations

import random
import time
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
from anyio import to_thread

from batch_runner import log
from batch_runner.batch.limits import Limits, limit_by_files, open_files
from batch_runner.batch.poll_schedule import Schedule, advise
from batch_runner.batch.poller import Poller
from batch_runner.batch.pool import DEADLINE_LOOK, MOST_ROWS, Pool, SheetBatch
from batch_runner.batch.stop import INTERRUPTS, NightBudget, Stop, Stopping
from batch_runner.batch.worker import Worker
from batch_runner.errors import JournalFailed, UsageError, sole_error
from batch_runner.fs import AtomicFile, have_temporary_folder
from batch_runner.job.job import Job
from batch_runner.job.path_templates import has_stem
from batch_runner.journal.journal import Journal
from batch_runner.outcomes import FAILED, GOING, NOT_STARTED, UNKNOWN
from batch_runner.output.edits import put_output, refresh_output
from batch_runner.progress import Progress, Tally
from batch_runner.report.summary import MOST_GROUPS, Summary, exit_code_for, named_rows, sorted_counts
from batch_runner.report.totals import Told, control_totals, differing, marked
from batch_runner.runner.adjust import LOOK, AdjustmentInbox, BatchEnding, Refresher
from batch_runner.runner.check import note_output, open_source, take_back, wrote_elsewhere
from batch_runner.runner.connect import ChosenService, choose_service, connect_service, purpose_of, why_left
from batch_runner.runner.memory import (
    Memory,
    index_of_user,
    info_of,
    know_keys,
    outcomes_now,
    place_alone,
    recall,
)
from batch_runner.service.protocol import large_turn

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator

    from batch_runner.batch.stop import Signals
    from batch_runner.job.inputs import SheetJob
    from batch_runner.journal.batches import BatchInfo
    from batch_runner.journal.view import Placed
    from batch_runner.output.output import Written
    from batch_runner.output.previous_output import Evidence
    from batch_runner.report.html import Page
    from batch_runner.rows.source import Source
    from batch_runner.service.protocol import Service


class OpenedJob(msgspec.Struct, frozen=True):
    """A job that was found to be possible: nothing has been sent, and nothing is wrong with it that can be known."""

    job: Job
    source: Source
    target: AtomicFile
    service: ChosenService
    workers: int
    notes: tuple[str, ...]
    began: float
    bounds: NightBudget
    series: str
    """The input's absolute path, with the places of the day still in it: tomorrow's sheet has the same."""
    memory: Memory
    """What is known of its task in other journals."""
    evidence: tuple[Evidence, ...] = ()
    """Runs that only the output has."""


@contextmanager
def open_job(planned: SheetJob | Job, bounds: NightBudget | None = None) -> Iterator[OpenedJob]:
    """Look at all that can be looked at before the first start. Raises `UsageError`, `SheetError` and `JournalError`.

    The paths of a job are taken to the letter. `bounds` are those of the night that the batch is a part of.
    """
    began = time.monotonic()
    planned = place_alone(planned) if isinstance(planned, Job) else planned
    job = planned.job
    bounds = bounds or NightBudget(job)
    service = service_of(job)
    target = prepare_output(job)
    workers, warning = limit_by_files(job.concurrency, open_files())
    with open_source(job, target, service.inputs, purpose_of(job), target.real.absolute().parent) as (source, evidence):
        memory = know_keys(recall(job, service), job, source)
        for caution in memory.cautions:
            log.warning(caution)
        notes = tuple(note for note in (warning, *planned.notes, *(each.note for each in evidence)) if note)
        yield OpenedJob(job, source, target, service, workers, notes, began, bounds, planned.series, memory, evidence)


def service_of(job: Job) -> ChosenService:
    """The service, if the job has a task that it would take. Raises `UsageError`."""
    if not job.task:
        raise UsageError(
            "which task? say --task ID (in a job file task = …); with the local service: invoice, or FILE.py:FUNCTION"
        )
    return choose_service(job)


def prepare_output(job: Job) -> AtomicFile:
    """Where the output will go, if the input is there and a file can be written. Raises `UsageError`."""
    if not job.input_path.is_file():
        why = "not a file; name a spreadsheet" if job.input_path.exists() else "no such file"
        raise UsageError(f"{job.input}: {why}")
    if job.report_path is not None:
        AtomicFile.prepare(job.report_path, job.input_path, "report")
    target = AtomicFile.prepare(job.output_path, job.input_path)
    have_temporary_folder(target.real.absolute().parent)
    return target


async def run_batch(job: Job, progress: Progress | None = None) -> Summary:
    """Run a job to its end and say what it came to; silent unless `progress` shows something.

    Logs, heartbeat and notices are the program's: a library's user has their own (`logging.getLogger("batch_runner")`).

    The coroutine needs asyncio. Raises `BatchRunnerError` and `SheetError`; a row's failure is no error.
    """
    with open_job(job) as opened:
        return await execute(opened, progress or Progress())


def run_batch_blocking(job: Job, progress: Progress | None = None) -> Summary:
    """`run_batch` for programs without an event loop."""
    return anyio.run(run_batch, job, progress)


async def execute(
    opened: OpenedJob,
    progress: Progress,
    done: Callable[[Summary], object] = lambda _: None,
    *,
    signals: Signals | None = None,
    printed: Callable[[str], None] | None = None,
) -> Summary:
    """Run an opened job on its own service and journal; the first of the `signals` ends it in order.

    `printed` is told what tasks print in worker processes; without it, it goes to standard error. `done` is told the
    summary when only the service is still to be left, which may hold it up.
    """
    with sole_error():
        async with connect_service(opened.job, opened.service, printed) as reached:
            async with Journal.open(
                opened.job.journal_path, info(opened), opened.target.mode & 0o666, opened.memory.others
            ) as journal:
                opened = await remember(opened, journal)
                end = EndInOrder(signals, reached.wind_down)
                summary = await run_opened(opened, reached.service, journal, progress, end)
            done(summary)
            return summary


async def run_opened(
    opened: OpenedJob,
    service: Service,
    journal: Journal,
    progress: Progress,
    end: EndInOrder | None = None,
) -> Summary:
    """Run an opened job with this service and journal, write the output and sum up. Runs on any backend of anyio."""
    summaries: list[Summary] = []
    night = NightRun(opened.job, opened.service, service, opened.bounds, rows=opened.source.total)

    async def one() -> AsyncIterator[SheetBatch]:
        await take_back(opened.evidence, journal)
        yield night.batch(opened, journal)

    async def finish(batch: SheetBatch) -> None:
        summaries.append(await night.conclude(opened, batch))

    await night.run(one(), finish, progress, end)
    return summaries[0]


class EndInOrder(msgspec.Struct, frozen=True):
    """What Ctrl-C, SIGTERM, SIGHUP and the deadline do to a batch: at the first, `wind_down` tells the service."""

    signals: Signals | None
    wind_down: Callable[[], None]


class NightRun:
    """What all batches of a night share: the service, the limits, the looks at runs, and the reasons to stop."""

    def __init__(
        self, job: Job, chosen: ChosenService, service: Service, bounds: NightBudget, *, rows: int, many: bool = False
    ) -> None:
        self._job = job
        self._chosen = chosen
        self._service = service
        self._many = many
        self._workers, _ = limit_by_files(job.concurrency, open_files())
        self._tally = Tally(rows)
        self._chance = random.Random()  # noqa: S311  jitter needs no secrecy
        self._limits = Limits(self._workers, pace=bounds.pace)
        self._schedule = Schedule(chosen.polls)
        self._poller = Poller(service.look, self._schedule, chosen.terms.follow_seconds, self._chance)
        self.stopping = Stopping(job.failure_limit, rows, bounds.past_deadline(), bounds.late)
        self._inbox = AdjustmentInbox()
        self._adjusted: list[str] = []
        self.one_report = many and job.report is not None and not has_stem(job.report)
        """Whether all sheets have one report, which is written when the night is over."""
        self.pages: dict[str, Page] = {}
        """What that report says of each sheet."""
        self._opened: dict[SheetBatch, OpenedJob] = {}
        self._refresher = Refresher(self._refresh, lambda: self.stopping.stop is not None)

    def batch(self, opened: OpenedJob, journal: Journal) -> SheetBatch:
        """A sheet that is open, and its journal, as the pool takes them."""
        job, rows = opened.job, opened.source.total
        log.info("journal opened", path=str(job.journal_path), number=journal.batch)
        if journal.path is not None:
            self._inbox.watch(journal.path, journal.batch)
        with log.of_batch(str(journal.batch)):
            log.info("batch began", input=job.input, rows=rows, task=job.task, service=self._chosen.name)
        worker = Worker(
            opened.job,
            service=self._service,
            journal=journal,
            poller=self._poller,
            stopping=self.stopping,
            terms=self._chosen.terms,
            chance=self._chance,
        )
        batch = SheetBatch(opened.source, journal, worker)
        self._opened[batch] = opened
        if journal.path is not None:
            self._refresher.add(batch)
        return batch

    async def _refresh(self, batch: SheetBatch, look: Callable[[], None]) -> None:
        with log.of_batch(str(batch.journal.batch)):
            await to_thread.run_sync(_refresh_output, self._opened[batch], batch, look)

    async def run(
        self,
        batches: AsyncIterator[SheetBatch],
        finish: Callable[[SheetBatch], Coroutine[Any, Any, None]],
        progress: Progress,
        end: EndInOrder | None = None,
    ) -> None:
        """Run all batches in one pool; `finish` is called for each, when its last row has ended."""
        pool = Pool(self._limits, self.stopping, progress, self._tally, finish, many=self._many)
        progress.begin(self._tally)
        large_turn.set(anyio.Lock())
        async with anyio.create_task_group() as around:
            around.start_soon(self._poller.drive)
            around.start_soon(self._refresher.drive)
            if end is not None and end.signals is not None:
                around.start_soon(self._obey, end, end.signals, progress)
            if end is not None and self.stopping.has_deadline:
                around.start_soon(self._hold_back, end)
            around.start_soon(self._adjust, pool, progress)
            await pool.run(batches, self._workers, self._job.canary)
            progress.end(self._tally)
            around.cancel_scope.cancel()

    async def _adjust(self, pool: Pool, progress: Progress) -> None:
        """Take up another concurrency as soon as somebody asks for one."""
        await self._inbox.has_any.wait()
        while True:
            for asked in self._inbox.take():
                workers, warning = limit_by_files(asked, open_files())
                moment = f"{datetime.now().astimezone():%H:%M:%S}"
                told = f"at {moment} --concurrency was changed from {self._limits.concurrency} to {workers}"
                self._adjusted += [told, warning] if warning else [told]
                pool.adjust(workers)
                progress.tell("; ".join(filter(None, (told, warning))))
            await anyio.sleep(LOOK)

    async def conclude(self, opened: OpenedJob, batch: SheetBatch) -> Summary:
        """Write the output of a batch from what its journal holds, and say what it came to."""
        with log.of_batch(str(batch.journal.batch)):
            await self._refresher.let_go(batch)
            await batch.journal.flush()
            stop = self._stop_of(batch)
            if self.stopping.stop is not None and (why := why_left(self._job)):
                await batch.journal.left_going(why)
            has_time = not self.stopping.is_hasty or (self._tally.total <= MOST_ROWS and batch.is_known)
            written = await _write_output(opened, batch) if has_time else None
            notes = (*self._adjusted, *advise(self._limits, self._schedule))
            summary = await _sum_up(opened, batch, stop, written, notes)
            return await self._report(summary, opened, batch) if written and opened.job.report else summary

    async def _report(self, summary: Summary, opened: OpenedJob, batch: SheetBatch) -> Summary:
        """Write the report of one sheet; where the night has one page for all, keep what that will say of it."""
        from batch_runner.report.html import batch_page, write_report

        what = (summary, batch.journal, opened.job, opened.source)
        if not self.one_report:
            return await to_thread.run_sync(write_report, *what)
        self.pages[opened.job.input] = await to_thread.run_sync(batch_page, *what)
        return msgspec.structs.replace(summary, report=opened.job.report)

    def _stop_of(self, batch: SheetBatch) -> Stop | None:
        """Why the batch stopped early. One that an interrupt, or another sheet's stop, took nothing from didn't."""
        stop, unfinished = self.stopping.stop, {NOT_STARTED, *GOING}
        if stop is None or not batch.is_placed or not (self._many or stop.exit_code in INTERRUPTS):
            return stop
        if stop.exit_code in INTERRUPTS:
            unfinished.add(UNKNOWN)
        return stop if any(count.status in unfinished for count in batch.journal.counts()) else None

    async def _hold_back(self, end: EndInOrder) -> None:
        """After the deadline nothing begins any more, not even what waits for its turn at a service of our own."""
        while not self.stopping.is_late():
            await anyio.sleep(DEADLINE_LOOK)
        end.wind_down()

    async def _obey(self, end: EndInOrder, signals: Signals, progress: Progress) -> None:
        """At the first signal start nothing more, and let what is in flight end soon."""
        code = await signals.first()
        progress.tell("stopping: waiting for what can end soon, then writing the output (again: leave at once)")
        self.stopping.now(Stop("interrupted; the same command goes on from here", code))
        end.wind_down()
        self._poller.hurry()


TOO_LARGE = (
    "the output wasn't written: a shutdown leaves no time for so many rows; "
    "the journal has it all, and the same command goes on and writes it. Rows it hadn't come to are not_started here"
)


async def _write_output(opened: OpenedJob, batch: SheetBatch) -> Written:
    """Write the output from what the journal holds."""
    note = partial(note_output, purpose_of(opened.job), opened.target.real, batch)
    job, source = opened.job, opened.source
    written = await to_thread.run_sync(
        put_output, job, source, batch.journal, lambda: marked(source, batch.outcomes()), opened.target, note,
        wrote_elsewhere(purpose_of(job)),
    )  # fmt: skip
    log.info("output written", path=str(written.path))
    return written


def _refresh_output(opened: OpenedJob, batch: SheetBatch, look: Callable[[], None]) -> None:
    """Write what the journal knows by now over the output; where that can't be done, the end of the batch will say."""
    job, source, purpose, path = opened.job, opened.source.beside(), purpose_of(opened.job), batch.journal.path
    assert path is not None

    def known() -> Iterator[Placed]:
        for placed in marked(source, now.rows()):
            look()
            yield placed

    note = partial(note_output, purpose, opened.target.real, batch)
    try:
        with outcomes_now(path, batch.journal.batch, source, info(opened), batch.journal.first, look) as now:
            is_new = refresh_output(job, source, batch.journal, known, opened.target, note, wrote_elsewhere(purpose))
    except BatchEnding:
        raise
    except Exception as error:  # noqa: BLE001  whatever breaks a refresh breaks no batch, which tells of it at its end
        log.warning(f"the output was not refreshed ({error or type(error).__name__}); the batch's end writes it")
        return
    if is_new:
        log.info("output refreshed", path=str(opened.target.path))


async def _sum_up(
    opened: OpenedJob, batch: SheetBatch, stop: Stop | None, written: Written | None, notes: tuple[str, ...]
) -> Summary:
    job, source, journal = opened.job, opened.source, batch.journal
    counts = sorted_counts(batch.counts())
    exit_code = exit_code_for(counts, stop.exit_code if stop else None)
    await journal.finish(exit_code, batch.sheets_left())
    all_new = [new] if (new := journal.all_new()) else []
    warnings = (*all_new, *filter(None, (journal.shared_keys() if job.key else None, journal.waiting())))
    seconds = time.monotonic() - opened.began
    words = ", ".join(f"{count.rows} {count.status}" for count in counts)
    log.info("batch ended", exit_code=exit_code, counts=words, carried=batch.carried, duration=seconds)
    groups = journal.failures(MOST_GROUPS)
    failed = sum(count.rows for count in counts if count.status in FAILED)
    since = journal.since()
    about = (*(source.first_notes if since is None else ()), *opened.notes)
    about_output = written.notes if written else (TOO_LARGE,)
    known = (*opened.memory.cautions, *batch.cautions)
    totals = await to_thread.run_sync(control_totals, source, batch.outcomes()) if written else ()
    differs = await to_thread.run_sync(differing, source, batch.outcomes(), job.locale) if written else ()
    with suppress(JournalFailed):  # all that counts is written; this only spares who looks later the counting
        await journal.tell(Told({count.status: count.rows for count in counts}, totals, differs).to_json())
    return Summary(
        exit_code=exit_code,
        input=job.input,
        output=str(written.path) if written else None,
        journal=str(job.journal_path),
        rows=source.total,
        counts=counts,
        carried=batch.carried,
        changed=batch.changed,
        failures=groups,
        more_failures=failed - sum(group.rows for group in groups if group.status in FAILED),
        stopped=_why(opened, stop) if stop else None,
        since=since if batch.is_known else None,
        parked=journal.held("parked"),
        duplicates=journal.held("duplicate"),
        taken=journal.taken(),
        unsettled=journal.unsettled(),
        notes=(*source.notes, *about, *known, *warnings, *source.warnings, *notes, *about_output),
        cautions=(
            *(source.sheet.cautions if since is None else ()),
            *(source.sheet.torn if since is None or since.new else ()),
            *known,
            *(all_new if opened.series == str(job.input_path.absolute()) else ()),  # a day's sheet may be all new
            *(each.note for each in opened.evidence),
            *(written.cautions if written else ()),
        ),
        seconds=seconds,
        service=opened.service.name,
        named=named_rows(journal.named),
        locale=job.locale,
        totals=totals,
        differing=differs,
    )


def _why(opened: OpenedJob, stop: Stop) -> str:
    """Why it stopped, and how it goes on where tomorrow the same command takes another sheet."""
    is_of_a_day = opened.series != str(opened.job.input_path.absolute())
    return f"{stop.why} (with --date {opened.job.date}: it is that day's sheet)" if is_of_a_day else stop.why


async def remember(opened: OpenedJob, journal: Journal) -> OpenedJob:
    """Let other batches of the task know of this journal; where that can't be, it is told once, as a caution."""
    index = index_of_user()
    problem = index.add(opened.job.journal_path, opened.memory.purpose)
    if problem is None:
        index.told_gone(opened.memory.gone)
    elif await journal.is_told_first():
        told = f"{problem}; until then a row that runs in another folder, too, isn't noticed there"
        log.warning(told)
        memory = msgspec.structs.replace(opened.memory, cautions=(*opened.memory.cautions, told))
        return msgspec.structs.replace(opened, memory=memory)
    return opened


def info(opened: OpenedJob) -> BatchInfo:
    """What the journal records of the batch."""
    found = info_of(opened.job, opened.source, opened.service, opened.series)
    return msgspec.structs.replace(found, command=opened.bounds.command)
