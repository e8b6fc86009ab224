"""Killed with SIGKILL at any time: what was said to be on disk is there, and nothing is sent twice."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from journals import attempts_in, batch_info, entries, files_beside

from batch_runner.errors import JournalBusy, JournalError
from batch_runner.journal.database import copy_journal, open_file
from batch_runner.journal.index import looking_into
from batch_runner.journal.journal import Journal
from batch_runner.journal.view import JournalView
from batch_runner.plan.plan import Keep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHILD = Path(__file__).parents[1] / "support" / "journal_child.py"


@contextmanager
def child(path: Path, rows: int) -> Iterator[subprocess.Popen[bytes]]:
    """A batch in another process, that is killed at the end of the block."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, CHILD, path, str(rows)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def killed_after(path: Path, rows: int, lines: int) -> list[tuple[str, int]]:
    """What a batch said before it was killed at about its `lines`-th word."""
    with child(path, rows) as process:
        assert process.stdout is not None
        said = list(islice(iter(process.stdout.readline, b"finished 0\n"), lines))  # it may be through before that
        process.kill()
        said += process.stdout.readlines()
    whole = [line.split() for line in said if line.endswith(b"\n")]
    return [(event.decode(), int(number)) for event, number in whole]


def check_kept(path: Path, said: list[tuple[str, int]]) -> None:
    """Whatever was said to be on disk is in the journal; and a row was sent once."""
    with JournalView.open(path) as view:
        batch = view.batches()[-1].id
        found = {row.number: row for row in view.outcomes(batch)}
    for event, number in said:
        if event == "intended":
            assert found[number].status in ("unknown", "queued", "success")
        elif event == "started":
            assert (found[number].status in ("queued", "success"), found[number].run_id) == (True, f"run-{number}")
        elif event == "ended":
            assert (found[number].status, found[number].result) == ("success", str(number))
    assert sum(event == "intended" for event, _ in said) <= len(attempts_in(path))
    assert len({number for event, number in said if event == "intended"}) == sum(e == "intended" for e, _ in said)


