"""What is on its way: a sheet, a try to start a row's run, the run; and what a few tries tell of all the others."""

from __future__ import annotations

from array import array
from collections import Counter
from datetime import UTC, datetime
from math import inf
from typing import TYPE_CHECKING

import anyio
import msgspec
from anyio.lowlevel import checkpoint_if_cancelled

from batch_runner import log
from batch_runner.journal.journal import Outcome
from batch_runner.journal.view import Count, Placed
from batch_runner.outcomes import NOT_STARTED, SUCCESS
from batch_runner.plan.plan import Keep, Poll, Resend, Send
from batch_runner.rows.source import LARGE_CHUNK, chunks, see
from batch_runner.service.http.classify import FORBIDDEN, REFUSING_US, scope_of_status
from batch_runner.service.protocol import Lost, RefusalScope, Refused

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from batch_runner.batch.limits import Slot
    from batch_runner.journal.journal import Journal
    from batch_runner.log import Fact
    from batch_runner.rows.params import RowParams
    from batch_runner.rows.source import Source
    from batch_runner.service.protocol import Capabilities, Run


class PlacedSheet:
    """One sheet, and the places that its rows have found in its journal; what came of them stands there.

    `carried` rows ended in an earlier batch, `changed` ones of these were edited since.
    """

    def __init__(self, source: Source, journal: Journal) -> None:
        self.source = source
        self.journal = journal
        self.carried = self.changed = 0
        self.is_placed = False
        """Whether all its rows have found their places in the journal."""
        self._numbers: array[int] | None = None

    @property
    def is_known(self) -> bool:
        """Whether all rows are placed, or one without a place certainly has no earlier outcome."""
        return self.is_placed or not (self.source.layout.is_earlier_output or self.journal.has_sent_before)

    @property
    def numbers(self) -> array[int]:
        """The numbers of the rows that take part; asked for once, since it takes a pass over the sheet."""
        if self._numbers is None:
            self._numbers = array("Q", self.source.numbers())
        return self._numbers

    async def place_rest(self) -> None:
        """Have all rows that are left find their places at once, where a shutdown leaves no time to plan each.

        Nothing is started: a row keeps the outcome that it has. Where none has any, they stay without a place.
        """
        if self.is_known:
            return
        if not self.journal.has_seen:
            await see(self.source, self.journal, lambda: True)
        carried, left = await self.journal.register_rest(self.numbers)
        self.carried += carried
        for chunk in chunks(self.source.some(left) if left else iter(()), LARGE_CHUNK):
            await checkpoint_if_cancelled()
            kept = [step for step in await self.journal.register(chunk) if isinstance(step, Keep)]
            self.carried += len(kept)
            self.changed += sum(step.changed for step in kept)
        self.is_placed = True

    def outcomes(self) -> Iterator[Placed]:
        """What came of each row that takes part; one that an interrupt left without a place wasn't started."""
        placed = self.journal.outcomes()
        if self.is_placed:
            yield from placed
            return
        known = next(placed, None)
        for number in self.numbers:
            if known is not None and known.number == number:
                yield known
                known = next(placed, None)
            else:
                yield Placed(number, NOT_STARTED, "", "", "", changed=False)

    def counts(self) -> tuple[Count, ...]:
        """How many rows came to what, as in `outcomes`."""
        counts = Counter({count.status: count.rows for count in self.journal.counts()})
        if not self.is_placed:
            counts[NOT_STARTED] += self.source.total - counts.total()
        return tuple(Count(status, rows) for status, rows in counts.items() if rows)


class Terms(msgspec.Struct, frozen=True):
    """What may be relied on with this service and task.

    With `resend` a start whose answer was lost may be sent again, as another one. `runs_outlive_us`: the service goes
    on when we end, so that a run of an earlier batch can be followed. `beyond_api`: its starts may carry what the API
    doesn't know: an Idempotency-Key and the row's number. `tells_ends`: a look waits for the run's end; where
    that isn't known before, a service that turns out to be ours is asked.
    """

    resend: bool
    runs_outlive_us: bool
    beyond_api: bool = False
    tells_ends: bool = False
    follow_seconds: float = inf
    """How long to follow one run; the embedded service ends its runs itself."""


class RowAttempt(msgspec.Struct, frozen=True):
    """`id` is the journal's, `row` the sheet's number of the row, `began` when its start went out (the loop's clock).

    `began` is None where that was an earlier batch. `may_be_replaced`: another attempt can take its place if its run
    never begins. `turn` is the number of its start among all of this command. `slot` is the one that its run holds.
    """

    id: int
    row: int
    began: float | None = None
    may_be_replaced: bool = False
    turn: int = 0
    slot: Slot | None = None

    def info(self, event: str, **facts: Fact) -> None:
        """Log an event of it, with the seconds since its start."""
        if log.hears_info():
            log.info(event, row=self.row, attempt=self.id, **facts, duration=self._seconds())

    def debug(self, event: str, **facts: Fact) -> None:
        """As `info`, for what only debug may hold."""
        if log.hears_debug():
            log.debug(event, row=self.row, attempt=self.id, **facts, duration=self._seconds())

    def run_ended(self, status: str) -> None:
        """Its run came to this, which is recorded next. After a success another row may have the slot by then.

        So the end and the next row's intent go to disk together. What is no success may be the last that the failure
        limit bears, or be sent anew: it keeps the slot until it is recorded.
        """
        if status == SUCCESS and self.slot is not None:
            self.slot.release()

    def no_run(self, answer: Refused | Lost) -> None:
        """Log a start that told no run: the service's own words may hold what a cell holds."""
        if isinstance(answer, Refused):
            self.info("start refused", code=answer.status_code, reach=answer.scope.value)
        else:
            self.info("answer lost")
        self.debug("the answer", why=answer.why)

    def _seconds(self) -> float | None:
        return None if self.began is None else anyio.current_time() - self.began


