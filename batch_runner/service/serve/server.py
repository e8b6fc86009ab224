"""The embedded service on a port: of this machine alone, or, with a key, for others too.

And who may use a page on a port of this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hmac
import math
import signal
import socket
import sys
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode

import anyio
import msgspec
import uvicorn
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from batch_runner import log
from batch_runner.errors import UsageError, reason_of
from batch_runner.service.serve.app import LoopbackMiddleware, is_surely_loopback, make_app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from anyio.streams.memory import MemoryObjectReceiveStream
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from batch_runner.service.local.service import LocalService


HOST = "127.0.0.1"

HEAD_SECONDS, BODY_SECONDS, IDLE_SECONDS = 20.0, 60.0, 5
"""How long the head of a request may take to come in, its body, and how long a connection may be idle between two."""
LONGEST_HEAD = 1 << 16
"""Bytes of a request's head."""
MOST_CONNECTIONS = 10_000
"""Connections at once, where the limit of open files allows so many."""
RESERVED_FILES = 64
"""Open files that are for all else."""
_AGAIN_SECONDS = 60.0
"""A line of the log about the same trouble comes no sooner than that."""
_BUSY = b"""HTTP/1.1 503 Service Unavailable\r
Retry-After: 5\r
Content-Type: application/json\r
Content-Length: 95\r
Connection: close\r
\r
{"error":{"code":503,"message":"There are too many connections to this service at the moment"}}"""

_PATIENCE = 5
"""Seconds that open connections have to take their answers when the service stops."""


async def serve(
    service: LocalService,
    port: int,
    on_listening: Callable[[str], object],
    *,
    api_key: str | None = None,
    host: str = HOST,
    grace: float = 0.0,
    on_stopping: Callable[[int | None], object] = lambda _: None,
) -> signal.Signals:
    """Serve until SIGINT (Ctrl-C), SIGTERM or Ctrl-Break, which it returns after an orderly end.

    Enters the service itself. `port` 0 takes a free one; `on_listening` is called with the URL once connections are
    accepted. After the signal no run starts, and those whose task has begun have `grace` seconds to end, or until the
    next signal; `on_stopping` is called with their number, and with None when they have had these: one that can't be
    stopped holds up what follows. Needs asyncio, in the main thread. Raises UsageError if the port can't be had.
    """
    with _heard() as signals:
        async with service, listen(service, port, host, api_key=api_key) as url:
            on_listening(url)
            first = await signals.receive()
            on_stopping(service.runs.running)
            async with anyio.create_task_group() as group:
                group.start_soon(_cancel_at_next, signals, group.cancel_scope)
                await service.wind_down(grace)
                group.cancel_scope.cancel()
            on_stopping(None)
            return first


@contextlib.asynccontextmanager
async def listen(
    service: LocalService, port: int = 0, host: str = HOST, *, api_key: str | None = None
) -> AsyncIterator[str]:
    """Listen for the service, which has been entered; gives the URL. Needs asyncio, in any thread.

    Raises UsageError if the port can't be had, and for a host that others can reach if the service asks for no key.
    """
    check_host(host, asks_for_key=bool(api_key))
    asyncio.get_running_loop().set_exception_handler(_OnceInAWhile())
    app = make_app(service, api_key)
    server = _Server(_config(LoopbackMiddleware(app) if is_surely_loopback(host) else app))
    with _bound_socket(host, port) as sock:
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve, [sock])
            try:
                yield f"http://{f'[{host}]' if ':' in host else host}:{sock.getsockname()[1]}"
            finally:
                service.stop_all()
                server.should_exit = True


def check_host(host: str, *, asks_for_key: bool) -> None:
    """Raise UsageError for a host that other machines can reach, unless they are asked for a key; or for none."""
    if not (is_surely_loopback(host) or asks_for_key):
        _resolve(host)
        raise UsageError(
            f"--host {host} would let other machines in, and no key is asked for: "
            "put one into ANCHORBROWSER_API_KEY in the environment, or leave --host out."
        )


if sys.platform == "win32":
    _ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK)
