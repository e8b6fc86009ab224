"""A night of the real program against the faulty service: what must hold of each row, and of the memory it takes."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
import time
from pathlib import Path

from faulty_service import EXPECTED, fault_of
from program import COMMAND, environment

MOST_MEMORY = 250 * 1024
"""KiB of peak memory, whatever the number of rows."""


def faulty_night(folder: Path, rows: int) -> int:
    """Run so many rows; asserts that each status is true and no row is started twice. Gives the peak memory in KiB."""
    command = [sys.executable, str(Path(__file__).with_name("faulty_service.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as service:
        try:
            assert service.stdout is not None
            memory = _run(folder, rows, f"http://127.0.0.1:{service.stdout.readline().strip()}")
            told, _ = service.communicate("")
        finally:
            service.kill()
    assert json.loads(told)["twice"] == {}
    assert 0 < memory < MOST_MEMORY
    row = -1
    with (folder / "sheet.results.csv").open(newline="") as file:
        for row, record in enumerate(csv.DictReader(file)):
            _check_record(row, record)
    assert row == rows - 1
    return memory


def _run(folder: Path, rows: int, url: str) -> int:
    (folder / "sheet.csv").write_text("Row\n" + "".join(f"{row}\n" for row in range(rows)))
    limits = ["--concurrency", "500", "--poll-rate", "5000/s", "--max-failures", "100%", "--progress", "never"]
    command = [*COMMAND, "run", "sheet.csv", "--task", "t", "--service", url, *limits, "--json"]
    with subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        memory = _peak_memory(process)
        said, _ = process.communicate()
    assert process.returncode == 4, said
    return memory


def _peak_memory(process: subprocess.Popen[str]) -> int:
    """KiB at the peak, watched until the process ends: what the system accounts for it counts us, who forked it."""
    status, peak = Path(f"/proc/{process.pid}/status"), 0
    while process.poll() is None:
        found = re.search(r"VmHWM:\s+(\d+)", status.read_text())
        peak = int(found[1]) if found else peak
        time.sleep(0.1)
    return peak


def _check_record(row: int, record: dict[str, str]) -> None:
    """The record stands in its place and says the truth."""
    expected = EXPECTED[fault_of(row)]
    assert (record["Row"], record["status"]) == (str(row), expected), record
    assert record["run_id"] == (f"run_{row}" if expected in ("success", "failure") else "")
    if expected == "success":
        assert json.loads(record["result"])["row"] == row
    else:
        assert record["error"]
