"""Folders that refuse what others let us do (SMB, vfat, NFS, FUSE): found before a row is sent, or worked around."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from program import environment, run_program

from batch_runner.fs import AtomicFile
from batch_runner.output.edits import copy_file

if TYPE_CHECKING:
    from collections.abc import Callable

fcntl = pytest.importorskip("fcntl", reason="locks, links and mounts of POSIX")

TASK = """
from pathlib import Path

def pay(params):
    with Path(__file__).with_name("paid.txt").open("a") as paid:
        paid.write("x")
    return {}
"""
SHEET = ("in.csv", "--task", "task.py:pay", "--output", "share/out.csv", "--journal", "a.journal.db")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "task.py").write_text(TASK)
    (tmp_path / "in.csv").write_text("Row\n1\n2\n")
    (tmp_path / "share").mkdir()
    return tmp_path


def paid(folder: Path) -> int:
    path = folder / "paid.txt"
    return len(path.read_text()) if path.exists() else 0


def refuse(patch: pytest.MonkeyPatch, call: str, code: int, concerns: Callable[[str], bool]) -> None:
    """Let a call of the system fail where it concerns such a path."""
    original = getattr(os, call)

    def calling(first: object, *more: object, **named: object) -> object:
        path = Path(f"/proc/self/fd/{first}").readlink() if isinstance(first, int) else first
        if concerns(str(path)):
            raise OSError(code, os.strerror(code), str(path))
        return original(first, *more, **named)

    patch.setattr(os, call, calling)


def in_share(path: str) -> bool:
    return "/share/" in path or path.startswith("share/") or path.endswith("/share")


@pytest.mark.long
@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("chmod", errno.EPERM),
        ("chmod", errno.EOPNOTSUPP),
        ("chown", errno.EPERM),
        ("link", errno.EPERM),
        ("link", errno.EOPNOTSUPP),
        ("fsync", errno.EINVAL),
        ("fsync", errno.EOPNOTSUPP),
    ],
)
def test_what_is_harmless_is_worked_around(folder: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int) -> None:
    """No permissions, no owners, no hard links, no fsync: the output comes out whole all the same."""
    refuse(monkeypatch, call, code, in_share)
    for _ in range(2):
        assert run_program("check", *SHEET, cwd=folder).returncode == 0
        done = run_program("run", *SHEET, cwd=folder)
        assert done.returncode == 0, done.stderr
    assert (folder / "share" / "out.csv").read_text().count("success") == 2
    assert [path.name for path in (folder / "share").iterdir()] == ["out.csv"]
    assert paid(folder) == 2


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize(("call", "code"), [("replace", errno.EPERM), ("replace", errno.EEXIST), ("fsync", errno.EIO)])
def test_what_is_not_is_refused_before_a_row_is_sent(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: str, call: str, code: int
) -> None:
    """Where no file can replace another, or nothing reaches the disk: 2, one sentence, nothing left behind."""
    refuse(monkeypatch, call, code, in_share)
    done = run_program(command, *SHEET, cwd=folder)
    assert done.returncode == 2, done.stderr
    assert "share/out.csv: the output can't be written there" in done.stderr
    assert "--output" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list((folder / "share").iterdir()) == []
    assert paid(folder) == 0


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize("refused", ["locks", "syncs"])
def test_a_folder_in_which_no_journal_is_safe(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: str, refused: str
) -> None:
    """`check` finds it, too; a folder of another disk is the way out, and no row is sent."""

    def flock(_handle: int, _operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    if refused == "locks":
        monkeypatch.setattr(fcntl, "flock", flock)
    else:
        refuse(monkeypatch, "fsync", errno.EINVAL, lambda path: path.endswith("/share"))
    words = (*SHEET[:-1], "share/a.journal.db")
    done = run_program(command, *words, cwd=folder)
    assert done.returncode == 2, done.stderr
    assert "name a journal in another folder with --journal" in done.stderr or "can't be opened" in done.stderr
    assert "starts every row again" not in done.stderr
    assert paid(folder) == 0


def test_a_journal_where_no_permissions_are_known(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A share that refuses chmod: the journal is nobody else's to read, as it is where it can be said."""
    refuse(monkeypatch, "chmod", errno.EPERM, in_share)
    done = run_program("run", *SHEET[:-1], "share/a.journal.db", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "share" / "a.journal.db").stat().st_mode & 0o077 == 0
    assert paid(folder) == 2


