"""The commands. What they need is imported when they run, so that `--help` is there at once."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batch_runner._version import __version__
from batch_runner.cli.options import (
    JobCommand,
    ServeOption,
    complete_input,
    complete_value,
    help_command,
    job_options,
    keep_said,
    variables_said,
)
from batch_runner.errors import ExitCode, quote_words
from batch_runner.outcomes import RESOLVED

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from batch_runner.job.config import Loaded


EPILOG = "Every option is also a variable BATCH_RUNNER_… of the environment and a key of a .toml job file."
SERVE_EPILOG = "Every option is also a variable BATCH_RUNNER_… of the environment (BATCH_RUNNER_PORT=8081)."
_serve_option = partial(click.option, cls=ServeOption)
_init_option = partial(click.option, shell_complete=complete_value)


def _text(_: click.Context, option: click.Parameter, value: Any) -> Any:
    """Refuse what is no text in its encoding: it comes as lone surrogates (PEP 383)."""
    for text in (value,) if isinstance(value, str) else value or ():
        if text.encode(errors="replace").decode() != text:
            raise click.BadParameter("it holds bytes that are no text; write it in UTF-8", param=option)
    return value


def _columns(_: click.Context, option: click.Parameter, value: str) -> tuple[str, ...]:
    """Names of columns as in every job."""
    from batch_runner.job.options import options

    try:
        names = options()["key"].read(value)
    except ValueError as error:
        raise click.BadParameter(str(error), param=option) from None
    if not names:
        raise click.BadParameter("name at least one column", param=option)
    return tuple(map(str, names)) if isinstance(names, tuple | list) else ()


class Program(click.Group):
    """The program: `batch-runner FILE` is `batch-runner check FILE`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a sheet's or a job's name for `check` before it."""
        from batch_runner.sheet.model import TEXT_ENDINGS, WORKBOOK_ENDINGS

        ending = Path(args[0]).suffix.lower()
        is_file = args[0] not in self.commands and ending in (*TEXT_ENDINGS, *WORKBOOK_ENDINGS, ".toml")
        return super().resolve_command(ctx, ["check", *args] if is_file else args)

    def invoke(self, ctx: click.Context) -> Any:
        """As click does; but Ctrl-C is answered without a line on standard error, which nobody may be reading."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            return ExitCode.INTERRUPTED

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The commands, and the files that may stand in their place."""
        files = [] if incomplete.startswith("-") else complete_input(ctx, ctx.command, incomplete)
        return [*super().shell_complete(ctx, incomplete), *files]


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"]}, invoke_without_command=True)
@click.version_option(__version__, prog_name="batch-runner")
@click.pass_context
def program(context: click.Context) -> int:
    """One row of a spreadsheet is one run of a task.

    Reads the rows of a spreadsheet, starts one run of a task for each, follows it to its end, and writes the same
    spreadsheet back with four more columns: run_id, status, result, error.

    \b
    Try it:      batch-runner invoices.xlsx
                 batch-runner run invoices.xlsx --task invoice
    With Anchor: export ANCHORBROWSER_API_KEY=…
                 batch-runner run invoices.xlsx --service anchor --task TASK_ID
    Every night: batch-runner init invoices.xlsx
                 batch-runner run nightly.toml
    On a page:   batch-runner open
    To read on:  batch-runner help

    \b
    Tab offers files, columns, statuses, tasks and topics, once you have this line:
    ~/.bashrc    eval "$(_BATCH_RUNNER_COMPLETE=bash_source batch-runner)"
    ~/.zshrc     eval "$(_BATCH_RUNNER_COMPLETE=zsh_source batch-runner)"
    fish         _BATCH_RUNNER_COMPLETE=fish_source batch-runner >
                 ~/.config/fish/completions/batch-runner.fish
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
    return ExitCode.REFUSED


program.add_command(help_command)


class RunCommand(JobCommand):
    """A command whose end is told, even where its words can't be read, to those whom the environment names."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Read the command line; raises `click.UsageError` for one that makes no sense, when that has been told."""
        source = next((word for word in args if not word.startswith("-")), "run")
        has_json = "--json" in args  # what is read is taken out of them
        try:
            return super().make_context(info_name, args, parent, **extra)
        except click.UsageError:
            from batch_runner.cli.run import errors_as_json, tell_about

            with tell_about(source, {}) as telling:
                telling.ends(ExitCode.REFUSED)
            with errors_as_json(source, has_json):
                raise


