"""Signals at the edges of a command: while it is imported, when all is told, and where a task holds up the end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from ports import full_listener
from program import COMMAND, PATIENCE, environment, run_process, start_program
from served import wait_until

if TYPE_CHECKING:
    from pathlib import Path

if sys.platform == "win32":
    pytest.skip("signals are POSIX", allow_module_level=True)

TASKS = """
import asyncio, atexit, pathlib, threading, time
import anyio

HERE = pathlib.Path(__file__).parent

def wait():
    (HERE / "there").touch()
    while not (HERE / "on").exists():
        time.sleep(0.02)

async def quick(params):
    return {}

async def at_exit(params):
    atexit.register(wait)

async def in_thread(params):
    await anyio.to_thread.run_sync(wait)

async def in_executor(params):
    await asyncio.to_thread(wait)

async def swallows(params):
    (HERE / "there").touch()
    while not (HERE / "on").exists():
        try:
            await anyio.sleep(0.02)
        except BaseException:
            pass

async def leaves_a_thread(params):
    threading.Thread(target=wait).start()
    await anyio.sleep(600)

async def done_but_for_a_thread(params):
    asyncio.get_running_loop().run_in_executor(None, wait)
    return {}
"""
CODES = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "task.py").write_text(TASKS)
    (tmp_path / "in.csv").write_text("Row\n1\n")
    return tmp_path


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, out, err


@pytest.mark.long
@pytest.mark.parametrize(
    ("number", "code", "task"),
    [
        (signal.SIGINT, 130, "in_thread"),
        *((signal.SIGTERM, 143, task) for task in ("in_thread", "in_executor", "swallows", "leaves_a_thread")),
    ],
)
def test_what_cant_be_stopped_is_left(folder: Path, number: int, code: int, task: str) -> None:
    """What goes on for ever keeps neither the summary back nor the end; the next batch knows of it."""
    command = ("run", "in.csv", "--task", f"task.py:{task}", "--json")
    process = start_program(*command, cwd=folder)
    wait_until((folder / "there").exists)
    process.send_signal(number)
    returncode, out, err = ended(process)
    assert (returncode, json.loads(out)["exit_code"]) == (code, code), err
    assert json.loads(out)["counts"] in ({"running": 1}, {"queued": 1})
    assert "Traceback" not in err
    (folder / "on").touch()
    again = json.loads(run_process(*command, cwd=folder).stdout)
    assert again["counts"] == {"unknown": 1}


@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), CODES)
def test_a_thread_of_a_batch_that_is_complete(folder: Path, number: int, code: int) -> None:
    """A signal ends the wait for it, too; the batch keeps its summary and its code."""
    process = start_program("run", "in.csv", "--task", "task.py:done_but_for_a_thread", "--json", cwd=folder)
    wait_until((folder / "there").exists)
    wait_until((folder / "in.results.csv").exists)
    process.send_signal(number)
    returncode, out, err = ended(process)
    assert returncode == json.loads(out)["exit_code"]
    assert returncode in (0, code), err
    assert json.loads(out)["counts"] == {"success": 1}


@pytest.mark.long
@pytest.mark.parametrize(("number", "code"), CODES)
def test_a_start_that_waits_for_a_connection(folder: Path, number: int, code: int) -> None:
    """It has not left, so no run exists: nobody has to look for one, and the next batch starts it."""
    with full_listener() as url:
        words = (
            "run",
            "in.csv",
            "--task",
            "t",
            "--service",
            url,
            "--json",
            "--log-file",
            "log",
            "--log-level",
            "debug",
        )
        process = start_program(*words, cwd=folder)
        wait_until(lambda: (folder / "log").exists() and "start intended" in (folder / "log").read_text())
        process.send_signal(number)
        returncode, out, err = ended(process)
    assert (returncode, json.loads(out)["counts"]) == (code, {"not_started": 1})
    assert "warning" not in err
    check = run_process("check", "in.csv", "--task", "t", "--service", url, "--json", cwd=folder)
    assert json.loads(check.stdout)["plan"]["start"] == 1


SERVED = ("serve", "--port", "0", "--tasks", "task.py", "--grace", "0")


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_cant_be_stopped_ends_with_the_service(folder: Path, number: int) -> None:
    """`serve` ends although the thread of a run goes on."""
    with start_program(*SERVED, cwd=folder) as service:
        try:
            assert service.stderr is not None
            url = service.stderr.readline().partition(" on ")[2].partition(";")[0]
            client = start_program("run", "in.csv", "--task", "in_thread", "--service", url, cwd=folder)
            wait_until((folder / "there").exists)
            client.kill()
            client.communicate()
            service.send_signal(number)
            assert service.wait(PATIENCE) == 0
        finally:
            service.kill()


FINDER = """
import importlib.abc, pathlib, sys, time

class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == {name!r} and not pathlib.Path("there").exists():
            pathlib.Path("there").touch()
            while not pathlib.Path("on").exists():
                time.sleep(0.01)

sys.meta_path.insert(0, Finder())
from batch_runner.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("name", ["click", "batch_runner.cli.run", "batch_runner.cli.status"])
@pytest.mark.parametrize("is_read", [True, False])
def test_ctrl_c_while_a_command_is_imported(folder: Path, name: str, is_read: bool) -> None:
    """It ends with its code and without a word, whether anybody reads what it says or not."""
    command = "status" if name.endswith("status") else "run"
    words = [sys.executable, "-c", FINDER.format(name=name), command, "in.csv", "--task", "task.py:quick"]
    exit_, entrance = os.pipe()
    process = subprocess.Popen(
        words[: 5 if command == "status" else None], cwd=folder, env=environment(), stderr=entrance
    )
    os.close(entrance)
    with os.fdopen(exit_, "rb") as said:
        wait_until((folder / "there").exists)
        if not is_read:
            said.close()
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        assert not is_read or said.read() == b""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_when_all_is_told(folder: Path, number: int) -> None:
    """While the interpreter waits for what a task has left, the code stays that of the batch."""
    process = start_program("run", "in.csv", "--task", "task.py:at_exit", "--json", cwd=folder)
    wait_until((folder / "there").exists)
    process.send_signal(number)
    returncode, out, err = ended(process)
    assert (returncode, json.loads(out)["exit_code"], err) == (0, 0, "")


LAST = """
import atexit, pathlib, sys, time

def wait():
    pathlib.Path("there").touch()
    while not pathlib.Path("on").exists():
        time.sleep(0.01)

atexit.register(wait)
from batch_runner.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_at_the_very_end(folder: Path, number: int) -> None:
    """While the interpreter takes itself down, a signal changes nothing."""
    command = [sys.executable, "-c", LAST, *COMMAND[3:], "run", "in.csv", "--task", "task.py:quick"]
    process = subprocess.Popen(command, cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True)
    wait_until((folder / "there").exists)
    process.send_signal(number)
    (folder / "on").touch()
    assert (ended(process)[0], process.returncode) == (0, 0)
