"""A journal that was cut, torn or put in place of another: it keeps what was committed, or is refused."""

from __future__ import annotations

import os
import shutil
import sqlite3
import tempfile
from contextlib import closing, contextmanager
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from journals import attempts_in, batch_info, entries, run_row

from batch_runner.errors import JournalError, quote_words
from batch_runner.journal.database import VERSION, open_file
from batch_runner.journal.group_commit import FRAME_HEADER, WAL_HEADER, is_put_in, kept_wal
from batch_runner.journal.journal import Journal, Outcome
from batch_runner.journal.view import JournalView
from batch_runner.plan.plan import Entry, Send
from batch_runner.runner.memory import rehearse

if TYPE_CHECKING:
    from collections.abc import Iterator

SECTOR = 512
PAGE = 4096

anywhere = st.integers(0, 2**24)
"""A place in a file, taken modulo its length."""

Attempts = list[tuple[int, str, str | None, bool]]


class Killed:
    """The two files of a journal as a kill leaves them, and what stood in it at each length of its WAL."""

    def __init__(self, main: bytes, wal: bytes, committed: list[tuple[int, Attempts]]) -> None:
        self.main = main
        self.wal = wal
        self.committed = committed

    def expected(self, length: int) -> list[Attempts]:
        """What a journal may say whose WAL is whole up to `length`: all that was committed by then, or more."""
        states = [attempts for _, attempts in self.committed]
        whole = sum(size <= length for size, _ in self.committed)
        return states[max(whole - 1, 0) :]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    path = tmp_path_factory.mktemp("killed") / "a.journal.db"
    wal = path.with_name(f"{path.name}-wal")
    committed: list[tuple[int, Attempts]] = [(0, [])]

    async def events() -> Killed:
        async with Journal.open(path, batch_info()) as journal:
            for plan in await journal.register(entries("ABCDEFGH")):
                assert isinstance(plan, Send)
                attempt = await journal.intend(plan)
                committed.append((wal.stat().st_size, attempts_in(path)))
                await journal.started(attempt, f"run-{attempt}", "queued")
                committed.append((wal.stat().st_size, attempts_in(path)))
                await journal.ended(attempt, Outcome("success", result=f'"{attempt}"'))
                committed.append((wal.stat().st_size, attempts_in(path)))
            return Killed(path.read_bytes(), wal.read_bytes(), committed)

    return anyio.run(events)


def reopened(main: bytes, wal: bytes | None) -> Attempts:
    """What stands in a journal made of these bytes, when a batch has opened it."""

    async def look() -> Attempts:
        async with Journal.open(path, batch_info()):
            return attempts_in(path)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.journal.db"
        path.write_bytes(main)
        if wal is not None:
            path.with_name(f"{path.name}-wal").write_bytes(wal)
        return anyio.run(look)


@pytest.mark.long
@given(anywhere)
def test_a_wal_cut_anywhere(killed: Killed, place: int) -> None:
    """Cut at any byte: every event committed before the cut is there, and none that never was; without it, refused."""
    length = place % (len(killed.wal) + 1)
    if length <= WAL_HEADER:
        with pytest.raises(JournalError, match="half a journal"):
            reopened(killed.main, killed.wal[:length])
        return
    assert reopened(killed.main, killed.wal[:length]) in killed.expected(length)


@pytest.mark.long
@given(anywhere, st.binary(min_size=1, max_size=600))
def test_a_wal_torn_anywhere(killed: Killed, place: int, other: bytes) -> None:
    """Other bytes from any byte on, as a torn write leaves them: the same."""
    start = place % len(killed.wal)
    torn = killed.wal[:start] + other + killed.wal[start + len(other) :]
    assert reopened(killed.main, torn) in killed.expected(start)


class Closed:
    """The file of a journal that was closed, and its attempts."""

    def __init__(self, content: bytes, attempts: Attempts) -> None:
        self.content = content
        self.attempts = attempts


