"""What the journal costs: rows a second with three durable events each, CPU, memory; beside one commit per event.

python tests/benchmarks/bench_journal.py [ROWS ...] [--in-flight N] [--folder DIR]
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from contextlib import AbstractAsyncContextManager, nullcontext
from hashlib import sha256
from pathlib import Path

import anyio
import msgspec

from batch_runner.journal.batches import BatchInfo
from batch_runner.journal.journal import Journal, Outcome
from batch_runner.plan.plan import Entry, Keep, Send

CHUNK = 512
INFO = BatchInfo(input="in.csv", input_sha256="0" * 64, output="out.csv", task="invoice", service="local", version="0")
RESULT = '{"pages": 2, "total": "1234.50", "currency": "EUR", "text": "' + "x" * 300 + '"}'


class Cost(msgspec.Struct, frozen=True):
    """What one part of a night took."""

    seconds: float
    cpu: float

    def show(self, what: str, rows: int) -> str:
        """As a line of the report."""
        return f"  {what:<34}{rows / self.seconds:>10,.0f} rows/s {self.cpu / rows * 1e3:>8.3f} ms CPU a row"


class Stopwatch:
    """Measures the block that it guards."""

    def __enter__(self) -> Stopwatch:
        self._from = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.cost = Cost(time.perf_counter() - self._from[0], time.process_time() - self._from[1])


def entries(rows: int, start: int) -> list[Entry]:
    """One chunk of the sheet."""
    digests = (
        (number, sha256(str(number).encode()).digest()[:16]) for number in range(start, min(start + CHUNK, rows))
    )
    return [Entry(number, digest, digest) for number, digest in digests]


async def one_row(journal: Journal, send: Send, turn: AbstractAsyncContextManager[object]) -> None:
    """The three durable events of a row, each when it is its turn, and one event that isn't awaited."""
    async with turn:
        attempt = await journal.intend(send)
    run_id = f"run-{attempt:012}"
    async with turn:
        await journal.started(attempt, run_id, "queued")
    journal.seen(attempt, "running")
    async with turn:
        await journal.ended(attempt, Outcome("success", run_id, RESULT))


async def send_all(journal: Journal, rows: int, in_flight: int, turn: AbstractAsyncContextManager[object]) -> None:
    """A first night."""
    sender, receiver = anyio.create_memory_object_stream[Send](CHUNK)

    async def work() -> None:
        async for send in receiver:
            await one_row(journal, send, turn)

    async with receiver, anyio.create_task_group() as group:
        for _ in range(in_flight):
            group.start_soon(work)
        async with sender:
            for start in range(0, rows, CHUNK):
                for plan in await journal.register(entries(rows, start)):
                    assert isinstance(plan, Send)
                    await sender.send(plan)


async def carry_all(journal: Journal, rows: int) -> None:
    """A second night, with nothing new."""
    for start in range(0, rows, CHUNK):
        assert all(isinstance(plan, Keep) for plan in await journal.register(entries(rows, start)))


async def nights(path: Path, rows: int, in_flight: int) -> None:
    """A first night, the reading of its outcomes, a second night that carries all of them over."""
    print(f"{rows:,} rows, {in_flight} in flight")
    async with Journal.open(path, INFO) as journal:
        with Stopwatch() as first:
            await send_all(journal, rows, in_flight, nullcontext())
        with Stopwatch() as read:
            assert sum(1 for _ in journal.outcomes()) == rows
        with Stopwatch() as counted:
            journal.counts()
        await journal.finish(0)
    with Stopwatch() as opened:
        async with Journal.open(path, INFO) as journal:
            with Stopwatch() as second:
                await carry_all(journal, rows)
    print(first.cost.show("register, intend, start, end", rows))
    print(read.cost.show("outcomes", rows))
    print(counted.cost.show("counts", rows))
    print(second.cost.show("second night: register", rows))
    aside = opened.cost.seconds - second.cost.seconds
    print(f"  opened, checked and closed in {aside:.2f} s; {path.stat().st_size / 1e6:,.0f} MB")
    print(f"  peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")


async def first_night(path: Path, rows: int, in_flight: int, turn: AbstractAsyncContextManager[object]) -> Cost:
    """What a first night takes."""
    async with Journal.open(path, INFO) as journal:
        with Stopwatch() as watch:
            await send_all(journal, rows, in_flight, turn)
    return watch.cost


async def ratio(folder: Path, in_flight: int) -> None:
    """Group commit beside one commit per event."""
    rows = 2000
    single = await first_night(folder / "single.db", rows, in_flight, anyio.Lock())
    group = await first_night(folder / "group.db", rows, in_flight, nullcontext())
    print(f"{rows:,} rows, {in_flight} in flight")
    print(single.show("one commit per event", rows))
    print(group.show("group commit", rows))
    print(f"  {single.seconds / group.seconds:.1f} times as fast, {single.cpu / group.cpu:.1f} times less CPU")


def main() -> None:
    """Measure for each number of rows, on the disk that holds the folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", type=int, default=[1000, 10_000, 100_000])
    parser.add_argument("--in-flight", type=int, default=256)
    parser.add_argument("--folder", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        anyio.run(ratio, Path(folder), arguments.in_flight)
        for rows in arguments.rows:
            anyio.run(nights, Path(folder) / f"{rows}.db", rows, arguments.in_flight)


if __name__ == "__main__":
    main()
