"""Everything short of sending: what `check` shows."""

from __future__ import annotations

import tempfile
from array import array
from collections import Counter
from decimal import Decimal  # noqa: TC003  msgspec reads the annotation
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import msgspec

from batch_runner.batch.pool import look_ahead, plan_rows
from batch_runner.errors import ExitCode, Findings
from batch_runner.journal.journal import rehearse
from batch_runner.journal.view import Placed
from batch_runner.outcomes import NOT_STARTED
from batch_runner.plan.plan import Counts, Refuse, Send, counted_as
from batch_runner.report.totals import control_totals
from batch_runner.rows.amounts import worded
from batch_runner.rows.source import Source
from batch_runner.rows.task_inputs import TEXT
from batch_runner.runner.connect import choose_service
from batch_runner.runner.night import look_at_journal
from batch_runner.runner.run import info_of, prepare_output
from batch_runner.sheet.model import RowKind, row_list

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from batch_runner.job.inputs import SheetJob
    from batch_runner.job.job import Job
    from batch_runner.journal.journal import Journal
    from batch_runner.plan.plan import Step
    from batch_runner.report.totals import ColumnTotals
    from batch_runner.rows.params import RowParams
    from batch_runner.runner.connect import ChosenService
    from batch_runner.sheet.model import Sheet


FIRST_ROWS = 3
MOST_SUSPECTS = 1_000
"""Numbers of suspect rows that a page for a person has."""
MOST_SENTENCES = 20
_WORDS = {"start": "to start", "poll": "to poll", "carried_over": "carried over", "retried": "to start again"}


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
    those that look like none of the list. `plan` counts what a batch would do now; `first` are the first rows that it
    would start, `last` is the last one if it isn't among them. `refused` and `warnings` are the first sentences of
    each; `refused_rows` counts all rows that could not be sent, held ones too. `total_rows` compares the sheet's own
    totals with its rows: a sentence each.
    """

    input: str
    sheet: str | None
    header_row: int
    columns: tuple[str, ...]
    params: tuple[str, ...]
    earlier_output: bool
    task: str
    service: str
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
    takes: tuple[Taken, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """0 where every row could be sent, else 3."""
        return ExitCode.SOME_FAILED if self.refused_rows else ExitCode.OK

    def _plan(self) -> str:
        counted = ((name, getattr(self.plan, name)) for name in msgspec.structs.asdict(self.plan))
        return ", ".join(f"{rows} {_WORDS.get(name, name)}" for name, rows in counted if rows) or "nothing to do"

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
        yield f"  columns: {', '.join(self.columns)}"
        if self.earlier_output:
            yield "  and an earlier output's columns, which are refreshed and never sent"
        yield f"  params:  {', '.join(self.params)}"
        yield f"  task:    {self.task or '(none yet: say --task)'} on {self.service}"
        if self.takes:
            yield f"  takes:   {', '.join(map(str, self.takes))}"
        if self.unused:
            yield f"  unused:  {', '.join(self.unused)}"
        yield f"  key:     {', '.join(self.key) or 'all params'}"
        yield f"  output:  {self.output}"
        yield f"  journal: {self.journal}"
        yield f"  plan:    {self._plan() if self.task else 'not known until a task is named'}"
        yield from (f"  total:   {total}" for total in (*self.totals, *self.total_rows))
        yield from (f"  note:    {note}" for note in self.notes)
        samples = [*self.first, *([self.last] if self.last else [])]
        yield from _block(
            "the first rows and the last one, as they would be sent",
            [f"row {sample.row}: {_shown(sample.params)}" for sample in samples],
        )
        yield from _block(f"refused: {self.refused_rows} of {self.rows} rows", self.refused)
        yield from _block("worth a look", self.warnings)


def preview_sheet(
    planned: SheetJob,
    look: Callable[[Source], None] = lambda _: None,
    seen: Callable[[Step, RowParams], None] = lambda _step, _row: None,
) -> Preview:
    """One sheet's page; `seen` is told each row with its step. Raises all that is wrong with it, or with its job."""
    job, findings = planned.job, Findings()
    pages: list[Preview] = []
    service: ChosenService | None = None
    with findings.look():
        prepare_output(job)
    with findings.look():
        look_at_journal(job.journal_path)
    if job.task:
        with findings.look():
            service = choose_service(job)
    with findings.look(), Source(job, Path(tempfile.gettempdir()), service.inputs if service else None) as source:
        look(source)
        pages.append(anyio.run(_rehearse, planned, source, service, seen))
    findings.tell()
    return pages[0]


