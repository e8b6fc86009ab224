"""A plan in virtual time, put before a service: so many slots, so many starts in a window; and polls that fail."""

from __future__ import annotations

import json
from collections import deque
from typing import TYPE_CHECKING

import trio
from nights import Fault, again, say, whole

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Slots:
    """Refuses with 429 a start that would make more than `slots` runs; a run takes its row's `Seconds`."""

    def __init__(self, app: ASGIApp, slots: int) -> None:
        self._app = app
        self._slots = slots
        self._ends: list[float] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        await trio.sleep(0.1)
        now, body = trio.current_time(), await whole(receive)
        self._ends = [end for end in self._ends if end > now]
        if len(self._ends) >= self._slots:
            await say(Fault(429, (), b'{"error": {"code": 429, "message": "too many concurrent sessions"}}'), send)
            return
        self._ends.append(now + float(json.loads(body)["input_params"]["Seconds"]))
        await self._app(scope, again(body), send)


class Quota:
    """Allows `quota` starts in every `window` seconds, and tells so: with every answer, or with a refusal only."""

    def __init__(self, app: ASGIApp, quota: int, window: int, *, tells_always: bool) -> None:
        self._app = app
        self._quota = quota
        self._window = window
        self._tells_always = tells_always
        self._taken: deque[float] = deque()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        now = trio.current_time()
        while self._taken and self._taken[0] <= now - self._window:
            self._taken.popleft()
        if len(self._taken) >= self._quota:
            await say(Fault(429, self._told(now), b'{"error": {"code": 429, "message": "Too Many Requests"}}'), send)
            return
        self._taken.append(now)
        await self._app(scope, receive, self._telling(send, now) if self._tells_always else send)

    def _told(self, now: float) -> tuple[tuple[str, str], ...]:
        name, left = f'"{self._quota}-in-{self._window}s"', self._quota - len(self._taken)
        reset = int(self._taken[0] + self._window - now) + 1
        return (
            ("RateLimit", f"{name}; r={left}; t={reset}"),
            ("RateLimit-Policy", f"{name}; q={self._quota}; w={self._window}"),
        )

    def _telling(self, send: Send, now: float) -> Send:
        async def telling(message: Message) -> None:
            if message["type"] == "http.response.start":
                told = [(name.lower().encode(), value.encode()) for name, value in self._told(now)]
                message = {**message, "headers": [*message["headers"], *told]}
            await send(message)

        return telling


class Polls:
    """Answers a poll as `faults` says, which is called with the seconds since the first poll; None: as the service."""

    def __init__(self, app: ASGIApp, faults: Callable[[float], Fault | None]) -> None:
        self._app = app
        self._faults = faults
        self.times: list[float] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "GET":
            self.times.append(trio.current_time())
            fault = self._faults(self.times[-1] - self.times[0])
            if fault is not None:
                await say(fault, send)
                return
        await self._app(scope, receive, send)
