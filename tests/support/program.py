"""Runs the real program in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = (sys.executable, "-m", "batch_runner")
PATIENCE = 180
"""Seconds until a program that has not ended is a failure; a busy machine is several times slower than an idle one."""


def environment(**more: str) -> dict[str, str]:
    """This process's environment without anything that speaks to the program, and what a test adds."""
    ours = ("BATCH_RUNNER_", "ANCHOR")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | more


def run_program(*arguments: object, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end, without a terminal."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def start_program(*arguments: object, cwd: Path, **variables: str) -> subprocess.Popen[str]:
    """Start it and leave it running."""
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