@pytest.mark.parametrize("command", ["check", "run"])
def test_files_without_a_name_that_can_not_be_read_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """9p and some FUSE lose a file whose name is removed: the private copies lie in the temporary folder then."""
    make = tempfile.TemporaryFile

    def making(*more: Any, **named: Any) -> Any:
        file = make(*more, **named)
        if in_share(f"{named.get('dir')}/"):
            file.close()
            return io.FileIO(os.devnull, "w+")
        return file

    monkeypatch.setattr(tempfile, "TemporaryFile", making)
    done = run_program(command, *SHEET, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert paid(folder) == (0 if command == "check" else 2)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EPERM, errno.EBUSY, errno.ETXTBSY])
def test_a_file_that_is_busy_gets_a_neighbour(folder: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """Whatever the system calls it: the `-2` neighbour stands beside the file that is kept from us."""
    (folder / "out.csv").write_text("old")
    target = AtomicFile.prepare(folder / "out.csv", folder / "in.csv")
    replace = os.replace

    def replacing(source: str, into: str) -> None:
        if Path(into).name == "out.csv":
            raise OSError(code, os.strerror(code))
        replace(source, into)

    monkeypatch.setattr(os, "replace", replacing)
    assert target.put(lambda file: file.writelines([b"new"]), lambda _: None) == folder / "out-2.csv"
    assert ((folder / "out.csv").read_text(), (folder / "out-2.csv").read_text()) == ("old", "new")


@pytest.mark.parametrize("command", ["check", "run"])
@pytest.mark.parametrize("kind", ["link", "folder"])
def test_what_is_in_the_way_is_named(folder: Path, command: str, kind: str) -> None:
    """A hidden file that nobody sees: the sentence says its name, before a row is sent."""
    way = folder / "share" / ".out.part.csv"
    way.symlink_to("in.csv") if kind == "link" else way.mkdir()
    done = run_program(command, *SHEET, cwd=folder)
    assert done.returncode == 2
    assert f"{way.name} is in the way; remove it" in done.stderr
    assert paid(folder) == 0


NOWHERE = """
import sys, tempfile
def none():
    raise FileNotFoundError(2, "No usable temporary directory found")
tempfile._get_default_tempdir = none
from batch_runner.cli import main
main(sys.argv[1:])
"""


@pytest.mark.parametrize("command", ["check", "run"])
def test_no_temporary_folder(folder: Path, command: str) -> None:
    """Nowhere to put temporary files: the output's folder serves, and nothing stays in it."""
    words = [sys.executable, "-c", NOWHERE, command, *SHEET]
    done = subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    left = {path.name for path in (folder / "share").iterdir()}
    assert left == (set() if command == "check" else {"out.csv"})


def test_new_files_heed_the_umask(folder: Path) -> None:
    """Output, journal, report and log of a first night; nobody sees more of them than the umask lets him."""
    before = os.umask(0o077)
    try:
        words = ("--report", "r.html", "--log-file", "a.log")
        assert run_program("run", *SHEET, *words, cwd=folder).returncode == 0
    finally:
        os.umask(before)
    for name in ("share/out.csv", "a.journal.db", "r.html", "a.log"):
        assert (folder / name).stat().st_mode & 0o077 == 0, name


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_copy_without_hard_links(folder: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """It is whole, and takes no other file's place, where a folder knows no links."""
    refuse(monkeypatch, "link", code, lambda _: True)
    (folder / "there.csv").write_text("hers")
    assert not copy_file(folder / "in.csv", folder / "there.csv")
    assert (folder / "there.csv").read_text() == "hers"
    assert copy_file(folder / "in.csv", folder / "copy.csv")
    assert (folder / "copy.csv").read_text() == (folder / "in.csv").read_text()
    assert not list(folder.glob(".*"))
