"""A file that somebody still writes to: it is read again, waited for, or refused, never taken in half."""

from __future__ import annotations

import os
import shutil
import time
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from batch_runner.errors import SheetError
from batch_runner.sheet import snapshot
from batch_runner.sheet.export import open_sheet
from batch_runner.sheet.model import Reading

if TYPE_CHECKING:
    from pathlib import Path


IN_THE_FUTURE = 4e9


def texts(path: Path) -> list[tuple[str, ...]]:
    with open_sheet(path, Reading(), path.parent) as sheet:
        return [row.texts for row in sheet.rows()][1:]


def test_a_young_file_that_ends_within_a_line_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`10137` of `10137.00` is an amount, too: the rest of the row comes while it is looked at."""
    path = tmp_path / "list.csv"
    path.write_text("Key,Amount\nA,101")
    pieces = iter(("37", ".00", "\nB,", "5.00\n"))

    def arrive(_seconds: float) -> None:
        with path.open("a") as file:
            file.write(next(pieces))

    monkeypatch.setattr("batch_runner.sheet.snapshot.time.sleep", arrive)
    assert texts(path) == [("A", "10137.00"), ("B", "5.00")]


def test_one_that_stands_still_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while in which it didn't change: many programs leave out the last line end."""
    waits: list[float] = []
    monkeypatch.setattr("batch_runner.sheet.snapshot.time.sleep", waits.append)
    path = tmp_path / "list.csv"
    path.write_text("Key,Amount\nA,101")
    assert texts(path) == [("A", "101")]
    assert waits == [snapshot.STILL]


@pytest.mark.parametrize(("content", "age"), [("Key,Amount\nA,101\n", 0.0), ("Key,Amount\nA,101", 90.0)])
def test_a_whole_or_an_old_one_is_not_waited_for(
    tmp_path: Path, content: str, age: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for a file that ends with a line, nor for yesterday's."""
    waits: list[float] = []
    monkeypatch.setattr("batch_runner.sheet.snapshot.time.sleep", waits.append)
    path = tmp_path / "list.csv"
    path.write_text(content)
    os.utime(path, (time.time() - age, time.time() - age))
    assert texts(path) == [("A", "101")]
    assert not waits


def test_one_that_never_stands_still_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a minute (here: half a second) it is said so, and nothing is sent."""
    path = tmp_path / "list.csv"
    path.write_text("Key,Amount\nA,1")

    def grow(_seconds: float) -> None:
        with path.open("a") as file:
            file.write("1")
        os.utime(path, (IN_THE_FUTURE, IN_THE_FUTURE))  # it stays young, however slow this machine is

    monkeypatch.setattr(snapshot, "YOUNG", 0.5)
    monkeypatch.setattr("batch_runner.sheet.snapshot.time.sleep", grow)
    grow(0)
    with pytest.raises(SheetError, match=r"list\.csv: still being written"):
        texts(path)


@pytest.mark.parametrize("name", ["list.csv", "list.xlsx"])
def test_one_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read twice, and changed both times: no copy of it is of one moment."""
    path = tmp_path / name
    path.write_bytes(b"Key,Amount\nA,101\n")
    moments, copy = count(time.time_ns(), 1_000_000), shutil.copyfileobj

    def copy_and_touch(*arguments: Any) -> None:
        copy(*arguments)
        moment = next(moments)
        os.utime(path, ns=(moment, moment))

    monkeypatch.setattr("batch_runner.sheet.snapshot.shutil.copyfileobj", copy_and_touch)
    with pytest.raises(SheetError, match=f"{name}: it changed while it was read"):
        texts(path)
