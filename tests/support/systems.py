"""What a test needs of the system that it runs on. Where that isn't there, the test is skipped, and says why.

A module that is about POSIX in whole says so by `if sys.platform == "win32": pytest.skip(…)`, which mypy understands.
"""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

needs_posix = pytest.mark.skipif(sys.platform == "win32", reason="signals, modes, shells and pipes of POSIX")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="it looks into /proc")

KILL = 9
"""SIGKILL. By this number `os.kill` ends a process on Windows, too, which knows no signal of this name."""
KILLED = KILL if sys.platform == "win32" else -KILL
"""The exit code of a process that was ended so."""


def slashes(text: object) -> str:
    """A path, or a sentence with paths, as POSIX writes it."""
    return str(text).replace(os.sep, "/")


def make_pipe(path: Path) -> None:
    """Make a named pipe in a folder."""
    if sys.platform == "win32":
        pytest.skip("there are no named pipes in folders there")
    os.mkfifo(path, 0o600)


def set_zone(name: str, patch: pytest.MonkeyPatch) -> None:
    """Set this process's time zone; `reset_zone` is for the end of the test."""
    if sys.platform == "win32":
        pytest.skip("a process has no time zone of its own there")
    patch.setenv("TZ", name)
    time.tzset()


def reset_zone() -> None:
    """Let the variable that is there again count again."""
    if sys.platform != "win32":
        time.tzset()
