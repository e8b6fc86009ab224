"""A Tasks API on a real socket that remembers every start: what really happened, whatever the client believes."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import contextmanager
from itertools import count, cycle
from typing import TYPE_CHECKING, TypeVar

from anyio.from_thread import start_blocking_portal
from scripted_server import answer, serving

from batch_runner.service.protocol import IDEMPOTENCY_FEATURE, IDEMPOTENCY_HEADER, MEMORY_HEADER

AnyService = TypeVar("AnyService", bound="Service")

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
    `code` is the status code of that answer, which names the run and its status; 0: the answer is lost.
    """

    def __init__(
        self, looks: int = 3, ends: Callable[[str, int], str] = succeed, code: Callable[[int], int] = lambda _: 200
    ) -> None:
        self.sent: list[dict[str, str]] = []
        self.rows: dict[str, str] = {}
        self.requests = 0
        self.url = ""
        self.health = b""
        self.told: tuple[str, ...] = ()
        self.read: Callable[[int], None] = _nothing
        self.answered: Callable[[int], None] = _nothing
        self._looks = looks
        self._ends = ends
        self._code = code
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
                told = self.start(request, number)
                self.read(number)
                if told is None:
                    connection.reset()
                    return
                await connection.send(told)
                self.answered(number)
            elif request.startswith(b"GET /v2/"):
                await connection.send(answer(self._poll(request), 200, *self.told))
            elif self.health and request.startswith(b"GET /healthz"):
                await connection.send(answer(self.health, 200, *self.told))
            else:
                await connection.send(answer(b"{}", 404))

    def start(self, request: bytes, number: int) -> bytes | None:
        """Begin a run; what is answered, None where the answer is lost."""
        code = self._code(number)
        body = self.begin(params_in(request), f"run-{number}", is_ended=code >= 300)
        return answer(body, code) if code else None

    def begin(self, params: dict[str, str], run_id: str, *, is_ended: bool = False) -> bytes:
        """Begin a run, and say so; one that `is_ended` has its end at once."""
        self.sent.append(params)
        row = self.starts[-1]
        self.rows[run_id] = row
        self._statuses[run_id] = self._ends(row, self.starts_of[row])
        status = self._statuses[run_id] if is_ended else "queued"
        session = run_id.replace("run", "session")
        return json.dumps({"run_id": run_id, "status": status, "session_id": session}).encode()

    def _poll(self, request: bytes) -> bytes:
        run_id = request.split()[1].split(b"/")[-2].decode()
        self._polls[run_id] += 1
        if self._polls[run_id] < self._looks:
            return json.dumps({"run_id": run_id, "status": "running"}).encode()
        return json.dumps(
            {"run_id": run_id, "status": self._statuses[run_id], "result": {"row": self.rows[run_id]}}
        ).encode()


class KeyedService(Service):
    """One that knows each start by its key, as `serve` does; several of them behind one address answer in turn.

    Of a start that is sent again it tells the run that the first one made, if it is asked for by the same memory.
    """

    def __init__(self, *memories: str, code: Callable[[int], int] = lambda _: 200) -> None:
        super().__init__(looks=1, code=code)
        said = {"status": "ok", "features": [IDEMPOTENCY_FEATURE], "idempotency_seconds": 900.0, "memory": memories[0]}
        self.health = json.dumps(said).encode()
        self.told = (_told(memories[0]),)
        self._known: dict[tuple[str, bytes], tuple[dict[str, str], bytes]] = {}
        self._turns = cycle(memories)
        self._first = memories[0]

    def become(self, memory: str) -> None:
        """From now on another one stands behind the address, alone."""
        self._turns = cycle([memory])
        self.health = self.health.replace(json.dumps(self._first).encode(), json.dumps(memory).encode())
        self.told = (_told(memory),)

    def start(self, request: bytes, number: int) -> bytes | None:
        """See `Service`; another start under the same key is refused (422)."""
        memory, params, code = next(self._turns), params_in(request), self._code(number)
        told = _told(memory)
        key = request.lower().partition(f"\r\n{IDEMPOTENCY_HEADER}: ".lower().encode())[2].partition(b"\r\n")[0]
        if key and (memory, key) in self._known:
            first, body = self._known[memory, key]
            return answer(body, 200, told) if first == params else answer(b"{}", 422, told)
        body = self.begin(params, f"run-{number}")
        self._known[memory, key] = params, body
        return answer(body, code, told) if code else None


def _told(memory: str) -> str:
    """The header that says whose answer it is."""
    return f"{MEMORY_HEADER}: {memory};seconds=900"


def params_in(request: bytes) -> dict[str, str]:
    """The params of a start."""
    params: dict[str, str] = json.loads(request.partition(b"\r\n\r\n")[2])["input_params"]
    return params


@contextmanager
def on_a_socket(service: AnyService) -> Iterator[AnyService]:
    """Serve it on a free port of 127.0.0.1, in a thread of its own."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serving(service.script)) as server,
    ):
        service.url = server.url
        yield service


def _nothing(number: int) -> None:
    pass
