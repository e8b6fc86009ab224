"""Few rows or many, few in flight or many: what a row costs, and how long a long sheet's first start takes.

Run: `python tests/benchmarks/bench_rows.py [ROWS ...]`, by default 1,000 to 300,000; 1,000,000 take some minutes more.
Each run ends with its start. A batch of one row is measured first: what the program costs without rows is left out of
a row's CPU. The goals: a row costs the same everywhere, and the first start of 1,000,000 rows leaves within 5 s.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from lasting_service import lasting_service
from measured import run_measured, write_fresh_sheet

if TYPE_CHECKING:
    from measured import Cost

ROWS = (1_000, 10_000, 100_000, 300_000)
IN_FLIGHT = (16, 64, 250, 1_000)
LONG_SHEET = 1_000_000


def measured(rows: int, in_flight: int, *more: object) -> tuple[Cost, float]:
    """What the batch took, and the seconds from the program's begin to the first start."""
    with tempfile.TemporaryDirectory() as name, lasting_service(0) as seen:
        write_fresh_sheet(Path(name), rows)
        options = ["--task", "t", "--service", seen.url, "--concurrency", in_flight, *more]
        cost = run_measured(Path(name), *options)
    return cost, seen.first_start - cost.began


def report(rows: int, in_flight: int, idle: float) -> None:
    """One line of the table."""
    cost, first_start = measured(rows, in_flight)
    row = max(cost.cpu - idle, 0) / rows * 1000
    print(
        f"{rows:>9,} rows {in_flight:>5,} in flight {row:6.3f} ms CPU a row {cost.memory:>5} MiB at the peak "
        f"{cost.seconds:7.1f} s in all, first start after {first_start:.2f} s",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    rows = [int(word.replace(",", "")) for word in sys.argv[1:]] or ROWS
    idle = measured(1, 1)[0].cpu
    print(f"one row alone: {idle:.2f} s CPU")
    for number in rows:
        report(number, 64, idle)
    for in_flight in IN_FLIGHT:
        report(20_000, in_flight, idle)
    _, first_start = measured(LONG_SHEET, 64, "--deadline", "1s")
    print(f"{LONG_SHEET:>9,} rows: first start after {first_start:.2f} s (goal 5 s)")


if __name__ == "__main__":
    main()
