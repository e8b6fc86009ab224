"""A service with limits, in virtual time: so many slots, so many starts in a window; and a batch that meets them."""

from __future__ import annotations

import random
from collections import deque
from math import inf, log
from typing import TYPE_CHECKING

import anyio
import msgspec

from batch_runner.service.protocol import NO_SIGNAL, Signal

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_runner.batch.limits import Limits, Slot


class Refusal(msgspec.Struct, frozen=True):
    """A no of the service."""

    status_code: int
    why: str
    signal: Signal = NO_SIGNAL


class Service:
    """Runs are log-normal with σ 0.5; answers take 50 to 200 ms. `slots(now)` and the quota make it refuse."""

    def __init__(self, median: float = 60.0, slots: Callable[[float], float] = lambda _: inf) -> None:
        self.chance = random.Random(1)
        self.began = anyio.current_time()
        self.slots = slots
        self.median = median
        self.quota: int | None = None
        self.window = 60.0
        self.tells = True
        self.tells_always = False
        self.pause: float | None = None
        self.why = "too many concurrent runs"
        self.admitted: deque[float] = deque()
        self.tries: list[float] = []
        self.refused = 0
        self.work = 0.0
        self.in_flight = 0

    @property
    def now(self) -> float:
        return anyio.current_time() - self.began

    async def start(self) -> float | Refusal:
        """How long the run will take, or a no."""
        self.tries.append(self.now)
        await anyio.sleep(self.chance.uniform(0.05, 0.2))
        refusal = self._refusal()
        if refusal is not None:
            self.refused += 1
            return refusal
        self.admitted.append(self.now)
        self.in_flight += 1
        seconds = self.chance.lognormvariate(log(self.median), 0.5)
        self.work += seconds
        return seconds

    def told(self) -> Signal:
        """What the answer to an accepted start says of the quota."""
        if not self.tells_always or self.quota is None:
            return NO_SIGNAL
        reset = self.admitted[0] + self.window - self.now
        return Signal(None, self.quota - len(self.admitted), reset, self.quota, self.window)

    def _refusal(self) -> Refusal | None:
        while self.admitted and self.admitted[0] <= self.now - self.window:
            self.admitted.popleft()
        if self.quota is not None and len(self.admitted) >= self.quota:
            reset = self.admitted[0] + self.window - self.now
            told = Signal(reset, 0, reset, self.quota, self.window) if self.tells else Signal(retry_after=reset)
            return Refusal(429, "rate limit exceeded", told)
        if self.in_flight >= self.slots(self.now):
            return Refusal(429, self.why, Signal(retry_after=self.pause))
        return None


class Batch:
    """Rows that are started and run to their ends through `Limits`, by as many workers as there are slots."""

    def __init__(self, limits: Limits, service: Service, notices: Callable[[], float] = lambda: 0.0) -> None:
        self.limits = limits
        self.service = service
        self.notices = notices
        """Seconds from a run's end to when it is noticed."""
        self.held = 0
        self.most_held = 0

    async def run(self, rows: int) -> float:
        """How long it took."""
        async with anyio.create_task_group() as workers:
            for _ in range(rows):
                workers.start_soon(self._row)
        return self.service.now

    async def _row(self) -> None:
        async with self.limits.slot() as slot:
            self.held += 1
            self.most_held = max(self.most_held, self.held)
            await anyio.sleep(await self._started(slot))
            self.service.in_flight -= 1
            await anyio.sleep(self.notices())
            self.held -= 1

    async def _started(self, slot: Slot) -> float:
        while True:
            await slot.turn()
            answer = await self.service.start()
            if not isinstance(answer, Refusal):
                slot.accepted(self.service.told())
                return answer
            slot.refused(answer.status_code, answer.why, answer.signal)
            await anyio.sleep(self.service.chance.uniform(0, 0.5))
