"""People and their services are told how a night went, by a real program to a real server; it never harms the night."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import pytest
from ping_server import PingServer, ping_server
from ports import kept_port
from program import PATIENCE, interrupt, run_process, run_program, start_program
from served import wait_until

from batch_runner.cli import run_arguments as run_here
from batch_runner.journal.batches import hold_journal
from batch_runner.report import notify as tellings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TASKS = """
async def go(params):
    if params["Note"] == "bad":
        raise ValueError(f"no good: {params['Secret']}")
    return params
"""
WAITING = """
import time
from pathlib import Path

def go(params):
    Path("begun").touch()
    while not Path("go").exists():
        time.sleep(0.01)
"""
RUN = ("run", "sheet.csv", "--task", "tasks.py:go", "--progress", "never")
CELL = "Erika Mustermann"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a sheet of three rows, of which one fails unless it is left out."""
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "sheet.csv").write_text(f"Note,Secret\na,{CELL}\nb,{CELL}\nbad,{CELL}\n")
    return tmp_path


@pytest.fixture
def server() -> Iterator[PingServer]:
    with ping_server() as server:
        yield server


def run(folder: Path, *options: object, **variables: str) -> subprocess.CompletedProcess[str]:
    return run_program(*RUN, *options, cwd=folder, **variables)


def test_a_night_that_succeeds(folder: Path, server: PingServer) -> None:
    """One ping at the start, one at the end, tied by the same `rid`; nothing is printed of it."""
    done = run(folder, "--rows", "2-3", "--heartbeat", f"{server.url}/ping/uuid")
    assert (done.returncode, done.stderr) == (0, "")
    assert server.paths == ["/ping/uuid/start", "/ping/uuid"]
    start, end = server.heard
    assert start.query["rid"] == end.query["rid"]
    assert re.fullmatch("[0-9a-f-]{36}", end.query["rid"])
    assert "2 success" in end.body
    assert "sheet.results.csv" in end.body


def test_a_night_that_fails(folder: Path, server: PingServer) -> None:
    """The end is a failure, with counts, row numbers and the next command, and nothing of what cells or errors hold."""
    done = run(folder, "--heartbeat", f"{server.url}/uuid/")
    assert done.returncode == 3
    assert server.paths == ["/uuid/start", "/uuid/fail"]
    body = server.heard[1].body
    assert "2 success, 1 failure" in body
    assert "1 × failure (row 4)" in body
    assert "the same command with --retry failure runs them again" in body
    assert CELL in done.stdout
    assert "Mustermann" not in body
    assert "no good" not in body


def test_the_url_from_the_environment_with_a_query(folder: Path, server: PingServer) -> None:
    """The signal goes at the path's end, before the query; the whole URL or a part may come from the environment."""
    rows = ("--rows", "2")
    run(folder, *rows, BATCH_RUNNER_HEARTBEAT=f"{server.url}/key/slug?create=1")
    run(folder, *rows, "--heartbeat", "${BASE}/key/${SLUG}?create=1", BASE=server.url, SLUG="slug")
    assert server.paths == ["/key/slug/start", "/key/slug"] * 2
    assert all(heard.query["create"] == "1" for heard in server.heard)
    assert len({heard.query["rid"] for heard in server.heard}) == 2


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (["--input-gone"], 2),
        (["--columns", "Nope"], 2),
        (["--limit", "many"], 2),
        (["--service", "anchor"], 2),
    ],
)
def test_a_night_that_could_not_begin(folder: Path, server: PingServer, change: list[str], code: int) -> None:
    """A sheet that is missing or wrong, or a job that is, is told as a failure, to the heartbeat and to people."""
    if change == ["--input-gone"]:
        (folder / "sheet.csv").unlink()
        change = []
    done = run(folder, *change, "--heartbeat", f"{server.url}/u", "--notify", f"json{server.url[4:]}/people")
    assert done.returncode == code, done.stderr
    assert sorted(server.paths) == ["/people", "/u/fail", "/u/start"]
    assert all("Nothing was sent" in heard.body for heard in server.heard if heard.path != "/u/start")


def test_a_command_that_can_not_be_read(folder: Path, server: PingServer) -> None:
    """A slip in the crontab is told to those whom the environment names."""
    done = run(folder, "--retyr", "failure", BATCH_RUNNER_HEARTBEAT=f"{server.url}/u")
    assert done.returncode == 2
    assert server.paths == ["/u/start", "/u/fail"]
    assert "--help" not in run_program("run", "--help", cwd=folder, BATCH_RUNNER_HEARTBEAT=server.url).stderr
    assert len(server.paths) == 2


def test_a_heartbeat_through_a_proxy(folder: Path, server: PingServer) -> None:
    """The proxy of the environment is taken, as for the service; a loopback address never goes through one."""
    options = ("--rows", "2", "--heartbeat")
    run(folder, *options, "http://hc.invalid/far", HTTP_PROXY=server.url, http_proxy=server.url)
    assert server.paths == ["/far/start", "/far"]
    with kept_port() as port:
        nowhere = f"http://127.0.0.1:{port}"
        run(folder, *options, f"{server.url}/near", HTTP_PROXY=nowhere, http_proxy=nowhere)
    assert server.paths[2:] == ["/near/start", "/near"]


