"""`check` as a person meets it: everything short of sending, for each input."""

from __future__ import annotations

import tempfile
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import anyio
import msgspec

from batch_runner.cli.run import print_out, refuse_unwritable_log, today
from batch_runner.errors import ExitCode, Findings, UsageError
from batch_runner.fs import have_temporary_folder
from batch_runner.job.inputs import make_folders, night_job_of
from batch_runner.job.options import describe_job
from batch_runner.journal.index import StartsOfTonight
from batch_runner.runner.check import Preview, open_source, preview
from batch_runner.runner.connect import choose_service, probe_service, purpose_of
from batch_runner.runner.memory import info_of, place_journals, recall, rehearse
from batch_runner.runner.night import look_at_journal, name_input
from batch_runner.runner.run import prepare_output

if TYPE_CHECKING:
    from batch_runner.fs import AtomicFile
    from batch_runner.job.config import Loaded
    from batch_runner.job.inputs import NightJob, SheetJob
    from batch_runner.job.job import Job
    from batch_runner.journal.journal import JournalFile
    from batch_runner.output.previous_output import Evidence
    from batch_runner.rows.source import Source
    from batch_runner.runner.connect import ChosenService, Probed


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
        rehearsal = _Rehearsal(stack, plan)
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


class _Rehearsal:
    """A night that is gone over without sending: what its journals know, and what it would record, stays in a copy."""

    def __init__(self, stack: AsyncExitStack, plan: NightJob) -> None:
        self._stack = stack
        self._command = uuid4().hex if plan.many else ""
        has_several = len({planned.job.journal for planned in plan.batches}) > 1
        self._tonight = StartsOfTonight() if has_several else None
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
            pages.append(await self._rehearse(planned, source, service, evidence))
        findings.tell()
        return pages[0]

    async def _rehearse(
        self, planned: SheetJob, source: Source, service: ChosenService | None, evidence: tuple[Evidence, ...]
    ) -> Preview:
        """The page of a batch that is rehearsed; without a task, nothing was ever sent for it."""
        job = planned.job
        batch = msgspec.structs.replace(info_of(job, source, service, planned.series), command=self._command)
        if service is None:
            return await preview(job, source, await (await self._file(None)).begin(batch), evidence)
        look_at_journal(job.journal_path, batch)
        memory = recall(job, service)
        source.template.know_also(memory.key_columns)
        others = memory.others.beside(self._tonight, job.journal_path)
        journal = await (await self._file(job.journal_path)).begin(batch, others)
        return await preview(job, source, journal, evidence, (*planned.notes, *memory.cautions))

    async def _file(self, path: Path | None) -> JournalFile:
        if path not in self._files:
            self._files[path] = await self._stack.enter_async_context(rehearse(path))
        return self._files[path]


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
