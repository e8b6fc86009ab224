"""A night of the real program against the faulty service: what must hold of each row, and of the memory it takes."""

from __future__ import annotations

import csv
import json
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from disks import fill
from faulty_service import EXPECTED, fault_of, read_record
from program import COMMAND, environment
from systems import KILLED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from faulty_service import Recorded

if sys.platform == "win32":
    pytest.skip("signals are POSIX", allow_module_level=True)

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


class Tally(msgspec.Struct):
    """What befell a night, and how many rows became `unknown` by it: those of kills, and those of outages."""

    kills: int = 0
    ends: int = 0
    full_disks: int = 0
    service_kills: int = 0
    outages: int = 0
    lost: int = 0
    probes: int = 0

    def most_lost(self, concurrency: int) -> int:
        """Those in flight at each of these, and one a probe."""
        times = self.kills + self.ends + self.full_disks + self.service_kills + self.outages
        return concurrency * times + self.probes


class _MortalService:
    """The faulty service on a port of its own, which is killed and comes back, and has outages."""

    def __init__(self, record: Path, tally: Tally, until: float) -> None:
        self.record = record
        self._until = until
        self._tally = tally
        self._over = threading.Event()
        self._port = "0"
        self._process = self._begin()
        self._port = self.url.rpartition(":")[2]
        self._thread = threading.Thread(target=self._suffer)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()
        self._kill()

    def _begin(self) -> subprocess.Popen[str]:
        command = [sys.executable, str(Path(__file__).with_name("faulty_service.py")), self._port, str(self.record)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        self.url = f"http://127.0.0.1:{process.stdout.readline().strip()}"
        return process

    def _kill(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _suffer(self) -> None:
        chance = random.Random(self._port)
        while not self._over.wait(3 + 6 * chance.random()) and time.monotonic() < self._until:
            if chance.random() < 0.5:
                self._tally.service_kills += 1
                self._kill()
                self._over.wait(2 * chance.random())
                self._process = self._begin()
            else:
                self._tally.outages += 1
                self._process.send_signal(signal.SIGUSR1)
                self._over.wait(2 + 6 * chance.random())
                self._process.send_signal(signal.SIGUSR2)


CONCURRENCY = 50


def killed_nights(folder: Path, rows: int, chance: random.Random, until: float) -> Tally:
    """The same, but program and service are killed again and again, there are outages, and the disk is full at times.

    `folder` is a disk of its own. No row starts twice, none is lost, none has another's outcome; a row whose start was
    in flight when one of them was killed may be `unknown`, and one that was a probe in an outage. After `until` (of
    `time.monotonic`) it is left in peace to its end.
    """
    tally = Tally()
    with (
        tempfile.TemporaryDirectory() as elsewhere,
        _MortalService(Path(elsewhere) / "record", tally, until) as service,
    ):
        (folder / "sheet.csv").write_text("Row\n" + "".join(f"{row}\n" for row in range(rows)))
        command = _command(service.url, CONCURRENCY)
        while (code := _run_until(command, folder, _peace(chance, until), chance, tally)) not in (3, 4):
            # Told to end before the interpreter has loaded the program, it ends by the signal: nothing was sent.
            assert code in (KILLED, -signal.SIGTERM, 2, 5, 143), code
        starts = read_record(service.record)
    assert max(Counter(start.row for start in starts).values()) == 1
    _count_probes(starts, tally)
    with (folder / "sheet.results.csv").open(newline="") as file:
        records = list(csv.DictReader(file))
    assert len(records) == rows
    started = {start.row for start in starts}
    for row, record in enumerate(records):
        if record["status"] == "unknown" and EXPECTED[fault_of(row)] != "unknown":
            tally.lost += 1
            assert (record["Row"], record["run_id"]) == (str(row), ""), record
        else:
            _check_record(row, record)
            # The service may have been killed before it took a start whose fault would have lost the answer.
            assert record["status"] == "unknown" or (row in started) == (record["status"] != "error"), record
    assert tally.lost <= tally.most_lost(CONCURRENCY), tally
    return tally


def _peace(chance: random.Random, until: float) -> float:
    return 3 + 7 * chance.random() if time.monotonic() < until else 600.0


def _count_probes(starts: Sequence[Recorded], tally: Tally) -> None:
    """Of the starts in an outage, those that came when its first ones had been lost."""
    began = 0.0
    for start in starts:
        if not start.is_lost:
            began = 0.0
        elif not began:
            began = start.at
        tally.probes += bool(began) and start.at > began + 0.5


def _run_until(command: list[str], folder: Path, seconds: float, chance: random.Random, tally: Tally) -> int:
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
                tally.ends += 1
                run.terminate()
            try:
                run.communicate(timeout=5)
            except subprocess.TimeoutExpired:
                run.kill()
                run.communicate()
            if filler is not None:
                tally.full_disks += 1
                filler.unlink()
        tally.kills += run.returncode == KILLED
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
