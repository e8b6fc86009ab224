"""What may have run is `unknown`, not `failure`: whoever says `--retry failure` doesn't have it done twice."""

from __future__ import annotations

import csv
import sys
from typing import TYPE_CHECKING

import pytest
from ports import kept_port
from program import PATIENCE, run_program, start_program
from served import served, wait_until

if TYPE_CHECKING:
    from pathlib import Path

if sys.platform == "win32":
    pytest.skip("signals are POSIX", allow_module_level=True)

TASKS = """
import os, signal, time
from pathlib import Path
from batch_runner import task

def _pay(how):
    with (Path(__file__).parent / "paid.txt").open("a") as paid:
        paid.write("x")
    if how == "exit":
        os._exit(0)
    if how == "oom":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "wait":
        time.sleep(600)
    return float("nan") if how == "nan" else how

def pay(params):
    return _pay(params["How"])

@task(repeatable=True)
def look_up(how: str):
    return _pay(how)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "task.py").write_text(TASKS)
    return tmp_path


def night(folder: Path, task: str, *options: object) -> tuple[int, list[tuple[str, str]]]:
    """One night that retries failures; its exit code, and status and error of each row."""
    command = ("run", "in.csv", "--task", task, "--retry", "failure", "--retry-wait", "0", *options)
    done = run_program(*command, cwd=folder)
    with (folder / "in.results.csv").open(newline="") as file:
        return done.returncode, [(row["status"], row["error"]) for row in csv.DictReader(file)]


def paid(folder: Path) -> int:
    path = folder / "paid.txt"
    return len(path.read_text()) if path.exists() else 0


@pytest.mark.parametrize(("how", "said"), [("exit", "with code 0"), ("oom", "killed by signal 9")])
def test_a_run_whose_worker_process_ended_is_unknown_and_not_done_again(folder: Path, how: str, said: str) -> None:
    """It had begun, and nobody knows how far it came; a person is told to look (4)."""
    (folder / "in.csv").write_text(f"How\nwell\n{how}\n")
    for _ in range(2):
        code, rows = night(folder, "task.py:pay", "--workers", 1)
        assert (code, [status for status, _ in rows]) == (4, ["success", "unknown"])
        assert said in rows[1][1]
    assert paid(folder) == 2


def test_a_person_is_sent_to_where_the_work_would_show_not_to_a_service(folder: Path) -> None:
    """No service but this machine knows the run; and it did begin, so it is no row that never started."""
    (folder / "in.csv").write_text("How\noom\n")
    options = ("--task", "task.py:pay", "--workers", "1", "--report", "r.html")
    done = run_program("run", "in.csv", *options, cwd=folder)
    assert "unknown: its run was cut off, and may have done its work: look before you say" in done.stdout
    page = (folder / "r.html").read_text("utf-8")
    assert "Of an unknown row, its run was cut off, and may have done its work. Look where that would show" in page
    assert "--as success|failure --note" in page
    assert "the service" not in done.stdout + page


@pytest.mark.long
def test_where_it_may_be_repeated_it_has_failed(folder: Path) -> None:
    """The task says that it does no harm."""
    (folder / "in.csv").write_text("How\noom\n")
    for count in (1, 2):
        code, rows = night(folder, "task.py:look_up")
        assert (code, rows[0][0], paid(folder)) == (3, "failure", count)


def test_work_whose_result_can_not_be_told_is_done(folder: Path) -> None:
    """It is a success with a note, so it is not done again."""
    (folder / "in.csv").write_text("How\nnan\n")
    for _ in range(2):
        code, rows = night(folder, "task.py:pay")
        assert (code, rows[0][0], paid(folder)) == (0, "success", 1)
        assert "stands here as text" in rows[0][1]


@pytest.mark.long
def test_a_run_that_was_at_work_when_serve_was_killed_is_unknown(folder: Path) -> None:
    """The one that had begun; the batch, which went on meanwhile, hears it from the service that is back."""
    (folder / "in.csv").write_text("How\nwait\n")
    tasks = ("--tasks", str(folder / "task.py"), "--workers", "1")
    with kept_port() as port:
        options = ("--service", f"http://127.0.0.1:{port}", "--poll-rate", "1000/s")
        with served(folder, *tasks, port=port) as service:
            process = start_program("run", "in.csv", "--task", "pay", *options, cwd=folder)
            wait_until(lambda: paid(folder))
            wait_until(lambda: service.http.get("/healthz").json()["running"] == 1)
            service.process.kill()
            service.process.wait()
        with served(folder, *tasks, port=port):
            process.communicate(timeout=PATIENCE)
            assert process.returncode == 4
            code, rows = night(folder, "pay", *options)
    assert (code, rows[0][0], paid(folder)) == (4, "unknown", 1)
    assert "not known" in rows[0][1]
