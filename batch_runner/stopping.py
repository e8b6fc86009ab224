"""When a batch stops starting runs before its last row, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import anyio
import msgspec

from batch_runner.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Callable

SAME_ERRORS = 10
"""So many starts in a row refused with the same words, and the next will not fare better."""


class FailureLimit(msgspec.Struct, frozen=True):
    """`20`: so many rows; `5%`: so many of a hundred rows of the batch."""

    number: float
    percent: bool

    @classmethod
    def parse(cls, text: str | int) -> Self:
        """Read the text form. Raises `ValueError` with a sentence."""
        digits = str(text).strip()
        percent = digits.endswith("%")
        try:
            number = float(digits.removesuffix("%")) if percent else int(digits)
        except ValueError:
            raise ValueError(f"{text!r} is not a number of rows; write for example 20 or 5%") from None
        if number <= 0 or (percent and number > 100):
            raise ValueError(f"{text!r} is out of range; write for example 20 or 5%")
        return cls(number, percent)

    def reached(self, failures: int, rows: int) -> bool:
        """Whether so many failures among so many rows are too many."""
        return failures >= (rows * self.number / 100 if self.percent else self.number) and failures > 0


class Stop(msgspec.Struct, frozen=True):
    """Why the batch stopped early: a sentence with what a person can do, and the exit code."""

    why: str
    exit_code: ExitCode


class Stopping:
    """The one place that says "no more starts". The first reason stands, but an interrupt beats any other."""

    def __init__(self, limit: FailureLimit | None, rows: int, past_deadline: Callable[[], bool]) -> None:
        self._limit = limit
        self._rows = rows
        self._past_deadline = past_deadline
        self._failures = 0
        self._same: tuple[str, int] = ("", 0)
        self._stopped = anyio.Event()
        self.stop: Stop | None = None

    def now(self, stop: Stop) -> None:
        """Stop starting."""
        interrupt = stop.exit_code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED)
        if self.stop is None or interrupt:
            self.stop = stop
        self._stopped.set()

    def is_stopped(self) -> bool:
        """Whether no more runs may be started; looks at the deadline, too."""
        if self.stop is None and self._past_deadline():
            self.now(Stop("the deadline was reached; the same command goes on with the rest", ExitCode.STOPPED))
        return self.stop is not None

    async def stopped(self) -> None:
        """Return when `now` was called."""
        await self._stopped.wait()

    def row_ended(self, status: str, error: str) -> None:
        """Count a row's outcome of this batch towards the failure limit and the same error in a row."""
        if status == "success":
            self._same = ("", 0)
            return
        self._failures += 1
        if self._limit is not None and self._limit.reached(self._failures, self._rows):
            self.now(Stop(f"{self._failures} rows did not succeed: the failure limit is reached", ExitCode.STOPPED))
        if self._limit is None and status == "error":
            self._count_same(error)

    def _count_same(self, error: str) -> None:
        text, count = self._same
        self._same = (error, count + 1 if error == text else 1)
        if self._same[1] == SAME_ERRORS:
            why = f"{SAME_ERRORS} starts in a row were refused alike ({error}); mend the cause and run the same command"
            self.now(Stop(why, ExitCode.STOPPED))
