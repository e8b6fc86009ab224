"""Rows that are alike in what makes a row unique: one of them runs, and the others are refused by name."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import msgspec
import pytest
from claims import kinds, night, row, unique
from hypothesis import given
from hypothesis import strategies as st
from journals import run_row
from program import run_program

from batch_runner.journal.journal import Journal, Outcome
from batch_runner.plan.plan import DUPLICATE, Entry, Keep, Poll, Refuse, Resend, Send
from batch_runner.rows.keys import dedup_key_of, former_plain, plain

if TYPE_CHECKING:
    from batch_runner.journal.batches import BatchInfo
    from batch_runner.plan.plan import Step

TASK = """
async def pay(params):
    if params.get("End"):
        raise ValueError("no money")
    return "paid"
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.journal.db"


def test_one_of_two_in_a_sheet(path: Path) -> None:
    """The first is sent; the second is refused, and its sentence names the first's row."""
    first, second = anyio.run(night, path, [row(2, "A", "x"), row(3, "B", "x")], unique())
    assert isinstance(first, Send)
    assert isinstance(second, Refuse)
    assert second.held == DUPLICATE
    assert "the same Vendor, No stands in row 2 of this sheet" in second.why
    assert "--allow-duplicates" in second.why


def test_one_that_ran_on_an_earlier_night(path: Path) -> None:
    """It is named with its row, its night and its run, also when that row has left the sheet."""
    anyio.run(night, path, [row(2, "A", "x")], unique())
    (plan,) = anyio.run(night, path, [row(7, "B", "x")], unique())
    assert isinstance(plan, Refuse)
    assert "as row 2 of invoices.csv on the night of 20" in plan.why
    assert "(run run-A: success)" in plan.why


def test_another_amount_is_said(path: Path) -> None:
    """Refused like any other duplicate, and the sentence says what differs."""
    anyio.run(night, path, [row(2, "A", "x", "10")], unique(conflict=True))
    other, same = anyio.run(night, path, [row(2, "B", "x", "12"), row(3, "C", "x", "10")], unique(conflict=True))
    assert isinstance(other, Refuse)
    assert isinstance(same, Refuse)
    assert "with another Amount" in other.why
    assert "with another" not in same.why


def test_an_edited_amount_is_not_paid_again(path: Path) -> None:
    """The very row that ran, with another amount now: not even `--retry changed` sends it."""
    anyio.run(night, path, [row(2, "A", "x", "10")], unique(conflict=True))
    edited = msgspec.structs.replace(row(2, "A", "x", "12"), digest=b"A2")
    changed = unique("changed", conflict=True)
    assert anyio.run(night, path, [edited], changed) == [Keep(2, 1, "success", changed=True, held=DUPLICATE)]
    assert kinds(anyio.run(night, path, [edited], unique("changed", conflict=True, allow=True))) == [Send]


def test_an_amount_that_went_and_came_back(path: Path) -> None:
    """Not only the last run counts: x for 10, then y, then x for 12 would pay x a second time."""
    changed = unique("changed", conflict=True)
    anyio.run(night, path, [row(2, "A", "x", "10")], changed)
    other = msgspec.structs.replace(row(2, "A", "y", "10"), digest=b"A2")
    assert kinds(anyio.run(night, path, [other], changed)) == [Send]
    back = msgspec.structs.replace(row(2, "A", "x", "12"), digest=b"A3")
    assert anyio.run(night, path, [back], changed) == [Keep(2, 1, "success", changed=True, held=DUPLICATE)]


def test_an_amount_that_was_refused_may_be_mended(path: Path) -> None:
    """The service said no to 10 for good, so nothing ran: 12 is sent."""

    async def refused() -> None:
        async with Journal.open(path, unique(conflict=True)) as journal:
            (plan,) = await journal.register([row(2, "A", "x", "10")])
            assert isinstance(plan, Send)
            await journal.ended(await journal.intend(plan), Outcome("error", error="422"))
            await journal.finish(3)

    anyio.run(refused)
    mended = msgspec.structs.replace(row(2, "A", "x", "12"), digest=b"A2")
    assert kinds(anyio.run(night, path, [mended], unique("changed", conflict=True))) == [Send]


@pytest.mark.parametrize("retry", [(), ("all",)])
def test_a_run_that_goes_on_is_a_rival(path: Path, retry: tuple[str, ...]) -> None:
    """It has come to nothing yet that `retry` could name, so another row that is alike waits, above it or below."""

    async def interrupted() -> None:
        async with Journal.open(path, unique()) as journal:
            (plan,) = await journal.register([row(2, "A", "x")])
            assert isinstance(plan, Send)
            await journal.started(await journal.intend(plan), "run-A", "running")

    anyio.run(interrupted)
    plans = anyio.run(night, path, [row(2, "B", "x"), row(3, "A", "x"), row(4, "C", "x")], unique(*retry))
    assert kinds(plans) == [Refuse, Poll, Refuse]


