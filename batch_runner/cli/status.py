"""`status`: what a journal tells a person: its nights, and one row's whole story."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from batch_runner.cli.run import today
from batch_runner.errors import UsageError
from batch_runner.fs import AtomicFile
from batch_runner.job.config import load_job
from batch_runner.job.inputs import taken_for_input
from batch_runner.job.job import Job
from batch_runner.journal.batches import sheet_of
from batch_runner.journal.index import Purpose
from batch_runner.journal.outputs import OutputIndex, lowest_runs
from batch_runner.journal.resolve import Rekeyed, rekey
from batch_runner.journal.view import BatchRecord, Count, Failures, JournalView, Placed, Try
from batch_runner.output.edits import refresh_output
from batch_runner.report.summary import duration_of, number_of, row_numbers
from batch_runner.rows.keys import key_of, number_forms
from batch_runner.rows.source import Source
from batch_runner.runner.check import open_source, wrote_elsewhere
from batch_runner.runner.memory import info_of, journal_meant, outcomes_now
from batch_runner.sheet.model import TEXT_ENDINGS, WORKBOOK_ENDINGS
from batch_runner.units import local_time

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from batch_runner.journal.batches import JournalSheet
    from batch_runner.journal.changes import Origin
    from batch_runner.journal.outputs import WrittenOutput
    from batch_runner.runner.memory import OutcomesNow


MOST_GROUPS = 20


class Night(msgspec.Struct, frozen=True):
    """One batch with what its rows came to. `running`: its process is alive, as far as that can be seen."""

    batch: BatchRecord
    counts: tuple[Count, ...]
    running: bool

    @property
    def rows(self) -> dict[str, int]:
        """How many rows have which status."""
        return {count.status: count.rows for count in self.counts}

    @property
    def seconds(self) -> float | None:
        """How long it took; None while it runs, and after it was killed."""
        if self.batch.ended is None:
            return None
        return (datetime.fromisoformat(self.batch.ended) - datetime.fromisoformat(self.batch.started)).total_seconds()

    @property
    def state(self) -> str:
        """How it ended, in words; the process of another machine can't be seen."""
        if self.running:
            return "running"
        if self.batch.ended is None:
            return "running, or killed"
        return f"{duration_of(self.seconds or 0.0)}, exit {self.batch.exit_code}"


