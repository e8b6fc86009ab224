"""A person looked what became of an unknown row, and says so."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import anyio
import msgspec
import pytest
from journals import batch_info, entries, run_row
from program import run_program

from batch_runner.errors import JournalBusy, UsageError
from batch_runner.journal.index import Purpose
from batch_runner.journal.journal import Journal, Outcome
from batch_runner.journal.resolve import Finding, resolve
from batch_runner.plan.plan import Keep, Send
from batch_runner.runner.memory import index_of_user

if TYPE_CHECKING:
    from pathlib import Path

SAID = Finding("success", "seen in the bank's list", "Ada")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal: row 2 succeeded, the answer of row 3 was lost, row 4 has a run that is gone, row 5 was killed."""
    path = tmp_path / "a.journal.db"

    async def night() -> None:
        async with Journal.open(path, batch_info()) as journal:
            plans = await journal.register(entries("ABCD"))
            await run_row(journal, plans[0], "run-2")
            for plan, outcome in zip(plans[1:3], (Outcome("unknown"), Outcome("unknown", "run-4")), strict=True):
                assert isinstance(plan, Send)
                await journal.ended(await journal.intend(plan), outcome)
            assert isinstance(plans[3], Send)
            await journal.intend(plans[3])

    anyio.run(night)
    return path


async def next_night(path: Path) -> list[str]:
    """What becomes of each row: `send`, or the status that is carried over."""
    async with Journal.open(path, batch_info()) as journal:
        plans = await journal.register(entries("ABCD"))
    return [plan.status if isinstance(plan, Keep) else type(plan).__name__.lower() for plan in plans]


def test_a_verdict_is_carried_over(path: Path) -> None:
    """What was said stands from then on; rows nobody spoke of stay unknown."""
    resolve(path, [3], SAID)
    resolve(path, [4], Finding("failure", "cancelled by hand", "Ada"))
    assert anyio.run(next_night, path) == ["success", "success", "failure", "unknown"]


def test_a_start_that_made_no_run_is_sent(path: Path) -> None:
    """`not_started`: the next batch starts the row, without any `--retry`; also one whose batch was killed."""
    resolve(path, [3, 5], Finding("not_started", "the service has no such run", "Ada"))
    assert anyio.run(next_night, path) == ["success", "send", "unknown", "send"]


@pytest.mark.parametrize(
    ("rows", "verdict", "why"),
    [
        ([2], SAID, "row 2 is success, neither unknown nor still going"),
        ([3, 99], SAID, "no row 99"),
        (
            [4],
            Finding("not_started", "", "Ada"),
            "has the run run-4, so it was started; if you know that it did nothing",
        ),
    ],
)
def test_what_can_not_be_resolved(path: Path, rows: list[int], verdict: Finding, why: str) -> None:
    """It is refused with a sentence, and then nothing was resolved, not even the rows before it."""
    with pytest.raises(UsageError, match=why):
        resolve(path, rows, verdict)
    assert anyio.run(next_night, path) == ["success", "unknown", "unknown", "unknown"]


def test_who_when_and_why_are_kept(path: Path) -> None:
    """The record has all of it, and a run id that was found is the row's from then on."""
    resolve(path, [3], Finding("success", "seen", "Ada", "run-found"))
    with closing(sqlite3.connect(path)) as connection:
        was, status, note, who, at = connection.execute("SELECT was, status, note, who, at FROM resolution").fetchone()
        run_id = connection.execute("SELECT run_id FROM attempt WHERE id = 2").fetchone()[0]
    assert (was, status, note, who, run_id) == ("unknown", "success", "seen", "Ada", "run-found")
    assert at.startswith("20")


def test_not_while_a_batch_runs(path: Path) -> None:
    """A running batch holds the journal against it."""

    async def meanwhile() -> None:
        async with Journal.open(path, batch_info()):
            resolve(path, [3], SAID)

    with pytest.raises(JournalBusy):
        anyio.run(meanwhile)


def test_with_the_program(path: Path) -> None:
    """As a person does it: resolve, look at the story, and a second time there is nothing to resolve (2)."""
    words = ("resolve", path.name, "--row", 3, "--as", "success", "--note", "seen in the bank", "--who", "Ada")
    done = run_program(*words, cwd=path.parent)
    assert (done.returncode, done.stderr) == (0, "")
    story = run_program("status", path.name, "--row", 3, cwd=path.parent).stdout
    assert "by Ada: unknown → success (seen in the bank)" in story
    told = json.loads(run_program("status", path.name, "--row", 3, "--json", cwd=path.parent).stdout)
    assert told["attempts"][0]["resolutions"][0]["who"] == "Ada"
    assert run_program(*words, cwd=path.parent).returncode == 2


