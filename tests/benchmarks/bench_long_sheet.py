"""A long sheet through the program, with a service that answers at once: peak memory, and what the sheet costs of it.

Run: `python tests/benchmarks/bench_long_sheet.py [ROWS] [xlsx|csv ...]`, by default 100,000 rows of both; 1,000,000
take some ten minutes. The goals at 1,000,000 × 12: 300 MB and twice the shared strings as .xlsx, 250 MB as .csv; and
the sheet's share (open, read, write, check) within 2.5 times the floor of inflating and deflating its part with zlib.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from bench_workbook import floor, make
from instant_service import instant_service
from measured import apart, write_fresh_sheet

from batch_runner.fs import AtomicFile
from batch_runner.job.job import Job
from batch_runner.journal.view import Placed
from batch_runner.output.output import Output
from batch_runner.rows.source import Source

if TYPE_CHECKING:
    from collections.abc import Iterator


def outcomes(rows: int) -> Iterator[Placed]:
    """What a batch has to say of each row."""
    for number in range(2, rows + 2):
        result = f'{{"pages": 2, "number": "R-{number}", "total": "1234.50"}}'
        run_id = f"7f0c2c1e-8a55-4d0e-9d5e-{number:012}"
        yield Placed(number, "success", run_id, result, "", changed=False)


def sheet_alone(path: Path, rows: int) -> float:
    """Seconds of CPU that the sheet takes in a batch: opened, read, written and checked."""
    begin = time.process_time()
    for _outcome in outcomes(rows):
        pass
    ours = time.process_time() - begin
    begin = time.process_time()
    with Source(Job(input=str(path), task="t"), path.parent) as source:
        for _row in source.sheet.rows():
            pass
        target = AtomicFile.prepare(path.with_name(f"alone{path.suffix}"), path)
        Output(source.sheet, source.layout, target, expand=False).write(lambda: outcomes(rows))
    return time.process_time() - begin - 2 * ours


def program(path: Path) -> str:
    """One line on a whole batch over the sheet."""
    with instant_service() as url:
        command = [sys.executable, "-m", "batch_runner", "run", str(path), "--task", "t", "--service", url]
        begin = time.perf_counter()
        process = subprocess.Popen(
            [*command, "--concurrency", "64", "--progress", "never", "--json"],
            env=apart(path.parent),
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        with process.stdout:
            counts = json.loads(process.stdout.read())["counts"]
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds, cpu = time.perf_counter() - begin, usage.ru_utime + usage.ru_stime
    return f"{counts} in {seconds:.0f} s, {cpu:.0f} s CPU, {usage.ru_maxrss >> 10} MiB at the peak"


def main() -> None:
    """Print what each format takes."""
    rows = int(next((word for word in sys.argv[1:] if word.isdigit()), "100000"))
    for kind in [word for word in sys.argv[1:] if not word.isdigit()] or ["xlsx", "csv"]:
        with tempfile.TemporaryDirectory() as name:
            path = Path(name) / f"sheet.{kind}"
            if kind == "csv":
                write_fresh_sheet(Path(name), rows)
            else:
                make(path, rows)
            print(f"{rows:,} rows as .{kind}: {program(path)}", flush=True)
            alone = sheet_alone(path, rows)
            least = floor(path, Path(name) / "floor", rows) if kind == "xlsx" else None
            print(f"  the sheet alone {alone:.2f} s CPU" + (f", {alone / least:.1f} × zlib's floor" if least else ""))


if __name__ == "__main__":
    main()
