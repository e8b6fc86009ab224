"""The transport: connections, and a machine that has slept."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from certificates import make_certificate, tls_of
from scripted_server import Connection, answer, behaves, serving

from batch_runner.errors import UsageError
from batch_runner.service.http import response, transport
from batch_runner.service.http.client import Client, Request
from batch_runner.service.http.transport import AiohttpTransport, environment_proxy, needs_no_proxy
from batch_runner.service.protocol import LookFailed, Lost, RunRequest, RunSeen, Started, StartRequest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

START = RunRequest(input_params={"a": "b"})
LONG_START = RunRequest(input_params={"a": "b" * 50_000})
"""One whose body may have to wait until the connection takes it."""


async def test_a_request_goes_out_as_it_is() -> None:
    """Its target isn't normalised, its body is whole; the answer's status and body come as they were sent."""
    async with serving(behaves) as server:
        transport, headers = AiohttpTransport(), [("Host", "a.b"), ("X-One", "1"), ("Content-Length", "7")]
        said = await transport.send(Request("POST", f"{server.url}/a%2fb/%7E", headers, b'{"a":1}', 5.0, 5.0, 5.0))
        await transport.aclose()
        assert (said.status, said.body) == (200, b'{"run_id": "run-1", "status": "queued"}')
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        assert (head.split(b"\r\n")[0], body) == (b"POST /a%2fb/%7E HTTP/1.1", b'{"a":1}')


@pytest.mark.parametrize("header", [("X-One", "1\r\nX-Two: 2"), ("X-One\n", "1"), ("X-One", "\0")])
async def test_a_header_is_one_header(header: tuple[str, str]) -> None:
    """One that holds a line break, or what C takes for the end of a text, is never sent."""
    async with serving(behaves) as server:
        transport = AiohttpTransport()
        with pytest.raises(ValueError, match="header"):
            await transport.send(Request("GET", f"{server.url}/", [("Host", "a.b"), header], b"", 5.0, 5.0, 5.0))
        await transport.aclose()
        assert server.requests == []


@pytest.mark.parametrize("request_", [START, LONG_START])
async def test_what_is_no_http_is_told_so(request_: RunRequest) -> None:
    """A mail server that greets on the port: the start is lost, and the reason says what came."""

    async def greets(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"220 mail.example ESMTP\r\n")

    async with serving(greets) as server, Client(server.url, "", AiohttpTransport()) as client:
        said = await client.start(StartRequest("invoice", request_))
    assert isinstance(said, Lost)
    assert "what came is no HTTP" in said.why


@pytest.mark.parametrize("broken", [0, 1, 2])
async def test_a_connection_that_breaks_under_a_look(broken: int) -> None:
    """A look goes out once more on another connection, and no more than that."""

    async def breaks(connection: Connection) -> None:
        await connection.request()
        if len(connection.server.requests) > broken:
            await connection.send(answer())

    async with serving(breaks) as server, Client(server.url, "", AiohttpTransport()) as client:
        assert isinstance(await client.look("run-1"), LookFailed if broken == 2 else RunSeen)
        assert len(server.requests) == min(broken + 1, 2)


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


async def many_starts(url: str, number: int, request: RunRequest = START) -> list[str]:
    """The run ids of so many starts, one after another; what is no run is told as it is."""
    found = []
    async with Client(url, "", AiohttpTransport()) as client:
        for _ in range(number):
            said = await client.start(StartRequest("invoice", request))
            found.append(said.run.run_id if isinstance(said, Started) else repr(said))
            await asyncio.sleep(0.02)
    return found


@pytest.mark.parametrize("pause", [0.0, 0.005])
@pytest.mark.parametrize(
    "extra",
    [
        answer(b'{"run_id": "run-of-another", "status": "success"}'),
        b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 408 Requ",
        b"\r\n",
    ],
)
@pytest.mark.parametrize("request_", [START, LONG_START])
async def test_a_connection_with_an_unread_answer_is_not_used_again(
    extra: bytes, pause: float, request_: RunRequest
) -> None:
    """One answer too many, or a gateway's 408 to an idle connection: no row gets it, each start is sent once."""

    async def says_too_much(connection: Connection) -> None:
        while await connection.request():
            number = len(connection.server.requests)
            await connection.send(answer(b'{"run_id": "run-%d", "status": "queued"}' % number))
            await asyncio.sleep(pause)
            await connection.send(extra)

    async with serving(says_too_much) as server:
        assert await many_starts(server.url, 4, request_) == ["run-1", "run-2", "run-3", "run-4"]
        assert len(server.requests) == 4


