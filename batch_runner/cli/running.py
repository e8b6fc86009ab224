"""`run` as a person meets it: progress and log on stderr, the summary on stdout."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

import anyio
import click

from batch_runner.cli.wiring import execute, open_job
from batch_runner.log import write_log
from batch_runner.progress import progress_for

if TYPE_CHECKING:
    from batch_runner.job.job import Job


def run_for_person(job: Job) -> int:
    """Run the job, show its progress, print its summary; returns the exit code."""
    progress = progress_for(job.progress, sys.stderr)
    write_log(job.log_format, job.log_level, progress.say)
    with open_job(job) as opened:
        summary = anyio.run(partial(execute, opened, progress, interrupts=True))
    print_out(summary.to_json() if job.json else summary.to_text())
    return summary.exit_code


def print_out(text: str) -> None:
    """Print on stdout. A reader that has left (`| head`) changes nothing: the exit code still tells how it went."""
    try:
        click.echo(text)
    except BrokenPipeError:
        sys.stdout = None  # so that the interpreter doesn't try to flush it at exit
