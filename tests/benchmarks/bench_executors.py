"""What it costs to have a task run by us: `invoice` in worker processes and on a Dask cluster, and a task of nothing.

Run: `python tests/benchmarks/bench_executors.py [ROUNDS]` (9). Each executor reads the same PDFs (samples/invoices)
with as many processes as a bare ProcessPoolExecutor beside it; in each round all have their turn, and what counts is
the median of the rounds' ratios: the machine may be busy with other things. The goal is 85 % of the bare pool. CPU is
that of all processes that take part, a run's share of it.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import httpx
import msgspec
import psutil

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "support"))

from dask_cluster import DaskCluster  # noqa: E402  the tests' shared modules stand one folder up
from executing import on_cluster, workers  # noqa: E402
from over_httpx import OverHttpx  # noqa: E402

from batch_runner.service.http.client import Client  # noqa: E402
from batch_runner.service.http.transport import AiohttpTransport  # noqa: E402
from batch_runner.service.local.context import Context  # noqa: E402
from batch_runner.service.local.invoice import invoice  # noqa: E402
from batch_runner.service.local.service import LocalService  # noqa: E402
from batch_runner.service.local.tasks import Call, TaskSource, load_tasks  # noqa: E402
from batch_runner.service.protocol import (  # noqa: E402
    RunRequest,
    Started,
    StartRequest,
)
from batch_runner.service.serve.app import make_app  # noqa: E402
from batch_runner.service.serve.server import listen  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from batch_runner.service.http.client import Transport
    from batch_runner.service.local.tasks import Executor

    Round = Callable[[list[str]], Awaitable[None]]

FOLDER = HERE.parent.parent / "samples" / "invoices"
PDFS = sorted(path.name for path in FOLDER.glob("*.pdf"))
GOAL = 0.85
RUNS = 20 * len(PDFS)
"""Runs of one executor in one round."""
CONTEXT = Context("run_1", "session_1", str(FOLDER))
NOTHING = "def nothing(params): return {}\nasync def nothing_async(params): return {}\n"
NOTHINGS = 2_000
IN_FLIGHT = 16


class Measured(msgspec.Struct):
    """What one way came to: runs a second and milliseconds of CPU for a run, by round."""

    rates: list[float] = []
    cpu: list[float] = []


def _read(name: str) -> object:
    return invoice(name, context=CONTEXT)


@asynccontextmanager
async def _bare_pool(processes: int) -> AsyncIterator[Round]:
    with ProcessPoolExecutor(processes) as pool:

        async def round_of(names: list[str]) -> None:
            await asyncio.gather(*(asyncio.wrap_future(pool.submit(_read, name)) for name in names))

        yield round_of


def _rounds_on(executor: Executor) -> Round:
    async def read(name: str) -> None:
        async with executor.places:
            ending = await executor.run(
                Call(TaskSource("invoice"), {"File Name": name}, CONTEXT, 60.0, repeatable=True)
            )
        assert ending.status == "success", ending.error

    async def round_of(names: list[str]) -> None:
        async with anyio.create_task_group() as group:
            for name in names:
                group.start_soon(read, name)

    return round_of


def _cpu_seconds() -> float:
    """Of this process and all that it has started."""
    me = psutil.Process()
    times = [process.cpu_times() for process in (me, *me.children(recursive=True))]
    return float(sum(each.user + each.system for each in times))


async def _measure(round_of: Round, runs: int, into: Measured) -> None:
    names = [PDFS[number % len(PDFS)] for number in range(runs)]
    cpu, began = _cpu_seconds(), time.perf_counter()
    await round_of(names)
    into.rates.append(runs / (time.perf_counter() - began))
    into.cpu.append((_cpu_seconds() - cpu) / runs * 1000)


async def _compare(processes: int, rounds: int, address: str) -> None:
    async with AsyncExitStack() as stack:
        ways: dict[str, Round] = {
            "bare pool": await stack.enter_async_context(_bare_pool(processes)),
            "workers": _rounds_on(await stack.enter_async_context(workers(processes))),
            "Dask": _rounds_on(await stack.enter_async_context(on_cluster(address))),
        }
        measured = {name: Measured([], []) for name in ways}
        for round_of in ways.values():
            await _measure(round_of, RUNS, Measured([], []))  # all imports are done, all short calls known as such
        for number in range(rounds):
            for name in sorted(ways, reverse=bool(number % 2)):
                await _measure(ways[name], RUNS, measured[name])
    bare = measured["bare pool"]
    for name, seen in measured.items():
        ratios = [rate / pool for rate, pool in zip(seen.rates, bare.rates, strict=True)]
        print(
            f"{processes} process(es), {name:>9}: {statistics.median(seen.rates):6.0f} runs/s, "
            f"{statistics.median(ratios):4.0%} of the bare pool (goal {GOAL:.0%}; rounds {min(ratios):.0%} to "
            f"{max(ratios):.0%}), {statistics.median(seen.cpu):.2f} ms CPU a run, "
            f"{statistics.median(bare.cpu) / statistics.median(seen.cpu):4.0%} of it the bare pool's",
            flush=True,
        )


async def _overhead(client: Client, task: str) -> float:
    """Milliseconds for one start of the task, which answers with its ending."""
    request = RunRequest(input_params={}, sync=True)
    turns = anyio.CapacityLimiter(IN_FLIGHT)

    async def one() -> None:
        async with turns:
            answer = await client.start(StartRequest(task, request))
        assert isinstance(answer, Started)
        assert answer.run.status == "success"

    await one()
    began = time.perf_counter()
    async with anyio.create_task_group() as group:
        for _ in range(NOTHINGS):
            group.start_soon(one)
    return (time.perf_counter() - began) / NOTHINGS * 1000


async def _overheads(folder: Path) -> None:
    (folder / "nothing.py").write_text(NOTHING)
    tasks = load_tasks(str(folder / "nothing.py"), files=folder)
    async with LocalService(tasks, 2) as service, listen(service) as url:
        ways: dict[str, tuple[str, Transport]] = {
            "in process": ("http://service", OverHttpx(httpx.ASGITransport(make_app(service)))),
            "socket": (url, AiohttpTransport()),
        }
        for way, (base, transport) in ways.items():
            async with Client(base, "", transport) as client:
                for task in ("nothing_async", "nothing"):
                    told = "in the event loop" if task == "nothing_async" else "in a worker process"
                    print(f"a task of nothing, {way:>10}, {told}: {await _overhead(client, task):.2f} ms", flush=True)


def main() -> None:
    """Measure all of it."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    with tempfile.TemporaryDirectory() as name:
        for processes in (1, 2):
            folder = Path(name) / str(processes)
            folder.mkdir()
            with DaskCluster(folder) as cluster:
                cluster.add_workers(processes)
                asyncio.run(_compare(processes, rounds, cluster.address))
        asyncio.run(_overheads(Path(name)))


if __name__ == "__main__":
    main()
