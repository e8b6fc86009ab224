"""A service for benchmarks: speaks the Tasks API on a port of 127.0.0.1, answers each start at once with `success`.

Run: `python tests/benchmarks/instant_service.py PORT`. It is the floor of a Python server.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

from quick_connection import QuickConnection

if TYPE_CHECKING:
    from collections.abc import Iterator

_NUMBERS = count(1)


def _tell(head: bytes) -> tuple[bytes, bytes]:
    return b"200 OK", b'{"run_id":"run_%d","status":"success","result":{"ok":true}}' % next(_NUMBERS)


async def _serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(
        lambda: QuickConnection(_tell), "127.0.0.1", port, backlog=2048
    )
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
