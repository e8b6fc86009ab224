"""A batch's events, and what can be read of them while it runs and afterwards."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING
from unittest.mock import ANY

import anyio
import pytest
from anyio import to_thread
from journals import attempts_in, batch_info, entries, files_beside, run_row
from trio.testing import MockClock

from batch_runner.errors import JournalError
from batch_runner.journal.journal import Journal, Outcome
from batch_runner.journal.view import Count, Failures, JournalView, Placed
from batch_runner.plan.plan import Entry, Keep, Poll, Refuse, Send

if TYPE_CHECKING:
    from pathlib import Path

    from batch_runner.plan.plan import Step

pytestmark = pytest.mark.anyio


async def test_a_row_passes_through_its_states(tmp_path: Path) -> None:
    """Each event is what `outcomes` shows next: unknown while the answer is out, then going, then its end."""
    path = tmp_path / "a.journal.db"
    async with Journal.open(path, batch_info()) as journal:
        (send,) = await journal.register(entries("A"))
        assert next(journal.outcomes()) == Placed(2, "not_started", "", "", "", changed=False)
        assert isinstance(send, Send)
        attempt = await journal.intend(send)
        assert next(journal.outcomes()).status == "unknown"
        await journal.started(attempt, "run-1", "queued")
        assert next(journal.outcomes()).status == "queued"
        journal.seen(attempt, "running")
        await journal.flush()
        assert next(journal.outcomes()).status == "running"
        await journal.ended(attempt, Outcome("success", "run-1", '{"total": 1.10}'))
        assert list(journal.outcomes()) == [Placed(2, "success", "run-1", '{"total": 1.10}', "", changed=False)]


async def test_a_withdrawn_attempt_never_was(tmp_path: Path) -> None:
    """A start that the service put off leaves the row as it was, and may be sent again under the same number."""
    path = tmp_path / "a.journal.db"
    async with Journal.open(path, batch_info()) as journal:
        (send,) = await journal.register(entries("A"))
        assert isinstance(send, Send)
        attempt = await journal.intend(send)
        await journal.withdrawn(attempt, "429: too many requests")
        assert next(journal.outcomes()).status == "not_started"
        await journal.intend_again(attempt)
        assert next(journal.outcomes()).status == "unknown"
        await journal.ended(attempt, Outcome("success", "run-1"))
        with JournalView.open(path) as view:
            (story,) = view.story(batch=1, number=2)
    assert (story.posts, story.status, story.run_id, story.error) == (2, "success", "run-1", "")
    assert story.started_at == story.ended_at is not None


async def test_going_on(tmp_path: Path) -> None:
    """After any end: the ended row is carried, the going one followed, the unanswered one unknown, the rest sent."""
    path = tmp_path / "a.journal.db"
    async with Journal.open(path, batch_info()) as journal:
        ended, going, lost, _ = await journal.register(entries("ABCD"))
        await run_row(journal, ended, "run-a")
        assert isinstance(going, Send)
        assert isinstance(lost, Send)
        await journal.started(await journal.intend(going), "run-b", "queued")
        await journal.intend(lost)
    async with Journal.open(path, batch_info()) as journal:
        steps = await journal.register(entries("ABCD"))
        assert isinstance(steps[1], Poll)
        assert steps == [
            Keep(2, 1, "success", changed=False),
            Poll(3, 2, 2, "run-b", "queued", anew=Send(3, 2, b"B", again=True), intended_at=ANY),
            Keep(4, 3, "unknown", changed=False),
            Send(5, 4, b"D"),
        ]
        lost_now = list(journal.outcomes())[2]
        assert (lost_now.status, lost_now.error) == (
            "unknown",
            "a start was sent and its answer was lost: a run may exist",
        )
    assert attempts_in(path)[2] == (3, "unknown", None, True)


async def test_refusals_are_judged_anew(tmp_path: Path) -> None:
    """A refused row is an error without attempt, and is sent when its cell is mended."""
    path = tmp_path / "a.journal.db"
    async with Journal.open(path, batch_info()) as journal:
        bad = [Entry(2, None, b"", "Sheet1!C2: #N/A"), Entry(3, b"B", b"B", "Sheet1!C3: #REF!")]
        assert await journal.register(bad) == [Refuse(2, "Sheet1!C2: #N/A"), Refuse(3, "Sheet1!C3: #REF!")]
        assert [(row.status, row.error) for row in journal.outcomes()] == [
            ("error", "Sheet1!C2: #N/A"),
            ("error", "Sheet1!C3: #REF!"),
        ]
    async with Journal.open(path, batch_info()) as journal:
        plans = await journal.register(entries("AB"))
        assert all(isinstance(plan, Send) for plan in plans)
    assert attempts_in(path) == []


async def test_counts_and_failures(tmp_path: Path) -> None:
    """Failures are grouped by what is wrong, the most frequent first, with the first rows' numbers."""
    async with Journal.open(tmp_path / "a.journal.db", batch_info()) as journal:
        plans = await journal.register(entries("ABCDEFGHIJ"))
        await run_row(journal, plans[0], "run-0")
        for number, plan in enumerate(plans[1:8], 1):
            await run_row(journal, plan, f"run-{number}", "failure")
        await run_row(journal, plans[8], "run-8", "timeout")
        assert journal.counts() == (
            Count("failure", 7),
            Count("not_started", 1),
            Count("success", 1),
            Count("timeout", 1),
        )
        assert journal.failures() == (
            Failures("failure", "no", 7, (3, 4, 5, 6, 7)),
            Failures("timeout", "no", 1, (10,)),
        )
        assert len(journal.failures(limit=1)) == 1