def test_a_job_file_that_is_wrong(folder: Path, server: PingServer) -> None:
    """Its wishes are heard although another key of it is wrong; where it can't be read at all, those of flags are."""
    (folder / "job.toml").write_text(f'input = "sheet.csv"\nlimt = 5\nheartbeat = "{server.url}/file"')
    assert run_program("run", "job.toml", cwd=folder).returncode == 2
    (folder / "job.toml").write_text("input = ")
    assert run_program("run", "job.toml", "--heartbeat", f"{server.url}/flag", cwd=folder).returncode == 2
    assert server.paths == ["/file/start", "/file/fail", "/flag/start", "/flag/fail"]


def test_a_journal_that_is_busy(folder: Path, server: PingServer) -> None:
    """Two crons at once: the second one's end is a failure, too (6)."""
    with hold_journal(folder / "tasks.py-go.journal.db"):
        assert run(folder, "--heartbeat", f"{server.url}/u").returncode == 6
    assert server.paths == ["/u/start", "/u/fail"]
    assert "Another batch holds the journal" in server.heard[1].body


@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_night_that_is_interrupted(folder: Path, server: PingServer, number: signal.Signals, code: int) -> None:
    """It is no success: not all was done, and somebody should know."""
    (folder / "tasks.py").write_text(WAITING)
    process = start_program(*RUN, "--heartbeat", f"{server.url}/u", cwd=folder)
    wait_until((folder / "begun").exists)
    interrupt(process, number, folder / "go")
    process.communicate(timeout=PATIENCE)
    assert process.returncode == code
    assert server.paths == ["/u/start", "/u/fail"]


