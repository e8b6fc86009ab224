"""What `status` tells of a journal: for a person, for a program, and where there is nothing to tell."""

from __future__ import annotations

import json
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock
from program import PATIENCE, run_program, start_program
from remembering_service import Service, on_a_socket
from served import wait_until

from batch_runner.cli.status import read_status
from batch_runner.errors import ExitCode

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

TASK = """
async def even(params):
    if int(params["Number"]) % 2:
        raise ValueError("odd")
    return "even"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder in which a batch of two rows has run: row 2 succeeded, row 3 failed."""
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "list.csv").write_text("Number,Name\n2,two\n3,three\n")
    done = run_program("run", "list.csv", "--task", "task.py:even", cwd=tmp_path)
    assert done.returncode == 3, done.stderr
    return tmp_path


def test_one_of_a_thing_is_said_in_the_singular(folder: Path) -> None:
    """No "1 batches", "[rows 3]", "1 attempts" or "sent 1 times"."""
    told = run_program("status", "task.py-even.journal.db", cwd=folder).stdout
    assert "1 batch of " in told
    assert "odd  [row 3]" in told
    story = run_program("status", "task.py-even.journal.db", "--row", "3", cwd=folder).stdout
    assert story.startswith("row 3: 1 attempt\n")
    assert "sent 1 time\n" in story


def test_a_row_that_was_never_sent_says_why(tmp_path: Path) -> None:
    """A refused duplicate has no attempts, but a reason."""
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "list.csv").write_text("Number,Name\n2,two\n2,TWO\n")
    run_program("run", "list.csv", "--task", "task.py:even", "--unique", "Number", cwd=tmp_path)
    told = run_program("status", "task.py-even.journal.db", "--row", "3", cwd=tmp_path).stdout
    assert told.startswith("row 3: 0 attempts\n  error: duplicate: the same Number stands in row 2")


def test_a_key_column_whose_name_holds_an_equals_sign(tmp_path: Path) -> None:
    """`A=B=7` is the text 7 in the column `A=B`."""
    (tmp_path / "task.py").write_text(TASK.replace('params["Number"]', 'params["A=B"]'))
    (tmp_path / "list.csv").write_text("A=B,C\n8,x\n")
    run_program("run", "list.csv", "--task", "task.py:even", "--key", "A=B,C", cwd=tmp_path)
    options = ("--key-value", "A=B=8", "--key-value", "C=x")
    assert run_program("status", "task.py-even.journal.db", *options, cwd=tmp_path).stdout.startswith(
        "A=B '8', C 'x': 1 attempt"
    )


def test_json_counts_are_as_those_of_run(folder: Path) -> None:
    """The last batch's counts stand at the top, as an object like that of `run --json`, and so do each batch's."""
    told = json.loads(run_program("status", "task.py-even.journal.db", "--json", cwd=folder).stdout)
    assert told["counts"] == {"failure": 1, "success": 1}
    assert told["nights"][0]["counts"] == told["counts"]


@pytest.mark.parametrize("row", [99, 1])
def test_a_row_that_is_not_there_is_a_sentence(folder: Path, row: int) -> None:
    """No story of 0 attempts for a row that the batch never had."""
    done = run_program("status", "task.py-even.journal.db", "--row", row, cwd=folder)
    assert done.returncode == 2
    assert f"no row {row} took part" in done.stderr


@pytest.mark.parametrize("name", ["list.csv", "list.results.csv"])
def test_a_spreadsheet_stands_for_its_journal(folder: Path, name: str) -> None:
    """Who gives the sheet, or the output, is told what its journal says."""
    of_journal = run_program("status", "task.py-even.journal.db", "--row", 3, cwd=folder).stdout
    assert run_program("status", name, "--row", 3, cwd=folder).stdout == of_journal
    assert "list.csv" in of_journal


def test_a_job_file_stands_for_its_journal(folder: Path) -> None:
    """Who gives the job file is told the same; without a journal, what there is."""
    (folder / "nightly.toml").write_text('input = "list.csv"\ntask = "task.py:even"\n')
    of_journal = run_program("status", "task.py-even.journal.db", "--row", 3, cwd=folder).stdout
    assert run_program("status", "nightly.toml", "--row", 3, cwd=folder).stdout == of_journal
    (folder / "nightly.toml").write_text('input = "list.csv"\n')
    done = run_program("status", "nightly.toml", cwd=folder)
    assert done.returncode == 2
    assert "name one of its journals (none yet)" in done.stderr


