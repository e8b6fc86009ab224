"""The input as it was when the batch began: a private copy that vanishes with the process."""

from __future__ import annotations

import errno
import hashlib
import shutil
import stat
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec

from batch_runner.errors import SheetError

if TYPE_CHECKING:
    from io import BufferedRandom, BufferedReader


CHUNK = 1 << 20
YOUNG = 60.0
"""Seconds after which a file that ends within a line is taken as it is: many programs leave out the last line end."""
STILL = 2.0
"""Seconds for which a younger one must not change."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Snapshot(msgspec.Struct, frozen=True):
    """A file that nobody else writes to, and the SHA-256 of its bytes in hex."""

    file: BinaryIO
    fingerprint: str
    size: int


def take_snapshot(path: Path, scratch: Path) -> Snapshot:
    """Copy a file into one in the folder `scratch` that has no name, so that nobody else can open or edit it.

    Raises `SheetError` where it can't be read, or changes while it is, twice.
    """
    return _copied(path, scratch)[0]


def take_whole_lines(path: Path, scratch: Path) -> Snapshot:
    """The same of a text file. One that is young and ends within a line may still be being written: half an amount is
    an amount, too. It is looked at until it has stood still for a while.

    Raises `SheetError` also where it doesn't.
    """
    snapshot, state = _copied(path, scratch)
    until = time.monotonic() + YOUNG
    while not _ends_a_line(snapshot) and time.time() - state.modified < YOUNG:
        time.sleep(STILL)
        if _state_of(path) == state:
            break
        snapshot.file.close()
        if time.monotonic() > until:
            raise SheetError(f"{path.name}: still being written; run this again when it is whole")
        snapshot, state = _copied(path, scratch)
    return snapshot


def scratch_folder(folder: Path) -> Path:
    """This folder, or the system's temporary one where a file without a name can't be read again (9p, some FUSE)."""
    try:
        with tempfile.TemporaryFile(dir=folder) as trial:
            trial.write(b"x")
            trial.seek(0)
            can_serve = trial.read() == b"x"
    except OSError as error:
        can_serve = error.errno in NO_ROOM  # whoever copies says so
    return folder if can_serve else Path(tempfile.gettempdir())


class _State(msgspec.Struct, frozen=True):
    """What tells whether a file has been written since: which one it is, how long, and when it was changed."""

    file: tuple[int, int]
    size: int
    modified_ns: int

    @property
    def modified(self) -> float:
        return self.modified_ns / 1e9


def _state_of(path: Path) -> _State | None:
    """None where it is gone."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return _State((found.st_dev, found.st_ino), found.st_size, found.st_mtime_ns)


def _copied(path: Path, scratch: Path) -> tuple[Snapshot, _State]:
    """A private copy of a file, and its state, which was the same before it was read and after."""
    for _turn in range(2):
        try:
            if not stat.S_ISREG(path.stat().st_mode):
                raise SheetError(f"{path}: not a file; name a spreadsheet")
            before = _state_of(path)
            with path.open("rb") as source:
                copy: Any = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115  it lives as long as the sheet
                shutil.copyfileobj(source, copy, CHUNK)
                found = _snapshot(copy)
        except FileNotFoundError:
            raise SheetError(f"{path}: no such file") from None
        except OSError as error:
            if error.errno in NO_ROOM:
                raise SheetError(f"{path}: no room for a private copy of it in {scratch}: make room there") from error
            raise SheetError(f"{path}: can't be read: {error.strerror}") from error
        if before is not None and before == _state_of(path) and found.size == before.size:
            return found, before
        copy.close()
    raise SheetError(f"{path.name}: it changed while it was read; run this again when nobody writes it")


def _ends_a_line(snapshot: Snapshot) -> bool:
    """Whether a text file ends with a line end, in any encoding; NULs and a Ctrl-Z behind it are no text."""
    snapshot.file.seek(max(0, snapshot.size - CHUNK))
    return snapshot.file.read().rstrip(b"\0\x1a \t")[-1:] in (b"\n", b"\r")


def uncopied(path: Path) -> Snapshot:
    """A file that nobody else has yet, such as a draft of the output: as it is, without a copy."""
    if sys.platform == "win32":  # nobody can replace there what we have open, last night's output say
        return take_snapshot(path, path.parent)
    return _snapshot(path.open("rb"))


def _snapshot(file: BufferedReader | BufferedRandom) -> Snapshot:
    file.seek(0)
    fingerprint = hashlib.file_digest(file, "sha256").hexdigest()
    size = file.tell()
    file.seek(0)
    return Snapshot(file, fingerprint, size)
