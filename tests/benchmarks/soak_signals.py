"""Signals at drawn moments, most of them at a batch's edges: it ends in time, tells the truth, and goes on.

Run: `python tests/benchmarks/soak_signals.py [--minutes 10] [--seed 0]` (POSIX). Each seed is one batch of the program:
it gets one signal or two, and the same command follows. A seed that fails is printed, and can be played again with
`--seed`; the moments that it hits depend on the machine. It ends with the number of failures.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from program import COMMAND, environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TASKS = """
import os, time
import anyio

def begin(params):
    handle = os.open(os.path.join(params["Folder"], "begun"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, (params["Row"] + "\\n").encode())
    os.close(handle)

async def in_loop(params):
    begin(params)
    await anyio.sleep(float(params["Seconds"]))
    return {"row": params["Row"]}

def in_worker(params):
    begin(params)
    time.sleep(float(params["Seconds"]))
    return {"row": params["Row"]}
"""
PATIENCE = 30.0
"""Seconds from a signal to the end: Ctrl-C leaves runs ten of them, and machines are busy."""
ALARMS = ("Traceback", "Exception ignored", "never awaited", "was destroyed", "this is a bug")
ENDINGS = (".journal.db-lock", "-wal", "-shm", "-reserve", ".trial")


class Draw(msgspec.Struct, frozen=True):
    """One batch: how long, with which task, and which signals it gets at which edge, so many seconds after it."""

    rows: int
    seconds: float
    concurrency: int
    task: str
    is_served: bool
    edge: str
    after: float
    signals: tuple[int, ...]
    gap: float
    is_for_group: bool

    @classmethod
    def of(cls, chance: random.Random) -> Draw:
        """One for each state of the generator."""
        edge = chance.choice(["start", "first row", "last row", "last row", "draft", "output", "output"])
        number = chance.choice([signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
        return cls(
            rows=chance.randint(5, 60),
            seconds=chance.choice([0.0, 0.01, 0.05, 0.2]),
            concurrency=chance.choice([1, 5, 20, 60]),
            task=chance.choice(["in_loop", "in_worker"]),
            is_served=chance.random() < 0.25,
            edge=edge,
            after=chance.uniform(0.0, {"start": 2.0, "draft": 0.01, "output": 0.1}.get(edge, 0.4)),
            signals=(number,) * chance.choice([1, 1, 2]),
            gap=chance.choice([0.0, 0.001, 0.01, 0.1, 0.5]),
            is_for_group=chance.random() < 0.3,
        )

    def is_reached(self, folder: Path) -> bool:
        """Whether the batch is at its edge."""
        match self.edge:
            case "first row":
                return bool(begun(folder))
            case "last row":
                return len(begun(folder)) == self.rows
            case "draft":
                return any(".part" in name for name in names(folder))
            case "output":
                return (folder / "in.results.csv").exists()
        return True


def names(folder: Path) -> list[str]:
    """Of its files."""
    return [path.name for path in folder.iterdir()]


def own(folder: Path) -> dict[str, str]:
    """An environment in which no other batch is remembered."""
    return environment(BATCH_RUNNER_STATE=str(folder / "state"))


def begun(folder: Path) -> list[str]:
    """The rows that were begun."""
    with suppress(FileNotFoundError):
        return (folder / "begun").read_text().split()
    return []


def play(folder: Path, draw: Draw, url: str) -> Iterator[str]:
    """Run the batch, and then the same command; gives what isn't as it should be."""
    sheet = "".join(f"r{row},{folder},{draw.seconds}\n" for row in range(draw.rows))
    (folder / "in.csv").write_text(f"Row,Folder,Seconds\n{sheet}")
    where = (draw.task, "--service", url) if draw.is_served else (f"{folder.parent / 'tasks.py'}:{draw.task}",)
    command = [*COMMAND, "run", "in.csv", "--key", "Row", "--concurrency", str(draw.concurrency), "--task", *where]
    code, err = signalled(folder, draw, command)
    if code is None:
        yield f"it went on for {PATIENCE:.0f} s"
        return
    told = {128 + number for number in draw.signals}
    codes = {
        0,
        *(143 if code == 129 else code for code in told),
        *(-number for number in draw.signals if not begun(folder)),
    }
    if code not in codes:
        yield f"exit code {code}"
    if code >= 0 and (alarm := next((alarm for alarm in ALARMS if alarm in err), None)):
        yield f"standard error has {alarm!r}: {err}"
    statuses = read_output(folder)
    if code == 0 and statuses != {"success": draw.rows}:
        yield f"0 for {dict(statuses)}"
    if len(draw.signals) == 1:
        yield from (f"{name} is left" for name in names(folder) if name.endswith(ENDINGS) or ".part" in name)
    again = subprocess.run(
        [*command, "--json"], cwd=folder, env=own(folder), capture_output=True, text=True, check=False
    )
    if again.returncode not in (0, 4):
        yield f"the next one ended with {again.returncode}: {again.stderr}{again.stdout[:1000]}"
    counts = json.loads(again.stdout)["counts"]
    if counts.get("success", 0) + counts.get("unknown", 0) != draw.rows or counts != read_output(folder):
        yield f"after it {counts}"
    yield from (f"{row} was begun {times} times" for row, times in Counter(begun(folder)).items() if times > 1)


def signalled(folder: Path, draw: Draw, command: list[str]) -> tuple[int | None, str]:
    """Run the command and send it the signals; gives its code, None where it doesn't end, and its standard error."""
    with (folder / "stderr").open("w+") as err:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=own(folder),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=err,
            start_new_session=True,
        )
        while not draw.is_reached(folder) and process.poll() is None:
            time.sleep(0.001)
        time.sleep(draw.after)
        for number in draw.signals:
            with suppress(ProcessLookupError):
                (os.killpg if draw.is_for_group else os.kill)(process.pid, number)
            time.sleep(draw.gap)
        try:
            code = process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            code = None
        err.seek(0)
        return code, err.read()


