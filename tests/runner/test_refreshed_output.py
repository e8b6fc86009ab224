"""While a batch runs, its output is written anew now and then; and `status --output` writes it at any time."""

from __future__ import annotations

import csv
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio
import pytest
import trio.testing
from kept_promises import assert_kept, known_runs, lost_rows, numbered, read_output, write_sheet
from killing import Moment, exit_code, run, start
from program import PATIENCE, run_program
from remembering_service import Service, on_a_socket
from systems import KILLED

from batch_runner.journal.view import JournalView
from batch_runner.runner.adjust import REFRESH_EVERY, REFRESH_SHARE, BatchEnding, Refresher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Sheet:
    """So much of a batch as a refresh needs to know."""

    def __init__(self, total: int) -> None:
        self.source = self
        self.total = total


@pytest.mark.parametrize(("rows", "seconds"), [(10, 0.5), (10, 9.0), (100_000, 20.0)])
def test_refreshes_take_a_twentieth_of_the_time_at_most(rows: int, seconds: float) -> None:
    """In virtual time: a minute apart at least, and the next as late as the last one's time demands."""
    first = 0.0
    began: list[float] = []
    share: list[float] = []

    async def write(_batch: object, _look: Callable[[], None]) -> None:
        began.append(anyio.current_time())
        await anyio.sleep(seconds)
        share.append(seconds * len(began) / (anyio.current_time() - first))

    async def night() -> None:
        refresher = Refresher(write, lambda: False)
        refresher.add(Sheet(rows))  # type: ignore[arg-type]
        with anyio.move_on_after(8 * 3600):
            await refresher.drive()

    async def main() -> None:
        nonlocal first
        first = anyio.current_time()
        await night()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert min(b - a for a, b in zip([first, *began], began, strict=False)) >= REFRESH_EVERY
    assert len(began) == pytest.approx(8 * 3600 / max(REFRESH_EVERY + seconds, seconds / REFRESH_SHARE), abs=1)
    assert max(share[1:]) <= REFRESH_SHARE * 1.01 or seconds > REFRESH_EVERY * REFRESH_SHARE
    assert share[-1] <= REFRESH_SHARE * 1.05


def test_no_refresh_while_stopping_and_an_ending_batch_waits_for_none() -> None:
    """A stop leaves off what is being written, and the batch that ends is let go only then."""
    told: list[str] = []
    is_stopping = False

    async def write(_batch: object, look: Callable[[], None]) -> None:
        told.append("begun")
        try:
            while True:
                await anyio.sleep(1)
                look()
        except BatchEnding:
            told.append("left off")
            raise

    async def main() -> None:
        nonlocal is_stopping
        batch = Sheet(10)
        refresher = Refresher(write, lambda: is_stopping)
        refresher.add(batch)  # type: ignore[arg-type]
        async with anyio.create_task_group() as around:
            around.start_soon(refresher.drive)
            await anyio.sleep(REFRESH_EVERY + 5)
            is_stopping = True
            await refresher.let_go(batch)  # type: ignore[arg-type]
            told.append("let go")
            await anyio.sleep(3600)
            around.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))
    assert told == ["begun", "left off", "let go"]


ROWS = 24
COMMAND = ["run", "list.csv", "--task", "pay", "--key", "Row", "--concurrency", "2", "--poll-rate", "1000/s"]


@pytest.fixture
def service() -> Iterator[Service]:
    """A service whose runs last some tenths of a second, so that refreshes come between."""
    with on_a_socket(Service(looks=25)) as service:
        yield service


