"""A proxy on a real socket that cuts connections where a test wants it, and knows what it has let through."""

from __future__ import annotations

import asyncio
import json
from enum import Enum
from typing import TYPE_CHECKING

import anyio
from ports import kept_port
from scripted_server import Server

if TYPE_CHECKING:
    from random import Random

    from scripted_server import Connection


class Cut(Enum):
    """Where a connection ends that carries a request."""

    NOWHERE = "nowhere"
    SWALLOWED = "before the request went on"
    DELIVERED = "after the request was delivered"
    HALFWAY = "in the middle of the answer"


STARTS = (*[Cut.NOWHERE] * 7, Cut.SWALLOWED, Cut.DELIVERED, Cut.HALFWAY)
POLLS = (*[Cut.NOWHERE] * 17, Cut.SWALLOWED, Cut.DELIVERED, Cut.HALFWAY)


class CuttingProxy:
    """Cuts three starts in ten and three polls in twenty; `cuts` says which row's start was cut where."""

    def __init__(self, service: Server, chance: Random) -> None:
        self.cuts: dict[str, Cut] = {}
        self.polls_cut = 0
        self.port = 0
        self._service = service
        self._chance = chance
        self._server = Server(self._script)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def open_and_close(self, up: float, down: float) -> None:
        """Take connections for a while, refuse them for a while, and so on, until cancelled."""
        with kept_port() as port:
            try:
                while True:
                    door = await asyncio.start_server(self._server.serve, "127.0.0.1", port)
                    self.port = port
                    try:
                        await anyio.sleep(up)
                    finally:
                        door.close()
                    await anyio.sleep(down)
            finally:
                with anyio.CancelScope(shield=True):
                    await self._server.stop()

    async def _script(self, connection: Connection) -> None:
        while request := await connection.request():
            cut = self._cut_of(request)
            if cut is Cut.SWALLOWED:
                break
            answer = await self._passed_on(request)
            if cut is Cut.DELIVERED:
                break
            if cut is Cut.HALFWAY:
                await connection.send(answer[: self._chance.randrange(1, len(answer))])
                break
            await connection.send(answer)
        else:
            return
        if self._chance.random() < 0.5:
            connection.reset()

    def _cut_of(self, request: bytes) -> Cut:
        if request.startswith(b"GET "):
            cut = self._chance.choice(POLLS)
            self.polls_cut += cut is not Cut.NOWHERE
            return cut
        row = json.loads(request.partition(b"\r\n\r\n")[2])["input_params"]["Row"]
        assert row not in self.cuts, "a start was sent twice"
        self.cuts[row] = self._chance.choice(STARTS)
        return self.cuts[row]

    async def _passed_on(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._service.port)
        try:
            writer.write(request)
            writer.write_eof()
            return await reader.read()
        finally:
            writer.close()
