"""One row from its plan to its outcome: intent, start, run id, polls, outcome; each recorded before the next.

Rule 1  The intent is on disk before the first byte of the POST leaves, the run id before the first poll.
Rule 2  A start is sent again only if it certainly made no run (`RefusalScope.LATER`), the service knows it by its key,
        or the task is declared safe to repeat.
Rule 3  A run that ended without having begun, as our own service can say, leaves its row to be sent again.
Rule 4  A row's failure is data. What is raised (`JournalFailed`) stops the batch.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import partial
from math import inf
from typing import TYPE_CHECKING

import anyio
import msgspec

from batch_runner import log
from batch_runner.batch.attempts import Doubt, Going, RowAttempt, Start, age_of, outcome_of, start_of
from batch_runner.batch.poller import Overdue, Unreachable, Vanished
from batch_runner.batch.stop import STARTS, CircuitBreaker, Stop, refusal_for_all
from batch_runner.errors import ExitCode
from batch_runner.journal.batches import now
from batch_runner.journal.journal import Outcome
from batch_runner.plan.plan import Poll, Resend, Send
from batch_runner.service.http.classify import names_identity
from batch_runner.service.protocol import (
    LARGE,
    Lost,
    RefusalScope,
    Refused,
    Run,
    RunRequest,
    RunSeen,
    Started,
    StartRequest,
    let_next_be_large,
)
from batch_runner.units import local_time

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from batch_runner.batch.attempts import Came, Terms
    from batch_runner.batch.limits import Slot
    from batch_runner.batch.poller import Followed, Following, Poller
    from batch_runner.batch.stop import Stopping
    from batch_runner.job.job import Job
    from batch_runner.journal.journal import Journal
    from batch_runner.rows.params import RowParams
    from batch_runner.service.protocol import Service


SYNC_MARGIN = 60.0
"""Seconds that the answer to a sync start may take longer than its run."""
MOST_RESENDS = 20
"""Times that a row is sent in one batch whose answers are lost, where that is harmless: about ten minutes' worth."""
CUT_OFF = "interrupted while the answer to the start was awaited: a run may exist"
ENDED_WITH_US = "the run ended with the program that ran it; how far it had come is not known"
FIRST_LOOK, LONGEST_LOOK = 1.0, 20.0
"""Seconds that one look waits for a run's end: at first less, to see it run; then what any gateway bears."""
LEARNING = 1.0
"""Seconds that a start whose answer was lost waits for any other's, which tells whether this one can be asked for."""
NOT_STARTED = Outcome("not_started")
STILL_UNKNOWN = Outcome("unknown")
"""Of a start whose answer an earlier batch lost, and which nobody can be asked for: no news of this batch."""


