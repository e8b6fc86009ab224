"""One try to start a run: what is known of it on its way, and how long ago it was sent."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import anyio
import msgspec

from batch_runner import log
from batch_runner.plan.plan import Poll, Resend, Send
from batch_runner.service.protocol import Lost, Refused

if TYPE_CHECKING:
    from batch_runner.log import Fact
    from batch_runner.service.protocol import Capabilities


class RowAttempt(msgspec.Struct, frozen=True):
    """`id` is the journal's, `row` the sheet's number of the row, `began` when its start went out (the loop's clock).

    `began` is None where that was an earlier batch. `may_be_replaced`: another attempt can take its place if its run
    never begins. `turn` is the number of its start among all of this command.
    """

    id: int
    row: int
    began: float | None = None
    may_be_replaced: bool = False
    turn: int = 0

    def info(self, event: str, **facts: Fact) -> None:
        """Log an event of it, with the seconds since its start."""
        if log.hears_info():
            log.info(event, row=self.row, attempt=self.id, **facts, duration=self._seconds())

    def debug(self, event: str, **facts: Fact) -> None:
        """As `info`, for what only debug may hold."""
        if log.hears_debug():
            log.debug(event, row=self.row, attempt=self.id, **facts, duration=self._seconds())

    def no_run(self, answer: Refused | Lost) -> None:
        """Log a start that told no run: the service's own words may hold what a cell holds."""
        if isinstance(answer, Refused):
            self.info("start refused", code=answer.status_code, reach=answer.scope.value)
        else:
            self.info("answer lost")
        self.debug("the answer", why=answer.why)

    def _seconds(self) -> float | None:
        return None if self.began is None else anyio.current_time() - self.began


class Start:
    """The start of one row, over all its tries.

    `intended_at` is on this batch's clock (seconds). `is_lost`: nobody knows what came of it, and the same start can be
    sent again to learn that, from a service of this `memory`, which knows it by its Idempotency-Key.
    """

    def __init__(self) -> None:
        self.attempt: int | None = None
        self.intended_at = 0.0
        self.memory: str | None = None
        self.is_lost = False
        self.unbegun = 0
        """How many runs it made that ended without having begun."""

    def intended(self, attempt: int) -> int:
        """It is about to be sent as this attempt, which is returned."""
        self.attempt, self.intended_at = attempt, anyio.current_time()
        return attempt

    def answer_lost(self, memory: str | None) -> None:
        """Nobody knows what came of it. Where it can't be asked for (no memory), another try is another attempt."""
        self.memory = self.memory or memory
        self.is_lost = self.memory is not None
        if not self.is_lost:
            self.attempt = None

    def begin_anew(self) -> None:
        """The run that it made has ended, and nothing of it was done: another try is another attempt."""
        self.attempt, self.memory, self.is_lost = None, None, False
        self.unbegun += 1

    def is_known_to(self, capabilities: Capabilities) -> bool:
        """Whether a service with these capabilities surely knows it, so that sending it again makes no second run."""
        return capabilities.is_one_run(self.memory, anyio.current_time() - self.intended_at)


def start_of(plan: Send | Resend) -> Start:
    """A row's first try in this batch; with `Resend` that of an earlier batch, whose answer was lost."""
    start = Start()
    if isinstance(plan, Resend):
        start.intended(plan.attempt)
        start.intended_at -= seconds_since(plan.intended_at)
        start.answer_lost(plan.memory)
    return start


def seconds_since(moment: str) -> float:
    """Seconds since a recorded moment (UTC)."""
    return (datetime.now(UTC) - datetime.fromisoformat(moment)).total_seconds()


def age_of(plan: Poll) -> float | None:
    """Seconds since the start of a run was sent; None where that isn't known. Never less than none: clocks are set."""
    return max(0.0, seconds_since(plan.intended_at)) if plan.intended_at else None
