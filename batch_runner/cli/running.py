"""`run` and `serve` as a person meets them: progress and log on stderr, the summary on stdout."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

import anyio
import click

from batch_runner.cli.services import KEY_VARIABLES, api_key
from batch_runner.cli.wiring import execute, open_job
from batch_runner.errors import ExitCode, UsageError, sole_error
from batch_runner.log import write_log
from batch_runner.progress import progress_for
from batch_runner.units import parse_duration

if TYPE_CHECKING:
    from pathlib import Path

    from batch_runner.job.job import Job
    from batch_runner.service.executors import Executor


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


def serve_until_stopped(port: int, tasks: str | None, files: Path, executor: Executor, run_timeout: str) -> int:
    """Serve until Ctrl-C (0) or SIGTERM (0): both are the orderly end of a service."""
    from batch_runner.service.server import serve
    from batch_runner.service.service import Service
    from batch_runner.service.tasks import load_tasks

    try:
        seconds = parse_duration(run_timeout)
    except ValueError as error:
        raise UsageError(f"--run-timeout: {error}") from None
    key = api_key()
    service = Service(load_tasks(*([tasks] if tasks else []), files=files), None, seconds, key, executor=executor)

    def say(url: str) -> None:
        lock = (
            "the key from the environment is asked for" if key else f"no key is asked for ({KEY_VARIABLES[0]} is unset)"
        )
        click.echo(f"batch-runner: serving the Tasks API on {url}; {lock}; Ctrl-C stops it", err=True)

    with sole_error():
        anyio.run(serve, service, port, say)
    return ExitCode.OK
