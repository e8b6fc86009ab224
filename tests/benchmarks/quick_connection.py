"""The server's side of a connection, as quick as Python has it: it parses only what it must."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class QuickConnection(asyncio.Protocol):
    """Divides what comes into requests, and answers each with the status and the JSON that is told for its headers."""

    def __init__(self, tell: Callable[[bytes], tuple[bytes, bytes]]) -> None:
        self._tell = tell
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end]
            _, _, length = head.lower().partition(b"content-length:")
            whole = end + 4 + int(length.split(b"\r\n")[0] or 0)
            if len(self._data) < whole:
                return
            self._data = self._data[whole:]
            status, body = self._tell(head)
            told = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
            self._transport.write(told % (status, len(body)) + body)
