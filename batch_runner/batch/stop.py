"""When a batch stops starting runs before its last row, and why; how long it tries again before it gives up.

Exponential backoff with full jitter: each wait is drawn evenly between nothing and a bound that doubles up to a ceiling
(Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015). What the service says with `Retry-After`
is a floor: it is waited for in full, and the drawn wait comes on top, so that all do not return in the same instant.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import threading
import time
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import TYPE_CHECKING

import anyio
import msgspec

from batch_runner import log
from batch_runner.batch.attempts import Doubts
from batch_runner.batch.limits import Pace
from batch_runner.errors import SIGNALS, Catching, ExitCode, Interrupted, JournalFull, Terminated
from batch_runner.journal.group_commit import out_of_time
from batch_runner.service.http.classify import advice_on
from batch_runner.service.protocol import Lost, Refused

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Collection, Iterator
    from types import FrameType, TracebackType
    from typing import Self

    from batch_runner.batch.attempts import Doubt
    from batch_runner.job.job import Job
    from batch_runner.units import FailureLimit


INTERRUPTS = (ExitCode.INTERRUPTED, ExitCode.TERMINATED)

SAME_ERRORS = 10
"""So many starts in a row refused with the same words, and the next will not fare better."""


SAME_MISSING = 3
"""The same for a param that the task must have and no column gives."""

_MISSING = re.compile(r"\b(missing|required)\b|\bnot (provided|given|supplied)\b", re.IGNORECASE)
_PARAM = re.compile(r"\b(param|parameter|input|input_params|argument|field|variable)s?\b", re.IGNORECASE)


class Stop(msgspec.Struct, frozen=True):
    """Why the batch stopped early: a sentence with what a person can do, and the exit code."""

    why: str
    exit_code: ExitCode


LOCK_PATIENCE = {ExitCode.TERMINATED: 3.0, ExitCode.INTERRUPTED: 12.0}
"""Seconds after a signal for which another program's lock on the journal is waited for: what runs in flight get to
end, and what is recorded of them then."""

LEAVING = {ExitCode.TERMINATED: 2.0, ExitCode.INTERRUPTED: 10.0}
"""Seconds after such a stop in which async tasks may tidy up, when all else is done."""
LAST_SECONDS = 2.0
"""Seconds that the interpreter gets then to end: it waits for threads that tasks have left."""


class Signals:
    """What `SIGNALS` has, from the first moment of a command to its last. The second one ends it at once.

    Before a batch runs, the first raises `Interrupted` or `Terminated` in the main thread: nothing has been sent. In
    `handed_over` it is for who awaits `first`. After that it changes nothing: what there is to be told is told.
    """

    def __init__(self) -> None:
        self._code: ExitCode | None = None
        self._heard_at = 0.0
        self._may_raise = True
        self._before: dict[int, object] = {}
        self._wake: tuple[socket.socket, socket.socket] | None = None

    def __enter__(self) -> Self:
        for number in SIGNALS:
            before = signal.getsignal(number)
            if number != SIGNALS[-1] or before != signal.SIG_IGN:  # nohup has it ignored
                self._before[number] = before
                signal.signal(number, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before if callable(before) or isinstance(before, signal.Handlers) else signal.SIG_DFL)

    @property
    def is_heard(self) -> bool:
        """Whether one has come, so that what is left has to be quick."""
        return self._code is not None

    @property
    def leaving(self) -> float | None:
        """The seconds of `LEAVING`, if one has come."""
        return None if self._code is None else LEAVING[self._code]

    def out_of_time(self) -> ExitCode | None:
        """The exit code of a signal after which nothing is waited for any longer, a journal's lock least of all."""
        if self._code is None or time.monotonic() - self._heard_at < LOCK_PATIENCE[self._code]:
            return None
        return self._code

    @contextmanager
    def handed_over(self) -> Iterator[None]:
        """A batch runs in here."""
        self._may_raise = False
        self._wake = reader, writer = socket.socketpair()
        with reader, writer:
            reader.setblocking(False)
            writer.setblocking(False)
            before = out_of_time.set(self.out_of_time)
            try:
                yield
            finally:
                out_of_time.reset(before)
                self._wake = None

    def end_soon(self, code: int) -> None:
        """All is told. If a signal has come, the program ends with this code, whatever threads tasks have left."""
        if self.is_heard:
            last = threading.Timer(LAST_SECONDS, os._exit, (code,))
            last.daemon = True
            last.start()

    async def first(self) -> ExitCode:
        """Wait for the first one; gives the exit code that it stands for."""
        assert self._wake is not None
        while self._code is None:
            await anyio.wait_readable(self._wake[0])
        return self._code

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        code = ExitCode.INTERRUPTED if number == signal.SIGINT else ExitCode.TERMINATED
        if self._code is not None:
            os._exit(code)  # the journal has it all
        self._code, self._heard_at = code, time.monotonic()
        if self._may_raise:
            raise (Interrupted if code == ExitCode.INTERRUPTED else Terminated)(
                "interrupted before anything was sent; run the same command"
            )
        if self._wake is not None:
            with suppress(BlockingIOError):
                self._wake[1].send(b"!")


