"""Two batches of one task run at the same time, each with a journal of its own: whoever comes second holds the row."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import anyio
import pytest
from counted_nights import Night
from journals import batch_info
from killing import exit_code, start
from remembering_service import Service, on_a_socket

from batch_runner.job.job import Job
from batch_runner.journal.index import Index, Purpose
from batch_runner.journal.journal import Journal
from batch_runner.runner.connect import choose_service, purpose_of
from batch_runner.runner.memory import recall

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
