"""Requests on aiohttp's connections, and the proxy that the environment names.

httpx's own pool costs time quadratic in the requests in flight, aiohttp's doesn't. What matters here beside speed is
that an error says the truth: `httpx.ConnectError`, `ConnectTimeout`, `ProxyError` and `UnsupportedProtocol` are raised
only where no byte of the request has left; whatever may have reached the service is another error.

aiohttp is imported with this module, so only what opens a connection imports it. It needs asyncio.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
import os
import re
import select
import socket
import ssl
import sys
import time
from contextvars import ContextVar
from functools import cache, partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn
from urllib.request import getproxies

import aiohttp
import anyio
import httpx
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import HttpProcessingError
from yarl import URL

from batch_runner.errors import UsageError
from batch_runner.service.http.client import is_loopback
from batch_runner.service.http.response import Response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiohttp.connector import Connection

    from batch_runner.service.http.client import Request

AUTHORITIES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Variables that name whom to trust, the first that is set: OpenSSL's own, then those of requests and curl."""


def tls_context() -> ssl.SSLContext:
    """How connections are secured, by the authorities that the environment names, else those of certifi.

    Raises `UsageError` where what is named can't be used: nothing has been sent then.
    """
    name = next((name for name in AUTHORITIES if os.environ.get(name, "").strip()), None)
    if name is None:
        return httpx.create_ssl_context(trust_env=False)
    path = Path(os.environ[name].strip())
    try:
        if path.is_dir():
            return ssl.create_default_context(capath=path)
        path.open("rb").close()  # for the system's own word of what is wrong with it
        return ssl.create_default_context(cafile=path)
    except OSError as error:
        raise UsageError(
            f"{name} names {path}, which can't be used: {error.strerror or error}; name a file (or a folder) of "
            "certificates in PEM, or unset it (batch-runner help network)"
        ) from error


def environment_proxy(scheme: str, host: str, port: int | None) -> str | None:
    """The proxy that the environment names for an origin; never one for a loopback address."""
    proxies = getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or is_loopback(host) or needs_no_proxy(host, port, proxies.get("no", "")):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if not proxy.startswith(("http://", "https://")):
        kind = proxy.partition("://")[0]
        raise httpx.UnsupportedProtocol(f"a proxy of the kind {kind} (from the environment) can't be used, only http")
    return proxy


def needs_no_proxy(host: str, port: int | None, listed: str) -> bool:
    """Whether `NO_PROXY` lists a host, in any of the forms that curl, requests and urllib know.

    `*` is every host. `example.com`, `.example.com` and `*.example.com` are that domain and all below it, and
    `example.com:8443` is one port of it. `10.0.0.0/8` is a network of addresses (CIDR).
    """
    return any(_lists(entry, host.lower().strip("[]"), port) for entry in listed.lower().replace(",", " ").split())


def _lists(entry: str, host: str, port: int | None) -> bool:
    name, colon, only = entry.rpartition(":")
    if colon and only.isdecimal() and (name.endswith("]") or ":" not in name):
        return only == str(port) and _lists(name, host, port)
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry.strip("[]"), strict=False)
    except ValueError:  # one of the two is a name
        domain = entry.removeprefix("*").lstrip(".")
        return entry == "*" or (bool(domain) and f".{host}".endswith(f".{domain}"))


IDLE_LIMIT = 0.5
"""Seconds that a connection may have been idle when a request goes out on it. The promise is one second; the other
half is for the way: the server began to count when it had sent its answer, not when we had it."""

MOST_INTERIM = 20
"""Interim answers (100 Continue, 103 Early Hints) before one answer; who sends more ends its connection."""

ALIVE_AFTER, ALIVE_EVERY, ALIVE_TRIES = 45, 30, 6
"""Seconds of silence after which TCP asks whether the other end is there, and how often: some NATs and load balancers
forget a connection that was silent for 60 s, most after 350 s, and a sync start is silent for as long as its run."""


