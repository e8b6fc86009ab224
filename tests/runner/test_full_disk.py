"""A disk that fills up in mid-batch: starting stops, and every answer that is under way is still recorded."""

from __future__ import annotations

import random
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from disks import mount, mounted
from kept_promises import assert_kept, known_runs, lost_rows, numbered, read_output, write_sheet
from killing import run
from program import run_process
from remembering_service import Service, on_a_socket

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS = numbered(400)


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


@pytest.mark.parametrize("concurrency", [1, *(pytest.param(many, marks=pytest.mark.long) for many in (25, 100))])
def test_it_fills_up_in_mid_batch(concurrency: int, small_disk: Path, service: Service) -> None:
    """Exit 5 with one sentence; every run that was started is on record; with room the same command goes on."""
    rows = ROWS if concurrency > 1 else ROWS[: len(ROWS) // 2]  # one after another: it fills up earlier
    write_sheet(small_disk / "list.csv", rows)
    again = command(service, concurrency)
    assert run(small_disk, again) == 5
    said = (small_disk / "said.txt").read_text()
    assert "disk is full" in said
    assert "make room and run the same command" in said
    assert said.count("batch-runner: ") == 1
    assert 10 < len(service.sent) < len(rows)
    assert lost_rows(small_disk / "pay.journal.db") == set()
    assert known_runs(small_disk / "pay.journal.db") == set(service.rows)
    assert not (small_disk / "list.results.csv").exists()
    mount("-o", "remount,size=50m", "none", str(small_disk))
    assert run(small_disk, again) == 0
    assert_kept(small_disk / "list.results.csv", rows, service, set())


def test_no_room_to_begin(small_disk: Path, service: Service) -> None:
    """Where there is no room for a journal nothing is sent (2), and nothing half-made stands in the way later."""
    write_sheet(small_disk / "list.csv", ROWS[:3])
    (small_disk / "other").write_bytes(b"\0" * 1_500_000)
    assert run(small_disk, command(service)) == 2
    assert "make room" in (small_disk / "said.txt").read_text()
    assert service.requests == 0
    assert {path.name for path in small_disk.iterdir()} == {"list.csv", "other", "said.txt"}
    (small_disk / "other").unlink()
    assert run(small_disk, command(service)) == 0


def test_no_room_for_a_copy_of_the_input(small_disk: Path, tmp_path: Path, service: Service) -> None:
    """Where the input can't be kept as it is nothing is sent: 2, and a sentence that names the disk."""
    write_sheet(tmp_path / "list.csv", numbered(2_000))
    (small_disk / "other").write_bytes(b"\0" * (2**21 - 3 * 4096))
    assert (
        run(tmp_path, [*command(service), "--output", str(small_disk / "out.csv"), "--journal", "list.journal.db"]) == 2
    )
    said = (tmp_path / "said.txt").read_text()
    assert f"list.csv: no room for a private copy of it in {small_disk}: make room there" in said
    assert len(said.splitlines()) == 1
    assert service.requests == 0


@pytest.mark.long
def test_no_room_for_the_output(small_disk: Path, tmp_path: Path, service: Service) -> None:
    """Where only the output finds no room: 5, what stood there stands there still, and later nothing is sent again."""
    write_sheet(tmp_path / "list.csv", ROWS)
    output = small_disk / "out.csv"
    output.write_text("what stood there before\n")
    service.read = lambda number: fill(small_disk) if number == 3 else None
    again = [*command(service), "--output", str(output), "--overwrite", "--journal", "list.journal.db"]
    assert run(tmp_path, again) == 5
    assert "the output could not be written: No space left on device" in (tmp_path / "said.txt").read_text()
    assert output.read_text() == "what stood there before\n"
    (small_disk / "other").unlink()
    assert run(tmp_path, again) == 0
    assert len(service.sent) == len(ROWS)
    assert len(read_output(output)) == len(ROWS)


def fill(disk: Path) -> None:
    """Leave no room at all."""
    with (disk / "other").open("wb", buffering=0) as other, suppress(OSError):
        while other.write(b"\0" * 4096):
            pass


@pytest.mark.long
def test_it_is_full_when_a_new_workbook_is_written(tmp_path: Path) -> None:
    """Exit 5 with one sentence and no traceback, not even of what is cleared away; with room it is written."""
    chance = random.Random(17)
    rows = "".join(f"{row},{chance.randbytes(15_000).hex()}\n" for row in range(30))
    (tmp_path / "task.py").write_text("def pay(params):\n    return {}\n")
    (tmp_path / "in.csv").write_text(f"Row,Text\n{rows}")
    with mounted(tmp_path / "disk", "1200k") as disk:
        words = ("run", "in.csv", "--task", "task.py:pay", "--output", str(disk / "out.xlsx"), "--journal", "j.db")
        done = run_process(*words, cwd=tmp_path)
        assert done.returncode == 5, done.stderr
        assert "the output could not be written: No space left on device" in done.stderr
        assert "Traceback" not in done.stderr
        assert list(disk.iterdir()) == []
        mount("-o", "remount,size=9m", "none", str(disk))
        assert run_process(*words, cwd=tmp_path).returncode == 0
