"""No start goes out on a connection that the service may be closing just then."""

from __future__ import annotations

import asyncio
from functools import partial
from random import Random

import pytest
from scripted_server import Connection, answer, serving

from batch_runner.service.http.client import Client
from batch_runner.service.http.transport import AiohttpTransport
from batch_runner.service.protocol import RunRequest, Started, StartRequest

pytestmark = [pytest.mark.anyio, pytest.mark.long]

START = RunRequest(input_params={})
CLOSING_AFTER = (1.0, 2.0, 5.0)
LANES = 48
SECONDS = 12
LATENCY = 0.1


async def closes_idle(idle: float, connection: Connection) -> None:
    """Answers, and closes a connection on which nothing came for so many seconds.

    As on a long way, the client hears of it a little later: what it sends in between is not read.
    """
    while True:
        try:
            request = await asyncio.wait_for(connection.request(), idle)
        except TimeoutError:
            await asyncio.sleep(LATENCY)
            connection.reset()
            return
        if request is None:
            return
        await connection.send(answer())


async def lane(url: str, chance: Random, idle: float) -> list[object]:
    """Starts one run now and then, every other time about when the server would close the connection."""
    loop = asyncio.get_running_loop()
    end, said = loop.time() + SECONDS, list[object]()
    async with Client(url, "", AiohttpTransport()) as client:
        while loop.time() < end:
            said.append(await client.start(StartRequest("invoice", START)))
            near = idle + chance.uniform(0.0, LATENCY)
            await asyncio.sleep(chance.choice([near, chance.uniform(0.5, 6.0), chance.uniform(0.3, 0.6)]))
    return said


@pytest.mark.soak
async def test_a_night_of_starts_now_and_then() -> None:
    """Servers that close idle connections after 1, 2 and 5 s, a start every 0.3–6 s: 500 starts and more, none lost."""
    said: list[object] = []
    for_each = {idle: partial(closes_idle, idle) for idle in CLOSING_AFTER}
    async with (
        serving(for_each[1.0]) as one,
        serving(for_each[2.0]) as two,
        serving(for_each[5.0]) as five,
    ):
        urls = zip(CLOSING_AFTER, (one.url, two.url, five.url), strict=True)
        lanes = [lane(url, Random(f"{idle} {number}"), idle) for idle, url in urls for number in range(LANES)]
        for part in await asyncio.gather(*lanes):
            said += part
    assert len(said) >= 500
    assert [end for end in said if not isinstance(end, Started)] == []