async def lost(path: Path, sheet: list[Entry], info: BatchInfo) -> None:
    """A batch that is killed while the answers to all its starts are awaited from a service that knows them by key."""
    async with Journal.open(path, info) as journal:
        journal.remember("M")
        for plan in await journal.register(sheet):
            assert isinstance(plan, Send)
            await journal.intend(plan)


def test_an_answer_that_is_asked_for_makes_its_claim(path: Path) -> None:
    """Asked again, the start may make its run only now: of two that are alike the first is asked for, or sent."""
    anyio.run(lost, path, [row(2, "A", "x")], unique())
    asked, refused = anyio.run(night, path, [row(2, "A", "x"), row(3, "B", "x")], unique("unknown"))
    assert isinstance(asked, Resend)
    assert isinstance(asked.otherwise, Send)
    assert isinstance(refused, Refuse)
    plans = anyio.run(night, path, [row(2, "B", "x"), row(3, "A", "x")], unique("unknown"))
    assert kinds(plans) == [Send, Keep]
    assert kinds(anyio.run(night, path, [row(3, "A", "x")], unique("unknown"))) == [Keep]


def test_two_that_were_allowed_are_both_asked_for(path: Path) -> None:
    """A person let both be sent: each may learn what came of it, but neither is sent anew beside the other."""
    sheet = [row(2, "A", "x"), row(3, "B", "x")]
    anyio.run(lost, path, sheet, unique(allow=True))
    info = msgspec.structs.replace(unique(), policy=msgspec.structs.replace(unique().policy, on_unknown="resend"))
    plans = anyio.run(night, path, sheet[1:], info)
    assert isinstance(plans[0], Resend)
    assert plans[0].otherwise is None


def test_allowed_for_one_batch(path: Path) -> None:
    """With `--allow-duplicates` both are sent; the night after, a third is refused again."""
    sheet = [row(2, "A", "x"), row(3, "B", "x")]
    assert kinds(anyio.run(night, path, sheet, unique(allow=True))) == [Send, Send]
    assert kinds(anyio.run(night, path, [*sheet, row(4, "C", "x")], unique())) == [Keep, Keep, Refuse]


@pytest.mark.parametrize(("retry", "kind"), [((), Refuse), (("failure",), Send)])
def test_a_failed_one_gives_way_where_it_would_be_retried(path: Path, retry: tuple[str, ...], kind: type) -> None:
    """A row mended under an all-params key is a new one: it goes where its failed former self might, too."""
    anyio.run(night, path, [row(2, "A", "x")], unique(), "failure")
    assert kinds(anyio.run(night, path, [row(2, "B", "x")], unique(*retry))) == [kind]


def test_a_failed_one_is_not_retried_beside_its_double(path: Path) -> None:
    """Row B succeeded in row A's place; A's failure stays what it is, though `--retry failure` says otherwise."""
    anyio.run(night, path, [row(2, "A", "x")], unique(), "failure")
    anyio.run(night, path, [row(2, "B", "x")], unique("failure"))
    plans = anyio.run(night, path, [row(2, "B", "x"), row(3, "A", "x")], unique("failure"))
    assert plans[1] == Keep(3, 1, "failure", changed=False, held=DUPLICATE)


def test_what_certainly_made_no_run_is_no_rival(path: Path) -> None:
    """A row that the service refused for good hasn't run: another one that is alike may."""

    async def refused() -> None:
        async with Journal.open(path, unique()) as journal:
            (plan,) = await journal.register([row(2, "A", "x")])
            assert isinstance(plan, Send)
            await journal.ended(await journal.intend(plan), Outcome("error", error="400"))
            await journal.finish(3)

    anyio.run(refused)
    assert kinds(anyio.run(night, path, [row(2, "A", "x"), row(3, "B", "x")], unique())) == [Keep, Send]


def test_a_lost_answer_is_a_rival(path: Path) -> None:
    """A start whose answer was lost may have paid."""

    async def killed() -> None:
        async with Journal.open(path, unique()) as journal:
            (plan,) = await journal.register([row(2, "A", "x")])
            assert isinstance(plan, Send)
            await journal.intend(plan)

    anyio.run(killed)
    (plan,) = anyio.run(night, path, [row(2, "B", "x")], unique())
    assert isinstance(plan, Refuse)
    assert "its run not known: unknown" in plan.why


def test_blank_values_claim_nothing(path: Path) -> None:
    """Rows without a vendor and a number are told apart by their keys alone."""
    assert kinds(anyio.run(night, path, [row(2, "A", ""), row(3, "B", "")], unique())) == [Send, Send]