def test_a_sheet_that_no_journal_knows(tmp_path: Path) -> None:
    """Who gives a sheet that never ran is told to name the journal."""
    (tmp_path / "in.csv").write_text("A\n1\n")
    done = run_program("resolve", "in.csv", "--row", 2, "--as", "success", "--note", "x", cwd=tmp_path)
    assert done.returncode == 2
    assert "in.csv: this is a spreadsheet, and no journal knows it; name the journal" in done.stderr


@pytest.fixture
def several(tmp_path: Path) -> Path:
    """A journal of two sheets, in each of which the answer to row 2 was lost; b.csv was the last."""
    path = tmp_path / "all.journal.db"

    async def night(sheet: str) -> None:
        async with Journal.open(path, msgspec.structs.replace(batch_info(), input=str(tmp_path / sheet))) as journal:
            (plan,) = await journal.register(entries([sheet]))
            assert isinstance(plan, Send)
            await journal.ended(await journal.intend(plan), Outcome("unknown"))
            await journal.finish(4)

    anyio.run(night, "a.csv")
    anyio.run(night, "b.csv")
    return path


def test_of_a_journal_and_its_copy_the_one_beside_the_sheet_is_meant(several: Path) -> None:
    """The folder was copied, and the copy is in the index: what is said of the sheet is not said to the copy."""
    sheet = several.parent / "b.csv"
    sheet.write_text("A\nb.csv\n")
    copy = several.parent.with_name(f"{several.parent.name}-copy") / several.name
    copy.parent.mkdir()
    shutil.copy(several, copy)
    index_of_user().add(copy, Purpose("t", "local"))
    words = ("resolve", sheet.name, "--row", 2, "--as", "success", "--note", "seen")
    done = run_program(*words, cwd=several.parent)
    assert done.returncode == 0, done.stderr
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("SELECT status FROM attempt").fetchall() == [("unknown",), ("unknown",)]


def test_a_row_of_which_sheet(several: Path) -> None:
    """Row 2 stands in both sheets of the journal: unless one is named, neither is resolved; then only that one is."""
    with pytest.raises(UsageError, match=r"a row of which sheet\? say --input; it has b.csv, a.csv"):
        resolve(several, [2], SAID)
    assert resolve(several, [2], SAID, "a.csv").path == str(several.parent / "a.csv")
    with closing(sqlite3.connect(several)) as connection:
        assert connection.execute("SELECT status FROM attempt ORDER BY id").fetchall() == [("success",), ("unknown",)]
    with pytest.raises(UsageError, match=r"'c\.csv' is no one sheet of it"):
        resolve(several, [2], SAID, "c.csv")


def test_the_story_of_a_row_of_one_of_several_sheets(several: Path) -> None:
    """`status --row` asks which, too; the page lists each batch with its sheet."""
    asked = run_program("status", several.name, "--row", 2, cwd=several.parent)
    assert (asked.returncode, "say --input" in asked.stderr) == (2, True)
    told = run_program("status", several.name, "--row", 2, "--input", "a.csv", "--json", cwd=several.parent)
    assert json.loads(told.stdout)["sheet"].endswith("a.csv")
    page = run_program("status", several.name, cwd=several.parent).stdout
    assert "2 batches of 2 sheets" in page
    assert "  a.csv  " in page


def test_a_verdict_needs_a_reason_and_can_do_no_harm(path: Path) -> None:
    """No note is no verdict; what a terminal would obey in it is shown escaped; a row said twice is resolved once."""
    words = ("resolve", path.name, "--row", 3, "--row", 3, "--as", "success")
    assert run_program(*words, "--note", " ", cwd=path.parent).returncode == 2
    assert run_program(*words, "--note", "a\x1b[31mb", cwd=path.parent).returncode == 0
    story = run_program("status", path.name, "--row", 3, cwd=path.parent).stdout
    assert r"(a\u001b[31mb)" in story
    assert "\x1b" not in story
    assert story.count("resolved") == 1


def test_of_a_row_that_was_refused_nothing_is_to_be_resolved(tmp_path: Path) -> None:
    """It stands in the sheet, so it isn't said that there is none: no run was started for it (2)."""
    (tmp_path / "t.py").write_text("async def pay(params):\n    return 1\n")
    (tmp_path / "a.csv").write_text("Id,Amount\n1,1.50\n2,2.50\n3,3.50\nTotal,7.50\n")
    assert run_program("run", "a.csv", "--task", "t.py:pay", cwd=tmp_path).returncode == 3
    done = run_program("resolve", "a.csv", "--row", "5", "--as", "success", "--note", "seen", cwd=tmp_path)
    assert done.returncode == 2
    assert "no run was started for row 5: there is nothing to resolve" in done.stderr
