"""A slot is another row's as soon as its run has succeeded: the end and the next intent share one wait for the disk."""

from __future__ import annotations

import csv
import sqlite3
import tempfile
from collections import Counter
from contextlib import closing
from itertools import chain, cycle
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import msgspec
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from batch_runner.batch.limits import Limits
from batch_runner.batch.pool import Pool
from batch_runner.errors import ExitCode, JournalFailed, sole_error
from batch_runner.job.job import Job
from batch_runner.journal.database import open_memory
from batch_runner.journal.group_commit import LAST_CALL, Commits, commit
from batch_runner.journal.journal import JournalFile
from batch_runner.progress import Progress, Tally
from batch_runner.runner.run import NightRun, info, open_job, run_opened
from batch_runner.service.protocol import NO_CAPABILITIES, Capabilities, LookFailed, Run, RunSeen, Started, StartRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from batch_runner.batch.pool import SheetBatch
    from batch_runner.journal.group_commit import Event

OPEN = "SELECT count(*) FILTER (WHERE ended_at IS NULL), count(*) FROM attempt"


class Planned(msgspec.Struct, frozen=True):
    """What a row's run will come to, after so many seconds; `at_once` where the start's answer tells it."""

    seconds: float
    status: str = "success"
    at_once: bool = True


class Service:
    """Runs the rows as planned, and counts what is in flight."""

    def __init__(self, plan: Sequence[Planned]) -> None:
        self._plan = plan
        self._runs: dict[str, tuple[float, Planned]] = {}
        self.starts: list[str] = []
        self.peak = self.most_tasks = 0

    async def start(self, request: StartRequest) -> Started:
        """See Service."""
        row = request.run.input_params["Row"]
        self.starts.append(row)
        planned = self._plan[int(row)]
        self._runs[row] = anyio.current_time() + planned.seconds, planned
        self.peak = max(self.peak, sum(anyio.current_time() < end for end, _ in self._runs.values()))
        if planned.at_once:
            await anyio.sleep(planned.seconds)
        return Started((await self.look(row)).run)

    async def look(self, run_id: str, wait: float = 0.0) -> RunSeen:
        """See Service."""
        end, planned = self._runs[run_id]
        self.most_tasks = max(self.most_tasks, trio.lowlevel.current_statistics().tasks_living)
        await anyio.sleep(min(wait, max(0.0, end - anyio.current_time())))
        return RunSeen(Run(run_id, planned.status if anyio.current_time() >= end else "running"))

    async def stop(self, run_id: str) -> LookFailed:
        """See Service."""
        return LookFailed(f"{run_id} can't be stopped.", 404, again=False)

    async def capabilities(self) -> Capabilities:
        """See Service."""
        return NO_CAPABILITIES


class Disk:
    """Commits a journal in memory, each in so many seconds; the one of a given number fails."""

    def __init__(self, connection: sqlite3.Connection, seconds: Sequence[float], fails: int | None = None) -> None:
        self._connection = connection
        self._seconds = chain(seconds, cycle([seconds[-1]]))
        self._fails = fails
        self.commits = 0
        self.has_failed = False
        self.most_open = self.intended = 0
        """Rows that were intended and had no end, as they stood on disk at once, and those that were ever intended."""

    async def write(self, events: list[Event]) -> None:
        """Write a group of events."""
        self.commits += 1
        await anyio.sleep(next(self._seconds))
        if self.commits == self._fails:
            self.has_failed = True
            raise sqlite3.OperationalError("disk I/O error")
        commit(self._connection, events)
        opened, self.intended = self._connection.execute(OPEN).fetchone()
        self.most_open = max(self.most_open, opened)


class Shown(Progress):
    """Notes how many runs are said to be in flight."""

    most = last = 0

    def moved(self, tally: Tally) -> None:
        """See Progress."""
        self.most, self.last = max(self.most, tally.running), tally.running


class Done(msgspec.Struct, frozen=True):
    """What came of a batch: the statuses from top to bottom, none where its journal failed."""

    service: Service
    disk: Disk
    shown: Shown
    statuses: list[str]
    exit_code: int | None
    seconds: float


def run(plan: Sequence[Planned], commits: Sequence[float], fails: int | None = None, **options: object) -> Done:
    """A row for each of the plan, with a disk whose commits take so long one after the other."""

    async def main() -> Done:
        service, shown, exit_code = Service(plan), Shown(), None  # which stays, where its journal fails
        with open_job(job) as opened, closing(open_memory()) as connection:
            disk, file = Disk(connection, commits, fails), JournalFile(connection)
            file.commits = Commits(disk.write, LAST_CALL)
            began = anyio.current_time()
            try:
                with sole_error():
                    exit_code = (await run_opened(opened, service, await file.begin(info(opened)), shown)).exit_code
            except JournalFailed:
                assert disk.has_failed
            return Done(service, disk, shown, [], exit_code, anyio.current_time() - began)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in.csv").write_text("Row\n" + "".join(f"{row}\n" for row in range(len(plan))))
        job = Job(input=str(folder / "in.csv"), task="t", service="http://service", **options)  # type: ignore[arg-type]
        done = trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
        if done.exit_code is not None:
            with (folder / "in.results.csv").open(newline="") as file:
                done.statuses.extend(record["status"] for record in csv.DictReader(file))
    return done