def go_on_after_kills(path: Path, kills: int, rows: int, chance: random.Random) -> None:
    """Kill the same batch over and over, then let it end; each time all that was ever said must hold."""
    said: list[tuple[str, int]] = []
    for _ in range(kills):
        said += killed_after(path, rows, chance.randrange(1, 3 * rows // kills))
        check_kept(path, said)
    with child(path, rows) as process:
        assert process.stdout is not None
        said += [
            (line.split()[0].decode(), int(line.split()[1])) for line in iter(process.stdout.readline, b"finished 0\n")
        ]
    check_kept(path, said)
    ids = [run_id for _, _, run_id, _ in attempts_in(path) if run_id]
    assert len(set(ids)) == len(ids)
    assert len(attempts_in(path)) == rows


@pytest.mark.long
def test_killed_again_and_again(tmp_path: Path) -> None:
    """Eight kills at random commits of one batch, with eight rows in flight."""
    go_on_after_kills(tmp_path / "a.journal.db", 8, 400, random.Random(3))


@pytest.mark.long
@pytest.mark.soak
def test_killed_a_hundred_times(tmp_path: Path) -> None:
    """The same, a hundred times, or as often as `KILLS` says."""
    kills = int(os.environ.get("KILLS", "100"))
    go_on_after_kills(tmp_path / "a.journal.db", kills, 10 * kills, random.Random(4))


async def carried(path: Path) -> bool:
    async with Journal.open(path, batch_info()) as journal:
        plans = await journal.register(entries("0", first=1))
        return all(isinstance(plan, Keep) for plan in plans)


def test_a_second_batch_is_turned_away(tmp_path: Path) -> None:
    """While a batch holds the journal another gives up instead of waiting, naming the holder's process and start."""
    path = tmp_path / "a.journal.db"
    with child(path, 5_000) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"opened 0\n"
        with pytest.raises(JournalBusy, match=rf"another batch holds this journal: process {process.pid}, started 2"):
            anyio.run(carried, path)
        with JournalView.open(path) as view:
            assert len(view.batches()) == 1


def test_by_another_name_it_is_the_same_journal(tmp_path: Path) -> None:
    """A link to a journal that is held is held, too."""
    path = tmp_path / "a.journal.db"
    link = tmp_path / "link.db"
    link.symlink_to(path)

    async def twice() -> None:
        async with Journal.open(path, batch_info()):
            await carried(link)

    with pytest.raises(JournalBusy):
        anyio.run(twice)


@pytest.mark.long
def test_the_lock_dies_with_its_process(tmp_path: Path) -> None:
    """After a kill -9 the next batch begins at once, although the lock's file is still there; then one file is left."""
    path = tmp_path / "a.journal.db"
    assert ("ended", 1) in killed_after(path, 10_000, 100)  # so many that it can't be through, and tidy up, before that
    assert f"{path.name}-lock" in files_beside(path)
    assert anyio.run(carried, path)
    assert files_beside(path) == [path.name]


def test_many_at_once(tmp_path: Path) -> None:
    """Of many batches that want one journal, coming and going, never two hold it."""
    path = tmp_path / "a.journal.db"
    held = 0

    async def hold(turns: int) -> None:
        nonlocal held
        for _ in range(turns):
            try:
                async with Journal.open(path, batch_info()):
                    held += 1
                    assert held == 1
                    await anyio.sleep(0)
                    held -= 1
            except JournalBusy:
                await anyio.sleep(0.001)

    async def all_of_them() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(hold, 5)

    anyio.run(all_of_them)


def shell_looks(path: Path) -> None:
    with closing(sqlite3.connect(path)) as shell:
        shell.execute("SELECT count(*) FROM attempt").fetchone()


def shell_writes(path: Path) -> None:
    with closing(sqlite3.connect(path)) as shell, shell:
        shell.execute("CREATE INDEX hers ON attempt (status)")


def shell_vacuums(path: Path) -> None:
    with closing(sqlite3.connect(path)) as shell:
        shell.execute("VACUUM")


@pytest.mark.parametrize("shell", [shell_looks, shell_writes, shell_vacuums])
def test_a_shell_that_was_at_the_journal_of_a_killed_batch(tmp_path: Path, shell: Callable[[Path], None]) -> None:
    """It puts the WAL in and removes it: whole, and looked at and gone on with as such. Nothing stays beside it."""
    path = tmp_path / "a.journal.db"
    said = killed_after(path, 50, 30)
    before = files_beside(path)
    shell(path)
    assert {*before} - {*files_beside(path)} == {"a.journal.db-wal", "a.journal.db-shm"}
    check_kept(path, said)
    with closing(copy_journal(path)) as copied:
        assert copied.execute("SELECT count(*) FROM attempt").fetchone()[0] == len(attempts_in(path))
    with child(path, 50) as process:
        assert process.stdout is not None
        again = [line.split() for line in iter(process.stdout.readline, b"finished 0\n")]
        sent = {int(number) for event, number in again if event == b"intended"}
        assert sent.isdisjoint(number for event, number in said if event == "intended")
        assert files_beside(path) == [path.name]


def test_the_wal_of_a_killed_batch_was_removed(tmp_path: Path) -> None:
    """That is half a journal for sure: refused, without a way out that would start its rows again."""
    path, wal = tmp_path / "a.journal.db", tmp_path / "a.journal.db-wal"
    said = killed_after(path, 50, 30)
    kept = wal.read_bytes()
    wal.unlink()
    for _look in range(2):
        with pytest.raises(JournalError, match="half a journal") as raised:
            open_file(path)
        assert "under_way" not in str(raised.value)
        with pytest.raises(JournalError, match="half a journal"):
            copy_journal(path)
        with pytest.raises(JournalError, match="half a journal"), looking_into(path):
            pass
    wal.write_bytes(kept)
    check_kept(path, said)


@pytest.mark.parametrize("is_put_in", [True, False])
def test_a_copy_of_what_was_kept_proves_nothing(tmp_path: Path, *, is_put_in: bool) -> None:
    """Only the very file to which the batch wrote does: who copies may do so at several moments."""
    path, other = tmp_path / "a.journal.db", tmp_path / "other" / "a.journal.db"
    killed_after(path, 50, 30)
    if is_put_in:
        shell_looks(path)
    other.parent.mkdir()
    for name in (path.name, f"{path.name}-wal-kept"):
        shutil.copy(path.with_name(name), other.with_name(name))
    with pytest.raises(JournalError, match="nobody moved, copied or restored"):
        open_file(other)


def test_what_was_kept_of_an_earlier_batch_proves_nothing(tmp_path: Path) -> None:
    """The journal of a batch that was killed later lacks its own events, whatever an earlier WAL says."""
    path, kept = tmp_path / "a.journal.db", tmp_path / "a.journal.db-wal-kept"
    killed_after(path, 50, 30)
    shell_looks(path)
    earlier = tmp_path / "earlier"
    earlier.hardlink_to(kept)
    killed_after(path, 50, 10)
    path.with_name(f"{path.name}-wal").unlink()
    kept.unlink()
    earlier.rename(kept)
    with pytest.raises(JournalError, match="half a journal"):
        open_file(path)


def test_a_wal_that_cannot_be_kept(tmp_path: Path) -> None:
    """Where a file system has no links the batch runs all the same, and a shell's end is told from nothing."""
    path = tmp_path / "a.journal.db"
    (tmp_path / "a.journal.db-wal-kept").mkdir()  # so that no link can take its place
    killed_after(path, 50, 30)
    shell_looks(path)
    with pytest.raises(JournalError, match="nobody moved, copied or restored"):
        open_file(path)
