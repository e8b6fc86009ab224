"""A long night with every fault there is, over a real socket."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from faulty_service import EXPECTED, FAULTS, fault_of
from program import COMMAND, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS = int(os.environ.get("SOAK_ROWS", "10000"))
"""100,000 is the real soak; it takes a few minutes."""
MOST_MEMORY = 250 * 1024
"""KiB of peak memory, whatever the number of rows."""


@pytest.fixture
def service() -> Iterator[subprocess.Popen[str]]:
    """The faulty service in a process of its own."""
    command = [sys.executable, str(Path(__file__).parents[1] / "support" / "faulty_service.py")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


@pytest.mark.long
def test_every_status_is_true_and_no_row_is_started_twice(tmp_path: Path, service: subprocess.Popen[str]) -> None:
    """Each row ends as the service knows it to have ended, with its own run; no second start; flat memory."""
    assert service.stdout is not None
    url = f"http://127.0.0.1:{service.stdout.readline().strip()}"
    (tmp_path / "sheet.csv").write_text("Row\n" + "".join(f"{row}\n" for row in range(ROWS)))
    limits = ["--concurrency", "500", "--poll-rate", "5000/s", "--max-failures", "100%", "--progress", "never"]
    command = [*COMMAND, "run", "sheet.csv", "--task", "t", "--service", url, *limits, "--json"]
    with subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        memory = peak_memory(process)
        said, _ = process.communicate()
    assert process.returncode == 4, said
    told, _ = service.communicate("")
    assert json.loads(told)["twice"] == {}
    assert 0 < memory < MOST_MEMORY
    with (tmp_path / "sheet.results.csv").open(newline="") as file:
        for row, record in enumerate(csv.DictReader(file)):
            check_record(row, record)
    assert row == ROWS - 1


def peak_memory(process: subprocess.Popen[str]) -> int:
    """KiB at the peak, watched until the process ends: what the system accounts for it counts us, who forked it."""
    status, peak = Path(f"/proc/{process.pid}/status"), 0
    while process.poll() is None:
        found = re.search(r"VmHWM:\s+(\d+)", status.read_text())
        peak = int(found[1]) if found else peak
        time.sleep(0.1)
    return peak


def check_record(row: int, record: dict[str, str]) -> None:
    """The record stands in its place and says the truth."""
    fault = fault_of(row)
    assert (record["Row"], record["status"]) == (str(row), EXPECTED[fault]), record
    known = EXPECTED[fault] in ("success", "failure")
    assert record["run_id"] == (f"run_{row}" if known else "")
    if EXPECTED[fault] == "success":
        assert json.loads(record["result"])["row"] == row
    else:
        assert record["error"]


def test_every_fault_has_its_truth() -> None:
    """The service's faults and the expectations name the same."""
    assert set(FAULTS) == set(EXPECTED)
