"""Starts through a proxy: one of the environment, and one that cuts the connection."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from certificates import make_certificate, tls_of
from one_start import assert_never_sent, forget_proxies, start
from ports import kept_port
from scripted_server import Connection, Server, answer, behaves, serving

from batch_runner.service.protocol import Lost, RefusalScope, Refused, Started

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from scripted_server import Script

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def no_proxy_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_proxies(monkeypatch)


def says(data: bytes) -> Script:
    async def script(connection: Connection) -> None:
        await connection.request()
        await connection.send(data)

    return script


def tunnel_to(service: Server, cut: Callable[[], int | None]) -> Script:
    """A proxy that makes a tunnel; once `cut` names a number it passes on so many bytes of the answer and hangs up."""

    async def pump(connection: Connection, reader: asyncio.StreamReader) -> None:
        while data := await reader.read(65536):
            if (left := cut()) is not None:
                connection.writer.write(data[:left])
                connection.writer.close()
                return
            await connection.send(data)

    async def script(connection: Connection) -> None:
        await connection.request()
        reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
        try:
            await connection.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            async with asyncio.TaskGroup() as pumps:
                answers = pumps.create_task(pump(connection, reader))
                while not answers.done() and (data := await connection.reader.read(65536)):
                    writer.write(data)
                answers.cancel()
        finally:
            writer.transport.abort()

    return script


async def test_a_proxy_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy of the environment is used, and where it can't be reached no run was started."""
    with kept_port() as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{port}")
        said = await start("https://service.invalid")
    assert_never_sent(said)
    assert "ProxyError" in str(said)


@pytest.mark.parametrize("status", [307, 403, 404, 500, 502, 503, 504])
async def test_a_proxy_that_makes_no_tunnel(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that says no to CONNECT, before the request: no run was started."""
    async with serving(says(answer(b"", status))) as server:
        monkeypatch.setenv("HTTPS_PROXY", server.url)
        assert_never_sent(await start("https://service.invalid"))
        assert server.requests[0].startswith(b"CONNECT service.invalid:443 ")


async def test_a_proxy_that_wants_a_login_is_no_matter_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 407 to CONNECT: no run was started, and the next try would be answered alike; the reason says what to do."""
    async with serving(says(answer(b"", 407))) as server:
        monkeypatch.setenv("HTTPS_PROXY", server.url)
        said = await start("https://service.invalid")
    assert isinstance(said, Refused)
    assert (said.scope, said.status_code) == (RefusalScope.TASK, None)
    assert "put the proxy's user and password into HTTPS_PROXY" in said.why


@pytest.mark.parametrize(
    "data", [b"", b"no HTTP at all\r\n\r\n", b"HTTP/1.1 200", b"HTTP/1.1 407 No\r\nContent-Length: 90\r\n\r\nx"]
)
async def test_whatever_a_proxy_says_to_connect_no_run_was_started(
    data: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tunnel that never was carried nothing: a proxy that hangs up, speaks nonsense or stops in mid-answer."""
    async with serving(says(data)) as server:
        monkeypatch.setenv("HTTPS_PROXY", server.url)
        said = await start("https://service.invalid")
    assert isinstance(said, Refused), said
    assert said.status_code is None


async def test_an_address_of_the_machine_is_reached_without_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loopback never goes through a proxy, and `NO_PROXY` holds."""
    with kept_port() as port:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{port}")
        async with serving(behaves) as server:
            assert isinstance(await start(server.url), Started)
            assert isinstance(await start(f"http://localhost:{server.port}"), Started)
            assert_never_sent(await start("http://service.invalid"))
            monkeypatch.setenv("NO_PROXY", ".invalid")
            assert "ProxyError" not in str(await start("http://service.invalid"))


async def test_a_proxy_for_plain_http_gets_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """User and password of the proxy's address go to the proxy, and into no message."""
    async with serving(says(answer(b"no", 502))) as server:
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


@pytest.mark.parametrize("passed_on", [None, 0, 30])
async def test_a_tunnel(passed_on: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS goes through the proxy's tunnel. Where that is cut after the service has the start, the start is lost."""
    certificate = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    async with serving(behaves, tls_of(certificate)) as service:

        def cut() -> int | None:
            return passed_on if service.requests else None

        async with serving(tunnel_to(service, cut)) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", proxy.url)
            said = await start("https://service.invalid")
        assert isinstance(said, Started if passed_on is None else Lost), said
        assert len(service.requests) == 1
