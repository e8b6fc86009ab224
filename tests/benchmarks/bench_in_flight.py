"""Many runs in flight in one process: peak memory and CPU of the real program, journal and output included.

Run: `python tests/benchmarks/bench_in_flight.py [RUNS] [SECONDS]` (10,000 runs that last 60 s each). The process needs
as many open files as runs: `ulimit -n` of 64 more. The goal is 177 MB.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from lasting_service import lasting_service
from measured import run_measured, write_fresh_sheet

GOAL = 177_000_000 // 2**20
"""MiB of peak memory."""


def main() -> None:
    """Run it and print what it took."""
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 60.0
    with tempfile.TemporaryDirectory() as name, lasting_service(seconds) as seen:
        folder = Path(name)
        write_fresh_sheet(folder, runs)
        cost = run_measured(folder, "--task", "t", "--service", seen.url, "--concurrency", runs)
    print(
        f"{seen.starts:,} runs of {seconds:g} s, {seen.most_in_flight:,} in flight at most, {cost.seconds:.1f} s in all"
    )
    print(f"peak memory {cost.memory} MiB (goal {GOAL}), CPU {cost.cpu:.1f} s, {cost.cpu / runs * 1000:.2f} ms a run")


if __name__ == "__main__":
    main()
