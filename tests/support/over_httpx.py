"""A transport of httpx as the client's own: so a service in this process is called without a socket."""

from __future__ import annotations

from typing import TYPE_CHECKING

import httpx

from batch_runner.service.http.response import Response

if TYPE_CHECKING:
    from batch_runner.service.http.client import Request


class OverHttpx:
    """See `client.Transport`."""

    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def send(self, request: Request) -> Response:
        """Send a request by httpx's interface."""
        timeout = {"connect": request.connect, "write": request.write, "read": request.read, "pool": None}
        answer = await self._transport.handle_async_request(
            httpx.Request(
                request.method,
                request.url,
                headers=request.headers,
                content=request.body,
                extensions={"timeout": timeout},
            )
        )
        assert isinstance(answer.stream, httpx.AsyncByteStream)
        return Response(answer.status_code, answer.headers.raw, answer.stream)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._transport.aclose()
