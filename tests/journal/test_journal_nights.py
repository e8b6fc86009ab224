"""Many nights over an edited sheet: rows keep their outcomes by key, and are started as often as was asked for."""

from __future__ import annotations

import sqlite3
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING
from unittest.mock import ANY

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from journals import batch_info, entries, run_row

from batch_runner.journal.journal import Journal, Outcome
from batch_runner.plan.plan import Entry, Keep, Poll, Refuse, Resend, Send, Skip

if TYPE_CHECKING:
    from batch_runner.journal.batches import BatchInfo
    from batch_runner.plan.plan import Step


async def one_night(
    path: Path, sheet: list[Entry], info: BatchInfo, *, status: str = "success", stop_after: int = 1000, code: int = 0
) -> list[Step]:
    """Run the sheet; after `stop_after` sent rows the batch is killed. A run is named for its row's params."""
    async with Journal.open(path, info) as journal:
        plans = await journal.register(sheet)
        sent = [plan for plan in plans if isinstance(plan, Send)]
        for plan in sent[:stop_after]:
            await run_row(journal, plan, f"{plan.params.decode()}@{plan.row_id}", status)
        if len(sent) <= stop_after:
            await journal.finish(code)
    return plans


def kinds(plans: list[Step]) -> list[type[Step]]:
    return [type(plan) for plan in plans]


@pytest.mark.long
@given(st.lists(st.sampled_from("ABCDEF"), min_size=1, max_size=8), st.data())
def test_outcomes_move_with_their_rows(before: list[str], data: st.DataObject) -> None:
    """Sorted, inserted into, deleted from: each row has a run of its own params; nothing that ran is sent again."""
    after = data.draw(st.permutations([*before, *data.draw(st.lists(st.sampled_from("ABCXYZ"), max_size=3))]))
    after = after[: data.draw(st.integers(1, len(after)))]

    async def nights(path: Path) -> None:
        await one_night(path, entries(before), batch_info(), stop_after=data.draw(st.integers(0, 8)))
        await one_night(path, entries(before), batch_info())
        plans = await one_night(path, entries(after), batch_info())
        sent = Counter(plan.params.decode() for plan in plans if isinstance(plan, Send))
        assert sent == Counter(after) - Counter(before)
        async with Journal.open(path, batch_info()) as journal:
            assert set(kinds(await journal.register(entries(after)))) == {Keep}
            runs = [row.run_id for row in journal.outcomes()]
        assert [run.split("@")[0] for run in runs] == after
        assert len(set(runs)) == len(after)

    with tempfile.TemporaryDirectory() as folder:
        anyio.run(nights, Path(folder) / "a.journal.db")


@pytest.mark.long
def test_equal_keys_are_told_apart_by_their_order(tmp_path: Path) -> None:
    """A thousand rows with one key, in chunks of any size: each keeps its own run from night to night."""
    path = tmp_path / "a.journal.db"
    sheet = [Entry(number, b"K", f"p{number}".encode()) for number in range(2, 1002)]

    async def night(chunk: int) -> list[Step]:
        plans: list[Step] = []
        async with Journal.open(path, batch_info(key=("No",))) as journal:
            for start in range(0, len(sheet), chunk):
                plans += await journal.register(sheet[start : start + chunk])
            for plan in plans[:3]:
                if isinstance(plan, Send):
                    await run_row(journal, plan, f"run-{plan.row_number}")
            runs = [row.run_id for row in journal.outcomes()]
            await journal.finish(0)
        assert runs[:4] == ["run-2", "run-3", "run-4", ""]
        return plans

    first, second = anyio.run(night, 256), anyio.run(night, 1)
    assert [plan.row_id for plan in first if isinstance(plan, Send)] == list(range(1, 1001))
    assert kinds(second) == [Keep] * 3 + [Send] * 997


def test_a_row_without_a_key_shifts_no_other(tmp_path: Path) -> None:
    """A row whose key can't be read takes no part in the order of equal keys: its neighbours keep their runs."""
    path = tmp_path / "a.journal.db"
    anyio.run(one_night, path, entries("KKK"), batch_info())
    broken = [Entry(2, None, b"?", "C2: #N/A"), *entries("KK", first=3)]
    assert kinds(anyio.run(one_night, path, broken, batch_info())) == [Refuse, Keep, Keep]
    assert kinds(anyio.run(one_night, path, entries("KKK"), batch_info())) == [Keep, Keep, Keep]


