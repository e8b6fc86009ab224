"""Nights on a Dask cluster that is harmed all the time: no row begins twice, none is lost, and what is said is true.

Run: `python tests/benchmarks/soak_cluster.py [SEED [NIGHTS]]` (on POSIX; a minute a night). Each night the program runs
a sheet or two on a scheduler with some workers, while a drawn sequence of faults is played on all of them. Tasks append
a mark to a file where they begin and where they end.

It prints each night's seed, its faults and what came of its rows. It ends with 1 if anything was not as it should be,
and leaves the folder of such a night.
"""

from __future__ import annotations

import csv
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from dask_cluster import DaskCluster, kill
from distributed import Client
from program import COMMAND, environment

if TYPE_CHECKING:
    from collections.abc import Callable

TASKS = """
import time
from pathlib import Path
from batch_runner import task

def mark(params, what):
    with Path(HERE, f"{params['Sheet']}-{params['Id']}").open("ab", buffering=0) as file:
        file.write(what)

def once(params):
    mark(params, b"b")
    if params.get("Seconds"):
        time.sleep(float(params["Seconds"]))
    mark(params, b"e")
    return {"id": params["Id"], "sheet": params["Sheet"], "text": "x" * int(params.get("Bytes") or 0)}

@task(repeatable=True)
def again(params):
    return once(params)
"""
NO_PROGRAM = "raise ImportError('it is not installed here')\n"
PATIENCE = 240.0
FAULTS_FOR = 25.0
"""Seconds in which faults are played."""

PACES = (("",), ("0.02", "0.05"), ("", "0.01", "0.1", "0.5"), ("0.5",))
"""Seconds that tasks take."""

SIZES = (("",), ("", "", "", "3000000"), ("", "20000"))
"""Bytes of their results."""

NOT_FOUND = "batch-runner: There is no Dask scheduler at "
"""What a program says, and ends with 2, where the scheduler is away or stands still when it begins."""

ANSWER_LOST = "a start was sent and its answer was lost"
"""What is said of a start whose run's id was not on disk when the program was killed: the cluster can't be asked."""