def key_of(number: int) -> bytes:
    """Sixteen bytes that stand nowhere else."""
    return sha256(str(number).encode()).digest()[:16]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Closed:
    """A journal of more than one page per table."""
    path = tmp_path_factory.mktemp("whole") / "a.journal.db"

    async def events() -> None:
        async with Journal.open(path, batch_info()) as journal:
            for plan in await journal.register([Entry(n, key_of(n), key_of(n)[::-1]) for n in range(2, 402)]):
                await run_row(journal, plan, f"run-{plan.row_number}")

    anyio.run(events)
    with closing(sqlite3.connect(path)) as connection:
        # Not every SQLite overwrites what it has moved: a key could stay where it says nothing.
        connection.executescript("PRAGMA secure_delete = ON; VACUUM")
    return Closed(path.read_bytes(), attempts_in(path))


@pytest.mark.long
@given(anywhere)
def test_a_file_cut_anywhere(whole: Closed, place: int) -> None:
    """The journal itself, cut at any byte, is refused; never taken for one with fewer rows."""
    content = whole.content[: place % len(whole.content)]
    with pytest.raises(JournalError, match=r"damaged|no journal|empty"):
        reopened(content, None)


@pytest.mark.long
@given(anywhere, st.integers(1, 16), st.sampled_from([0, 255]))
def test_sectors_that_were_lost(whole: Closed, place: int, sectors: int, byte: int) -> None:
    """Disks write whole sectors: where some hold something else the journal is refused, or nothing of it is lost."""
    content = bytearray(whole.content)
    start = place % len(content) // SECTOR * SECTOR
    end = min(start + sectors * SECTOR, len(content))
    content[start:end] = bytes([byte]) * (end - start)
    try:
        found = reopened(bytes(content), None)
    except JournalError:
        return
    assert found == whole.attempts


@given(st.integers(0, 15), st.integers(1, 255), st.integers(2, 401))
def test_an_altered_key_is_noticed(whole: Closed, place: int, change: int, number: int) -> None:
    """One wrong byte in a row's key would make it a new row, and send it again: the journal is refused."""
    content, key = bytearray(whole.content), key_of(number)
    start = content.index(key) + place
    content[start] ^= change
    with pytest.raises(JournalError, match="damaged"):
        reopened(bytes(content), None)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is empty, so what was sent is not known"),
        (b"Invoice No;Total\n1;2\n", "is no journal, but a text"),
        (b"\x00" * 8192, "damaged"),
    ],
)
def test_what_is_no_journal_is_refused(content: bytes, problem: str) -> None:
    """An empty file, a sheet and zeros are refused, and not begun anew."""
    with pytest.raises(JournalError, match=problem):
        reopened(content, None)