def keep_alive(sock: socket.socket) -> None:
    """Let TCP itself keep a connection known on its way, as far as the system can be told how."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    wanted = {"TCP_KEEPIDLE": ALIVE_AFTER, "TCP_KEEPINTVL": ALIVE_EVERY, "TCP_KEEPCNT": ALIVE_TRIES}
    for name, value in wanted.items():
        if (option := getattr(socket, name, None)) is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _kept_alive_socket(address: tuple[object, ...]) -> socket.socket:
    """A socket for an address that `getaddrinfo` gave."""
    family, kind, protocol = address[:3]
    sock = socket.socket(family, kind, protocol)  # type: ignore[arg-type]
    keep_alive(sock)
    return sock


class UnreadAnswer(Exception):  # noqa: N818  it says of a connection what it is
    """A connection that was to be used again holds an answer that nobody asked for. Nothing was sent on it."""


class _Protocol(ResponseHandler):
    """One connection. It ends when it brings interim answers without end."""

    _interim = 0
    was_used = False

    def feed_data(self, data: object, size: int = 0) -> None:
        message = data[0]  # type: ignore[index]
        self._interim = self._interim + 1 if 100 <= message.code < 200 else 0
        if self._interim > MOST_INTERIM and self.transport is not None:
            self.transport.abort()
            self.set_exception(aiohttp.ClientConnectionError("the service sent interim answers without end"))
        super().feed_data(data, size)  # type: ignore[arg-type]


_has_left: ContextVar[bool] = ContextVar("_has_left", default=False)
"""Whether the request of this context has been given to a connection to its service: a CONNECT comes before."""


class _Request(aiohttp.ClientRequest):
    """A request that goes out only on a connection which holds no answer to another one.

    A gateway may say 408 to an idle connection, a service may answer once too often. aiohttp would take it for the
    answer to the next request: a row would get another row's run.
    """

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        _take(conn)
        return await super().send(conn)


def _take(conn: Connection) -> tuple[_Protocol, asyncio.Transport]:
    """What a request is about to go out on. Raises `UnreadAnswer`: then it doesn't."""
    protocol, transport = conn.protocol, conn.transport
    assert isinstance(protocol, _Protocol)
    if protocol.was_used and (protocol.should_close or _has_unread(protocol)):
        raise UnreadAnswer
    if transport is None or transport.is_closing():
        raise aiohttp.ClientConnectionResetError("the connection was closed before the request could leave")
    protocol.was_used = True
    _has_left.set(True)
    return protocol, transport


def _has_unread(protocol: ResponseHandler) -> bool:
    """Whether bytes have come that aiohttp hasn't read yet, or the end."""
    sock = protocol.transport.get_extra_info("socket") if protocol.transport is not None else None
    if sock is None or sock.fileno() < 0:
        return True
    if sys.platform == "win32":
        return bool(select.select([sock.fileno()], [], [], 0)[0])
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return bool(poll.poll(0))


_CLOCK_JUMP = 1.0
"""Seconds by which wall clock and monotonic clock may drift between two requests; more, and the machine has slept."""

_PIECE = 2**16
"""Bytes of a request that are handed over at once; a longer one goes out as the connection takes it."""

_AT_ONCE = _PIECE // 2
"""Bytes of a body that never wait, head included: a connection takes 64 KiB before it asks anybody to."""

