"""When a batch stops starting runs before its last row, and why."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio
import msgspec

from batch_runner import log
from batch_runner.errors import ExitCode, JournalFull
from batch_runner.service.http.classify import advice_on

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batch_runner.units import FailureLimit


INTERRUPTS = (ExitCode.INTERRUPTED, ExitCode.TERMINATED)

SAME_ERRORS = 10
"""So many starts in a row refused with the same words, and the next will not fare better."""


class Stop(msgspec.Struct, frozen=True):
    """Why the batch stopped early: a sentence with what a person can do, and the exit code."""

    why: str
    exit_code: ExitCode


def refusal_for_all(why: str, status_code: int | None) -> Stop:
    """The stop for a start or a poll that was refused so, for a reason that every row has."""
    return Stop(f"{why}; {advice_on(status_code)}", ExitCode.STOPPED)


class Stopping:
    """The one place that says "no more starts". The first reason stands, but an interrupt beats any other."""

    def __init__(self, limit: FailureLimit | None, rows: int, past_deadline: Callable[[], bool] | None) -> None:
        self._limit = limit
        self._rows = rows
        self._past_deadline = past_deadline
        self._failures = 0
        self._same: tuple[str, int] = ("", 0)
        self._waits: set[anyio.CancelScope] = set()
        self._hurried: set[anyio.CancelScope] = set()
        self._interrupted = anyio.Event()
        self.stop: Stop | None = None

    def now(self, stop: Stop) -> None:
        """Stop starting."""
        interrupt = stop.exit_code in INTERRUPTS
        if self.stop is None or interrupt:
            self.stop = stop
            log.info("no more starts", exit_code=stop.exit_code)
            log.debug("no more starts", why=stop.why)
        if interrupt:
            self._interrupted.set()
        for wait in self._waits | (self._hurried if interrupt else set()):
            wait.cancel()

    def is_stopped(self) -> bool:
        """Whether no more runs may be started; looks at the deadline, too."""
        if self.stop is None and self._past_deadline is not None and self._past_deadline():
            self.now(Stop("the deadline was reached; the same command goes on with the rest", ExitCode.STOPPED))
        return self.stop is not None

    def look_at_deadline(self) -> None:
        """As `is_stopped`, where somebody waits for a start: a deadline that holds back nothing stops nothing."""
        if self._waits:
            self.is_stopped()

    @property
    def has_deadline(self) -> bool:
        """Whether time alone can bring a stop, so that somebody has to look at the clock."""
        return self._past_deadline is not None

    @property
    def is_interrupted(self) -> bool:
        """Whether a person (or the machine's shutdown) wants it to end now."""
        return self._interrupted.is_set()

    async def interrupted(self) -> None:
        """Return when that happens."""
        await self._interrupted.wait()

    @contextmanager
    def cut_short(self, *, interrupts_only: bool = False) -> Iterator[None]:
        """What waits in here before a start is cut short by a stop, or by an interrupt only."""
        waits = self._hurried if interrupts_only else self._waits
        with anyio.CancelScope() as wait:
            waits.add(wait)
            if self.is_interrupted if interrupts_only else self.is_stopped():
                wait.cancel()
            try:
                yield
            finally:
                waits.discard(wait)

    @contextmanager
    def when_full(self) -> Iterator[None]:
        """A disk that is found full in here stops the batch, but not the runs that are in flight."""
        try:
            yield
        except JournalFull as error:
            self.now(Stop(str(error), error.exit_code))

    def row_ended(self, status: str, error: str, *, started: bool) -> None:
        """Count a row's outcome of this batch towards the failure limit, and the same error in a row.

        `started`: a run was certainly started for it.
        """
        if started or status == "success":
            self._same = ("", 0)
        if status == "success":
            return
        self._failures += 1
        if self._limit is None:
            if not started:
                text, count = self._same
                self._same = (error, count + 1 if error == text else 1)
                if self._same[1] == SAME_ERRORS:
                    why = (
                        f"{SAME_ERRORS} starts in a row ended alike ({error}); fix the cause, then run the same command"
                    )
                    self.now(Stop(why, ExitCode.STOPPED))
        elif self._limit.reached(self._failures, self._rows):
            rows = "1 row" if self._failures == 1 else f"{self._failures} rows"
            self.now(Stop(f"{rows} did not succeed: the failure limit is reached", ExitCode.STOPPED))
