"""What a step counts as, what an attempt says of its run, and what a duplicate's sentence says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from batch_runner.outcomes import ERROR, NOT_STARTED, STARTING, UNKNOWN
from batch_runner.plan.duplicates import Rival, hold_back
from batch_runner.plan.edits import Attempt
from batch_runner.plan.plan import (
    DUPLICATE,
    PARKED,
    VALUES,
    WAITING,
    Entry,
    Keep,
    Policy,
    Poll,
    Refuse,
    Resend,
    Send,
    Skip,
    counted_as,
    decide,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_runner.plan.plan import Step

SEND = Send(2, 1, b"p")


@pytest.mark.parametrize(
    ("step", "field"),
    [
        (SEND, "start"),
        (Send(2, 1, b"p", again=True), "retried"),
        (Poll(2, 1, 5, "run-1", "running"), "poll"),
        (Resend(2, 1, 5, "", ""), "unknown"),
        (Keep(2, 1, "success", changed=False), "carried_over"),
        (Keep(2, 1, UNKNOWN, changed=False), "unknown"),
        (Keep(2, 1, UNKNOWN, changed=False, held=VALUES), "unknown"),
        (Keep(2, 1, "failure", changed=False, held=WAITING), "carried_over"),
        (Keep(2, 1, "failure", changed=False, held=PARKED), "parked"),
        (Keep(2, 1, "success", changed=False, held=DUPLICATE), "held"),
        (Refuse(2, "no"), "refused"),
        (Refuse(2, "no", held=DUPLICATE), "held"),
        (Refuse(2, "no", held=WAITING), "held"),
        (Skip(2), None),
    ],
)
def test_each_step_counts_once(step: Step, field: str | None) -> None:
    """The plan's counts say of every row what is done with it, and add up."""
    assert counted_as(step) == field


@pytest.mark.parametrize(
    ("status", "run_id", "made_none", "may_run_again"),
    [
        (ERROR, None, True, True),
        (NOT_STARTED, None, True, True),
        (ERROR, "run-1", False, True),
        (NOT_STARTED, "run-1", False, False),
        ("success", None, False, False),
        (UNKNOWN, None, False, False),
        ("failure", "run-1", False, True),
    ],
)
def test_which_attempt_certainly_made_no_run(
    status: str, run_id: str | None, made_none: bool, may_run_again: bool
) -> None:
    """One that was refused and has no run; a row with a run, or of which nobody knows, isn't started unasked."""
    attempt = Attempt(5, 1, b"p", status, run_id, has_ended=True)
    assert attempt.made_no_run == made_none
    assert attempt.may_have_run != may_run_again


class Alone:
    """What is known where nothing ran, and at most a row above is alike."""

    def __init__(self, above: tuple[int, bytes | None, str] | None = None, rivals: Iterable[Rival] = ()) -> None:
        self._above = above
        self._rivals = list(rivals)
        self.asked: list[tuple[int, int]] = []
        self.claimed: list[Entry] = []

    def of(self, entry: Entry, row: int, before: int, since: int) -> Iterable[Rival]:
        assert (entry.row_number, row) == (7, 1)
        self.asked.append((before, since))
        return self._rivals

    def above(self, entry: Entry) -> tuple[int, bytes | None, str] | None:
        assert entry.row_number == 7
        return self._above

    def claim(self, entry: Entry) -> None:
        self.claimed.append(entry)


POLICY = Policy(frozenset(), "report", unique=("Number",), conflict=("Amount",))
ENTRY = Entry(7, b"k", b"p", claim=b"claim", conflict=b"10")


def rival(outcome: str) -> Rival:
    return Rival(number=3, night="2026-11-01", sheet="a.csv", run_id=None, outcome=outcome, stands=True, conflict=b"10")


@pytest.mark.parametrize(
    ("above", "said", "differs"),
    [
        ((3, b"10", ""), "stands in row 3 of this sheet, too", False),
        ((3, b"11", "b.csv"), "stands in row 3 of b.csv, too", True),
    ],
)
def test_a_row_like_one_above_says_where_that_stands_and_whether_it_differs(
    above: tuple[int, bytes, str], said: str, differs: bool
) -> None:
    """The two may be one invoice with another amount: that is told, as the first thing that a person asks."""
    held = hold_back(SEND, ENTRY, None, POLICY, Alone(above))
    assert isinstance(held, Refuse)
    assert held.held == DUPLICATE
    assert said in held.why
    assert ("with another Amount" in held.why) == differs


