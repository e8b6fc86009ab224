"""What tasks print: whole lines of it on stderr, from wherever they run; kept back by --quiet, objects among JSON."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from program import PATIENCE, environment, run_program
from systems import KILL

from batch_runner.service.local import context

if TYPE_CHECKING:
    from pathlib import Path

TASKS = """
import os, subprocess, sys, time, warnings

print("while it is loaded")

def speak(params):
    print("on stdout")
    print("on stderr", file=sys.stderr)
    warnings.warn("be careful")
    os.system("echo by a child")
    print("a half", end="")
    if params["No"] == "bad":
        raise ValueError("no")

async def speak_async(params):
    print("on stdout")
    print("on stderr", file=sys.stderr)
    warnings.warn("be careful")
    sys.stdout.buffer.write(b"as bytes\\n")
    os.system("echo by a child")
    os.write(1, b"by a library\\n")
    print("a half", end="")
    if params["No"] == "bad":
        raise ValueError("no")

def hang(params):
    print("before it hangs")
    time.sleep(60)

def flood(params):
    for number in range(20_000):
        print(f"{number} " + "x" * 100)
    sys.stdout.write("y" * 3_000_000)

def leave_a_child(params):
    child = subprocess.Popen(["sleep", "900"], start_new_session=True)
    print("child", child.pid)

def odd(params):
    print("\\udc80 ä")
    sys.stdout = None
"""
SAID = ("on stdout", "on stderr", "be careful", "a half")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A sheet of one row, and tasks that speak."""
    (tmp_path / "tasks.py").write_text(TASKS)
    (tmp_path / "sheet.csv").write_text("No\n1\n")
    return tmp_path


def run(folder: Path, function: str, *options: object) -> subprocess.CompletedProcess[str]:
    task = ("--task", f"tasks.py:{function}", "--progress", "never", "--workers", "1")
    return run_program("run", "sheet.csv", *task, *options, cwd=folder, LANG="C")


@pytest.mark.parametrize("function", ["speak", "speak_async"])
def test_what_a_task_prints_goes_to_stderr(folder: Path, function: str) -> None:
    """Standard output, which a worker process would have kept until it is killed, and a line without an end, too."""
    done = run(folder, function)
    assert done.returncode == 0
    assert done.stdout.startswith("sheet.csv: 1 row in ")
    assert [word for word in SAID if done.stderr.count(word) < 1] == []
    assert done.stderr.count("on stdout\n") == 1
    assert [line for line in done.stderr.splitlines() if line == "by a child"] == ["by a child"]
    assert ("as bytes\n" in done.stderr) == ("by a library\n" in done.stderr) == (function == "speak_async")
    assert "by a" not in done.stdout
    assert done.stderr.count("while it is loaded\n") == (2 if function == "speak" else 1)


@pytest.mark.long
@pytest.mark.parametrize("function", ["speak", "speak_async"])
def test_quiet_says_nothing_that_a_task_prints(folder: Path, function: str) -> None:
    """Where all is well there is no byte for cron to mail; where it isn't, all of it comes."""
    done = run(folder, function, "--quiet")
    # Nothing stands between standard error and what programs and libraries of an async task write.
    raw = "by a child\nby a library\n" if function == "speak_async" else ""
    assert (done.returncode, done.stdout, done.stderr) == (0, "", raw)
    (folder / "sheet.csv").write_text("No\n1\nbad\n")
    done = run(folder, function, "--quiet")
    assert done.returncode == 3
    assert [word for word in SAID if done.stderr.count(word) < 1] == []


@pytest.mark.parametrize("function", ["speak", "speak_async"])
def test_json_log_is_json_lines_only(folder: Path, function: str) -> None:
    """Every line on stderr is an object: what a task prints, an unknown variable, progress, and what is wrong."""
    options = ("run", "sheet.csv", "--task", f"tasks.py:{function}", "--log-format", "json")
    done = run_program(*options, cwd=folder, BATCH_RUNNER_BOGUS="1")
    raw = ["by a child", "by a library"]  # nothing stands between these and our own standard error
    assert done.stdout.count("by a") == 0
    lines = [json.loads(line) for line in done.stderr.splitlines() if line not in raw]
    assert {"on stdout", "on stderr", "a half"} <= {line.get("text") for line in lines}
    (warning,) = (line["event"] for line in lines if line["level"] == "warning")
    assert warning.startswith("BATCH_RUNNER_BOGUS: no such option; it is ignored.")
    wrong = run_program(*options, "--sheet", "Jan", cwd=folder)
    assert wrong.returncode == 2
    (last,) = (json.loads(line) for line in wrong.stderr.splitlines()[-1:])
    assert (last["level"], "sheet.csv" in last["event"]) == ("error", True)


@pytest.mark.long
def test_what_a_task_printed_before_it_was_killed_is_said(folder: Path) -> None:
    """Its lines come as they are printed, so a time limit loses none of them."""
    done = run(folder, "hang", "--run-timeout", "2s")
    assert "before it hangs\n" in done.stderr
    assert "1 timeout" in done.stdout


@pytest.mark.long
def test_one_json_object_whatever_a_task_starts(folder: Path) -> None:
    """A program that an async task starts has another standard output than ours."""
    done = run(folder, "speak_async", "--json")
    assert json.loads(done.stdout)["counts"] == {"success": 1}


@pytest.mark.long
def test_a_task_that_prints_without_end_is_not_held_up(folder: Path) -> None:
    """Two megabytes of lines and three without one: read as they come, and with --quiet the last ones are kept."""
    done = run(folder, "flood")
    assert done.returncode == 0
    assert done.stderr.count("\n") == 20_000 + 300 + 2
    assert done.stderr.count("y") == 3_000_000
    quiet = run(folder, "flood", "--quiet", "--retry", "all", "--retry-wait", "0")
    assert (quiet.returncode, quiet.stderr) == (0, "")


@pytest.mark.long
def test_a_child_that_a_task_leaves_does_not_hold_up_the_end(folder: Path) -> None:
    """It has inherited the pipe, and still has it when the batch is over."""
    done = run(folder, "leave_a_child", "--json")
    [child] = re.findall(r"child (\d+)\n", done.stderr)
    os.kill(int(child), KILL)


def test_whatever_a_task_prints_fails_no_run(folder: Path) -> None:
    """Half of a character comes out as its escape, and a task may put away its standard output."""
    done = run(folder, "odd")
    assert (done.returncode, "\\udc80 ä\n" in done.stderr) == (0, True)


@pytest.mark.long
def test_a_librarys_user_has_it_on_stderr(folder: Path) -> None:
    """As it comes: nobody else is there to show it."""
    code = (
        "from batch_runner import Job, run_batch_blocking\n"
        "print(run_batch_blocking(Job(input='sheet.csv', task='tasks.py:speak')).count('success'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.stdout.splitlines()[-1:] == ["1"]
    assert [word for word in SAID if word not in done.stderr] == []


def test_lines_are_told_whole() -> None:
    """However they are written; one that has no end is told at the end, one that is too long in pieces."""
    told: list[str] = []
    with context.capture_prints(told.append):
        print("one", "two", end=" ")
        assert told == []
        print("three\nfour\r\n", end="")
        assert told == ["one two three", "four"]
        print("x" * (context.LONGEST_LINE + 1), end="")
        assert told[2:] == ["x" * (context.LONGEST_LINE + 1)]
        print("\nlast", end="")
        print("another", file=sys.stderr, end="")
    assert told[3:] == ["", "another", "last"]
