"""A job is opened, run, and summed up."""

from __future__ import annotations

import os
import random
import time
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
from anyio import from_thread, to_thread

from batch_runner import log
from batch_runner._version import __version__
from batch_runner.batch.limits import Limits, Pace, limit_by_files, open_files
from batch_runner.batch.poll_schedule import Schedule
from batch_runner.batch.poller import Poller
from batch_runner.batch.pool import Pool, SheetBatch
from batch_runner.batch.stop import Stop, Stopping
from batch_runner.batch.worker import Worker
from batch_runner.errors import ExitCode, JournalError, JournalFailed, UsageError, sole_error
from batch_runner.fs import AtomicFile
from batch_runner.journal.batches import BatchInfo
from batch_runner.journal.index import Purpose
from batch_runner.journal.journal import Journal
from batch_runner.journal.outputs import OutputIndex, lowest_runs
from batch_runner.journal.view import JournalView
from batch_runner.outcomes import FAILED, GOING, NOT_STARTED, UNKNOWN
from batch_runner.output.edits import put_output
from batch_runner.plan.plan import Policy
from batch_runner.progress import Progress, Tally
from batch_runner.report.summary import MOST_GROUPS, Summary, exit_code_for, sorted_counts
from batch_runner.report.totals import control_totals
from batch_runner.runner.adjust import LOOK, AdjustmentInbox
from batch_runner.runner.check import open_source, take_back
from batch_runner.runner.connect import ChosenService, choose_service, connect_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence

    from batch_runner.batch.worker import Terms
    from batch_runner.job.job import Job
    from batch_runner.journal.outputs import WrittenOutput
    from batch_runner.output.previous_output import Evidence
    from batch_runner.rows.source import Source
    from batch_runner.service.protocol import Service


class NightBudget:
    """One deadline, counted from when this is made, and one pace of starts, for batches that run one after another.

    `command` is the same for all of them where there are several: what they do is done in one night. It is that of the
    night which they go on with, if there is one.
    """

    def __init__(self, job: Job, command: str = "") -> None:
        self.command = command
        self._deadline = job.deadline_from(datetime.now().astimezone())
        self._began = time.monotonic()
        self.pace = Pace(job.start_rate)

    def past_deadline(self) -> Callable[[], bool] | None:
        """Asks both clocks whether the deadline has passed; None if there is none. Made where a batch begins."""
        deadline = self._deadline
        if deadline is None:
            return None
        began = anyio.current_time() - (time.monotonic() - self._began)
        return lambda: deadline.passed(datetime.now().astimezone(), anyio.current_time() - began)


MANY_REFUSED = 10
SHARE_REFUSED = 0.05
"""So many starts refused for coming too soon, and such a share of all, are worth a word."""
SHARE_UNNOTICED = 0.2
"""A batch that waited for polls for this share of its runs' time could have been that much faster."""


def advise(limits: Limits, schedule: Schedule) -> tuple[str, ...]:
    """A sentence for each option that could be set better."""
    found: list[str] = []
    if limits.settled is not None:
        found.append(
            f"the service took no more than {limits.settled} runs at once; --concurrency {limits.settled} says so"
        )
    if limits.too_soon >= max(MANY_REFUSED, SHARE_REFUSED * limits.turns):
        found.append(
            f"the service refused {limits.too_soon} of {limits.turns} starts because they came too fast (429); "
            "a --rate of what it allows avoids that"
        )
    if schedule.shortfall >= SHARE_UNNOTICED:
        found.append(
            f"all polls were used, so ended runs were noticed late ({schedule.shortfall:.0%} of the runs' time); "
            "where the service allows more, a higher --poll-rate makes this batch faster"
        )
    return tuple(found)


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
    evidence: tuple[Evidence, ...] = ()
    """Runs that only the output has."""


@contextmanager
def open_job(job: Job, series: str | None = None, bounds: NightBudget | None = None) -> Iterator[OpenedJob]:
    """Look at all that can be looked at before the first start. Raises `UsageError` and `SheetError`.

    The paths of the job are taken to the letter. `bounds` are those of the night that the batch is a part of.
    """
    began = time.monotonic()
    bounds = bounds or NightBudget(job)
    series = series or str(job.input_path.absolute())
    service = service_of(job)
    target = prepare_output(job)
    workers, warning = limit_by_files(job.concurrency, open_files())
    with open_source(job, target, service.inputs, purpose_of(job, service), target.real.absolute().parent) as (
        source,
        evidence,
    ):
        notes = tuple(note for note in (warning, _other_journal(job), *_warnings_of(evidence)) if note)
        yield OpenedJob(job, source, target, service, workers, notes, began, bounds, series, evidence)


