"""A Tasks API on a real socket that remembers every start: what really happened, whatever the client believes."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

from anyio.from_thread import start_blocking_portal
from scripted_server import answer, serving

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scripted_server import Connection


def succeed(row: str, start: int) -> str:
    """Every run ends in success."""
    return "success"


class Service:
    """Starts a run for each POST; a run ends with `ends(row, start)` (from 1) at its `looks`-th poll.

    `sent` are the params of each start in order, `rows` the row's name of each run. `read` and `answered` are called
    with the number of the start (from 1) when it was read, before its answer leaves, and when its answer has left.
    """

    def __init__(self, looks: int = 3, ends: Callable[[str, int], str] = succeed) -> None:
        self.sent: list[dict[str, str]] = []
        self.rows: dict[str, str] = {}
        self.requests = 0
        self.url = ""
        self.read: Callable[[int], None] = _nothing
        self.answered: Callable[[int], None] = _nothing
        self._looks = looks
        self._ends = ends
        self._polls: Counter[str] = Counter()
        self._statuses: dict[str, str] = {}
        self._numbers = count(1)

    @property
    def starts(self) -> list[str]:
        """The rows that runs were started for, by their names, in that order."""
        return [params["Row"] for params in self.sent]

    @property
    def starts_of(self) -> Counter[str]:
        """How many runs were started for each row."""
        return Counter(self.starts)

    async def script(self, connection: Connection) -> None:
        """Serve one connection."""
        while request := await connection.request():
            self.requests += 1
            if request.startswith(b"POST "):
                number = next(self._numbers)
                body = self._start(request, f"run-{number}")
                self.read(number)
                await connection.send(answer(body))
                self.answered(number)
            elif request.startswith(b"GET /v2/"):
                await connection.send(answer(self._poll(request)))
            else:
                await connection.send(answer(b"{}", 404))

    def _start(self, request: bytes, run_id: str) -> bytes:
        self.sent.append(json.loads(request.partition(b"\r\n\r\n")[2])["input_params"])
        row = self.starts[-1]
        self.rows[run_id] = row
        self._statuses[run_id] = self._ends(row, self.starts_of[row])
        return json.dumps({"run_id": run_id, "status": "queued"}).encode()

    def _poll(self, request: bytes) -> bytes:
        run_id = request.split()[1].split(b"/")[-2].decode()
        self._polls[run_id] += 1
        if self._polls[run_id] < self._looks:
            return json.dumps({"run_id": run_id, "status": "running"}).encode()
        return json.dumps(
            {"run_id": run_id, "status": self._statuses[run_id], "result": {"row": self.rows[run_id]}}
        ).encode()


@contextmanager
def on_a_socket(service: Service) -> Iterator[Service]:
    """Serve it on a free port of 127.0.0.1, in a thread of its own."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serving(service.script)) as server,
    ):
        service.url = server.url
        yield service


def _nothing(number: int) -> None:
    pass