def test_looking_into_a_damaged_journal(whole: Closed, tmp_path: Path) -> None:
    """`status` of a journal that was cut says so in a sentence, too."""
    path = tmp_path / "a.journal.db"
    path.write_bytes(whole.content[: len(whole.content) // 2])
    with pytest.raises(JournalError, match=r"a\.journal\.db"), JournalView.open(path) as view:
        view.counts(1)


def test_another_programs_database_is_refused(tmp_path: Path) -> None:
    """A database of somebody else is neither used nor altered."""
    path = tmp_path / "a.journal.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE batch (id INTEGER)")
    before = path.read_bytes()
    with pytest.raises(JournalError, match="no journal of batch-runner"):
        reopened(before, None)
    with pytest.raises(JournalError, match="no journal of batch-runner"), JournalView.open(path):
        pass
    assert path.read_bytes() == before


def test_a_newer_version_is_refused(whole: Closed, tmp_path: Path) -> None:
    """A journal of a later batch-runner is refused with both versions named."""
    path = tmp_path / "a.journal.db"
    path.write_bytes(whole.content)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    with pytest.raises(JournalError, match=f"version {VERSION + 1}, and this batch-runner knows version {VERSION}"):
        reopened(path.read_bytes(), None)


def test_a_journal_that_lost_its_file_is_refused(killed: Killed, tmp_path: Path) -> None:
    """Where only the WAL of a killed batch is left, events stand in it: no new journal is begun over it."""
    wal = tmp_path / "a.journal.db-wal"
    wal.write_bytes(killed.wal)

    async def begin() -> None:
        async with Journal.open(tmp_path / "a.journal.db", batch_info()):
            pass

    with pytest.raises(JournalError, match=r"the journal is gone, but a\.journal\.db-wal"):
        anyio.run(begin)
    assert wal.read_bytes() == killed.wal


def test_a_killed_beginning_leaves_nothing_in_the_way(whole: Closed, tmp_path: Path) -> None:
    """A journal is made under another name first; half of one, left by a kill, is made anew."""
    path = tmp_path / "a.journal.db"
    path.with_name(f"{path.name}-new").write_bytes(whole.content[:5000])
    shutil.copy(path.with_name(f"{path.name}-new"), path.with_name(f"{path.name}-new-journal"))

    async def begin() -> int:
        async with Journal.open(path, batch_info()) as journal:
            return len(await journal.register(entries("A")))

    assert anyio.run(begin) == 1


SENDS_AGAIN = "starts every row again"
"""What is said where a person is advised a journal that knows nothing; of a damaged one only."""


@pytest.mark.parametrize("around", ["a text", "a circle of links", "no folder", "a folder", "no more files"])
def test_what_is_to_be_restored(whole: Closed, tmp_path: Path, around: str) -> None:
    """What is around a journal can be mended: nobody is told of a backup, or of a journal that starts rows again."""
    path = tmp_path / "a.journal.db"
    has_files = around != "no more files"
    if around == "a text":
        path.write_text('input = "sheet.csv"\n')
    elif around == "a circle of links":
        path.symlink_to(path.name)
    elif around == "no folder":
        path = tmp_path / "no" / path.name
    elif around == "a folder":
        path.mkdir()
    else:
        path.write_bytes(whole.content)
    with pytest.raises(JournalError) as beginning:
        anyio.run(begin_at, path, has_files)
    with pytest.raises(JournalError) as looking, files_for_more(has_files), JournalView.open(path):
        pass
    for said in (str(beginning.value), str(looking.value)):
        assert SENDS_AGAIN not in said
        assert "backup" not in said
        assert "damaged" not in said


@contextmanager
def files_for_more(has_files: bool) -> Iterator[None]:
    """In here this process can open no further file, unless it has some."""
    if has_files:
        yield
        return
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.close(next_one := os.dup(0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (next_one, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def begin_at(path: Path, has_files: bool) -> None:
    with files_for_more(has_files):
        async with Journal.open(path, batch_info()):
            pass


@pytest.mark.parametrize("length", [0, WAL_HEADER])
def test_a_wal_that_holds_nothing_is_no_part_of_a_journal(tmp_path: Path, length: int) -> None:
    """Whoever opens a journal makes one; without a frame behind its header it keeps nobody from beginning."""
    path = tmp_path / "a.journal.db"
    path.with_name(f"{path.name}-wal").write_bytes(bytes(length))

    async def begin() -> int:
        async with Journal.open(path, batch_info()) as journal:
            return journal.batch

    assert anyio.run(begin) == 1


def test_half_a_journal_is_not_rehearsed_with(killed: Killed, tmp_path: Path) -> None:
    """`check` would call rows new that the missing part knows as started: it refuses as `run` does."""
    path = tmp_path / "a.journal.db"
    path.write_bytes(killed.main)

    async def plan() -> None:
        async with rehearse(path):
            pass

    with pytest.raises(JournalError, match="half a journal"):
        anyio.run(plan)


def test_a_wal_that_cannot_be_told_from_another_is_no_proof(killed: Killed, tmp_path: Path) -> None:
    """Some shares give no inodes: where a batch noted 1 for that, whatever stands there may be an older one's."""
    path, wal = tmp_path / "a.journal.db", tmp_path / "a.journal.db-wal-kept"
    wal.write_bytes(killed.wal)
    assert kept_wal(path, wal.stat().st_ino) == wal
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "stat", lambda _: SimpleNamespace(st_ino=0, st_size=len(killed.wal), st_mode=0o100600))
        assert kept_wal(path, 1) is None


def test_a_shell_that_looked_where_nobody_kept_the_wal(killed: Killed, tmp_path: Path) -> None:
    """SQLite puts it in and removes it when the shell ends: nobody knows that, and the way out is said."""
    path = tmp_path / "a.journal.db"
    path.write_bytes(killed.main)
    path.with_name(f"{path.name}-wal").write_bytes(killed.wal)
    with closing(sqlite3.connect(path)) as shell:
        before = shell.execute("SELECT * FROM attempt").fetchall()
    assert len(before) == 8
    with pytest.raises(JournalError, match="nobody moved, copied or restored") as raised:
        open_file(path)
    statement = "UPDATE about SET under_way = 0"
    assert f"say so: {quote_words(['sqlite3', str(path), statement])} (of a half" in str(raised.value)
    with closing(sqlite3.connect(path)) as shell, shell:
        shell.execute(statement)
    with closing(open_file(path)) as connection:
        assert connection.execute("SELECT * FROM attempt").fetchall() == before


def test_a_journal_with_all_of_its_wal_is_told_from_one_that_lacks_a_page(killed: Killed, tmp_path: Path) -> None:
    """As many commits as you like may have been put in: only with the last one's pages it is whole."""
    wal, path = tmp_path / "a.journal.db-wal-kept", tmp_path / "a.journal.db"
    wal.write_bytes(killed.wal)
    main, told = bytearray(killed.main), []
    for place in range(WAL_HEADER, len(killed.wal), FRAME_HEADER + PAGE):
        path.write_bytes(main)
        told.append(is_put_in(wal, path))
        start = (int.from_bytes(killed.wal[place : place + 4]) - 1) * PAGE
        main[start : start + PAGE] = killed.wal[place + FRAME_HEADER :][:PAGE]
    path.write_bytes(main)
    assert is_put_in(wal, path)
    assert len(told) > 20
    assert not any(told)


@given(anywhere, st.integers(1, 255))
def test_an_altered_byte_where_the_wal_was_put_in(killed: Killed, place: int, change: int) -> None:
    """A journal in which one byte of the last commit's pages is another is no whole one."""
    with tempfile.TemporaryDirectory() as folder:
        path, wal = Path(folder) / "a.journal.db", Path(folder) / "a.journal.db-wal"
        path.write_bytes(killed.main)
        wal.write_bytes(killed.wal)
        kept = path.with_name("kept")
        kept.hardlink_to(wal)
        with closing(sqlite3.connect(path)) as shell:
            shell.execute("SELECT * FROM attempt").fetchall()
        assert not wal.exists()
        assert is_put_in(kept, path)
        content, last = bytearray(path.read_bytes()), len(killed.wal) - PAGE - FRAME_HEADER
        number = int.from_bytes(killed.wal[last : last + 4])
        content[(number - 1) * PAGE + place % PAGE] ^= change
        path.write_bytes(content)
        assert not is_put_in(kept, path)


@pytest.mark.parametrize("length", [0, WAL_HEADER, WAL_HEADER + 7, WAL_HEADER + 24, WAL_HEADER + 24 + 4096 - 1])
def test_a_kept_wal_without_a_commit_tells_nothing(killed: Killed, tmp_path: Path, length: int) -> None:
    """A shell may empty it, and a power cut leave a part of its first frame: that is no proof of a whole journal."""
    wal, path = tmp_path / "kept", tmp_path / "a.journal.db"
    wal.write_bytes(killed.wal[:length])
    path.write_bytes(killed.main)
    assert not is_put_in(wal, path)