_ERRORS: tuple[tuple[type[Exception], type[httpx.TransportError], str], ...] = (
    (aiohttp.ClientProxyConnectionError, httpx.ProxyError, "the proxy can't be reached: {error.os_error}"),
    (aiohttp.ClientHttpProxyError, httpx.ProxyError, "the proxy said {error.status} {error.message}"),
    (aiohttp.ClientConnectorCertificateError, httpx.ConnectError, "{error.host}: {error.certificate_error}"),
    (aiohttp.ClientConnectorError, httpx.ConnectError, "{error.host}:{error.port}: {error.os_error}"),
    (aiohttp.ServerFingerprintMismatch, httpx.ConnectError, "{error}"),
    (aiohttp.ConnectionTimeoutError, httpx.ConnectTimeout, "the service did not take the connection in time"),
    (aiohttp.RedirectClientError, httpx.RemoteProtocolError, "{error}"),
    (aiohttp.NonHttpUrlClientError, httpx.UnsupportedProtocol, "{error}"),
    (aiohttp.InvalidURL, httpx.UnsupportedProtocol, "{error}"),
    (aiohttp.ServerTimeoutError, httpx.ReadTimeout, "no answer came in time"),
    (TimeoutError, httpx.WriteTimeout, "the service did not take the request in time"),
    (aiohttp.ClientResponseError, httpx.RemoteProtocolError, "what came is no HTTP: {error.message}"),
    (HttpProcessingError, httpx.RemoteProtocolError, "what came is no HTTP: {error.message}"),
    (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError, "the service closed the connection"),
    (aiohttp.ClientPayloadError, httpx.ReadError, "the answer was cut off"),
    (aiohttp.ClientError, httpx.ReadError, "{error}"),
    (OSError, httpx.ReadError, "{error}"),
)
"""The first that fits: the narrow classes stand before those that they derive from. Beside them what a person reads."""


_NOTHING_LEFT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.ProxyError, httpx.UnsupportedProtocol)


class AiohttpTransport:
    """Sends requests on keep-alive connections that are never older in idleness than `IDLE_LIMIT`.

    It never repeats a start, and anything else once at most, where the connection broke. It follows no redirect, keeps
    no cookies and decodes no content. The number of connections is the caller's to bound. Proxies come from the
    environment (`HTTPS_PROXY`, `NO_PROXY`); a loopback address never goes through one. Of the request's timeouts
    `connect` bounds name lookup, TCP and TLS together, and `read` each wait for bytes. `tls` is a `tls_context`;
    without it, the first request to https makes one.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        self._sessions: list[aiohttp.ClientSession] = []
        self._clock_gap = 0.0
        self._proxy = cache(environment_proxy)
        self._way_to = cache(partial(aiohttp.ClientRequest, "GET"))

    async def send(self, request: Request) -> Response:
        """Send one request; an answer's body that hasn't come whole is still to be read."""
        token = _has_left.set(False)
        url = URL(request.url, encoded=True)
        try:
            proxy = self._proxy(url.scheme, url.host or "", url.explicit_port)
            if proxy is None and len(request.body) <= _AT_ONCE:
                return await self._send_at_once(request, url)
            async with asyncio.timeout(_whole_wait(request) if len(request.body) > _AT_ONCE else None):
                return await self._send(request, url, proxy)
        except (aiohttp.ClientError, HttpProcessingError, OSError) as error:
            _raise_told(error)
        except asyncio.CancelledError:
            if _has_left.get() or anyio.current_effective_deadline() != -math.inf:
                raise
            # Who is cancelled has to know that no run was started. The scope asks for the end again at the next wait.
            raise httpx.ConnectError("the wait for a connection was cut short") from None
        finally:
            _has_left.reset(token)  # a context keeps what it holds for as long as its run is followed

    async def _send_at_once(self, request: Request, url: URL) -> Response:
        """Send what never waits for a connection to take it, and to no proxy: nearly every request.

        All that aiohttp has for a request, beside its connections, costs twice as much as this.
        """
        data, may_repeat = _head(request, url) + request.body, request.method != "POST"
        while True:
            conn = await self._connection(request, url)
            try:
                return await _exchange(conn, data, request.read)
            except UnreadAnswer:
                continue  # nothing has left on it
            except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
                if not may_repeat:
                    raise
                may_repeat = False  # as aiohttp does: it may have been the connection alone

    async def _connection(self, request: Request, url: URL) -> Connection:
        connector, timeout = self._session(url.scheme).connector, _client_timeout(request.connect, request.read)
        assert connector is not None
        try:
            return await connector.connect(self._way_to(url.origin()), [], timeout)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError from error

    async def _send(self, request: Request, url: URL, proxy: str | None) -> Response:
        body = request.body
        while True:
            try:
                answer = await self._session(url.scheme).request(
                    request.method,
                    url,
                    headers=request.headers,
                    data=BytesIO(body) if len(body) > _PIECE else body or None,
                    allow_redirects=False,
                    proxy=proxy,
                    timeout=_client_timeout(request.connect, request.read),
                )
            except UnreadAnswer:
                continue  # that connection is closed now; nothing has left on it
            return Response(answer.status, answer.raw_headers, _body(answer.content, answer.release))

    async def aclose(self) -> None:
        """Close all connections."""
        while self._sessions:
            await self._sessions.pop().close()

    def _session(self, scheme: str) -> aiohttp.ClientSession:
        """The session to send with: a new one after the machine has slept.

        The monotonic clock, by which aiohttp knows idle connections, may have stood still in that time. What is
        still in flight on the old session ends there.
        """
        gap = time.time() - time.monotonic()
        if not self._sessions or abs(gap - self._clock_gap) > _CLOCK_JUMP:
            if scheme == "https" and self._tls is None:
                self._tls = tls_context()
            connector = aiohttp.TCPConnector(
                limit=0, keepalive_timeout=IDLE_LIMIT, ssl=self._tls or True, socket_factory=_kept_alive_socket
            )
            # aiohttp 3 offers no other way to a protocol of one's own.
            connector._factory = partial(_Protocol, loop=asyncio.get_running_loop())  # type: ignore[assignment]
            self._sessions.append(
                aiohttp.ClientSession(
                    connector=connector,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    auto_decompress=False,
                    request_class=_Request,
                )
            )
        self._clock_gap = gap
        return self._sessions[-1]


_BREAK = re.compile(r"[\r\n\0]")


def _head(request: Request, url: URL) -> bytes:
    """The head of a request. Raises `ValueError` for a header that would be two."""
    lines = [f"{request.method} {url.raw_path_qs} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers)]
    if any(map(_BREAK.search, lines)):
        raise ValueError("a header can't hold a line break")
    return "\r\n".join([*lines, "\r\n"]).encode()


async def _exchange(conn: Connection, data: bytes, read: float) -> Response:
    """Send a request, and wait for its answer's head. Who reads the body to its end frees the connection."""
    try:
        protocol, transport = _take(conn)
        protocol.set_response_params(read_until_eof=True, auto_decompress=False, read_timeout=read)
        transport.write(data)
        protocol.start_timeout()
        message, content = await protocol.read()
        while 100 <= message.code < 200 and message.code != 101:
            message, content = await protocol.read()
    except BaseException:
        conn.close()
        raise
    content.on_eof(conn.release)
    return Response(message.code, message.raw_headers, _body(content, conn.release))


