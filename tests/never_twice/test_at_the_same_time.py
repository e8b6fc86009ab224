"""Two batches of one task run at the same time, each with a journal of its own: whoever comes second holds the row."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import msgspec
import pytest
from anyio import to_thread
from counted_nights import Night
from journals import batch_info
from killing import exit_code, start
from remembering_service import Service, on_a_socket

from batch_runner.errors import JournalError
from batch_runner.job.job import Job
from batch_runner.journal.index import Index, LaterJournals, OtherJournals, Purpose, Ran, StartsOfTonight
from batch_runner.journal.journal import Journal
from batch_runner.plan.duplicates import Rival
from batch_runner.plan.plan import Entry, Policy, Refuse, Send
from batch_runner.rows.keys import dedup_key_of, key_of
from batch_runner.rows.source import Source, look_ahead, plan_rows
from batch_runner.runner.connect import choose_service, purpose_of
from batch_runner.runner.memory import recall

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from batch_runner.plan.plan import Step
    from batch_runner.rows.params import RowParams

ROWS = ("A-1", "A-2", "A-3", "A-4", "A-5", "A-6")


@pytest.mark.long
@pytest.mark.parametrize("quiet", [False, True], ids=["told", "quiet"])
def test_the_same_list_runs_in_two_folders(tmp_path: Path, *, quiet: bool) -> None:
    """From top to bottom in one, from bottom to top in the other: each row is started once, and held in the other.

    Neither journal is there when they begin.
    """
    with on_a_socket(Service(looks=1)) as service:
        nights = [Night(tmp_path / name, service, quiet=quiet) for name in "ab"]
        nights[0].sheet("in.csv", ROWS)
        nights[1].sheet("in.csv", ROWS[::-1])
        words = ("in.csv", "--rate", "4/s")
        children = [start(night.folder, ["run", *night.command(*words), *night.quiet]) for night in nights]
        assert {exit_code(child) for child in children} <= {0, 3}
        assert max(service.starts_of.values()) == 1
        held = [row["error"] for night in nights for row in night.rows("in.results.csv") if row["error"]]
        assert len(held) >= len(ROWS)
        assert all(error.startswith("ran on ") and "--same carries that over" in error for error in held)
        for night in nights:  # a row that both came to at the same moment was started by neither
            night.run("in.csv", code=(0, 3))
        assert service.starts_of == Counter(ROWS)


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "others"),
    [
        (("--key", "Row"), ("--key", "Id")),
        (("--key", "Row"), ("--key", "Id,Row")),
        (("--key", "Id"), ()),
        (("--key", "No", "--unique", "Row"), ("--key", "No", "--unique", "Row")),
    ],
    ids=["another column", "one more column", "no key", "alike"],
)
def test_the_same_list_runs_in_two_folders_by_other_columns(
    tmp_path: Path, words: tuple[str, ...], others: tuple[str, ...]
) -> None:
    """What the one knows by its key, or as alike, the other finds by its own: each row is started once.

    Neither journal is there when they begin, so neither says by then how it knows its rows.
    """
    with on_a_socket(Service(looks=1)) as service:
        nights = [Night(tmp_path / name, service) for name in "ab"]
        for night, said, rows in zip(nights, (words, others), (ROWS, ROWS[::-1]), strict=True):
            night.key = said
            number = f"No {night.folder.name}" if "--unique" in said else "No "
            lines = (f"{row},id {row},{number}{nth if '--unique' in said else row}" for nth, row in enumerate(rows))
            (night.folder / "in.csv").write_text("\n".join(["Row,Id,No", *lines, ""]))
        children = [start(night.folder, ["run", *night.command("in.csv", "--rate", "4/s")]) for night in nights]
        assert {exit_code(child) for child in children} <= {0, 3}
        assert max(service.starts_of.values()) == 1, service.starts_of
        held = [row["error"] for night in nights for row in night.rows("in.results.csv") if row["error"]]
        assert len(held) >= len(ROWS)
        for night in nights:  # a row that both came to at the same moment was started by neither
            night.run("in.csv", code=(0, 3))
        assert service.starts_of == Counter(ROWS)


@pytest.fixture
def night_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    """A job that has run once, with its own file of tasks."""
    monkeypatch.setenv("BATCH_RUNNER_STATE", str(tmp_path / "state"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    Path("my_task.py").write_text("def pay(params):\n    return None\n")
    Path("in.csv").write_text("Row\nA-1\n")
    job = Job(input="in.csv", task="my_task.py:pay", journal="pay.journal.db")
    anyio.run(leave_journal, Path("pay.journal.db"), job)
    Index(tmp_path / "state").add(Path("pay.journal.db"), purpose_of(job))
    return job


async def leave_journal(path: Path, job: Job) -> None:
    async with Journal.open(path, batch_info(task=job.task, service="local")) as journal:
        await journal.finish(0)


@pytest.mark.parametrize("is_night", [False, True], ids=["one sheet", "a night's sheet"])
def test_a_journal_that_is_made_while_a_batch_begins(tmp_path: Path, night_before: Job, *, is_night: bool) -> None:
    """It came to the index when the others had been listed and nothing was asked yet: it is asked before each start."""
    others = recall(night_before, choose_service(night_before)).others
    there = tmp_path / "there.journal.db"
    anyio.run(leave_journal, there, night_before)
    Index(tmp_path / "state").add(there, purpose_of(night_before))
    if is_night:
        others = others.beside(None, night_before.journal_path)
    later = others.written_since()
    assert later is not None
    assert later.paths == (there,)


def test_a_copy_of_the_folder_that_runs_first_while_a_batch_runs(tmp_path: Path, night_before: Job) -> None:
    """The copied file of tasks is another one, and its journal comes to the index with its first batch."""
    shutil.copytree(tmp_path / "work", tmp_path / "copy")
    others = recall(night_before, choose_service(night_before)).others
    copy = tmp_path / "copy" / "pay.journal.db"
    task = f"{tmp_path / 'copy' / 'my_task.py'}:pay"
    Index(tmp_path / "state").add(copy, Purpose.of(task, "local", tmp_path))
    later = others.written_since()
    assert later is not None
    assert later.paths == (copy,)


class Folder:
    """A list in a folder of its own, which runs by these key columns, and by what makes a row unique."""

    def __init__(self, folder: Path, rows: list[str], key: tuple[str, ...], *, unique: bool = False) -> None:
        folder.mkdir()
        self.journal = folder / "pay.journal.db"
        self.key = key
        self.unique = ("Row",) if unique else ()
        self.sheet = folder / "in.csv"
        self.sheet.write_text("\n".join(["Row,Id,No", *rows, ""]))

    async def plans(self, others: OtherJournals) -> Step:
        """What is done with its only row."""
        async with self._placed(others) as (step, _row, _journal):
            return step

    async def starts(self, others: OtherJournals | None = None, before: Callable[[], object] = lambda: None) -> str:
        """What its only row is held for, once it has found its place, `before` is over and its intent recorded."""
        async with self._placed(others or OtherJournals()) as (step, row, journal):
            assert isinstance(step, Send)
            await to_thread.run_sync(before)
            attempt = await journal.intend(step)
            held = await journal.hold_if_started(attempt, step, row)
            if held is None:
                await journal.started(attempt, "run-1", "queued")
            return held or ""

    @asynccontextmanager
    async def _placed(self, others: OtherJournals) -> AsyncIterator[tuple[Step, RowParams, Journal]]:
        info = msgspec.structs.replace(batch_info(key=self.key), policy=Policy(unique=self.unique))
        job = Job(input=str(self.sheet), key=self.key, unique=self.unique)
        with Source(job, self.sheet.parent) as source:
            async with Journal.open(
                self.journal, msgspec.structs.replace(info, input=job.input), others=others
            ) as opened:
                await look_ahead(source, opened)
                ((step, row),) = [planned async for chunk in plan_rows(source, opened) for planned in chunk]
                yield step, row, opened


@pytest.mark.parametrize(
    ("there", "key", "why"),
    [
        (("A-1,id 1,7", ("Id",), False), ("Row",), "ran on "),
        (("A-1,id 1,7", ("Id", "No"), False), ("Row",), "ran on "),
        (("A-1,id 1,7", (), False), ("Row",), "ran on "),
        (("A-1,id 1,7", ("Row",), False), (), "ran on "),
        (("A-1,id 9,9", ("No",), True), ("No",), "duplicate: the same Row ran before"),
        (("A-2,id 1,7", ("Row",), True), ("Row",), ""),
        (("A-2,id 1,9", ("No",), True), ("No",), ""),
        (("A-1,id 9,9", ("No",), False), ("No",), ""),
    ],
)
def test_a_start_elsewhere_is_seen_by_the_columns_that_are_a_key_there(
    tmp_path: Path, there: tuple[str, tuple[str, ...], bool], key: tuple[str, ...], why: str
) -> None:
    """Its journal came to be when this row had its place: it is asked by its own key, and for what is alike."""
    row, their_key, is_unique = there
    other = Folder(tmp_path / "there", [row], their_key, unique=is_unique)
    own = Folder(tmp_path / "here", ["A-1,id 1,7"], key, unique=is_unique)
    others = OtherJournals(look=LaterJournals(tmp_path, (), lambda: [other.journal]))
    held = anyio.run(own.starts, others, lambda: anyio.run(other.starts))
    assert held.startswith(why)
    assert bool(held) == bool(why)


@pytest.mark.parametrize(
    ("row", "key", "is_unique", "why"),
    [
        ("A-1,id 9,9", ("Row",), False, "is started tonight from in.csv, row 2"),
        ("A-1,id 9,9", ("No",), True, "duplicate: the same Row is started tonight, as row 2 of in.csv"),
        ("A-2,id 9,9", ("Row",), True, ""),
    ],
    ids=["its key", "alike", "another row"],
)
def test_two_sheets_of_one_night_have_a_journal_each(
    tmp_path: Path, row: str, key: tuple[str, ...], why: str, *, is_unique: bool
) -> None:
    """What the first one is about to start isn't recorded yet, and no other journal is there: the second knows it."""
    tonight = StartsOfTonight()
    folders = [
        Folder(tmp_path / name, [line], key, unique=is_unique) for name, line in (("a", "A-1,id 1,7"), ("b", row))
    ]
    for folder, reason in zip(folders, ("", why), strict=True):
        step = anyio.run(folder.plans, OtherJournals(tonight=tonight, own=folder.journal))
        assert isinstance(step, Refuse if reason else Send)
        assert not isinstance(step, Refuse) or reason in step.why


