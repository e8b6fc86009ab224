"""What the client makes of a service's `GET /healthz`, and what it sends where it may."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st
from over_httpx import OverHttpx
from test_client import BASE, KEY, START, Service, client_of

from batch_runner.service.http.client import HEALTH_TIMEOUT, Client
from batch_runner.service.protocol import (
    NO_CAPABILITIES,
    Capabilities,
    RefusalScope,
    Refused,
    Started,
    StartRequest,
    quoted,
    unquoted,
)

pytestmark = pytest.mark.anyio

OURS = {
    "status": "ok",
    "features": ["idempotency-key", "row-number", "time-travel"],
    "idempotency_seconds": 3600,
    "memory": "m-1",
    "more": [1],
}


@pytest.mark.parametrize("status", [200, 503])
async def test_what_our_own_service_says(status: int) -> None:
    """A service that is just stopping will be there again. It is asked at /healthz, with the key as ever."""
    service = Service(status, json.dumps(OURS).encode())
    async with client_of(service) as client:
        assert await client.capabilities() == Capabilities(idempotency_seconds=3600.0, memory="m-1", row_number=True)
    assert (service.scope["method"], service.scope["path"]) == ("GET", "/api/healthz")


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, json.dumps(OURS).encode()),
        (500, json.dumps(OURS).encode()),
        (302, b""),
        (200, b""),
        (200, b"OK"),
        (200, b"<html>"),
        (200, b"[]"),
        (200, b"null"),
        (200, b'{"status": "UP"}'),
        (200, b'{"status": "ok", "features": "idempotency-key"}'),
        (200, b'{"status": "ok", "features": ["idempotency-key"]}'),
        (200, b'{"status": "ok", "features": ["idempotency-key"], "idempotency_seconds": 60}'),
        (200, b'{"status": "ok", "features": ["idempotency-key"], "idempotency_seconds": "60", "memory": "m"}'),
        (200, b'{"status": "ok", "features": [], "idempotency_seconds": 60, "memory": "m"}'),
        (200, b"[" * 100_000),
        (200, b'{"status": "\xff"}'),
    ],
)
async def test_anything_else_says_that_there_are_none(status: int, body: bytes) -> None:
    """Other services answer as they like, and nothing is raised."""
    async with client_of(Service(status, body)) as client:
        assert await client.capabilities() == NO_CAPABILITIES


async def test_where_there_is_no_answer_there_are_none() -> None:
    """Whatever a transport raises."""

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise httpx.ConnectError("no route")

    async with client_of(broken) as client:
        assert await client.capabilities() == NO_CAPABILITIES


def test_the_question_is_given_up_soon() -> None:
    """A service that doesn't answer holds back nothing for long."""

    async def silent(scope: Any, receive: Any, send: Any) -> None:
        await trio.sleep(3600)

    async def main() -> None:
        async with Client(BASE, KEY, OverHttpx(httpx.ASGITransport(silent))) as client:
            assert await client.capabilities() == NO_CAPABILITIES
            assert trio.current_time() - began == HEALTH_TIMEOUT

    clock = trio.testing.MockClock(autojump_threshold=0)
    began = clock.current_time()
    trio.run(main, clock=clock)


@pytest.mark.parametrize(
    ("memory", "age", "is_one"),
    [
        ("m", 0.0, True),
        ("m", 59.9, True),
        ("m", 60.0, False),
        ("m", -1.0, False),
        ("n", 1.0, False),
        (None, 1.0, False),
    ],
)
def test_a_start_may_be_repeated_only_where_it_is_certainly_known(memory: str | None, age: float, is_one: bool) -> None:
    """Young enough, and sent to the same memory; a clock that was put back makes nothing certain."""
    assert Capabilities(idempotency_seconds=60.0, memory="m").is_one_run(memory, age) == is_one
    assert not NO_CAPABILITIES.is_one_run(memory, age)


async def test_key_and_row_are_sent_as_their_headers_have_them() -> None:
    """The key as a quoted string; without them, no header."""
    service = Service(200, b'{"run_id": "r1", "status": "queued"}')
    async with client_of(service) as client:
        assert isinstance(await client.start(StartRequest("t", START, 'a"\\b', 17)), Started)
        headers = dict(service.scope["headers"])
        assert (headers[b"idempotency-key"], headers[b"batch-runner-row"]) == (b'"a\\"\\\\b"', b"17")
        await client.start(StartRequest("t", START))
        assert not {b"idempotency-key", b"batch-runner-row"} & dict(service.scope["headers"]).keys()


@pytest.mark.parametrize("key", ["", "ä", "a\nb", "x" * 256])
async def test_a_key_that_can_not_be_sent_is_refused_before_anything_is(key: str) -> None:
    """The start stays unsent, and says why."""
    service = Service(200, b'{"run_id": "r1", "status": "queued"}')
    async with client_of(service) as client:
        said = await client.start(StartRequest("t", START, key))
    assert isinstance(said, Refused)
    assert (said.scope, said.status_code, "idempotency key" in said.why) == (RefusalScope.ROW, None, True)
    assert not service.scope


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=255))
def test_a_key_comes_back_as_it_was_sent(key: str) -> None:
    """Whatever printable ASCII is in it."""
    assert unquoted(quoted(key)) == key
    assert unquoted(f"  {quoted(key)}\t") == key


@given(st.text(max_size=20))
def test_what_is_read_as_a_key_would_be_written_so(field: str) -> None:
    """Nothing else is taken for one."""
    key = unquoted(field)
    assert key is None or quoted(key) == field.strip()
