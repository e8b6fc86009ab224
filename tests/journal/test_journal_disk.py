"""Disks that are full, read-only or have no locks: one sentence, nothing unrecorded, nothing lost."""

from __future__ import annotations

import errno
import subprocess
import sys
from typing import TYPE_CHECKING

import anyio
import pytest
from disks import fill as fill_disk
from disks import mount
from journals import attempts_in, batch_info, entries, files_beside, run_row

from batch_runner.errors import JournalError, JournalFailed, JournalFull
from batch_runner.journal.journal import Journal, Outcome
from batch_runner.journal.view import Count, JournalView
from batch_runner.plan.plan import Poll, Send, Step

if TYPE_CHECKING:
    from pathlib import Path

fcntl = pytest.importorskip("fcntl", reason="locks, links and mounts of POSIX")


async def fill(journal: Journal, plans: list[Step], ended: list[int]) -> None:
    """Send rows with long results; `ended` becomes those that were said to have ended."""
    for plan in plans:
        assert isinstance(plan, Send)
        attempt = await journal.intend(plan)
        await journal.started(attempt, f"run-{plan.row_number}", "queued")
        await journal.ended(attempt, Outcome("success", result=f'"{"x" * 5000}"'))
        ended.append(plan.row_number)


def test_the_disk_fills_up(small_disk: Path) -> None:
    """Mid-batch the disk is full: the journal says so to all, keeps what it has, and goes on when there is room."""
    path = small_disk / "a.journal.db"
    (small_disk / "other").write_bytes(b"\0" * 300_000)
    ended: list[int] = []

    async def first_night() -> None:
        async with Journal.open(path, batch_info()) as journal:
            plans = await journal.register(entries(map(str, range(300))))
            with pytest.raises(JournalFailed, match="disk is full"):
                await fill(journal, plans, ended)
            with pytest.raises(JournalFailed, match="disk is full"):
                await fill(journal, plans[-1:], ended)
            assert [row.number for row in journal.outcomes() if row.status == "success"] == ended

    async def second_night() -> None:
        async with Journal.open(path, batch_info()) as journal:
            plans = await journal.register(entries(map(str, range(300))))
            for plan in plans:
                if isinstance(plan, Poll):
                    await journal.ended(plan.attempt, Outcome("success"))
            assert {row.number for row in journal.outcomes() if row.status == "success"} >= set(ended)
            started = [plan.row_number for plan in plans if isinstance(plan, Send)]
            assert not set(started) & set(ended)

    anyio.run(first_night)
    assert len(ended) > 10
    (small_disk / "other").unlink()
    anyio.run(second_night)


def test_what_is_in_flight_when_the_disk_is_full(small_disk: Path) -> None:
    """Nothing more may begin, but rows that were sent before get their run ids and ends on disk."""
    path = small_disk / "a.journal.db"

    async def night() -> None:
        async with Journal.open(path, batch_info()) as journal:
            plans = [plan for plan in await journal.register(entries(map(str, range(300)))) if isinstance(plan, Send)]
            attempts = [await journal.intend(plan) for plan in plans[:40]]
            with pytest.raises(JournalFull, match="disk is full"):
                await fill(journal, list(plans[40:]), [])
            for attempt in attempts:
                await journal.started(attempt, f"run-{attempt}", "queued")
                await journal.ended(attempt, Outcome("success"))
            for refused in (journal.intend_again(attempts[0]), journal.register(entries("A", first=900))):
                with pytest.raises(JournalFull):
                    await refused

    anyio.run(night)
    assert attempts_in(path)[:40] == [(number, "success", f"run-{number}", True) for number in range(1, 41)]
    assert f"{path.name}-reserve" not in files_beside(path)


def test_no_room_to_begin(small_disk: Path) -> None:
    """On a full disk no batch begins: one sentence, and nothing half-made is left in the way."""
    path = small_disk / "a.journal.db"
    (small_disk / "other").write_bytes(b"\0" * (2**21 - 8192))
    with pytest.raises(JournalError, match=r"a\.journal\.db: .*(disk|full|space|I/O)"):
        anyio.run(begin, path)
    assert not path.exists()
    (small_disk / "other").unlink()
    anyio.run(begin, path)


