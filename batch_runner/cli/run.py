"""`run` and `check` as a person meets them: progress and log on stderr, the summary or the plan on stdout."""

from __future__ import annotations

import os
import re
import sys
from contextlib import AsyncExitStack, contextmanager, suppress
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import anyio
import click
import msgspec

from batch_runner import log
from batch_runner.errors import (
    BatchRunnerError,
    ExitCode,
    Findings,
    SheetError,
    UsageError,
    exit_code_of,
    printable,
    quote_words,
    reason_of,
)
from batch_runner.job.config import notify_config_of, unknown_variables
from batch_runner.job.inputs import make_folders, night_job_of
from batch_runner.job.options import command_words, describe_job, options
from batch_runner.progress import HeldBack, Progress, progress_for
from batch_runner.report.notify import Notifier
from batch_runner.runner.connect import api_key, probe_service
from batch_runner.runner.memory import place_journals
from batch_runner.runner.night import NightSummary, Rehearsal, name_input, run_night
from batch_runner.service.local import context
from batch_runner.service.local.tasks import own_tasks
from batch_runner.sheet.model import row_list

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import date

    from batch_runner.batch.stop import Signals
    from batch_runner.job.config import Loaded
    from batch_runner.job.inputs import NightJob
    from batch_runner.job.job import Job
    from batch_runner.runner.check import Preview
    from batch_runner.runner.connect import Probed


@contextmanager
def tell_about(source: str, flags: Mapping[str, object], signals: Signals | None = None) -> Iterator[Notifier]:
    """Whatever happens in here to a job, even to one that is wrong, is told to those who want to hear of it.

    When a signal has come they are told in a few seconds, or not at all.
    """
    key = None
    with suppress(UsageError):  # it is said when the job is read, and told to whoever wants to hear of it
        key = api_key()
    log.write_log("text", "warning", Progress().say, key)
    wishes = notify_config_of(source, flags, os.environ)
    is_hurried = (lambda: signals.is_heard) if signals else None
    with log.of_batch(uuid4().hex[:8]), Notifier(wishes, os.environ, is_hurried) as telling:
        yield telling


IN_JOB = ("Reading", "Params")
"""The groups of options whose advice may go into a job file: they say how a sheet is read, and start no row again."""


def keys_advised(text: str, source: str) -> str | None:
    """Where flags are advised, and the job stands in a file: under which keys that has them; None for any other."""
    if not source.lower().endswith(".toml"):
        return None
    flags = dict.fromkeys(re.findall(r"(?<![\w-])--[a-z]+(?:-[a-z]+)*", text))
    advised = [option for flag in flags for option in options().values() if option.flag == flag]
    found = [option for option in advised if option.group in IN_JOB or option.name == "key"]
    said = ", ".join(f"write {option.name} = … for {option.flag}" for option in found)
    return f"in {source}, {said}: batch-runner help jobs shows how" if found else None


@contextmanager
def advice_for(source: str) -> Iterator[None]:
    """Have what is wrong in here end with the keys of the job file, where flags are advised."""
    try:
        yield
    except (UsageError, SheetError) as error:
        keys = keys_advised(str(error), source)
        if keys is None:
            raise
        raise type(error)(f"{error}\n{keys}") from None


@contextmanager
def errors_as_json(source: str, is_wanted: bool) -> Iterator[None]:
    """With `--json` its object is printed however a command ends: here, where an error leaves it without a summary."""
    try:
        yield
    except Exception as error:
        if is_wanted:
            is_known = isinstance(error, BatchRunnerError | SheetError | click.UsageError)
            why = str(error) if is_known else f"a bug of batch-runner ({type(error).__name__})"
            code = ExitCode.REFUSED if isinstance(error, click.UsageError) else exit_code_of(error)
            print_out(NightSummary.without_batch(code, source, why).to_json())
        raise


