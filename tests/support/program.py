"""Runs the program: in this process where only its words, codes and files matter, or in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

import pytest

from batch_runner.cli import run_arguments
from batch_runner.cli.run import today
from batch_runner.journal.index import STATE_VARIABLE
from batch_runner.log import LOG
from batch_runner.service.local.tasks import _module

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMAND = (sys.executable, "-m", "batch_runner")
PATIENCE = 300
"""Seconds until a program that has not ended is a failure; a busy machine is several times slower than an idle one."""


def environment(**more: str) -> dict[str, str]:
    """This process's environment without anything that speaks to the program but the test's own state folder.

    And what a test adds.
    """
    ours = ("BATCH_RUNNER_", "ANCHOR")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours) or name == STATE_VARIABLE}
    return kept | more


def run_program(*arguments: object, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end in this process, without a terminal: as `run_process`, for a tenth of the time.

    For tests of what it says, writes and returns. What a process is in itself (signals, its death, locks between two,
    the interpreter's own variables, threads that run it side by side) is for `run_process` and `start_program`.
    """
    assert threading.current_thread() is threading.main_thread(), "side by side: use run_process"
    assert not any(name.startswith("PYTHON") for name in variables), "the interpreter reads it: use run_process"
    command = [*map(str, arguments)]
    with _file("strict") as out, _file("backslashreplace") as err:
        with _own_streams(out, err), _own_place(cwd, environment(**variables)), _own_memory():
            code = _code_of(command)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess([*COMMAND, *command], code, out.read(), err.read())


def _code_of(command: list[str]) -> int:
    try:
        return int(run_arguments(command))
    except SystemExit as end:  # click's, where a shell asks what could be completed
        return int(end.code or 0)


def _file(errors: str) -> TextIO:
    return cast("TextIO", tempfile.TemporaryFile("w+", encoding="utf-8", errors=errors))


@contextmanager
def _own_streams(out: TextIO, err: TextIO) -> Iterator[None]:
    """Standard output and error go to these files, also what child processes write; standard input is empty."""
    before = sys.stdin, sys.stdout, sys.stderr
    kept = [os.dup(number) for number in range(3)]
    with Path(os.devnull).open() as nothing:
        try:
            for number, file in enumerate((nothing, out, err)):
                os.dup2(file.fileno(), number)
            sys.stdin, sys.stdout, sys.stderr = nothing, out, err
            yield
        finally:
            sys.stdin, sys.stdout, sys.stderr = before
            out.flush()
            err.flush()
            for number, duplicate in enumerate(kept):
                os.dup2(duplicate, number)
                os.close(duplicate)


@contextmanager
def _own_place(folder: Path, variables: dict[str, str]) -> Iterator[None]:
    """In this folder, with these variables and their time zone."""
    before, variables_before = Path.cwd(), dict(os.environ)
    os.chdir(folder)
    _set_variables(variables)
    try:
        yield
    finally:
        _set_variables(variables_before)
        os.chdir(before)


def _set_variables(variables: dict[str, str]) -> None:
    is_zone_other = os.environ.get("TZ") != variables.get("TZ")
    os.environ.clear()
    os.environ.update(variables)
    if is_zone_other:
        if sys.platform == "win32":
            pytest.skip("a process has no time zone of its own there")
        time.tzset()


@contextmanager
def _own_memory() -> Iterator[None]:
    """Nothing that an earlier run has left: its day, its tasks and what these imported from their folders, its log.

    Warnings are shown or not as by a fresh interpreter, but for a file or socket that is left open: that is an error.
    """
    for remembered in (today, _module):
        remembered.cache_clear()
    paths, modules = sys.path[:], set(sys.modules)
    log = LOG.handlers[:], LOG.level, LOG.propagate
    LOG.handlers[:] = []
    try:
        with warnings.catch_warnings():
            warnings.resetwarnings()
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("error", ResourceWarning)
            warnings.showwarning = _show_warning
            yield
    finally:
        for handler in LOG.handlers[:]:
            handler.close()
        LOG.handlers[:], level, LOG.propagate = log
        LOG.setLevel(level)
        folders = tuple(set(sys.path) - set(paths))
        sys.path[:] = paths
        for name in set(sys.modules) - modules:
            if (getattr(sys.modules[name], "__file__", None) or "").startswith(folders):
                del sys.modules[name]


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Where it belongs: pytest would keep it."""
    print(warnings.formatwarning(message, category, filename, lineno, line), end="", file=file or sys.stderr)


def run_process(*arguments: object, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end in a process of its own, without a terminal."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=PATIENCE,
        check=False,
    )


def start_program(*arguments: object, cwd: Path, **variables: str) -> subprocess.Popen[str]:
    """Start it in a process of its own and leave it running."""
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def interrupt(program: subprocess.Popen[str], number: int, ended: Path) -> None:
    """Send it a signal, and when it says that it stops, make the file that its tasks wait for."""
    program.send_signal(number)
    assert program.stderr is not None
    assert any("(again: leave at once)" in line for line in program.stderr)
    ended.touch()


def files_in(folder: Path) -> list[Path]:
    """All files and folders in it, however deep, without those in which the interpreter keeps bytecode."""
    return sorted(path for path in folder.rglob("*") if "__pycache__" not in path.parts)
