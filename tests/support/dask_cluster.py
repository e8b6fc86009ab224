"""A Dask scheduler and its workers in processes of their own, on loopback, to be killed."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Self

from ports import kept_port

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PATIENCE = 300.0
SCHEDULER = "distributed.cli.dask_scheduler"
WORKER = "distributed.cli.dask_worker"


class DaskCluster:
    """A scheduler, which is started on entering, and the workers that were added; all are killed on leaving.

    Its processes stand in a folder of their own, so nothing that is named relative to ours is there for them.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._started: list[subprocess.Popen[bytes]] = []
        self._held = ExitStack()

    def __enter__(self) -> Self:
        self._port = self._held.enter_context(kept_port())
        self.address = f"tcp://127.0.0.1:{self._port}"
        self.start_scheduler()
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            kill(process)
        self._held.close()

    def start_scheduler(self) -> None:
        """Start it on the same port each time, and wait until it listens."""
        self.scheduler = self._start(SCHEDULER, "--port", str(self._port), "--dashboard-address", "127.0.0.1:0")
        wait(self._listens)

    def add_workers(self, number: int = 1, threads: int = 1, *, nanny: bool = False) -> list[subprocess.Popen[bytes]]:
        """Start so many, each below a nanny or without, and wait until they are registered."""
        kind = "--nanny" if nanny else "--no-nanny"
        options = (kind, "--nthreads", str(threads), "--local-directory", str(self._folder))
        processes = [self._start(WORKER, self.address, *options) for _ in range(number)]
        for process in processes:
            wait(partial(self._has_registered, process))
        return processes

    def _start(self, module: str, *options: str) -> subprocess.Popen[bytes]:
        path = self._folder / f"{len(self._started)}.log"
        command = [sys.executable, "-m", module, *options, "--host", "127.0.0.1", "--no-dashboard"]
        with path.open("wb") as log:
            process = subprocess.Popen(command, cwd=self._folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._started.append(process)
        return process

    def _has_registered(self, worker: subprocess.Popen[bytes]) -> bool:
        assert worker.poll() is None
        return "Registered to" in (self._folder / f"{self._started.index(worker)}.log").read_text()

    def _listens(self) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self._port)) == 0


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill it as a power cut would, and wait until it is gone."""
    process.kill()
    process.wait()


def wait(holds: Callable[[], bool]) -> None:
    """Wait, in a thread, for something that is about to be so."""
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)
