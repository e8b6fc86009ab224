"""One row from its plan to its outcome: intent → start → run id → polls → outcome, each recorded before the next.

Rule 1  The intent is on disk before the first byte of the POST leaves, the run id before the first poll.
Rule 2  A start is sent again only if it certainly made no run (`Reach.AGAIN`), or the task is declared safe to repeat.
Rule 3  A row's failure is data. What is raised (`JournalFailed`) stops the batch.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import anyio
import msgspec

from batch_runner import log
from batch_runner.api import Run, RunRequest
from batch_runner.batch.attempt import Attempt
from batch_runner.batch.patience import Patience
from batch_runner.batch.stopping import Stop
from batch_runner.client.client import Lost, Refused, Started
from batch_runner.client.fate import Reach
from batch_runner.errors import ExitCode
from batch_runner.journal import Follow, Outcome, Send
from batch_runner.polling.watch import Overdue, Unreachable, Vanished
from batch_runner.retry import STARTS

if TYPE_CHECKING:
    import random

    from batch_runner.batch.stopping import Stopping
    from batch_runner.client.client import Client
    from batch_runner.job.job import Job
    from batch_runner.journal import Journal
    from batch_runner.limits.limits import Slot
    from batch_runner.params import RowParams
    from batch_runner.polling.watch import Watch

SYNC_MARGIN = 60.0
"""Seconds that the answer to a sync start may take longer than its run."""
MOST_RESENDS = 20
"""Times that a row is sent in one batch whose answers are lost, where that is harmless: about ten minutes' worth."""
CUT_OFF = "interrupted while the answer to the start was awaited: a run may exist"
ENDED_WITH_US = "the run ended with the program that ran it; how far it had come is not known"
NOT_STARTED = Outcome("not_started")


class Terms(msgspec.Struct, frozen=True):
    """What may be relied on with this service and task.

    With `resend` a start whose answer was lost may be sent again. `runs_outlive_us`: the service goes on when we end,
    so that a run of an earlier batch can be followed.
    """

    resend: bool
    runs_outlive_us: bool


class Work(msgspec.Struct, frozen=True):
    """A row on its way to a worker."""

    plan: Send | Follow
    row: RowParams