async def test_outcomes_come_in_the_sheets_order(tmp_path: Path) -> None:
    """More rows than a page of them, ended in another order, are read by another thread in order of number."""
    rows = 1203
    async with Journal.open(tmp_path / "a.journal.db", batch_info()) as journal:
        plans = await journal.register(entries(map(str, range(rows))))
        for plan in reversed(plans[::100]):
            await run_row(journal, plan, f"run-{plan.row_number}")
        placed = await to_thread.run_sync(lambda: list(journal.outcomes()))
    assert [row.number for row in placed] == list(range(2, rows + 2))
    assert {row.number: row.run_id for row in placed if row.run_id} == {n: f"run-{n}" for n in range(2, rows + 2, 100)}


async def test_a_slow_reader_lets_the_wal_be_emptied(tmp_path: Path) -> None:
    """While somebody stands still in the middle of the outcomes the WAL stays at its bound (16 MB and one commit)."""
    path = tmp_path / "a.journal.db"
    wal = path.with_name(f"{path.name}-wal")
    async with Journal.open(path, batch_info()) as journal:
        plans = await journal.register(entries(map(str, range(100))))
        reading = journal.outcomes()
        next(reading)
        for plan in plans:
            attempt = await journal.intend(plan) if isinstance(plan, Send) else 0
            await journal.ended(attempt, Outcome("success", "run", f'"{"x" * 500_000}"'))
        assert wal.stat().st_size < 18_000_000
        assert path.stat().st_size > 30_000_000
        assert len(list(reading)) == 99


async def test_looking_while_it_runs(tmp_path: Path) -> None:
    """A view shows a running batch and creates nothing; after the end one file is left, and it still shows all."""
    path = tmp_path / "a.journal.db"
    async with Journal.open(path, batch_info()) as journal:
        (send,) = await journal.register(entries("A"))
        before = files_beside(path)
        await run_row(journal, send, "run-1")
        with JournalView.open(path) as view:
            assert view.counts(1) == (Count("success", 1),)
            assert view.batches()[0].ended is None
        assert files_beside(path) == before
        await journal.finish(0)
    assert files_beside(path) == [path.name]
    with JournalView.open(path) as view:
        (batch,) = view.batches()
        assert (batch.exit_code, batch.task, batch.ended is not None) == (0, "invoice", True)
        assert [attempt.run_id for attempt in view.story_of_key(b"A")] == ["run-1"]
        assert [row.run_id for row in view.outcomes(1)] == ["run-1"]
        assert view.failures(1) == ()
    assert files_beside(path) == [path.name]


async def test_an_earlier_night_is_shown_as_it_was(tmp_path: Path) -> None:
    """What a later night found out about a row doesn't change what the earlier one sent; the row's story has both."""
    path = tmp_path / "a.journal.db"
    async with Journal.open(path, batch_info()) as journal:
        await run_row(journal, (await journal.register(entries("A")))[0], "run-1", "failure")
        await journal.finish(3)
    async with Journal.open(path, batch_info("failure")) as journal:
        await run_row(journal, (await journal.register(entries("A", first=7)))[0], "run-2")
        await journal.finish(0)
    with JournalView.open(path) as view:
        assert (view.counts(1), view.counts(2)) == ((Count("failure", 1),), (Count("success", 1),))
        story = [(found.batch, found.number, found.run_id, found.status) for found in view.story(2, 7)]
    assert story == [(1, 2, "run-1", "failure"), (2, 7, "run-2", "success")]


async def test_a_person_can_read_the_file(tmp_path: Path) -> None:
    """Who opens it with the sqlite3 shell finds explained tables and a view of the outcomes."""
    path = tmp_path / "a.journal.db"
    async with Journal.open(path, batch_info()) as journal:
        await run_row(journal, (await journal.register(entries("A")))[0], "run-1")
    with closing(sqlite3.connect(path)) as connection:
        tables = dict(connection.execute("SELECT name, sql FROM sqlite_schema WHERE type IN ('table', 'view')"))
        assert connection.execute("SELECT status, run_id, result FROM outcome").fetchall() == [
            ("success", "run-1", '"run-1"')
        ]
    of_rows = {"row", "alias", "place", "attempt", "result", "resolution", "same", "outcome"}
    assert of_rows | {"about", "batch", "output", "told"} == set(tables)
    assert all("--" in sql for sql in tables.values())


