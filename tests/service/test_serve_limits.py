"""`serve` against clients that are slow, many, or loose with types: it stays there for the others."""

from __future__ import annotations

import asyncio
import errno
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import pytest

from batch_runner.service.http.client import Client
from batch_runner.service.http.transport import AiohttpTransport
from batch_runner.service.local.service import LocalService
from batch_runner.service.local.tasks import load_tasks
from batch_runner.service.protocol import RefusalScope, Refused, RunRequest, Started, StartRequest
from batch_runner.service.serve import server

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio

TASK = """
async def echo(params):
    return params
"""


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[tuple[str, str]]:
    """The service's address, and the id of a task."""
    (folder / "tasks.py").write_text(TASK)
    task = f"{folder / 'tasks.py'}:echo"
    async with LocalService(load_tasks(task, files=folder), 1) as service, server.listen(service) as url:
        yield url, task


async def connection(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    parts = urlsplit(url)
    return await asyncio.open_connection(parts.hostname, parts.port)


async def post(url: str, task: str, body: bytes) -> tuple[int, dict[str, object]]:
    """A start as bytes, and the status and JSON of its answer."""
    reader, writer = await connection(url)
    head = (
        f"POST /v2/tasks/{quote(task, safe='')}/run HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    )
    writer.write(head.encode() + f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return int(answer.split()[1]), json.loads(answer.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (b"1.10", "1.10"),
        (b"12345678901234567890", "12345678901234567890"),
        (b"-0.5e3", "-0.5e3"),
        (b"true", "true"),
        (b" null ", "null"),
        (b'"1.10"', "1.10"),
    ],
)
async def test_values_that_are_no_text_are_their_json_text(tmp_path: Path, value: bytes, text: str) -> None:
    """A number, a boolean, null: the SDK's type allows them, and the task gets what was written."""
    async with serving(tmp_path) as (url, task):
        status, told = await post(url, task, b'{"sync": true, "input_params": {"a": %s, "b": "x"}}' % value)
    assert (status, told["result"]) == (200, {"a": text, "b": "x"})


@pytest.mark.parametrize("value", [b"[1]", b'{"x": 1}'])
async def test_lists_and_objects_are_no_params(tmp_path: Path, value: bytes) -> None:
    """They are refused (400), by name."""
    async with serving(tmp_path) as (url, task):
        status, told = await post(url, task, b'{"input_params": {"b": "x", "a": %s}}' % value)
    assert status == 400
    assert "'a'" in json.dumps(told)


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.mark.long
@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /v2/tasks/x/run HT",
        HEALTH + b"GET /healt",
        HEALTH + b"\r\n",
        b"POST /v2/tasks/x/run HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{",
    ],
    ids=["nothing", "a head", "a second head", "a line end", "a body"],
)
async def test_who_is_slow_is_cut_off(tmp_path: Path, sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head or a body that doesn't come, a connection that stays idle: closed in time, however it drips."""
    monkeypatch.setattr(server, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(server, "BODY_SECONDS", 0.3)
    monkeypatch.setattr(server, "IDLE_SECONDS", 1)
    async with serving(tmp_path) as (url, _):
        reader, writer = await connection(url)
        for at in range(0, len(sent), len(HEALTH)):
            writer.write(sent[at : at + len(HEALTH)])
            await asyncio.sleep(0.1)
        await asyncio.wait_for(reader.read(), 5)
        writer.close()


async def test_a_head_without_an_end_is_cut_off(tmp_path: Path) -> None:
    """Long before its time is over: it would fill the memory."""
    async with serving(tmp_path) as (url, _):
        _, writer = await connection(url)
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
        async with asyncio.timeout(server.HEAD_SECONDS / 2):
            while not writer.is_closing():
                writer.write(b"x" * (1 << 16))
                await asyncio.sleep(0.01)


class SeenTransport(asyncio.Transport):
    """What is written to it, and its end."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[bytes | None] = []

    def write(self, data: object) -> None:
        assert isinstance(data, bytes)
        self.seen += [data] if data else []

    def close(self) -> None:
        self.seen.append(None)


async def test_an_answer_is_one_packet() -> None:
    """Its head and its body go out together, and all of it before the connection is closed."""
    seen = SeenTransport()
    transport = server._WholeAnswers(seen, asyncio.get_running_loop())
    for part in (b"head", b"body"):
        transport.write(part)
    await asyncio.sleep(0)
    transport.write(b"100")
    await asyncio.sleep(0)
    transport.write(b"last")
    transport.close()
    await asyncio.sleep(0)
    assert seen.seen == [b"headbody", b"100", b"last", None]


async def test_a_client_that_vanishes_with_its_body_is_no_bug(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is said in the log: anybody could fill it with tracebacks."""
    async with serving(tmp_path) as (url, task):
        _, writer = await connection(url)
        head = f"POST /v2/tasks/{quote(task, safe='')}/run HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        writer.write(head.encode() + b"Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{")
        await asyncio.sleep(0.1)
        writer.close()
        await asyncio.sleep(0.1)
    assert not caplog.records


async def test_one_connection_too_many_is_told_to_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets a 503 that says when, so a client knows that no run was started; when others leave, it gets through."""
    monkeypatch.setattr(server, "most_connections", lambda: 3)
    async with serving(tmp_path) as (url, task):
        idle = [await connection(url) for _ in range(3)]
        start = StartRequest(task, RunRequest(input_params={"a": "b"}))
        async with Client(url, "", AiohttpTransport()) as client:
            said = await client.start(start)
            assert isinstance(said, Refused), said
            assert (said.scope, said.status_code, said.signal.retry_after) == (RefusalScope.LATER, 503, 5.0)
            for _, writer in idle:
                writer.close()
            await asyncio.sleep(0.2)
            assert isinstance(await client.start(start), Started)


def test_the_bound_leaves_descriptors_for_all_else() -> None:
    """There are never more connections than files may be open."""
    resource = pytest.importorskip("resource")
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert server.most_connections() <= max(8, files - server.RESERVED_FILES)


async def test_no_descriptors_left_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """However often asyncio says it, the log has one line a minute, without a traceback."""
    say = server._OnceInAWhile()
    loop = asyncio.get_running_loop()
    for _ in range(1000):
        say(loop, {"message": "socket.accept() out of system resource", "exception": OSError(errno.EMFILE, "Too many")})
    assert len(caplog.records) == 1
    assert "ulimit -n" in caplog.records[0].message
    assert caplog.records[0].exc_info is None
