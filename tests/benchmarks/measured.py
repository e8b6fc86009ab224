"""The real program, measured: CPU seconds, peak memory, time; and the sheets it is given."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = 12


class Cost(msgspec.Struct, frozen=True):
    """What a run of the program took; `began` in seconds since the epoch."""

    began: float
    seconds: float
    cpu: float
    memory: int
    """MiB at the peak."""


def run_measured(folder: Path, *arguments: object) -> Cost:
    """`batch-runner run sheet.csv` with these arguments, in the folder, to its end or its deadline (0 or 5)."""
    command = [sys.executable, "-m", "batch_runner", "run", "sheet.csv", *map(str, arguments), "--progress", "never"]
    began = time.time()
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 5):
        raise SystemExit(f"batch-runner ended with {process.returncode}")
    return Cost(began, time.time() - began, usage.ru_utime + usage.ru_stime, usage.ru_maxrss // 1024)


def write_fresh_sheet(folder: Path, rows: int) -> None:
    """A sheet of so many different rows of 12 columns, and nothing left of an earlier batch."""
    for path in folder.glob("sheet*"):
        path.unlink()
    with (folder / "sheet.csv").open("w") as file:
        file.write(",".join(f"Column {column}" for column in range(COLUMNS)) + "\n")
        file.writelines(",".join(f"value {row} {column}" for column in range(COLUMNS)) + "\n" for row in range(rows))