@pytest.mark.parametrize(
    ("info", "difference"),
    [
        (batch_info(task="other"), "the task invoice, and this batch has other"),
        (batch_info(service="anchor"), "the service local, and this batch has anchor"),
        (batch_info(key=("No", "Vendor")), "the key all params, and this batch has No, Vendor"),
    ],
)
async def test_another_batchs_journal_is_refused(tmp_path: Path, info: object, difference: str) -> None:
    """Another task, service or key is refused; the sentence names the file and both values."""
    path = tmp_path / "a.journal.db"
    async with Journal.open(path, batch_info()) as journal:
        await run_row(journal, (await journal.register(entries("A")))[0], "run-1")
        await journal.finish(0)
    with pytest.raises(JournalError, match=f"a.journal.db.*{difference.replace('[', '.').replace(']', '.')}"):
        async with Journal.open(path, info):  # type: ignore[arg-type]
            pass
    with JournalView.open(path) as view:
        assert len(view.batches()) == 1


async def test_a_mistyped_task_that_started_nothing_can_be_mended(tmp_path: Path) -> None:
    """The service knew no such task, so nothing was started: the journal takes the right one."""
    path = tmp_path / "a.journal.db"
    async with Journal.open(path, batch_info(task="invioce")) as journal:
        (plan,) = await journal.register(entries("A"))
        assert isinstance(plan, Send)
        await journal.withdrawn(await journal.intend(plan), "404")
        await journal.finish(5)
    async with Journal.open(path, batch_info()) as journal:
        assert [type(plan) for plan in await journal.register(entries("A"))] == [Send]


def test_in_virtual_time() -> None:
    """The journal in memory needs no thread and no real time: hours pass between two events."""

    async def night() -> list[Placed]:
        async with Journal.in_memory(batch_info()) as journal:
            plans = await journal.register(entries("AB"))
            async with anyio.create_task_group() as group:
                for plan in plans:
                    group.start_soon(follow, journal, plan)
            await journal.finish(0)
            return list(journal.outcomes())

    async def follow(journal: Journal, plan: Step) -> None:
        assert isinstance(plan, Send)
        attempt = await journal.intend(plan)
        await anyio.sleep(3600)
        await journal.ended(attempt, Outcome("success", f"run-{plan.row_number}"))

    clock = MockClock(autojump_threshold=0)
    placed = anyio.run(night, backend="trio", backend_options={"clock": clock})
    assert [(row.number, row.run_id) for row in placed] == [(2, "run-2"), (3, "run-3")]


async def test_a_long_result_is_text_for_all_who_read_it(tmp_path: Path) -> None:
    """One that is written in pieces comes back to the letter, wherever it is read; a piece ends in no character."""
    path = tmp_path / "a.journal.db"
    texts = [f'"{"é€😀x" * 600_000}"', '"short"']
    async with Journal.open(path, batch_info()) as journal:
        for send, text in zip(await journal.register(entries("AB")), texts, strict=True):
            assert isinstance(send, Send)
            attempt = await journal.intend(send)
            await journal.ended(attempt, Outcome("success", f"run-{attempt}", text))
        assert [placed.result for placed in journal.outcomes()] == texts
        with JournalView.open(path) as view:
            for number, text in enumerate(texts, 2):
                placed = view.outcome(1, number)
                assert placed is not None
                assert placed.result == text
                assert [story.result for story in view.story(1, number)] == [text]
            assert [placed.result for placed in view.page(1, "success", 0, 5)] == texts
    with closing(sqlite3.connect(path)) as connection:
        kinds = connection.execute("SELECT typeof(json) FROM result ORDER BY attempt").fetchall()
        assert [kind for (kind,) in kinds] == ["blob", "text"], "what SQLite is handed whole it copies"
        assert [text for (text,) in connection.execute("SELECT result FROM outcome ORDER BY number")] == texts


async def test_a_long_result_is_written_anew(tmp_path: Path) -> None:
    """A run whose end is told once more, shorter or longer, leaves nothing of what was there."""
    async with Journal.open(tmp_path / "a.journal.db", batch_info()) as journal:
        (send,) = await journal.register(entries("A"))
        assert isinstance(send, Send)
        attempt = await journal.intend(send)
        for text in ['"short"', f'"{"b" * 3_000_000}"', f'"{"a" * 2_000_000}"', '"short"']:
            await journal.ended(attempt, Outcome("success", "run-1", text))
            assert next(journal.outcomes()).result == text
