"""One start over a real socket, by a client that doesn't wait long."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from batch_runner.service.http.client import Client, Timeouts
from batch_runner.service.http.transport import AiohttpTransport
from batch_runner.service.protocol import Lost, RefusalScope, Refused, RunRequest, Started, StartRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import pytest

SMALL = RunRequest(input_params={"File Name": "invoice.pdf"})
LARGE = RunRequest(input_params={"text": "x" * 20_000_000})
HASTY = Timeouts(connect=3.0, write=1.0, read=1.0, start_read=1.0)


@asynccontextmanager
async def client_of(url: str) -> AsyncIterator[Client]:
    async with Client(url, "secret-key", AiohttpTransport(), HASTY) as client:
        yield client


async def start(url: str, request: RunRequest = SMALL) -> Started | Refused | Lost:
    async with client_of(url) as client:
        return await client.start(StartRequest("invoice", request))


def assert_never_sent(said: Started | Refused | Lost) -> None:
    assert isinstance(said, Refused), said
    assert (said.scope, said.status_code) == (RefusalScope.LATER, None)
    assert said.why.startswith("no connection was made: ")


def forget_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine that the tests run on may have a proxy; a test is to know only its own."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