class JournalStatus(msgspec.Struct, frozen=True):
    """All nights of a journal, the oldest first.

    `failures` are the last one's, `origins` are the nights and sheets that it carried outcomes over from.
    """

    journal: str
    nights: tuple[Night, ...]
    failures: tuple[Failures, ...]
    origins: tuple[Origin, ...] = ()

    def to_json(self) -> str:
        """One JSON object, on one line; the counts as objects, those of the last night at the top, too."""
        fields = msgspec.to_builtins(self)
        for night, told in zip(self.nights, fields["nights"], strict=True):
            told["counts"] = night.rows
            told["seconds"] = night.seconds
        return msgspec.json.encode({"counts": self.nights[-1].rows, **fields}).decode()

    def to_text(self) -> str:
        """A line for each night, and what went wrong in the last one."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        last = self.nights[-1].batch
        batches = number_of(len(self.nights), "batch", "es")
        sheets = {night.batch.input: night.batch.id for night in self.nights}
        of = last.input if len(sheets) == 1 else number_of(len(sheets), "sheet")
        yield f"{self.journal}: task {last.task} on {last.service}, {batches} of {of}"
        for night in self.nights:
            counts = ", ".join(f"{count.rows} {count.status}" for count in night.counts) or "no rows yet"
            sheet = f"  {Path(night.batch.input).name}" if len(sheets) > 1 else ""
            # A later batch over the sheet has had the journal's lock, so this one's process is no more.
            is_killed = night.batch.ended is None and sheets[night.batch.input] > night.batch.id
            state = "killed" if is_killed else night.state
            yield f"  {night.batch.id}  {local(night.batch.started)}{sheet}  {state}: {counts}"
        for origin in self.origins:
            yield f"  sent before batch {self.nights[-1].batch.id}: {origin.rows} from {origin.words}"
        for group in self.failures:
            yield f"  {group.rows} × {group.status}: {group.error or '(no message)'}  [{row_numbers(group)}]"


class Story(msgspec.Struct, frozen=True):
    """All attempts, of all nights, for one row: that of a number in a sheet, or that of a key.

    `outcome` is what the last batch over the sheet says of the row.
    """

    row: int | None
    attempts: tuple[Try, ...]
    key: dict[str, str] | None = None
    sheet: str | None = None
    outcome: Placed | None = None

    def to_json(self) -> str:
        """One JSON object, on one line."""
        return msgspec.json.encode(self).decode()

    def to_text(self) -> str:
        """A paragraph for each attempt."""
        return "\n".join([*self._head(), *map(_paragraph, self.attempts)])

    def _head(self) -> Iterator[str]:
        name = f"row {self.row}" if self.key is None else ", ".join(f"{n} {text!r}" for n, text in self.key.items())
        yield f"{name}: {number_of(len(self.attempts), 'attempt')}"
        if self.outcome is not None and not self.attempts:
            yield f"  {self.outcome.status}: {on_one_line(self.outcome.error)}".rstrip(": ")


def read_status(source: Path) -> JournalStatus:
    """The nights of a journal, which may be named by its sheet, output or job too.

    Raises `JournalError`, and `UsageError` if it has none.
    """
    path, _ = journal_meant(source, today())
    with _open(path) as view:
        batches = view.batches()
        nights = tuple(Night(batch, view.counts(batch.id), view.is_running(batch)) for batch in batches)
        last = batches[-1].id
        return JournalStatus(str(path), nights, view.failures(last, MOST_GROUPS), view.origins(last))


def write_output(source: Path, output: Path, said: str | None) -> str:
    """Write the output of a sheet from what its journal knows just now, which is only read; gives what to say of it.

    `source` is the journal, the sheet, an output or the job, which says how the sheet is read; `said` is the sheet,
    where the journal has several. Raises as `read_status`, and `UsageError` for a file that isn't ours to write over.
    """
    path, meant = journal_meant(source, today())
    with _open(path) as view:
        sheet = sheet_of(path, view.sheets(), said or meant)
        batch = next(batch for batch in view.batches() if batch.id == sheet.batch)
        key, living, is_over = view.key_columns(batch.id), view.living, not view.is_running(batch) and batch.ended
    is_job = source.suffix.lower() == ".toml"
    plain = Job(input=sheet.path, key=key, hidden="include", merged="first", suspect_rows="run")
    job = load_job(str(source), {}, os.environ).job if is_job else plain
    if problem := taken_for_input(job.input, output, today()):
        raise UsageError(problem)
    job = msgspec.structs.replace(job, input=sheet.path, output=str(output), journal=str(path), report=None)
    if os.path.realpath(output) == os.path.realpath(sheet.path):
        raise UsageError(f"{output}: that is the sheet itself, which only a batch writes; name another file")
    target = AtomicFile.prepare(output, job.input_path)
    purpose = Purpose.of(batch.task, batch.service, path.resolve().parent)
    with open_source(job, None, None, purpose, Path(tempfile.gettempdir())) as (sheet_rows, _):
        info = info_of(job, sheet_rows, None, sheet.path)
        info = msgspec.structs.replace(info, task=batch.task, service=batch.service)
        with outcomes_now(path, batch.id, sheet_rows, info, living, lambda: None) as now:
            _refuse_other_rows(source, sheet, now)
            rows = partial(now.rows, others=not (is_over and now.is_same_sheet))

            def note(written: WrittenOutput) -> None:
                runs = lowest_runs(placed.run_id for placed in rows() if placed.run_id)
                OutputIndex(os.environ).add(target.real, purpose, written.sha256, runs)

            is_ours = wrote_elsewhere(purpose)
            if not refresh_output(job, sheet_rows, now.journal, rows, target, note, is_ours):
                raise UsageError(
                    f"{output}: this file is open, was changed since it was written, or is no output of this program, "
                    "so it is left alone; name another one"
                )
            counts = Counter(placed.status for placed in rows())
    words = ", ".join(f"{count} {status}" for status, count in counts.most_common())
    return f"{output}: {number_of(counts.total(), 'row')} of {sheet.path} as {path} knows them now: {words}"


def _refuse_other_rows(source: Path, sheet: JournalSheet, now: OutcomesNow) -> None:
    """Raise `UsageError` where what is read of the sheet isn't what the batch had: its outcomes would be others'."""
    found, rows = now.found()
    if rows and (not found or (now.is_same_sheet and found < rows)):
        raise UsageError(
            f"{sheet.path}: {found} of {rows} rows of its last batch are found in it; if a job file, or options, say "
            f"how the sheet is read, name the job: batch-runner status JOB.toml --output … (not {source})"
        )


def story(source: Path, row: int, said: str | None = None) -> Story:
    """The attempts for the row of this number in a sheet, which is to be said where the journal has several.

    Raises as `read_status`, and for no such row.
    """
    path, meant = journal_meant(source, today())
    with _open(path) as view:
        sheet = sheet_of(path, view.sheets(), said or meant)
        attempts, outcome = view.story(sheet.batch, row), view.outcome(sheet.batch, row)
        if not attempts and outcome is None:
            raise UsageError(
                f"{path}: no row {row} took part in the last batch; rows have the numbers that Excel shows"
            )
        return Story(row, attempts, None, sheet.path, outcome)


def story_of_key(source: Path, values: Sequence[str]) -> Story:
    """The attempts for the row that this key knows, in the last night's sheet or no more.

    `values` are `COLUMN=TEXT`, one for each key column; where there is just one, its text alone will do. Raises as
    `read_status`, and for other columns, and a key that no row has.
    """
    path, _ = journal_meant(source, today())
    with _open(path) as view:
        columns = view.key_columns()
        key = _key_from(path, columns, values)
        forms = dict(zip(key, number_forms(tuple(key.values())), strict=True))
        attempts = view.story_of_key(key_of(key), key_of(forms))
        if not attempts:
            raise UsageError(
                f"{path}: no row with the key {', '.join(values)} was ever sent; write it as the cell's text (where a "
                "column chooses the identity, and no key is named, only --row finds it)"
            )
        return Story(None, attempts, key)


def _key_from(path: Path, columns: tuple[str, ...], values: Sequence[str]) -> dict[str, str]:
    if len(columns) == len(values) == 1 and not values[0].startswith(f"{columns[0]}="):
        return {columns[0]: values[0]}
    key = dict(_key_part(value, columns) for value in values)
    if columns and set(key) != set(columns):
        raise UsageError(
            f"{path}: a row is known by {', '.join(columns)}; say --key-value COLUMN=TEXT for each of these"
        )
    return key


def _key_part(value: str, columns: tuple[str, ...]) -> tuple[str, str]:
    """The column and its text; a column's name may hold an `=` itself."""
    name = max((column for column in columns if value.startswith(f"{column}=")), key=len, default=None)
    name = value.partition("=")[0] if name is None else name
    return name, value[len(name) + 1 :]


