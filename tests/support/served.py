"""`batch-runner serve` in a process of its own, with the tests' tasks. Not a test module."""

from __future__ import annotations

import re
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
from contract import OWN
from program import PATIENCE, start_program

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Served:
    """A running service: what is asked of it, and how it ends.

    `said` is what it said when it began, `tasks` what it then said that it runs.
    """

    def __init__(self, process: subprocess.Popen[str], said: str, tasks: str) -> None:
        self.process = process
        self.said = said
        self.tasks = tasks
        (self.url,) = re.findall(r"http://[^;]*", said)
        self.http = httpx.Client(base_url=self.url, timeout=PATIENCE, trust_env=False, verify=False)

    def start(self, task: str, params: dict[str, str] | None = None, key: str | None = None) -> tuple[int, Any]:
        """The status code and the JSON of the answer to a start."""
        headers = {} if key is None else {"Idempotency-Key": f'"{key}"'}
        answer = self.http.post(f"/v2/tasks/{task}/run", json={"input_params": params or {}}, headers=headers)
        return answer.status_code, answer.json()

    def status(self, run_id: str) -> Any:
        """The run as it is now."""
        answer = self.http.get(f"/v2/tasks/runs/{run_id}/status")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal and wait for the end; gives the exit code and what else was said on stderr."""
        self.process.send_signal(number)
        _, rest = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, rest


@contextmanager
def served(folder: Path, *options: str, port: int = 0, **variables: str) -> Iterator[Served]:
    """Serve in a folder, on a free port; killed at the end, if it still runs."""
    process = start_program("serve", "--port", port, "--tasks", OWN, *options, cwd=folder, **variables)
    with process:
        try:
            assert process.stderr is not None
            service = Served(process, process.stderr.readline(), process.stderr.readline())
            with service.http:
                yield service
        finally:
            process.kill()


def wait_until(holds: Callable[[], object]) -> None:
    """Wait for something that is about to be so."""
    until = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.01)
