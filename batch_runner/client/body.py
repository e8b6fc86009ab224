"""Reading the body of an answer: whole, decoded, and never more of it than a batch can hold."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator

import anyio
import httpx
import msgspec

MAX_ANSWER = 64 * 1024 * 1024
"""Bytes of an answer that are read at most, decoded too."""
LONGEST_READ = 600.0
"""Seconds that a body may take in all: the wait for its next bytes is bounded by the request, but not their number."""

_ANY_ZLIB = 32 + zlib.MAX_WBITS
"""Finds out by itself whether it is gzip or deflate (zlib's manual, inflateInit2)."""


class TooLarge(Exception):  # noqa: N818  it says of an answer what it is
    """The answer goes on beyond `MAX_ANSWER`."""

    def __init__(self) -> None:
        super().__init__(f"the answer is larger than {MAX_ANSWER >> 20} MiB")


class Body(msgspec.Struct, frozen=True):
    """What came of a body; `cut` is what ended it early, be it the network's failure or ours to decode it."""

    data: bytes
    cut: Exception | None = None


async def read_body(response: httpx.Response) -> Body:
    """The body of an answer whose stream was not read yet. Nothing is raised: the answer's status has come."""
    data = bytearray()
    try:
        with anyio.fail_after(LONGEST_READ):
            await _read_into(data, response.stream)
        encoding = response.headers.get("content-encoding", "").strip().lower()
        return Body(_inflated(data) if encoding in {"gzip", "x-gzip", "deflate"} else bytes(data))
    except Exception as error:  # noqa: BLE001  whatever it is, what the status says still holds
        return Body(bytes(data), error)
    finally:
        await response.aclose()


async def _read_into(data: bytearray, stream: object) -> None:
    assert isinstance(stream, httpx.AsyncByteStream)
    chunks = aiter(stream)
    try:
        async for chunk in chunks:
            data += chunk
            if len(data) > MAX_ANSWER:
                data.clear()
                raise TooLarge
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()


def _inflated(data: bytearray) -> bytes:
    """No encoding is asked for, but there are gateways that don't care."""
    inflate = zlib.decompressobj(_ANY_ZLIB)
    try:
        whole = inflate.decompress(data, MAX_ANSWER)
    except zlib.error as error:
        raise ValueError(f"the answer can't be decoded: {error}") from error
    if inflate.unconsumed_tail:
        raise TooLarge
    if not inflate.eof:
        raise ValueError("the answer can't be decoded: its end is missing")
    return whole