def purpose_of(job: Job, service: ChosenService) -> Purpose:
    """What the job's journal is for."""
    return Purpose.of(_task_from_journal(job), service.name, job.journal_path.absolute().parent)


def _other_journal(job: Job) -> str | None:
    """A note where the sheet's own journal lies beside it, and this job, whose output is elsewhere, begins another."""
    own = msgspec.structs.replace(job, output=None, journal=None).journal_path
    if own == job.journal_path or job.journal_path.exists() or not own.is_file():
        return None
    try:
        with JournalView.open(own) as view:
            is_same_task = any(batch.task == job.task for batch in view.batches()[-1:])
    except JournalError:
        return None
    if not is_same_task:
        return None
    return (
        f"this task ran for this sheet before: {own} knows of it, the new {job.journal_path} does not, and every row "
        "is sent again; if that isn't what you want, name the other with --journal"
    )


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
    return AtomicFile.prepare(job.output_path, job.input_path)


async def run_batch(job: Job, progress: Progress | None = None) -> Summary:
    """Run a job to its end and say what it came to; silent unless `progress` shows something.

    Logs, heartbeat and notices are the program's: a library's user has their own (`logging.getLogger("batch_runner")`).

    The coroutine needs asyncio. Raises `BatchRunnerError` and `SheetError`; a row's failure is no error.
    """
    with open_job(job) as opened:
        return await execute(opened, progress or Progress(), interrupts=False)


def run_batch_blocking(job: Job, progress: Progress | None = None) -> Summary:
    """`run_batch` for programs without an event loop."""
    return anyio.run(run_batch, job, progress)


async def execute(
    opened: OpenedJob, progress: Progress, *, interrupts: bool, printed: Callable[[str], None] | None = None
) -> Summary:
    """Run an opened job on its own service and journal; with `interrupts`, Ctrl-C and SIGTERM end it in order.

    `printed` is told what tasks print in worker processes; without it, it goes to standard error.
    """
    with sole_error():
        async with (
            connect_service(opened.job, opened.service, printed) as reached,
            Journal.open(opened.job.journal_path, info(opened), opened.target.mode & 0o666) as journal,
        ):
            wind_down = reached.wind_down if interrupts else None
            return await run_opened(opened, reached.service, journal, progress, wind_down=wind_down)


async def run_opened(
    opened: OpenedJob,
    service: Service,
    journal: Journal,
    progress: Progress,
    *,
    wind_down: Callable[[], None] | None = None,
) -> Summary:
    """Run an opened job with this service and journal, write the output and sum up. Runs on any backend of anyio.

    With `wind_down`, Ctrl-C and SIGTERM end it in order; it is called at the first.
    """
    summaries: list[Summary] = []
    night = NightRun(opened.job, opened.service, service, opened.bounds, rows=opened.source.total)

    async def one() -> AsyncIterator[SheetBatch]:
        await take_back(opened.evidence, journal)
        yield night.batch(opened, journal)

    async def finish(batch: SheetBatch) -> None:
        summaries.append(await night.conclude(opened, batch))

    await night.run(one(), finish, progress, wind_down=wind_down)
    return summaries[0]


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
        self.stopping = Stopping(job.failure_limit, rows, bounds.past_deadline())
        self._inbox = AdjustmentInbox()
        self._adjusted: list[str] = []

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
        return SheetBatch(opened.source, journal, worker)

    async def run(
        self,
        batches: AsyncIterator[SheetBatch],
        finish: Callable[[SheetBatch], Coroutine[Any, Any, None]],
        progress: Progress,
        *,
        wind_down: Callable[[], None] | None,
    ) -> None:
        """Run all batches in one pool; `finish` is called for each, when its last row has ended."""
        pool = Pool(self._limits, self.stopping, progress, self._tally, finish, many=self._many)
        progress.begin(self._tally)
        async with anyio.create_task_group() as around:
            around.start_soon(self._poller.drive)
            if wind_down is not None:
                around.start_soon(_obey_signals, self.stopping, progress, [wind_down, self._poller.hurry])
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
        stop, unfinished = self.stopping.stop, {NOT_STARTED, *GOING}
        # Of several sheets, one that the stop took nothing from doesn't speak of it.
        if self._many and stop and not any(count.status in unfinished for count in batch.journal.counts()):
            stop = None
        with log.of_batch(str(batch.journal.batch)):
            return await _conclude(opened, batch, stop, (*self._adjusted, *advise(self._limits, self._schedule)))


