"""How fast a batch hears of its runs' ends: rows of 50 ms and rows of nothing, here and on Dask, beside the bare thing.

Run: `python tests/benchmarks/bench_ends.py [ROWS] [ROUNDS]` (200, 3). Of rows that compute it prints, for each
concurrency from the number of threads up, which part of the ideal was reached: how long the threads computed, divided
by the threads, through the time from the first begin to the last end. The rows tell their times themselves, so a busy
machine slows both alike. Goal: 92 % here, 85 % on Dask.

Of rows of nothing it prints the seconds from the first begin to the last end, beside those of a bare `Client.map` of
the same function in the same round. Goal: 1.2 times as many where the task is repeatable, 2 times where it isn't.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support")]

from dask_cluster import DaskCluster  # noqa: E402  the tests' shared modules stand one folder up
from distributed import Client  # noqa: E402
from measured import run_measured, write_fresh_sheet  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable

THREADS = 2
TASKS = """
import os, time
from batch_runner import task

def note(began):
    with open({times!r} + str(os.getpid()), "a") as file:
        file.write(f"{{began}} {{time.time()}}\\n")

def compute(params):
    began, until = time.time(), time.process_time() + 0.05
    while time.process_time() < until:
        pass
    note(began)

def nothing(params):
    note(time.time())

@task(repeatable=True)
def nothing_repeatable(params: dict[str, str]):
    note(time.time())
"""


class Timed:
    """A folder whose tasks note when they begin and end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "timed_tasks.py"
        self.file.write_text(TASKS.format(times=str(folder / "times-")))

    def spans(self, measure: Callable[[], object]) -> list[tuple[float, float]]:
        """Begin and end of each run that `measure` makes."""
        for path in self.folder.glob("times-*"):
            path.unlink()
        measure()
        lines = [line for path in self.folder.glob("times-*") for line in path.read_text().splitlines()]
        return [(float(begin), float(end)) for begin, end in (line.split() for line in lines)]

    def batch(self, rows: int, task: str, *options: object) -> list[tuple[float, float]]:
        """The spans of a batch of so many rows."""
        write_fresh_sheet(self.folder, rows)
        for path in self.folder.glob("*.journal.db*"):
            path.unlink()
        found = self.spans(lambda: run_measured(self.folder, "--task", f"{self.file}:{task}", "--quiet", *options))
        assert len(found) == rows
        return found


def whole(spans: list[tuple[float, float]]) -> float:
    """Seconds from the first begin to the last end."""
    return max(end for _, end in spans) - min(begin for begin, _ in spans)


def part_of_ideal(spans: list[tuple[float, float]]) -> float:
    """How long the threads worked, of the time in which they could have."""
    return sum(end - begin for begin, end in spans) / THREADS / whole(spans)


def bare_map(timed: Timed, client: Client, task: str, rows: int) -> list[tuple[float, float]]:
    """The spans of a bare `Client.map` of the task."""

    def measure() -> None:
        client.gather(client.map(run_bare, [str(timed.file)] * rows, [task] * rows, range(rows), pure=False))

    return timed.spans(measure)


def run_bare(file: str, task: str, _: int) -> None:
    """As a Dask worker does it: the module is loaded once."""
    import importlib.util
    import sys

    module = sys.modules.get("timed_tasks")
    if module is None:
        spec = importlib.util.spec_from_file_location("timed_tasks", file)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules["timed_tasks"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    getattr(module, task)({})


def main() -> None:
    """Measure all of it."""
    rows, rounds = (int(text) for text in (*sys.argv[1:], *("200", "3")[len(sys.argv) - 1 :]))
    with tempfile.TemporaryDirectory() as name:
        folder, timed = Path(name) / "dask", Timed(Path(name))
        folder.mkdir()
        with DaskCluster(folder) as cluster, ExitStack() as stack:
            cluster.add_workers(THREADS)
            on_dask, here = ("--dask", cluster.address), ("--workers", THREADS)
            client = stack.enter_context(Client(cluster.address, set_as_default=False))
            bare_map(timed, client, "nothing", 100)
            for where, options, goal in (("here", here, 0.92), ("on Dask", on_dask, 0.85)):
                for concurrency in (THREADS, 2 * THREADS, 4 * THREADS, 100 * THREADS):
                    parts, bare = [], []
                    for _ in range(rounds):
                        parts.append(
                            part_of_ideal(timed.batch(rows, "compute", *options, "--concurrency", concurrency))
                        )
                        bare.append(part_of_ideal(bare_map(timed, client, "compute", rows)))
                    print(
                        f"{rows} rows of 50 ms {where}, concurrency {concurrency}: {statistics.median(parts):.0%} of "
                        f"the ideal (best {max(parts):.0%}; goal {goal:.0%}; Client.map {statistics.median(bare):.0%})",
                        flush=True,
                    )
            for task, most in (("nothing_repeatable", 1.2), ("nothing", 2.0)):
                ratios, seconds = [], []
                for _ in range(rounds):
                    alone = whole(bare_map(timed, client, "nothing", 5 * rows))
                    ours = whole(timed.batch(5 * rows, task, *on_dask, "--concurrency", 100 * THREADS))
                    ratios.append(ours / alone)
                    seconds.append(ours / 5 / rows * 1000)
                print(
                    f"{5 * rows} rows of {task} on Dask: {statistics.median(seconds):.2f} ms each, "
                    f"{statistics.median(ratios):.2f} times Client.map (best {min(ratios):.2f}; goal {most})",
                    flush=True,
                )


if __name__ == "__main__":
    main()
