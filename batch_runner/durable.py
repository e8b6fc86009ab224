"""What it takes for a name in a folder to outlast a power cut."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def sync_folder(folder: Path) -> None:
    """Make what was created or renamed in it durable: POSIX leaves that to the folder's own fsync.

    Raises `OSError`, with EINVAL or EBADF where its file system can't do that, as some network ones.
    """
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