class Worker:
    """What all workers of a batch share."""

    def __init__(
        self,
        job: Job,
        *,
        client: Client,
        journal: Journal,
        watch: Watch,
        stopping: Stopping,
        terms: Terms,
        chance: random.Random,
    ) -> None:
        self._job = job
        self._client = client
        self._journal = journal
        self._watch = watch
        self._stopping = stopping
        self._terms = terms
        self._chance = chance
        self._read_timeout = job.run_seconds + SYNC_MARGIN if job.sync else None
        self._patience = Patience()
        self._warned = False

    async def do(self, work: Work, slot: Slot) -> Outcome:
        """Bring the row to its outcome and return it: `not_started` if a stop came first, the status it had if so."""
        plan = work.plan
        if isinstance(plan, Follow):
            outcome = await self._follow_earlier(plan, slot)
            if outcome.status != "unknown" or not self._terms.resend or work.row.refusal is not None:
                return outcome
            plan = Send(plan.number, plan.row, work.row.digest)
        return await self._send(plan, self._request(work.row), slot)

    async def _follow_earlier(self, plan: Follow, slot: Slot) -> Outcome:
        """Follow a run that an earlier batch started."""
        attempt = Attempt(plan.attempt, plan.number)
        if not self._terms.runs_outlive_us:
            return await self._end(attempt, Outcome("unknown", plan.run_id, error=ENDED_WITH_US))
        slot.follows()
        attempt.debug("run followed", run_id=plan.run_id)
        return await self._follow(attempt, Run(plan.run_id, plan.status), age=None)

    async def _send(self, plan: Send, request: RunRequest, slot: Slot) -> Outcome:
        attempt: Attempt | None = None
        outcome = NOT_STARTED
        failures, is_full = 0, False
        while await self._may_start(slot):
            attempt = await self._intend(plan, attempt)
            answer = await self._start(attempt, request)
            if isinstance(answer, Started):
                slot.accepted(answer.signal)
                return await self._started(attempt, answer.run)
            attempt.no_run(answer)
            if isinstance(answer, Refused) and answer.reach is not Reach.AGAIN:
                return await self._refused(attempt, answer)
            if isinstance(answer, Lost):
                outcome = await self._end(attempt, Outcome("unknown", error=answer.why))
                attempt, is_full = None, False
            else:
                await self._journal.withdrawn(attempt.id, answer.why)
                is_full = slot.refused(answer.status_code, answer.why, answer.signal)
                self._warn_once(answer)
            failures += 1
            if not await self._goes_on(answer, failures, is_full=is_full):
                break
        return outcome

    async def _may_start(self, slot: Slot) -> bool:
        """Wait for this start's turn; False if a stop comes first."""
        with self._stopping.cutting_short():
            await slot.turn()
        return not self._stopping.is_stopped()

    async def _intend(self, plan: Send, attempt: Attempt | None) -> Attempt:
        if attempt is None:
            intended = await self._journal.intend(plan)
        else:
            intended = attempt.id
            await self._journal.intend_again(intended)
        attempt = Attempt(intended, plan.number, anyio.current_time())
        attempt.debug("start intended")
        return attempt

    async def _start(self, attempt: Attempt, request: RunRequest) -> Started | Refused | Lost:
        """Send the start. Cut off before its answer, it is recorded as `unknown`: that much is true."""
        try:
            return await self._client.start(self._job.task, request, read_timeout=self._read_timeout)
        except anyio.get_cancelled_exc_class():
            await self._end(attempt, Outcome("unknown", error=CUT_OFF))
            raise

    async def _refused(self, attempt: Attempt, answer: Refused) -> Outcome:
        if answer.reach is Reach.ROW:
            return await self._end(attempt, Outcome("error", error=answer.why))
        await self._journal.withdrawn(attempt.id, answer.why)
        self._stopping.now(Stop(f"{answer.why}; {_advice(answer.status_code)}", ExitCode.STOPPED))
        return NOT_STARTED

    async def _goes_on(self, answer: Refused | Lost, failures: int, *, is_full: bool) -> bool:
        """Wait before the row's next try; False where there is none, or a stop comes first."""
        if isinstance(answer, Lost) and not (self._terms.resend and failures < MOST_RESENDS):
            return False
        why = None if is_full else self._patience.no(answer, anyio.current_time())
        if why is not None:
            self._stopping.now(Stop(f"{why}; the same command goes on when the service does", ExitCode.STOPPED))
            return False
        with self._stopping.cutting_short():
            await anyio.sleep(STARTS.drawn(failures, self._chance))
        return not self._stopping.is_stopped()

    def _warn_once(self, answer: Refused) -> None:
        """A service that can't be reached is spoken of at once, not when it is given up."""
        if answer.status_code is None and not self._warned:
            self._warned = True
            log.warning(f"{answer.why}; trying on")

    async def _started(self, attempt: Attempt, run: Run) -> Outcome:
        self._patience.yes()
        if run.has_ended:
            return await self._end(attempt, outcome_of(run))
        await self._journal.started(attempt.id, run.run_id, run.status)
        attempt.info("run started", run_id=run.run_id, status=run.status)
        return await self._follow(attempt, run)

    async def _follow(self, attempt: Attempt, run: Run, age: float | None = 0.0) -> Outcome:
        """Follow a run to its end. One that can't be followed so far keeps its status, with the reason.

        `age` is how many seconds ago it started, None where that is not known.
        """
        found = await self._watch.follow(run, partial(self._journal.seen, attempt.id), age)
        match found:
            case Run() as ended:
                return await self._end(attempt, outcome_of(ended))
            case Vanished(why=why):
                return await self._end(attempt, Outcome("unknown", run.run_id, error=f"the run is gone: {why}"))
            case Overdue(status=status):
                why = f"still going after {self._job.run_timeout}; the same command goes on from there"
            case Unreachable(why=why, status=status):
                pass
        self._journal.seen(attempt.id, status, why)
        attempt.info("run left as it is", run_id=run.run_id, status=status)
        attempt.debug("run left as it is", why=why)
        return Outcome(status, run.run_id, error=why)

    async def _end(self, attempt: Attempt, outcome: Outcome) -> Outcome:
        await self._journal.ended(attempt.id, outcome)
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


def outcome_of(run: Run) -> Outcome:
    """What a run came to, as the journal records it."""
    return Outcome(run.status, run.run_id, bytes(run.result).decode(), run.error or "")


def _advice(status_code: int | None) -> str:
    """What a person must do about a refusal that reaches the whole task."""
    advice = {
        401: "check the key in ANCHORBROWSER_API_KEY",
        402: "the account has no credits left: add some",
        403: "the key may not run this task: check the key and the account",
        404: "check --task and --service: there is no such task",
    }
    return advice.get(status_code or 0, "check --service and --task") + "; then run the same command"