async def begin(path: Path) -> None:
    async with Journal.open(path, batch_info()) as journal:
        await run_row(journal, (await journal.register(entries("A")))[0], "run-1")


def test_a_read_only_folder(small_disk: Path) -> None:
    """Where nothing can be written no batch begins, but a journal can be looked at, and nothing is created."""
    path = small_disk / "a.journal.db"
    anyio.run(begin, path)
    mount("-o", "remount,ro", str(small_disk))
    with pytest.raises(JournalError, match=r"no lock can be had in .*disk \(read-only file system\)"):
        anyio.run(begin, path)
    with JournalView.open(path) as view:
        assert view.counts(1) == (Count("success", 1),)
    assert files_beside(path) == [path.name, f"{path.name}-lock"] or files_beside(path) == [path.name]


def test_a_killed_batchs_journal_on_a_read_only_folder(small_disk: Path) -> None:
    """What a killed batch left can be looked at even where nothing can be written any more."""
    path = small_disk / "a.journal.db"
    script = (
        "import anyio, os, sys; from pathlib import Path; from journals import *\n"
        "from batch_runner.journal.journal import Journal\n"
        "async def main():\n"
        "    async with Journal.open(Path(sys.argv[1]), batch_info()) as journal:\n"
        "        await run_row(journal, (await journal.register(entries('A')))[0], 'run-1')\n"
        "        os.kill(os.getpid(), 9)\n"
        "anyio.run(main)"
    )
    subprocess.run([sys.executable, "-c", script, path], env={"PYTHONPATH": ":".join(sys.path)}, check=False)
    mount("-o", "remount,ro", str(small_disk))
    with JournalView.open(path) as view:
        assert view.counts(1) == (Count("success", 1),)


def test_a_read_only_file(small_disk: Path) -> None:
    """A journal on which alone nothing can be written is refused before anything is sent."""
    path = small_disk / "a.journal.db"
    anyio.run(begin, path)
    mount("--bind", str(path), str(path))
    mount("-o", "remount,bind,ro", str(path))
    try:
        with pytest.raises(JournalError, match=r"read-?only"):
            anyio.run(begin, path)
    finally:
        subprocess.run(["umount", str(path)], check=True)
    assert attempts_in(path) == [(1, "success", "run-1", True)]


def test_a_folder_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network folders have no locks: no batch begins there, rather than two at once."""

    def flock(_handle: int, _operation: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(JournalError, match=r"no lock can be had in .* \(function not implemented\)"):
        anyio.run(begin, tmp_path / "a.journal.db")
    assert files_beside(tmp_path / "a.journal.db") in ([], ["a.journal.db-lock"])


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """A mistyped folder is named; no folder is made."""
    with pytest.raises(JournalError, match=r"there is no folder .*nowhere"):
        anyio.run(begin, tmp_path / "nowhere" / "a.journal.db")
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(JournalError, match="there is no journal here"), JournalView.open(tmp_path / "a.journal.db"):
        pass


def test_a_folder_in_its_place(tmp_path: Path) -> None:
    """A folder is no journal."""
    (tmp_path / "a.journal.db").mkdir()
    with pytest.raises(JournalError, match=r"a\.journal\.db: the journal is a folder; name a file"):
        anyio.run(begin, tmp_path / "a.journal.db")


def test_closed_on_a_full_disk_it_is_a_whole_journal(small_disk: Path) -> None:
    """That no batch is under way is said in the room that was set aside: else its emptied WAL would seem lost."""
    path = small_disk / "a.journal.db"

    async def begin(*, is_full: bool) -> int:
        async with Journal.open(path, batch_info()) as journal:
            if is_full:
                for number in range(60):  # events that take room in the WAL, and none in the file
                    journal.remember(f"memory {number % 10}")
                    await journal.flush()
                fill_disk(small_disk)
            return journal.batch

    assert anyio.run(lambda: begin(is_full=False)) == 1
    assert anyio.run(lambda: begin(is_full=True)) == 2
    (small_disk / "filler").unlink()
    assert anyio.run(lambda: begin(is_full=False)) == 3
