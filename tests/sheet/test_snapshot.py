"""A file that somebody still writes to: it is read again, waited for, or refused, never taken in half."""

from __future__ import annotations

import os
import time
from contextlib import contextmanager
from threading import Event, Thread
from typing import TYPE_CHECKING

import pytest

from batch_runner.errors import SheetError
from batch_runner.sheet import snapshot
from batch_runner.sheet.export import open_sheet
from batch_runner.sheet.model import Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextmanager
def meanwhile(work: Callable[[Event], None]) -> Iterator[None]:
    """Does this work in a thread until it has ended, or it is told to."""
    done = Event()
    thread = Thread(target=work, args=[done])
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def texts(path: Path) -> list[tuple[str, ...]]:
    with open_sheet(path, Reading(), path.parent) as sheet:
        return [row.texts for row in sheet.rows()][1:]


@pytest.mark.long
def test_a_young_file_that_ends_within_a_line_is_waited_for(tmp_path: Path) -> None:
    """`10137` of `10137.00` is an amount, too: the rest of the row comes while it is looked at."""
    path = tmp_path / "list.csv"
    path.write_text("Key,Amount\nA,101")

    def upload(_done: Event) -> None:
        for piece in ("37", ".00", "\nB,", "5.00\n"):
            time.sleep(0.3)
            with path.open("a") as file:
                file.write(piece)

    with meanwhile(upload):
        assert texts(path) == [("A", "10137.00"), ("B", "5.00")]


@pytest.mark.long
def test_one_that_stands_still_is_taken(tmp_path: Path) -> None:
    """After a while in which it didn't change: many programs leave out the last line end."""
    path = tmp_path / "list.csv"
    path.write_text("Key,Amount\nA,101")
    began = time.monotonic()
    assert texts(path) == [("A", "101")]
    assert time.monotonic() - began >= snapshot.STILL


@pytest.mark.parametrize(("content", "age"), [("Key,Amount\nA,101\n", 0.0), ("Key,Amount\nA,101", 90.0)])
def test_a_whole_or_an_old_one_is_not_waited_for(tmp_path: Path, content: str, age: float) -> None:
    """Nobody waits for a file that ends with a line, nor for yesterday's."""
    path = tmp_path / "list.csv"
    path.write_text(content)
    os.utime(path, (time.time() - age, time.time() - age))
    began = time.monotonic()
    assert texts(path) == [("A", "101")]
    assert time.monotonic() - began < snapshot.STILL / 2


@pytest.mark.long
def test_one_that_never_stands_still_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a minute (here: half a second) it is said so, and nothing is sent."""
    monkeypatch.setattr(snapshot, "YOUNG", 0.5)
    monkeypatch.setattr(snapshot, "STILL", 0.1)
    path = tmp_path / "list.csv"
    path.write_text("Key,Amount\nA,1")

    def upload(done: Event) -> None:
        while not done.wait(0.01):
            with path.open("a") as file:
                file.write("1")

    with meanwhile(upload), pytest.raises(SheetError, match=r"list\.csv: (still being written|it changed while)"):
        texts(path)


@pytest.mark.long
@pytest.mark.parametrize("name", ["list.csv", "list.xlsx"])
def test_one_that_changes_while_it_is_read_is_refused(tmp_path: Path, name: str) -> None:
    """Read twice, and changed both times: no copy of it is of one moment."""
    path = tmp_path / name
    path.write_bytes(b"Key,Amount\n" + b"A,101\n" * 4_000_000)

    def touch(done: Event) -> None:
        moment = time.time_ns()
        while not done.is_set():
            moment += 1_000_000
            os.utime(path, ns=(moment, moment))

    with meanwhile(touch), pytest.raises(SheetError, match=f"{name}: it changed while it was read"):
        texts(path)
