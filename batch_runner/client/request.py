"""The requests of the Tasks API: addresses, headers and timeouts, made once and used for every start and poll."""

from __future__ import annotations

from functools import lru_cache
from urllib.parse import quote

import httpx
import msgspec

from batch_runner import __version__
from batch_runner.api import IDEMPOTENCY_HEADER, KEY_HEADER, ROW_HEADER, quoted
from batch_runner.errors import UsageError


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds. `read` is the wait for a poll's answer, `start_read` that for a start's.

    A start waits long: an answer given up on is a row that nobody knows the end of.
    """

    connect: float = 10.0
    write: float = 60.0
    read: float = 30.0
    start_read: float = 120.0
    pool: float = 10.0


DEFAULT_TIMEOUTS = Timeouts()


class Requests:
    """Makes the requests to one service. A `UsageError` says that its address or the key can't be used."""

    def __init__(self, base_url: str, api_key: str, timeouts: Timeouts) -> None:
        self.base = _base(base_url)
        self._timeouts = timeouts
        self._headers = _headers(self.base, api_key)
        self._url = lru_cache(maxsize=64)(httpx.URL)

    def start(
        self,
        task_id: str,
        body: bytes,
        read_timeout: float | None,
        *,
        idempotency_key: str | None = None,
        row: int | None = None,
    ) -> httpx.Request:
        """The POST that starts a run; a ValueError where the id can't stand in a path, or the key in a header."""
        headers = [
            *self._headers,
            (b"Content-Type", b"application/json"),
            (b"Content-Length", str(len(body)).encode()),
            *([] if idempotency_key is None else [(IDEMPOTENCY_HEADER.encode(), quoted(idempotency_key).encode())]),
            *([] if row is None else [(ROW_HEADER.encode(), str(row).encode())]),
        ]
        read = read_timeout or self._timeouts.start_read
        return self._request("POST", f"/v2/tasks/{_segment(task_id)}/run", headers, body, read)

    def poll(self, run_id: str) -> httpx.Request:
        """The GET that asks for a run; a ValueError where the id can't stand in a path."""
        path = f"/v2/tasks/runs/{_segment(run_id)}/status"
        return self._request("GET", path, self._headers, b"", self._timeouts.read)

    def health(self, seconds: float) -> httpx.Request:
        """The GET that asks what the service can do, given so long for each step of it."""
        return self._request("GET", "/healthz", self._headers, b"", seconds)

    def _request(
        self, method: str, path: str, headers: list[tuple[bytes, bytes]], body: bytes, read: float
    ) -> httpx.Request:
        limits = self._timeouts
        timeout = {"connect": limits.connect, "read": read, "write": limits.write, "pool": limits.pool}
        url = self._url(self.base + path)
        stream = httpx.ByteStream(body)
        return httpx.Request(method, url, headers=headers, stream=stream, extensions={"timeout": timeout})


def _segment(identifier: str) -> str:
    """An id as one segment of a path. `.` and `..` can't be one: they would be a way up (RFC 3986, section 5.2.4)."""
    if identifier in {"", ".", ".."} or len(identifier) > 1000:
        raise ValueError(f"{identifier[:50]!r} can't be an id")
    return quote(identifier, safe="", errors="surrogatepass")


def _base(base_url: str) -> str:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise UsageError(f"The service's address can't be read: {error}.") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise UsageError("The service's address must begin with http:// or https:// and name a host.")
    if url.userinfo or url.query or url.fragment:
        raise UsageError("The service's address may hold no user, password, query or fragment.")
    return str(url).rstrip("/")


def _headers(base: str, api_key: str) -> list[tuple[bytes, bytes]]:
    headers = [
        (b"Host", httpx.URL(base).netloc),
        (b"Accept", b"application/json"),
        (b"Accept-Encoding", b"identity"),
        (b"User-Agent", f"batch-runner/{__version__}".encode()),
    ]
    if not api_key:
        return headers
    if not (api_key.isascii() and api_key.isprintable() and " " not in api_key):
        raise UsageError("The API key holds a space, a line break or another character that a key can't have.")
    return [*headers, (KEY_HEADER.encode(), api_key.encode())]