@pytest.fixture
def awaiting(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A batch that lives: both its rows were sent, and it waits for the answers."""
    (tmp_path / "list.csv").write_text("Row\n2\n3\n")
    go, service = threading.Event(), Service()

    def wait(_: int) -> None:
        go.wait(PATIENCE)

    service.read = wait
    with on_a_socket(service):
        batch = start_program("run", "list.csv", "--task", "t", "--service", service.url, cwd=tmp_path)
        try:
            wait_until(lambda: _told(tmp_path).get("starting") == 2 or batch.poll() is not None)
            assert batch.poll() is None
            yield batch
        finally:
            go.set()
            batch.kill()
            batch.communicate()


def _told(folder: Path) -> dict[str, int]:
    """The counts that `status` tells; none while there is no journal yet."""
    done = run_program("status", "t.journal.db", "--json", cwd=folder)
    return dict(json.loads(done.stdout)["counts"]) if done.returncode == 0 else {}


@pytest.mark.long
def test_a_start_in_flight_is_not_told_as_lost(awaiting: subprocess.Popen[str], tmp_path: Path) -> None:
    """While its batch lives a start without an answer is `starting`: in the counts, the story and JSON, no failure."""
    page = run_program("status", "t.journal.db", cwd=tmp_path).stdout
    assert page.endswith("  running: 2 starting\n")
    told = json.loads(run_program("status", "t.journal.db", "--json", cwd=tmp_path).stdout)
    assert (told["counts"], told["failures"], told["nights"][0]["running"]) == ({"starting": 2}, [], True)
    story = json.loads(run_program("status", "t.journal.db", "--row", 2, "--json", cwd=tmp_path).stdout)
    for said in (story["outcome"], story["attempts"][0]):
        assert (said["status"], said["error"]) == ("starting", "")


@pytest.mark.long
def test_after_a_kill_a_start_without_an_answer_is_unknown(awaiting: subprocess.Popen[str], tmp_path: Path) -> None:
    """Although the lock's file lies there still; the story says so, too."""
    awaiting.kill()
    awaiting.wait()
    assert (tmp_path / "t.journal.db-lock").exists()
    page = run_program("status", "t.journal.db", cwd=tmp_path).stdout
    assert "  running, or killed: 2 unknown\n  2 × unknown: a start was sent" in page
    story = run_program("status", "t.journal.db", "--row", 2, cwd=tmp_path).stdout
    assert "batch 1 of list.csv (row 2 then): unknown, sent 1 time" in story
    assert "error: a start was sent and its answer was lost" in story
    url = next(line for line in page.splitlines() if "task t on " in line).partition(" on ")[2].partition(",")[0]
    assert (
        run_program("run", "list.csv", "--task", "t", "--service", url, cwd=tmp_path).returncode
        == ExitCode.SOME_UNKNOWN
    )
    assert "  killed: 2 unknown\n" in run_program("status", "t.journal.db", cwd=tmp_path).stdout


@pytest.mark.long
def test_who_asks_for_the_status_never_takes_the_lock(
    awaiting: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not for a moment, whether its batch lives or not: one that begins just then would be turned away."""
    taken: list[object] = []
    monkeypatch.setattr(FileLock, "acquire", taken.append)
    if sys.platform != "win32":
        monkeypatch.setattr("fcntl.flock", taken.append)
    path = tmp_path / "t.journal.db"
    assert read_status(path).nights[0].running
    awaiting.kill()
    awaiting.wait()
    assert not read_status(path).nights[0].running
    assert not taken


@pytest.mark.long
def test_every_sheet_of_a_living_night_is_running(tmp_path: Path) -> None:
    """Two sheets with one journal, both begun and neither ended: both are running, not "or killed"."""
    (tmp_path / "inbox").mkdir()
    for name, row in (("a", "1"), ("b", "2")):
        (tmp_path / "inbox" / f"{name}.csv").write_text(f"Row\n{row}\n")
    go, service = threading.Event(), Service()

    def wait(_: int) -> None:
        go.wait(PATIENCE)

    service.read = wait
    command = ("run", "inbox/*.csv", "--task", "t", "--journal", "list.journal.db")
    with on_a_socket(service):
        batch = start_program(*command, "--service", service.url, cwd=tmp_path)
        try:
            wait_until(lambda: len(_nights(tmp_path)) == 2 or batch.poll() is not None)
            nights = _nights(tmp_path)
            page = run_program("status", "list.journal.db", cwd=tmp_path).stdout
        finally:
            go.set()
            batch.kill()
            batch.communicate()
    assert [night["running"] for night in nights] == [True, True]
    assert "killed" not in page


def _nights(folder: Path) -> list[dict[str, object]]:
    done = run_program("status", "list.journal.db", "--json", cwd=folder)
    return list(json.loads(done.stdout)["nights"]) if done.returncode == 0 else []
