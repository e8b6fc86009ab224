"""One row of a spreadsheet is one run of a task.

As a library: `await run_batch(Job(input="invoices.xlsx", task="invoice"))`, or `run_batch_blocking` without an event
loop; both give a `Summary`. All names are imported when they are first used, so that `--help` is there at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from batch_runner.cli.wiring import run_batch, run_batch_blocking
    from batch_runner.errors import BatchRunnerError, ExitCode
    from batch_runner.job.job import Job
    from batch_runner.progress import Progress, Tally
    from batch_runner.service.endings import TaskCancelled, TaskFailed
    from batch_runner.service.signature import param, task
    from batch_runner.service.tasks import Context
    from batch_runner.sheet.errors import SheetError
    from batch_runner.summary import Summary

__version__ = "0.1.0"

__all__ = [
    "BatchRunnerError",
    "Context",
    "ExitCode",
    "Job",
    "Progress",
    "SheetError",
    "Summary",
    "Tally",
    "TaskCancelled",
    "TaskFailed",
    "param",
    "run_batch",
    "run_batch_blocking",
    "task",
]

_HOMES = {
    "BatchRunnerError": "errors",
    "Context": "service.tasks",
    "ExitCode": "errors",
    "Job": "job.job",
    "Progress": "progress",
    "SheetError": "sheet.errors",
    "Summary": "summary",
    "Tally": "progress",
    "TaskCancelled": "service.endings",
    "TaskFailed": "service.endings",
    "param": "service.signature",
    "run_batch": "cli.wiring",
    "run_batch_blocking": "cli.wiring",
    "task": "service.signature",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
