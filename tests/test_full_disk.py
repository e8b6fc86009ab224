"""A disk that fills up in mid-batch: starting stops, and every answer that is under way is still recorded."""

from __future__ import annotations

import subprocess
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from kept_promises import assert_kept, known_runs, lost_rows, numbered, read_output, write_sheet
from killing import run
from remembering_service import Service, on_a_socket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS = numbered(400)


def mount(*arguments: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", *arguments], check=True, capture_output=True)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A disk of its own, in memory; skips where that isn't allowed."""
    folder.mkdir()
    try:
        mount("-o", f"size={size}", "none", str(folder))
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a disk can be mounted by root on Linux only")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "2m") as folder:
        yield folder


def answers_late(number: int) -> None:
    time.sleep(0.002)


@pytest.fixture
def service() -> Iterator[Service]:
    """A service that takes its time to answer, so that many starts are under way at any moment."""
    with on_a_socket(Service(looks=2)) as service:
        service.read = answers_late
        yield service


def command(service: Service, concurrency: int = 25) -> list[str]:
    where = ["run", "list.csv", "--task", "pay", "--service", service.url, "--poll-rate", "1000/s"]
    return [*where, "--concurrency", str(concurrency)]


@pytest.mark.parametrize("concurrency", [1, 25, 100])
def test_it_fills_up_in_mid_batch(concurrency: int, disk: Path, service: Service) -> None:
    """Exit 5 with one sentence; every run that was started is on record; with room the same command goes on."""
    write_sheet(disk / "list.csv", ROWS)
    again = command(service, concurrency)
    assert run(disk, again) == 5
    said = (disk / "said.txt").read_text()
    assert "disk is full" in said
    assert "make room and run the same command" in said
    assert said.count("batch-runner: ") == 1
    assert 10 < len(service.sent) < len(ROWS)
    assert lost_rows(disk / "list.journal.db") == set()
    assert known_runs(disk / "list.journal.db") == set(service.rows)
    assert not (disk / "list.results.csv").exists()
    mount("-o", "remount,size=50m", "none", str(disk))
    assert run(disk, again) == 0
    assert_kept(disk / "list.results.csv", ROWS, service, set())


def test_no_room_to_begin(disk: Path, service: Service) -> None:
    """Where there is no room for a journal nothing is sent (2), and nothing half-made stands in the way later."""
    write_sheet(disk / "list.csv", ROWS[:3])
    (disk / "other").write_bytes(b"\0" * 1_500_000)
    assert run(disk, command(service)) == 2
    assert "make room" in (disk / "said.txt").read_text()
    assert service.requests == 0
    assert {path.name for path in disk.iterdir()} == {"list.csv", "other", "said.txt"}
    (disk / "other").unlink()
    assert run(disk, command(service)) == 0


def test_no_room_for_a_copy_of_the_input(disk: Path, tmp_path: Path, service: Service) -> None:
    """Where the input can't be kept as it is nothing is sent: 2, and a sentence that names the disk."""
    write_sheet(tmp_path / "list.csv", ROWS)
    (disk / "other").write_bytes(b"\0" * (2**21 - 4096))
    assert run(tmp_path, [*command(service), "--output", str(disk / "out.csv"), "--journal", "list.journal.db"]) == 2
    said = (tmp_path / "said.txt").read_text()
    assert f"list.csv: no room for a private copy of it in {disk}: make room there" in said
    assert len(said.splitlines()) == 1
    assert service.requests == 0


def test_no_room_for_the_output(disk: Path, tmp_path: Path, service: Service) -> None:
    """Where only the output finds no room: 5, what stood there stands there still, and later nothing is sent again."""
    write_sheet(tmp_path / "list.csv", ROWS)
    output = disk / "out.csv"
    output.write_text("what stood there before\n")
    service.read = lambda number: fill(disk) if number == 3 else None
    again = [*command(service), "--output", str(output), "--journal", "list.journal.db"]
    assert run(tmp_path, again) == 5
    assert "the output could not be written: No space left on device" in (tmp_path / "said.txt").read_text()
    assert output.read_text() == "what stood there before\n"
    (disk / "other").unlink()
    assert run(tmp_path, again) == 0
    assert len(service.sent) == len(ROWS)
    assert len(read_output(output)) == len(ROWS)


def fill(disk: Path) -> None:
    """Leave no room at all."""
    with (disk / "other").open("wb", buffering=0) as other, suppress(OSError):
        while other.write(b"\0" * 4096):
            pass
