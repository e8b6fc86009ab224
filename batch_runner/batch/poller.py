"""Follows all runs of a batch to their ends, each polled when the schedule says so.

One task, `Poller.drive`, says whose turn it is. Whoever follows a run looks at it then, so a slow answer holds up no
other run. Between two looks a run is a record here: a task for each would weigh four times as much.
"""

from __future__ import annotations

from itertools import count
from math import inf
from typing import TYPE_CHECKING

import anyio
import msgspec

from batch_runner.batch.stop import FRESH_RUN, POLLS, Backoff
from batch_runner.service.http.classify import BUSY, MISSING
from batch_runner.service.protocol import LookFailed, Run, RunSeen

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable

    from batch_runner.batch.poll_schedule import Schedule


class Unreachable(msgspec.Struct, frozen=True):
    """The run could not be asked for so long that it is given up, or can't be at all; it may well go on.

    `status` is the last that was seen, `status_code` that of the last answer to a poll, if there was one. It has told
    nothing for so many `seconds`.
    """

    why: str
    status: str
    status_code: int | None = None
    seconds: float = 0.0


class Vanished(msgspec.Struct, frozen=True):
    """The service does not know the run, and has said so for the time that a fresh run id may need."""

    why: str


class Overdue(msgspec.Struct, frozen=True):
    """The run still went on, with this status, when it had been followed for the run timeout."""

    status: str


Followed = Run | Unreachable | Vanished | Overdue
"""What became of a run that was followed; a `Run` has ended."""


class Following(msgspec.Struct):
    """A run that is followed. `failures` are polls in a row that told nothing, of one kind, since `since`."""

    number: int
    run_id: str
    status: str
    on_status: Callable[[str], None]
    on_turn: Callable[[Following], None]
    until: float
    is_last_look: bool
    failures: int = 0
    since: float = 0.0
    backoff: Backoff | None = None
    is_learned: bool = False


class Poller:
    """Follows runs; `drive` must run as a task as long as there are any."""

    def __init__(
        self,
        poll: Callable[[str], Awaitable[RunSeen | LookFailed]],
        schedule: Schedule,
        run_timeout: float,
        rng: random.Random,
    ) -> None:
        self._poll = poll
        self._schedule = schedule
        self._run_timeout = run_timeout
        self._rng = rng
        self._numbers = count()
        self._followings: dict[int, Following] = {}
        self._wakes_at = inf
        self._moved = anyio.Event()
        self.has_met_several = False
        """Whether looks were answered by services of several memories."""

    def follow(
        self,
        run: Run,
        on_status: Callable[[str], None],
        on_turn: Callable[[Following], None],
        age: float | None = 0.0,
        within: float = inf,
    ) -> None:
        """Follow a run to its end, at most for the run timeout from now, or for `within` seconds if that is less.

        `on_turn` is called each time when it is to be looked at (`look`), until a look gives what became of it.
        Where no second is left, it is looked at once: until an answer tells how it stands.
        `age` is how many seconds ago the run started; None where that isn't known, as with one of another night.
        `on_status` is called with each new status that is not final; one that goes backwards is told like any other.
        """
        number, now, is_last_look = next(self._numbers), anyio.current_time(), within <= 0
        until = inf if is_last_look else now + min(self._run_timeout, within)
        self._followings[number] = Following(number, run.run_id, run.status, on_status, on_turn, until, is_last_look)
        self._schedule.add(number, now, age, until)
        self._wake()

    async def look(self, following: Following) -> Followed | None:
        """Poll a run whose turn it is. Gives what became of it, which is all; None where it goes on."""
        found: Followed | None = Overdue(following.status)
        try:
            if anyio.current_time() < following.until:
                with anyio.CancelScope(deadline=following.until):
                    found = await self._ask(following)
            if found is None and following.is_last_look and following.is_learned:
                found = Overdue(following.status)
        finally:  # one whose look fails is not followed any more either: its row would end twice
            if found is None:
                self._wake()
            else:
                self._leave(following)
        return found

    def _leave(self, following: Following) -> None:
        del self._followings[following.number]
        self._schedule.remove(following.number)
        if not len(self._schedule):
            self._moved.set()  # `drive` is to wait for no run's timeout any more

    def hurry(self) -> None:
        """Look at all runs now, and as often as may be from now on."""
        self._schedule.hurry(anyio.current_time())
        self._wake()

    async def drive(self) -> None:
        """Say whose turn it is to be looked at, until cancelled."""
        while True:
            number = self._schedule.due(anyio.current_time())
            if number is not None:
                following = self._followings[number]
                following.on_turn(following)
                continue
            self._wakes_at = self._schedule.next_at()
            self._moved = anyio.Event()
            with anyio.CancelScope(deadline=self._wakes_at):
                await self._moved.wait()

    def _wake(self) -> None:
        """Let `drive` look at the schedule if something is due sooner than it thinks."""
        if self._schedule.next_at() < self._wakes_at:
            self._moved.set()

    async def _ask(self, following: Following) -> Run | Unreachable | Vanished | None:
        """Poll once; None: the run goes on."""
        number, asked_at = following.number, anyio.current_time()
        answer = await self._poll(following.run_id)
        now = anyio.current_time()
        self.has_met_several |= answer.signal.several
        if isinstance(answer, LookFailed):
            return self._trouble(following, answer, asked_at, now)
        following.failures = 0
        following.is_learned = True
        if answer.run.has_ended:
            self._schedule.ended(number, asked_at, now)
            return answer.run
        self._schedule.looked(number, asked_at, now)
        if answer.run.status != following.status:
            following.status = answer.run.status
            following.on_status(following.status)
        return None

    def _trouble(
        self, following: Following, trouble: LookFailed, asked_at: float, now: float
    ) -> Unreachable | Vanished | None:
        # A last look is to hold up the end of a batch for a short while only.
        backoff = FRESH_RUN if following.is_last_look or trouble.status_code == MISSING else POLLS
        if not following.failures or backoff is not following.backoff:
            following.failures, following.since, following.backoff = 0, now, backoff
        following.failures += 1
        floor = trouble.signal.retry_after
        if trouble.status_code in BUSY:
            self._schedule.refused(asked_at, now)
        if floor:
            self._schedule.hold(now + min(floor, POLLS.ceiling))
        wait = backoff.wait(following.failures, now - following.since, self._rng, floor)
        if wait is not None and trouble.again:
            self._schedule.missed(following.number, now, wait)
            return None
        if trouble.status_code == MISSING:
            return Vanished(trouble.why)
        return Unreachable(trouble.why, following.status, trouble.status_code, now - following.since)
