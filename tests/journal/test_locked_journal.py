"""Another program holds the journal's write lock, or its room runs out: nothing becomes unknown by it."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import anyio
import msgspec
import pytest
from journals import attempts_in, batch_info, entries
from program import PATIENCE, run_program, start_program
from recorder import injected
from remembering_service import Service, on_a_socket
from served import wait_until
from systems import needs_posix

from batch_runner.errors import ExitCode, JournalError, JournalFull, JournalLocked
from batch_runner.journal.group_commit import Reserve, begin_writing, out_of_time, set_aside
from batch_runner.journal.journal import Journal, JournalFile, Outcome
from batch_runner.plan.plan import Send

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def write_lock(path: Path) -> Iterator[None]:
    """Hold it, as a shell in which somebody has begun a transaction."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


@contextmanager
def locked_by_another(path: Path) -> Iterator[None]:
    """Let a process of its own hold it, as long as the block runs; it is killed, so that the WAL stays."""
    hold = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute('BEGIN IMMEDIATE'); print(1, flush=True)"
    words = [sys.executable, "-c", f"{hold}; sys.stdin.read()", str(path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        yield
        process.kill()


@pytest.mark.long
def test_whoever_writes_waits_and_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Said once, however long it takes, and once more when it is free."""
    path = tmp_path / "a.db"
    with closing(sqlite3.connect(path, timeout=0.05, isolation_level=None, check_same_thread=False)) as connection:
        with write_lock(path):
            waiting = threading.Thread(target=begin_writing, args=(connection,))
            waiting.start()
            time.sleep(0.5)
            assert waiting.is_alive()
        waiting.join(10)
        assert connection.in_transaction
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2, said
    assert f"{path}: another program has locked the journal" in said[0]
    assert "nothing is lost" in said[0]
    assert "free again" in said[1]


def test_nobody_else_waits_for_the_lock(tmp_path: Path) -> None:
    """What is to be recorded waits in a thread: polls, timers and signals go on meanwhile."""
    path = tmp_path / "a.db"

    async def begin_one() -> None:
        async with Journal.open(path, batch_info()) as journal, anyio.create_task_group() as group:
            (plan,) = await journal.register(entries(["a"]))
            assert isinstance(plan, Send)
            with write_lock(path):
                group.start_soon(journal.intend, plan)
                await anyio.sleep(0.1)
                assert attempts_in(path) == []  # had the event loop waited, too, nobody would have got here

    anyio.run(begin_one)
    assert len(attempts_in(path)) == 1


@pytest.mark.long
def test_a_lock_that_is_held_for_longer_than_five_seconds(tmp_path: Path) -> None:
    """Starts pause, ends wait, and in the end every row is a success, each with one run."""
    (tmp_path / "in.csv").write_text("Row\n" + "".join(f"r{row}\n" for row in range(30)))
    with on_a_socket(Service(looks=2)) as service:
        where = ("--service", service.url, "--poll-rate", "1000/s", "--journal", "a.journal.db")
        process = start_program("run", "in.csv", "--task", "pay", *where, "--rate", "10/s", "--json", cwd=tmp_path)
        wait_until(lambda: len(service.sent) >= 3)
        with write_lock(tmp_path / "a.journal.db"):
            time.sleep(1)
            before = len(service.sent)
            time.sleep(6)
            assert len(service.sent) == before, "a start left although its intent could not be recorded"
        out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0, err
        assert '"counts":{"success":30}' in out
        assert set(service.starts_of.values()) == {1}
    assert "another program has locked the journal" in err


@pytest.mark.long
@needs_posix
@pytest.mark.parametrize(("number", "sheets"), [("SIGTERM", "in.csv"), ("SIGHUP", "*.csv")])
def test_a_shutdown_does_not_wait_for_the_lock(tmp_path: Path, number: str, sheets: str) -> None:
    """143, and why. Each start is in the journal: the next night starts none again, and loses none."""
    for name in ("in.csv", "late.csv")[: 2 if "*" in sheets else 1]:
        (tmp_path / name).write_text("Row\n" + "".join(f"{name[0]}{row}\n" for row in range(30)))
    with on_a_socket(Service(looks=2)) as service:
        where = ("--service", service.url, "--poll-rate", "1000/s", "--journal", "a.journal.db")
        words = ("run", sheets, "--task", "pay", *where, "--json")
        process = start_program(*words, "--rate", "10/s", "--concurrency", "5", cwd=tmp_path)
        wait_until(lambda: len(service.sent) >= 3)
        with locked_by_another(tmp_path / "a.journal.db"):
            time.sleep(0.5)
            process.send_signal(signal.Signals[number])
            out, err = process.communicate(timeout=PATIENCE)  # while the lock is still held
        assert process.returncode == 143, err
        assert '"exit_code":143' in out
        for word in ("another program had locked the journal", "is whole", "same command goes on"):
            assert word in out
        assert "Traceback" not in err
        begun = len(service.sent)
        assert len(attempts_in(tmp_path / "a.journal.db")) >= begun, "a start left that isn't recorded"
        assert run_program(*words, cwd=tmp_path).returncode in (0, 4)
        assert set(service.starts_of.values()) == {1}
        results = "".join(path.read_text() for path in tmp_path.glob("*.results.csv"))
        assert results.count("success") + results.count("unknown") == (60 if "*" in sheets else 30)


def test_a_batch_that_waits_to_begin_ends_in_time(tmp_path: Path) -> None:
    """As soon as there is no time left, whoever waits for the lock says what was locked, and ends with that code."""

    async def begin_one() -> None:
        async with JournalFile.open(tmp_path / "a.db") as file:
            with write_lock(tmp_path / "a.db"):
                out_of_time.set(lambda: ExitCode.TERMINATED)
                await file.begin(batch_info())

    with pytest.raises(JournalLocked, match=r"a\.db: told to end while another program had locked") as raised:
        anyio.run(begin_one)
    assert raised.value.exit_code == ExitCode.TERMINATED


@pytest.mark.parametrize("code", [sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_WRITE])
def test_the_reserve_is_freed_for_every_word_that_means_no_room(tmp_path: Path, code: int) -> None:
    """A full disk, one that is full where the shared memory beside the journal lies, and a quota; once."""
    error = sqlite3.OperationalError("no room")
    error.sqlite_errorcode = code
    with set_aside(tmp_path / "a.journal.db") as reserve:
        assert (tmp_path / "a.journal.db-reserve").stat().st_size == 1 << 20
        reserve.check()
        assert reserve.free(error)
        assert not (tmp_path / "a.journal.db-reserve").exists()
        assert not reserve.free(error)
        with pytest.raises(JournalFull, match="disk is full"):
            reserve.check()


@pytest.mark.parametrize("code", [sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_IOERR_READ, sqlite3.SQLITE_BUSY])
def test_the_reserve_is_kept_for_what_has_nothing_to_do_with_room(tmp_path: Path, code: int) -> None:
    """It would help nobody."""
    error = sqlite3.OperationalError("something else")
    error.sqlite_errorcode = code
    reserve = Reserve(tmp_path / "reserve")
    assert not reserve.free(error)
    reserve.check()


@pytest.mark.long
def test_a_quota_that_is_used_up(tmp_path: Path) -> None:
    """EDQUOT at one write of the journal: starts stop (5), every run that was started is recorded, none is unknown."""
    (tmp_path / "in.csv").write_text("Row\n" + "".join(f"r{row}\n" for row in range(60)))
    with on_a_socket(Service(looks=2)) as service:
        where = ("--service", service.url, "--poll-rate", "1000/s", "--journal", "a.journal.db")
        command = ("run", "in.csv", "--task", "pay", *where)
        done = injected(tmp_path, "pwrite64:error=EDQUOT:when=60", tmp_path / "a.journal.db-wal", *command)
        assert done.returncode == 5, done.stderr
        assert "a quota used up" in done.stdout + done.stderr
        assert 0 < len(service.sent) < 60
        attempts = attempts_in(tmp_path / "a.journal.db")
        assert {status for _, status, _, _ in attempts} <= {"success", "not_started"}
        assert run_program(*command, cwd=tmp_path).returncode == 0
        assert set(service.starts_of.values()) == {1}


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_room_is_not_set_aside_through_a_link(tmp_path: Path, kind: str) -> None:
    """Whoever put a link by the reserve's name: what it leads to stays as it is, and the link is named."""
    precious = tmp_path / "precious"
    precious.write_text("precious")
    place = tmp_path / "a.journal.db-reserve"
    if kind == "link":
        place.symlink_to(precious)
    else:
        place.mkdir()

    async def begin() -> None:
        async with Journal.open(tmp_path / "a.journal.db", batch_info()) as journal:
            await journal.register(entries("A"))

    with pytest.raises(JournalError, match=r"a\.journal\.db-reserve: .*remove it"):
        anyio.run(begin)
    assert precious.read_text() == "precious"


@pytest.mark.anyio
async def test_no_start_is_recorded_in_the_room_that_is_kept(tmp_path: Path) -> None:
    """Once the disk was full, every way to a start is closed; what was started is still recorded."""
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    async with JournalFile.open(tmp_path / "a.journal.db") as file:
        journal = await file.begin(batch_info())
        sends = await journal.register(entries("ABC"))
        steps = [step for step in sends if isinstance(step, Send)]
        attempt, withdrawn, lost = [await journal.intend(step) for step in steps]
        await journal.withdrawn(withdrawn, "429")
        assert file.reserve is not None
        assert file.reserve.free(error)
        for closed in (
            journal.register(entries("D")),
            journal.intend(steps[0]),
            journal.intend_again(withdrawn),
            journal.ask_again(lost),
            journal.flush(),
        ):
            with pytest.raises(JournalFull):
                await closed
        await journal.started(attempt, "run-1", "running")
        await journal.ended(attempt, Outcome("success", "run-1"))
        await journal.withdrawn(lost, "503")
        assert [row.status for row in journal.outcomes()] == ["success", "not_started", "not_started"]


@pytest.mark.anyio
async def test_the_next_sheet_begins_beside_a_commit_that_is_under_way(tmp_path: Path) -> None:
    """Its batch has a connection of its own: it waits until the commit is through, and both are on disk."""
    may_end = threading.Event()
    async with JournalFile.open(tmp_path / "a.journal.db") as file:
        await file.begin(batch_info())
        async with anyio.create_task_group() as group:
            group.start_soon(file.commits.add, lambda _connection: may_end.wait(10))
            await anyio.sleep(0.05)
            group.start_soon(_end_soon, may_end)
            second = await file.begin(msgspec.structs.replace(batch_info(), input="other.csv"))
        assert second.batch == 2


async def _end_soon(may_end: threading.Event) -> None:
    await anyio.sleep(0.1)
    may_end.set()
