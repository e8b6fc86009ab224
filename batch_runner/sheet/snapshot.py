"""The input as it was when the batch began: a private copy that vanishes with the process."""

from __future__ import annotations

import errno
import hashlib
import shutil
import stat
import tempfile
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from batch_runner.errors import SheetError

if TYPE_CHECKING:
    from io import BufferedRandom, BufferedReader
    from pathlib import Path


CHUNK = 1 << 20
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Snapshot(msgspec.Struct, frozen=True):
    """A file that nobody else writes to, and the SHA-256 of its bytes in hex."""

    file: BinaryIO
    fingerprint: str
    size: int


def take_snapshot(path: Path, scratch: Path) -> Snapshot:
    """Copy a file into one in the folder `scratch` that has no name, so that nobody else can open or edit it.

    Raises `SheetError` where it can't be read.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise SheetError(f"{path}: not a file; name a spreadsheet")
        with path.open("rb") as source:
            copy = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115  it lives as long as the sheet
            shutil.copyfileobj(source, copy, CHUNK)
            copy.flush()
    except FileNotFoundError:
        raise SheetError(f"{path}: no such file") from None
    except OSError as error:
        if error.errno in NO_ROOM:
            raise SheetError(f"{path}: no room for a private copy of it in {scratch}: make room there") from error
        raise SheetError(f"{path}: can't be read: {error.strerror}") from error
    return _snapshot(copy)


def uncopied(path: Path) -> Snapshot:
    """A file that nobody else has yet, such as a draft of the output: as it is, without a copy."""
    return _snapshot(path.open("rb"))


def _snapshot(file: BufferedReader | BufferedRandom) -> Snapshot:
    file.seek(0)
    fingerprint = hashlib.file_digest(file, "sha256").hexdigest()
    size = file.tell()
    file.seek(0)
    return Snapshot(file, fingerprint, size)
