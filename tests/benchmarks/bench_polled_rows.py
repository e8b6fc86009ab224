"""Rows that are polled, by the real program with its defaults, journal and output included: how near to ideal.

Run: `python tests/benchmarks/bench_polled_rows.py [rows|serve|embedded|slots|long …]` (all: about six minutes).
rows   3,000 runs that are queued and done at once, 64 in flight. The goals are 300 rows/s and 55 floors.
serve  2,000 rows that do nothing against our own service. The goals are 0.6 of embedded, and 45 floors of the client.
embedded  20,000 rows that do nothing. The goals are 22 floors (async) and 30 (worker processes, their CPU included).
slots  160 runs of 0.5 s at a service with 8 slots, 64 workers. The goals are 90 % of ideal and 5 % of starts refused.
long   1,000 runs of 60 s, 500 in flight. The goal is a mean delay of noticing of 3 % of a run.

The service is on this machine. `long` calls it by this machine's name, so that the rate for a service elsewhere holds.
"""

from __future__ import annotations

import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from lasting_service import Seen, lasting_service
from measured import Cost, run_measured, write_fresh_sheet

AT_ONCE = 0.0001


def measured(
    rows: int, seconds: float, in_flight: int, *, slots: int = 10**9, host: str = "127.0.0.1"
) -> tuple[Cost, Seen]:
    """What so many rows cost, and what the service saw of them."""
    with tempfile.TemporaryDirectory() as name, lasting_service(seconds, slots) as seen:
        write_fresh_sheet(Path(name), rows)
        url = seen.url.replace("127.0.0.1", host)
        cost = run_measured(Path(name), "--task", "t", "--service", url, "--concurrency", in_flight)
    return cost, seen


def rows() -> str:
    """Rows a second."""
    cost, seen = measured(3000, AT_ONCE, 64)
    cpu = f"{1000 * cost.cpu / 3000:.2f} ms of CPU a row, {cost.floors(3000):.0f} floors (goal 55)"
    return f"3,000 rows done at once: {3000 / cost.seconds:.0f} rows/s (goal 300), {cpu}, {seen.polls / 3000:.1f} polls"


TASKS = "def in_worker(params): return {}\nasync def nothing(params): return {}\n"


def with_tasks(rows: int, *arguments: object, service: str = "local") -> Cost:
    """What rows cost that do nothing, run by tasks of this machine."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_fresh_sheet(folder, rows)
        (folder / "tasks.py").write_text(TASKS)
        return run_measured(folder, "--service", service, "--concurrency", 64, *arguments)


def serve() -> str:
    """Beside the embedded service: the medians of five pairs, since one machine runs both processes."""
    shares, floors = [], []
    with tempfile.TemporaryDirectory() as name:
        Path(name, "tasks.py").write_text(TASKS)
        command = [sys.executable, "-m", "batch_runner", "serve", "--port", "0", "--tasks", "tasks.py"]
        with subprocess.Popen(command, cwd=name, stderr=subprocess.PIPE, text=True) as server:
            assert server.stderr is not None
            url = next(word.strip(";") for word in server.stderr.readline().split() if word.startswith("http://"))
            for _ in range(5):
                served = with_tasks(2000, "--task", "nothing", service=url)
                shares.append(with_tasks(2000, "--task", "tasks.py:nothing").seconds / served.seconds)
                floors.append(served.floors(2000))
            server.terminate()
    share, cost = statistics.median(shares), statistics.median(floors)
    return f"2,000 rows against serve: {share:.2f} of embedded (goal 0.6), client {cost:.0f} floors (goal 45)"


def embedded() -> str:
    """The CPU of a row."""
    loop = with_tasks(20_000, "--task", "tasks.py:nothing").floors(20_000)
    workers = with_tasks(20_000, "--task", "tasks.py:in_worker").floors(20_000)
    return f"20,000 rows embedded: async {loop:.0f} floors (goal 22), worker processes {workers:.0f} (goal 30)"


def slots() -> str:
    """The share of the slots' time that was used, and that of the starts that were refused."""
    cost, seen = measured(160, 0.5, 64, slots=8)
    ideal = 160 * 0.5 / 8
    used, whole = ideal / (seen.last_end - seen.first_start), ideal / cost.seconds
    refused = seen.refused / (seen.starts + seen.refused)
    shares = f"{used:.0%} of ideal from the first start to the last end (goal 90 %), {whole:.0%} of the whole time"
    return f"8 slots, runs of 0.5 s: {shares}, {refused:.1%} of starts refused (goal 5 %), {seen.polls / 160:.1f} polls"


def long() -> str:
    """The delay of noticing."""
    cost, seen = measured(1000, 60.0, 500, host=socket.gethostname())
    cpu = f"{cost.cpu:.0f} s of CPU, {cost.memory} MiB"
    late = f"noticed {seen.delay / 60:.1%} late (goal 3 %) by {seen.polls / 1000:.0f} polls"
    return f"500 in flight, runs of 60 s: {late}, {cpu}"


def main() -> None:
    """Print a line for each."""
    known = {"rows": rows, "serve": serve, "embedded": embedded, "slots": slots, "long": long}
    for name in sys.argv[1:] or known:
        print(known[name](), flush=True)


if __name__ == "__main__":
    main()
