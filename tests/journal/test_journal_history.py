"""What a row's history means: the rules of `plan/plan.py`, for any history."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import assume, given
from hypothesis import strategies as st

from batch_runner.outcomes import ENDED as ENDED_STATUSES
from batch_runner.plan.edits import Attempt
from batch_runner.plan.plan import Entry, Keep, Policy, Poll, Refuse, Send, Step, decide, last_sent

STATUSES = sorted(ENDED_STATUSES | {"error", "unknown"})
RETRY_WORDS = [*STATUSES, "changed", "all"]
NIGHT = 5


@dataclass(frozen=True)
class Kind:
    """A way for an attempt to stand in the journal."""

    status: str
    has_run: bool
    has_ended: bool


GOING = [Kind(status, has_run=True, has_ended=False) for status in ("queued", "running", "paused")]
LOST = Kind("starting", has_run=False, has_ended=False)
ENDED = [Kind(status, has_run=status != "error", has_ended=True) for status in STATUSES]
WITHDRAWN = Kind("not_started", has_run=False, has_ended=True)


def attempt(number: int, kind: Kind, batch: int, params: bytes) -> Attempt:
    return Attempt(number, batch, params, kind.status, f"run-{number}" if kind.has_run else None, kind.has_ended)


@st.composite
def histories(draw: st.DrawFn, kinds: list[Kind]) -> list[Attempt]:
    """Attempts with rising numbers and batches, before tonight and in it."""
    batches = sorted(draw(st.lists(st.integers(1, NIGHT + 2), max_size=5)))
    return [
        attempt(number, draw(st.sampled_from(kinds)), batch, draw(st.sampled_from([b"old", b"new"])))
        for number, batch in enumerate(batches, 1)
    ]


any_history = histories([*GOING, LOST, *ENDED, WITHDRAWN])
policies = st.builds(
    Policy,
    retry=st.frozensets(st.sampled_from(RETRY_WORDS), max_size=3),
    on_unknown=st.sampled_from(["report", "resend"]),
)
entries = st.builds(
    Entry,
    row_number=st.just(17),
    key=st.just(b"K"),
    digest=st.just(b"new"),
    refusal=st.sampled_from([None, "C17: #N/A"]),
)
ENTRY = Entry(17, b"K", b"new")


def as_now(attempts: list[Attempt]) -> list[Attempt]:
    """Those that sent what the row is now, if one of them may have run."""
    own = [each for each in attempts if each.params == ENTRY.digest]
    return own if any(each.may_have_run for each in own) else []


def plan_for(entry: Entry, attempts: list[Attempt], policy: Policy) -> Step:
    return decide(entry, 1, attempts, policy, NIGHT)


@given(entries, any_history, policies)
def test_withdrawn_attempts_never_were(entry: Entry, attempts: list[Attempt], policy: Policy) -> None:
    """Attempts that started no run, wherever they stand, change nothing."""
    sent = [found for found in attempts if found.status != "not_started"]
    assert plan_for(entry, attempts, policy) == plan_for(entry, sent, policy)


@given(entries, any_history, st.sampled_from(GOING), policies)
def test_a_going_run_is_followed(entry: Entry, attempts: list[Attempt], kind: Kind, policy: Policy) -> None:
    """Whatever is asked for and whatever stands in the cells now, a run that goes on is polled and not sent again."""
    plan = plan_for(entry, [*attempts, attempt(99, kind, NIGHT, b"old")], policy)
    assert isinstance(plan, Poll)
    assert (plan.attempt, plan.run_id, plan.status) == (99, "run-99", kind.status)
    assert plan.otherwise is None or (policy.on_unknown == "resend" and entry.refusal is None)


@given(any_history, st.sampled_from([LOST, *ENDED]))
def test_nothing_is_sent_twice_unasked(attempts: list[Attempt], kind: Kind) -> None:
    """Without a word of a person, a row that was sent and is not going is carried over, a lost answer as unknown.

    One that ran as it is now is what it was then.
    """
    plan = plan_for(ENTRY, [*attempts, attempt(99, kind, 4, b"old")], Policy())
    if kind.status not in ("starting", "unknown") and (own := as_now(attempts)):
        assert plan == plan_for(ENTRY, own, Policy())
        assert isinstance(plan, Keep | Poll)
        assert isinstance(plan, Poll) or not plan.changed
        return
    assert plan == Keep(17, 1, "unknown" if kind is LOST else kind.status, changed=True)


@given(any_history, st.sampled_from([LOST, *ENDED]), policies)
def test_what_was_asked_for_is_sent_once_a_night(attempts: list[Attempt], kind: Kind, policy: Policy) -> None:
    """An outcome of an earlier night is run again if its word was said; one of this night is not."""
    status = "unknown" if kind is LOST else kind.status
    asked = not policy.retry.isdisjoint({status, "all"}) or (status == "unknown" and policy.on_unknown == "resend")
    before = plan_for(ENTRY, [*attempts, attempt(99, kind, NIGHT - 1, b"new")], policy)
    assert isinstance(before, Send) == asked
    tonight = plan_for(ENTRY, [*attempts, attempt(99, kind, NIGHT, b"new")], policy)
    assert isinstance(tonight, Send) == (status == "unknown" and policy.on_unknown == "resend")


@given(any_history, st.sampled_from(ENDED), st.integers(1, NIGHT + 2))
def test_a_changed_row_is_reported_until_asked_for(attempts: list[Attempt], kind: Kind, batch: int) -> None:
    """Edited after it ended: carried and marked, and sent with `changed`, unless it may have run with these params."""
    own, old = as_now(attempts), [*attempts, attempt(99, kind, batch, b"old")]
    asked = Policy(frozenset({"changed"}))
    carried = Keep(17, 1, kind.status, changed=True)
    if own and kind.status != "unknown":
        assert plan_for(ENTRY, old, Policy()) == plan_for(ENTRY, old, asked) == plan_for(ENTRY, own, asked)
    else:
        assert plan_for(ENTRY, old, Policy()) == carried
        assert plan_for(ENTRY, old, asked) == (carried if own else Send(17, 1, b"new", again=True))
    assert plan_for(ENTRY, [*old, attempt(100, kind, batch, b"new")], asked) == Keep(17, 1, kind.status, changed=False)


@given(st.sampled_from(ENDED), policies)
def test_a_row_that_came_back_to_what_it_ran_as(kind: Kind, policy: Policy) -> None:
    """It succeeded, was edited and ran otherwise, and is as it was: however that ended, it isn't started again."""
    attempts = [attempt(1, Kind("success", has_run=True, has_ended=True), 1, b"new"), attempt(2, kind, 2, b"old")]
    assume(policy.retry.isdisjoint({"all", "success"}) and kind.status != "unknown")
    assert plan_for(ENTRY, attempts, policy) == Keep(17, 1, "success", changed=False)


@given(any_history, policies)
def test_a_refused_row_is_never_sent_and_never_forgets(attempts: list[Attempt], policy: Policy) -> None:
    """A refusal stands where a start would; a row that was sent before keeps what it came to."""
    plan = plan_for(Entry(17, b"K", b"new", "C17: #N/A"), attempts, policy)
    assert not isinstance(plan, Send)
    assert isinstance(plan, Refuse) == (last_sent(attempts) is None)


@given(policies)
def test_a_new_row_is_sent(policy: Policy) -> None:
    """Without history there is one thing to do."""
    assert plan_for(ENTRY, [], policy) == Send(17, 1, b"new")
