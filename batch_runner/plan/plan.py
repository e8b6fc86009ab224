"""What a row's history means: its attempts → what this batch does with it. Pure, and decided here only.

Rule 1  An attempt that was withdrawn (certainly no run) never was. Of the others the last one decides; but where it has
        ended, and the row ran before just as it is now, what ran with other values since is another sheet's, or gone.
Rule 2  None: the row is sent.
Rule 3  A run that has not ended is followed, whatever `retry` says: it is never sent a second time.
Rule 4  An intent without an answer is `unknown`: a run may exist.
Rule 5  An ended row is carried over, unless `retry` names its status, or `changed` and its params have changed since,
        or it is `unknown` and the task was declared safe to repeat (`on_unknown="resend"`). It has not changed where
        some earlier run of it had just these params, a person said that it is the same (`--same`), or only columns
        differ that aren't compared (`--ignore`).
Rule 6  A retry is made once per night. A night is a batch and those that go on with it: a batch that was stopped
        (killed, or exit 5, 130, 143) is continued by the next one with the same `retry` and `on_unknown`, be it over
        the same sheet or the next in the journal. What was already sent in the same night is not retried by its
        status; a later night or other words retry it again. A stopped night is over after `NIGHT`, so that a job which
        comes to its deadline every night has its retries all the same; where `retry` names what may have succeeded, it
        lasts until a batch comes to its end, however late: the fresh start of `all` must not start afresh half-way.
        Nor is it started again before its last attempt has ended for `retry_wait`, unless it was edited since. With a
        `retry_limit` of N that goes on for N nights; then the row is parked, until it is edited, or the limit raised,
        or `all` said.
Rule 7  A refusal stands in the way of a start only: a row whose cell went bad after it was sent keeps its outcome.
Rule 8  A lost answer can be asked for where the service knows starts by their Idempotency-Key: the same start is sent
        under the same key, which gives the run that it made, or makes the first. It must be the service of the
        `memory` that the start was sent to. Where it can't be asked, Rule 5 holds as for any other service.
Rule 9  A run that ended without having begun, as our own service can say, was no run: the row is sent again, at once.
Rule 10 A row that would be started is held where what it is ran already, somewhere that this history doesn't know: a
        `Hold` says why, and what it names. Only `again` and `same` release it, no value of `retry` or `on_unknown`.
        An edited row is held where it ran, runs or is `unknown`, and a column differs that money hangs on, or the
        currency of an amount alone.
"""

from __future__ import annotations

from collections.abc import Callable  # noqa: TC003  of a field, whose type is asked for at run time
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Literal

import msgspec

from batch_runner.outcomes import SUCCESS, UNKNOWN
from batch_runner.plan.edits import Attempt, cells_of, differing
from batch_runner.units import local_day

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


NIGHT = timedelta(hours=12)
RELEASE = "--same carries that over, --again starts this row, too"
PARKED: Final = "parked"
DUPLICATE: Final = "duplicate"
WAITING: Final = "waiting"
ELSEWHERE: Final = "elsewhere"
"""What a row is held for that ran in another journal, or under another key."""
VALUES: Final = "values"
"""What a row is held for that ran with other values."""


class Policy(msgspec.Struct, frozen=True):
    """What a person said about rows that were sent before.

    `retry` holds statuses, `changed` and `all`; `on_unknown` says what to do with a start whose answer was lost.
    `unique` and `conflict` are the names of columns, and with `allow_duplicates` no row is refused for them. `again`
    starts held rows, `same` carries them over. `repeatable`: the task does no harm when it runs twice, so no row is
    held for what ran elsewhere. Columns of `ignore` aren't compared; an edit in one of `watched` is held.
    """

    retry: frozenset[str] = frozenset()
    on_unknown: Literal["report", "resend"] = "report"
    retry_limit: int | None = None
    unique: tuple[str, ...] = ()
    conflict: tuple[str, ...] = ()
    allow_duplicates: bool = False
    ended_before: str = ""
    """Of attempts that ended later than this moment (UTC, as recorded) none is retried yet; empty: all may be."""
    again: bool = False
    same: bool = False
    repeatable: bool = False
    ignore: tuple[str, ...] = ()
    watched: tuple[str, ...] = ()

    @property
    def releases(self) -> bool:
        """Whether a row may run although what it is ran already: a person said so, or its task was declared safe."""
        return self.again or self.repeatable

    @property
    def night(self) -> timedelta | None:
        """How long after its beginning a stopped night is gone on with; None: however long."""
        return None if self.retry & {"all", "success", "unknown"} else NIGHT

    def blocks(self, status: str) -> bool:
        """Whether what ended so stands in the way of another row that is alike: nobody said to run such again."""
        return self.retry.isdisjoint(("all", status))


