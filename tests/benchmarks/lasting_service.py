"""A service for benchmarks whose runs last: `python tests/benchmarks/lasting_service.py SECONDS` prints its port first.

A run is `queued`, and ends so many seconds after its start (with 0 it has ended by then). A second number says how many
slots there are. When standard input closes it prints, as JSON, what `Seen` holds; then it ends.
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
    """Every run's start; `most` have been in flight at once. Of `slots` runs in flight it refuses a further start."""

    def __init__(self, seconds: float, slots: int) -> None:
        self.seconds = seconds
        self.slots = slots
        self.starts: list[float] = []
        self.most = 0
        self.refused = 0
        self.polls = 0
        self.delays = 0.0
        self.last_end = 0.0
        self._ended = 0
        self._seen: set[int] = set()

    def tell(self, head: bytes) -> tuple[bytes, bytes]:
        """The answer to a request: the run that it starts or asks for."""
        if head.startswith(b"POST"):
            return self._start(time.time())
        self.polls += 1
        return b"200 OK", self._told(int(head.split(b"/status")[0].rpartition(b"_")[2]), time.time())

    def _start(self, now: float) -> tuple[bytes, bytes]:
        while self._ended < len(self.starts) and self.starts[self._ended] + self.seconds <= now:
            self._ended += 1
        if len(self.starts) - self._ended >= self.slots:
            self.refused += 1
            return b"429 Too Many Requests", b'{"error":{"code":429,"message":"too many concurrent runs"}}'
        self.starts.append(now)
        self.most = max(self.most, len(self.starts) - self._ended)
        number = len(self.starts) - 1
        if not self.seconds:
            return b"200 OK", self._told(number, now)
        return b"200 OK", b'{"run_id":"run_%d","status":"queued"}' % number

    def _told(self, number: int, now: float) -> bytes:
        late = now - self.starts[number] - self.seconds
        if late >= 0 and number not in self._seen:
            self._seen.add(number)
            self.delays += late
            self.last_end = now
        return b'{"run_id":"run_%d","status":"%s"}' % (number, b"success" if late >= 0 else b"running")


class Seen:
    """What the service saw, once it has ended; `delay` is the mean time from a run's end to the poll that told it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.starts = 0
        self.refused = 0
        self.polls = 0
        self.most_in_flight = 0
        self.first_start = 0.0
        self.last_end = 0.0
        """When the last end was noticed."""
        self.delay = 0.0


@contextmanager
def lasting_service(seconds: float, slots: int = 10**9) -> Iterator[Seen]:
    """The service in a process of its own; what it saw is there when the block has ended."""
    command = [sys.executable, __file__, str(seconds), str(slots)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        seen = Seen(f"http://127.0.0.1:{process.stdout.readline().strip()}")
        try:
            yield seen
        finally:
            vars(seen).update(json.loads(process.communicate("")[0]))


async def _serve(seconds: float, slots: int) -> None:
    loop, runs = asyncio.get_running_loop(), _Runs(seconds, slots)
    server = await loop.create_server(lambda: QuickConnection(runs.tell), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    seen = {
        "starts": len(runs.starts),
        "refused": runs.refused,
        "polls": runs.polls,
        "most_in_flight": runs.most,
        "first_start": min(runs.starts, default=0.0),
        "last_end": runs.last_end,
        "delay": runs.delays / max(1, len(runs.starts)),
    }
    print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[1]), int(sys.argv[2])))
