"""The real program in a process of its own that is killed (SIGKILL) at a chosen moment.

The program knows nothing of it: the calls at each boundary are wrapped in the child. Children are forked from a process
that has imported the program already, so that hundreds of them take a minute and not ten.
"""

from __future__ import annotations

import importlib
import inspect
import multiprocessing
import os
import sys
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from systems import KILL

from batch_runner.journal.index import STATE_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.process import BaseProcess
    from pathlib import Path

PATIENCE = 300.0
"""Seconds until a child that has not ended is a failure."""

PRELOADED = [
    "killing",
    "anyio._backends._asyncio",
    "batch_runner.cli.commands",
    "batch_runner.cli.run",
    "batch_runner.sheet.csv.reader",
    "batch_runner.sheet.xlsx.workbook",
    "batch_runner.service.http.transport",
]

BOUNDARIES = {
    "intent commit": "batch_runner.journal.journal:Journal.intend",
    "send": "batch_runner.service.http.client:Client.start",
    "run-id commit": "batch_runner.journal.journal:Journal.started",
    "poll": "batch_runner.service.http.client:Client.look",
    "outcome commit": "batch_runner.journal.journal:Journal.ended",
    "output": "batch_runner.output.output:Output.write",
    "csv write": "batch_runner.sheet.csv.reader:CsvSheet.append",
    "xlsx write": "batch_runner.sheet.xlsx_append.append:append_columns",
    "check": "batch_runner.output.output:Output._check",
    "note of the output": "batch_runner.journal.outputs:OutputMemory.note",
    "index of outputs": "batch_runner.journal.outputs:OutputIndex.add",
    "copy kept aside": "os:link",
    "fsync": "os:fsync",
    "rename": "pathlib:Path.replace",
    "last commit": "batch_runner.journal.journal:Journal.finish",
}
"""Where a child can be killed: the function behind each name."""


class Moment(msgspec.Struct, frozen=True):
    """Before or after the `nth` call (from 1) of what stands behind a boundary."""

    side: Literal["before", "after"]
    boundary: str
    nth: int = 1


def start(
    folder: Path, arguments: list[str], moment: Moment | None = None, refresh: float | None = None
) -> BaseProcess:
    """Run the program in `folder`; it dies at the moment, if one is given and comes.

    `refresh` is after how many seconds it writes the output anew, if not after a minute.
    """
    given = (str(folder), arguments, moment, os.environ.get(STATE_VARIABLE, ""), refresh)
    process: BaseProcess
    if sys.platform == "win32":
        process = multiprocessing.get_context("spawn").Process(target=_program, args=given)
    else:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        process = context.Process(target=_program, args=given)
    process.start()
    return process


def exit_code(process: BaseProcess) -> int:
    """Wait for its end; its exit code, or minus the signal that killed it."""
    process.join(PATIENCE)
    code = process.exitcode
    process.kill()
    process.join()
    process.close()
    assert code is not None, "the program did not end"
    return code


def run(folder: Path, arguments: list[str], moment: Moment | None = None, refresh: float | None = None) -> int:
    """Run the program in `folder` to its end, or to the moment; gives `exit_code`."""
    return exit_code(start(folder, arguments, moment, refresh))


def _program(folder: str, arguments: list[str], moment: Moment | None, state: str, refresh: float | None) -> None:
    os.chdir(folder)
    os.environ[STATE_VARIABLE] = state
    said = os.open("said.txt", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    _hurry()
    if refresh is not None:
        from batch_runner.runner import adjust

        adjust.REFRESH_EVERY, adjust.REFRESH_SHARE = refresh, 0.5
    if moment is not None:
        _die_at(moment)
    from batch_runner.cli import run_arguments as run_program

    sys.exit(run_program(arguments))


def _hurry() -> None:
    """Look at runs every few milliseconds: the service here has no runs that take longer."""
    from batch_runner.batch import poll_schedule

    poll_schedule.SHORTEST, poll_schedule.LONGEST, poll_schedule.SHARE = 0.002, 0.005, 0.0


def _die_at(moment: Moment) -> None:
    module, _, path = BOUNDARIES[moment.boundary].partition(":")
    *owners, name = path.split(".")
    owner: Any = importlib.import_module(module)
    for part in owners:
        owner = getattr(owner, part)
    setattr(owner, name, _deadly(getattr(owner, name), moment))


def _deadly(call: Callable[..., Any], moment: Moment) -> Callable[..., Any]:
    calls = count(1)

    def die(number: int, side: str) -> None:
        if (side, number) == (moment.side, moment.nth):
            os.kill(os.getpid(), KILL)

    async def awaited(*arguments: Any, **named: Any) -> Any:
        number = next(calls)
        die(number, "before")
        result = await call(*arguments, **named)
        die(number, "after")
        return result

    def called(*arguments: Any, **named: Any) -> Any:
        number = next(calls)
        die(number, "before")
        result = call(*arguments, **named)
        die(number, "after")
        return result

    return awaited if inspect.iscoroutinefunction(call) else called