class Entry(msgspec.Struct, frozen=True):
    """A row of the sheet as the journal needs it.

    `key` is None where it can't be known, because a cell of it has no text to rely on: such a row is nobody's, and must
    not shift others with the same key. A row that is refused for another reason has its key. `digest` is the hash of
    what would be sent.

    A row that doesn't take part tonight (`--rows`, `--limit`, `--where`) still counts among equal keys: where keys may
    be equal, register it too, or the others would take its place, and its history.

    `claim` and `conflict` are hashes of what makes it unique, and of what a duplicate may not differ in either; a claim
    is empty where the row has no such values, None where nobody asked for them or a cell of them can't be read. What
    is called `former_` is what earlier releases gave such a row. `forms` are other forms of its key, under which a
    sheet of another format has it; under `doubtful_keys` it or another one may be known, since a text (`3/4/2026`) may
    be read in two ways. `aliases` are its keys by the key columns of other sheets, `keys_by` those by any it may have.
    """

    row_number: int
    key: bytes | None
    digest: bytes
    refusal: str | None = None
    takes_part: bool = True
    claim: bytes | None = None
    conflict: bytes | None = None
    former_keys: tuple[bytes, ...] = ()
    former_claim: bytes | None = None
    former_conflict: bytes | None = None
    forms: tuple[bytes, ...] = ()
    doubtful_keys: tuple[bytes, ...] = ()
    sent: bytes | None = None
    """The hash of the very texts that would be sent, where `digest`, which stands for their values, is another."""
    bare: bytes | None = None
    """The hash of its values without the currencies that its amounts name; None where they name none."""
    aliases: tuple[bytes, ...] = ()
    keys_by: Callable[[tuple[str, ...]], tuple[bytes, ...]] = lambda _columns: ()

    @property
    def keys(self) -> tuple[bytes, ...]:
        """All keys under which it may be known somewhere."""
        return tuple(
            dict.fromkeys(filter(None, (self.key, *self.forms, *self.former_keys, *self.doubtful_keys, *self.aliases)))
        )

    @property
    def kept_forms(self) -> tuple[bytes, ...]:
        """The other forms of its key as a journal keeps them: with a mark where nobody can tell."""
        return (*self.forms, *(b"? " + key for key in self.doubtful_keys))

    def named(self) -> Mapping[str, str]:
        """The texts that are compared when it was edited, by their columns; none where nobody knows them."""
        return {}

    def has_claim(self, claim: bytes | None) -> bool:
        """Whether that is its claim, as this or an earlier release makes it."""
        return claim is not None and claim in (self.claim, self.former_claim)

    def differs_from(self, conflict: bytes | None) -> bool:
        """Whether a start with that conflict, if it is known, had other values in the columns of it."""
        return conflict is not None and conflict not in (self.conflict, self.former_conflict)


class Send(msgspec.Struct, frozen=True):
    """Start a run for the row. `params` is the hash of what is sent; `claim` and `conflict` as in its `Entry`.

    `again`: a start was sent for it before. `cells` stand for its texts, to tell later what was edited; `sent` is as in
    its `Entry`, followed by its `bare` if it has one.
    """

    row_number: int
    row_id: int
    params: bytes
    claim: bytes | None = None
    conflict: bytes | None = None
    again: bool = False
    cells: bytes = b""
    sent: bytes | None = None


class Resend(msgspec.Struct, frozen=True):
    """The answer to its start was lost: send the same start again, under the same Idempotency-Key.

    `otherwise` is what to send if it stays unknown all the same; None if that must not be sent a second time. `anew` is
    what to send if it made a run that never began; None where the row isn't what it was.
    """

    row_number: int
    row_id: int
    attempt: int
    intended_at: str
    memory: str
    otherwise: Send | None = None
    anew: Send | None = None


class Poll(msgspec.Struct, frozen=True):
    """Its run goes on: poll it, from this last known status. `otherwise` and `anew` as with `Resend`.

    `intended_at` is when its start was sent (UTC).
    """

    row_number: int
    row_id: int
    attempt: int
    run_id: str
    status: str
    otherwise: Send | None = None
    anew: Send | None = None
    intended_at: str = ""


class Keep(msgspec.Struct, frozen=True):
    """It ended before: no request at all. `changed` says that its params are not the ones that were sent.

    `held` says why it isn't sent although `retry` names it: it is `waiting`, `parked`, or a `duplicate`; or its
    `unknown` start had other values. `tonight`: another sheet of this very night has the row, too, and its outcome is
    that one's.
    """

    row_number: int
    row_id: int
    status: str
    changed: bool
    held: str | None = None
    tonight: bool = False