def test_what_a_night_is_about_to_start_is_closed_with_it() -> None:
    """Python warns of a database that is left open, from 3.13 on."""
    tonight = StartsOfTonight()
    connection = tonight._connection
    del tonight
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        connection.execute("SELECT 1")


def test_a_journal_that_cannot_be_read_just_then(tmp_path: Path) -> None:
    """What ran in it isn't known, so the row isn't started."""
    own, there = Folder(tmp_path / "here", ["A-1,id 1,7"], ("Row",)), tmp_path / "there.journal.db"
    others = OtherJournals(look=LaterJournals(tmp_path, (), lambda: [there]))
    with pytest.raises(JournalError, match=r"there\.journal\.db"):
        anyio.run(own.starts, others, lambda: there.write_text("no journal"))


def test_a_duplicate_that_may_run_is_not_held_for_a_start_elsewhere(tmp_path: Path) -> None:
    """`--allow-duplicates` holds for what another folder starts, too; the very row is held all the same."""
    policy = Policy(unique=("Row",), allow_duplicates=True)
    other = Folder(tmp_path / "there", ["A-1,id 9,9"], ("No",), unique=True)
    anyio.run(other.starts)
    others = OtherJournals([other.journal])
    entry = Entry(2, b"key", b"digest", claim=dedup_key_of(["A-1"]))
    assert isinstance(others.started_by_now([], entry, Policy(unique=("Row",))), Rival)
    assert others.started_by_now([], entry, policy) is None
    assert isinstance(others.started_by_now([key_of({"No": "9"})], entry, policy), Ran)
