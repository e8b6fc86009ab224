"""Everything short of sending: what `check` shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from batch_runner.errors import ExitCode
from batch_runner.journal import JournalView

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_runner.job.job import Job
    from batch_runner.source import Source

FIRST_ROWS = 3
MOST_SENTENCES = 20


class Sample(msgspec.Struct, frozen=True):
    """What one row would send."""

    row: int
    params: dict[str, str]


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """How the sheet was understood, and what would be sent.

    `refused` and `warnings` are the first sentences of each; `refused_rows` counts all rows that could not be sent.
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
        yield f"{self.input}{sheet}: headers in row {self.header_row}, rows that take part: {self.rows}"
        yield f"  columns: {', '.join(self.columns)}"
        if self.earlier_output:
            yield "  and an earlier output's columns, which are refreshed and never sent"
        yield f"  params:  {', '.join(self.params)}"
        yield f"  task:    {self.task or '(none yet: say --task)'} on {self.service}"
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
    )


def _all_new(job: Job, source: Source) -> Iterator[str]:
    """A warning where there is a journal that knows none of the rows; looks no further than the first it knows."""
    if not job.journal_path.is_file():
        return
    with JournalView.open(job.journal_path) as journal:
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