async def test_an_unread_answer_behind_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same over TLS, whose own messages after the handshake cost no connection."""
    certificate = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    extra = False

    async def script(connection: Connection) -> None:
        while await connection.request():
            number = len(connection.server.requests)
            await connection.send(answer(b'{"run_id": "run-%d", "status": "queued"}' % number))
            if extra:
                await connection.send(answer(b'{"run_id": "run-of-another", "status": "queued"}'))

    async with serving(script, tls_of(certificate)) as server:
        url = server.url.replace("http:", "https:")
        assert await many_starts(url, 4) == ["run-1", "run-2", "run-3", "run-4"]
        assert server.connections == 1
        extra = True
        assert await many_starts(url, 3) == ["run-5", "run-6", "run-7"]
        assert len(server.requests) == 7


async def test_interim_answers_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few are passed over; a flood of them ends the connection at once, and the start is lost."""
    few = b"HTTP/1.1 100 Continue\r\n\r\n" * 3

    async def some(connection: Connection) -> None:
        while await connection.request():
            await connection.send(few + answer())

    async def flood(connection: Connection) -> None:
        await connection.request()
        while True:
            await connection.send(few)
            await asyncio.sleep(0)

    async with serving(some) as server:
        assert await many_starts(server.url, 3) == ["run-1"] * 3
        assert server.connections == 1
    async with serving(flood) as server, Client(server.url, "", AiohttpTransport()) as client:
        async with asyncio.timeout(60):
            said = await client.start(StartRequest("invoice", START))
        assert isinstance(said, Lost)
        assert "interim answers without end" in said.why


async def test_a_body_that_drips_has_its_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A byte now and then holds a place no longer than the bound on the whole answer."""
    monkeypatch.setattr(response, "LONGEST_READ", 0.3)

    async def drips(connection: Connection) -> None:
        await connection.request()
        await connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            await connection.send(b" ")
            await asyncio.sleep(0.01)

    async with serving(drips) as server, Client(server.url, "", AiohttpTransport()) as client:
        async with asyncio.timeout(60):  # it drips for as long as somebody listens
            assert isinstance(await client.start(StartRequest("invoice", START)), Lost)


async def test_connections_are_kept_alive_by_tcp(monkeypatch: pytest.MonkeyPatch) -> None:
    """On every connection TCP asks after a silence that no NAT takes for the end (350 s at many)."""
    made: list[socket.socket] = []
    whole = transport.keep_alive

    def keep_alive(sock: socket.socket) -> None:
        made.append(sock)
        whole(sock)

    monkeypatch.setattr(transport, "keep_alive", keep_alive)

    async def looks(connection: Connection) -> None:
        while await connection.request():
            assert made[0].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            idle = made[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
            await connection.send(answer(b'{"run_id": "idle-%d", "status": "queued"}' % idle))

    async with serving(looks) as server:
        assert await many_starts(server.url, 1) == [f"idle-{transport.ALIVE_AFTER}"]
    assert transport.ALIVE_AFTER < 350


@pytest.mark.parametrize("name", transport.AUTHORITIES)
@pytest.mark.parametrize("as_folder", [False, True])
async def test_whom_to_trust(name: str, as_folder: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each variable of the field names a file of certificates, or a folder of them."""
    certificate = make_certificate(tmp_path)
    for other in transport.AUTHORITIES:
        monkeypatch.delenv(other, raising=False)
    if as_folder:
        folder = tmp_path / "authorities"
        folder.mkdir()
        hashed = subprocess.run(
            ["openssl", "x509", "-hash", "-noout", "-in", certificate], capture_output=True, text=True, check=True
        ).stdout.strip()
        (folder / f"{hashed}.0").write_bytes(certificate.read_bytes())
        monkeypatch.setenv(name, str(folder))
    else:
        monkeypatch.setenv(name, str(certificate))
    async with serving(behaves, tls_of(certificate)) as server:
        assert await many_starts(server.url.replace("http:", "https:"), 1) == ["run-1"]


@pytest.mark.parametrize("name", transport.AUTHORITIES)
@pytest.mark.parametrize("content", [None, "no certificate"])
def test_authorities_that_cannot_be_used(
    name: str, content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is missing or holds no certificate: one sentence that names variable and file, before any start."""
    for other in transport.AUTHORITIES:
        monkeypatch.delenv(other, raising=False)
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv(name, str(path))
    with pytest.raises(UsageError, match=f"{name} names .*ca.pem"):
        transport.tls_context()


@pytest.mark.parametrize(
    ("listed", "host", "port", "is_listed"),
    [
        ("*", "any.example", None, True),
        ("", "any.example", None, False),
        ("example.com", "example.com", None, True),
        ("example.com", "api.example.com", 443, True),
        ("example.com", "notexample.com", None, False),
        (".example.com", "example.com", None, True),
        ("*.example.com", "api.example.com", None, True),
        ("other, Example.COM", "API.example.com", None, True),
        ("other example.com", "api.example.com", None, True),
        ("example.com:8443", "api.example.com", 8443, True),
        ("example.com:8443", "api.example.com", None, False),
        ("10.0.0.0/8", "10.20.30.40", None, True),
        ("10.0.0.0/8", "11.0.0.1", None, False),
        ("192.168.1.7", "192.168.1.7", 80, True),
        ("192.168.1.7", "192.168.1.77", 80, False),
        ("fd00::/8", "fd00::1", None, True),
        ("[fd00::1]:8080", "fd00::1", 8080, True),
        ("[fd00::1]:8080", "fd00::1", 80, False),
        ("10.0.0.0/8", "ten.example", None, False),
    ],
)
def test_what_no_proxy_lists(listed: str, host: str, port: int | None, is_listed: bool) -> None:
    """Domains, one port, networks and the star, as curl, requests and urllib have them."""
    assert needs_no_proxy(host, port, listed) is is_listed