class Sheet:
    """A sheet of the night, the program that runs it, and what is wrong with it in the end."""

    def __init__(self, name: str, folder: Path, rng: random.Random) -> None:
        self.name, self.wrong = name, list[str]()
        self._folder = folder
        self._is_repeatable = rng.random() < 0.25
        self._concurrency = rng.choice((4, 8, 30, 100))
        pace, size = rng.choice(PACES), rng.choice(SIZES)
        self._ids = [str(number) for number in range(rng.choice((40, 80, 200)))]
        rows = (f"{number},{name},{rng.choice(pace)},{rng.choice(size)}\n" for number in self._ids)
        (folder / f"{name}.csv").write_text("Id,Sheet,Seconds,Bytes\n" + "".join(rows))

    def start(self, address: str) -> None:
        """Have the program run it."""
        task = "tasks.py:again" if self._is_repeatable else "tasks.py:once"
        options = ["--task", task, "--dask", address, "--concurrency", str(self._concurrency)]
        command = [*COMMAND, "run", f"{self.name}.csv", "--journal", f"{self.name}.db", "--progress", "never", *options]
        variables = environment(BATCH_RUNNER_STATE=str(self._folder / "state"))
        with (self._folder / f"{self.name}.err").open("ab") as log:
            self.program = subprocess.Popen(
                command, cwd=self._folder, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def wait(self) -> None:
        """Wait for the program's end."""
        try:
            code = self.program.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            kill(self.program)
            code = None
        last = (self._folder / f"{self.name}.err").read_text(errors="replace").strip().rpartition("\n")[2]
        if code not in (0, 3, 4, 5, 130) and not (code == 2 and last.startswith(NOT_FOUND)):
            self.wrong.append(f"the program hangs, or ended as it should not: {code}")

    @property
    def told(self) -> dict[str, dict[str, str]]:
        """What the output says of each row."""
        csv.field_size_limit(10**9)
        path = self._folder / f"{self.name}.results.csv"
        if not path.exists():
            return {}
        with path.open(encoding="utf-8", newline="") as file:
            return {row["Id"]: row for row in csv.DictReader(file)}

    @property
    def has_ended(self) -> bool:
        """Whether nothing is left to run."""
        told = self.told.values()
        return bool(told) and all(row["status"] in ("success", "unknown", "failure") for row in told)

    def judge(self, marks: Path, *, scheduler_lived: bool) -> None:
        """Hold what the output says against what the tasks have marked."""
        told, counts = self.told, Counter[str]()
        for number in self._ids:
            row = told.get(number, dict.fromkeys(("status", "error", "result"), "lost"))
            path = marks / f"{self.name}-{number}"
            marked = path.read_text() if path.exists() else ""
            counts[f"{row['status']} [{'begun' if marked else ''}]"] += 1
            if why := self._wrong(number, row, marked, scheduler_lived=scheduler_lived):
                self.wrong.append(f"row {number} {why}: [{marked}] {row['status']} {row['error']}")
        said = (self._folder / f"{self.name}.err").read_text(errors="replace")
        if "Traceback" in said:
            self.wrong.append(said[said.index("Traceback") :][:3_000])
        kind = "repeatable" if self._is_repeatable else "once"
        print(f"  {self.name}, {kind}, concurrency {self._concurrency}: {dict(counts)}", flush=True)

    def _wrong(self, number: str, row: dict[str, str], marked: str, *, scheduler_lived: bool) -> str | None:
        status, mine = row["status"], f'"id":"{number}","sheet":"{self.name}"'
        may_be_unbegun = not scheduler_lived or ANSWER_LOST in row["error"]
        found = {
            "BEGAN TWICE": marked.count("b") > 1 and not self._is_repeatable,
            "HAS ANOTHER'S RESULT": status == "success" and mine not in row["result"],
            "WAS NOT DONE": status == "success" and "e" not in marked,
            "HAD NOT BEGUN": status == "unknown" and not marked and not may_be_unbegun,
            "DID NOT SUCCEED": status not in ("success", "unknown"),
        }
        return next((why for why, holds in found.items() if holds), None)


class Night:
    """A cluster, its programs, and what is done to them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._rng = folder, random.Random(seed)
        self._marks, self._bare, self._dask = folder / "marks", folder / "bare" / "batch_runner", folder / "dask"
        for each in (self._marks, self._bare, self._dask):
            each.mkdir(parents=True)
        (self._bare / "__init__.py").write_text(NO_PROGRAM)
        (folder / "tasks.py").write_text(TASKS.replace("HERE", repr(str(self._marks))))
        self.sheets = [Sheet(name, folder, self._rng) for name in ("ab" if self._rng.random() < 0.25 else "a")]
        self.did: list[str] = []
        self._workers: list[subprocess.Popen[bytes]] = []
        self._scheduler_lived = True
        self._faults: dict[Callable[[], None], float] = {
            self.kill_worker: 4,
            self.terminate_worker: 3,
            self.retire_worker: 3,
            self.stop_worker: 3,
            self.add_worker: 3,
            self.add_bare_worker: 1,
            self.break_clients: 1,
            self.kill_scheduler: 0.7,
            self.terminate_scheduler: 0.4,
            self.stop_scheduler: 0.7,
            self.restart_cluster: 0.4,
            self.kill_program: 2,
            self.interrupt_program: 0.7,
        }

    def play(self) -> None:
        """The whole night, and its morning: in the end all is well, and the program is run until nothing is left."""
        os.environ["DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL"] = self._rng.choice(("3s", "300s"))
        os.environ["DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES"] = self._rng.choice(("0", "3"))
        with DaskCluster(self._dask) as self._cluster:
            for _ in range(self._rng.choice((2, 3))):
                self.add_worker()
            for sheet in self.sheets:
                sheet.start(self._cluster.address)
            until = time.monotonic() + FAULTS_FOR
            time.sleep(self._rng.uniform(1.0, 4.0))
            while time.monotonic() < until and any(sheet.program.poll() is None for sheet in self.sheets):
                (fault,) = self._rng.choices([*self._faults], [*self._faults.values()])
                self.did.append(fault.__name__)
                fault()
                time.sleep(self._rng.choice((0.1, 0.5, 1.0, 3.0)))
            for _ in range(2):
                self.add_worker()
            for sheet in self.sheets:
                sheet.wait()
                for _ in range(3):
                    if not sheet.has_ended:
                        sheet.start(self._cluster.address)
                        sheet.wait()
        for sheet in self.sheets:
            sheet.judge(self._marks, scheduler_lived=self._scheduler_lived)

    def add_worker(self) -> None:
        """Of one to three threads, some below a nanny. At most four are there."""
        nanny, threads = self._rng.random() < 0.3, self._rng.choice((1, 1, 2, 3))
        if sum(worker.poll() is None for worker in self._workers) < 4:
            with suppress(AssertionError):  # it has ended before it was there, with its scheduler
                self._workers += self._cluster.add_workers(1, threads, nanny=nanny)

    def add_bare_worker(self) -> None:
        """One that has not this program."""
        os.environ["PYTHONPATH"] = str(self._bare.parent)
        self.add_worker()
        del os.environ["PYTHONPATH"]

    def _signal_worker(self, number: signal.Signals) -> subprocess.Popen[bytes] | None:
        alive = [worker for worker in self._workers if worker.poll() is None]
        worker = self._rng.choice(alive) if alive else None
        if worker:
            worker.send_signal(number)
        return worker

    def kill_worker(self) -> None:
        """As a machine's end."""
        self._signal_worker(signal.SIGKILL)

    def terminate_worker(self) -> None:
        """As a pod's deletion."""
        self._signal_worker(signal.SIGTERM)

    def stop_worker(self) -> None:
        """For so long that the scheduler may give it up; then it goes on."""
        if worker := self._signal_worker(signal.SIGSTOP):
            time.sleep(self._rng.choice((3, 6, 15)))
            worker.send_signal(signal.SIGCONT)

    def retire_worker(self) -> None:
        """As an operator does."""
        with suppress(OSError), Client(self._cluster.address, set_as_default=False, timeout=10) as client:
            if addresses := [*client.nthreads()]:
                client.retire_workers(workers=[self._rng.choice(addresses)], close_workers=True)

    def restart_cluster(self) -> None:
        """Somebody has all workers started again, and all tasks forgotten."""
        with suppress(OSError), Client(self._cluster.address, set_as_default=False, timeout=10) as client:
            client.restart(timeout=10, wait_for_workers=False)

    def break_clients(self) -> None:
        """The scheduler's connections to its clients break."""

        def abort(dask_scheduler: object) -> None:
            for name, stream in [*dask_scheduler.client_comms.items()]:  # type: ignore[attr-defined]
                if "-batch_runner-" in name:
                    stream.abort()

        with suppress(OSError), Client(self._cluster.address, set_as_default=False, timeout=10) as client:
            client.run_on_scheduler(abort)

    def kill_scheduler(self) -> None:
        """It is started again on its port, with some workers or none."""
        self._start_scheduler_again(signal.SIGKILL)

    def terminate_scheduler(self) -> None:
        """The same in order."""
        self._start_scheduler_again(signal.SIGTERM)

    def _start_scheduler_again(self, number: signal.Signals) -> None:
        self._scheduler_lived = False
        self._cluster.scheduler.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            self._cluster.scheduler.wait(10)
        kill(self._cluster.scheduler)
        time.sleep(self._rng.choice((0, 2, 10)))
        self._cluster.start_scheduler()
        for _ in range(self._rng.choice((0, 1, 2))):
            self.add_worker()

    def stop_scheduler(self) -> None:
        """It stands still for a while."""
        self._cluster.scheduler.send_signal(signal.SIGSTOP)
        time.sleep(self._rng.choice((2, 8)))
        self._cluster.scheduler.send_signal(signal.SIGCONT)

    def kill_program(self) -> None:
        """It is run again at once."""
        self._end_program(signal.SIGKILL)

    def interrupt_program(self) -> None:
        """The same in order."""
        self._end_program(signal.SIGINT)

    def _end_program(self, number: signal.Signals) -> None:
        sheet = self._rng.choice(self.sheets)
        if sheet.program.poll() is None:
            sheet.program.send_signal(number)
            if number == signal.SIGKILL:
                sheet.program.wait()
            else:
                sheet.wait()
            sheet.start(self._cluster.address)


def main(seed: int = 1, nights: int = 10) -> int:
    """Play so many nights; gives 1 if anything was wrong."""
    is_wrong = False
    for number in range(seed, seed + nights):
        began, folder = time.monotonic(), Path(tempfile.mkdtemp(prefix=f"night-{number}-"))
        night = Night(folder, number)
        night.play()
        print(f"night {number}, {time.monotonic() - began:.0f} s: {', '.join(night.did)}", flush=True)
        wrong = [f"{sheet.name}: {each}" for sheet in night.sheets for each in sheet.wrong]
        print("".join(f"    {each}\n" for each in wrong), end="", flush=True)
        if wrong:
            is_wrong = True
            print(f"    see {folder}", flush=True)
        else:
            shutil.rmtree(folder)
    return int(is_wrong)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
