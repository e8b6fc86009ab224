"""Tasks of a user's own, for the tests of the embedded service. Not a test module."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
import signal
import subprocess
import sys
import time
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import msgspec

from batch_runner.service.local.result import TaskCancelled, TaskFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from batch_runner.service.local.context import Context


def echo(params: dict[str, str]) -> dict[str, str]:
    print("a task may print what it likes")
    return params


def pid(params: dict[str, str]) -> int:
    return os.getpid()


def tell_context(params: dict[str, str], context: Context) -> dict[str, Any]:
    return {"session": context.session_id, "identity": context.identity_id, "files": context.files, "row": context.row}


def count_me(params: dict[str, str]) -> None:
    """Leaves a dot in a file each time that it runs."""
    with Path(params["file"]).open("a") as file:
        file.write(".")


def fail(params: dict[str, str]) -> None:
    raise ValueError("the amount\n  is odd")


def fail_plainly(params: dict[str, str]) -> None:
    raise TaskFailed("This supplier is not known.")


def cancel(params: dict[str, str]) -> None:
    raise TaskCancelled("the invoice was withdrawn")


def leave(params: dict[str, str]) -> None:
    sys.exit(3)


def some_list(params: dict[str, str]) -> list[Any]:
    return [1, "zwei", None]


def some_text(params: dict[str, str]) -> str:
    return "1.10 €"


def no_json(params: dict[str, str]) -> object:
    return {"at": object()}


def not_a_number(params: dict[str, str]) -> float:
    return float("nan")


def half_a_character(params: dict[str, str]) -> dict[str, str]:
    return {"name": "\ud83d"}


def too_deep(params: dict[str, str]) -> list[Any]:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    return deep


@dataclasses.dataclass
class Paid:
    amount: Decimal
    on: date


class PaidStruct(msgspec.Struct):
    amount: Decimal
    on: date


class PaidModel:
    """As pydantic's models: `model_dump(mode="json")` gives what JSON has."""

    def model_dump(self, *, mode: str) -> dict[str, str]:
        assert mode == "json"
        return {"amount": "1.10", "on": "2026-11-24"}


def paid(params: dict[str, str]) -> dict[str, Any]:
    what = (Decimal("1.10"), date(2026, 11, 24))
    return {"paid": Paid(*what), "struct": PaidStruct(*what), "model": PaidModel(), "set": {1}}


def too_much(params: dict[str, str]) -> str:
    return "x" * (61 * 1024 * 1024)


def die(params: dict[str, str]) -> None:
    os._exit(7)


def fork_and_die(params: dict[str, str]) -> None:
    if sys.platform != "win32" and os.fork() == 0:
        time.sleep(600)
    os._exit(7)


def fork(params: dict[str, str]) -> int:
    """Gives the code that its child ended with, which only returns, or raises."""
    if sys.platform == "win32":
        return -1
    child = os.fork()
    if child == 0:
        if "raise" in params:
            raise ValueError(params["raise"])
        return 0
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def end_others(params: dict[str, str]) -> list[int]:
    """How a program and a fork end that are told to: each by which signal."""
    with subprocess.Popen(["sleep", "60"]) as program:
        program.terminate()
    if sys.platform == "win32":
        return []
    child = os.fork()
    if child == 0:
        time.sleep(20)
        return []
    time.sleep(0.2)
    os.kill(child, signal.SIGTERM)
    return [program.returncode, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])]


def crash(params: dict[str, str]) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def greedy(params: dict[str, str]) -> int:
    return len(bytearray(8 * 1024**3))


LEAKED: list[bytearray] = []


def leak(params: dict[str, str]) -> None:
    LEAKED.append(bytearray(300 * 1024**2))


def busy_in_c(params: dict[str, str]) -> None:
    """Holds the interpreter's lock for hours: no thread of this process gets a turn."""
    _write(params["mark"], os.getpid())
    re.fullmatch(r"(a|aa)+", "a" * 100 + "b")


def sleep(params: dict[str, str]) -> None:
    time.sleep(float(params["seconds"]))


def start_program(params: dict[str, str]) -> None:
    """Starts a program that would outlive it by far."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    _write(params["mark"], child.pid)
    child.wait()


def wait_for(params: dict[str, str]) -> str:
    """Says that it has begun by one file, and ends when there is another."""
    _write(params["mark"], os.getpid())
    while not Path(params["until"]).exists():
        time.sleep(0.005)
    return "done"


def counted(params: dict[str, str]) -> str:
    """Leaves one more byte in a file each time that it begins, and ends when there is another."""
    with Path(params["count"]).open("ab") as file:
        file.write(b".")
    return wait_for(params)


def long_text(params: dict[str, str]) -> str:
    return "ü" * int(params["length"])


def files_here(params: dict[str, str], context: Context) -> dict[str, str]:
    """The files in the run's folder, and what stands in them."""
    folder = Path(context.files)
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


async def echo_in_loop(params: dict[str, str]) -> dict[str, str]:
    return params


def disguised(params: dict[str, str]) -> Awaitable[dict[str, str]]:
    """An async function as a decorator may make it: nothing is done before somebody awaits what it gives."""
    return sleep_in_loop(params)


def disguised_failure(params: dict[str, str]) -> Awaitable[None]:
    return fail_in_loop(params)


async def fail_in_loop(params: dict[str, str]) -> None:
    raise LookupError("no such customer")


class GivesUp(BaseException):
    """What hardly anybody catches."""


UNUSUAL = {each.__name__: each for each in (asyncio.CancelledError, KeyboardInterrupt, GivesUp)}


def raise_unusual(params: dict[str, str]) -> None:
    raise UNUSUAL[params["name"]]("so it is")


async def raise_unusual_in_loop(params: dict[str, str]) -> None:
    raise UNUSUAL[params["name"]]("so it is")


async def cancel_itself_in_loop(params: dict[str, str]) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(60)


async def stubborn_in_loop(params: dict[str, str]) -> None:
    """Raises something of its own in the place of its cancellation, beside others that are cancelled, too."""
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 600)
        try:
            await anyio.sleep(600)
        except BaseException:  # noqa: BLE001  that is what it is for
            raise GivesUp from None


async def sleep_in_loop(params: dict[str, str]) -> dict[str, str]:
    await anyio.sleep(float(params["seconds"]))
    return {"slept": params["seconds"]}


async def sleep_by_asyncio(params: dict[str, str]) -> None:
    await asyncio.sleep(float(params["seconds"]))


class _Gauge:
    """How many are in it, and how many ever were at once."""

    now = 0
    peak = 0


async def gauge(params: dict[str, str]) -> int:
    _Gauge.now += 1
    _Gauge.peak = max(_Gauge.peak, _Gauge.now)
    await anyio.sleep(0.05)
    _Gauge.now -= 1
    return _Gauge.peak


async def reset_gauge(params: dict[str, str]) -> None:
    _Gauge.peak = 0


def _write(path: str, number: int) -> None:
    """Whole or not at all: the tests look for the file while it is written."""
    Path(f"{path}.new").write_text(str(number), "utf-8")
    Path(f"{path}.new").rename(path)


def _not_public(params: dict[str, str]) -> None: ...


def needs_more(params: dict[str, str], other: int) -> None: ...