class Worker:
    """What all workers of a batch share."""

    def __init__(
        self,
        job: Job,
        *,
        service: Service,
        journal: Journal,
        poller: Poller,
        stopping: Stopping,
        terms: Terms,
        chance: random.Random,
    ) -> None:
        self._job = job
        self._service = service
        self._journal = journal
        self._poller = poller
        self._stopping = stopping
        self._terms = terms
        self._chance = chance
        self._answer_within = job.run_seconds + SYNC_MARGIN if job.sync else None
        self._patience = CircuitBreaker()
        self._memory: str | None = None
        self._is_distrusted = False
        self._first_at = inf
        self._was_answered = anyio.Event()
        self._is_away = False
        self._warned = False
        self._told_unlearned = False
        self._tells_ends = True if terms.tells_ends else None
        self._asking = anyio.Lock()

    def is_overdue(self, plan: Send | Resend | Poll) -> bool:
        """Whether it is a run that has gone on for longer than any may: it is looked at once, when all else is done."""
        return isinstance(plan, Poll) and (age_of(plan) or 0.0) >= self._terms.follow_seconds

    async def do(self, plan: Send | Resend | Poll, row: RowParams, slot: Slot) -> Came:
        """Bring the row to its outcome and return it: `not_started` if a stop came first, the status it had if so.

        A `Doubt` says that its start was refused, and that only other rows' starts can tell what that means for it.
        A run that is `Going` is to be followed (`follow`).
        """
        try:
            if isinstance(plan, Poll):
                came: Came = await self._follow_earlier(plan, slot)
            else:
                came = await self._send(plan, row, slot, start_of(plan))
            return await self._then(plan, came, row, slot)
        finally:
            let_next_be_large()

    def follow(self, going: Going, on_turn: Callable[[Following], None]) -> None:
        """Have a run followed; `on_turn` is called each time when it is to be looked at (`look`)."""
        self._poller.follow(going.run, self._seen(going), on_turn, going.age, going.within)

    async def look(self, going: Going, following: Following, row: RowParams, slot: Slot) -> Came:
        """Look at a run whose turn it is: the same `Going` says that it goes on; else as `do`."""
        try:
            if (found := await self._poller.look(following)) is None:
                return going
            came: Came = await self._found(going, found)
            if came is NOT_STARTED and isinstance(going.plan, Send) and going.start is not None:
                came = await self._send_anew(going.plan, row, slot, going.start)
            return await self._then(going.plan, came, row, slot)
        finally:
            let_next_be_large()

    async def _then(self, plan: Send | Resend | Poll, came: Came, row: RowParams, slot: Slot) -> Came:
        """Send what is to be sent after what came of an earlier batch's start, if anything."""
        if isinstance(plan, Send) or isinstance(came, Doubt | Going):
            return came
        again = plan.otherwise if came.status == "unknown" else plan.anew if came is NOT_STARTED else None
        return came if again is None else await self._send(again, row, slot, start_of(again))

    async def _follow_earlier(self, plan: Poll, slot: Slot) -> Outcome | Going:
        """Follow a run that an earlier batch started."""
        attempt = RowAttempt(plan.attempt, plan.row_number, may_be_replaced=plan.anew is not None, slot=slot)
        if not self._terms.runs_outlive_us:
            if isinstance(seen := await self._service.look(plan.run_id), RunSeen) and seen.run.never_began:
                return await self._run_ended(attempt, seen.run)  # a cluster remembers what never began there
            return await self._end(attempt, Outcome("unknown", plan.run_id, error=ENDED_WITH_US))
        within = max(0.0, self._terms.follow_seconds - (age_of(plan) or 0.0))
        if not self.is_overdue(plan):
            slot.follows()
        attempt.debug("run followed", run_id=plan.run_id)
        run = Run(plan.run_id, plan.status)
        return await self._follow(Going(attempt, run, plan, None, plan.intended_at or now(), None, within))

    async def blame(self, doubt: Doubt) -> Outcome:
        """The refusal was this row's own: record that."""
        return await self._end(RowAttempt(doubt.attempt, doubt.row_number), Outcome("error", error=doubt.answer.why))

    async def _send_anew(self, plan: Send, row: RowParams, slot: Slot, start: Start) -> Came:
        """Send a row once more whose run never began."""
        start.begin_anew()
        await self._pause(start.unbegun)
        return await self._send(plan, row, slot, start)

    async def _send(self, plan: Send | Resend, row: RowParams, slot: Slot, start: Start) -> Came:
        request, failures = self._request(row), 0
        outcome: Outcome = STILL_UNKNOWN if start.is_lost else NOT_STARTED
        while await self._may_start(slot, start):
            attempt = await self._intend(plan, start, slot)
            held = await self._journal.hold_if_started(attempt.id, plan, row) if isinstance(plan, Send) else None
            if held is not None:
                return Outcome("error", error=held)
            answer = await self._start(attempt, request)
            self._learn(answer)
            if isinstance(answer, Started):
                slot.accepted(answer.signal)
                self._stopping.doubts.passed(attempt.turn)
                came = await self._started(attempt, answer.run, plan, start)
                if came is not NOT_STARTED or isinstance(plan, Resend):
                    return came
                return await self._send_anew(plan, row, slot, start)
            attempt.no_run(answer)
            is_full = self._slow_down(slot, answer)
            if isinstance(answer, Lost) or start.is_lost:
                outcome = await self._doubt(attempt, answer)
                start.answer_lost(await self._memory_by_now())
            elif answer.scope is RefusalScope.LATER:
                await self._journal.withdrawn(attempt.id, answer.why)
            else:
                return await self._refused(attempt, answer)
            failures += 1
            if not await self._goes_on(answer, failures, is_full=is_full, is_lost=start.is_lost):
                break
        return outcome

    def _learn(self, answer: Started | Refused | Lost) -> None:
        """From an answer: is this a service of ours, and does its memory know all starts of this batch?"""
        if isinstance(answer, Lost) or self._is_distrusted:
            return
        signal = answer.signal
        if signal.several:
            self._distrust()
        elif self._memory is not None:
            return
        elif self._terms.beyond_api and signal.memory and anyio.current_time() - self._first_at < signal.memory_seconds:
            self._memory = signal.memory
            self._journal.remember(signal.memory)
        self._was_answered.set()

    def _distrust(self) -> None:
        """Several services stand behind the address: none of them knows all starts, tomorrow neither."""
        self._is_distrusted = True
        self._memory = None
        self._journal.remember(None)

    async def _memory_by_now(self) -> str | None:
        """The memory of the service, for a start whose answer was lost: another row's answer may tell it just now."""
        if self._terms.beyond_api:
            with anyio.move_on_after(LEARNING):
                await self._was_answered.wait()
        return self._memory

    async def _is_remembered(self, start: Start) -> bool:
        """Whether the service surely knows the start by its key; one that is away is waited for."""
        if not self._terms.beyond_api or self._is_distrusted:
            return False
        failures = 0
        most = 0 if self._is_away else MOST_RESENDS
        while (capabilities := await self._service.capabilities()).memory is None and failures < most:
            if capabilities.several:
                self._distrust()
                return False
            failures += 1
            await self._pause(failures)
            if self._stopping.is_stopped():
                return False
        self._is_away = capabilities.memory is None
        return start.is_known_to(capabilities)

    async def _doubt(self, attempt: RowAttempt, answer: Refused | Lost) -> Outcome:
        """A start whose answer was lost; that the same one is refused now doesn't say that it made no run then."""
        if isinstance(answer, Refused) and answer.scope is RefusalScope.TASK:
            self._stop_for(answer)
        return await self._end(attempt, Outcome("unknown", error=answer.why))

    async def _may_start(self, slot: Slot, start: Start) -> bool:
        """Wait for this start's turn; False if a stop comes first, or if it can't be asked for any more."""
        if start.is_lost and not await self._is_remembered(start):
            return False
        if self._stopping.is_stopped():
            return False
        if slot.turn_at_once():
            return True
        asked_at = anyio.current_time()
        with self._stopping.cut_short():
            await slot.turn()
        if self._stopping.is_stopped():
            return False
        is_stale = start.is_lost and anyio.current_time() - asked_at > LEARNING
        return not is_stale or await self._is_remembered(start)

    def _slow_down(self, slot: Slot, answer: Refused | Lost) -> bool:
        """Hear what an answer says of the pace, or that none came; whether a refusal holds until another run ends."""
        if isinstance(answer, Lost):
            slot.lost()
            return False
        if answer.scope is not RefusalScope.LATER:
            slot.answered()
            return False
        if answer.status_code is None and not (self._warned or self._stopping.is_interrupted):
            self._warned = True  # said at once, not when the service is given up
            log.warning(f"{answer.why}; trying on: check --service, and whether the service runs")
        return slot.refused(answer.status_code, answer.why, answer.signal)

    async def _intend(self, plan: Send | Resend, start: Start, slot: Slot) -> RowAttempt:
        self._first_at = min(self._first_at, anyio.current_time())
        if start.attempt is None:
            assert isinstance(plan, Send)
            intended = start.intended(await self._journal.intend(plan))
        else:
            intended = start.attempt
            await (self._journal.ask_again if start.is_lost else self._journal.intend_again)(intended)
        may_be_replaced = (isinstance(plan, Send) or plan.anew is not None) and start.unbegun < MOST_RESENDS
        turn = self._stopping.doubts.turn()
        attempt = RowAttempt(intended, plan.row_number, anyio.current_time(), may_be_replaced, turn, slot)
        attempt.debug("start intended")
        return attempt

    async def _start(self, attempt: RowAttempt, request: RunRequest) -> Started | Refused | Lost:
        """Send the start. Cut off before its answer, it is recorded as `unknown`: that much is true."""
        key, row = (self._journal.start_key(attempt.id), attempt.row) if self._terms.beyond_api else (None, None)
        start = StartRequest(self._job.task, request, key, row, self._answer_within)
        try:
            return await self._service.start(start)
        except anyio.get_cancelled_exc_class():
            await self._end(attempt, Outcome("unknown", error=CUT_OFF))
            raise

    async def _refused(self, attempt: RowAttempt, answer: Refused) -> Outcome | Doubt:
        if answer.scope is RefusalScope.ROW or (answer.scope is RefusalScope.UNCLEAR and self._is_its_own(answer)):
            self._stopping.doubts.passed(attempt.turn)
            return await self._end(attempt, Outcome("error", error=answer.why))
        await self._journal.withdrawn(attempt.id, answer.why)
        if answer.scope is RefusalScope.TASK:
            self._stop_for(answer)
        if self._stopping.stop is not None:
            return NOT_STARTED
        doubt = Doubt(attempt.id, attempt.row, answer, self._stopping.doubts.sent)
        self._stopping.doubt(doubt, attempt.turn)
        return doubt

    def _is_its_own(self, answer: Refused) -> bool:
        """Whether a refusal speaks of an identity or a session that each row chooses for itself."""
        return "{" in f"{self._job.identity_id}{self._job.session_id}" and names_identity(answer.why)

    def _stop_for(self, answer: Refused) -> None:
        self._stopping.now(refusal_for_all(answer.why, answer.status_code))

    async def _goes_on(self, answer: Refused | Lost, failures: int, *, is_full: bool, is_lost: bool) -> bool:
        """Wait before the row's next try; False where there is none, or a stop comes first."""
        if isinstance(answer, Lost) and not ((is_lost or self._terms.resend) and failures < MOST_RESENDS):
            return False
        if is_lost and isinstance(answer, Refused) and answer.scope is not RefusalScope.LATER:
            return False
        why = None if is_full else self._patience.no(answer, anyio.current_time())
        if why is not None:
            self._stopping.now(Stop(f"{why}; the same command goes on when the service does", ExitCode.STOPPED))
            return False
        await self._pause(failures)
        return not self._stopping.is_stopped()

    async def _pause(self, failures: int) -> None:
        """Wait before the next try after so many in vain, or until a stop."""
        with self._stopping.cut_short():
            await anyio.sleep(STARTS.draw(failures, self._chance))

    async def _started(self, attempt: RowAttempt, run: Run, plan: Send | Resend, start: Start) -> Outcome | Going:
        self._patience.yes()
        if run.has_ended:
            return await self._run_ended(attempt, run)
        shared = await self._journal.started(attempt.id, run.run_id, run.status, run.session_id)
        attempt.info("run started", run_id=run.run_id, status=run.status)
        if shared is not None:
            attempt.info("row ended", run_id=run.run_id, status=shared.status)
            return shared
        return await self._follow(Going(attempt, run, plan, start, now()))

    async def _follow(self, going: Going) -> Outcome | Going:
        """Follow a run to its end where the service tells that by itself; else it is to be polled."""
        if not await self._can_wait():
            return going
        found = await self._wait_for_end(going.run, self._seen(going), going.within)
        return going if found is None else await self._found(going, found)

    def _seen(self, going: Going) -> Callable[[str], None]:
        return partial(self._journal.seen, going.attempt.id)

    async def _found(self, going: Going, found: Followed) -> Outcome:
        """What became of a run. One that can't be followed so far keeps its status, with why."""
        attempt, run = going.attempt, going.run
        match found:
            case Run() as ended:
                self._stopping.doubts.poll_passed()
                return await self._run_ended(attempt, ended)
            case Vanished(why=why):
                return await self._end(attempt, Outcome("unknown", run.run_id, error=f"the run is gone: {why}"))
            case Overdue(status=status):
                why = (
                    f"still going after {self._job.run_timeout}, since {local_time(going.since)}; the same command "
                    "goes on from there, or resolve says what became of it"
                )
            case Unreachable(why=reason, status=status, status_code=code, seconds=seconds):
                why = self._unlearned(attempt, run, reason, seconds)
                if self._stopping.doubts.poll_refused(code, reason, is_ours=attempt.began is not None):
                    self._stopping.now(refusal_for_all(reason, code))
        self._journal.seen(attempt.id, status, why)
        attempt.info("run left as it is", run_id=run.run_id, status=status)
        attempt.debug("run left as it is", why=why)
        return Outcome(status, run.run_id, error=why)

    def _unlearned(self, attempt: RowAttempt, run: Run, reason: str, seconds: float) -> str:
        """Say of a run that nobody knows how it stands. A first one is worth a warning, the others stand beside it."""
        since = local_time((datetime.now(UTC) - timedelta(seconds=seconds)).isoformat())[-5:]
        why = f"how it stands could not be learned since {since}: {reason}"
        if not self._told_unlearned:
            self._told_unlearned = True
            log.warning(f"row {attempt.row}, {run.run_id}: {why}; the run may go on, and the same command asks again")
        return why

    async def _can_wait(self) -> bool:
        """Whether the service tells a run's end by itself. One that turns out to be ours is asked, once."""
        if self._tells_ends is None and self._memory is not None:
            async with self._asking:
                if self._tells_ends is None:
                    self._tells_ends = (await self._service.capabilities()).tells_ends
        return bool(self._tells_ends)

    async def _wait_for_end(self, run: Run, on_status: Callable[[str], None], within: float) -> Run | Overdue | None:
        """Wait for a run to be told as ended; None where that doesn't work, so that it is to be polled."""
        status, wait = run.status, FIRST_LOOK
        with anyio.move_on_after(min(self._terms.follow_seconds, within or inf)):
            while isinstance(found := await self._service.look(run.run_id, wait), RunSeen) and found.waited:
                self._poller.has_met_several |= found.signal.several
                if found.run.has_ended:
                    return found.run
                if not within:
                    return Overdue(found.run.status)
                wait = min(2 * wait, LONGEST_LOOK)
                if found.run.status != status:
                    status = found.run.status
                    on_status(status)
            return None
        return Overdue(status)

    async def _run_ended(self, attempt: RowAttempt, run: Run) -> Outcome:
        """What the run came to; `NOT_STARTED` if nothing of it was done, so that the row may be sent once more."""
        if not (run.never_began and self._terms.beyond_api and attempt.may_be_replaced):
            outcome = outcome_of(run)
            if len(outcome.result) > LARGE:  # of which there is to be one only while it is written to the journal
                msgspec.structs.force_setattr(run, "result", msgspec.Raw(b""))
            attempt.run_ended(outcome.status)
            return await self._end(attempt, outcome)
        await self._journal.withdrawn(attempt.id, f"{run.run_id} never began: {run.error}")
        attempt.info("run never began", run_id=run.run_id)
        return NOT_STARTED

    async def _end(self, attempt: RowAttempt, outcome: Outcome) -> Outcome:
        if self._poller.has_met_several and not self._is_distrusted:
            self._distrust()
        outcome = await self._journal.ended(attempt.id, outcome)
        attempt.info("row ended", run_id=outcome.run_id, status=outcome.status)
        if outcome.error:
            attempt.debug("row ended", why=outcome.error)
        return outcome

    def _request(self, row: RowParams) -> RunRequest:
        return RunRequest(
            input_params=row.params,
            identity_id=row.identity_id,
            session_id=row.session_id,
            cleanup_sessions=not self._job.keep_sessions,
            sync=self._job.sync,
            version=self._job.task_version,
        )
