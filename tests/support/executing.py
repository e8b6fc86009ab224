"""Executors of each kind, opened and closed, and calls for them."""

from __future__ import annotations

import sys
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
from contract import OWN, until

from batch_runner.fs import _is_alive
from batch_runner.service.local.context import Context
from batch_runner.service.local.process_pool import InWorkers
from batch_runner.service.local.tasks import Call, TaskSource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from batch_runner.service.local.dask.cluster import OnCluster
    from batch_runner.service.local.result import RunEnd
    from batch_runner.service.local.tasks import Executor


@asynccontextmanager
async def workers(fits: int = 2, **options: Any) -> AsyncIterator[InWorkers]:
    """Worker processes of this machine."""
    executor = InWorkers(fits, **options)
    await executor.open()
    try:
        yield executor
    finally:
        await executor.aclose()


@asynccontextmanager
async def on_cluster(address: str, **options: Any) -> AsyncIterator[OnCluster]:
    """A Dask cluster."""
    from batch_runner.service.local.dask.cluster import OnCluster

    executor = OnCluster(address, **options)
    await executor.open()
    try:
        yield executor
    finally:
        await executor.aclose()


def call(
    function: str,
    limit: float = 20.0,
    *,
    file: str | None = OWN,
    files: str = ".",
    repeatable: bool = False,
    **params: str,
) -> Call:
    """A call of one of the tests' own tasks, or of another file's."""
    return Call(TaskSource(function, file), params, Context("run_1", "session_1", files), limit, repeatable)


def named(a_call: Call, executor: Executor, number: int) -> Call:
    """The call with the id of a run of this program's."""
    context = msgspec.structs.replace(a_call.context, run_id=f"run_{executor.session}{number:016}")
    return msgspec.structs.replace(a_call, context=context)


async def all_ended(executor: Executor, calls: list[Call]) -> list[RunEnd]:
    """Run all of them, as many at once as there are places; their endings in the same order."""
    endings: dict[int, RunEnd] = {}

    async def run(number: int, the_call: Call) -> None:
        async with executor.places:
            endings[number] = await executor.run(the_call)

    async with anyio.create_task_group() as group:
        for number, the_call in enumerate(calls):
            group.start_soon(run, number, the_call)
    return [endings[number] for number in range(len(calls))]


def is_alive(pid: int) -> bool:
    """Whether the process is there and is no zombie that only waits to be collected.

    Collected before the file is opened it is not found, collected between open and read it is "no such process".
    """
    if sys.platform != "linux":
        return _is_alive(pid)
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def number_in(path: Path) -> int:
    """What a task has written there, once it has."""
    await until(path.exists)
    return int(path.read_text())
