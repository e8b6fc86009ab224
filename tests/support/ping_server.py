"""A real HTTP server on loopback that notes what it is told: pings of a heartbeat, messages of apprise's `json://`."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Heard(msgspec.Struct, frozen=True):
    """One request: its path, what stands in its query, and its body."""

    path: str
    query: dict[str, str]
    body: str


class PingServer:
    """`heard` are the requests in order; `says(path)` is asked for each answer's status, and may wait before it."""

    def __init__(self, says: Callable[[str], int]) -> None:
        self.heard: list[Heard] = []
        self.url = ""
        self._says = says

    @property
    def paths(self) -> list[str]:
        """The paths that were asked for, in order."""
        return [heard.path for heard in self.heard]

    def hear(self, target: str, body: str) -> int:
        """Note a request; gives the status of its answer."""
        parts = urlsplit(target)
        self.heard.append(Heard(parts.path, dict(parse_qsl(parts.query)), body))
        return self._says(parts.path)


@contextmanager
def ping_server(says: Callable[[str], int] = lambda _: 200) -> Iterator[PingServer]:
    """Serve on a free port until the block ends."""
    server = PingServer(says)

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
            self.send_response(server.hear(self.path, body))
            self.send_header("Location", f"{server.url}/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  its name in the base class
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as web:
        web.daemon_threads = True
        web.block_on_close = False
        server.url = f"http://127.0.0.1:{web.server_port}"
        thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            web.shutdown()
            thread.join()