def read_output(folder: Path) -> Counter[str]:
    """How many rows of the output have which status. Each is there, in order, and has no other's result."""
    path = folder / "in.results.csv"
    if not path.exists():
        return Counter()
    with path.open(newline="") as file:
        records = list(csv.DictReader(file))
    with (folder / "in.csv").open(newline="") as file:
        assert [record["Row"] for record in records] == [record["Row"] for record in csv.DictReader(file)]
    for record in records:
        assert record["status"] != "success" or json.loads(record["result"]) == {"row": record["Row"]}, record
    return Counter(record["status"] for record in records)


def soak(until: Callable[[], bool], seed: int, folder: Path) -> int:
    """Play one seed after the other; gives how many have failed."""
    (folder / "tasks.py").write_text(TASKS)
    command = [*COMMAND, "serve", "--port", "0", "--tasks", "tasks.py", "--workers", "2"]
    played = failed = 0
    with subprocess.Popen(command, cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True) as service:
        assert service.stderr is not None
        url = service.stderr.readline().partition(" on ")[2].partition(";")[0]
        while not until():
            draw, place = Draw.of(random.Random(seed)), folder / str(seed)
            place.mkdir()
            problems = list(play(place, draw, url))
            if problems:
                failed += 1
                print(f"seed {seed}: {draw}", *problems, sep="\n  ", flush=True)
            played, seed = played + 1, seed + 1
        service.kill()
    print(f"{played} batches, {failed} of them not as they should be")
    return failed


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    said = parser.parse_args()
    end = time.monotonic() + 60 * said.minutes
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell has it ignored for what runs in its background
    with tempfile.TemporaryDirectory() as root:
        sys.exit(min(soak(lambda: time.monotonic() > end, said.seed, Path(root)), 1))
