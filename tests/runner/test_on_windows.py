"""Nights of the program on Windows; on Linux with its Windows branches, as far as that goes (support/as_windows.py)."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path

import as_windows
import pytest
from paged import Paged, hidden_fields, plain
from program import PATIENCE, environment, run_program
from systems import needs_linux

from batch_runner.fs import OWN_GROUP

pytestmark = [
    pytest.mark.skipif(sys.platform == "darwin", reason="support/as_windows.py looks into /proc"),
    pytest.mark.long,
]

ROOT = Path(__file__).parents[2]
TASKS = """
import time
async def pay(params):
    return {"row": params["Row"]}
async def talk(params):
    return params["Row"] + "x" * 40_000
async def wait(params):
    import asyncio
    await asyncio.sleep(0 if params["Row"] == "1" else 8)
    return params["Row"] + "x" * 40_000
def slow(params):
    print("hé")
    time.sleep(float(params["Row"]) - 1)
    return {"row": params["Row"]}
"""
if sys.platform == "win32":
    CTRL_BREAK = signal.CTRL_BREAK_EVENT
else:
    CTRL_BREAK = signal.SIGUSR2  # what stands for it in `as_windows`


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tasks.py").write_text(TASKS, "utf-8")
    (tmp_path / "in.csv").write_text("Row\n1\n60\n")
    return tmp_path


def begun(folder: Path, *words: str, command: tuple[str, ...] = (as_windows.__file__,)) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *command, *words],
        cwd=folder,
        env=environment(PYTHONPATH=str(Path(as_windows.__file__).parent)),
        encoding="utf-8",
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **OWN_GROUP,
    )


def ended(folder: Path, *words: str) -> tuple[int, str, str]:
    process = begun(folder, *words)
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


@pytest.mark.parametrize("output", ["out.csv", "out.jsonl"])
def test_a_second_night_on_windows(folder: Path, output: str) -> None:
    """No name that only POSIX has is asked for, and no file is renamed, replaced or removed that this process has open.

    (The lock's own file is removed by filelock there, once it is closed.)
    """
    words = ("in.csv", "--task", "tasks.py:pay", "--output", output, "--report", "r.html", "--log-file", "a.log")
    first = run_program("run", *words, cwd=folder)
    assert first.returncode == 0, first.stderr
    code, out, err = ended(folder, "run", *words, "--retry", "all", "--retry-wait", "0")
    assert (code, err.count("\n")) == (0, 1), err
    assert "in.csv: 2 to start again" in err
    assert "2 success" in out
    left = {path.name for path in folder.iterdir() if not path.name.endswith("-lock")} - {"__pycache__"}
    assert left == {"in.csv", "tasks.py", "tasks.py-pay.journal.db", output, "r.html", "a.log"}


def test_what_is_kept_of_long_texts_is_replaced(folder: Path) -> None:
    """The next night reads the file for the rows that it leaves out, and puts its own in its place."""
    words = ("--task", "tasks.py:talk", "--output", "out.xlsx")
    first = run_program("run", "in.csv", *words, cwd=folder)
    assert first.returncode == 0, first.stderr
    before = (folder / "out.long.jsonl").read_bytes()
    code, out, err = ended(folder, "run", "out.xlsx", *words, "--limit", "1", "--retry", "all", "--retry-wait", "0")
    assert (code, "out.long.jsonl has the whole" in out) == (0, True), out + err
    assert (folder / "out.long.jsonl").read_bytes() == before
    assert {path.name for path in folder.glob("out*")} == {"out.xlsx", "out.long.jsonl"}


def test_an_output_that_is_open_elsewhere(folder: Path) -> None:
    """It and what is kept of its long texts get neighbours, which are named; what is open stays as it is."""
    words = ("run", "in.csv", "--task", "tasks.py:talk", "--output", "out.xlsx")
    run_program(*words, cwd=folder)
    held = [folder / "out.xlsx", folder / "out.long.jsonl"]
    before = [path.read_bytes() for path in held]
    with held[0].open("rb"), held[1].open("rb"):
        code, out, err = ended(folder, *words, "--retry", "all", "--retry-wait", "0")
    assert (code, "see out-2.xlsx" in out, "out.long-2.jsonl has the whole" in out) == (0, True, True), out + err
    assert [path.read_bytes() for path in held] == before


@pytest.mark.parametrize(("name", "neighbour"), [("out.xlsx", "out-2.xlsx"), ("out.long.jsonl", "out.long-2.jsonl")])
def test_a_refresh_of_what_is_open_elsewhere_leaves_it_to_the_end(folder: Path, name: str, neighbour: str) -> None:
    """It is tried again each minute: no neighbour is made then, and no line."""
    (folder / "in.csv").write_text("Row\n1\n")
    words = ("run", "in.csv", "--task", "tasks.py:wait", "--output", "out.xlsx", "--log-file", "a.log")
    run_program(*words, cwd=folder)
    (folder / "in.csv").write_text("Row\n1\n60\n")
    quick = "from batch_runner.runner import adjust; adjust.REFRESH_EVERY = adjust.SECONDS_A_ROW = 0.1"
    start = f"import as_windows, sys; as_windows.become_windows(); {quick}; from batch_runner.cli import main; main()"
    with (folder / name).open("rb"):
        process = begun(folder, *words, command=("-c", start))
        _, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
    assert "not refreshed" not in (folder / "a.log").read_text("utf-8")
    assert {path.name for path in folder.glob("out*")} == {"out.xlsx", "out.long.jsonl", neighbour}


def test_ctrl_break_ends_a_batch(folder: Path) -> None:
    """As SIGTERM: 143, the output is written, the row in flight goes on at the next start, its worker is gone."""
    process = begun(folder, "run", "in.csv", "--task", "tasks.py:slow", "--log-file", "a.log")
    try:
        await_word(folder / "a.log", "row ended")
        status = ended(folder, "status", "tasks.py-slow.journal.db", "--json")
        assert '"running": true' in status[1].replace('":true', '": true'), status
        process.send_signal(CTRL_BREAK)
        _, err = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == 143, err
    with (folder / "in.results.csv").open(newline="") as file:
        assert next(csv.DictReader(file))["status"] == "success"


def test_serve_ends_at_ctrl_break(folder: Path) -> None:
    """Its event loop there takes no signals itself."""
    process = begun(folder, "serve", "--port", "0")
    try:
        assert process.stderr is not None
        while "serving the Tasks API" not in (line := process.stderr.readline()):
            assert line
        process.send_signal(CTRL_BREAK)
        process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
    finally:
        process.kill()


def test_the_page_stops_its_own_batches(folder: Path) -> None:
    """By Ctrl-Break for their group. Another's batch it leaves alone: to its process that signal would be the end.

    What would run the batch every night are the Task Scheduler's lines.
    """
    (folder / "two.csv").write_text("Row\n61\n")
    other = begun(folder, "run", "in.csv", "--task", "tasks.py:slow", "--log-file", "a.log", "--output", "b.csv")
    await_word(folder / "a.log", "row ended")
    process = begun(folder, "open", ".", "--no-browser")
    with process, other:
        try:
            assert process.stdout is not None
            page = Paged(process, process.stdout.readline().strip())
            with page.http:
                page.enter()
                text = page.show("/batch", journal="tasks.py-slow.journal.db", id="1")
                refused = page.send("/stop", **hidden_fields(text, "/stop"))
                assert "press Ctrl-C in the window that it runs in" in plain(refused.text)
                assert "kill -INT" not in text
                assert other.poll() is None
                other.send_signal(CTRL_BREAK)
                assert other.wait(PATIENCE) == 143
                text = page.send("/run", file="two.csv", task="tasks.py:slow").text
                fields = hidden_fields(text, "/stop")
                stopping = page.send("/stop", **fields)
                assert stopping.status_code == 200
                assert "told to end; the same command goes on" in plain(page.finish(stopping))
                every_night = page.show("/save", journal=fields["journal"], id=fields["id"])
                assert "Register-ScheduledTask" in every_night
                assert "crontab" not in every_night
        finally:
            process.kill()
            other.kill()


def await_word(path: Path, word: str) -> None:
    until = time.monotonic() + PATIENCE
    while not path.exists() or word not in path.read_text("utf-8"):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_the_tests_can_be_collected() -> None:
    """No file of tests asks for what only POSIX has while it is loaded."""
    lines = (
        "import as_windows, pytest; as_windows.become_windows()\n"
        "raise SystemExit(pytest.main(['--collect-only', '-qq', '-p', 'no:xdist']))"
    )
    variables = environment(PYTHONPATH=str(Path(as_windows.__file__).parent))
    done = subprocess.run(
        [sys.executable, "-c", lines], cwd=ROOT, env=variables, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout


@needs_linux
def test_the_rules_hold(folder: Path) -> None:
    """What these tests stand on: a POSIX name isn't there, an open file can't be renamed."""
    lines = (
        "import as_windows, os; as_windows.become_windows(); from batch_runner import fs\n"
        "assert (fs.sys.platform, hasattr(fs.os, 'O_NOFOLLOW'), hasattr(os, 'O_NOFOLLOW')) == ('win32', False, True)\n"
        "file = open('in.csv')\n"
        "try: os.replace('in.csv', 'b')\n"
        "except PermissionError: print('held')\n"
    )
    variables = environment(PYTHONPATH=str(Path(as_windows.__file__).parent))
    done = subprocess.run(
        [sys.executable, "-c", lines], cwd=folder, env=variables, text=True, capture_output=True, check=False
    )
    assert (done.stdout, done.stderr) == ("held\n", "")
