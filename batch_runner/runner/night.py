"""A night: one job, its inputs, one batch for each."""

from __future__ import annotations

import tempfile
from collections import Counter
from contextlib import AsyncExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import msgspec
from anyio import to_thread

from batch_runner.batch.stop import NightBudget, Stop
from batch_runner.errors import (
    BatchRunnerError,
    ExitCode,
    Findings,
    JournalBusy,
    JournalError,
    SheetError,
    UsageError,
    sole_error,
    worst,
)
from batch_runner.fs import AtomicFile, have_temporary_folder
from batch_runner.journal.batches import Turn, command_gone_on_with, real_path
from batch_runner.journal.index import StartsOfTonight
from batch_runner.journal.journal import JournalFile
from batch_runner.journal.view import JournalView
from batch_runner.report.summary import Counts, Summary, named_rows, number_of, plan_words
from batch_runner.runner.adjust import told_ahead
from batch_runner.runner.check import count_plan, open_source, preview, take_back
from batch_runner.runner.connect import choose_service, connect_service, purpose_of, run_and_leave
from batch_runner.runner.memory import (
    info_of,
    is_held,
    know_keys,
    look_at_journal,
    place_journals,
    policy_of,
    recall,
    rehearse,
)
from batch_runner.runner.run import (
    EndInOrder,
    NightRun,
    execute,
    info,
    open_job,
    prepare_output,
    remember,
    service_of,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from batch_runner.batch.pool import SheetBatch
    from batch_runner.batch.stop import Signals
    from batch_runner.job.inputs import NightJob, SheetJob
    from batch_runner.job.job import Job
    from batch_runner.journal.journal import Journal
    from batch_runner.output.previous_output import Evidence
    from batch_runner.plan.plan import Step
    from batch_runner.progress import Progress
    from batch_runner.rows.params import RowParams
    from batch_runner.rows.source import Source
    from batch_runner.runner.check import Preview
    from batch_runner.runner.connect import ChosenService
    from batch_runner.runner.run import OpenedJob


NOT_REACHED = "the night ended before its turn; the same command goes on with it"


class NotRun(msgspec.Struct, frozen=True):
    """An input whose batch was not begun, or ended without a summary, and why."""

    input: str
    why: str


class NightSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a night came to: the summaries of its batches, and the inputs that have none.

    `many`: the input is a pattern, however many files it matches. `missing` says why there was nothing to run. `bug` is
    what nobody foresaw; it ended the night, and is to be raised when all this has been told.
    """

    exit_code: ExitCode
    batches: tuple[Summary, ...]
    not_run: tuple[NotRun, ...]
    missing: str | None
    many: bool
    bug: Exception | None = None

    @classmethod
    def without_batch(cls, exit_code: ExitCode, source: str, why: str) -> NightSummary:
        """The night of a command that ended before its batches, or without a word of them."""
        return cls(exit_code=exit_code, batches=(), not_run=(NotRun(source, why),), missing=None, many=False)

    @property
    def is_well(self) -> bool:
        """Whether there is nothing that a person has to look at."""
        return self.exit_code == ExitCode.OK and all(summary.is_well for summary in self.batches)

    def to_json(self) -> str:
        """One JSON object, on one line: the only batch's own, unless the input is a pattern or nothing was there."""
        if not self.many and self.batches:
            return self.batches[0].to_json()
        fields = {
            "exit_code": self.exit_code,
            "batches": [msgspec.Raw(summary.to_json().encode()) for summary in self.batches],
            "not_run": self.not_run,
            "missing": self.missing,
        }
        return msgspec.json.encode(fields).decode()

    def to_text(self) -> str:
        """The summary of each batch, and a line over all where there are several."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        if self.missing is not None:
            yield f"nothing to do: {self.missing}"
        yield from (summary.to_text() for summary in self.batches)
        yield from (f"{not_run.input}: not run: {not_run.why}" for not_run in self.not_run)
        if len(self.batches) + len(self.not_run) > 1:
            rows = sum(summary.rows for summary in self.batches)
            success = sum(summary.count("success") for summary in self.batches)
            sheets = number_of(len(self.batches) + len(self.not_run), "sheet")
            left = f", {len(self.not_run)} not run" if self.not_run else ""
            yield f"{sheets}{left}: {number_of(rows, 'row')}, {success} success, {rows - success} other"


class _End(msgspec.Struct, frozen=True):
    """How one batch ended: with a summary, or with why there is none."""

    code: ExitCode
    summary: Summary | None = None
    why: str = ""
    bug: Exception | None = None


def run_night(plan: NightJob, progress: Progress, signals: Signals | None = None) -> NightSummary:
    """Run the batches of a plan, those of a pattern in one pool. The first of the `signals` ends them in order.

    Raises `UsageError` and `SheetError` for what is found wrong while nothing has been sent, and what a batch raises
    whose input is no pattern.
    """
    plan = place_journals(plan)
    if plan.many:
        rows = look_over(plan)
        if not plan.batches:
            return NightSummary(exit_code=ExitCode.OK, batches=(), not_run=(), missing=plan.missing, many=True)
        bounds = NightBudget(plan.job, _command(plan))
        with _plan_told(plan, bounds, progress, signals), sole_error():
            return run_and_leave(_Sheets(plan, bounds, progress, rows, signals).run, signals)
    bounds = NightBudget(plan.job)
    with _plan_told(plan, bounds, progress, signals):
        summaries = tuple(_run(planned, bounds, progress, signals) for planned in plan.batches)
    code = ExitCode(summaries[0].exit_code) if summaries else ExitCode.OK
    return NightSummary(exit_code=code, batches=summaries, not_run=(), missing=plan.missing, many=False)


def look_over(plan: NightJob) -> int:
    """Open every sheet of a pattern and let it go again; gives how many rows take part in all of them.

    Raises `UsageError` that names all that can't be used.
    """
    rows = 0
    if not plan.batches:
        return rows
    service_of(plan.batches[0].job)
    findings = Findings()
    for planned in plan.batches:
        with findings.look(), name_input(planned.job), open_job(planned) as opened:
            look_at_journal(planned.job.journal_path)
            rows += opened.source.total
    findings.tell()
    return rows


def _command(plan: NightJob) -> str:
    """The word that the batches of this night have in common; that of a night which was stopped, if it goes on here.

    Sheets with journals of their own know by it that they had their turn in that night.
    """
    if not plan.batches:
        return ""
    policy, turns = policy_of(plan.job, service_of(plan.job).terms), list[Turn]()
    for path in {planned.job.journal_path for planned in plan.batches if planned.job.journal_path.exists()}:
        with JournalView.open(path) as journal:
            turns += journal.turns(policy)
    return command_gone_on_with(turns, [planned.series for planned in plan.batches], policy) or uuid4().hex


@contextmanager
def name_input(job: Job) -> Iterator[None]:
    """Let each sentence that is raised in here name the input, since there are others."""
    try:
        yield
    except (UsageError, SheetError) as error:
        lines = str(error).splitlines()
        named = (line if line.startswith(job.input) else f"{job.input}: {line}" for line in lines)
        raise UsageError("\n".join(named)) from None


class _Sheets:
    """The sheets of a night, run in one pool: each is opened at its turn, and ends with a summary or a reason."""

    def __init__(
        self, plan: NightJob, bounds: NightBudget, progress: Progress, rows: int, signals: Signals | None
    ) -> None:
        self._plan = plan
        self._signals = signals
        self._bounds = bounds
        self._progress = progress
        self._rows = rows
        self._uses = Counter(planned.job.journal_path for planned in plan.batches)
        self._files: dict[Path, tuple[JournalFile, AsyncExitStack]] = {}
        self._opened: dict[SheetBatch, tuple[int, OpenedJob, AsyncExitStack]] = {}
        self._ends: dict[int, _End] = {}
        self._begun: set[str] = set()
        self._tonight = StartsOfTonight() if len(self._uses) > 1 else None

    def _sheets_left(self) -> list[str]:
        return [planned.series for planned in self._plan.batches if planned.series not in self._begun]

    async def run(self, done: Callable[[NightSummary], None]) -> None:
        """Run them all; what is wrong with one sheet or journal alone leaves the others their turn.

        `done` is told what they came to when only their service is still to be left.
        """
        job = self._plan.job
        chosen = service_of(self._plan.batches[0].job)
        async with connect_service(job, chosen, self._progress.printed) as reached:
            night = self._night = NightRun(job, chosen, reached.service, self._bounds, rows=self._rows, many=True)
            end = EndInOrder(self._signals, reached.wind_down)
            await night.run(self._batches(), self._finish, self._progress, end)
            done(self._sum_up(night))

    def _sum_up(self, night: NightRun) -> NightSummary:
        sheets, stop = self._plan.batches, night.stopping.stop
        left = [n for n in range(len(sheets)) if n not in self._ends]
        ends = [self._ends.get(n, _End(ExitCode.OK, why=NOT_REACHED)) for n in range(len(sheets))]
        ended = zip(sheets, ends, strict=True)
        not_run = tuple(NotRun(sheet.job.input, end.why) for sheet, end in ended if not end.summary)
        return NightSummary(
            exit_code=worst([*(end.code for end in ends), *([stop.exit_code] if stop and left else [])]),
            batches=self._report(night, [end.summary for end in ends if end.summary], not_run),
            not_run=not_run,
            missing=self._plan.missing,
            many=True,
            bug=next((end.bug for end in ends if end.bug), None),
        )

    def _report(
        self, night: NightRun, summaries: Sequence[Summary], not_run: tuple[NotRun, ...]
    ) -> tuple[Summary, ...]:
        """Write the one page of a night, if there is to be one; gives the summaries, which say where that wasn't so."""
        if not (night.one_report and night.pages):
            return tuple(summaries)
        from batch_runner.report.html import NightPage, with_report, write_page

        job = next(planned.job for planned in self._plan.batches if planned.job.input in night.pages)
        assert job.report_path is not None
        pages = tuple(night.pages[each.input] for each in summaries if each.input in night.pages)
        told = NightPage(self._plan.job.input, pages, tuple((one.input, one.why) for one in not_run))
        written = write_page(told, job.report_path, job.input_path, job.locale)
        return tuple(with_report(each, written) if each.report else each for each in summaries)

    async def _batches(self) -> AsyncIterator[SheetBatch]:
        for number, planned in enumerate(self._plan.batches):
            if self._night.stopping.is_stopped():
                return
            try:
                yield await self._open(number, planned)
            except (UsageError, SheetError, JournalError) as error:
                self._ends[number] = _End(ExitCode.STOPPED, why=str(error))
            except JournalBusy as error:
                self._ends[number] = _End(ExitCode.JOURNAL_BUSY, why=str(error))
            except Exception as error:  # noqa: BLE001  the sheets that are open end in order before it is told
                self._ends[number] = end = _end_of(None, error)
                self._night.stopping.now(Stop(end.why, end.code))

    async def _open(self, number: int, planned: SheetJob) -> SheetBatch:
        async with AsyncExitStack() as stack:
            opening = open_job(planned, self._bounds)
            opened = await to_thread.run_sync(stack.enter_context, opening)
            file = await self._file(opened)
            stack.push_async_callback(self._let_go, opened.job.journal_path)
            others = opened.memory.others.beside(self._tonight, opened.job.journal_path)
            journal = await file.begin(info(opened), others)
            opened = await remember(opened, journal)
            await take_back(opened.evidence, journal)
            batch = self._night.batch(opened, journal)
            batch.sheets_left = self._sheets_left
            self._begun.add(planned.series)
            self._opened[batch] = (number, opened, stack.pop_all())
            return batch

    async def _file(self, opened: OpenedJob) -> JournalFile:
        path = opened.job.journal_path
        if path not in self._files:
            stack = AsyncExitStack()
            file = await stack.enter_async_context(JournalFile.open(path, opened.target.mode & 0o666))
            self._files[path] = (file, stack)
        return self._files[path][0]

    async def _let_go(self, path: Path) -> None:
        """Close a journal with the last sheet that has it."""
        self._uses[path] -= 1
        if not self._uses[path]:
            await self._files.pop(path)[1].aclose()

    async def _finish(self, batch: SheetBatch) -> None:
        number, opened, stack = self._opened.pop(batch)
        async with stack:
            try:
                summary = None if batch.error else await self._night.conclude(opened, batch)
            except Exception as error:  # noqa: BLE001  the others' summaries are told first, then it is raised
                batch.error, summary = error, None
            self._ends[number] = _end_of(summary, batch.error)
            if self._ends[number].code == ExitCode.BUG:
                self._night.stopping.now(Stop(self._ends[number].why, ExitCode.BUG))


def _end_of(summary: Summary | None, error: Exception | None) -> _End:
    if isinstance(error, BatchRunnerError):
        return _End(error.exit_code, why=str(error))
    if error is not None:
        return _End(ExitCode.BUG, why=f"a bug of batch-runner ({type(error).__name__})", bug=error)
    assert summary is not None
    return _End(ExitCode(summary.exit_code), summary)


def _run(planned: SheetJob, bounds: NightBudget, progress: Progress, signals: Signals | None) -> Summary:
    with open_job(planned, bounds) as opened:

        async def batch(done: Callable[[Summary], None]) -> None:
            await execute(opened, progress, done, signals=signals, printed=progress.printed)

        return run_and_leave(batch, signals)


def _plan_told(
    plan: NightJob, bounds: NightBudget, progress: Progress, signals: Signals | None
) -> AbstractContextManager[None]:
    """Say first what the night is about to do with all rows, and why: while the block runs, if that takes longer."""
    if not plan.batches:
        return nullcontext()
    service_of(plan.batches[0].job)  # a file of tasks is executed once, before another thread asks for it, too

    async def count(is_ready: Callable[[], None], look: Callable[[], None]) -> None:
        counted, named = Counter[str](), Counter[tuple[str, str]]()
        free = [planned for planned in plan.batches if not is_held(planned.job.journal_path)]
        if not free:  # each of them is turned away at once, so its plan would be none
            return
        async with AsyncExitStack() as stack:
            rehearsal = Rehearsal(stack, bounds.command)
            await rehearsal.copy_journals(plan)
            is_ready()
            for planned in free:
                rows, why = await rehearsal.count(planned, look)
                counted, named = counted + rows, named + why
        if not counted.keys() - {"carried_over", "parked", "unknown"}:  # the summary says of these what there is to say
            return
        of = f"{plan.job.input}: {number_of(len(plan.batches), 'sheet')}" if plan.many else plan.batches[0].job.input
        sentence = f"{of}: {plan_words(Counts(**counted), named_rows(named))}"
        (progress.plan if counted.keys() == {"start"} else progress.tell)(sentence)

    return told_ahead(plan.job.input, count, progress.tell, lambda: signals is not None and signals.is_heard)


class Rehearsal:
    """A night that is gone over without sending: what its journals know, and what it would record, stays in a copy.

    `seen` is told each row with its step.
    """

    def __init__(
        self, stack: AsyncExitStack, command: str, seen: Callable[[Step, RowParams], None] = lambda _step, _row: None
    ) -> None:
        self._stack = stack
        self._command = command
        self._tonight = StartsOfTonight() if command else None
        self._seen = seen
        self._files: dict[Path | None, JournalFile] = {}

    async def page(self, planned: SheetJob) -> Preview:
        """One sheet's page. Raises all that is wrong with it, and with what the job says of it."""
        job, findings = planned.job, Findings()
        pages: list[Preview] = []
        service: ChosenService | None = None
        target: AtomicFile | None = None
        have_temporary_folder(job.output_path.absolute().parent)
        with findings.look():
            target = prepare_output(job)
        with findings.look():
            look_at_journal(job.journal_path)
        if job.task:
            with findings.look():
                service = choose_service(job)
        inputs, purpose = (service.inputs, purpose_of(job)) if service else (None, None)
        opening = open_source(job, target, inputs, purpose, Path(tempfile.gettempdir()))
        with findings.look(), opening as (source, evidence):
            if not findings.has_any:  # else there is no plan to tell, and a large sheet takes a while
                journal, told, is_first = await self._begin(planned, source, service, evidence)
                pages += [await preview(job, source, journal, evidence, told, self._seen, is_first=is_first)]
        findings.tell()
        return pages[0]

    async def copy_journals(self, plan: NightJob) -> None:
        """Copy all journals of a night as they are now: its batches are about to begin."""
        for path in dict.fromkeys(planned.job.journal_path for planned in plan.batches):
            await self._file(path)

    async def count(self, planned: SheetJob, look: Callable[[], None]) -> tuple[Counter[str], Counter[tuple[str, str]]]:
        """Of one sheet's page, what would be done with how many rows, and why. Raises as `page`."""
        job, service = planned.job, service_of(planned.job)
        target = AtomicFile(job.output_path, real_path(job.output_path), 0o600)
        opening = open_source(job, target, service.inputs, purpose_of(job), Path(tempfile.gettempdir()))
        with opening as (source, evidence):
            journal, _, is_first = await self._begin(planned, source, service, evidence)
            return await count_plan(source, journal, evidence, look, is_first=is_first)

    async def _begin(
        self, planned: SheetJob, source: Source, service: ChosenService | None, evidence: tuple[Evidence, ...]
    ) -> tuple[Journal, tuple[str, ...], bool]:
        """A batch in the copy of its journal, notes on its memory, and whether nothing can have to do with its rows."""
        job = planned.job
        is_alone = not (self._command or job.unique or evidence)
        batch = msgspec.structs.replace(info_of(job, source, service, planned.series), command=self._command)
        if service is None:  # no task, so nothing was ever sent for it
            return await (await self._file(None)).begin(batch), (), is_alone
        look_at_journal(job.journal_path, batch)
        memory = know_keys(recall(job, service), job, source)
        others = memory.others.beside(self._tonight, job.journal_path)
        journal = await (await self._file(job.journal_path)).begin(batch, others)
        is_first = is_alone and not (memory.others.is_any or journal.has_sent_before)
        return journal, (*planned.notes, *memory.cautions), is_first

    async def _file(self, path: Path | None) -> JournalFile:
        if path not in self._files:
            self._files[path] = await self._stack.enter_async_context(rehearse(path))
        return self._files[path]
