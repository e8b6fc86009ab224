"""CPU of one start, by starts in flight: `Client.start` over our transport, aiohttp alone, httpx by default.

Run: `python tests/benchmarks/bench_client.py [STARTS]`. The server is a process of its own that answers at once, so the
time counted is the client's alone. Read the ratios: the seconds are the machine's.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING

import aiohttp
import httpx
from instant_service import instant_service

from batch_runner.service.http.client import Client
from batch_runner.service.http.transport import AiohttpTransport
from batch_runner.service.protocol import RunRequest, Started, StartRequest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

_PARAMS = {"File Name": "invoice-2026-02.pdf", "Operation": "extract_text"}
_IN_FLIGHT = (1, 64, 1000)


async def _cpu(start: Callable[[], Awaitable[bool]], starts: int, in_flight: int) -> float:
    """CPU seconds for that many starts by so many workers, after one round to open the connections."""

    async def worker(rounds: int) -> None:
        for _ in range(rounds):
            assert await start()

    await asyncio.gather(*(worker(1) for _ in range(in_flight)))
    rounds = max(1, starts // in_flight)
    before = time.process_time()
    await asyncio.gather(*(worker(rounds) for _ in range(in_flight)))
    return (time.process_time() - before) * 1000 / (rounds * in_flight)


async def _ours(url: str, starts: int, in_flight: int) -> float:
    request = RunRequest(input_params=_PARAMS)
    async with Client(url, "a-key", AiohttpTransport()) as client:

        async def start() -> bool:
            return isinstance(await client.start(StartRequest("invoice", request)), Started)

        return await _cpu(start, starts, in_flight)


async def _aiohttp(url: str, starts: int, in_flight: int) -> float:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def start() -> bool:
            async with session.post(f"{url}/v2/tasks/invoice/run", json={"input_params": _PARAMS}) as answer:
                return "run_id" in await answer.json()

        return await _cpu(start, starts, in_flight)


async def _httpx(url: str, starts: int, in_flight: int) -> float:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=60) as client:

        async def start() -> bool:
            answer = await client.post(f"{url}/v2/tasks/invoice/run", json={"input_params": _PARAMS})
            return "run_id" in answer.json()

        return await _cpu(start, min(starts, 2 * in_flight), in_flight)


def main() -> None:
    starts = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    print("milliseconds of CPU per start\n in flight    ours   aiohttp   httpx   ours/aiohttp   httpx/ours")
    with instant_service() as url:
        for in_flight in _IN_FLIGHT:
            ours, bare, plain = (asyncio.run(measure(url, starts, in_flight)) for measure in (_ours, _aiohttp, _httpx))
            print(f"{in_flight:10} {ours:7.2f} {bare:9.2f} {plain:7.2f} {ours / bare:14.1f} {plain / ours:12.1f}")


if __name__ == "__main__":
    main()