def _body(content: aiohttp.StreamReader, release: Callable[[], object]) -> bytes | httpx.AsyncByteStream:
    """The body of an answer: most come whole with their head, so that there is nothing to wait for."""
    if not content.is_eof() or content.exception() is not None:
        return _Body(content, release)
    data = content.read_nowait()
    release()
    return data


class _Body(httpx.AsyncByteStream):
    """The body of an answer as it arrives. Closed before its end, it takes its connection along."""

    def __init__(self, content: aiohttp.StreamReader, release: Callable[[], object]) -> None:
        self._content = content
        self._release = release

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError) as error:
            raise httpx_error(error) from error

    async def aclose(self) -> None:
        self._release()


def _raise_told(error: Exception) -> NoReturn:
    """Raise what an error means for the request of this context. One that never left has no cause to be judged by."""
    told = httpx_error(error)
    if not (_has_left.get() or isinstance(told, _NOTHING_LEFT)):
        raise httpx.ConnectError(f"no way to the service: {told}") from None
    raise told from error


def httpx_error(error: Exception) -> httpx.TransportError:
    """The httpx error that says what an error of aiohttp means for the request."""
    kind, words = next((kind, words) for fits, kind, words in _ERRORS if isinstance(error, fits))
    return kind(words.format(error=error))


@cache
def _client_timeout(connect: float, read: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(connect=connect, sock_connect=connect, sock_read=read)


def _whole_wait(request: Request) -> float:
    """The longest that an answer's first byte can take.

    aiohttp has no timeout for writing. It counts `connect` and `read` itself, so what is still going on when all
    three have passed is the writing.
    """
    return request.connect + request.write + request.read
