"""The command line: commands, options, exit codes.

commands.py  the commands, as click calls them
options.py   the options of a job, as click shows and reads them; `help TOPIC`: the Markdown in help/
completion.py  what a shell offers at Tab: files, columns, statuses, tasks
check.py     `check`: everything short of sending, for each input
init.py      `init`: a job file for a sheet
run.py       `run`: progress and log on stderr, the summary on stdout
serve.py     `serve` and `open`: where they listen, where runs are kept
status.py    `status`: what a journal tells a person
"""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING, NoReturn

from batch_runner.errors import BatchRunnerError, ExitCode, SheetError, exit_code_of

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program and leave it with its exit code."""
    sys.exit(run_arguments(arguments))


def run_arguments(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code. The one place where errors become sentences."""
    import click

    from batch_runner.cli.commands import program

    try:
        code = program.main(args=arguments, prog_name="batch-runner", standalone_mode=False)
    except click.ClickException as error:
        _say(error.format_message())
        return ExitCode.REFUSED
    except click.Abort:
        return ExitCode.INTERRUPTED
    except (BatchRunnerError, SheetError) as error:
        _say(str(error))
        return exit_code_of(error)
    except Exception:  # noqa: BLE001  what nobody foresaw is a bug of ours, and says so
        traceback.print_exc()
        _say("this is a bug of batch-runner, please report it; what was sent is recorded: the same command goes on")
        return ExitCode.BUG
    return int(code or 0)


def _say(text: str) -> None:
    import click

    from batch_runner import log

    for line in text.splitlines():
        click.echo(log.json_line(line, "error") if log.is_json() else f"batch-runner: {line}", err=True)