@pytest.mark.parametrize(
    ("outcome", "said"),
    [(STARTING, "is started tonight, as row 3 of a.csv"), ("success", "ran before, as row 3 of a.csv on the night of")],
)
def test_a_row_like_one_that_was_sent_says_what_became_of_that(outcome: str, said: str) -> None:
    """One of this very night hasn't run before: it runs."""
    held = hold_back(SEND, ENTRY, None, POLICY, Alone(rivals=[rival(outcome)]))
    assert isinstance(held, Refuse)
    assert said in held.why


@pytest.mark.parametrize(
    ("claim", "before"),
    [(None, 0), (b"claim", 0), (b"former", 0), (b"other", 5)],
    ids=["none", "own", "former", "other"],
)
def test_only_a_row_that_was_something_else_since_is_asked_about_its_own_past(claim: bytes | None, before: int) -> None:
    """Before its last attempt it may have been what it is now; else its own attempts are no rivals of it."""
    known = Alone()
    entry = Entry(7, b"k", b"p", claim=b"claim", conflict=b"10", former_claim=b"former")
    last = Attempt(5, 1, b"p", "failure", "run-1", has_ended=True, claim=claim)
    assert hold_back(SEND, entry, last, POLICY, known) == SEND
    assert known.asked == [(before, 0)]
    assert known.claimed == [entry]


@pytest.mark.parametrize("step", [Poll(7, 1, 5, "run-1", "running", otherwise=SEND, anew=SEND), SEND])
def test_a_duplicate_that_goes_on_is_followed_and_not_sent_anew(step: Poll | Send) -> None:
    """Its run is there: it is followed to its end. What would be sent after that is held."""
    last = Attempt(5, 1, b"p", "running", "run-1", has_ended=False, claim=b"claim")
    known = Alone(rivals=[rival("success")])
    done = hold_back(step, ENTRY, last, POLICY, known)
    if isinstance(step, Poll):
        assert isinstance(done, Poll)
        assert (done.otherwise, done.anew, known.claimed) == (None, None, [ENTRY])
    else:
        assert isinstance(done, Keep)
        assert (done.held, done.status, known.claimed) == (DUPLICATE, "running", [])


EUR, USD, BARE, OTHER = b"1 EUR", b"1 USD", b"1", b"2"
"""What stands for a row whose amount is written so."""


@pytest.mark.parametrize(
    ("ran", "now", "without", "with_changed"),
    [
        ((BARE, None), (EUR, BARE), "the same", "held"),
        ((EUR, BARE), (BARE, None), "the same", "held"),
        ((EUR, BARE), (USD, BARE), "edited", "held"),
        ((EUR, BARE), (OTHER, None), "edited", "sent"),
        ((BARE, None), (b"2 EUR", OTHER), "edited", "sent"),
        ((BARE, None), (OTHER, None), "edited", "sent"),
        ((EUR, BARE), (EUR, BARE), "the same", "the same"),
    ],
)
def test_an_amount_may_get_and_lose_its_currency(
    ran: tuple[bytes, bytes | None], now: tuple[bytes, bytes | None], without: str, with_changed: str
) -> None:
    """That is no edit, but no other currency either; and no --retry starts what differs in nothing else."""
    began = "2026-11-29T02:00:00.000Z"
    attempt = Attempt(7, 1, ran[0], "success", "run-7", has_ended=True, night=1, intended_at=began, bare=ran[1])
    entry = Entry(2, b"key", now[0], bare=now[1])
    for retry, expected in ((frozenset[str](), without), (frozenset({"changed"}), with_changed)):
        step = decide(entry, 1, [attempt], Policy(retry), 2)
        if isinstance(step, Keep):
            assert expected == ("edited" if step.changed else "the same")
        else:
            assert expected == ("sent" if isinstance(step, Send) else "held")
    released = decide(entry, 1, [attempt], Policy(frozenset({"changed"}), again=True), 2)
    assert isinstance(released, Keep if with_changed == "the same" else Send)
