"""httpx's transport over aiohttp's connections, and the proxy that the environment names.

httpx's own pool costs time quadratic in the requests in flight, aiohttp's doesn't. What matters here beside speed is
that an error says the truth: `httpx.ConnectError`, `ConnectTimeout`, `ProxyError` and `UnsupportedProtocol` are raised
only where no byte of the request has left; whatever may have reached the service is another error.

aiohttp is imported with this module, so only what opens a connection imports it. It needs asyncio.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING
from urllib.request import getproxies, proxy_bypass

import aiohttp
import httpx
from yarl import URL

from batch_runner.service.http.client import is_loopback

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping


def environment_proxy(scheme: str, host: str, port: int | None) -> str | None:
    """The proxy that the environment names for an origin; never one for a loopback address."""
    proxies = getproxies()
    proxy = proxies.get(scheme) or proxies.get("all")
    if not proxy or is_loopback(host) or proxy_bypass(f"{host}:{port}" if port else host):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if not proxy.startswith(("http://", "https://")):
        kind = proxy.partition("://")[0]
        raise httpx.UnsupportedProtocol(f"a proxy of the kind {kind} (from the environment) can't be used, only http")
    return proxy


IDLE_LIMIT = 0.5
"""Seconds that a connection may have been idle when a request goes out on it. The promise is one second; the other
half is for the way: the server began to count when it had sent its answer, not when we had it."""

_CLOCK_JUMP = 1.0
"""Seconds by which wall clock and monotonic clock may drift between two requests; more, and the machine has slept."""

_PIECE = 2**16
"""Bytes of a request that are handed over at once; a longer one goes out as the connection takes it."""

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
    (aiohttp.ServerDisconnectedError, httpx.RemoteProtocolError, "the service closed the connection"),
    (aiohttp.ClientPayloadError, httpx.ReadError, "the answer was cut off"),
    (aiohttp.ClientError, httpx.ReadError, "{error}"),
    (OSError, httpx.ReadError, "{error}"),
)
"""The first that fits: the narrow classes stand before those that they derive from. Beside them what a person reads."""


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Sends requests on keep-alive connections that are never older in idleness than `IDLE_LIMIT`.

    It neither repeats a request nor follows a redirect, keeps no cookies and decodes no content. The number of
    connections is the caller's to bound. Proxies come from the environment (`HTTPS_PROXY`, `NO_PROXY`) as urllib
    reads it; a loopback address never goes through one. Of the request's timeouts `connect` bounds name lookup, TCP
    and TLS together, and `read` each wait for bytes.
    """

    def __init__(self) -> None:
        self._sessions: list[aiohttp.ClientSession] = []
        self._clock_gap = 0.0
        self._proxy = cache(environment_proxy)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request, exactly once; the answer's body is still to be read."""
        url = str(request.url)
        timeouts = request.extensions.get("timeout", {})
        body = await request.aread()
        with _httpx_errors():
            async with asyncio.timeout(_whole_wait(timeouts)):
                answer = await self._session(request.url.scheme).request(
                    request.method,
                    URL(url, encoded=True),
                    headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw],
                    data=BytesIO(body) if len(body) > _PIECE else body or None,
                    allow_redirects=False,
                    proxy=self._proxy(request.url.scheme, request.url.host, request.url.port),
                    timeout=_client_timeout(timeouts.get("connect"), timeouts.get("read")),
                )
        return httpx.Response(answer.status, headers=answer.raw_headers, stream=_body(answer))

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
            tls = httpx.create_ssl_context() if scheme == "https" else True
            connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=IDLE_LIMIT, ssl=tls)
            jar = aiohttp.DummyCookieJar()
            self._sessions.append(aiohttp.ClientSession(connector=connector, cookie_jar=jar, auto_decompress=False))
        self._clock_gap = gap
        return self._sessions[-1]


def _body(answer: aiohttp.ClientResponse) -> httpx.AsyncByteStream:
    """The body of an answer: most come whole with their head, so that there is nothing to wait for."""
    content = answer.content
    if not content.is_eof() or content.exception() is not None:
        return _Body(answer)
    data = content.read_nowait()
    answer.release()
    return httpx.ByteStream(data)


class _Body(httpx.AsyncByteStream):
    """The body of an answer as it arrives. Closed before its end, it takes its connection along."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _httpx_errors():
            async for chunk in self._answer.content.iter_any():
                yield chunk

    async def aclose(self) -> None:
        self._answer.release()


@contextmanager
def _httpx_errors() -> Iterator[None]:
    try:
        yield
    except (aiohttp.ClientError, OSError) as error:
        raise httpx_error(error) from error


def httpx_error(error: Exception) -> httpx.TransportError:
    """The httpx error that says what an error of aiohttp means for the request."""
    kind, words = next((kind, words) for fits, kind, words in _ERRORS if isinstance(error, fits))
    return kind(words.format(error=error))


@cache
def _client_timeout(connect: float | None, read: float | None) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(connect=connect, sock_connect=connect, sock_read=read)


def _whole_wait(timeouts: Mapping[str, float | None]) -> float | None:
    """The longest that an answer's first byte can take.

    aiohttp has no timeout for writing. It counts `connect` and `read` itself, so what is still going on when all
    three have passed is the writing.
    """
    parts = [timeouts.get(name) for name in ("connect", "write", "read")]
    return None if None in parts else sum(part or 0.0 for part in parts)