async def _rehearse(
    planned: SheetJob, source: Source, service: ChosenService | None, seen: Callable[[Step, RowParams], None]
) -> Preview:
    """The page of a batch that is rehearsed on what its journal knows; without a task, nothing was ever sent for it."""
    job = planned.job
    batch = info_of(job, source, service, planned.series)
    if service is not None:
        look_at_journal(job.journal_path, batch)
    async with rehearse(job.journal_path if service is not None else None, batch) as journal:
        return await preview(job, source, journal, seen)


async def preview(
    job: Job, source: Source, journal: Journal, seen: Callable[[Step, RowParams], None] = lambda _step, _row: None
) -> Preview:
    """Read the whole sheet as a batch would, place its rows in a journal that nobody keeps, and send nothing."""
    planned, kinds = _Planned(), _Kinds(source.sheet)
    await look_ahead(source, journal)
    async for chunk in plan_rows(source, journal):
        for step, row in chunk:
            planned.add(step, row)
            seen(step, row)
    outcomes = (Placed(number, NOT_STARTED, "", "", "", changed=False) for number in planned.starts)
    totals = control_totals(source, outcomes)
    return Preview(
        input=job.input,
        sheet=source.sheet.name,
        header_row=source.sheet.header_row,
        columns=tuple(column.name for column in source.layout.own),
        params=source.template.names,
        earlier_output=source.layout.replaced > 0,
        task=job.task,
        service=job.service,
        key=job.key,
        output=str(job.output_path),
        journal=str(job.journal_path),
        rows=sum(planned.counted.values()),
        plan=Counts(**planned.counted),
        totals=tuple(_planned_totals(totals)),
        total_rows=tuple(f"{column.column}: {line}" for column in totals for line in column.compared()),
        refused_rows=planned.refused_rows,
        kinds=dict(kinds.counted),
        last_row=kinds.last,
        first=tuple(planned.first),
        last=planned.last if planned.last not in planned.first else None,
        suspects=tuple(kinds.suspects),
        refused=tuple(planned.refused),
        warnings=source.warnings,
        notes=(
            *source.notes,
            *source.first_notes,
            *source.sheet.describe_formats(),
            *filter(None, [journal.all_new() if planned.counted else None, journal.waiting()]),
        ),
        takes=tuple(_taken(source)),
        unused=source.template.fit.unused if source.template.fit else (),
    )


class _Kinds:
    """How many rows of what kind a sheet has. They add up to its last row; suspect ones are told from other data."""

    def __init__(self, sheet: Sheet) -> None:
        self.counted: Counter[str] = Counter()
        self.suspects = array("q")
        self.last = 0
        for row in sheet.rows():
            is_suspect = row.kind is RowKind.SUSPECT or (row.kind is RowKind.DATA and sheet.is_suspect(row))
            self.counted[RowKind.SUSPECT.value if is_suspect else row.kind.value] += 1
            self.last = row.number
            if is_suspect:
                self.suspects.append(row.number)


class _Planned:
    """The steps of a sheet's rows, counted; of those to start and of those refused the first ones are kept."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()
        self.starts = array("q")
        self.first: list[Sample] = []
        self.last: Sample | None = None
        self.refused: list[str] = []
        self.refused_rows = 0

    def add(self, step: Step, row: RowParams) -> None:
        """Count one row."""
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


class PlannedTotal(msgspec.Struct, frozen=True):
    """The amounts of one column in one currency: those of the rows that would be started, and of all that take part."""

    column: str
    currency: str
    start: Decimal
    all: Decimal

    def __str__(self) -> str:
        return f"{self.column}: {worded(self.start)} of {worded(self.all)} {self.currency or '(no currency)'} to start"


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


def _shown(params: dict[str, str]) -> str:
    return msgspec.json.encode(params).decode()
