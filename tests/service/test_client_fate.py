"""What each end of a start says about its run, over real sockets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import anyio
import pytest
from certificates import make_certificate, tls_of
from one_start import LARGE, SMALL, assert_never_sent, client_of, forget_proxies, start
from ports import full_listener, kept_port
from scripted_server import QUEUED, Connection, answer, behaves, serving

from batch_runner.service.protocol import Lost, RefusalScope, Refused, Started, StartRequest

if TYPE_CHECKING:
    from pathlib import Path

    from scripted_server import Script

    from batch_runner.service.protocol import RunRequest

pytestmark = pytest.mark.anyio


async def test_refused() -> None:
    """Where nobody listens, no run was started."""
    with kept_port() as port:
        assert_never_sent(await start(f"http://127.0.0.1:{port}"))


async def test_no_such_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the name has no address, no run was started (`.invalid` never has: RFC 6761)."""
    forget_proxies(monkeypatch)
    assert_never_sent(await start("http://service.invalid"))


@pytest.mark.long
async def test_connect_timeout() -> None:
    """Where the listener's queue is full and nobody accepts, no run was started."""
    with full_listener() as url:
        said = await start(url)
    assert_never_sent(said)
    assert isinstance(said, Refused)
    assert "in time" in said.why


async def test_cancelled_before_there_is_a_connection() -> None:
    """Who waits for one, and is cancelled, learns all the same that no run was started."""
    said: list[Started | Refused | Lost] = []
    with full_listener() as url:
        with anyio.move_on_after(0.2) as scope:
            async with client_of(url) as client:
                said.append(await client.start(StartRequest("invoice", SMALL)))
        assert scope.cancelled_caught
    assert_never_sent(*said)


async def test_tls_with_a_server_that_speaks_plain_text() -> None:
    """A failed TLS handshake: no run was started."""

    async def plain(connection: Connection) -> None:
        await connection.reader.read(100)
        await connection.send(b"HTTP/1.1 400 What\r\n\r\n")

    async with serving(plain) as server:
        assert_never_sent(await start(f"https://127.0.0.1:{server.port}"))


async def test_tls_closed_in_the_handshake() -> None:
    """A server that drops the connection in the handshake: no run was started."""

    async def drops(connection: Connection) -> None:
        await connection.reader.read(100)
        connection.reset()

    async with serving(drops) as server:
        assert_never_sent(await start(f"https://127.0.0.1:{server.port}"))


async def test_tls_with_a_certificate_that_nobody_signed(tmp_path: Path) -> None:
    """A certificate that isn't trusted: no run was started, no time heals it, and the reason says what does."""
    async with serving(behaves, tls_of(make_certificate(tmp_path))) as server:
        said = await start(f"https://127.0.0.1:{server.port}")
        assert isinstance(said, Refused)
        assert (said.scope, said.status_code) == (RefusalScope.TASK, None)
        assert "certificate" in said.why
        assert "SSL_CERT_FILE" in said.why
        assert server.requests == []


async def test_tls_with_a_certificate_of_the_house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`SSL_CERT_FILE` names whom to trust."""
    certificate = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with serving(behaves, tls_of(certificate)) as server:
        assert isinstance(await start(f"https://127.0.0.1:{server.port}"), Started)


async def closes_at_once(connection: Connection) -> None:
    connection.reset()


async def closes_in_the_request(connection: Connection) -> None:
    await connection.reader.readexactly(10_000)
    connection.reset()


async def ends_in_the_request(connection: Connection) -> None:
    await connection.reader.readexactly(10_000)


async def closes_after_the_request(connection: Connection) -> None:
    await connection.request()


async def resets_after_the_request(connection: Connection) -> None:
    await connection.request()
    connection.reset()


async def never_answers(connection: Connection) -> None:
    await connection.request()
    await asyncio.sleep(60)


async def never_reads(connection: Connection) -> None:
    await asyncio.sleep(60)


def answers(data: bytes) -> Script:
    """Says just these bytes to each request, then closes."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(data)

    return script


def answers_and_stops(data: bytes) -> Script:
    """Says just these bytes to a request, then nothing."""

    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(data)
        await asyncio.sleep(60)

    return script


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"

