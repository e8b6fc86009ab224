"""What a row's history means: its attempts → what this batch does with it. Pure, and decided here only.

Rule 1  An attempt that was withdrawn (certainly no run) never was. Of the others the last one decides.
Rule 2  None: the row is sent.
Rule 3  A run that has not ended is followed, whatever `retry` says: it is never sent a second time.
Rule 4  An intent without an answer is `unknown`: a run may exist.
Rule 5  An ended row is carried over, unless `retry` names its status, or `changed` and its params have changed since,
        or it is `unknown` and the task was declared safe to repeat (`on_unknown="resend"`).
Rule 6  A retry is made once per night. A night is a batch and those that go on with it: a batch that was stopped
        (killed, or exit 5, 130, 143) is continued by the next one with the same `retry` and `on_unknown`. What
        was already sent in the same night is not retried by its status; a later night or other words retry it again.
Rule 7  A refusal stands in the way of a start only: a row whose cell went bad after it was sent keeps its outcome.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from batch_runner.journal.schema import NOT_STARTED, UNKNOWN

if TYPE_CHECKING:
    from collections.abc import Sequence


class Policy(msgspec.Struct, frozen=True):
    """What a person said about rows that were sent before.

    `retry` holds statuses, `changed` and `all`; `on_unknown` says what to do with a start whose answer was lost.
    """

    retry: frozenset[str] = frozenset()
    on_unknown: Literal["report", "resend"] = "report"


class Entry(msgspec.Struct, frozen=True):
    """A row of the sheet as the journal needs it.

    `key` is None where it can't be known, because a cell of it has no text to rely on: such a row is nobody's, and must
    not shift others with the same key. A row that is refused for another reason has its key. `params` is the hash of
    what would be sent.

    A row that doesn't take part tonight (`--rows`, `--limit`, `--where`) still counts among equal keys: where keys may
    be equal, register it too, or the others would take its place, and its history.
    """

    number: int
    key: bytes | None
    params: bytes
    refusal: str | None = None
    takes_part: bool = True


class Attempt(msgspec.Struct, frozen=True):
    """One try to start a run, as recorded."""

    id: int
    batch: int
    params: bytes
    status: str
    run_id: str | None
    has_ended: bool

    @property
    def was_withdrawn(self) -> bool:
        """Whether certainly no run was started."""
        return self.status == NOT_STARTED and self.run_id is None

    @property
    def was_lost(self) -> bool:
        """Whether nothing is known of what came of it; only another batch's attempt can be asked."""
        return self.run_id is None and not self.has_ended

    @property
    def outcome(self) -> str:
        """Its status, with a lost answer named as such."""
        return UNKNOWN if self.was_lost else self.status


class Send(msgspec.Struct, frozen=True):
    """Start a run for the row. `params` is the hash of what is sent."""

    number: int
    row: int
    params: bytes


class Follow(msgspec.Struct, frozen=True):
    """Its run goes on: poll it, from this last known status."""

    number: int
    row: int
    attempt: int
    run_id: str
    status: str


class Carry(msgspec.Struct, frozen=True):
    """It ended before: no request at all. `changed` says that its params are not the ones that were sent."""

    number: int
    row: int
    status: str
    changed: bool


class Refuse(msgspec.Struct, frozen=True):
    """Nothing can be sent for it: `error`, with this sentence."""

    number: int
    why: str


class Leave(msgspec.Struct, frozen=True):
    """It takes no part tonight."""

    number: int


Plan = Send | Follow | Carry | Refuse | Leave


def last_sent(attempts: Sequence[Attempt]) -> Attempt | None:
    """The attempt that decides (Rule 1); `attempts` from the oldest to the newest."""
    return next((attempt for attempt in reversed(attempts) if not attempt.was_withdrawn), None)


def decide(entry: Entry, row: int, last: Attempt | None, policy: Policy, night: int) -> Plan:
    """What to do with a row whose deciding attempt is `last`. `night` is the batch that this night began with."""
    if last is None:
        return Send(entry.number, row, entry.params) if entry.refusal is None else Refuse(entry.number, entry.refusal)
    if last.run_id is not None and not last.has_ended:
        return Follow(entry.number, row, last.id, last.run_id, last.status)
    if entry.refusal is None and _is_due_again(last, entry, policy, night):
        return Send(entry.number, row, entry.params)
    return Carry(entry.number, row, last.outcome, last.params != entry.params)


def _is_due_again(last: Attempt, entry: Entry, policy: Policy, night: int) -> bool:
    if last.outcome == UNKNOWN and policy.on_unknown == "resend":
        return True
    if "changed" in policy.retry and last.params != entry.params:
        return True
    return last.batch < night and not policy.retry.isdisjoint(("all", last.outcome))