class Hold(msgspec.Struct, frozen=True):
    """Why a row that could be started is held: one word for the kind, and the sentence that its `error` says.

    `names` is what it is held for in few words ("ran on 29 Nov from open_items.csv"), to be counted in the plan.
    """

    reason: str
    why: str
    names: str = ""


class Refuse(msgspec.Struct, frozen=True):
    """Nothing is sent for it: `error`, with this sentence. `held` says of which kind its `Hold` is, if it has one."""

    row_number: int
    why: str
    held: str | None = None
    names: str = ""

    @classmethod
    def hold(cls, row_number: int, hold: Hold) -> Refuse:
        """Hold the row."""
        return cls(row_number, hold.why, hold.reason, hold.names)


class Skip(msgspec.Struct, frozen=True):
    """It takes no part tonight."""

    row_number: int


Step = Send | Resend | Poll | Keep | Refuse | Skip
"""What a batch does with one row."""


def counted_as(step: Step) -> str | None:
    """What a step counts as: a field of the plan (`report.summary.Counts`); None for a row that takes no part."""
    if isinstance(step, Send):
        return "retried" if step.again else "start"
    is_kept = isinstance(step, Keep) and step.held in (WAITING, VALUES)
    if isinstance(step, Refuse | Keep) and step.held and not is_kept:
        return "parked" if step.held == PARKED else "held"
    if isinstance(step, Keep) and step.status == UNKNOWN:
        return "unknown"
    return {Poll: "poll", Resend: "unknown", Keep: "carried_over", Refuse: "refused", Skip: None}[type(step)]


def named_by(step: Step, last: Attempt | None) -> str:
    """What the plan says of a row beside its count: the earlier night, and what came of it; "" for a new row."""
    if isinstance(step, Refuse) and step.held:
        return step.names or step.held
    if last is None or not last.intended_at or isinstance(step, Refuse | Skip):
        return ""
    day = local_day(last.intended_at)
    return f"{last.outcome} on {day}" if isinstance(step, Send) else f"from {day}"


def last_sent(attempts: Sequence[Attempt]) -> Attempt | None:
    """The attempt that decides (Rule 1); `attempts` from the oldest to the newest."""
    return next((attempt for attempt in reversed(attempts) if not attempt.was_withdrawn), None)


def attempts_as_now(attempts: Sequence[Attempt], entry: Entry) -> Sequence[Attempt]:
    """Those that count for the row as it is now (Rule 1): all of them, or only those that sent just this."""
    last = last_sent(attempts)
    if last is None or entry.refusal or last.is_going or last.outcome == UNKNOWN or last.params == entry.digest:
        return attempts
    own = [attempt for attempt in attempts if attempt.params == entry.digest]
    return own if any(attempt.may_have_run for attempt in own) else attempts


def nights_sent(attempts: Sequence[Attempt]) -> int:
    """On how many nights the row was sent with the params that were sent last."""
    last = last_sent(attempts)
    return len({a.night for a in attempts if last and not a.was_withdrawn and a.params == last.params})


def decide(
    entry: Entry, row_id: int, attempts: Sequence[Attempt], policy: Policy, night: int, *, is_same: bool = False
) -> Step:
    """What to do with a row of this history, from the oldest attempt to the newest.

    `night` is the batch that this night began with. `is_same`: a person said that the row, as it is now, is what ran.
    """
    attempts = attempts_as_now(attempts, entry)
    last = last_sent(attempts)
    if last is None:
        return send(entry, row_id, again=False) if entry.refusal is None else Refuse(entry.row_number, entry.refusal)
    changed = not is_same and _is_changed(last, entry, policy)
    hold = watched_edit(last, entry, policy) if changed and not last.is_going and not policy.releases else None
    if hold is not None and last.outcome == UNKNOWN:
        return Keep(entry.row_number, row_id, UNKNOWN, changed, VALUES)
    if hold is not None:
        return Refuse.hold(entry.row_number, hold)
    is_due = entry.refusal is None and _is_due_again(attempts, last, entry, policy, night, changed=changed)
    held = _held(attempts, last, entry, policy, changed=changed) if is_due else None
    again = send(entry, row_id) if is_due and held is None else None
    anew = send(entry, row_id) if _is_as_it_was(last, entry) else None
    if last.is_going:
        going = (last.id, last.run_id or "", last.status)
        return Poll(entry.row_number, row_id, *going, again, anew, last.intended_at)
    if last.memory and _can_be_settled(last, entry):
        return Resend(entry.row_number, row_id, last.id, last.intended_at, last.memory, again, anew)
    return again or Keep(entry.row_number, row_id, last.outcome, changed, held)