LOSING: dict[str, tuple[Script, RunRequest]] = {
    "closed at once": (closes_at_once, SMALL),
    "closed at once, before a large request": (closes_at_once, LARGE),
    "reset in the request": (closes_in_the_request, LARGE),
    "closed in the request": (ends_in_the_request, LARGE),
    "closed instead of an answer": (closes_after_the_request, SMALL),
    "reset instead of an answer": (resets_after_the_request, SMALL),
    "no answer in time": (never_answers, SMALL),
    "the request is not read": (never_reads, LARGE),
    "closed in the head": (answers(b"HTTP/1.1 200 OK\r\nContent-Le"), SMALL),
    "closed in the body": (answers(answer()[:-10]), SMALL),
    "nothing more in the body": (answers_and_stops(answer()[:-10]), SMALL),
    "closed in a chunk": (answers(CHUNKED + b"40\r\n" + QUEUED[:-5]), SMALL),
    "a chunk without a size": (answers(CHUNKED + b"zz\r\n" + QUEUED), SMALL),
    "a length that is none": (answers(b"HTTP/1.1 200 OK\r\nContent-Length: some\r\n\r\n" + QUEUED), SMALL),
    "two lengths": (answers(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n" + QUEUED), SMALL),
    "a length too short": (answers(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n" + QUEUED), SMALL),
    "no HTTP": (answers(b"220 mail.example ESMTP\r\n"), SMALL),
    "a header without an end": (answers(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000), SMALL),
    "damaged gzip": (answers(answer(b"\x1f\x8b" + QUEUED, 200, "Content-Encoding: gzip")), SMALL),
}


@pytest.mark.long
@pytest.mark.parametrize("how", LOSING)
async def test_lost(how: str) -> None:
    """Once the request may have left, whatever goes wrong may have started a run. It is sent once."""
    script, request = LOSING[how]
    async with serving(script) as server:
        said = await start(server.url, request)
        assert isinstance(said, Lost), said
        assert "a run may exist" in said.why
        assert server.connections == 1
        assert len(server.requests) == (request is SMALL and script is not closes_at_once)


async def test_cut_off_after_the_run() -> None:
    """Where all of the run was told and only HTTP's own end is missing, the run is known."""
    async with serving(answers(CHUNKED + b"%x\r\n%s\r\n" % (len(QUEUED), QUEUED))) as server:
        said = await start(server.url)
        assert isinstance(said, Started)
        assert said.run.run_id == "run-1"


async def test_a_stale_connection_is_no_reason_to_send_again() -> None:
    """A server that drops a kept-alive connection at its second request: that start is lost and was sent once.

    A poll in the same place is sent again by aiohttp, which shows that the case is the one it means to be.
    """

    async def drops_the_second(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer())
        await connection.request()

    async with serving(drops_the_second) as server, client_of(server.url) as client:
        assert isinstance(await client.start(StartRequest("invoice", SMALL)), Started)
        assert isinstance(await client.start(StartRequest("invoice", SMALL)), Lost)
        assert (server.connections, len(server.requests)) == (1, 2)
        await client.look("run-1")
        await client.look("run-1")
        assert (server.connections, len(server.requests)) == (3, 5)


async def test_a_connection_that_the_service_has_closed_is_not_used() -> None:
    """A service that closes after each answer without saying so costs a connection, not a run."""

    async def answers_once(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer())

    async with serving(answers_once) as server, client_of(server.url) as client:
        for connections in (1, 2, 3):
            assert isinstance(await client.start(StartRequest("invoice", SMALL)), Started)
            assert server.connections == connections
            await asyncio.sleep(0.02)


@pytest.mark.long
async def test_no_start_on_a_connection_that_was_idle() -> None:
    """At once the connection is used again; after more than half a second it is not."""
    async with serving(behaves) as server, client_of(server.url) as client:
        await client.start(StartRequest("invoice", SMALL))
        await client.start(StartRequest("invoice", SMALL))
        assert server.connections == 1
        await asyncio.sleep(0.6)
        await client.start(StartRequest("invoice", SMALL))
        assert server.connections == 2