async def _conclude(opened: OpenedJob, batch: SheetBatch, stop: Stop | None, notes: tuple[str, ...]) -> Summary:
    job, source, journal = opened.job, opened.source, batch.journal
    await journal.flush()
    written = await to_thread.run_sync(put_output, job, source, opened.target, journal, partial(_note, opened, journal))
    log.info("output written", path=str(written.path))
    counts = sorted_counts(journal.counts())
    exit_code = exit_code_for(counts, stop.exit_code if stop else None)
    await journal.finish(exit_code)
    warnings = [warning for warning in (journal.all_new(), journal.shared_keys() if job.key else None) if warning]
    seconds = time.monotonic() - opened.began
    words = ", ".join(f"{count.rows} {count.status}" for count in counts)
    log.info("batch ended", exit_code=exit_code, counts=words, carried=batch.carried, duration=seconds)
    groups = journal.failures(MOST_GROUPS)
    failed = sum(count.rows for count in counts if count.status in FAILED)
    since = journal.since()
    summary = Summary(
        exit_code=exit_code,
        input=job.input,
        output=str(written.path),
        journal=str(job.journal_path),
        rows=source.total,
        counts=counts,
        carried=batch.carried,
        changed=batch.changed,
        failures=groups,
        more_failures=failed - sum(group.rows for group in groups if group.status != UNKNOWN),
        stopped=_why(opened, stop) if stop else None,
        since=since,
        parked=journal.held("parked"),
        duplicates=journal.held("duplicate"),
        taken=journal.taken(),
        unsettled=journal.unsettled(),
        notes=(*source.notes, *opened.notes, *warnings, *source.warnings, *notes, *written.notes),
        cautions=(*(source.sheet.cautions if since is None else ()), *_warnings_of(opened.evidence), *written.cautions),
        seconds=seconds,
        totals=await to_thread.run_sync(control_totals, source, journal.outcomes()),
    )
    return await to_thread.run_sync(_report, opened, journal, summary)


def _why(opened: OpenedJob, stop: Stop) -> str:
    """Why it stopped, and how it goes on where tomorrow the same command takes another sheet."""
    is_of_a_day = opened.series != str(opened.job.input_path.absolute())
    return f"{stop.why} (with --date {opened.job.date}: it is that day's sheet)" if is_of_a_day else stop.why


def _report(opened: OpenedJob, journal: Journal, summary: Summary) -> Summary:
    """Write the report, if one was asked for."""
    path = opened.job.report_path
    if path is None:
        return summary
    from batch_runner.report.html import write_report

    return write_report(summary, path, journal, like=opened.job.input_path, sheet=opened.source.sheet.name)


def info(opened: OpenedJob) -> BatchInfo:
    """What the journal records of the batch."""
    found = info_of(opened.job, opened.source, opened.service, opened.series)
    return msgspec.structs.replace(found, command=opened.bounds.command)


def info_of(job: Job, source: Source, service: ChosenService | None, series: str) -> BatchInfo:
    """As `info`, for a job that isn't opened to be run."""
    return BatchInfo(
        input=str(job.input_path.absolute()),
        input_sha256=source.sheet.fingerprint,
        output=str(job.output_path.absolute()),
        task=_task_from_journal(job),
        service=service.name if service else job.service,
        key_columns=tuple(sorted(set(job.key))),
        policy=policy_of(job, service.terms if service else None),
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
        unique=tuple(sorted(set(job.unique))),
        conflict=tuple(sorted(set(job.unique_conflict))),
        allow_duplicates=job.allow_duplicates,
    )


def _task_from_journal(job: Job) -> str:
    """The task as the journal knows it: a file of tasks by its way from the journal, from wherever it is called."""
    file, colon, function = job.task.rpartition(".py:")
    if not colon:
        return job.task
    return os.path.relpath(file, job.journal_path.parent) + colon + function


def _warnings_of(evidence: Sequence[Evidence]) -> tuple[str, ...]:
    return tuple(each.note for each in evidence)


def _note(opened: OpenedJob, journal: Journal, written: WrittenOutput) -> None:
    """Remember an output that is about to take its place. Where that can't be done, it will look like an edited one."""
    with suppress(JournalFailed):
        from_thread.run(journal.note_output, written)
    with suppress(OSError):
        runs = lowest_runs(placed.run_id for placed in journal.outcomes() if placed.run_id)
        purpose = purpose_of(opened.job, opened.service)
        OutputIndex(os.environ).add(opened.target.real, purpose, written.sha256, runs)


async def _obey_signals(stopping: Stopping, progress: Progress, first: Sequence[Callable[[], None]]) -> None:
    """First Ctrl-C or SIGTERM: start nothing more, and do these. Second: leave at once; the journal has it all."""
    import signal

    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            code = ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.TERMINATED
            if stopping.is_interrupted:
                os._exit(code)
            progress.tell("stopping: waiting for what can end soon, then writing the output (again: leave at once)")
            stopping.now(Stop("interrupted; the same command goes on from here", code))
            for step in first:
                step()
