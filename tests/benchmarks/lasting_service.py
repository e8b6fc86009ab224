"""A service for benchmarks whose runs last: `python tests/benchmarks/lasting_service.py SECONDS` prints its port first.

A run ends so many seconds after its start. When standard input closes it prints, as JSON, how many runs it started,
how many were in flight at most, and at what time (seconds since the epoch) the first start came; then it ends.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from quick_connection import QuickConnection

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Runs:
    """Every run's start; `most` have been in flight at once."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.starts: list[float] = []
        self.most = 0
        self._ended = 0

    def tell(self, head: bytes) -> bytes:
        """The run that a request starts or asks for."""
        is_start = head.startswith(b"POST")
        return self.start() if is_start else self.told(int(head.split(b"/status")[0].rpartition(b"_")[2]))

    def start(self) -> bytes:
        now = time.time()
        self.starts.append(now)
        while self.starts[self._ended] + self.seconds < now:
            self._ended += 1
        self.most = max(self.most, len(self.starts) - self._ended)
        return self.told(len(self.starts) - 1)

    def told(self, number: int) -> bytes:
        has_ended = time.time() >= self.starts[number] + self.seconds
        return b'{"run_id":"run_%d","status":"%s"}' % (number, b"success" if has_ended else b"running")


class Seen:
    """What the service saw, once it has ended."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.starts = 0
        self.most_in_flight = 0
        self.first_start = 0.0


@contextmanager
def lasting_service(seconds: float) -> Iterator[Seen]:
    """The service in a process of its own; what it saw is there when the block has ended."""
    command = [sys.executable, __file__, str(seconds)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        seen = Seen(f"http://127.0.0.1:{process.stdout.readline().strip()}")
        try:
            yield seen
        finally:
            told = json.loads(process.communicate("")[0])
            seen.starts, seen.most_in_flight, seen.first_start = told["starts"], told["most"], told["first"]


async def _serve(seconds: float) -> None:
    loop, runs = asyncio.get_running_loop(), _Runs(seconds)
    server = await loop.create_server(lambda: QuickConnection(runs.tell), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    print(json.dumps({"starts": len(runs.starts), "most": runs.most, "first": min(runs.starts, default=0)}), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1])))
