"""Everything short of sending: what `check` shows."""

from __future__ import annotations

import os
from array import array
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from decimal import Decimal  # noqa: TC003  msgspec reads the annotation
from functools import partial
from itertools import chain, islice
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING

import msgspec
from anyio import from_thread

from batch_runner.errors import ExitCode, JournalError, JournalFailed
from batch_runner.job.job import Job
from batch_runner.job.options import as_named
from batch_runner.journal.outputs import OutputIndex, lowest_runs
from batch_runner.journal.view import JournalView, Placed
from batch_runner.outcomes import NOT_STARTED
from batch_runner.output.previous_output import KnownOutputs, headers_of, look_at_outputs, runs_of
from batch_runner.plan.plan import Refuse, Send, counted_as
from batch_runner.progress import Forecast
from batch_runner.report.summary import Counts, NamedRows, duration_of, named_rows, plan_words
from batch_runner.report.totals import PLAIN, control_totals, writing_of
from batch_runner.rows.keys import MOST_COMPARED, NearDuplicates
from batch_runner.rows.source import CHUNK, Source, chunks, look_ahead, plan_rows
from batch_runner.rows.task_inputs import TEXT
from batch_runner.sheet.model import RowKind, row_list
from batch_runner.sheet.snapshot import scratch_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

    from batch_runner.batch.pool import SheetBatch
    from batch_runner.fs import AtomicFile
    from batch_runner.journal.index import Purpose
    from batch_runner.journal.journal import Journal
    from batch_runner.journal.outputs import WrittenOutput
    from batch_runner.output.previous_output import Evidence
    from batch_runner.plan.plan import Step
    from batch_runner.report.totals import ColumnTotals
    from batch_runner.rows.params import RowParams
    from batch_runner.rows.task_inputs import TaskInputs
    from batch_runner.sheet.model import Sheet


FIRST_ROWS, MOST_SENTENCES = 3, 20
MOST_SUSPECTS = 1_000
"""Numbers of suspect rows that a page for a person has."""
MOST_TIMES = 200
"""Runs whose times say how long the next ones may take."""


class Sample(msgspec.Struct, frozen=True):
    """What one row would send."""

    row: int
    params: dict[str, str]


