"""A server on a real socket that does to each connection what a script says, well-behaved or not."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Awaitable, Callable

    Script = Callable[["Connection"], Awaitable[None]]

QUEUED = b'{"run_id": "run-1", "status": "queued"}'


def answer(body: bytes = QUEUED, status: int = 200, *headers: str) -> bytes:
    """An answer as it goes over the wire, with its length."""
    lines = [f"HTTP/1.1 {status} Said", *headers, f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Connection:
    """One connection that a client has made."""

    def __init__(self, server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.server = server
        self.reader = reader
        self.writer = writer

    async def request(self) -> bytes | None:
        """The next whole request, noted in `server.requests`; None where the client has closed."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
            request = head + await self.reader.readexactly(int(length or b"0"))
            self.server.requests.append(request)
            return request
        return None

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    def reset(self) -> None:
        """End the connection with a RST, as a process that dies does, not with a FIN."""
        tcp: socket.socket = self.writer.get_extra_info("socket")
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


class Server:
    """What the server has seen: connections made and whole requests read."""

    def __init__(self, script: Script) -> None:
        self.port = 0
        self.connections = 0
        self.requests: list[bytes] = []
        self._script = script
        self._serving: dict[asyncio.StreamWriter, asyncio.Task[None] | None] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._serving[writer] = asyncio.current_task()
        try:
            with suppress(ConnectionError, asyncio.CancelledError):
                await self._script(Connection(self, reader, writer))
        finally:
            self._serving[writer] = None
            writer.close()

    async def stop(self) -> None:
        """End all scripts and connections."""
        for task in filter(None, self._serving.values()):
            task.cancel()
        while any(self._serving.values()):
            await asyncio.sleep(0)
        for writer in self._serving:
            writer.transport.abort()
        await asyncio.sleep(0)


@asynccontextmanager
async def serving(script: Script, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Serve the script on a free port of 127.0.0.1."""
    server = Server(script)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls, backlog=1024)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        async with listening:
            yield server
    finally:
        await server.stop()


async def behaves(connection: Connection) -> None:
    """Answers every request with a queued run."""
    while await connection.request():
        await connection.send(answer())