else:
    _ENDING = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def _heard() -> Iterator[MemoryObjectReceiveStream[signal.Signals]]:
    """The signals that come in here. The event loop of Windows takes none itself, as `add_signal_handler` would."""
    loop = asyncio.get_running_loop()
    come, signals = anyio.create_memory_object_stream[signal.Signals](math.inf)

    def hear(number: int, _frame: object) -> None:
        loop.call_soon_threadsafe(come.send_nowait, signal.Signals(number))

    with come, signals:
        before = {number: signal.signal(number, hear) for number in _ENDING}
        try:
            yield signals
        finally:
            for number, handler in before.items():
                signal.signal(number, handler or signal.SIG_DFL)


async def _cancel_at_next(signals: MemoryObjectReceiveStream[signal.Signals], scope: anyio.CancelScope) -> None:
    await signals.receive()
    scope.cancel()


def _bound_socket(host: str, port: int) -> socket.socket:
    family, address = _resolve(host)
    try:
        # Only where the protocol is named does asyncio turn off Nagle's algorithm: else each answer takes 40 ms.
        sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    except OSError as error:
        raise UsageError(f"{host} can't be listened on: {error}. Choose another by --host.") from error
    try:
        if sys.platform != "win32":  # there it would let two programs share a port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # those that are accepted inherit it
        sock.bind((address, port))
        sock.listen(1024)
    except (OSError, OverflowError) as error:
        sock.close()
        raise UsageError(f"Port {port} on {host} can't be listened on: {error}. Choose another by --port.") from error
    return sock


def _resolve(host: str) -> tuple[socket.AddressFamily, str]:
    """The address of a host; of several (localhost) that of IPv4, which every client tries.

    Raises UsageError for a name that is no host's.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise UsageError(
            f"--host {host or repr(host)}: there is no such host, as far as can be found out: {error}."
        ) from error
    family, _, _, _, address = min(found, key=lambda each: each[0] != socket.AF_INET)
    return family, str(address[0])


def config_of(app: ASGIApp, **more: Any) -> uvicorn.Config:
    """How uvicorn serves an app of ours: without a log of its own, WebSockets or a word of who answers."""
    return uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        **more,
    )


def _config(app: ASGIApp) -> uvicorn.Config:
    return config_of(app, http=_Connection, timeout_keep_alive=IDLE_SECONDS, timeout_graceful_shutdown=_PATIENCE)


def most_connections() -> int:
    """How many connections may be open at once, so that there are descriptors left for all else."""
    if sys.platform == "win32":
        return MOST_CONNECTIONS
    import resource

    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return (
        MOST_CONNECTIONS if files == resource.RLIM_INFINITY else max(8, min(MOST_CONNECTIONS, files - RESERVED_FILES))
    )


class _WholeAnswers(asyncio.Transport):
    """What is written at once goes out as one packet, an answer's head and its body: the client wakes up once."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._transport = transport
        self._loop = loop
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:  # type: ignore[override]  # uvicorn gives nothing else
        if not self._parts:
            self._loop.call_soon(self._flush)
        self._parts.append(data)

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def _flush(self) -> None:
        data, self._parts = b"".join(self._parts), []
        self._transport.write(data)


