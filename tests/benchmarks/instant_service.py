"""A service for benchmarks: speaks the Tasks API on a port of 127.0.0.1, answers each start at once with `success`.

Run: `python tests/benchmarks/instant_service.py PORT`. It parses only what it must: the floor of a Python server.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_NUMBERS = count(1)


class _Connection(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._data = b""

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            head = self._data[:end].lower()
            _, _, length = head.partition(b"content-length:")
            whole = end + 4 + int(length.split(b"\r\n")[0] or 0)
            if len(self._data) < whole:
                return
            self._data = self._data[whole:]
            self._answer()

    def _answer(self) -> None:
        body = b'{"run_id":"run_%d","status":"success","result":{"ok":true}}' % next(_NUMBERS)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        self._transport.write(head + body)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", port, backlog=2048)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def instant_service() -> Iterator[str]:
    """The service in a process of its own; gives its URL."""
    process = subprocess.Popen([sys.executable, __file__, "0"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        time.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
