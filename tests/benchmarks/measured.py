"""The real program, measured: CPU seconds, peak memory, time; and the sheets it is given."""

from __future__ import annotations

import compileall
import csv
import io
import json
import os
import sqlite3
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import msgspec

import batch_runner

if TYPE_CHECKING:
    from pathlib import Path

COLUMNS = 12

for folder in batch_runner.__path__:  # as pip does: else an editable install is compiled anew at each start
    compileall.compile_dir(folder, quiet=1)


class Cost(msgspec.Struct, frozen=True):
    """What a run of the program took; `began` in seconds since the epoch."""

    began: float
    seconds: float
    cpu: float
    memory: int
    """MiB at the peak."""

    def floors(self, rows: int) -> float:
        """The CPU of a row, the program's start included, in floors."""
        return self.cpu / rows / floor()


def apart(folder: Path) -> dict[str, str]:
    """The environment of a command whose journals are no concern of the user's own index."""
    return {**os.environ, "BATCH_RUNNER_STATE": str(folder / "state")}


def run_measured(folder: Path, *arguments: object) -> Cost:
    """`batch-runner run sheet.csv` with these arguments, in the folder, to its end or its deadline (0 or 5)."""
    command = [sys.executable, "-m", "batch_runner", "run", "sheet.csv", *map(str, arguments), "--progress", "never"]
    began = time.time()
    process = subprocess.Popen(command, cwd=folder, env=apart(folder), stdout=subprocess.DEVNULL)
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


ROUNDS, FLOOR_ROWS = 3, 5_000


def floor() -> float:
    """Seconds of CPU of what no row can do without, here and now: the unit in which costs per row are told.

    A CSV record in and out, its params through JSON four times, three events in SQLite, commits in groups of 100.
    """
    return min(_floor() for _ in range(ROUNDS)) / FLOOR_ROWS


def _floor() -> float:
    begun = time.process_time()
    database = sqlite3.connect(":memory:")
    database.execute("create table event (key text, number integer, value text)")
    writer = csv.writer(io.StringIO())
    source = "".join(f"K{i},{i}.50\r\n" for i in range(FLOOR_ROWS))
    for i, record in enumerate(csv.reader(io.StringIO(source))):
        params = {"Key": record[0], "Amount": record[1]}
        for _ in range(4):
            params = json.loads(json.dumps(params))
        for number in range(3):
            database.execute("insert into event values (?, ?, ?)", (record[0], number, json.dumps(params)))
        if i % 100 == 0:
            database.commit()
        writer.writerow([*record, "run", "success", json.dumps(params), ""])
    database.commit()
    database.close()
    return time.process_time() - begun