class _Connection(HttpToolsProtocol):
    """A connection whose requests have to come in within a time, one of so many at once.

    One too many is told to come back: with `Retry-After` a client knows that it started no run.
    """

    _waits: asyncio.TimerHandle | None = None
    _head: bytearray | None = None
    """The head that is coming in, as far as it has come in pieces that brought nothing else."""
    _is_surplus = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.transport = _WholeAnswers(transport, self.loop)
        self._close_in(HEAD_SECONDS)
        if len(self.connections) > most_connections():
            self._is_surplus = True
            transport.write(_BUSY)
            self.loop.call_later(1.0, transport.close)  # closed at once, what it sends would take the answer away

    def data_received(self, data: bytes) -> None:
        if self._is_surplus:
            return
        head = self._head
        super().data_received(data)
        if head is not None and head is self._head:
            head += data
            if len(head) > LONGEST_HEAD:
                self.transport.close()
        if self._waits is None and (self.cycle is None or self.cycle.response_complete):
            self._close_in(HEAD_SECONDS)  # line ends between two requests begin none

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = bytearray()
        self._close_in(HEAD_SECONDS)

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._head = None
        self._close_in(BODY_SECONDS)

    def on_message_complete(self) -> None:
        super().on_message_complete()
        self._close_in(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._close_in(None)
        super().connection_lost(exc)

    def _close_in(self, seconds: float | None) -> None:
        """The client has to send the rest of a head or of a body in that time, or is cut off."""
        if self._waits is not None:
            self._waits.cancel()
        self._waits = None if seconds is None else self.loop.call_later(seconds, self.transport.close)


class _OnceInAWhile:
    """Says in one line of the log that no descriptor is left, where asyncio would say it thousandfold a second."""

    def __init__(self) -> None:
        self._said_at = -_AGAIN_SECONDS

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not (
            isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
        ):
            loop.default_exception_handler(context)
        elif loop.time() - self._said_at >= _AGAIN_SECONDS:
            self._said_at = loop.time()
            log.warning(f"no more connections can be taken for now ({reason_of(error)}); raise the limit (ulimit -n)")


class _Server(uvicorn.Server):
    """uvicorn, but signals are ours: runs have to end before it waits for the connections that wait for runs."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


PAGE_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""What every answer carries: nothing of another origin is loaded, and nothing of this page is kept elsewhere."""


class Door(msgspec.Struct, frozen=True):
    """How a person's browser is let in: by the token, or once by the ticket; `start` is where it comes to then."""

    port: int
    token: str
    ticket: str
    start: str


class PageGuard:
    """Lets only this person's browser in: the right host (DNS rebinding), the page's own origin (CSRF), the cookie.

    The token of the first address becomes a cookie. Without either the answer is 401, for another host or origin 403.
    """

    def __init__(self, app: ASGIApp, door: Door) -> None:
        self._app = app
        self._start = door.start
        self._token, self._ticket = door.token.encode(), door.ticket
        port = door.port
        self._hosts = {f"{name}:{port}" for name in (HOST, "localhost")}
        self._cookie = f"batch_runner_{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            return
        answer = self._refusal(scope) or self._welcome(scope)

        async def say(message: Message) -> None:
            if message["type"] == "http.response.start":
                kept = [pair for pair in message.get("headers", ()) if pair[0].decode().lower() not in PAGE_HEADERS]
                added = [(name.encode(), value.encode()) for name, value in PAGE_HEADERS.items()]
                message["headers"] = [*kept, *added]
            await send(message)

        await (answer or self._app)(scope, receive, say)

    def _refusal(self, scope: Scope) -> Response | None:
        host, origin = _header(scope, "host"), _header(scope, "origin")
        if host not in self._hosts:
            return PlainTextResponse(f"This page answers to {HOST} only.", 403)
        if origin and origin != f"http://{host}":
            return PlainTextResponse("This request comes from another page.", 403)
        if scope["method"] not in ("GET", "HEAD") and _header(scope, "sec-fetch-site") not in ("", "same-origin"):
            return PlainTextResponse("This request comes from another page.", 403)
        return None

    def _welcome(self, scope: Scope) -> Response | None:
        """Nothing for whom the cookie lets in; the cookie for whom brings the token; else a refusal."""
        query = parse_qs(scope["query_string"].decode("latin-1"))
        if self._is_right(given := query.get("token", [""])[0]) or self._takes(given):
            rest = urlencode({name: texts for name, texts in query.items() if name != "token"}, doseq=True)
            there = scope["path"] + (f"?{rest}" if rest else "")
            answer = RedirectResponse(self._start if there == "/" else there, 303)
            answer.set_cookie(self._cookie, self._token.decode(), httponly=True, samesite="strict", path="/")
            return answer
        if self._is_right(_cookies(scope).get(self._cookie, "")):
            return None
        return PlainTextResponse(
            "This page needs the address that batch-runner open has printed, with its token. Open it again from there.",
            401,
        )

    def _takes(self, ticket: str) -> bool:
        """What the browser was started with: others may read it in the list of processes, so it is good only once."""
        is_ours = bool(self._ticket) and hmac.compare_digest(ticket.encode(), self._ticket.encode())
        self._ticket = "" if is_ours else self._ticket
        return is_ours

    def _is_right(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self._token)


def _header(scope: Scope, name: str) -> str:
    value: bytes = dict(scope.get("headers", ())).get(name.encode(), b"")
    return value.decode("latin-1")


def _cookies(scope: Scope) -> dict[str, str]:
    with contextlib.suppress(CookieError):
        return {name: morsel.value for name, morsel in SimpleCookie(_header(scope, "cookie")).items()}
    return {}