@contextmanager
def _open(path: Path) -> Iterator[JournalView]:
    """A journal that at least one batch has begun with."""
    with JournalView.open(path) as view:
        if not view.batches():
            raise UsageError(f"{path}: no batch has begun with this journal yet")
        yield view


def rekey_for_person(path: Path, columns: tuple[str, ...]) -> str:
    """Have a journal know its rows by other columns; `path` may be that of a job, which says what is sent.

    Raises as `journal.resolve.rekey`.
    """
    is_job = path.suffix.lower() == ".toml"
    job = load_job(str(path), {"key": columns}, os.environ).job if is_job else Job(input=str(path), key=columns)
    journal, _ = journal_meant(path, today())

    def rows(file: Path, before: tuple[str, ...]) -> list[Rekeyed]:
        of_file = msgspec.structs.replace(job, input=str(file), output=None, rows=None, limit=None, where=None)
        was = msgspec.structs.replace(of_file, key=before)
        scratch = Path(tempfile.gettempdir())
        if file.suffix.lower() not in (*TEXT_ENDINGS, *WORKBOOK_ENDINGS):
            return []
        with Source(was, scratch) as old, Source(of_file, scratch) as new:
            return list(zip(old.every(), new.every(), strict=True))

    known = rekey(journal, tuple(sorted(set(columns))), rows)
    names = ", ".join(columns)
    return f"{journal}: {number_of(known, 'row')} that ran {'is' if known == 1 else 'are'} known by {names} from now on"


def local(moment: str | None) -> str:
    """A recorded moment on this computer's clock."""
    return "–" if moment is None else local_time(moment, "seconds")


def on_one_line(text: str) -> str:
    """A text of somebody else's without its line ends."""
    return " ".join(text.split())


def _paragraph(attempt: Try) -> str:
    place = f" (row {attempt.number} then)" if attempt.number is not None else ""
    of = f" of {on_one_line(Path(attempt.sheet).name)}"
    lines = [f"  batch {attempt.batch}{of}{place}: {attempt.status}, sent {number_of(attempt.posts, 'time')}"]
    if attempt.origin:
        lines.append(f"    carried over: {on_one_line(attempt.origin)}")
    moments = {"intended": attempt.intended_at, "started": attempt.started_at, "ended": attempt.ended_at}
    lines.append("    " + ", ".join(f"{name} {local(moment)}" for name, moment in moments.items()))
    if attempt.run_id:
        session = f", session {on_one_line(attempt.session_id)}" if attempt.session_id else ""
        lines.append(f"    run {on_one_line(attempt.run_id)}{session}")
    lines += [
        f"    resolved {local(said.at)} by {on_one_line(said.who)}: {said.was} → {said.status}"
        f" ({on_one_line(said.note)})"
        for said in attempt.resolutions
    ]
    lines += [
        f"    {name}: {on_one_line(text)}"
        for name, text in (("error", attempt.error), ("result", attempt.result))
        if text
    ]
    return "\n".join(lines)
