"""A standard error that nobody reads stops neither a run nor a signal; what is dropped is counted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from program import COMMAND, PATIENCE, environment
from served import wait_until

from batch_runner.progress import MOST_PENDING, Listener

if TYPE_CHECKING:
    from pathlib import Path

if sys.platform == "win32":
    pytest.skip("signals are POSIX", allow_module_level=True)

TASK = """
import pathlib, sys
import anyio

async def talk(params):
    for number in range(3000):
        print("x" * 200)
    return {}

def talk_there(params):
    return print("\\n".join(["y" * 200] * 3000))

async def wait(params):
    for number in range(3000):
        print("x" * 200)
    pathlib.Path("begun").touch()
    await anyio.sleep(600)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "in.csv").write_text("Row\n1\n2\n")
    return tmp_path


def start(folder: Path, task: str, err: int) -> subprocess.Popen[bytes]:
    command = [*COMMAND, "run", "in.csv", "--task", f"task.py:{task}", "--progress", "always", "--workers", "1"]
    return subprocess.Popen(command, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=err)


@pytest.mark.long
@pytest.mark.parametrize("task", ["talk", "talk_there"])
def test_a_run_goes_on(folder: Path, task: str) -> None:
    """More is said than any pipe holds: the batch ends with its summary and its code all the same."""
    reader, writer = os.pipe()
    process = start(folder, task, writer)
    os.close(writer)
    try:
        out, _ = process.communicate(timeout=PATIENCE)
    finally:
        os.close(reader)
    assert process.returncode == 0
    assert b"2 success" in out


@pytest.mark.long
def test_a_signal_is_obeyed(folder: Path) -> None:
    """Output and summary, though the sentence that it stops reaches nobody."""
    reader, writer = os.pipe()
    process = start(folder, "wait", writer)
    os.close(writer)
    try:
        wait_until((folder / "begun").exists)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
    finally:
        os.close(reader)
    assert process.returncode == 143
    assert (folder / "in.results.csv").exists()


def fill(writer: int) -> None:
    """Leave no room in a pipe."""
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, bytes(4096))
    os.set_blocking(writer, True)


@pytest.mark.long
def test_an_error_ends_with_its_code(folder: Path) -> None:
    """A full pipe that was full before: exit 2 within seconds."""
    reader, writer = os.pipe()
    fill(writer)
    process = start(folder, "no_such_task", writer)
    os.close(writer)
    try:
        process.communicate(timeout=PATIENCE)
    finally:
        os.close(reader)
    assert process.returncode == 2


def test_what_is_dropped_is_counted() -> None:
    """Whoever reads again hears how many lines are missing, and all that comes after them."""
    reader, writer = os.pipe()
    line = "z" * 999
    with os.fdopen(writer, "w") as stream, os.fdopen(reader) as reading:
        listener = Listener(stream)
        for _ in range(MOST_PENDING + 500):
            listener.write(f"{line}\n")
        found: list[str] = []
        thread = threading.Thread(target=lambda: found.extend(iter(reading.readline, "end\n")), daemon=True)
        thread.start()
        wait_until(lambda: len(found) >= MOST_PENDING)
        listener.write("after\n")
        listener.write("end\n")
        thread.join(PATIENCE)
    assert not thread.is_alive()
    assert found[-1] == "after\n"
    whole = found.count(f"{line}\n")
    told = [text for text in found[:-1] if text != f"{line}\n"]  # more than one where the pipe takes some in between
    assert all(text.endswith("lines before this one were dropped: nobody read them\n") for text in told)
    assert whole < MOST_PENDING + 500
    assert whole + sum(int(text.split()[1]) for text in told) == MOST_PENDING + 500
