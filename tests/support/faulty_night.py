"""A night of the real program against the faulty service: what must hold of each row, and of the memory it takes."""

from __future__ import annotations

import csv
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from disks import fill
from faulty_service import EXPECTED, fault_of
from program import COMMAND, environment

if TYPE_CHECKING:
    import random

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


def killed_nights(folder: Path, rows: int, chance: random.Random) -> int:
    """The same, but the program is killed again and again, and its disk is full at times; gives the number of kills.

    `folder` is a disk of its own. No row starts twice, none is lost, none has another's outcome; a row whose start was
    in flight when the program was killed may be `unknown`.
    """
    command = [sys.executable, str(Path(__file__).with_name("faulty_service.py"))]
    kills = 0
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as service:
        try:
            assert service.stdout is not None
            url = f"http://127.0.0.1:{service.stdout.readline().strip()}"
            (folder / "sheet.csv").write_text("Row\n" + "".join(f"{row}\n" for row in range(rows)))
            while (code := _run_until(_command(url, 20), folder, 1 + 3 * chance.random(), chance)) not in (3, 4):
                assert code in (-signal.SIGKILL, 2, 5, 143), code
                kills += code == -signal.SIGKILL
            told, _ = service.communicate("")
        finally:
            service.kill()
    assert json.loads(told)["twice"] == {}
    with (folder / "sheet.results.csv").open(newline="") as file:
        records = list(csv.DictReader(file))
    assert len(records) == rows
    lost = 0
    for row, record in enumerate(records):
        if record["status"] == "unknown" and EXPECTED[fault_of(row)] != "unknown":
            lost += 1
            assert (record["Row"], record["run_id"]) == (str(row), ""), record
        else:
            _check_record(row, record)
    assert lost <= 20 * (kills + 20), "at most those in flight"
    return kills


def _run_until(command: list[str], folder: Path, seconds: float, chance: random.Random) -> int:
    """Run it, and after so many seconds kill it, end it, or fill its disk and then end it."""
    with subprocess.Popen(
        command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        try:
            run.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            what = chance.choice(["kill", "kill", "end", "fill"])
            filler = fill(folder) if what == "fill" else None
            if what == "kill":
                run.kill()
            elif what == "end":
                run.terminate()
            try:
                run.communicate(timeout=5)
            except subprocess.TimeoutExpired:
                run.kill()
                run.communicate()
            if filler is not None:
                filler.unlink()
        return run.returncode


def _command(url: str, concurrency: int) -> list[str]:
    limits = ["--concurrency", str(concurrency), "--poll-rate", "5000/s", "--max-failures", "100%"]
    words = ["sheet.csv", "--task", "t", "--service", url, *limits, "--progress", "never", "--json"]
    return [*COMMAND, "run", *words]


def _run(folder: Path, rows: int, url: str) -> int:
    (folder / "sheet.csv").write_text("Row\n" + "".join(f"{row}\n" for row in range(rows)))
    with subprocess.Popen(
        _command(url, 500), cwd=folder, env=environment(), stdout=subprocess.PIPE, text=True
    ) as process:
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
