"""The commands. What they need is imported when they run, so that `--help` is there at once."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batch_runner import __version__
from batch_runner.cli.options import JobCommand, job_options, said
from batch_runner.errors import ExitCode

if TYPE_CHECKING:
    from batch_runner.job.job import Job

EPILOG = "Every option is also a variable BATCH_RUNNER_… of the environment and a key of a .toml job file."


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.version_option(__version__, prog_name="batch-runner")
@click.pass_context
def program(context: click.Context) -> int:
    """One row of a spreadsheet is one run of a task.

    Reads the rows of a spreadsheet, starts one run of a task for each, follows it to its end, and writes the same
    spreadsheet back with four more columns: run_id, status, result, error.

    \b
    Try it:      batch-runner check invoices.xlsx
                 batch-runner run invoices.xlsx --task invoice
    With Anchor: export ANCHORBROWSER_API_KEY=…
                 batch-runner run invoices.xlsx --service anchor --task TASK_ID
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
    return ExitCode.REFUSED


@program.command("run", cls=JobCommand, epilog=EPILOG)
@click.argument("source", metavar="INPUT")
@job_options
def run_command(source: str, **values: Any) -> int:
    """Run the task for each row of INPUT: a .csv, .tsv, .xlsx or .xlsm file, or a .toml job that names one.

    The same command again goes on where the last one stopped: no row is started twice.
    """
    from batch_runner.cli.running import run_for_person

    return run_for_person(_job(source, values))


@program.command("check", cls=JobCommand, epilog=EPILOG)
@click.argument("source", metavar="INPUT")
@job_options
def check_command(source: str, **values: Any) -> int:
    """Do everything short of sending: show how INPUT is understood, its problems, and what the first rows send."""
    import tempfile

    from batch_runner.cli.running import print_out
    from batch_runner.cli.services import choose_service
    from batch_runner.cli.wiring import prepare_output
    from batch_runner.preview import preview
    from batch_runner.source import Source

    job = _job(source, values)
    prepare_output(job)
    if job.task:
        choose_service(job)
    with Source(job, Path(tempfile.gettempdir())) as opened:
        seen = preview(job, opened)
    print_out(seen.to_json() if job.json else seen.to_text())
    return seen.exit_code


@program.command("serve")
@click.option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes a free one.")
@click.option("--tasks", metavar="FILE.py", help="Your own tasks: every public function of this file.")
@click.option("--files", metavar="DIR", default=".", show_default=True, help="What the invoice task may read.")
@click.option("--workers", type=click.IntRange(1), help="Worker processes (one for each CPU).")
@click.option("--dask", metavar="ADDRESS", help="Run the tasks on this Dask cluster, tcp://HOST:8786; or local.")
@click.option("--send-files", is_flag=True, help="Send each run's file along to Dask.")
@click.option("--run-timeout", default="30m", show_default=True, help="When a run is ended as timeout.")
def serve_command(port: int, tasks: str | None, files: str, run_timeout: str, **where: Any) -> int:
    """Serve the Tasks API on 127.0.0.1, until Ctrl-C.

    Clients must send the key in ANCHORBROWSER_API_KEY or ANCHOR_API_KEY, if one of these is set.
    """
    from batch_runner.cli.running import serve_until_stopped
    from batch_runner.cli.services import executor_for

    return serve_until_stopped(port, tasks, Path(files), executor_for(**where), run_timeout)


@program.command("status")
@click.argument("journal", type=click.Path(path_type=Path))
@click.option("--row", type=click.IntRange(1), metavar="N", help="The whole story of one row of the last sheet.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status_command(journal: Path, row: int | None, as_json: bool) -> int:
    """Show what a batch has done so far, from its JOURNAL (STEM.journal.db beside the output)."""
    from batch_runner.chronicle import chronicle, story
    from batch_runner.cli.running import print_out

    told = chronicle(journal) if row is None else story(journal, row)
    print_out(told.to_json() if as_json else told.to_text())
    return 0


def _job(source: str, values: dict[str, Any]) -> Job:
    from batch_runner.job.settings import load_job, unknown_variables

    for sentence in unknown_variables(os.environ):
        click.echo(f"batch-runner: {sentence}", err=True)
    return load_job(source, said(values), os.environ)