@pytest.mark.long
def test_a_bug_is_told(folder: Path, server: PingServer) -> None:
    """What nobody foresaw (1) ends in a failure like any other."""
    code = (
        "import sys; from batch_runner.cli import main; from batch_runner.runner import night\n"
        "def broken(*a, **k): raise RuntimeError('boom')\n"
        "night.open_job = broken\nmain(sys.argv[1:])"
    )
    command = [sys.executable, "-c", code, *RUN, "--heartbeat", f"{server.url}/u"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1, done.stderr
    assert server.paths == ["/u/start", "/u/fail"]


@pytest.mark.long
@pytest.mark.parametrize("status", [404, 500, 302])
def test_a_heartbeat_that_says_no(folder: Path, status: int) -> None:
    """The batch succeeds, the log says in one line for each ping what came, and the URL's secret part stands nowhere.

    A no for good and a redirect aren't asked again; nothing is ever sent where a redirect leads.
    """
    with ping_server(lambda _: status) as server:
        done = run(folder, "--rows", "2", "--heartbeat", f"{server.url}/secret-uuid")
    assert done.returncode == 0
    starts = server.paths.count("/secret-uuid/start")
    assert server.paths.count("/secret-uuid") == (3 if status == 500 else 1)
    assert 1 <= starts <= 3
    assert "/elsewhere" not in server.paths
    lines = done.stderr.splitlines()
    assert [f"the answer was {status}" in line for line in lines] == [True, True]
    assert "secret-uuid" not in done.stderr


@pytest.mark.long
def test_a_heartbeat_that_is_not_there(folder: Path) -> None:
    """Nobody listens there: the batch succeeds, and the log says so."""
    with kept_port() as port:
        done = run(folder, "--rows", "2", "--heartbeat", f"http://127.0.0.1:{port}/secret-uuid")
    assert done.returncode == 0
    assert "1 success" in done.stdout
    assert "the heartbeat could not be sent: ConnectError" in done.stderr
    assert "secret-uuid" not in done.stderr


def test_a_start_goes_out_before_a_slow_heartbeat_answers(folder: Path) -> None:
    """The start ping is on its way beside the batch: the rows have long ended when it is answered."""
    output = folder / "sheet.results.csv"
    seen: list[bool] = []

    def waits(path: str) -> int:
        for _ in range(500):
            if not path.endswith("/start") or output.exists():
                break
            time.sleep(0.02)
        seen.append(output.exists())
        return 200

    with ping_server(waits) as server:
        assert run(folder, "--rows", "2", "--heartbeat", f"{server.url}/u").returncode == 0
    assert server.paths == ["/u/start", "/u"]
    assert seen == [True, True]


@pytest.mark.long
def test_a_heartbeat_that_never_answers_is_left(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The end of the program waits for a bounded time only."""
    never = threading.Event()
    monkeypatch.setattr(tellings, "PATIENCE", 0.5)
    monkeypatch.chdir(folder)

    def waits(path: str) -> int:
        never.wait(30)
        return 200

    with ping_server(waits) as server:
        assert run_here([*RUN, "--rows", "2", "--heartbeat", f"{server.url}/u"]) == 0
        assert not never.is_set()
        assert server.paths == ["/u/start"]
        never.set()
        wait_until(
            lambda: server.paths == ["/u/start", "/u"]
        )  # else its thread would complain in the midst of other tests
    assert "not all were told of the end" in capsys.readouterr().err


def people(server: PingServer) -> list[dict[str, str]]:
    return [json.loads(heard.body) for heard in server.heard]


@pytest.mark.parametrize(
    ("when", "rows", "told"),
    [
        ("failure", "2-3", 0),
        ("failure", "2-4", 1),
        ("always", "2-3", 1),
        ("always", "2-4", 1),
        ("never", "2-4", 0),
    ],
)
def test_people_are_told_when_they_want_it(folder: Path, server: PingServer, when: str, rows: str, told: int) -> None:
    """On failure (any end but 0), always, or never."""
    done = run(folder, "--rows", rows, "--notify", f"json{server.url[4:]}/x", "--notify-when", when)
    assert done.returncode == (3 if "4" in rows else 0)
    assert done.stderr == ""
    assert len(server.heard) == told


def test_what_people_are_told(folder: Path, server: PingServer) -> None:
    """A title with input and counts; a body with row numbers, paths and what to do; no text of cells or errors."""
    run(folder, "--notify", "${HOOK},${HOOK}", HOOK=f"json{server.url[4:]}/x")
    first, second = people(server)
    assert first["title"] == "batch-runner: sheet.csv: 2 success, 1 failure (exit 3)"
    assert first["type"] == "failure"
    assert "1 × failure (row 4)" in first["message"]
    assert "output: sheet.results.csv" in first["message"]
    assert "--retry failure" in first["message"]
    assert "Mustermann" not in json.dumps([first, second])


def test_people_who_can_not_be_told(folder: Path) -> None:
    """A service that refuses, and one that isn't there: two lines of the log, without a secret, and the code stays."""
    with ping_server(lambda _: 500) as server, kept_port() as port:
        urls = {
            "A": f"json://user:hunter2@{server.url[7:]}/secret-path",
            "B": f"json://user:hunter2@127.0.0.1:{port}/secret-path",
        }
        done = run(folder, "--notify", "${A},${B}", **urls)
    assert done.returncode == 3
    assert [("people could not be told" in line, "url=json://…" in line) for line in done.stderr.splitlines()] == [
        (True, True)
    ] * 2
    assert "hunter2" not in done.stderr
    assert "secret-path" not in done.stderr


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--heartbeat", "https://me:hunter2@example.com/u", "--heartbeat: a password doesn't belong here"),
        ("--heartbeat", "ftp://example.com/hunter2", "--heartbeat: not a web address"),
        ("--heartbeat", "https://example.com/${NOT_THERE}", "heartbeat: the variable NOT_THERE is not in"),
        ("--notify", "mailto://me:hunter2@example.com", "--notify: a password doesn't belong here"),
        ("--notify", "mailto://example.com?user=me&pass=hunter2", "notify: mailto://…: it holds a secret"),
        ("--notify", "slack://Thunter2A/Ahunter2B/hunter2hunter2hunter2XYZ", "notify: slack://…: it holds a secret"),
        ("--notify", "nonsense://hunter2", "notify: nonsense://…: apprise doesn't understand"),
        ("--notify", '"https://hunter2', "--notify: can't be read, and isn't shown"),
    ],
)
@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")
def test_a_wish_that_can_not_be_fulfilled(
    folder: Path,
    option: str,
    value: str,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One sentence that says what to do, 2, before anything is sent; in `check`, too. The value is not repeated."""
    monkeypatch.chdir(folder)
    for command in ("run", "check"):
        assert run_here([command, *RUN[1:], option, value]) == 2
        said = capsys.readouterr()
        assert words in said.err
        assert len(said.err.splitlines()) == 1
        assert "hunter2" not in said.err + said.out
    assert not list(folder.glob("*.journal.db*"))


def test_the_heartbeat_hears_of_a_notice_that_can_not_be_sent(folder: Path, server: PingServer) -> None:
    """What is wrong with one wish is told to the other."""
    assert run(folder, "--heartbeat", f"{server.url}/u", "--notify", "nonsense://x").returncode == 2
    assert server.paths == ["/u/start", "/u/fail"]


def test_a_secret_in_the_environment_is_fine(folder: Path, server: PingServer) -> None:
    """There a URL may hold all its secrets."""
    url = f"json://me:hunter2@{server.url[7:]}/x"
    assert run(folder, "--notify-when", "always", BATCH_RUNNER_NOTIFY=url).returncode == 3
    assert server.paths == ["/x"]


def test_without_the_library(folder: Path) -> None:
    """Where apprise isn't installed one sentence says how to get it, before anything is sent."""
    (folder / "apprise.py").write_text("raise ModuleNotFoundError('apprise')")
    words = ("--notify", "json://127.0.0.1/a,json://127.0.0.1/b")
    done = run_process(*RUN, *words, cwd=folder, PYTHONPATH=os.pathsep.join([str(folder), *sys.path]))
    assert done.returncode == 2
    assert done.stderr == "batch-runner: notify: that needs the apprise library: pip install apprise\n"