class Taken(msgspec.Struct, frozen=True):
    """What a task takes: as which param (None: nothing is sent for it), of which kind, and what may be left out.

    `default` is what holds for an empty cell, where the task says so and it can be written.
    """

    name: str
    param: str | None
    kind: str
    choices: tuple[str, ...]
    required: bool
    default: str | None

    def __str__(self) -> str:
        if self.param is None:
            return f"{self.name} (not sent{f': {self.default}' if self.default else ''})"
        what = () if self.kind == TEXT.noun else (self.kind,)
        empty = f"{self.default} if empty" if self.default else "may be empty"
        words = "; ".join((*what, *(() if self.required else (empty,))))
        return f"{self.param} ({words})" if words else self.param


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """How the sheet was understood, and what would be sent.

    `takes` is what the task says that it takes, `unused` the params that it does nothing with; both are empty where it
    says nothing. `kinds` counts the sheet's rows by what they are, up to `last_row`, and `suspects` are the numbers of
    those that look like none of the list. `plan` counts what a batch would do now, and `named` says of rows that are
    held, carried over and retried why; `first` are the first rows that it would start, `last` is the last one if it
    isn't among them. `refused` and `warnings` are the first sentences of each; `refused_rows` counts all rows that
    could not be sent, held ones too. `total_rows` compares the sheet's own totals with its rows: a sentence each.
    `deadline` says when a batch that began now would stop starting.
    """

    input: str
    input_sha256: str
    sheet: str | None
    header_row: int
    columns: tuple[str, ...]
    params: tuple[str, ...]
    earlier_output: bool
    task: str
    service: str
    dask: str | None = None
    key: tuple[str, ...]
    output: str
    journal: str
    rows: int
    plan: Counts
    totals: tuple[PlannedTotal, ...]
    total_rows: tuple[str, ...]
    refused_rows: int
    kinds: dict[str, int]
    last_row: int
    first: tuple[Sample, ...]
    last: Sample | None
    suspects: tuple[int, ...]
    refused: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    named: tuple[NamedRows, ...] = ()
    takes: tuple[Taken, ...] = ()
    unused: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    """Rows that are almost the same: for a person to look at."""
    deadline: str | None = None
    locale: str | None = None
    likely_key: tuple[str, ...] = ()
    """Without a key: the columns that look like each row's own number."""

    @property
    def exit_code(self) -> ExitCode:
        """0 where every row could be sent, else 3."""
        return ExitCode.SOME_FAILED if self.refused_rows else ExitCode.OK

    def to_json(self) -> str:
        """One JSON object, on one line."""
        return msgspec.json.encode(self).decode()

    def to_text(self) -> str:
        """A page for a person."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        sheet = f", sheet {self.sheet!r}" if self.sheet else ""
        headers = f"headers in row {self.header_row}" if self.header_row else "no headers"
        yield f"{self.input}{sheet}: {headers}, rows that take part: {self.rows}"
        counted = ", ".join(f"{count} {kind}" for kind, count in self.kinds.items())
        yield f"  rows:    {counted}: {self.last_row} in all"
        if self.suspects:
            yield f"  suspect: {row_list(self.suspects, MOST_SUSPECTS)}"
        yield f"  columns: {', '.join(map(as_named, self.columns))}"
        if self.earlier_output:
            yield "  and an earlier output's columns, which are refreshed and never sent"
        yield f"  params:  {', '.join(map(as_named, self.params))}"
        cluster = "Dask on this machine" if self.dask == "local" else f"the Dask cluster {self.dask}"
        yield f"  task:    {self.task or '(none yet: say --task)'} on {cluster if self.dask else self.service}"
        if self.takes:
            yield f"  takes:   {', '.join(map(str, self.takes))}"
        if self.unused:
            yield f"  unused:  {', '.join(self.unused)}"
        yield f"  key:     {', '.join(map(as_named, self.key)) or 'all params'}"
        yield f"  output:  {self.output}"
        yield f"  journal: {self.journal if self.task else 'not known until a task is named'}"
        if self.deadline:
            yield f"  until:   {self.deadline}"
        yield f"  plan:    {plan_words(self.plan, self.named) if self.task else 'not known until a task is named'}"
        write = (writing_of(self.locale) or PLAIN).amount
        yield from (f"  total:   {total}" for total in (*(one.told(write) for one in self.totals), *self.total_rows))
        yield from (f"  note:    {note}" for note in self.notes)
        samples = [*self.first, *([self.last] if self.last else [])]
        yield from _block(
            "the first rows and the last one, as they would be sent",
            [f"row {sample.row}: {msgspec.json.encode(sample.params).decode()}" for sample in samples],
        )
        yield from _block(f"refused: {self.refused_rows} of {self.rows} rows", self.refused)
        yield from _block("worth a look", self.warnings)
        yield from _block("hints: almost the same", self.hints)


async def preview(
    job: Job,
    source: Source,
    journal: Journal,
    evidence: Sequence[Evidence] = (),
    told: Sequence[str] = (),
    seen: Callable[[Step, RowParams], None] = lambda _step, _row: None,
    *,
    is_first: bool = False,
) -> Preview:
    """Read the whole sheet as a batch would, place its rows in a journal that nobody keeps, and send nothing.

    `told` are notes about its journals; `seen` is told each row with its step. `is_first` is as in `planned_rows`.
    """
    planned, kinds = _Planned(seen), _Kinds(source.sheet)
    await take_back(evidence, journal)
    unclaimed = await look_ahead(source, journal)
    async for chunk in planned_rows(source, journal, is_first=is_first):
        for step, row in chunk:
            planned.add(step, row)
    totals, write = control_totals(source, planned.outcomes()), (writing_of(job.locale) or PLAIN).amount
    notes = (*told, *source.notes, *source.first_notes, *source.sheet.describe_formats(), *unclaimed)
    news = (journal.all_new() if planned.counted else None, journal.waiting(), *(each.note for each in evidence))
    return Preview(
        input=job.input,
        input_sha256=source.sheet.fingerprint,
        deadline=_deadline_of(job),
        locale=job.locale,
        sheet=source.sheet.name,
        header_row=source.sheet.header_row,
        columns=tuple(column.name for column in source.layout.own),
        params=source.template.names,
        earlier_output=source.layout.is_earlier_output,
        task=job.task,
        service=job.service,
        dask=job.dask,
        key=job.key,
        output=str(job.output_path),
        journal=str(job.journal_path),
        rows=sum(planned.counted.values()),
        plan=Counts(**planned.counted),
        totals=tuple(_planned_totals(totals)),
        total_rows=tuple(f"{column.column}: {line}" for column in totals for line in column.compared(write)),
        refused_rows=planned.refused_rows,
        kinds=dict(kinds.counted),
        last_row=kinds.last,
        first=tuple(planned.first),
        last=planned.last if planned.last not in planned.first else None,
        suspects=tuple(kinds.suspects),
        refused=tuple(planned.refused),
        warnings=source.warnings,
        named=named_rows(journal.named),
        likely_key=source.likely_key,
        hints=_near_duplicates(source),
        notes=(*notes, *filter(None, news)),
        takes=tuple(_taken(source)),
        unused=source.template.fit.unused if source.template.fit else (),
    )


async def planned_rows(
    source: Source, journal: Journal, *, is_first: bool
) -> AsyncIterator[list[tuple[Step, RowParams]]]:
    """What a batch would do with each row that takes part.

    `is_first`: nothing ran that could have to do with a row, so each is started or refused, whatever its key.
    """
    if not is_first:
        async for planned in plan_rows(source, journal):
            yield planned
        return
    for chunk in chunks((row for row in source.places(is_keyed=False) if row.takes_part), CHUNK):
        steps = (Send(r.row_number, 0, b"") if r.refusal is None else Refuse(r.row_number, r.refusal) for r in chunk)
        yield list(zip(steps, chunk, strict=True))


async def count_plan(
    source: Source, journal: Journal, evidence: Sequence[Evidence], look: Callable[[], None], *, is_first: bool
) -> tuple[Counter[str], Counter[tuple[str, str]]]:
    """Of `preview`, only how many rows a batch does what with, and why; `look` is called on the way, and may raise."""
    counted: Counter[str] = Counter()
    await take_back(evidence, journal)
    await look_ahead(source, journal, look=look)
    async for chunk in planned_rows(source, journal, is_first=is_first):
        look()
        counted.update(name for step, _row in chunk if (name := counted_as(step)))
    return counted, Counter(journal.named)


def _deadline_of(job: Job) -> str | None:
    """When a batch that began now would stop starting, in words."""
    deadline = job.deadline_from(datetime.now().astimezone())
    if deadline is None:
        return None
    if deadline.seconds <= 0:
        return f"{deadline}, which has passed: a batch that begins now starts nothing (5)"
    return f"{deadline}, in {duration_of(deadline.seconds)}"


def estimate_of(plan: Preview, concurrency: int | None) -> str:
    """How long its starts may take, as a range, where the runs of the task before say so; else nothing."""
    starts = plan.plan.start + plan.plan.retried
    times: list[float] = []
    if starts:
        with suppress(JournalError), JournalView.open(Path(plan.journal)) as view:
            times = view.run_times(MOST_TIMES)
    took = max(mean(times), 0.01) if times else 1.0
    at_once = min(concurrency or Job(input=plan.input).concurrency, starts)
    left = Forecast.range_of(len(times), starts, at_once / took) if at_once else None
    if left is None:
        return ""
    words = f"about {duration_of(left[0])} to {duration_of(left[1])}" if left[1] > 2 else "a few seconds"
    return f"{words}: the last {len(times)} runs took {duration_of(took)} each"


def _near_duplicates(source: Source) -> tuple[str, ...]:
    """The first pairs of rows that are almost the same, a sentence each."""
    near = NearDuplicates(source.layout.own)
    for row in islice(source.chosen(), MOST_COMPARED):
        near.add(row.number, row.texts)
    more = [f"and {len(near.hints) - MOST_SENTENCES} more such pairs"] if len(near.hints) > MOST_SENTENCES else []
    return (*near.hints[:MOST_SENTENCES], *more)


class _Kinds:
    """How many rows of what kind a sheet has. They add up to its last row; suspect ones are told from other data."""

    def __init__(self, sheet: Sheet) -> None:
        self.counted: Counter[str] = Counter()
        self.suspects = array("q")
        self.last = 0
        for row in sheet.rows():
            self.counted[RowKind.SUSPECT.value if row.is_suspect else row.kind.value] += 1
            self.last = row.number
            if row.is_suspect:
                self.suspects.append(row.number)


class _Planned:
    """The steps of a sheet's rows, counted; of those to start and of those refused the first ones are kept."""

    def __init__(self, seen: Callable[[Step, RowParams], None]) -> None:
        self._seen = seen
        self.counted: Counter[str] = Counter()
        self.starts = array("q")
        self.first: list[Sample] = []
        self.last: Sample | None = None
        self.refused: list[str] = []
        self.refused_rows = 0

    def add(self, step: Step, row: RowParams) -> None:
        """Count one row."""
        self._seen(step, row)
        name = counted_as(step)
        if name is None:
            return
        self.counted[name] += 1
        if isinstance(step, Send):
            self.starts.append(row.row_number)
            self.last = Sample(row.row_number, row.params)
            if len(self.first) < FIRST_ROWS:
                self.first.append(self.last)
        if isinstance(step, Refuse):
            self.refused_rows += 1
            if len(self.refused) < MOST_SENTENCES:
                self.refused.append(f"row {step.row_number}: {step.why}" if step.held else step.why)

    def outcomes(self) -> Iterator[Placed]:
        """The rows to start, as they are before that."""
        return (Placed(number, NOT_STARTED, "", "", "", changed=False) for number in self.starts)


