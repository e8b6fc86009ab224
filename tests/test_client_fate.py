"""What each end of a start says about its run, over real sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING

import pytest
from scripted_server import QUEUED, Connection, answer, behaves, serving

from batch_runner.api import RunRequest
from batch_runner.client import Client, Lost, Reach, Refused, Started
from batch_runner.request import Timeouts
from batch_runner.transport import AiohttpTransport

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from scripted_server import Script

pytestmark = pytest.mark.anyio

SMALL = RunRequest(input_params={"File Name": "invoice.pdf"})
LARGE = RunRequest(input_params={"text": "x" * 20_000_000})
HASTY = Timeouts(connect=0.3, write=0.2, read=0.2, start_read=0.2)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def no_proxy_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[Client]:
    async with Client(url, "secret-key", AiohttpTransport(), HASTY) as client:
        yield client


async def start(url: str, request: RunRequest = SMALL) -> Started | Refused | Lost:
    async with client_of(url) as client:
        return await client.start("invoice", request)


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        port: int = listening.getsockname()[1]
    return port


def assert_never_sent(said: Started | Refused | Lost) -> None:
    assert isinstance(said, Refused), said
    assert (said.reach, said.status_code) == (Reach.AGAIN, None)
    assert said.why.startswith("no connection was made: ")


async def test_refused() -> None:
    """Where nobody listens, no run was started."""
    assert_never_sent(await start(f"http://127.0.0.1:{free_port()}"))


async def test_no_such_host() -> None:
    """Where the name has no address, no run was started (`.invalid` never has: RFC 6761)."""
    assert_never_sent(await start("http://service.invalid"))


async def test_connect_timeout() -> None:
    """Where the listener's queue is full and nobody accepts, no run was started."""
    with closing(socket.socket()) as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(listening.getsockname())
        said = await start(f"http://127.0.0.1:{listening.getsockname()[1]}")
        for one in waiting:
            one.close()
    assert_never_sent(said)
    assert isinstance(said, Refused)
    assert "in time" in said.why


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


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that nobody has signed, and its key."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = [
        "-days",
        "2",
        "-subj",
        "/CN=test",
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-out",
        str(cert),
        "-keyout",
        str(key),
    ]
    try:
        subprocess.run([*command, *names], check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("needs the openssl program")
    return cert, key


def tls_of(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    return context


async def test_tls_with_a_certificate_that_nobody_signed(certificate: tuple[Path, Path]) -> None:
    """A certificate that isn't trusted: no run was started, and the reason says so."""
    async with serving(behaves, tls_of(certificate)) as server:
        said = await start(f"https://127.0.0.1:{server.port}")
        assert_never_sent(said)
        assert "certificate" in str(said)
        assert server.requests == []


async def test_tls_with_a_certificate_of_the_house(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`SSL_CERT_FILE` names whom to trust."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
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
    "closed at once": (closes_at_once, LARGE),
    "reset in the request": (closes_in_the_request, LARGE),
    "closed in the request": (ends_in_the_request, LARGE),
    "closed instead of an answer": (closes_after_the_request, SMALL),
    "reset instead of an answer": (resets_after_the_request, SMALL),
    "no answer in time": (never_answers, SMALL),
    "the request is not read": (never_reads, LARGE),
    "closed in the head": (answers(b"HTTP/1.1 200 OK\r\nContent-Le"), SMALL),
    "closed in the body": (answers(answer()[:-10]), SMALL),
    "nothing more in the body": (answers_and_stops(answer()[:-10]), SMALL),
    "closed in a chunk": (answers(CHUNKED + b"40\r\n" + QUEUED), SMALL),
    "closed between chunks": (answers(CHUNKED + b"%x\r\n%s\r\n" % (len(QUEUED), QUEUED)), SMALL),
    "a chunk without a size": (answers(CHUNKED + b"zz\r\n" + QUEUED), SMALL),
    "a length that is none": (answers(b"HTTP/1.1 200 OK\r\nContent-Length: some\r\n\r\n" + QUEUED), SMALL),
    "two lengths": (answers(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n" + QUEUED), SMALL),
    "a length too short": (answers(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n" + QUEUED), SMALL),
    "no HTTP": (answers(b"220 mail.example ESMTP\r\n"), SMALL),
    "a header without an end": (answers(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000), SMALL),
    "gzip that is none": (answers(answer(QUEUED, 200, "Content-Encoding: gzip")), SMALL),
}


@pytest.mark.parametrize("how", LOSING)
async def test_lost(how: str) -> None:
    """Once the request may have left, whatever goes wrong may have started a run. It is sent once."""
    script, request = LOSING[how]
    async with serving(script) as server:
        said = await start(server.url, request)
        assert isinstance(said, Lost), said
        assert "a run may exist" in said.why
        assert server.connections == 1
        assert len(server.requests) == (request is SMALL)


async def test_a_stale_connection_is_no_reason_to_send_again() -> None:
    """A server that drops a kept-alive connection at its second request: that start is lost and was sent once.

    A poll in the same place is sent again by aiohttp, which shows that the case is the one it means to be.
    """

    async def drops_the_second(connection: Connection) -> None:
        await connection.request()
        await connection.send(answer())
        await connection.request()

    async with serving(drops_the_second) as server, client_of(server.url) as client:
        assert isinstance(await client.start("invoice", SMALL), Started)
        assert isinstance(await client.start("invoice", SMALL), Lost)
        assert (server.connections, len(server.requests)) == (1, 2)
        await client.poll("run-1")
        await client.poll("run-1")
        assert (server.connections, len(server.requests)) == (3, 5)


async def test_no_start_on_a_connection_that_was_idle() -> None:
    """At once the connection is used again; after more than half a second it is not."""
    async with serving(behaves) as server, client_of(server.url) as client:
        await client.start("invoice", SMALL)
        await client.start("invoice", SMALL)
        assert server.connections == 1
        await asyncio.sleep(0.6)
        await client.start("invoice", SMALL)
        assert server.connections == 2


async def test_a_proxy_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy of the environment is used, and where it can't be reached no run was started."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{free_port()}")
    said = await start("https://service.invalid")
    assert_never_sent(said)
    assert "ProxyError" in str(said)


@pytest.mark.parametrize("status", [403, 407, 502, 503])
async def test_a_proxy_that_makes_no_tunnel(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that says no to CONNECT, before the request: no run was started."""
    async with serving(answers(answer(b"", status))) as server:
        monkeypatch.setenv("HTTPS_PROXY", server.url)
        assert_never_sent(await start("https://service.invalid"))
        assert server.requests[0].startswith(b"CONNECT service.invalid:443 ")


async def test_an_address_of_the_machine_is_reached_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback never goes through a proxy, and `NO_PROXY` holds."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{free_port()}")
    async with serving(behaves) as server:
        assert isinstance(await start(server.url), Started)
        assert isinstance(await start(f"http://localhost:{server.port}"), Started)
        assert_never_sent(await start("http://service.invalid"))
        monkeypatch.setenv("NO_PROXY", ".invalid")
        assert "ProxyError" not in str(await start("http://service.invalid"))


async def test_a_proxy_for_plain_http_gets_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """User and password of the proxy's address go to the proxy, and into no message."""
    async with serving(answers(answer(b"no", 502))) as server:
        monkeypatch.setenv("HTTP_PROXY", f"http://user:sesame@127.0.0.1:{server.port}")
        said = await start("http://service.invalid")
        assert isinstance(said, Lost)
        assert b"Proxy-Authorization: Basic " in server.requests[0]
        assert "sesame" not in said.why


async def test_a_kind_of_proxy_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A SOCKS proxy is not passed over in silence: nothing is sent, and the reason names the kind, not the password."""
    monkeypatch.setenv("ALL_PROXY", "socks5://user:sesame@127.0.0.1:1080")
    said = await start("http://service.invalid")
    assert_never_sent(said)
    assert "socks5" in str(said)
    assert "sesame" not in str(said)
