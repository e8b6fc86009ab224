"""Runs that ended without having begun: nothing of them was done, so their rows are sent once more, and only theirs."""

from __future__ import annotations

import csv
import json
import signal
from typing import TYPE_CHECKING, Any

import pytest
from nights import Fault, again, night, numbered, say, whole
from ports import kept_port
from program import PATIENCE, interrupt, run_program, start_program
from served import served, wait_until

from batch_runner.batch.worker import MOST_RESENDS
from batch_runner.journal.view import JournalView
from batch_runner.service.local.context import Context
from batch_runner.service.local.dask.bundle import BundledCall, PendingCall
from batch_runner.service.local.tasks import Call, TaskSource
from batch_runner.service.protocol import MEMORY_HEADER

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.types import ASGIApp, Receive, Scope, Send

TASK = """
import time
from pathlib import Path

def pay(params):
    here = Path(__file__).parent
    with (here / "paid.txt").open("a") as paid:
        paid.write(params["Row"] + "\\n")
    while not (here / "go").exists():
        time.sleep(0.01)
    return params["Row"]
"""
ROWS = ["1", "2", "3", "4", "5", "6"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "in.csv").write_text("Row\n" + "\n".join(ROWS) + "\n")
    return tmp_path


def paid(folder: Path) -> list[str]:
    path = folder / "paid.txt"
    return sorted(path.read_text().split()) if path.exists() else []


def records(folder: Path) -> list[dict[str, str]]:
    with (folder / "in.results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_what_an_interrupt_finds_waiting_is_not_started(folder: Path, number: signal.Signals, code: int) -> None:
    """Four rows have runs, of which one has begun: the others don't begin then, and aren't `unknown` later."""
    command = ("run", "in.csv", "--task", "task.py:pay", "--workers", 1, "--concurrency", 4, "--progress", "always")
    process = start_program(*command, cwd=folder)
    wait_until(lambda: paid(folder))
    interrupt(process, number, folder / "go")
    process.communicate(timeout=PATIENCE)
    assert process.returncode == code
    assert [row["status"] for row in records(folder)] == ["success", *["not_started"] * 5]
    assert [row["run_id"] != "" for row in records(folder)] == [True, *[False] * 5]
    done = run_program(*command, "--json", cwd=folder)
    assert (done.returncode, json.loads(done.stdout)["counts"]) == (0, {"success": 6})
    assert paid(folder) == ROWS


@pytest.mark.long
def test_a_service_that_is_restarted_in_mid_batch(folder: Path) -> None:
    """Told to end while one run goes on and others wait: when it is back the batch goes on; each row is run once."""
    tasks = ("--tasks", str(folder / "task.py"), "--workers", "1", "--grace", "60")
    with kept_port() as port:
        with served(folder, *tasks, port=port) as service:
            url, options = service.url, ("--poll-rate", "1000/s", "--json")
            process = start_program("run", "in.csv", "--task", "pay", "--service", url, *options, cwd=folder)
            wait_until(lambda: paid(folder))
            wait_until(lambda: service.http.get("/healthz").json()["queued"] == 4)
            service.process.send_signal(signal.SIGTERM)
            assert service.process.stderr is not None
            assert any("stopping" in line for line in service.process.stderr)
            (folder / "go").touch()
            service.process.communicate(timeout=PATIENCE)
        with served(folder, *tasks, port=port):
            out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, json.loads(out)["counts"]) == (0, {"success": 6}), err
    assert paid(folder) == ROWS


@pytest.mark.long
def test_a_restart_says_what_had_not_begun(folder: Path) -> None:
    """Killed, and served again: the run that went on may have been done in part, the one that waited was not."""
    tasks = ("--tasks", str(folder / "task.py"), "--workers", "1")
    with served(folder, *tasks) as service:
        runs = [service.start("pay", {"Row": row})[1]["run_id"] for row in "12"]
        wait_until(lambda: paid(folder))
    with served(folder, *tasks) as service:
        begun, unbegun = map(service.status, runs)
    assert (begun["status"], begun.get("never_began")) == ("failure", None)
    assert (unbegun["status"], unbegun.get("never_began")) == ("failure", True)