def run_for_person(job: Job, telling: Notifier, signals: Signals) -> NightSummary:
    """Run the job on all its inputs, show the progress, print what it came to; its bug, if any, is to be raised."""
    plan = night_job_of(job, today())
    make_folders(job, plan)
    with _show(job) as progress:
        _open_logs(plan.job, progress)
        telling.begins()
        for sentence in unknown_variables(os.environ):
            log.warning(sentence)
        with context.capture_prints(progress.printed), _stdout_kept(job):
            told = run_night(plan, progress, signals)
        for summary in told.batches:
            telling.hears(summary, summary.report)
        if not told.is_well:
            progress.release()
        if not told.is_well or job.json or not job.quiet:
            print_out(told.to_json() if job.json else told.to_text())
    return told


@contextmanager
def _stdout_kept(job: Job) -> Iterator[None]:
    """Descriptor 1 is standard error in here, where tasks run in this process: ours is for the summary.

    The programs that async tasks start write there, and libraries in C. A pipe that a thread of ours reads would hang
    where such a library fills it while it holds the interpreter's lock.
    """
    try:
        ours = os.dup(1) if job.service == "local" else None
    except OSError:  # nothing is there that a program could write to
        ours = None
    if ours is None:
        yield
        return
    try:
        with suppress(OSError):  # standard error is closed
            os.dup2(2, 1)
        yield
    finally:
        os.dup2(ours, 1)
        os.close(ours)


@cache
def today() -> date:
    """The day on this computer's clock, taken once: a night that goes past midnight keeps its files."""
    return datetime.now().astimezone().date()


@contextmanager
def _show(job: Job) -> Iterator[Progress]:
    """What a person sees on the way; with `--quiet` it is kept back until something isn't well."""
    progress = HeldBack(job.log_format) if job.quiet else progress_for(job.progress, sys.stderr, job.log_format)
    try:
        yield progress
    except BaseException:
        progress.release()
        raise


def _open_logs(job: Job, progress: Progress) -> None:
    key = api_key()
    log.write_log(job.log_format, job.log_level or "warning", progress.say, key)
    if job.log_file is None:
        return
    with _log_can_be_written(job.log_file):
        log.write_log_file(Path(job.log_file), job.log_format, job.log_level or "info", job.log_bytes, key)


def refuse_unwritable_log(job: Job) -> None:
    """Raise `UsageError` where a log file can't be; none is made."""
    if job.log_file is not None:
        with _log_can_be_written(job.log_file):
            log.look_at_log_file(Path(job.log_file))


