"""The input as it was when the batch began: a private copy that vanishes with the process."""

from __future__ import annotations

import errno
import hashlib
import shutil
import stat
import tempfile
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from batch_runner.sheet.errors import SheetError

if TYPE_CHECKING:
    from pathlib import Path

CHUNK = 1 << 20
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Snapshot(msgspec.Struct, frozen=True):
    """A copy of a file, and the SHA-256 of its bytes in hex. The copy has no name: nobody else can open or edit it."""

    file: BinaryIO
    fingerprint: str
    size: int


def take_snapshot(path: Path, scratch: Path) -> Snapshot:
    """Copy a file into a nameless one in the folder `scratch`. Raises `SheetError` where it can't be read."""
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
    copy.seek(0)
    fingerprint = hashlib.file_digest(copy, "sha256").hexdigest()
    size = copy.tell()
    copy.seek(0)
    return Snapshot(copy, fingerprint, size)
