"""Reading the body of an answer: whole, decoded, and never more of it than a batch can hold."""

from __future__ import annotations

import zlib
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MAX_ANSWER = 64 * 1024 * 1024
"""Bytes of an answer that are read at most, decoded too."""

_ANY_ZLIB = 32 + zlib.MAX_WBITS
"""Finds out by itself whether it is gzip or deflate (zlib's manual, inflateInit2)."""


class TooLarge(Exception):  # noqa: N818  it says of an answer what it is
    """The answer goes on beyond `MAX_ANSWER`."""

    def __init__(self) -> None:
        super().__init__(f"the answer is larger than {MAX_ANSWER >> 20} MiB")


async def read_body(response: httpx.Response) -> bytes:
    """The body of an answer whose stream was not read yet.

    Raises what the transport raises, `TooLarge`, and ValueError where the body can't be decoded.
    """
    assert isinstance(response.stream, httpx.AsyncByteStream)
    chunks = aiter(response.stream)
    try:
        body = await _gather(chunks)
    finally:
        if isinstance(chunks, AsyncGenerator):
            await chunks.aclose()
    encoding = response.headers.get("content-encoding", "").strip().lower()
    return _inflated(body) if encoding in {"gzip", "x-gzip", "deflate"} else body


async def _gather(chunks: AsyncIterator[bytes]) -> bytes:
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > MAX_ANSWER:
            raise TooLarge
    return bytes(body)


def _inflated(body: bytes) -> bytes:
    """No encoding is asked for, but there are gateways that don't care."""
    inflate = zlib.decompressobj(_ANY_ZLIB)
    try:
        whole = inflate.decompress(body, MAX_ANSWER)
    except zlib.error as error:
        raise ValueError(f"the answer can't be decoded: {error}") from error
    if inflate.unconsumed_tail:
        raise TooLarge
    if not inflate.eof:
        raise ValueError("the answer can't be decoded: its end is missing")
    return whole