@program.command("run", cls=RunCommand, epilog=EPILOG)
@click.argument("source", metavar="INPUT", shell_complete=complete_input)
@job_options
def run_command(source: str, **values: Any) -> int:
    """Run the task for each row of INPUT: a .csv, .tsv, .xlsx or .xlsm file, or a .toml job that names one.

    A pattern in quotes ('inbox/*.xlsx') stands for several, one batch each; {date} in a name for today.

    The same command again continues where the last one stopped. batch-runner help nights says how.
    """
    from batch_runner.batch.stop import Signals
    from batch_runner.cli.run import advice_for, errors_as_json, run_for_person, tell_about
    from batch_runner.job.config import wants_json

    said = keep_said(values)
    with Signals() as signals, tell_about(source, said, signals) as telling:
        with errors_as_json(source, wants_json(source, said, os.environ)), advice_for(source):
            loaded = _load(source, values)
            telling.check()
            told = run_for_person(loaded.job, telling, signals)
        if told.bug is not None:
            raise told.bug
        telling.ends(told.exit_code)
    signals.end_soon(told.exit_code)
    return told.exit_code


@program.command("check", cls=JobCommand, epilog=EPILOG)
@click.argument("source", metavar="INPUT", shell_complete=complete_input)
@click.option("--probe", is_flag=True, help="Ask the service whether key and task are right; it starts no run.")
@job_options
def check_command(source: str, probe: bool, **values: Any) -> int:
    """Do everything short of sending: show how INPUT is understood, what is wrong, and the first rows' params.

    Then the job in force: each option that was said, its value and where it came from.
    """
    from batch_runner.cli.run import advice_for, check_for_person
    from batch_runner.job.config import notify_config_of
    from batch_runner.report.notify import Notifier

    loaded = _load(source, values)
    _warn_of_variables()
    Notifier(notify_config_of(source, keep_said(values), os.environ), os.environ).check()
    with advice_for(source):
        return check_for_person(loaded, probe=probe)


@program.command("init")
@click.argument("source", metavar="SHEET|JOB", type=click.Path(path_type=Path), shell_complete=complete_input)
@click.option("-o", "--job", metavar="PATH", default="nightly.toml", show_default=True, help="Where to; - prints it.")
@click.option("--sheet", metavar="NAME", help="The sheet of the workbook (the first visible one).")
@_init_option("--task", metavar="ID", help="The task to run; asked for at a terminal.")
@_init_option("--service", metavar="local|anchor|URL", help="Who runs it.")
@_init_option("--key", metavar="A,B", multiple=True, help="The columns that identify a row; asked for at a terminal.")
@_init_option("--columns", metavar="A,B", multiple=True, help="Send only these columns; asked for at a terminal.")
@_init_option("--suspect-rows", metavar="run|skip", help="What to do with rows that look like totals or notes.")
@click.option("--systemd", "runs", flag_value="systemd", help="Print the systemd units that run the job every night.")
@click.option("--cron", "runs", flag_value="cron", help="Print its line for a crontab.")
@click.option("--container", "runs", flag_value="container", help="Print a Containerfile and how to run it.")
@click.option("--windows", "runs", flag_value="windows", help="Print how Windows runs it every night.")
def init_command(source: Path, job: str, runs: str | None, **values: Any) -> int:
    """Write a short job file for SHEET, its columns filled in; or print what runs the job JOB every night.

    A file that is there already is kept.
    """
    from batch_runner.cli.init import ask, job_file, look, read_option, write
    from batch_runner.cli.run import print_out
    from batch_runner.job.options import what_runs

    if runs and source.suffix.lower() == ".toml":
        print_out(what_runs(source, runs))
        return ExitCode.OK
    said = {name: read_option(name, value) for name, value in keep_said(values).items()}
    if not (runs and Path(job).is_file()):
        seen = look(source, values["sheet"])
        if sys.stdin.isatty() and sys.stdout.isatty() and job != "-":
            said = ask(seen, said)
        text = job_file(source, Path(job).parent, seen, said)
        if job == "-":
            print_out(text.removesuffix("\n"))
            return ExitCode.OK
        write(Path(job), text)
        todo = "next: " if "task" in said else "put your task into it, then: "
        left = "it leaves hidden rows out (see its line hidden); " if seen.hidden else ""
        told = f"{job}: written for {source}; {left}{todo}batch-runner check {quote_words([job])}"
        click.echo(told, err=runs is not None)
    if runs:
        print_out(what_runs(Path(job), runs))
    return ExitCode.OK


