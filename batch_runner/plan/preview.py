"""Everything short of sending: what `check` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from batch_runner.batch.pool import look_ahead, placed
from batch_runner.errors import ExitCode
from batch_runner.journal.history import Refuse
from batch_runner.journal.view import JournalView
from batch_runner.rows.task_inputs import TEXT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from batch_runner.job.job import Job
    from batch_runner.journal.journal import Journal
    from batch_runner.rows.source import Source


FIRST_ROWS = 3
MOST_SENTENCES = 20


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
    says nothing. `refused` and `warnings` are the first sentences of each; `refused_rows` counts all rows that could
    not be sent.
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
    refused_rows: int
    first: tuple[Sample, ...]
    refused: tuple[str, ...]
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    takes: tuple[Taken, ...] = ()
    unused: tuple[str, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """0 where every row could be sent, else 3."""
        return ExitCode.SOME_FAILED if self.refused_rows else ExitCode.OK

    def refusing(self, rows: int, sentences: Iterable[str]) -> Preview:
        """The page with so many more rows that would be refused; `sentences` are the first ones."""
        refused = (*self.refused, *sentences)[:MOST_SENTENCES]
        return msgspec.structs.replace(self, refused_rows=self.refused_rows + rows, refused=refused)

    def to_json(self) -> str:
        """One JSON object, on one line."""
        return msgspec.json.encode(self).decode()

    def to_text(self) -> str:
        """A page for a person."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        sheet = f", sheet {self.sheet!r}" if self.sheet else ""
        yield f"{self.input}{sheet}: headers in row {self.header_row}, rows that take part: {self.rows}"
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
        yield from (f"  note:    {note}" for note in self.notes)
        yield from _block("what the first rows send", [f"row {s.row}: {_shown(s.params)}" for s in self.first])
        yield from _block(f"refused: {self.refused_rows} of {self.rows} rows", self.refused)
        yield from _block("worth a look", self.warnings)


def preview(job: Job, source: Source) -> Preview:
    """Read the whole sheet as a batch would, and send nothing."""
    samples: list[Sample] = []
    refused: list[str] = []
    rows = refused_rows = 0
    for row, filled in source.rows():
        rows += 1
        if filled.refusal is not None:
            refused_rows += 1
            _keep(refused, filled.refusal)
        elif len(samples) < FIRST_ROWS:
            samples.append(Sample(row.number, filled.params))
    warnings = source.warnings
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
        rows=rows,
        refused_rows=refused_rows,
        first=tuple(samples),
        refused=tuple(refused),
        warnings=warnings,
        notes=(*source.notes, *_all_new(job, source)) if rows else source.notes,
        takes=tuple(_taken(source)),
        unused=source.template.fit.unused if source.template.fit else (),
    )


async def duplicates(source: Source, journal: Journal) -> tuple[int, list[str]]:
    """How many rows a batch with this journal would refuse as duplicates, and why the first ones."""
    await look_ahead(source, journal)
    rows, sentences = 0, list[str]()
    async for chunk in placed(source, journal):
        for plan, _ in chunk:
            if isinstance(plan, Refuse) and plan.held == "duplicate":
                rows += 1
                _keep(sentences, f"row {plan.number}: {plan.why}")
    return rows, sentences


def _taken(source: Source) -> Iterator[Taken]:
    for each, name in source.template.fit.pairs if source.template.fit else ():
        required = each.required and not each.may_be_empty
        yield Taken(each.name, name, each.kind.noun, each.kind.choices, required, each.default)


def _all_new(job: Job, source: Source) -> Iterator[str]:
    """A warning where a journal that has seen this sheet knows none of its rows; looks only as far as the first."""
    if not job.journal_path.is_file():
        return
    with JournalView.open(job.journal_path) as journal:
        if str(job.input_path.absolute()) not in {batch.input for batch in journal.batches()}:
            return
        if any(filled.key is not None and journal.knows(filled.key) for _, filled, _ in source.places()):
            return
        warning = journal.all_new()
        if warning is not None:
            yield warning


def _keep(sentences: list[str], sentence: str) -> None:
    if len(sentences) < MOST_SENTENCES:
        sentences.append(sentence)


def _block(title: str, lines: list[str] | tuple[str, ...]) -> Iterator[str]:
    if lines:
        yield ""
        yield f"{title}:"
        yield from (f"  {line}" for line in lines)


def _shown(params: dict[str, str]) -> str:
    return msgspec.json.encode(params).decode()
