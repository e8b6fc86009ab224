"""`adjust` changes the concurrency of a batch that runs, and of no other."""

from __future__ import annotations

import json
import os
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec
import pytest
from program import PATIENCE, run_process, run_program, start_program
from systems import make_pipe, needs_posix

from batch_runner.runner.adjust import Adjustment, AdjustmentInbox

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

ROWS = 8
TASK = """
import asyncio
from pathlib import Path

async def waits(params):
    Path("begun", params["No"]).touch()
    while not Path("go", params["No"]).exists():
        await asyncio.sleep(0.02)
    return params["No"]
"""


@contextmanager
def running_batch(folder: Path, *, concurrency: int) -> Iterator[subprocess.Popen[str]]:
    """A batch whose runs wait until they are let go, when as many as it may have are in flight."""
    for name in ("begun", "go"):
        (folder / name).mkdir()
    (folder / "task.py").write_text(TASK)
    (folder / "list.csv").write_text("No\n" + "".join(f"{number}\n" for number in range(ROWS)))
    (folder / "night.toml").write_text('input = "list.csv"\ntask = "task.py:waits"\nkey = ["No"]\n')
    with start_program("run", "night.toml", "--concurrency", concurrency, "--json", cwd=folder) as program:
        try:
            wait_for(folder, concurrency)
            yield program
        finally:
            program.kill()


def begun(folder: Path) -> set[str]:
    return {path.name for path in (folder / "begun").iterdir()}


def wait_for(folder: Path, number: int) -> None:
    until = time.monotonic() + PATIENCE
    while len(begun(folder)) < number:
        assert time.monotonic() < until
        time.sleep(0.02)


def let_go(folder: Path, rows: set[str]) -> None:
    for name in rows:
        (folder / "go" / name).touch()


@pytest.mark.long
@pytest.mark.parametrize("said", ["task.py-waits.journal.db", "list.csv", "list.results.csv", "night.toml"])
def test_a_running_batch_takes_up_more_or_fewer_runs_and_its_summary_says_so(tmp_path: Path, said: str) -> None:
    """More begin at once; with fewer, none begins until enough have ended. Whatever of the batch's files is named."""
    with running_batch(tmp_path, concurrency=2) as program:
        raised = run_process("adjust", said, "--concurrency", 6, cwd=tmp_path)
        assert (raised.returncode, raised.stderr) == (0, "")
        assert "6 runs in flight" in raised.stdout
        wait_for(tmp_path, 6)
        assert run_program("adjust", said, "--concurrency", 3, cwd=tmp_path).returncode == 0
        let_go(tmp_path, set(sorted(begun(tmp_path))[:3]))
        time.sleep(0.5)
        assert len(begun(tmp_path)) == 6
        let_go(tmp_path, set(sorted(begun(tmp_path))[3:4]))
        wait_for(tmp_path, 7)
        time.sleep(0.2)
        assert len(begun(tmp_path)) == 7
        let_go(tmp_path, set(map(str, range(ROWS))))
        told, errors = program.communicate(timeout=PATIENCE)
    summary = json.loads(told)
    assert (program.returncode, summary["counts"]) == (0, {"success": ROWS}), errors
    assert [note.split(" ", 2)[2] for note in summary["notes"]] == [
        "--concurrency was changed from 2 to 6",
        "--concurrency was changed from 6 to 3",
    ]
    assert not list(tmp_path.glob("*-adjust"))


@pytest.mark.parametrize("said", ["list.csv", "task.py-run.journal.db", "night.toml"])
def test_without_a_running_batch_there_is_one_sentence_and_nothing_is_left(tmp_path: Path, said: str) -> None:
    (tmp_path / "list.csv").write_text("No\n1\n")
    (tmp_path / "task.py").write_text("def run(params):\n    return 1\n")
    (tmp_path / "night.toml").write_text('input = "list.csv"\ntask = "task.py:run"\n')
    assert run_program("run", "night.toml", cwd=tmp_path).returncode == 0
    before = sorted(tmp_path.iterdir())
    told = run_program("adjust", said, "--concurrency", 6, cwd=tmp_path)
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr.startswith(f"batch-runner: {said}: no batch is running with it")
    assert len(told.stderr.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.long
def test_a_batch_over_another_sheet_beside_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("No\n1\n")
    with running_batch(tmp_path, concurrency=1) as program:
        told = run_program("adjust", "other.csv", "--concurrency", 6, cwd=tmp_path)
        assert told.returncode == 2
        let_go(tmp_path, set(map(str, range(ROWS))))
        assert json.loads(program.communicate(timeout=PATIENCE)[0])["notes"] == []


OURS = Adjustment(os.getpid(), 7, 50)
STALE = {
    "another batch": msgspec.json.encode(msgspec.structs.replace(OURS, batch=6)),
    "another process": msgspec.json.encode(msgspec.structs.replace(OURS, pid=1)),
    "no number of runs": msgspec.json.encode(msgspec.structs.replace(OURS, concurrency=0)),
    "no JSON": b"50",
    "another field": b'{"pid": 1, "batch": 7, "concurrency": 5, "rate": 1}',
    "no text": b"\xff",
}


def inbox(folder: Path) -> tuple[AdjustmentInbox, Path]:
    found = AdjustmentInbox()
    found.watch(folder / "j.db", 7)
    return found, folder / "j.db-adjust"


def write(path: Path, data: bytes, mode: int = 0o600) -> None:
    path.write_bytes(data)
    path.chmod(mode)


def test_what_is_asked_of_this_batch_is_taken_once(tmp_path: Path) -> None:
    asked, path = inbox(tmp_path)
    write(path, msgspec.json.encode(OURS))
    assert list(asked.take()) == [50]
    assert list(asked.take()) == []
    assert not path.exists()


@pytest.mark.parametrize("what", STALE)
def test_what_was_left_for_another_changes_nothing_and_goes(tmp_path: Path, what: str) -> None:
    asked, path = inbox(tmp_path)
    write(path, STALE[what])
    assert list(asked.take()) == []
    assert not path.exists()


@needs_posix
@pytest.mark.parametrize("mode", [0o640, 0o620, 0o604, 0o602])
def test_a_file_that_others_could_write_or_read_is_not_taken(tmp_path: Path, mode: int) -> None:
    asked, path = inbox(tmp_path)
    write(path, msgspec.json.encode(OURS), mode)
    assert list(asked.take()) == []


def test_neither_a_link_nor_a_pipe_nor_a_large_file_is_read(tmp_path: Path) -> None:
    asked, path = inbox(tmp_path)
    write(tmp_path / "elsewhere", msgspec.json.encode(OURS))
    path.symlink_to(tmp_path / "elsewhere")
    assert list(asked.take()) == []
    path.unlink()
    make_pipe(path)
    assert list(asked.take()) == []
    path.unlink()
    write(path, msgspec.json.encode(OURS) + b" " * 2000)
    assert list(asked.take()) == []