def test_a_row_that_takes_no_part_holds_its_place(tmp_path: Path) -> None:
    """`--rows 3` on the first night, all on the second: row 3 isn't sent again, and row 2 doesn't get its outcome."""
    path = tmp_path / "a.journal.db"
    first, second = Entry(2, b"K", b"10.00"), Entry(3, b"K", b"20.00")
    left_out = Entry(2, b"K", b"10.00", takes_part=False)

    async def nights() -> None:
        assert await one_night(path, [left_out, second], batch_info()) == [Skip(2), Send(3, 2, b"20.00")]
        assert await one_night(path, [first, second], batch_info()) == [
            Send(2, 1, b"10.00"),
            Keep(3, 2, "success", changed=False),
        ]
        async with Journal.open(path, batch_info()) as journal:
            await journal.register([left_out, second])
            assert [row.number for row in journal.outcomes()] == [3]

    anyio.run(nights)


def test_a_changed_row_runs_again_when_asked_to(tmp_path: Path) -> None:
    """With key columns, an edited row that ended is carried and marked; `--retry changed` sends it once."""
    path = tmp_path / "a.journal.db"
    old, new = [Entry(2, b"K", b"10.00")], [Entry(2, b"K", b"12.00")]
    info, asked = batch_info(key=("No",)), batch_info("changed", key=("No",))
    anyio.run(one_night, path, old, info)
    assert anyio.run(one_night, path, new, info) == [Keep(2, 1, "success", changed=True)]
    assert anyio.run(one_night, path, new, asked) == [Send(2, 1, b"12.00", again=True)]
    assert anyio.run(one_night, path, new, asked) == [Keep(2, 1, "success", changed=False)]


def test_each_night_retries_once(tmp_path: Path) -> None:
    """`--retry failure` from cron: a night that was killed goes on where it was, the next night retries again."""
    path = tmp_path / "a.journal.db"
    retry = batch_info("failure")

    async def night(info: BatchInfo, stop_after: int = 1000, code: int = 3) -> list[type[Step]]:
        return kinds(await one_night(path, entries("ABC"), info, status="failure", stop_after=stop_after, code=code))

    async def nights() -> None:
        assert await night(batch_info()) == [Send, Send, Send]
        assert await night(retry, stop_after=1) == [Send, Send, Send]
        assert await night(retry, stop_after=1) == [Keep, Send, Send]
        assert await night(retry, code=130) == [Keep, Keep, Send]
        assert await night(retry) == [Keep, Keep, Keep]
        assert await night(retry) == [Send, Send, Send]

    anyio.run(nights)


@pytest.mark.parametrize(("word", "again"), [("failure", Send), ("all", Keep), ("unknown", Keep)])
def test_a_night_that_was_stopped_is_over_some_day(tmp_path: Path, word: str, again: type[Step]) -> None:
    """What comes to its deadline every night retries all the same; but a fresh start goes on, however late."""
    path = tmp_path / "a.journal.db"
    status = "failure" if word == "all" else word

    async def night(info: BatchInfo) -> list[type[Step]]:
        return kinds(await one_night(path, entries("A"), info, status=status, code=5))

    assert anyio.run(night, batch_info()) == [Send]
    assert anyio.run(night, batch_info(word)) == [Send]
    assert anyio.run(night, batch_info(word)) == [Keep]
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE batch SET started = strftime('%Y-%m-%dT%H:%M:%fZ', started, '-12.1 hours')")
    assert anyio.run(night, batch_info(word)) == [again]
    assert anyio.run(night, batch_info(word)) == [Keep]


@pytest.mark.parametrize("code", [5, 130, 143])
def test_other_words_are_another_command(tmp_path: Path, code: int) -> None:
    """A stopped batch is not gone on with by one that asks for more: what failed in it is then run again."""
    path = tmp_path / "a.journal.db"

    async def night(info: BatchInfo, code: int) -> list[type[Step]]:
        return kinds(await one_night(path, entries("AB"), info, status="failure", code=code))

    assert anyio.run(night, batch_info(), code) == [Send, Send]
    assert anyio.run(night, batch_info("failure"), code) == [Send, Send]
    assert anyio.run(night, batch_info("failure"), code) == [Keep, Keep]
    assert anyio.run(night, batch_info("failure", "timeout"), code) == [Send, Send]


def test_killed_in_the_second_attempt(tmp_path: Path) -> None:
    """A retry whose answer was lost is unknown, not the failure that it followed; both attempts are kept."""
    path = tmp_path / "a.journal.db"

    async def nights() -> None:
        await one_night(path, entries("A"), batch_info(), status="failure", code=3)
        async with Journal.open(path, batch_info("failure")) as journal:
            (send,) = await journal.register(entries("A"))
            assert isinstance(send, Send)
            await journal.intend(send)
        again = await one_night(path, entries("A"), batch_info("failure"), code=4)
        assert again == [Keep(2, 1, "unknown", changed=False)]
        assert kinds(await one_night(path, entries("A"), batch_info("failure"))) == [Keep]
        assert kinds(await one_night(path, entries("A"), batch_info("unknown"))) == [Send]

    anyio.run(nights)