@pytest.mark.long
@given(
    st.lists(st.lists(st.tuples(st.sampled_from("ABCDEF"), st.sampled_from("xyz")), max_size=6), min_size=1, max_size=4)
)
def test_no_claim_ever_runs_twice(nights: list[list[tuple[str, str]]]) -> None:
    """Over any nights with any sheets, each claim has one run at most, and every first of its kind has one."""

    async def run_all(path: Path) -> list[str]:
        ran = []
        for sheet in nights:
            rows = [row(number, key + claim, claim) for number, (key, claim) in enumerate(sheet, 2)]
            plans = await night(path, rows, unique())
            ran += [plan.claim.decode() for plan in plans if isinstance(plan, Send) and plan.claim]
        return ran

    with tempfile.TemporaryDirectory() as folder:
        ran = anyio.run(run_all, Path(folder) / "a.journal.db")
    assert sorted(ran) == sorted({claim for sheet in nights for _, claim in sheet})


def test_through_the_program(tmp_path: Path) -> None:
    """Two nights with the real program: duplicates are errors with their sentence, code 3, and stay unpaid."""
    (tmp_path / "task.py").write_text(TASK)
    sheet = tmp_path / "in.csv"
    command = (
        "run",
        "in.csv",
        "--task",
        "task.py:pay",
        "--unique",
        "Vendor,No",
        "--unique-conflict",
        "Amount",
        "--json",
    )
    sheet.write_text("Vendor,No,Amount\nACME,INV-007,10.00\n")
    assert run_program(*command, cwd=tmp_path).returncode == 0
    sheet.write_text("Vendor,No,Amount\nBeta,1,5\nacme ,inv-7,12.00\nACME,INV-007,10.00\n")
    done = run_program(*command, cwd=tmp_path)
    assert done.returncode == 3
    told = json.loads(done.stdout)
    assert told["counts"] == {"success": 2, "error": 1}
    assert told["duplicates"] == {"rows": 1, "numbers": [3]}
    assert "as row 2 of in.csv" in told["failures"][0]["error"]
    assert "with another Amount" in told["failures"][0]["error"]
    assert run_program(*command, "--allow-duplicates", cwd=tmp_path).returncode == 0


def test_a_unique_column_that_is_not_there(tmp_path: Path) -> None:
    """Unique columns that don't exist are a wrong command, with the nearest that does."""
    (tmp_path / "in.csv").write_text("Vendor,No\nACME,1\n")
    done = run_program("run", "in.csv", "--task", "invoice", "--unique", "Vendro", cwd=tmp_path)
    assert done.returncode == 2
    assert "did you mean 'Vendor'?" in done.stderr


def test_a_row_that_comes_back_to_an_invoice_that_ran(path: Path) -> None:
    """Edited from x to y and back to x: x ran for this very row, and isn't run again by `--retry changed`."""
    edits = [("A1", "x"), ("A2", "y"), ("A3", "x")]
    rows = [msgspec.structs.replace(row(2, "A", claim), digest=params.encode()) for params, claim in edits]
    assert [kinds(anyio.run(night, path, [each], unique("changed"))) for each in rows] == [[Send], [Send], [Keep]]


def test_a_stopped_night_goes_on_without_the_duplicate(path: Path) -> None:
    """What ran tonight is no candidate for tonight's retry, and so it bars its double when the night goes on."""
    sheet = [row(2, "A", "x"), row(3, "B", "y"), row(4, "C", "x")]

    async def stopped() -> list[Step]:
        async with Journal.open(path, unique("all")) as journal:
            plans = await journal.register(sheet)
            assert isinstance(plans[0], Send)
            await run_row(journal, plans[0], "run-A")
            await journal.finish(143)
        return plans

    assert kinds(anyio.run(stopped)) == [Send, Send, Refuse]
    assert kinds(anyio.run(night, path, sheet, unique("all"))) == [Keep, Send, Refuse]


def test_a_claim_of_an_earlier_release_still_holds(tmp_path: Path) -> None:
    """That compared signs: what it wrote down for `RE/42` holds a row with `RE/0042` back, and no amount differs."""
    former, claim = (dedup_key_of(["RE/42"], form) for form in (former_plain, plain))
    conflict = former
    assert former != claim
    old = msgspec.structs.replace(row(2, "A", "", ""), claim=former, conflict=conflict)
    again = Entry(
        3, b"B", b"B", None, True, claim, dedup_key_of(["RE/42"]), former_claim=former, former_conflict=conflict
    )

    async def nights() -> list[Step]:
        await night(tmp_path / "a.journal.db", [old], unique(conflict=True))
        return await night(tmp_path / "a.journal.db", [again], unique(conflict=True))

    (step,) = anyio.run(nights)
    assert isinstance(step, Refuse)
    assert step.held == "duplicate"
    assert "with another" not in step.why