class Going(msgspec.Struct, frozen=True):
    """A run that goes on, and what its row needs when it has ended: all that there is of a row while it is followed.

    `plan` is what is done with the row, `start` its start; None of an earlier batch. `since` is when that was (UTC),
    `age` how many seconds ago; None of an earlier batch, too. It is followed for `within` seconds: where none is left,
    it is looked at once.
    """

    attempt: RowAttempt
    run: Run
    plan: Send | Resend | Poll
    start: Start | None
    since: str
    age: float | None = 0.0
    within: float = inf


class Start:
    """The start of one row, over all its tries.

    `intended_at` is on this batch's clock (seconds). `is_lost`: nobody knows what came of it, and the same start can be
    sent again to learn that, from a service of this `memory`, which knows it by its Idempotency-Key.
    """

    __slots__ = ("attempt", "intended_at", "is_lost", "memory", "unbegun")

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


BELIEVED = 2
"""So many starts after the first that are refused alike, with none that passes, and the refusal is every row's."""


class Doubt(msgspec.Struct, frozen=True, eq=False):
    """A start that was refused, it is not known yet whether for its row's own sake or for every row's.

    `attempt` is the journal's; certainly no run was started. `sent` is how many had gone out when it was refused.
    """

    attempt: int
    row_number: int
    answer: Refused
    sent: int


Came = Outcome | Doubt | Going
"""What came of a row so far."""


class Doubts:
    """Refusals that may be one row's own or every row's, until the next starts tell.

    Only a start that went out after the refusal tells anything of it.
    """

    def __init__(self) -> None:
        self._open: list[Doubt] = []
        self._cleared: list[Doubt] = []
        self._refused_since = 0
        self._forbidden = 0
        self._is_told = anyio.Event()
        self.has_passed = False
        self.sent = 0
        """How many starts have gone out."""

    def turn(self) -> int:
        """The number of a start that goes out now."""
        self.sent += 1
        return self.sent

    def add(self, doubt: Doubt, turn: int) -> bool:
        """The start of this number was refused so; whether that is every row's by now."""
        if self._open and turn > self._open[0].sent:
            self._refused_since += 1
        self._open.append(doubt)
        return self._refused_since >= BELIEVED

    def passed(self, turn: int) -> None:
        """The start of this number got further than that: what was refused before it went out is its row's own."""
        self.has_passed = True
        if not self._open or self._open[0].sent >= turn:
            return
        self._cleared += [doubt for doubt in self._open if doubt.sent < turn]
        self._open = [doubt for doubt in self._open if doubt.sent >= turn]
        self._refused_since = 0
        self._is_told.set()

    def poll_passed(self) -> None:
        """A run's end was learned: who asks may ask."""
        self._forbidden = 0

    def poll_refused(self, status: int | None, words: str, *, is_ours: bool) -> bool:
        """A run can't be asked for; whether the reason is every run's. `is_ours`: it was started with this very key.

        A 403 is believed where it says so, or where the next runs get it, too.
        """
        if status != FORBIDDEN or not is_ours:
            return status in REFUSING_US
        self._forbidden += 1
        return self._forbidden > BELIEVED or scope_of_status(status, words) is RefusalScope.TASK

    def first(self) -> Doubt | None:
        """The oldest of which it isn't known."""
        return self._open[0] if self._open else None

    def give_up(self) -> None:
        """No start comes that could tell: all of them are their rows' own."""
        self._cleared += self._open
        self._open = []
        self._is_told.set()

    async def told(self) -> None:
        """Return when `take` gives something."""
        await self._is_told.wait()

    def take(self) -> list[Doubt]:
        """Those that are known now to be their rows' own, each once."""
        self._is_told = anyio.Event()
        taken, self._cleared = self._cleared, []
        return taken


class Canary:
    """Waits for some rows to end, and knows whether they all succeeded."""

    def __init__(self, rows: Iterable[object]) -> None:
        self._waiting = {id(row) for row in rows}
        self._failed = 0
        self._over = anyio.Event()
        if not self._waiting:
            self._over.set()

    def row_ended(self, row: object, status: str) -> None:
        """Hear of any row's end; what isn't ours is passed over."""
        if id(row) in self._waiting:
            self._waiting.discard(id(row))
            self._failed += status != SUCCESS
            if not self._waiting:
                self._over.set()

    async def failures(self) -> int:
        """Wait for the last of them, then say how many did not succeed."""
        await self._over.wait()
        return self._failed


def different_shapes(rows: Sequence[RowParams], number: int) -> tuple[int, ...]:
    """The places of up to `number` rows: first one of each shape (which params are filled), then the first others."""
    first_of_shape: dict[frozenset[str], int] = {}
    for place, row in enumerate(rows):
        first_of_shape.setdefault(frozenset(row.params), place)
    chosen = list(first_of_shape.values())[:number]
    others = (place for place in range(len(rows)) if place not in chosen)
    while len(chosen) < min(number, len(rows)):
        chosen.append(next(others))
    return tuple(sorted(chosen))


def outcome_of(run: Run) -> Outcome:
    """What a run came to, as the journal records it: `unknown` where nobody knows how far it had come."""
    status = "unknown" if run.cut_off else run.status
    return Outcome(status, run.run_id, str(memoryview(run.result), "utf-8"), run.error or "", run.session_id)
