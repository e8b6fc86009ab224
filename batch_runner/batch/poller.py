"""Follows all runs of a batch to their ends: polls as the schedule says, and wakes whoever waits for a run.

One task, `Watch.drive`, hands out the polls; each poll is a task of its own, so a slow answer holds up no other run.
"""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING

import anyio
import msgspec

from batch_runner.batch.backoff import FRESH_RUN, POLLS, Backoff
from batch_runner.service.protocol import LookFailed, RunSeen
from batch_runner.service.wire import Run

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from batch_runner.batch.poll_schedule import Schedule


class Unreachable(msgspec.Struct, frozen=True):
    """The run could not be asked for so long that it is given up, or can't be at all; it may well go on.

    `status` is the last that was seen, `status_code` that of the last answer to a poll, if there was one.
    """

    why: str
    status: str
    status_code: int | None = None


class Vanished(msgspec.Struct, frozen=True):
    """The service does not know the run, and has said so for the time that a fresh run id may need."""

    why: str


class Overdue(msgspec.Struct, frozen=True):
    """The run still went on, with this status, when it had been followed for the run timeout."""

    status: str


Followed = Run | Unreachable | Vanished | Overdue
"""What became of a run that was followed; a `Run` has ended."""


class _Following(msgspec.Struct):
    """A run that somebody waits for. `failures` are polls in a row that told nothing, of one kind, since `since`."""

    run_id: str
    status: str
    on_status: Callable[[str], None]
    ended: anyio.Event
    found: Run | Unreachable | Vanished | None = None
    failures: int = 0
    since: float = 0.0
    backoff: Backoff | None = None


class Watch:
    """Follows runs; `drive` must run as a task as long as `follow` is used."""

    def __init__(
        self,
        poll: Callable[[str], Awaitable[RunSeen | LookFailed]],
        schedule: Schedule,
        run_timeout: float,
        chance: random.Random,
    ) -> None:
        self._poll = poll
        self._schedule = schedule
        self._run_timeout = run_timeout
        self._chance = chance
        self._numbers = count()
        self._followings: dict[int, _Following] = {}
        self._moved = anyio.Event()

    async def follow(self, run: Run, on_status: Callable[[str], None], age: float | None = 0.0) -> Followed:
        """Wait for a run's end, at most for the run timeout from now.

        `age` is how many seconds ago the run started; None where that isn't known, as with one of another night.
        `on_status` is called with each new status that is not final; one that goes backwards is told like any other.
        """
        number = next(self._numbers)
        following = _Following(run.run_id, run.status, on_status, anyio.Event())
        self._followings[number] = following
        self._schedule.add(number, anyio.current_time(), age)
        self._moved.set()
        try:
            with anyio.move_on_after(self._run_timeout):
                await following.ended.wait()
        finally:
            del self._followings[number]
            self._schedule.remove(number)
        return following.found or Overdue(following.status)

    def hurry(self) -> None:
        """Look at all runs now, and as often as the budget allows from now on."""
        self._schedule.hurry(anyio.current_time())
        self._moved.set()

    async def drive(self) -> None:
        """Send the polls, until cancelled."""
        async with anyio.create_task_group() as polls:
            while True:
                number = self._schedule.due(anyio.current_time())
                if number is None:
                    await self._wait()
                else:
                    polls.start_soon(self._look, number, self._followings[number])

    async def _wait(self) -> None:
        next_at = self._schedule.next_at()
        self._moved = anyio.Event()
        with anyio.CancelScope(deadline=float("inf") if next_at is None else next_at):
            await self._moved.wait()

    async def _look(self, number: int, following: _Following) -> None:
        asked_at = anyio.current_time()
        answer = await self._poll(following.run_id)
        if number not in self._followings:
            return
        if isinstance(answer, LookFailed):
            self._trouble(number, following, answer)
        else:
            self._seen(number, following, answer, asked_at)
        self._moved.set()

    def _seen(self, number: int, following: _Following, answer: RunSeen, asked_at: float) -> None:
        following.failures = 0
        if answer.run.has_ended:
            self._schedule.ended(number, anyio.current_time())
            self._end(following, answer.run)
            return
        self._schedule.looked(number, asked_at)
        if answer.run.status != following.status:
            following.status = answer.run.status
            following.on_status(following.status)

    def _trouble(self, number: int, following: _Following, trouble: LookFailed) -> None:
        now = anyio.current_time()
        backoff = FRESH_RUN if trouble.status_code == 404 else POLLS
        if not following.failures or backoff is not following.backoff:
            following.failures, following.since, following.backoff = 0, now, backoff
        following.failures += 1
        floor = trouble.signal.retry_after
        wait = backoff.wait(following.failures, now - following.since, self._chance, floor)
        if wait is not None and trouble.again:
            self._schedule.missed(number, now, wait)
        elif trouble.status_code == 404:
            self._end(following, Vanished(trouble.why))
        else:
            self._end(following, Unreachable(trouble.why, following.status, trouble.status_code))
        if floor:
            self._schedule.hold(now + min(floor, POLLS.ceiling))

    def _end(self, following: _Following, found: Run | Unreachable | Vanished) -> None:
        following.found = found
        following.ended.set()
