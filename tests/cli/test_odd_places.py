"""A working folder that is gone, and a locale that can't read a name: one sentence, no traceback."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from program import COMMAND, environment
from systems import needs_posix

if TYPE_CHECKING:
    from pathlib import Path

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@needs_posix
@pytest.mark.parametrize("words", [("check", "in.csv"), ("run", "/in.csv", "--task", "invoice"), ("status", "a.db")])
def test_a_working_folder_that_is_gone(tmp_path: Path, words: tuple[str, ...]) -> None:
    """Whatever is asked for: 2, and where to go."""
    gone = tmp_path / "gone"
    gone.mkdir()
    # The shell removes the folder that it and the program then stand in.
    command = ["sh", "-c", 'cd "$0" && rmdir "$0" && exec "$@"', str(gone), *COMMAND, *words]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    lines = [line for line in done.stderr.splitlines() if line.startswith("batch-runner: ")]
    assert done.returncode == 2
    assert lines == ["batch-runner: the working folder is gone; go to one that is there, and say the same command"]
    assert "Traceback" not in done.stderr


@pytest.mark.long
@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize("home", ["argument", "pattern", "job"])
def test_an_ascii_locale(tmp_path: Path, command: str, home: str) -> None:
    """A name with an umlaut, said, found or written in a job file: what to set; nothing was begun."""
    (tmp_path / "task.py").write_text("async def pay(params):\n    return {}\n")
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "März.csv").write_text("Row\n1\n")
    (tmp_path / "job.toml").write_text('input = "inbox/März.csv"\ntask = "task.py:pay"\n', "utf-8")
    said = {"argument": "inbox/März.csv", "pattern": "inbox/*.csv", "job": "job.toml"}[home]
    words = [*COMMAND, command, said, *(() if home == "job" else ("--task", "task.py:pay"))]
    done = subprocess.run(
        [os.fsencode(word) for word in words],
        cwd=tmp_path,
        env=environment(**ASCII),
        capture_output=True,
        check=False,
    )
    assert b"Traceback" not in done.stderr, done.stderr.decode("utf-8", "replace")
    assert done.returncode == 2, done.stderr
    assert b"LC_ALL=C.UTF-8" in done.stderr
    assert not list(tmp_path.rglob("*.results.csv"))