def test_a_withdrawn_retry_leaves_the_outcome(tmp_path: Path) -> None:
    """A retry that never started a run leaves the row's failure, which the same command then retries."""
    path = tmp_path / "a.journal.db"

    async def nights() -> None:
        await one_night(path, entries("A"), batch_info(), status="failure", code=3)
        async with Journal.open(path, batch_info("failure")) as journal:
            (send,) = await journal.register(entries("A"))
            assert isinstance(send, Send)
            await journal.withdrawn(await journal.intend(send), "503")
            assert next(journal.outcomes()).status == "failure"
            await journal.finish(5)
        assert kinds(await one_night(path, entries("A"), batch_info("failure"))) == [Send]

    anyio.run(nights)


def test_declared_safe_to_repeat(tmp_path: Path) -> None:
    """With `--on-unknown resend` a lost start is sent again, and the lost attempt stays in the row's story."""
    path = tmp_path / "a.journal.db"
    resend = batch_info(resend=True)

    async def nights() -> None:
        async with Journal.open(path, resend) as journal:
            (send,) = await journal.register(entries("A"))
            assert isinstance(send, Send)
            await journal.intend(send)
        assert kinds(await one_night(path, entries("A"), resend)) == [Send]
        assert kinds(await one_night(path, entries("A"), resend)) == [Keep]

    anyio.run(nights)


def test_a_run_is_followed_over_nights(tmp_path: Path) -> None:
    """A run that outlives a batch is followed by the next, even one that starts all afresh, and then carried."""
    path = tmp_path / "a.journal.db"

    async def nights() -> None:
        async with Journal.open(path, batch_info()) as journal:
            (send,) = await journal.register(entries("A"))
            assert isinstance(send, Send)
            await journal.started(await journal.intend(send), "run-1", "running")
        async with Journal.open(path, batch_info("all")) as journal:
            (follow,) = await journal.register(entries("A"))
            assert follow == Poll(2, 1, 1, "run-1", "running", anew=Send(2, 1, b"A", again=True), intended_at=ANY)
            await journal.ended(follow.attempt, Outcome("success", result="1"))
            assert [(row.run_id, row.result) for row in journal.outcomes()] == [("run-1", "1")]

    anyio.run(nights)


@pytest.mark.parametrize("word", ["failure", "all"])
def test_a_night_goes_on_although_another_sheet_came_between(tmp_path: Path, word: str) -> None:
    """Two sheets share a journal, and b's batch is killed: the next a doesn't end that night.

    One of b's rows was retried before the kill, the other is now; both are on the night after.
    """
    a, b = (msgspec.structs.replace(batch_info(word), input=name) for name in ("/in/a.csv", "/in/b.csv"))

    async def nights(path: Path) -> list[list[type[Step]]]:
        await one_night(path, entries("CD"), b, status="failure", code=3)
        await one_night(path, entries("A"), a)
        await one_night(path, entries("CD"), b, status="failure", stop_after=1)
        await one_night(path, entries("A"), a)
        return [kinds(await one_night(path, entries("CD"), b, status="failure", code=3)) for _ in range(2)]

    assert anyio.run(nights, tmp_path / "a.journal.db") == [[Keep, Send], [Send, Send]]


def test_a_lost_answer_that_came_is_followed(tmp_path: Path) -> None:
    """Asked for, it told a run that goes on: killed then, the next batch follows it like any other."""

    async def nights(path: Path) -> list[Step]:
        async with Journal.open(path, batch_info()) as journal:
            journal.remember("M")
            (plan,) = await journal.register(entries("A"))
            assert isinstance(plan, Send)
            await journal.intend(plan)
        async with Journal.open(path, batch_info()) as journal:
            (asked,) = await journal.register(entries("A"))
            assert isinstance(asked, Resend)
            await journal.ask_again(asked.attempt)
            await journal.started(asked.attempt, "run-A", "running")
            assert [(row.status, row.error) for row in journal.outcomes()] == [("running", "")]
        async with Journal.open(path, batch_info()) as journal:
            return await journal.register(entries("A"))

    followed = Poll(2, 1, 1, "run-A", "running", anew=Send(2, 1, b"A", again=True), intended_at=ANY)
    assert anyio.run(nights, tmp_path / "a.journal.db") == [followed]
