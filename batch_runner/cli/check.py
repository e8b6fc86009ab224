"""`check` as a person meets it: everything short of sending, for each input."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import msgspec

from batch_runner.cli.run import print_out, refuse_unwritable_log, today
from batch_runner.errors import ExitCode, Findings, UsageError
from batch_runner.fs import have_temporary_folder
from batch_runner.job.inputs import make_folders, night_job_of
from batch_runner.job.options import describe_job
from batch_runner.journal.journal import rehearse
from batch_runner.runner.check import Preview, open_source, preview
from batch_runner.runner.connect import choose_service, probe_service, purpose_of
from batch_runner.runner.night import look_at_journal, name_input
from batch_runner.runner.run import info_of, prepare_output

if TYPE_CHECKING:
    from batch_runner.fs import AtomicFile
    from batch_runner.job.config import Loaded
    from batch_runner.job.inputs import NightJob, SheetJob
    from batch_runner.job.job import Job
    from batch_runner.output.previous_output import Evidence
    from batch_runner.rows.source import Source
    from batch_runner.runner.connect import ChosenService, Probed


def check_for_person(loaded: Loaded, *, probe: bool = False) -> int:
    """Print how each input is understood, and the job in force; returns the exit code.

    With `probe` the service is asked first whether key and task are right.
    """
    probed = _probe(loaded.job) if probe else None
    plan = night_job_of(loaded.job, today())
    make_folders(loaded.job, plan)
    findings = Findings()
    found: tuple[list[Preview], list[str]] = ([], [])
    with findings.look():
        refuse_unwritable_log(plan.job)
    with findings.look():
        found = _pages(plan)
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


def _pages(plan: NightJob) -> tuple[list[Preview], list[str]]:
    """A page for each sheet that can be used, and what is wrong with the others. Raises for a sole sheet."""
    if not plan.many:
        return [_page(planned) for planned in plan.batches], []
    pages: list[Preview] = []
    problems: list[str] = []
    for planned in plan.batches:
        try:
            with name_input(planned.job):
                pages.append(_page(planned))
        except UsageError as error:
            problems += str(error).splitlines()
    return pages, problems


def _page(planned: SheetJob) -> Preview:
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
    inputs, purpose = (service.inputs, purpose_of(job, service)) if service else (None, None)
    opening = open_source(job, target, inputs, purpose, Path(tempfile.gettempdir()))
    with findings.look(), opening as (source, evidence):
        pages.append(anyio.run(_rehearse, planned, source, service, evidence))
    findings.tell()
    return pages[0]


async def _rehearse(
    planned: SheetJob, source: Source, service: ChosenService | None, evidence: tuple[Evidence, ...]
) -> Preview:
    """The page of a batch that is rehearsed on what its journal knows; without a task, nothing was ever sent for it."""
    job = planned.job
    batch = info_of(job, source, service, planned.series)
    if service is not None:
        look_at_journal(job.journal_path, batch)
    async with rehearse(job.journal_path if service is not None else None, batch) as journal:
        return await preview(job, source, journal, evidence)


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
    return "\n\n".join([*first, *(page.to_text() for page in pages), describe_job(loaded.origins)])
