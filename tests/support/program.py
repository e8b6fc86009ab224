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
from typing import TYPE_CHECKING

from batch_runner.cli import run_arguments
from batch_runner.log import LOG

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO

COMMAND = (sys.executable, "-m", "batch_runner")
PATIENCE = 180
"""Seconds until a program that has not ended is a failure; a busy machine is several times slower than an idle one."""


def environment(**more: str) -> dict[str, str]:
    """This process's environment without anything that speaks to the program, and what a test adds."""
    ours = ("BATCH_RUNNER_", "ANCHOR")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | more


def run_program(*arguments: object, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end in this process, without a terminal: as `run_process`, for a tenth of the time.

    For tests of what it says, writes and returns. What a process is in itself (signals, its death, locks between two,
    the interpreter's own variables, threads that run it side by side) is for `run_process` and `start_program`.
    """
    assert threading.current_thread() is threading.main_thread(), "side by side: use run_process"
    assert not any(name.startswith("PYTHON") for name in variables), "the interpreter reads it: use run_process"
    command = [*map(str, arguments)]
    with _file("strict") as out, _file("backslashreplace") as err:
        with warnings.catch_warnings(), _own_streams(out, err), _own_place(cwd, environment(**variables)), _own_log(), _own_modules(cwd):
            warnings.simplefilter("ignore", DeprecationWarning)  # as the interpreter does by itself
            code = run_arguments(command)
        out.seek(0)
        err.seek(0)
        return subprocess.CompletedProcess([*COMMAND, *command], int(code), out.read(), err.read())


def _file(errors: str) -> TextIO:
    return tempfile.TemporaryFile("w+", encoding="utf-8", errors=errors)


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
    """In this folder, with these variables and their time zone, and none of what an earlier run has remembered."""
    from batch_runner.cli.run import today
    from batch_runner.service.local.tasks import _module

    before, variables_before = Path.cwd(), dict(os.environ)
    for remembered in (today, _module):
        remembered.cache_clear()
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
        time.tzset()


@contextmanager
def _own_log() -> Iterator[None]:
    """The log of a program that has just begun; then this process's is as it was."""
    before = LOG.handlers[:], LOG.level, LOG.propagate
    LOG.handlers[:] = []
    try:
        yield
    finally:
        for handler in LOG.handlers[:]:
            handler.close()
        LOG.handlers[:] = before[0]
        LOG.setLevel(before[1])
        LOG.propagate = before[2]


@contextmanager
def _own_modules(folder: Path) -> Iterator[None]:
    """What tasks import from their own folder is forgotten: the next run may find another text there."""
    paths, modules = sys.path[:], set(sys.modules)
    try:
        yield
    finally:
        sys.path[:] = paths
        for name in set(sys.modules) - modules:
            if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(folder)):
                del sys.modules[name]


def run_process(*arguments: object, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end in a process of its own, without a terminal."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
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
        text=True,
    )


def files_in(folder: Path) -> list[Path]:
    """All files and folders in it, however deep, without those in which the interpreter keeps bytecode."""
    return sorted(path for path in folder.rglob("*") if "__pycache__" not in path.parts)