class PlannedTotal(msgspec.Struct, frozen=True):
    """The amounts of one column in one currency: those of the rows that would be started, and of all that take part."""

    column: str
    currency: str
    start: Decimal
    all: Decimal

    def told(self, write: Callable[[Decimal], str]) -> str:
        """In words, its amounts written so."""
        return f"{self.column}: {write(self.start)} of {write(self.all)} {self.currency or '(no currency)'} to start"


def _planned_totals(totals: Iterable[ColumnTotals]) -> Iterator[PlannedTotal]:
    for column in totals:
        yield from (PlannedTotal(column.column, s.currency, s.not_started, s.input) for s in column.sums)


def _taken(source: Source) -> Iterator[Taken]:
    for each, name in source.template.fit.pairs if source.template.fit else ():
        required = each.required and not each.may_be_empty
        yield Taken(each.name, name, each.kind.noun, each.kind.choices, required, each.default)


def _block(title: str, lines: list[str] | tuple[str, ...]) -> Iterator[str]:
    if lines:
        yield ""
        yield f"{title}:"
        yield from (f"  {line}" for line in lines)


@contextmanager
def open_source(
    job: Job, target: AtomicFile | None, inputs: TaskInputs | None, purpose: Purpose | None, scratch: Path
) -> Iterator[tuple[Source, tuple[Evidence, ...]]]:
    """The sheet, and what the output that stands there knows of runs, where the journal doesn't.

    `inputs` are what the task takes, where that is known; `purpose` is what the journal is for (None: no task is named
    yet). `scratch` is the folder for private copies. Raises `UsageError` and `SheetError`.
    """
    with ExitStack() as stack:
        # Closed before the batch begins: who still reads the journal keeps its WAL from being put into it at the end.
        with _journal_read(job, purpose) as view:
            written = view.outputs() if view else ()
            source = stack.enter_context(
                Source(job, scratch_folder(scratch), inputs, headers_of(job.input_path, written))
            )
            evidence: tuple[Evidence, ...] = ()
            if purpose is not None and target is not None:
                folders = (job.input_path.absolute().parent, target.real.absolute().parent)
                is_known = partial(OutputIndex(os.environ).knows, purpose, folders)
                real = os.path.realpath(target.real)
                was_written = any(os.path.realpath(batch.output) == real for batch in view.batches()) if view else False
                known = KnownOutputs(view, written, was_written, is_known)
                evidence = look_at_outputs(job, source, target, known, stack)
        yield source, evidence