def refusal_for_all(why: str, status_code: int | None) -> Stop:
    """The stop for a start or a poll that was refused so, for a reason that every row has."""
    return Stop(f"{why.rstrip('.')}; {advice_on(status_code)}", ExitCode.STOPPED)


class NightBudget:
    """One deadline, counted from when this is made, and one pace of starts, for batches that run one after another.

    `command` is the same for all of them where there are several: what they do is done in one night. It is that of the
    night which they go on with, if there is one.
    """

    def __init__(self, job: Job, command: str = "") -> None:
        self.command = command
        self._deadline = job.deadline_from(datetime.now().astimezone())
        self._began = time.monotonic()
        self.pace = Pace(job.start_rate)

    @property
    def late(self) -> str:
        """A sentence where the night began after its deadline, a time of day that had just passed."""
        if self._deadline is None or self._deadline.seconds > 0:
            return ""
        late = f"the deadline ({self._deadline}) had passed when it began; the same command goes on before the next one"
        return f"{late}, and now with --deadline 2h"

    def past_deadline(self) -> Callable[[], bool] | None:
        """Asks both clocks whether the deadline has passed; None if there is none. Made where a batch begins."""
        deadline = self._deadline
        if deadline is None:
            return None
        began = anyio.current_time() - (time.monotonic() - self._began)
        return lambda: deadline.passed(datetime.now().astimezone(), anyio.current_time() - began)


class Stopping:
    """The one place that says "no more starts". The first reason stands, but an interrupt beats any other."""

    def __init__(
        self, limit: FailureLimit | None, rows: int, past_deadline: Callable[[], bool] | None, late: str = ""
    ) -> None:
        self._limit = limit
        self._rows = rows
        self._past_deadline = past_deadline
        self._at_deadline = late or "the deadline was reached; the same command goes on with the rest"
        self._failures = 0
        self._same: tuple[str, int] = ("", 0)
        self._missing: tuple[str, int] = ("", 0)
        self._given: set[str] = set()
        self.doubts = Doubts()
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
        if self.stop is None and self.is_late():
            self.now(Stop(self._at_deadline, ExitCode.STOPPED))
        return self.stop is not None

    def look_at_deadline(self) -> None:
        """As `is_stopped`, where somebody waits for a start: a deadline that holds back nothing stops nothing."""
        if self._waits:
            self.is_stopped()

    def is_late(self) -> bool:
        """Whether the deadline has passed."""
        return self._past_deadline is not None and self._past_deadline()

    @property
    def has_deadline(self) -> bool:
        """Whether time alone can bring a stop, so that somebody has to look at the clock."""
        return self._past_deadline is not None

    @property
    def is_interrupted(self) -> bool:
        """Whether a person (or the machine's shutdown) wants it to end now."""
        return self._interrupted.is_set()

    @property
    def is_hasty(self) -> bool:
        """Whether the machine's shutdown wants it, which kills what has not ended in some seconds."""
        return self.stop is not None and self.stop.exit_code == ExitCode.TERMINATED

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

    def when_full(self) -> Catching:
        """A disk that is found full in here stops the batch, but not the runs that are in flight."""
        return Catching(self._stops_when_full)

    def _stops_when_full(self, error: Exception) -> bool:
        if isinstance(error, JournalFull):
            self.now(Stop(str(error), error.exit_code))
        return isinstance(error, JournalFull)

    def doubt(self, doubt: Doubt, turn: int) -> None:
        """The start of this number was refused so; stops if that is every row's by now."""
        if self.doubts.add(doubt, turn):
            self.now(refusal_for_all(doubt.answer.why, doubt.answer.status_code))

    def judge_doubts(self) -> None:
        """No more starts come. A refusal is its row's own if any start has passed, else every row's."""
        doubt = self.doubts.first()
        if doubt is None or self.stop is not None:
            return
        if self.doubts.has_passed:
            self.doubts.give_up()
        else:
            self.now(refusal_for_all(doubt.answer.why, doubt.answer.status_code))

    def row_ended(self, status: str, error: str, *, started: bool, params: Collection[str] = ()) -> None:
        """Count a row's outcome of this batch towards the failure limit, and the same error in a row.

        `started`: a run was certainly started for it. `params` are the names of what was sent for it.
        """
        self._given.update(params)
        self._count_missing(status, error, started=started)
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

    def _count_missing(self, status: str, error: str, *, started: bool) -> None:
        """Stop where one row after the other lacks a param that no column gives: the next will lack it, too."""
        is_missing = status in ("error", "failure") and _MISSING.search(error) and (not started or _PARAM.search(error))
        if not is_missing or any(name.lower() in error.lower() for name in self._given):
            self._missing = ("", 0)
            return
        text, count = self._missing
        self._missing = (error, count + 1 if error == text else 1)
        if self._missing[1] == SAME_MISSING:
            self.now(
                Stop(
                    f"{SAME_MISSING} rows in a row ended alike ({error}): the task needs a param that no column gives; "
                    'say which column it is by --rename "Column=param", or its value by --param, '
                    "then run the same command",
                    ExitCode.STOPPED,
                )
            )