@pytest.mark.long
@pytest.mark.parametrize(
    ("side", "boundary"),
    [
        ("after", "output"),
        ("after", "csv write"),
        ("before", "note of the output"),
        ("after", "note of the output"),
        ("after", "index of outputs"),
    ],
)
def test_killed_amid_a_refresh(side: str, boundary: str, tmp_path: Path, service: Service) -> None:
    """The output is whole, or not there yet; nothing starts twice; the next night knows the file for its own."""
    rows = numbered(ROWS)
    write_sheet(tmp_path / "list.csv", rows)
    command = [*COMMAND, "--service", service.url]
    moment = Moment(side, boundary, 2)  # type: ignore[arg-type]
    assert run(tmp_path, command, moment, refresh=0.2) == KILLED
    output, journal = tmp_path / "list.results.csv", tmp_path / "pay.journal.db"
    with JournalView.open(journal) as view:
        assert view.batches()[-1].ended is None
        assert any(count.status != "success" for count in view.counts(1))
    records = read_output(output)
    assert [(record.row, record.amount) for record in records] == rows
    assert {record.run_id for record in records} - {""} <= known_runs(journal)
    assert all(service.rows[record.run_id] == record.row for record in records if record.run_id)
    lost = lost_rows(journal)
    assert run(tmp_path, command) == (4 if lost else 0), (tmp_path / "said.txt").read_text()
    assert_kept(output, rows, service, lost)
    assert {path.name for path in tmp_path.iterdir()} == {"list.csv", output.name, journal.name, "said.txt"}


@contextmanager
def running(folder: Path, service: Service, refresh: float | None, *more: str) -> Iterator[None]:
    """A batch that goes on while the block runs; then it is waited for."""
    child = start(folder, [*COMMAND, "--service", service.url, *more], refresh=refresh)
    try:
        yield
    finally:
        assert exit_code(child) == 0, (folder / "said.txt").read_text()


def until(is_so: Callable[[], bool]) -> None:
    """Wait for something that comes soon."""
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.long
def test_rows_whose_turn_has_not_come_show_their_earlier_outcome(tmp_path: Path, service: Service) -> None:
    """On a later night, rows far below the first new ones are not shown as if they had never run."""
    old = numbered(300)
    journal, output = tmp_path / "pay.journal.db", tmp_path / "list.results.csv"
    write_sheet(tmp_path / "list.csv", old)
    assert run(tmp_path, [*COMMAND, "--service", service.url, "--concurrency", "100"]) == 0
    before = {record.row: record.run_id for record in read_output(output)}
    new = [(f"new{number}", "1.00") for number in range(200)]
    write_sheet(tmp_path / "list.csv", [*new, *old])
    with running(tmp_path, service, 0.1, "--concurrency", "20"):
        until(lambda: read_output(output)[0].row == "new0")
        records = read_output(output)
        with JournalView.open(journal) as view:
            assert sum(count.rows for count in view.counts(2)) < 500, "all rows had found their places already"
        assert {record.row: record.run_id for record in records[200:]} == before
        assert {record.status for record in records[200:]} == {"success"}
        assert "not_started" in {record.status for record in records[:200]}
    assert max(service.starts_of.values()) == 1


@pytest.mark.long
def test_what_somebody_changed_or_opened_is_not_refreshed(tmp_path: Path, service: Service) -> None:
    """Her note in the output of a running batch stands until the batch ends, and is carried over then."""
    write_sheet(tmp_path / "list.csv", numbered(ROWS))
    output = tmp_path / "list.results.csv"
    with running(tmp_path, service, 0.1):
        until(output.exists)
        lines = list(csv.reader(output.read_text().splitlines()))
        noted = [[*line, "Remark" if place == 0 else "seen by me"] for place, line in enumerate(lines)]
        fresh = tmp_path / "fresh"
        with fresh.open("w", newline="") as file:
            csv.writer(file).writerows(noted)
        fresh.replace(output)
        mine = output.read_bytes()
        stopped = threading.Event()
        stopped.wait(0.8)
        assert output.read_bytes() == mine
    after = list(csv.reader(output.read_text().splitlines()))
    assert after[0][-1] == "Remark"
    assert {line[-1] for line in after[1:]} == {"seen by me"}
    assert {line[3] for line in after[1:]} == {"success"}


@pytest.mark.long
def test_in_place_nothing_is_refreshed(tmp_path: Path, service: Service) -> None:
    """A sheet that is its own output is written once, at the end."""
    write_sheet(tmp_path / "list.csv", numbered(ROWS))
    before = (tmp_path / "list.csv").stat().st_ino
    with running(tmp_path, service, 0.1, "--output", "list.csv"):
        until(lambda: len(service.sent) > 10)
        assert (tmp_path / "list.csv").stat().st_ino == before
    assert len(read_output(tmp_path / "list.csv")) == ROWS


