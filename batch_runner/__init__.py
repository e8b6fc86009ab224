"""One row of a spreadsheet is one run of a task.

As a library: `await run_batch(Job(input="invoices.xlsx", task="invoice"))`, or `run_batch_blocking` without an event
loop; both give a `Summary`. All names are imported when they are first used, so that `--help` is there at once.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from batch_runner._version import __version__

if TYPE_CHECKING:
    from batch_runner.errors import BatchRunnerError, ExitCode, SheetError
    from batch_runner.job.job import Job
    from batch_runner.progress import Progress, Tally
    from batch_runner.report.summary import Summary
    from batch_runner.runner.run import run_batch, run_batch_blocking
    from batch_runner.service.local.context import Context, param, task
    from batch_runner.service.local.result import TaskCancelled, TaskFailed


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
    "__version__",
    "param",
    "run_batch",
    "run_batch_blocking",
    "task",
]

_HOMES = {
    "BatchRunnerError": "errors",
    "Context": "service.local.context",
    "ExitCode": "errors",
    "Job": "job.job",
    "Progress": "progress",
    "SheetError": "errors",
    "Summary": "report.summary",
    "Tally": "progress",
    "TaskCancelled": "service.local.result",
    "TaskFailed": "service.local.result",
    "param": "service.local.context",
    "run_batch": "runner.run",
    "run_batch_blocking": "runner.run",
    "task": "service.local.context",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