@program.command("serve", epilog=SERVE_EPILOG)
@_serve_option("--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="0 takes a free one.")
@_serve_option(
    "--host",
    metavar="ADDRESS",
    default="127.0.0.1",
    show_default=True,
    help="Where to listen; for any but this machine's own a key must be set.",
)
@_serve_option("--tasks", metavar="FILE.py", help="Your own tasks: every public function of this file.")
@_serve_option("--files", metavar="DIR", default=".", show_default=True, help="What the invoice task may read.")
@_serve_option("--workers", type=click.IntRange(1), help="Worker processes (one for each CPU).")
@_serve_option("--dask", metavar="ADDRESS", help="Run the tasks on this Dask cluster, tcp://HOST:8786; or local.")
@_serve_option("--send-files", is_flag=True, help="Send each run's file along to Dask.")
@_serve_option("--run-timeout", default="30m", show_default=True, help="When a run is ended as timeout.")
@_serve_option(
    "--runs",
    metavar="PATH",
    default="batch-runner-runs.db",
    show_default=True,
    help="Where runs and their results are kept, so that a restart knows them.",
)
@_serve_option(
    "--keep",
    metavar="DAYS",
    default="7",
    show_default=True,
    help="How long ended runs are kept: so many days, or a time such as 12h.",
)
@_serve_option(
    "--queue",
    type=click.IntRange(1),
    default=1000,
    show_default=True,
    help="Runs that may wait for their turn; more starts are told to come later.",
)
@_serve_option(
    "--grace",
    metavar="TIME",
    default="10s",
    show_default=True,
    help="How long runs may take to end when it is stopped.",
)
@click.pass_context
def serve_command(context: click.Context, /, **values: Any) -> int:
    """Serve the Tasks API on 127.0.0.1, until Ctrl-C.

    Clients must send the key in ANCHORBROWSER_API_KEY or ANCHOR_API_KEY, if one of these is set.

    A restart with the same --runs tells what became of earlier runs; one that was cut off ends as failure.
    """
    from batch_runner.cli.serve import Serving, name_variables, serve_until_stopped

    _warn_of_variables()
    with name_variables(variables_said(context)):
        return serve_until_stopped(Serving(**values))


@program.command("open")
@click.argument("target", metavar="[FOLDER|FILE]", type=click.Path(path_type=Path), default=".")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Where to listen (a free one).")
@click.option("--no-browser", is_flag=True, help="Print the address, and open no browser.")
def open_command(target: Path, port: int, no_browser: bool) -> int:
    """Work on a local page: choose a sheet, check it, run it, mend what failed; until Ctrl-C.

    The first line printed is its address, which only this machine can reach. Batches that are started there go on when
    the page is closed.
    """
    from batch_runner.cli.serve import open_page

    open_page(target, port, browser=not no_browser)
    return ExitCode.OK


@program.command("status")
@click.argument("journal", type=click.Path(path_type=Path))
@click.option("--row", type=click.IntRange(1), metavar="N", help="The whole story of one row of the sheet.")
@click.option("--input", "sheet", metavar="SHEET", help="Which sheet, where the journal has several.")
@click.option(
    "--key-value",
    metavar="TEXT",
    multiple=True,
    help="The same for the row with this key; COLUMN=TEXT for each column.",
)
@click.option("--output", type=click.Path(path_type=Path), help="Write the output from what is known now.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status_command(
    journal: Path, row: int | None, sheet: str | None, key_value: tuple[str, ...], output: Path | None, as_json: bool
) -> int:
    """Show what a batch has done so far, from its JOURNAL (TASK.journal.db beside the output).

    JOURNAL may also be the sheet, its output or the job.

    --output writes the sheet with its outcomes, at any time: also while a batch runs. It changes neither sheet nor
    journal, and writes over nothing but outputs of this program.
    """
    from batch_runner.cli.run import print_out
    from batch_runner.cli.status import read_status, story, story_of_key, write_output

    if row is not None and key_value:
        raise click.UsageError("--row and --key-value: say one of them, where the row stands or how it is known")
    if output is not None:
        if row is not None or key_value:
            raise click.UsageError("--output: it has all rows; say it without --row and --key-value")
        print_out(write_output(journal, output, sheet))
        return 0
    whole = read_status(journal) if row is None else story(journal, row, sheet)
    told = story_of_key(journal, key_value) if key_value else whole
    print_out(told.to_json() if as_json else told.to_text())
    return 0


@program.command("resolve")
@click.argument("journal", type=click.Path(path_type=Path))
@click.option(
    "--row", "rows", type=click.IntRange(1), metavar="N", multiple=True, required=True, help="The row; again for more."
)
@click.option(
    "--as",
    "status",
    type=click.Choice(RESOLVED),
    required=True,
    help="What became of it. not_started: no run exists, so the next batch starts one.",
)
@click.option(
    "--note",
    metavar="TEXT",
    callback=_text,
    required=True,
    help="How you know; it is kept, with your name and the time.",
)
@click.option("--input", "sheet", metavar="SHEET", help="Which sheet, where the journal has several.")
@click.option("--run-id", metavar="ID", callback=_text, help="The run, if you found one in the service.")
@click.option("--who", metavar="NAME", callback=_text, help="Who says so (the name that you are logged in with).")
def resolve_command(
    journal: Path, rows: tuple[int, ...], sheet: str | None, status: str, note: str, run_id: str | None, who: str | None
) -> int:
    """Settle rows that are unknown: you have looked in the service, or in the books, and know what became of them.

    JOURNAL is TASK.journal.db beside the output; or the sheet, its output or the job. The next batch carries the
    outcome over into the output.
    """
    from batch_runner.cli.run import print_out, today
    from batch_runner.journal.resolve import Finding, resolve, user_name
    from batch_runner.runner.memory import journal_meant

    if not note.strip():
        raise click.UsageError("--note: say how you know; it is kept for whoever asks")
    named, meant = journal_meant(journal, today())
    of = resolve(named, rows, Finding(status, note, who or user_name(), run_id), sheet or meant)
    numbers = ", ".join(map(str, dict.fromkeys(rows)))
    print_out(
        f"{of.path}: row {numbers} (night of {of.night}): unknown → {status}; the next batch carries it into the output"
    )
    return 0


@program.command("rekey")
@click.argument("journal", type=click.Path(path_type=Path))
@click.option("--key", metavar="A,B", callback=_columns, required=True, help="The columns that identify a row.")
def rekey_command(journal: Path, key: tuple[str, ...]) -> int:
    """Have a JOURNAL know its rows by other columns: what ran is found in the sheets, and nothing runs again.

    All rows that ran must be found as they are known now; else nothing is changed. JOURNAL may be the job file.
    """
    from batch_runner.cli.run import print_out
    from batch_runner.cli.status import rekey_for_person

    print_out(rekey_for_person(journal, key))
    return 0


@program.command("adjust")
@click.argument("journal", type=click.Path(path_type=Path))
@click.option(
    "--concurrency", type=click.IntRange(1), metavar="N", required=True, help="Runs in flight at most from now on."
)
def adjust_command(journal: Path, concurrency: int) -> int:
    """Change a batch while it runs: how many runs it has in flight.

    JOURNAL is TASK.journal.db beside the output; the sheet, the output or the job file will do, too.

    With fewer, runs that are in flight end as they would have. The batch's summary says what was changed.
    """
    from batch_runner.cli.run import print_out, today
    from batch_runner.runner.adjust import adjust

    print_out(adjust(journal, concurrency, today()))
    return ExitCode.OK


def _load(source: str, values: dict[str, Any]) -> Loaded:
    from batch_runner.errors import UsageError
    from batch_runner.job.config import load_job

    try:
        return load_job(source, keep_said(values), os.environ)
    except UsageError:
        _warn_of_variables()
        raise


def _warn_of_variables() -> None:
    from batch_runner.job.config import unknown_variables

    for sentence in unknown_variables(os.environ):
        click.echo(f"batch-runner: {sentence}", err=True)
