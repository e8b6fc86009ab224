"""`check` as a person meets it: everything short of sending, for each input."""

from __future__ import annotations

import shlex
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING
from uuid import uuid4

import anyio
import msgspec

from batch_runner.cli.run import print_out, refuse_unwritable_log, today
from batch_runner.errors import ExitCode, Findings, UsageError
from batch_runner.job.inputs import make_folders, night_job_of
from batch_runner.job.options import GIVEN, command_words, describe_job, options
from batch_runner.runner.connect import probe_service
from batch_runner.runner.memory import place_journals
from batch_runner.runner.night import Rehearsal, name_input

if TYPE_CHECKING:
    from batch_runner.job.config import Loaded
    from batch_runner.job.inputs import NightJob
    from batch_runner.job.job import Job
    from batch_runner.runner.check import Preview
    from batch_runner.runner.connect import Probed


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
    told = (page.to_text() for page in pages)
    return "\n\n".join([*first, *told, describe_job(loaded.origins), f"next: {next_command(loaded)}"])


def next_command(loaded: Loaded) -> str:
    """What to type when all of this is as it is meant: the same words, to run; or, without a task, to name one."""
    said = {origin.option: origin.value for origin in loaded.origins if (origin.where or "").startswith("--")}
    shown = {name: value for name, value in said.items() if not options()[name].is_secret}
    given = loaded.origins[0]
    source = str(given.value) if given.where == GIVEN else (given.where or "").removesuffix(": input")
    if not loaded.job.task:
        return shlex.join(["batch-runner", *command_words("check", source, {**shown, "task": "invoice"})]) + (
            "   (it reads PDFs; or --task FILE.py:FUNCTION for your own)"
        )
    return shlex.join(["batch-runner", *command_words("run", source, shown)])