_DOUBLINGS = 64
"""More than any ceiling needs; keeps the power of two a float."""


class Backoff(msgspec.Struct, frozen=True, kw_only=True):
    """How to try again: `base` and `ceiling` bound the drawn waits, `budget` and `tries` end it; all in seconds.

    The budget counts from the first failure to the last moment at which a try may begin.
    """

    base: float = 0.5
    ceiling: float = 30.0
    budget: float = 300.0
    tries: int | None = None

    def wait(
        self, failures: int, elapsed: float, chance: random.Random, retry_after: float | None = None
    ) -> float | None:
        """Seconds to wait before the next try; None: give up.

        `failures` is how many tries have failed in a row (1 or more), `elapsed` the seconds since the first of them.
        """
        if self.tries is not None and failures >= self.tries:
            return None
        left = self.budget - elapsed
        floor = max(0.0, retry_after or 0.0)
        if left <= 0 or floor > left:
            return None
        return min(floor + self.draw(failures, chance), left)

    def draw(self, failures: int, chance: random.Random) -> float:
        """Seconds to wait after so many failures in a row, where something else ends the trying."""
        return chance.uniform(0.0, min(self.ceiling, self.base * 2.0 ** min(failures - 1, _DOUBLINGS)))


POLLS = Backoff(base=1.0, ceiling=60.0, budget=900.0)
"""Polls may be repeated freely: a service that restarts is waited for, a quarter of an hour long."""

FRESH_RUN = Backoff(base=1.0, ceiling=5.0, budget=30.0)
"""A 404 on a run id that was just given: the service may not have it everywhere yet."""

STARTS = Backoff(base=0.5, ceiling=60.0, budget=900.0)
"""Starts of which it is certain that they made no run."""

NEVER_REACHED = 30.0
"""Seconds until a service is given up that has neither said yes once in this batch nor told us to wait."""
LONGEST_PAUSE = 3600.0
"""Seconds of a pause that are waited for: who asks for more (a quota of the day, say) is asked by a later batch."""


class CircuitBreaker:
    """Knows since when no start has got through, whichever row it was for."""

    def __init__(self) -> None:
        self._said_yes = False
        self._failing_since: float | None = None
        self._longest_pause = 0.0

    def yes(self) -> None:
        """A start got through."""
        self._said_yes = True
        self._failing_since = None
        self._longest_pause = 0.0

    def no(self, answer: Refused | Lost, now: float) -> str | None:
        """A start did not get through: why to give up, None to try on.

        One that was refused only until another run ends is none of these.
        """
        if self._failing_since is None:
            self._failing_since = now
        elapsed, pause = now - self._failing_since, _pause(answer)
        self._longest_pause = max(self._longest_pause, pause)
        if pause > LONGEST_PAUSE:
            return f"{answer.why}; it asks for a pause of {pause / 3600:.1f} h"
        is_there = self._said_yes or (isinstance(answer, Refused) and answer.status_code is not None)
        if elapsed > (STARTS.budget if is_there else NEVER_REACHED) + self._longest_pause:
            return f"{answer.why}; no start has got through for {elapsed:.0f} s"
        return None


def _pause(answer: Refused | Lost) -> float:
    """Seconds that the service asks for."""
    return (isinstance(answer, Refused) and answer.signal.retry_after) or 0.0
