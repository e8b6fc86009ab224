"""A night: one job, its inputs, one batch for each."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

import anyio
import msgspec

from batch_runner.batch.stop import INTERRUPTS
from batch_runner.errors import (
    BatchRunnerError,
    ExitCode,
    Findings,
    JournalBusy,
    JournalError,
    SheetError,
    UsageError,
    worst,
)
from batch_runner.job.path_templates import has_day
from batch_runner.journal.batches import Turn, command_gone_on_with, look_at_place
from batch_runner.journal.view import JournalView
from batch_runner.report.summary import Summary, number_of
from batch_runner.runner.run import Bounds, execute, open_job, policy_of, service_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batch_runner.job.inputs import Plan, Planned
    from batch_runner.job.job import Job
    from batch_runner.journal.batches import BatchInfo
    from batch_runner.progress import Progress
    from batch_runner.rows.source import Source


ENDS_THE_NIGHT = (*INTERRUPTS, ExitCode.STOPPED)
"""A batch that stopped early for one of these ends the night."""
NOT_REACHED = "the night ended before its turn; the same command goes on with it"


class NotRun(msgspec.Struct, frozen=True):
    """An input whose batch was not begun, or ended without a summary, and why."""

    input: str
    why: str


class Told(msgspec.Struct, frozen=True, kw_only=True):
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
            yield self._over_all()

    def _over_all(self) -> str:
        rows = sum(summary.rows for summary in self.batches)
        success = sum(summary.count("success") for summary in self.batches)
        sheets = number_of(len(self.batches) + len(self.not_run), "sheet")
        left = f", {len(self.not_run)} not run" if self.not_run else ""
        return f"{sheets}{left}: {number_of(rows, 'row')}, {success} success, {rows - success} other"


class _End(msgspec.Struct, frozen=True):
    """How one batch ended: with a summary, or with why there is none."""

    code: ExitCode
    summary: Summary | None = None
    why: str = ""
    ends_night: bool = False
    bug: Exception | None = None


def run_night(plan: Plan, progress: Progress) -> Told:
    """Run the batches of a plan one after another.

    Raises `UsageError` and `SheetError` for what is found wrong while nothing has been sent, and what a batch raises
    whose input is no pattern.
    """
    if plan.many:
        look_over(plan)
        return _one_after_another(plan, Bounds(plan.job, _command(plan)), progress)
    bounds = Bounds(plan.job)
    summaries = tuple(_run(planned, bounds, progress) for planned in plan.batches)
    code = ExitCode(summaries[0].exit_code) if summaries else ExitCode.OK
    return Told(exit_code=code, batches=summaries, not_run=(), missing=plan.missing, many=False)


def look_over(plan: Plan) -> None:
    """Open every sheet of a pattern and let it go again. Raises `UsageError` that names all that can't be used."""
    if not plan.batches:
        return
    service_of(plan.batches[0].job)
    findings = Findings()
    for planned in plan.batches:
        with findings.look(), naming(planned.job), open_job(planned.job) as opened:
            look_at_journal(planned.job.journal_path)
            refuse_lost_journal(opened.source, plan.job)
    findings.tell()


def _command(plan: Plan) -> str:
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
def naming(job: Job) -> Iterator[None]:
    """Let each sentence that is raised in here name the input, since there are others."""
    try:
        yield
    except (UsageError, SheetError) as error:
        lines = str(error).splitlines()
        named = (line if line.startswith(job.input) else f"{job.input}: {line}" for line in lines)
        raise UsageError("\n".join(named)) from None


def refuse_lost_journal(source: Source, night: Job) -> None:
    """A sheet that nobody has named, whose journal is gone: its rows would all be sent again. Raises `UsageError`.

    A journal with the day in its name is a new one every night, as was asked for.
    """
    lost = source.lost_journal or (None if has_day(night.journal) else source.lost_runs)
    if lost is not None:
        raise UsageError(f"{lost}, or give the file itself as INPUT instead of a pattern")


def look_at_journal(path: Path, info: BatchInfo | None = None) -> None:
    """Look, without making anything, whether there can be a journal here, and one for a batch such as `info` says.

    Raises `UsageError`.
    """
    path = path.resolve()
    try:
        look_at_place(path)
        if path.exists():
            with JournalView.open(path) as journal:
                if info is not None:
                    journal.check_job(path, info)
    except JournalError as error:
        raise UsageError(str(error)) from None


def _one_after_another(plan: Plan, bounds: Bounds, progress: Progress) -> Told:
    ends: list[_End] = []
    for planned in plan.batches:
        if ends and ends[-1].ends_night:
            ends.append(_End(ExitCode.OK, why=NOT_REACHED, ends_night=True))
        else:
            ends.append(_end_of(planned, bounds, progress))
    return Told(
        exit_code=worst(end.code for end in ends),
        batches=tuple(end.summary for end in ends if end.summary),
        not_run=tuple(
            NotRun(planned.job.input, end.why)
            for planned, end in zip(plan.batches, ends, strict=True)
            if not end.summary
        ),
        missing=plan.missing,
        many=True,
        bug=next((end.bug for end in ends if end.bug), None),
    )


def _end_of(planned: Planned, bounds: Bounds, progress: Progress) -> _End:
    """Run one batch of several. What is wrong with its sheet or journal alone leaves the others their turn."""
    try:
        summary = _run(planned, bounds, progress)
    except (UsageError, SheetError, JournalError) as error:
        return _End(ExitCode.STOPPED, why=str(error))
    except JournalBusy as error:
        return _End(ExitCode.JOURNAL_BUSY, why=str(error))
    except BatchRunnerError as error:
        return _End(error.exit_code, why=str(error), ends_night=True)
    except KeyboardInterrupt:
        return _End(ExitCode.INTERRUPTED, why="interrupted; the same command goes on from here", ends_night=True)
    except Exception as error:  # noqa: BLE001  the others' summaries are told first, then it is raised
        return _End(ExitCode.BUG, why=f"a bug of batch-runner ({type(error).__name__})", ends_night=True, bug=error)
    code = ExitCode(summary.exit_code)
    return _End(code, summary, ends_night=code in ENDS_THE_NIGHT)


def _run(planned: Planned, bounds: Bounds, progress: Progress) -> Summary:
    with open_job(planned.job, planned.series, bounds) as opened:
        return anyio.run(partial(execute, opened, progress, interrupts=True, printed=progress.printed))