@contextmanager
def _journal_read(job: Job, purpose: Purpose | None) -> Iterator[JournalView | None]:
    """The job's journal; None where there is none, or one in which something is wrong: who begins a batch says what."""
    with ExitStack() as stack:
        view = None
        if purpose is not None and job.journal_path.exists():
            with suppress(JournalError):
                view = stack.enter_context(JournalView.open(job.journal_path))
        yield view


async def take_back(evidence: Sequence[Evidence], journal: Journal) -> None:
    """Record what only an output knows of runs, before any row of the sheet finds its place."""
    found = chain.from_iterable(runs_of(each.previous, each.runs) for each in evidence)
    while chunk := list(islice(found, CHUNK)):
        await journal.outputs.take_back(chunk)


def wrote_elsewhere(purpose: Purpose) -> Callable[[str], bool]:
    """Asks whether a file with this digest was written by `status --output`, which only the index knows."""
    return lambda digest: OutputIndex(os.environ).knows(purpose, (), digest, ())


def note_output(purpose: Purpose, path: Path, batch: SheetBatch, written: WrittenOutput) -> None:
    """Remember an output that is about to take its place. Where that can't be done, it will look like an edited one."""
    with suppress(JournalFailed):
        from_thread.run(batch.journal.outputs.note, written)
    with suppress(OSError):
        runs = lowest_runs(span.run_id for span in batch.journal.spans() if span.run_id)
        OutputIndex(os.environ).add(path, purpose, written.sha256, runs)
