"""The command line: commands, options, exit codes.

commands.py  the commands, as click calls them
options.py   the options of a job, as click shows and reads them; completion; `help TOPIC`: the Markdown in help/
init.py      `init`: a job file for a sheet
run.py       `run`: progress and log on stderr, the summary on stdout; `check`: the plan of each input
serve.py     `serve` and `open`: where they listen, where runs are kept
status.py    `status`: what a journal tells a person
"""

from __future__ import annotations

import atexit
import codecs
import os
import signal
import sys
import traceback
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from batch_runner.errors import (
    SIGNALS,
    BatchRunnerError,
    ExitCode,
    SheetError,
    UsageError,
    escaped,
    exit_code_of,
    printable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program and leave it with its exit code: also where a signal comes when all is told."""
    atexit.register(_answer_signals, signal.SIG_IGN)  # the first is called last; then the interpreter takes itself down
    for stream in (sys.stdout, sys.stderr) if sys.platform == "win32" else ():
        if isinstance(stream, TextIOWrapper) and not stream.isatty():
            stream.reconfigure(encoding="utf-8")  # a file or a program; else in the code page of this machine
    if isinstance(sys.stdout, TextIOWrapper) and sys.stdout.errors == "strict":
        # A console of Windows (cp437, cp1252) lacks letters: better an escape, as on stderr, than no summary.
        codecs.register_error("escaped", escaped)
        sys.stdout.reconfigure(errors="escaped")
    try:
        code = run_arguments(arguments)
    except KeyboardInterrupt:  # of a command that was just being imported
        code = ExitCode.INTERRUPTED
    _answer_signals(lambda *_: os._exit(code))
    sys.exit(code)


def _answer_signals(answer: Callable[..., object] | signal.Handlers) -> None:
    """Answer those that somebody hasn't had ignored (`nohup`)."""
    for number in SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, answer)


def run_arguments(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code. The one place where errors become sentences."""
    import click

    from batch_runner.cli.commands import program

    try:
        _refuse_lost_folder()
        code = program.main(args=arguments, prog_name="batch-runner", standalone_mode=False)
    except click.ClickException as error:
        _say(error.format_message())
        return ExitCode.REFUSED
    except click.Abort:
        return ExitCode.INTERRUPTED
    except (BatchRunnerError, SheetError) as error:
        _say(str(error))
        return exit_code_of(error)
    except Exception as error:  # noqa: BLE001  what nobody foresaw is a bug of ours, and says so
        if isinstance(error, UnicodeEncodeError) and _is_of_locale():
            _say("a name holds letters that this locale can't read or write; set LC_ALL=C.UTF-8, or rename the file")
            return ExitCode.REFUSED
        _say_lines(traceback.format_exc().splitlines())
        _say("this is a bug of batch-runner, please report it; what was sent is recorded: the same command goes on")
        return ExitCode.BUG
    return int(code or 0)


def _refuse_lost_folder() -> None:
    """Raise `UsageError` where the working folder was deleted: no relative path leads anywhere."""
    try:
        Path.cwd()
    except OSError:
        raise UsageError("the working folder is gone; go to one that is there, and say the same command") from None


def _is_of_locale() -> bool:
    """Whether names are no UTF-8 here, or one that was said can't be decoded (it then holds surrogates, PEP 383)."""
    return sys.getfilesystemencoding() != "utf-8" or any(
        word.encode("utf-8", "replace").decode() != word for word in sys.argv
    )


def _say(text: str) -> None:
    from batch_runner import log

    lines = text.splitlines()
    _say_lines(log.json_line(line, "error") if log.is_json() else printable(f"batch-runner: {line}") for line in lines)


def _say_lines(lines: Iterable[str]) -> None:
    """On standard error, after what a batch has said there; nobody may be reading it."""
    from batch_runner.progress import Listener

    stream = Listener(sys.stderr)
    for line in lines:
        stream.write(f"{line}\n")
