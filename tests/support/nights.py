"""One whole night in virtual time: the real batch, client and service, with faults that a test asks for in between."""

from __future__ import annotations

import csv
import json
from collections import Counter
from typing import TYPE_CHECKING

import httpx
import msgspec
import trio
import trio.testing
from over_httpx import OverHttpx

from batch_runner.job.job import Job
from batch_runner.journal.journal import Journal
from batch_runner.progress import Progress
from batch_runner.runner.run import info, open_job, run_opened
from batch_runner.service.http.client import Client
from batch_runner.service.local.service import LocalService
from batch_runner.service.local.tasks import load_tasks
from batch_runner.service.serve.app import make_app

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from batch_runner.report.summary import Summary

TASKS = """
import anyio

async def work(params):
    await anyio.sleep(float(params.get("Seconds", "10")))
    if params.get("End") == "failure":
        raise ValueError("no such invoice")
    return {"row": params.get("Row", "")}
"""


class Fault(msgspec.Struct, frozen=True):
    """An answer instead of the service's; `taken` says that the service has started the run all the same."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    taken: bool = False


class Post(msgspec.Struct, frozen=True):
    """A start as the service saw it: when (seconds of the virtual clock), for which row, and the answer's status."""

    at: float
    row: str
    status: int


class Front:
    """Stands before the service: notes each start, and answers as `faults` says (None: the service's own answer)."""

    def __init__(self, app: ASGIApp, faults: Callable[[str, int], Fault | None]) -> None:
        self._app = app
        self._faults = faults
        self.posts: list[Post] = []
        self.in_flight: set[str] = set()
        self.peak = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await self._app(scope, receive, self._noting_ends(send))
            return
        body = await whole(receive)
        row = json.loads(body)["input_params"].get("Row", "")
        fault = self._faults(row, sum(post.row == row for post in self.posts))
        at = trio.current_time()
        if fault is None:
            await self._app(scope, again(body), self._noting_start(at, row, self._noting_ends(send)))
            return
        self.posts.append(Post(at, row, fault.status))
        if fault.taken:
            await self._app(scope, again(body), _nowhere)
        await say(fault, send)

    def starts(self) -> Counter[str]:
        """How many runs the service has made for each row."""
        return Counter(post.row for post in self.posts if post.status in (200, 500))

    def _noting_start(self, at: float, row: str, send: Send) -> Send:
        async def noting(message: Message) -> None:
            if message["type"] == "http.response.start":
                self.posts.append(Post(at, row, message["status"]))
            await send(message)

        return noting

    def _noting_ends(self, send: Send) -> Send:
        async def noting(message: Message) -> None:
            if message["type"] == "http.response.body" and message.get("body", b"").startswith(b'{"run_id"'):
                run = json.loads(message["body"])
                (self.in_flight.add if run["status"] in ("queued", "running") else self.in_flight.discard)(
                    run["run_id"]
                )
                self.peak = max(self.peak, len(self.in_flight))
            await send(message)

        return noting


class Night(msgspec.Struct, frozen=True):
    """What came of it: the summary, the output's records, the starts that the service saw, the seconds it took."""

    summary: Summary
    records: list[dict[str, str]]
    front: Front
    seconds: float

    @property
    def statuses(self) -> list[str]:
        """The status column from top to bottom."""
        return [record["status"] for record in self.records]


def no_faults(row: str, earlier: int) -> Fault | None:
    """A service that works."""


def night(
    folder: Path,
    rows: list[dict[str, str]],
    faults: Callable[[str, int], Fault | None] = no_faults,
    progress: Progress | None = None,
    within: Callable[[ASGIApp], ASGIApp] = lambda app: app,
    **options: object,
) -> Night:
    """Run a sheet with these rows through the task `work`, whose runs take the row's `Seconds`.

    `within` puts the service into an app of the test's own, which every request then goes through.
    """
    (folder / "tasks.py").write_text(TASKS)
    with (folder / "sheet.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]) if rows else ["Row", "Seconds"])
        writer.writeheader()
        writer.writerows(rows)
    options = {"service": "http://service", **options}
    job = Job(input=str(folder / "sheet.csv"), task=f"{folder / 'tasks.py'}:work", **options)  # type: ignore[arg-type]

    async def main() -> tuple[Summary, Front, float]:
        tasks = load_tasks(job.task, files=folder)
        with open_job(job) as opened:
            async with LocalService(tasks, run_timeout=1e6, async_runs=10_000) as service:
                front = Front(within(make_app(service)), faults)
                client = Client("http://service", "", OverHttpx(httpx.ASGITransport(front)))
                async with client, Journal.in_memory(info(opened)) as journal:
                    summary = await run_opened(opened, client, journal, progress or Progress())
        return summary, front, trio.current_time()

    clock = trio.testing.MockClock(autojump_threshold=0)
    began = clock.current_time()
    summary, front, ended = trio.run(main, clock=clock)
    with (folder / "sheet.results.csv").open(newline="") as file:
        return Night(summary, list(csv.DictReader(file)), front, ended - began)


def numbered(count: int, **columns: str) -> list[dict[str, str]]:
    """So many rows that differ in `Row` only, which counts from 1."""
    return [{"Row": str(number), **columns} for number in range(1, count + 1)]


async def say(fault: Fault, send: Send) -> None:
    """Answer so."""
    headers = [(name.lower().encode(), value.encode()) for name, value in fault.headers]
    await send({"type": "http.response.start", "status": fault.status, "headers": headers})
    await send({"type": "http.response.body", "body": fault.body})


async def _nowhere(message: Message) -> None:
    pass


async def whole(receive: Receive) -> bytes:
    """A request's body."""
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def again(body: bytes) -> Receive:
    """Hand on a body that was read."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Message:
        return next(messages, {"type": "http.disconnect"})

    return receive