@pytest.mark.long
@pytest.mark.parametrize(("now", "counts"), [("1", {"success": 1}), ("edited", {"failure": 1})])
def test_both_were_killed(folder: Path, now: str, counts: dict[str, int]) -> None:
    """Batch and service die together: the next night sends a row whose run had not begun, if it is still the same."""
    with kept_port() as port:
        options = ("--key", "Row", "--service", f"http://127.0.0.1:{port}", "--poll-rate", "1000/s", "--json")
        tasks = ("--tasks", str(folder / "task.py"), "--workers", "1")
        (folder / "in.csv").write_text("Row,Note\n1,1\n")
        with served(folder, *tasks, port=port) as service:
            service.start("pay", {"Row": "0"})
            wait_until(lambda: paid(folder))
            process = start_program("run", "in.csv", "--task", "pay", *options, cwd=folder)
            wait_until(lambda: service.http.get("/healthz").json()["queued"])
            wait_until(lambda: is_followed(folder))
            process.kill()
            process.communicate(timeout=PATIENCE)
        (folder / "go").touch()
        (folder / "in.csv").write_text(f"Row,Note\n1,{now}\n")
        with served(folder, *tasks, port=port):
            done = run_program("run", "in.csv", "--task", "pay", *options, cwd=folder)
    assert json.loads(done.stdout)["counts"] == counts, done.stderr
    assert paid(folder) == ["0", "1"][: 1 + (now == "1")]


def is_followed(folder: Path) -> bool:
    """Whether the journal has the id of the row's run."""
    with JournalView.open(folder / "pay.journal.db") as view:
        return any(placed.run_id for placed in view.outcomes(1))


def never_begins(
    row: str, times: int, *, status: str = "cancelled", is_ours: bool = True
) -> Callable[[ASGIApp], ASGIApp]:
    """A service of which the runs for this row end without having begun, the first so many."""
    started: list[str] = []

    def within(app: ASGIApp) -> ASGIApp:
        async def answer(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["method"] == "POST":
                body = await whole(receive)
                if json.loads(body)["input_params"]["Row"] == row and len(started) < times:
                    started.append(f"unbegun_{len(started)}")
                    await say_run(send, is_ours=is_ours, run_id=started[-1], status="queued")
                else:
                    await app(scope, again(body), send)
            elif (run_id := scope["path"].split("/")[-2]) in started:
                await say_run(send, is_ours=is_ours, run_id=run_id, status=status, error="stopped", never_began=True)
            else:
                await app(scope, receive, send)

        return answer

    return within


async def say_run(send: Send, *, is_ours: bool, **fields: Any) -> None:
    headers = ((MEMORY_HEADER, "M;seconds=60"),) if is_ours else ()
    await say(Fault(200, headers, json.dumps(fields).encode()), send)


def test_a_row_whose_run_never_began_is_sent_again(tmp_path: Path) -> None:
    """Twice it never began, the third time it did: one success, with the id of that run."""
    found = night(tmp_path, numbered(3), within=never_begins("2", 2))
    assert found.statuses == ["success"] * 3
    assert not found.records[1]["run_id"].startswith("unbegun")
    assert found.front.starts()["2"] == 3


def test_a_service_that_begins_nothing_is_not_asked_for_ever(tmp_path: Path) -> None:
    """After as many tries as for lost answers the row is what the service says."""
    found = night(tmp_path, numbered(3), within=never_begins("2", 1_000))
    assert found.statuses == ["success", "cancelled", "success"]
    assert found.records[1]["error"] == "stopped"
    assert found.front.starts()["2"] == MOST_RESENDS + 1


def test_only_our_own_service_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The API knows no such word: what Anchor's cloud says has ended so, has ended so."""
    monkeypatch.setenv("ANCHORBROWSER_API_KEY", "none-is-wanted")
    found = night(tmp_path, numbered(3), within=never_begins("2", 1), service="anchor")
    assert found.statuses == ["success", "cancelled", "success"]
    assert found.front.starts()["2"] == 1


@pytest.mark.parametrize(("status", "is_ours"), [("cancelled", False), ("success", True)])
def test_who_is_not_ours_or_contradicts_himself_is_not_believed(tmp_path: Path, status: str, is_ours: bool) -> None:
    """A service that names no memory, and a run that is said to have succeeded: sent once."""
    found = night(tmp_path, numbered(3), within=never_begins("2", 9, status=status, is_ours=is_ours))
    assert found.statuses == ["success", status, "success"]
    assert found.front.starts()["2"] == 1


@pytest.mark.parametrize(("is_sent", "never_began"), [(False, True), (True, False)])
def test_a_cluster_that_is_given_up(is_sent: bool, never_began: bool) -> None:
    """What Dask had may have begun there; what waited here did not."""
    way = PendingCall(BundledCall(Call(TaskSource("own", "pay"), {}, Context("run_1", "s", "."), 1.0), None))
    way.key = "pay-1" if is_sent else None
    way.give_up("no workers for 960 s")
    assert (way.told.status, way.told.never_began) == ("failure", never_began)


def test_what_may_have_run_before_is_not_called_unbegun() -> None:
    """Sent, lost and taken back before it was sent again: nobody knows how far it came the first time."""
    way = PendingCall(
        BundledCall(Call(TaskSource("own", "pay"), {}, Context("run_1", "s", "."), 1.0, repeatable=True), None)
    )
    way.key = "pay-1"
    way.lose("its worker was lost")
    way.key = None
    way.give_up("no workers for 960 s")
    assert not way.told.never_began