@pytest.mark.long
def test_status_writes_the_output_of_a_running_batch(tmp_path: Path, service: Service) -> None:
    """Each row's own run stands there, what is in flight is never called ended, and the journal isn't written."""
    write_sheet(tmp_path / "list.csv", numbered(ROWS))
    with running(tmp_path, service, None):
        until(lambda: len(service.sent) > 10)
        done = run_program("status", "list.csv", "--output", "now.csv", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        records = read_output(tmp_path / "now.csv")
    assert [record.row for record in records] == [row for row, _ in numbered(ROWS)]
    assert all(service.rows[record.run_id] == record.row for record in records if record.run_id)
    statuses = {record.status for record in records}
    assert "success" in statuses
    assert statuses <= {"success", "running", "queued", "not_started", "unknown"}
    assert "not_started" in statuses
    assert all("awaited" in record.error for record in records if record.status == "unknown")
    assert {path.name for path in tmp_path.iterdir()} == {
        "list.csv", "list.results.csv", "now.csv", "pay.journal.db", "said.txt",
    }  # fmt: skip


def test_status_writes_over_nothing_but_our_own(tmp_path: Path) -> None:
    """Not the sheet, another file, an output that was changed; its own earlier one it does, and so does a batch."""
    (tmp_path / "tasks.py").write_text("async def pay(params): return params['Row']\n")
    write_sheet(tmp_path / "list.csv", numbered(4))
    task = ("--task", "tasks.py:pay", "--key", "Row")
    assert run_program("run", "list.csv", *task, cwd=tmp_path).returncode == 0
    (tmp_path / "list.results.csv").unlink()

    def status(output: str, journal: str = "tasks.py-pay.journal.db") -> tuple[int, str]:
        done = run_program("status", journal, "--output", output, cwd=tmp_path)
        return done.returncode, done.stdout + done.stderr

    code, said = status("list.results.csv")
    assert (code, "4 success" in said) == (0, True), said
    assert status("list.results.csv")[0] == 0
    again = run_program("run", "list.csv", *task, cwd=tmp_path)
    assert again.returncode == 0
    assert "nothing new" in again.stdout
    assert not list(tmp_path.glob("*edited*"))
    assert status("list.csv")[0] == 2
    (tmp_path / "notes.csv").write_text("hers\n")
    code, said = status("notes.csv")
    assert code == 2
    assert "notes.csv" in said
    assert (tmp_path / "notes.csv").read_text() == "hers\n"
    (tmp_path / "night.toml").write_text('input = "*.csv"\ntask = "tasks.py:pay"\nkey = ["Row"]\n')
    code, said = status("so_far.csv", "night.toml")
    assert (code, "would be taken for an input" in said) == (2, True), said
    with (tmp_path / "list.results.csv").open("a") as file:
        file.write("more\n")
    assert status("list.results.csv")[0] == 2


def test_status_follows_rows_of_a_sheet_that_was_edited_since(tmp_path: Path) -> None:
    """Sorted and grown: each outcome stands beside its key; a sheet of other rows is refused, with the next step."""
    (tmp_path / "tasks.py").write_text("async def pay(params): return params['Row']\n")
    write_sheet(tmp_path / "list.csv", numbered(5))
    assert run_program("run", "list.csv", "--task", "tasks.py:pay", "--key", "Row", cwd=tmp_path).returncode == 0
    runs = {record.row: record.run_id for record in read_output(tmp_path / "list.results.csv")}
    write_sheet(tmp_path / "list.csv", [("new", "9.00"), *reversed(numbered(5))])
    before = (tmp_path / "tasks.py-pay.journal.db").stat().st_mtime_ns
    done = run_program("status", "tasks.py-pay.journal.db", "--output", "now.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    records = read_output(tmp_path / "now.csv")
    assert records[0].status == "not_started"
    assert {record.row: record.run_id for record in records[1:]} == runs
    assert (tmp_path / "tasks.py-pay.journal.db").stat().st_mtime_ns == before
    write_sheet(tmp_path / "list.csv", [("others", "1.00")])
    done = run_program("status", "tasks.py-pay.journal.db", "--output", "other.csv", cwd=tmp_path)
    assert done.returncode == 2
    assert "name the job" in done.stderr
    assert not (tmp_path / "other.csv").exists()
