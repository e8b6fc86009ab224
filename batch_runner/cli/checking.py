"""`check` as a person meets it: everything short of sending, for each input, and the job in force."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from batch_runner.cli.night import naming, refuse_lost_journal
from batch_runner.cli.running import print_out, today
from batch_runner.cli.services import choose_service
from batch_runner.cli.wiring import prepare_output
from batch_runner.errors import ExitCode, Findings, UsageError
from batch_runner.job.folders import make_folders
from batch_runner.job.origins import told
from batch_runner.job.plan import plan_of
from batch_runner.preview import Preview, preview
from batch_runner.source import Source

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_runner.job.job import Job
    from batch_runner.job.plan import Plan
    from batch_runner.job.settings import Loaded


def check_for_person(loaded: Loaded) -> int:
    """Print how each input is understood, and the job in force; returns the exit code."""
    plan = plan_of(loaded.job, today())
    make_folders(loaded.job, plan)
    pages, problems = _pages(plan)
    code = ExitCode.REFUSED if problems else max((page.exit_code for page in pages), default=ExitCode.OK)
    if not loaded.job.json:
        print_out(_text(plan, pages, loaded))
    elif pages and not plan.many:
        print_out(_encoded(msgspec.to_builtins(pages[0]), loaded))
    else:
        several = {"exit_code": code, "batches": pages, "missing": plan.missing, "problems": problems}
        print_out(_encoded(several, loaded))
    if problems:
        raise UsageError("\n".join(problems))
    return code


def _pages(plan: Plan) -> tuple[list[Preview], list[str]]:
    """A page for each sheet that can be used, and what is wrong with the others. Raises for a sole sheet."""
    if not plan.many:
        return [_page(planned.job) for planned in plan.batches], []
    pages: list[Preview] = []
    problems: list[str] = []
    for planned in plan.batches:
        try:
            with naming(planned.job):
                pages.append(_page(planned.job, refuse_lost_journal))
        except UsageError as error:
            problems += str(error).splitlines()
    return pages, problems


def _page(job: Job, look: Callable[[Source], None] = lambda _: None) -> Preview:
    """One sheet's page. Raises all that is wrong with it, and with what the job says of it."""
    findings, pages, inputs = Findings(), [], None
    with findings.look():
        prepare_output(job)
    if job.task:
        with findings.look():
            inputs = choose_service(job).inputs
    with findings.look(), Source(job, Path(tempfile.gettempdir()), inputs) as source:
        look(source)
        pages.append(preview(job, source))
    findings.tell()
    return pages[0]


def _encoded(fields: dict[str, object], loaded: Loaded) -> str:
    return msgspec.json.encode({**fields, "job": loaded.origins}).decode()


def _text(plan: Plan, pages: list[Preview], loaded: Loaded) -> str:
    first = [f"nothing to do: {plan.missing}"] if plan.missing is not None else []
    return "\n\n".join([*first, *(page.to_text() for page in pages), told(loaded.origins)])