seconds = st.sampled_from([0.0, 0.001, 0.02, 0.3, 4.0])
planned = st.builds(Planned, seconds, st.sampled_from(["success", "success", "success", "failure"]), st.booleans())


@pytest.mark.long
@given(st.lists(planned, min_size=1, max_size=30), st.integers(1, 6), st.lists(seconds, min_size=1, max_size=10))
def test_never_more_in_flight_than_asked_for(plan: list[Planned], concurrency: int, commits: list[float]) -> None:
    """However runs end and however slow the disk is: each row once, so many in flight at most, and on disk, too.

    So a kill leaves no more rows without an end than runs were in flight.
    """
    done = run(plan, commits, concurrency=concurrency)
    assert done.service.peak <= concurrency
    assert done.disk.most_open <= concurrency
    assert done.shown.most <= concurrency
    assert done.shown.last == 0
    assert Counter(done.service.starts) == Counter(str(row) for row in range(len(plan)))
    assert done.statuses == [one.status for one in plan]


def test_a_run_that_is_polled_is_no_task() -> None:
    """300 runs in flight that end together take some hundred tasks: each one more would weigh ten kilobytes."""
    done = run([Planned(600.0, at_once=False)] * 300, [0.01], concurrency=300)
    assert done.statuses == ["success"] * 300
    assert done.service.peak == 300
    assert done.service.most_tasks < 200


@pytest.mark.parametrize("concurrency", [1, 2])
def test_an_end_and_the_next_intent_share_a_commit(concurrency: int) -> None:
    """Forty runs of 50 ms with commits of 10 ms: a row costs one wait for the disk, not two."""
    done = run([Planned(0.05)] * 40, [0.01], concurrency=concurrency)
    assert done.statuses == ["success"] * 40
    assert done.seconds < 40 / concurrency * 0.062 + 0.2


@pytest.mark.parametrize("concurrency", [1, 3])
def test_no_row_is_started_after_the_last_failure_that_is_borne(concurrency: int) -> None:
    """The third failure is heard before its slot is another row's, also while the disk takes a second."""
    plan = [Planned(0.05)] * 4 + [Planned(0.05, "failure")] * 20
    done = run(plan, [1.0], concurrency=concurrency, max_failures=3)
    assert done.exit_code == ExitCode.STOPPED
    assert len(done.service.starts) <= 4 + 3 + concurrency - 1


@pytest.mark.long
@given(st.lists(planned, min_size=1, max_size=20), st.integers(1, 4), st.lists(seconds, min_size=1), st.integers(3, 40))
def test_nothing_starts_that_could_not_be_recorded(
    plan: list[Planned], concurrency: int, commits: list[float], fails: int
) -> None:
    """When a commit fails, be it of an end or an intent, no start goes out whose intent isn't on disk."""
    done = run(plan, commits, fails, concurrency=concurrency)
    if done.disk.has_failed:
        assert done.exit_code is None
        assert done.disk.commits == fails
    assert len(done.service.starts) <= done.disk.intended
    assert max(Counter(done.service.starts).values(), default=0) <= 1


def test_a_concurrency_that_is_asked_for_at_the_end_changes_nothing(tmp_path: Path) -> None:
    """While the output is written nobody is left to start anything: the batch ends as it would have."""

    async def main() -> None:
        with open_job(job) as opened, closing(open_memory()) as connection:
            night = NightRun(opened.job, opened.service, Service([Planned(1.0)] * 9), opened.bounds, rows=9)
            batch = night.batch(opened, await JournalFile(connection).begin(info(opened)))

            async def sheets() -> AsyncIterator[SheetBatch]:
                yield batch

            async def finish(_: SheetBatch) -> None:
                await anyio.sleep(1.0)
                pool.adjust(9)
                ends.append(anyio.current_time())

            pool = Pool(Limits(1), night.stopping, Progress(), Tally(9), finish)
            await pool.run(sheets(), 1, None)

    ends: list[float] = []
    (tmp_path / "in.csv").write_text("Row\n" + "".join(f"{row}\n" for row in range(9)))
    job = Job(input=str(tmp_path / "in.csv"), task="t", service="http://service")
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert len(ends) == 1