def send(entry: Entry, row_id: int, *, again: bool = True) -> Send:
    """The start of a row as it is now."""
    cells = cells_of(entry.named())
    sent = (entry.sent or entry.digest) + entry.bare if entry.bare else entry.sent
    return Send(entry.row_number, row_id, entry.digest, entry.claim, entry.conflict, again, cells, sent)


def _is_changed(last: Attempt, entry: Entry, policy: Policy) -> bool:
    """Whether it was edited since, in a column that is compared; an amount that only lost or got a currency was not.

    But nobody knows in which currency that ran, so with `changed` it is one, to be held.
    """
    if last.params == entry.digest:
        return False
    if _is_but_for_currency(last, entry) and None in (last.bare, entry.bare):
        return "changed" in policy.retry
    return not policy.ignore or differing(last.cells, entry.named(), policy.ignore) != ()


def _is_but_for_currency(last: Attempt, entry: Entry) -> bool:
    """Whether its values differ from what was sent in the currencies of amounts alone."""
    return last.params != entry.digest and (last.bare or last.params) == (entry.bare or entry.digest)


def watched_edit(last: Attempt, entry: Entry, policy: Policy) -> Hold | None:
    """The hold of a row that ran with another value in a column that money hangs on."""
    if entry.refusal is not None or not last.may_have_run or last.params == entry.digest:
        return None
    columns = [name for name in differing(last.cells, entry.named(), policy.ignore) or () if name in policy.watched]
    if not columns and "changed" in policy.retry and _is_but_for_currency(last, entry):
        columns = ["currency, or none"]
    if not columns:
        return None
    what = f"ran on {local_day(last.intended_at)} with another {' and '.join(columns)}"
    run = f": {last.outcome}, {last.run_id}" if last.run_id else f": {last.outcome}"
    return Hold(VALUES, f"{what}{run}; {RELEASE}", what)


def _is_as_it_was(last: Attempt, entry: Entry) -> bool:
    """Whether a start would send what was sent last, under the same claim: nothing new is to be asked about it."""
    return _is_the_same_start(last, entry) and (not entry.claim or entry.has_claim(last.claim))


def _can_be_settled(last: Attempt, entry: Entry) -> bool:
    """Only the very same start may go out under its key: another one would be refused."""
    return last.outcome == UNKNOWN and last.run_id is None and _is_the_same_start(last, entry)


def _is_the_same_start(last: Attempt, entry: Entry) -> bool:
    return entry.refusal is None and (last.sent or last.params) == (entry.sent or entry.digest)


def _is_due_again(
    attempts: Sequence[Attempt], last: Attempt, entry: Entry, policy: Policy, night: int, *, changed: bool
) -> bool:
    """Whether it is to be run again; of a run that goes on, whether it is if nobody can say how it ended."""
    if last.is_going:
        return policy.on_unknown == "resend"
    if last.outcome == UNKNOWN and policy.on_unknown == "resend":
        return True
    if changed and policy.again and watched_edit(last, entry, policy) is not None:
        return True
    # Against all its runs: two sheets whose rows have one key could take turns, and each would run every night.
    if changed and "changed" in policy.retry and not any(a.params == entry.digest for a in attempts if a.may_have_run):
        return True
    was_mended = changed and last.outcome not in (SUCCESS, UNKNOWN)
    return (last.batch < night or was_mended) and not policy.retry.isdisjoint(("all", last.outcome))


def _held(attempts: Sequence[Attempt], last: Attempt, entry: Entry, policy: Policy, *, changed: bool) -> str | None:
    """Why a row whose retry is due isn't sent. An edited row begins anew."""
    is_limited = policy.retry_limit is not None and "all" not in policy.retry and last.params == entry.digest
    if is_limited and nights_sent(attempts) > (policy.retry_limit or 0):
        return PARKED
    is_resent = last.outcome == UNKNOWN and policy.on_unknown == "resend"
    ended = last.intended_at if last.outcome == UNKNOWN else last.ended_at
    if policy.ended_before and ended > policy.ended_before and not (changed or last.is_going or is_resent):
        return WAITING
    return DUPLICATE if not policy.again and any(_would_differ(each, entry, policy) for each in attempts) else None


def _would_differ(attempt: Attempt, entry: Entry, policy: Policy) -> bool:
    """Whether this very row ran, and would now run with another value in a column that makes a conflict."""
    if policy.allow_duplicates or not entry.claim or not entry.has_claim(attempt.claim) or attempt.made_no_run:
        return False
    return entry.differs_from(attempt.conflict) and policy.blocks(attempt.outcome)
