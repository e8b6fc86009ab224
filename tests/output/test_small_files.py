"""Small files of this user alone, locks that somebody seems to hold, and what is left as it was around an output."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, BinaryIO

import pytest
from disks import mount
from systems import make_pipe, needs_posix

from batch_runner.errors import OutputFailed
from batch_runner.fs import AtomicFile, hold_lock, read_private, seems_held, write_private

if TYPE_CHECKING:
    from pathlib import Path


@needs_posix
def test_a_private_file_is_replaced_whole(tmp_path: Path) -> None:
    """What stood there is gone, nobody else may read it, and no draft is left."""
    path = tmp_path / "index.json"
    path.write_bytes(b"older, and longer than what comes")
    path.chmod(0o644)
    write_private(path, b"new")
    assert read_private(path, 3) == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [found.name for found in tmp_path.iterdir()] == ["index.json"]


@needs_posix
def test_a_private_file_that_can_not_take_its_place_leaves_nothing(tmp_path: Path) -> None:
    """A folder stands there: it stays, and the draft goes."""
    (tmp_path / "index.json").mkdir()
    with pytest.raises(OSError, match="directory"):
        write_private(tmp_path / "index.json", b"new")
    assert [found.name for found in tmp_path.iterdir()] == ["index.json"]


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_only_ones_own_file_is_read(tmp_path: Path, mode: int) -> None:
    """As long as it may be, and not a byte longer."""
    path = tmp_path / "own"
    path.write_bytes(b"12345")
    path.chmod(mode)
    assert read_private(path, 5) == b"12345"
    assert read_private(path, 4) is None


@needs_posix
@pytest.mark.parametrize("mode", [0o604, 0o640, 0o606, 0o622, 0o601])
def test_what_others_may_touch_is_not_read(tmp_path: Path, mode: int) -> None:
    """Whoever may write it could have written it, and whoever may read it was meant to."""
    path = tmp_path / "shared"
    path.write_bytes(b"12345")
    path.chmod(mode)
    assert read_private(path, 5) is None


@pytest.mark.parametrize("kind", ["fifo", "link", "nothing"])
def test_what_is_no_file_is_not_read(tmp_path: Path, kind: str) -> None:
    """A pipe and a link are passed over, without waiting for anybody."""
    path = tmp_path / "odd"
    if kind == "fifo":
        make_pipe(path)
    elif kind == "link":
        (tmp_path / "target").write_bytes(b"1")
        path.symlink_to(tmp_path / "target")
    assert read_private(path, 5) is None


def test_what_another_owns_is_not_read(tmp_path: Path) -> None:
    """It is another user's, whatever its mode says."""
    if sys.platform == "win32" or os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    path = tmp_path / "given"
    path.write_bytes(b"1")
    path.chmod(0o600)
    os.chown(path, 12345, -1)
    assert read_private(path, 5) is None


def test_who_seems_to_hold_a_lock(tmp_path: Path) -> None:
    """Another process that lives, while the lock's file is there; not this one, none that is dead, none without it."""
    path = tmp_path / "a.journal.db"
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        assert not seems_held(path, process.pid)
        with hold_lock(path):
            assert seems_held(path, process.pid)
            assert not seems_held(path, os.getpid())
            process.communicate(b"\n")
            assert not seems_held(path, process.pid)
    assert not (tmp_path / "a.journal.db-lock").exists()


@needs_posix
def test_the_umask_is_as_it_was(tmp_path: Path) -> None:
    """To ask for it is to change it for a moment: what is made afterwards has the permissions that it had before."""
    (tmp_path / "in.csv").write_text("A\n1\n")
    before = os.umask(0o027)
    try:
        (tmp_path / "in.csv").chmod(0o666)
        assert AtomicFile.prepare(tmp_path / "out.csv", tmp_path / "in.csv").mode == 0o640
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)


def _write_new(file: BinaryIO) -> None:
    file.write(b"new")


@needs_posix
def test_a_failure_that_is_not_the_files_own_makes_no_neighbour(tmp_path: Path) -> None:
    """Only a file that is in use gets a neighbour: any other error is told by its own words."""
    (tmp_path / "in.csv").write_text("A\n1\n")
    target = AtomicFile.prepare(tmp_path / "out.csv", tmp_path / "in.csv")
    with pytest.raises(OutputFailed, match="No such file"):
        target.put(_write_new, lambda draft: draft.unlink())
    assert sorted(found.name for found in tmp_path.iterdir()) == ["in.csv"]


def test_what_the_system_keeps_from_being_replaced_gets_a_neighbour(tmp_path: Path) -> None:
    """Nothing shows it beforehand: the rename itself is refused (EBUSY), and a neighbour is written."""
    (tmp_path / "in.csv").write_text("A\n1\n")
    (tmp_path / "out.csv").write_text("old")
    (tmp_path / "other.csv").write_text("other")
    target = AtomicFile.prepare(tmp_path / "out.csv", tmp_path / "in.csv")
    try:
        mount("--bind", str(tmp_path / "other.csv"), str(tmp_path / "out.csv"))
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a file can be mounted by root on Linux only")
    try:
        assert target.put(_write_new, lambda _draft: None) == tmp_path / "out-2.csv"
    finally:
        subprocess.run(["umount", str(tmp_path / "out.csv")], check=True)
    assert (tmp_path / "out-2.csv").read_text() == "new"
    assert (tmp_path / "out.csv").read_text() == "old"