@contextmanager
def _log_can_be_written(path: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = "is a directory" if Path(path).is_dir() else reason_of(error)  # of which Windows says: permission denied
        raise UsageError(f"{path}: the log can't be written there: {why}; use --log-file") from None


def print_out(text: str) -> None:
    """Print on stdout. That it can't be done changes nothing: the exit code still tells how it went.

    A reader that has left (`| head`) wants no more; of a full disk stderr tells, if that isn't on it, too.
    """
    try:
        click.echo(printable(text))
    except OSError as error:
        sys.stdout = None  # so that the interpreter doesn't try to flush it at exit
        if not isinstance(error, BrokenPipeError):
            with suppress(OSError):
                click.echo(f"batch-runner: this can't be printed: {reason_of(error)}", err=True)


def check_for_person(loaded: Loaded, *, probe: bool = False) -> int:
    """Print how each input is understood, and the job in force; returns the exit code.

    With `probe` the service is asked first whether key and task are right.
    """
    probed = _probe(loaded.job) if probe else None
    plan = place_journals(night_job_of(loaded.job, today()))
    make_folders(loaded.job, plan)
    findings = Findings()
    found: tuple[list[Preview], list[str]] = ([], [])
    with findings.look():
        refuse_unwritable_log(plan.job)
    with findings.look():
        found = anyio.run(_pages, plan)
    findings.tell()
    pages, problems = found
    code = ExitCode.REFUSED if problems else max((page.exit_code for page in pages), default=ExitCode.OK)
    if not loaded.job.json:
        print_out(_text(plan, pages, loaded, probed))
    elif pages and not plan.many:
        print_out(_encode(msgspec.to_builtins(pages[0]), loaded, probed))
    else:
        several = {"exit_code": code, "batches": pages, "missing": plan.missing, "problems": problems}
        print_out(_encode(several, loaded, probed))
    if problems:
        raise UsageError("\n".join(problems))
    return code


async def _pages(plan: NightJob) -> tuple[list[Preview], list[str]]:
    """A page for each sheet that can be used, and what is wrong with the others. Raises for a sole sheet.

    Sheets that share a journal share its rehearsal: a row that stands in two of them is sent once.
    """
    async with AsyncExitStack() as stack:
        rehearsal = Rehearsal(stack, uuid4().hex if plan.many else "")
        if not plan.many:
            return [await rehearsal.page(planned) for planned in plan.batches], []
        pages: list[Preview] = []
        problems: list[str] = []
        for planned in plan.batches:
            try:
                with name_input(planned.job):
                    pages.append(await rehearsal.page(planned))
            except UsageError as error:
                problems += str(error).splitlines()
        return pages, problems


def _probe(job: Job) -> Probed:
    if not job.task:
        raise UsageError("--probe: which task? say it with --task")
    return anyio.run(probe_service, job)


def _encode(fields: dict[str, object], loaded: Loaded, probed: Probed | None) -> str:
    told = {} if probed is None else {"probe": probed}
    return msgspec.json.encode({**fields, **told, "job": loaded.origins}).decode()


def _text(plan: NightJob, pages: list[Preview], loaded: Loaded, probed: Probed | None) -> str:
    first = [f"nothing to do: {plan.missing}"] if plan.missing is not None else []
    first += [f"probe: {probed}"] if probed is not None else []
    told = [page.to_text() for page in pages]
    keys = keys_advised("\n".join(told), _source_of(loaded))
    told += [f"note: {keys}"] if keys else []
    return "\n\n".join([*first, *told, describe_job(loaded.origins), f"next: {next_command(loaded, pages)}"])


def next_command(loaded: Loaded, pages: Sequence[Preview]) -> str:
    """What to type when all of this is as it is meant: the same words, to run; or, without a task, to name one.

    Of a sheet that is said itself, the columns are proposed that look like a key, and like the names of PDF files.
    """
    said = {origin.option: origin.value for origin in loaded.origins if (origin.where or "").startswith("--")}
    shown = {name: value for name, value in said.items() if not options()[name].is_secret}
    source, is_sheet = _source_of(loaded), loaded.job.job_file is None
    command = "run" if loaded.job.task else "check"
    if not loaded.job.task:
        shown["task"] = "invoice"
        if not loaded.job.rename and (column := _pdf_column(pages)):
            shown["rename"] = {column: "File Name"}
    if is_sheet and not loaded.job.key and len({page.likely_key for page in pages}) == 1 and pages[0].likely_key:
        shown["key"] = pages[0].likely_key
    suspects = sorted({row for page in pages for row in page.suspects}) if loaded.job.suspect_rows is None else []
    if suspects and is_sheet:
        shown["suspect_rows"] = "skip"
    words = quote_words(["batch-runner", *command_words(command, source, shown)])
    if loaded.job.task:
        way = f"skip leaves {row_list(suspects)} out; run sends {'it' if len(suspects) == 1 else 'them'}, too"
        return f"{words}   ({way})" if suspects and is_sheet else words
    own = next(iter(own_tasks(Path())), "FILE.py:FUNCTION")
    return f"{words}   (it reads PDFs; or --task {own} for your own)"


def _source_of(loaded: Loaded) -> str:
    """What was given as INPUT: the sheet, or the job file."""
    return loaded.job.job_file or loaded.job.input


def _pdf_column(pages: Sequence[Preview]) -> str | None:
    """The column that would have to be renamed for the task `invoice`, by the first row of the first sheet."""
    params = pages[0].first[0].params if pages and pages[0].first else {}
    if "File Name" in params:
        return None
    return next((name for name, text in params.items() if text.lower().endswith((".pdf", ".xml"))), None)
