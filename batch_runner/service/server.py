"""The embedded service on a port of this machine: 127.0.0.1, nothing else."""

from __future__ import annotations

import contextlib
import signal
import socket
import sys
from typing import TYPE_CHECKING

import anyio
import uvicorn

from batch_runner.errors import UsageError
from batch_runner.service.app import error_answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from starlette.types import ASGIApp, Receive, Scope, Send

    from batch_runner.service.service import Service

HOST = "127.0.0.1"

_PATIENCE = 5
"""Seconds that open connections have to take their answers when the service stops."""


async def serve(service: Service, port: int, on_listening: Callable[[str], object]) -> signal.Signals:
    """Serve until SIGINT (Ctrl-C) or SIGTERM, which it returns after an orderly end.

    Enters the service itself. `port` 0 takes a free one; `on_listening` is called with the URL once connections are
    accepted. Needs asyncio, in the main thread. Raises UsageError if the port can't be had.
    """
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with service, listening(service, port) as url:
            on_listening(url)
            return await anext(aiter(signals))


@contextlib.asynccontextmanager
async def listening(service: Service, port: int = 0) -> AsyncIterator[str]:
    """Listen for the service, which has been entered; gives the URL. Needs asyncio, in any thread."""
    server = _Server(_config(_OnlyLocal(service.app)))
    with _bound_socket(port) as sock:
        async with anyio.create_task_group() as group:
            group.start_soon(server.serve, [sock])
            try:
                yield f"http://{HOST}:{sock.getsockname()[1]}"
            finally:
                service.stop()
                server.should_exit = True


def _bound_socket(port: int) -> socket.socket:
    # Only where the protocol is named does asyncio turn off Nagle's algorithm: else each answer takes 40 ms.
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        if sys.platform != "win32":  # there it would let two programs share a port
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((HOST, port))
        sock.listen(1024)
    except (OSError, OverflowError) as error:
        sock.close()
        raise UsageError(f"Port {port} on {HOST} can't be listened on: {error}. Choose another by --port.") from error
    return sock


def _config(app: ASGIApp) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="off",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_PATIENCE,
    )


class _Server(uvicorn.Server):
    """uvicorn, but signals are ours: runs have to end before it waits for the connections that wait for runs."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class _OnlyLocal:
    """Refuses a request that was made for another host's name.

    A page in a browser could otherwise reach this port under a name of its own that resolves to 127.0.0.1.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        host = dict(scope.get("headers", ())).get(b"host", b"").decode("latin-1").partition(":")[0]
        if scope["type"] != "http" or host in (HOST, "localhost"):
            await self._app(scope, receive, send)
        else:
            answer = error_answer(400, f"This service answers to http://{HOST} only.")
            await answer(scope, receive, send)
