"""What has to be on disk before what: a power cut between two steps loses nothing and starts nothing twice."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from journals import batch_info
from program import run_program
from recorder import digest_of, recorded, traced
from remembering_service import Service, on_a_socket

from batch_runner.errors import OutputFailed
from batch_runner.fs import AtomicFile, hold_lock
from batch_runner.journal.journal import JournalFile

if TYPE_CHECKING:
    from typing import BinaryIO

fcntl = pytest.importorskip("fcntl", reason="locks, links and mounts of POSIX")

TASK = "async def pay(params):\n    return {}\n"
RUN = ("run", "in.csv", "--task", "task.py:pay")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "in.csv").write_text("Row\n1\n2\n")
    return tmp_path


@pytest.mark.long
def test_each_intent_is_synced_before_its_start_leaves(folder: Path) -> None:
    """By the system's own record: whenever a POST leaves, all that was written to the journal's log is synced."""
    with on_a_socket(Service(looks=1)) as service:
        where = ("--service", service.url, "--poll-rate", "1000/s", "--concurrency", "1")
        calls = traced(folder, "run", "in.csv", "--task", "pay", *where)
    is_synced, posts = False, 0
    for name, arguments in calls:
        if "-wal>" in arguments:
            is_synced = name in ("fdatasync", "fsync") or (is_synced and not name.startswith(("pwrite", "write")))
        if "POST /v2" in arguments:
            posts += 1
            assert is_synced, f"start {posts} left before its intent was on disk"
    assert posts == 2


def test_the_journal_syncs_every_commit(tmp_path: Path) -> None:
    """SQLite's `FULL` (2): with `NORMAL` a commit in a WAL is on disk at the next checkpoint only."""

    async def synchronous() -> int:
        async with JournalFile.open(tmp_path / "a.journal.db") as file:
            await file.begin(batch_info())
            return int(file.connection.execute("PRAGMA synchronous").fetchone()[0])

    assert anyio.run(synchronous) == 2


def unchecked(draft: Path) -> None:
    """A check that finds nothing wrong."""


def put(target: AtomicFile, patch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Write "new" in several pieces; gives the steps as words, and how what they concern compares with the outcome."""

    def write(file: BinaryIO) -> None:
        for piece in (b"n", b"e", b"w"):
            file.write(piece)

    with recorded(patch) as steps:
        target.put(write, unchecked)
    whole = digest_of(target.path)
    folder = target.path.parent
    return [
        (step.what, "folder" if step.path == folder else "whole" if step.digest == whole else "part") for step in steps
    ]


def test_the_output_is_synced_when_it_is_whole_and_its_folder_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it is on disk before it gets its name, and the name before we tell of it."""
    (tmp_path / "in.csv").write_text("A\n")
    target = AtomicFile.prepare(tmp_path / "out.csv", tmp_path / "in.csv")
    assert put(target, monkeypatch) == [("sync", "whole"), ("rename", "whole"), ("sync", "folder")]


def test_a_new_journal_is_synced_before_a_batch_begins(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder that has its name is synced after the rename, before anything is sent."""
    with recorded(monkeypatch) as steps:
        assert run_program(*RUN, cwd=folder).returncode == 0
    (journal,) = folder.glob("*.journal.db")
    names = [(step.what, step.path.name) for step in steps if step.path in (journal, folder)]
    made = names.index(("rename", journal.name))
    assert names[made + 1] == ("sync", folder.name)


def test_the_locks_file_goes_while_it_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unlinked after the lock was let go, it could be the lock of a program that came in between."""
    seen: list[bool] = []
    unlink = Path.unlink

    def unlinking(path: Path, missing_ok: bool = False) -> None:
        if path.name.endswith("-lock"):
            seen.append(is_locked(path))
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", unlinking)
    with hold_lock(tmp_path / "a.db"):
        assert is_locked(tmp_path / "a.db-lock")
    assert seen == [True]
    assert list(tmp_path.iterdir()) == []


def is_locked(path: Path) -> bool:
    handle = os.open(path, os.O_RDWR)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    else:
        return False
    finally:
        os.close(handle)


def test_a_draft_is_its_batchs_alone(tmp_path: Path) -> None:
    """Two batches may have one output: whoever comes second leaves the draft of the first as it is, and says so."""
    (tmp_path / "in.csv").write_text("A\n")
    target = AtomicFile.prepare(tmp_path / "out.csv", tmp_path / "in.csv")

    def second(file: BinaryIO) -> None:
        file.write(b"the first batch's output")
        with pytest.raises(OutputFailed, match="another batch is writing it just now"):
            target.put(lambda other: other.writelines([b"ours"]), unchecked)

    assert target.put(second, unchecked) == tmp_path / "out.csv"
    assert (tmp_path / "out.csv").read_text() == "the first batch's output"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.csv", "out.csv"]


def test_a_batch_has_ended_when_its_output_is_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the output has its name the journal says that the batch goes on: killed, the next one is the same night."""
    ended: list[tuple[str | None, int | None]] = []
    replace = os.replace

    def replacing(source: str, target: str) -> None:
        if str(target).endswith(".results.csv"):
            (journal,) = folder.glob("*.journal.db")
            with closing(sqlite3.connect(journal)) as connection:
                ended.extend(connection.execute("SELECT ended, exit_code FROM batch"))
        replace(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", replacing)
        assert run_program(*RUN, cwd=folder).returncode == 0
    assert ended == [(None, None)]
    (journal,) = folder.glob("*.journal.db")
    with closing(sqlite3.connect(journal)) as connection:
        assert connection.execute("SELECT ended IS NOT NULL, exit_code FROM batch").fetchall() == [(1, 0)]
