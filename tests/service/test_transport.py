"""The transport under httpx's interface: connections, and a machine that has slept."""

from __future__ import annotations

import asyncio
import time

import httpx
import pytest
from scripted_server import Connection, answer, behaves, serving

from batch_runner.service.http.client import Client
from batch_runner.service.http.transport import AiohttpTransport, environment_proxy
from batch_runner.service.protocol import Started, StartRequest
from batch_runner.service.wire import RunRequest

pytestmark = pytest.mark.anyio

START = RunRequest(input_params={"a": "b"})


async def test_it_is_a_transport_of_httpx() -> None:
    """httpx's own client works over it, and gets status, headers and body as they came."""
    async with serving(behaves) as server, httpx.AsyncClient(transport=AiohttpTransport()) as client:
        said = await client.post(server.url, json={"a": 1})
        assert (said.status_code, said.json()["run_id"]) == (200, "run-1")
        assert server.requests[0].endswith(b'{"a":1}')


async def test_many_at_once() -> None:
    """The number of connections is not bounded here: 300 starts wait for their answers together."""
    everyone = asyncio.Event()

    async def waits(connection: Connection) -> None:
        await connection.request()
        if len(connection.server.requests) == 300:
            everyone.set()
        await everyone.wait()
        await connection.send(answer())

    async with serving(waits) as server, Client(server.url, "", AiohttpTransport()) as client:
        said = await asyncio.gather(*(client.start(StartRequest("invoice", START)) for _ in range(300)))
        assert all(isinstance(one, Started) for one in said)
        assert len(server.requests) == 300


async def test_a_cancelled_start_leaves_no_connection_behind() -> None:
    """The answer to a start that was given up on is not taken for the next one's."""

    has_come, given_up = asyncio.Event(), asyncio.Event()

    async def slow_at_first(connection: Connection) -> None:
        while await connection.request():
            number = len(connection.server.requests)
            if number == 1:
                has_come.set()
                await given_up.wait()
            await connection.send(answer(b'{"run_id": "run-%d", "status": "queued"}' % number))

    async with serving(slow_at_first) as server, Client(server.url, "", AiohttpTransport()) as client:
        first = asyncio.create_task(client.start(StartRequest("invoice", START)))
        await has_come.wait()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        given_up.set()
        said = await client.start(StartRequest("invoice", START))
        assert isinstance(said, Started)
        assert said.run.run_id == "run-2"
        assert server.connections == 2


async def test_no_connection_outlives_the_machines_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a sleep the monotonic clock may say that nothing was idle: the wall clock says otherwise."""
    async with serving(behaves) as server, Client(server.url, "", AiohttpTransport()) as client:
        await client.start(StartRequest("invoice", START))
        awake = time.time
        monkeypatch.setattr(time, "time", lambda: awake() + 3600)
        assert isinstance(await client.start(StartRequest("invoice", START)), Started)
        assert isinstance(await client.start(StartRequest("invoice", START)), Started)
        assert server.connections == 2


async def test_timeouts_are_those_of_the_request() -> None:
    """The wait for an answer can be longer for one start than for the others."""

    async def slow(connection: Connection) -> None:
        await connection.request()
        await asyncio.sleep(0.3)
        await connection.send(answer())

    async with serving(slow) as server, Client(server.url, "", AiohttpTransport()) as client:
        assert not isinstance(await client.start(StartRequest("invoice", START, answer_within=0.1)), Started)
        assert isinstance(await client.start(StartRequest("invoice", START, answer_within=5)), Started)


@pytest.mark.parametrize("host", ["localhost", "a.localhost", "127.0.0.1", "127.1.2.3", "::1"])
def test_loopback_has_no_proxy(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What never leaves the machine never goes through a proxy."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.invalid:3128")
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert environment_proxy("http", host, 80) is None
    assert environment_proxy("http", "service.invalid", None) == "http://proxy.invalid:3128"


def test_a_proxy_without_a_scheme(monkeypatch: pytest.MonkeyPatch) -> None:
    """`HTTPS_PROXY=host:port` is how curl's users write it."""
    monkeypatch.setenv("HTTPS_PROXY", "proxy.invalid:3128")
    monkeypatch.setenv("NO_PROXY", "other.invalid")
    assert environment_proxy("https", "service.invalid", None) == "http://proxy.invalid:3128"
    assert environment_proxy("https", "api.other.invalid", 8443) is None
