"""Group commit: one commit for all who wait, no word before it is on disk, nothing lost to a cancellation."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

import anyio
import pytest
from anyio.lowlevel import checkpoint
from journals import attempts_in, batch_info, entries

from batch_runner.errors import JournalFailed
from batch_runner.journal.group_commit import Commits
from batch_runner.journal.journal import Journal
from batch_runner.plan.plan import Send

if TYPE_CHECKING:
    from pathlib import Path

    from batch_runner.journal.group_commit import Event

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Disk:
    """Somewhere to write to, that takes as long as the test says, and may break."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.breaks: Exception | None = None
        self.is_free = anyio.Event()
        self.is_free.set()
        self._values: list[int] = []

    def event(self, number: int) -> Event:
        return lambda _: self._values.append(number)

    async def write(self, events: list[Event]) -> None:
        await self.is_free.wait()
        if self.breaks is not None:
            raise self.breaks
        self._values = []
        with sqlite3.connect(":memory:") as connection:
            for event in events:
                event(connection)
        connection.close()
        self.groups.append(self._values)


async def settle() -> None:
    """Let every task go as far as it can."""
    for _ in range(10):
        await checkpoint()


async def test_who_comes_meanwhile_shares_a_commit() -> None:
    """The first event is committed at once; all that come while it is written are the next group, in order."""
    disk = Disk()
    commits = Commits(disk.write)
    disk.is_free = anyio.Event()
    async with anyio.create_task_group() as group:
        for number in range(100):
            group.start_soon(commits.add, disk.event(number))
            await settle() if number == 0 else None
        await settle()
        assert disk.groups == []
        disk.is_free.set()
    assert len(disk.groups) == 2
    assert (len(disk.groups[0]), sorted(disk.groups[1])) == (1, list(range(1, 100)))


async def test_what_nobody_waits_for_goes_with_the_next() -> None:
    """An event that isn't awaited is written with the next that is, before it."""
    disk = Disk()
    commits = Commits(disk.write)
    commits.add_later(disk.event(1))
    await settle()
    assert disk.groups == []
    await commits.add(disk.event(2))
    assert disk.groups == [[1, 2]]


async def test_all_are_told_of_a_failure() -> None:
    """When a commit fails every waiter of it is told, and whoever comes later: nothing is written any more."""
    disk = Disk()
    commits = Commits(disk.write)
    disk.is_free = anyio.Event()
    disk.breaks = sqlite3.OperationalError("database or disk is full")
    told = []

    async def wait(number: int) -> None:
        with pytest.raises(JournalFailed, match=r"disk is full\), so nothing more is sent"):
            await commits.add(disk.event(number))
        told.append(number)

    async with anyio.create_task_group() as group:
        for number in range(10):
            group.start_soon(wait, number)
        await settle()
        disk.is_free.set()
    disk.breaks = None
    await wait(10)
    with pytest.raises(JournalFailed):
        commits.add_later(disk.event(11))
    assert (sorted(told), disk.groups) == (list(range(11)), [])


async def test_a_bug_is_no_commit() -> None:
    """An event that breaks for another reason is raised as it is, and its group counts as not written."""
    disk = Disk()
    commits = Commits(disk.write)
    disk.breaks = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        await commits.add(disk.event(1))
    with pytest.raises(JournalFailed):
        await commits.add(disk.event(2))


async def test_a_cancelled_leader_still_commits() -> None:
    """Who is cancelled while they commit for others does it to the end; the others learn of it."""
    disk = Disk()
    commits = Commits(disk.write)
    disk.is_free = anyio.Event()
    async with anyio.create_task_group() as group:
        scopes = [anyio.CancelScope() for _ in range(4)]

        async def wait(number: int) -> None:
            with scopes[number]:
                await commits.add(disk.event(number))

        for number in range(4):
            group.start_soon(wait, number)
            await settle()
        group.start_soon(commits.add, disk.event(4))
        await settle()
        for scope in scopes:
            scope.cancel()
        await settle()
        assert disk.groups == []
        disk.is_free.set()
    assert sorted(number for events in disk.groups for number in events) == [0, 1, 2, 3, 4]


async def test_a_cancelled_intent_is_withdrawn(tmp_path: Path) -> None:
    """An interrupt while the intent is written: the row was never sent, and tomorrow it isn't unknown."""
    path = tmp_path / "a.journal.db"
    async with Journal.open(path, batch_info()) as journal:
        (send,) = await journal.register(entries("A"))
        assert isinstance(send, Send)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await journal.intend(send)
            pytest.fail("the caller must not go on")
        assert next(journal.outcomes()).status == "not_started"
    async with Journal.open(path, batch_info()) as journal:
        (again,) = await journal.register(entries("A"))
        assert isinstance(again, Send)
    assert attempts_in(path) == [(1, "not_started", None, True)]


async def test_a_cancelled_start_is_recorded(tmp_path: Path) -> None:
    """An interrupt while a run id is written loses nothing: it is on disk, and followed the next time."""
    path = tmp_path / "a.journal.db"
    async with Journal.open(path, batch_info()) as journal:
        (send,) = await journal.register(entries("A"))
        assert isinstance(send, Send)
        attempt = await journal.intend(send)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await journal.started(attempt, "run-1", "queued")
    assert attempts_in(path) == [(1, "queued", "run-1", False)]


async def test_after_a_failure_nothing_is_asked_of_the_disk() -> None:
    """Who waited for their turn behind a commit that fails is told so, and what they brought isn't written."""
    disk = Disk()
    disk.is_free = anyio.Event()
    disk.breaks = sqlite3.OperationalError("disk I/O error")
    asked: list[int] = []

    async def counted(events: list[Event]) -> None:
        asked.append(len(events))
        await disk.write(events)

    commits = Commits(counted)

    async def wait(number: int) -> None:
        with pytest.raises(JournalFailed):
            await commits.add(disk.event(number))

    async with anyio.create_task_group() as group:
        for number in range(3):
            group.start_soon(wait, number)
            await settle()
        disk.is_free.set()
    await wait(3)
    assert asked == [1]


async def test_what_was_written_is_let_go() -> None:
    """A group that is on disk holds its events no longer: each may hold a result of 64 MiB."""
    groups: list[list[Event]] = []

    async def write(events: list[Event]) -> None:
        groups.append(events)
        assert events

    commits = Commits(write)
    await commits.add(lambda _connection: None)
    assert groups == [[]]
