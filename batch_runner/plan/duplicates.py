"""Rows that are alike in what makes a row unique (`--unique`): which of them may run. Pure.

Rule 1  A row is refused if a start was sent for another row with the same claim, on any night, unless it is certain
        that no run came of it, or it ended before tonight and `retry` names what it came to. An earlier start of this
        very row counts, too, where the row was another one in between.
Rule 2  It is refused if another row of this sheet with the same claim, further up, is about to be sent, or followed.
Rule 3  A row that was sent before keeps its outcome, and is not retried where another one that is alike has run.
Rule 4  A lost answer is not asked for where one that is alike was sent since, or is about to be: that might make the
        run which the other one has instead.
Rule 5  What ran in another journal of the task counts as well, where it succeeded, goes on or is `unknown`; and what a
        sheet of this night starts that has another journal. No value of `retry` takes it out of the way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from batch_runner.outcomes import STARTING
from batch_runner.plan.plan import DUPLICATE, Entry, Keep, Policy, Poll, Refuse, Resend, Send, Skip, Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from batch_runner.plan.edits import Attempt


class Rival(msgspec.Struct, frozen=True, kw_only=True):
    """A start that was sent for a row which is alike: where that row stood, and what came of it.

    `stands`: it is in the way whatever `retry` says, since it goes on, is of this very night, or stands in another
    `journal` (empty: it is the one at hand).
    """

    number: int | None
    night: str
    sheet: str
    run_id: str | None
    outcome: str
    stands: bool
    conflict: bytes | None
    journal: str = ""

    def __str__(self) -> str:
        where = f"row {self.number}" if self.number is not None else "a row"
        of = f" (journal {self.journal})" if self.journal else ""
        if self.outcome == STARTING:
            return f"is started tonight, as {where} of {self.sheet}{of}"
        run = f"run {self.run_id}" if self.run_id else "its run not known"
        return f"ran before, as {where} of {self.sheet} on the night of {self.night} ({run}: {self.outcome}){of}"


class Known(Protocol):
    """What is known of rows that are alike: the journal answers."""

    def of(self, entry: Entry, row: int, before: int, since: int) -> Iterable[Rival]:
        """Attempts after `since` for rows with the same claim, the row's own only `before` that one."""

    def above(self, entry: Entry) -> tuple[int, bytes | None, str] | None:
        """The row that is about to be sent with the same claim, its conflict, and its sheet, empty for this one."""

    def claim(self, entry: Entry) -> None:
        """Let the rows below know that this one is about to be sent."""


def claims_of(entry: Entry) -> tuple[bytes, ...]:
    """Its claim, as this and earlier releases make it; none where it has none."""
    return tuple(dict.fromkeys(filter(None, (entry.claim, entry.former_claim))))


def hold_back(step: Step, entry: Entry, last: Attempt | None, policy: Policy, known: Known) -> Step:
    """The step, or what stands in its place where the row is a duplicate; a row that may run makes its claim.

    `last` is the row's own attempt that decides.
    """
    if isinstance(step, Keep | Refuse | Skip) or not entry.claim or policy.allow_duplicates:
        return step
    # Before this attempt the row may have been what it is now, and was something else since.
    came_back = last.id if last is not None and last.claim is not None and not entry.has_claim(last.claim) else 0
    why = _standing(known, policy, entry, step.row_id, before=came_back)
    if why is None or not _is_barred(known, policy, entry, step):
        known.claim(entry)
        if why is None or isinstance(step, Send):
            return step
        return msgspec.structs.replace(step, otherwise=None, anew=None)
    if last is None:
        return Refuse(entry.row_number, why, DUPLICATE)
    return Keep(entry.row_number, step.row_id, last.outcome, last.params != entry.digest, DUPLICATE)


def _is_barred(known: Known, policy: Policy, entry: Entry, step: Send | Resend | Poll) -> bool:
    """Whether a duplicate may do nothing of its step: a run that goes on is followed, and a lost answer asked for."""
    if isinstance(step, Resend):
        return _standing(known, policy, entry, step.row_id, since=step.attempt) is not None
    return isinstance(step, Send)


def _standing(known: Known, policy: Policy, entry: Entry, row: int, before: int = 0, since: int = 0) -> str | None:
    """What stands in the way of a row, as a sentence: a run, or another row of the sheet."""
    for rival in known.of(entry, row, before, since):
        if rival.stands or policy.blocks(rival.outcome):
            return duplicate_of(rival, entry, policy)
    found = known.above(entry)
    if found is None:
        return None
    number, conflict, sheet = found
    return _sentence(
        policy, f"stands in row {number} of {sheet or 'this sheet'}, too", differs=conflict != entry.conflict
    )


def duplicate_of(rival: Rival, entry: Entry, policy: Policy) -> str:
    """The sentence that says of what a row is a duplicate."""
    return _sentence(policy, str(rival), differs=entry.differs_from(rival.conflict))


def _sentence(policy: Policy, what: str, *, differs: bool) -> str:
    other = f", with another {' or '.join(policy.conflict)}" if differs and policy.conflict else ""
    return (
        f"duplicate: the same {', '.join(policy.unique)} {what}{other}; "
        "take this row out; --allow-duplicates sends it, so that the same may run twice"
    )


def as_recorded(entry: Entry, attempts: Sequence[Attempt]) -> Entry:
    """The entry with the hash that was written down for the very same texts, by an earlier release, too."""
    if any(attempt.params == entry.digest for attempt in attempts):
        return entry
    texts = entry.sent or entry.digest
    alike = next((attempt for attempt in reversed(attempts) if (attempt.sent or attempt.params) == texts), None)
    return entry if alike is None else msgspec.structs.replace(entry, digest=alike.params)
