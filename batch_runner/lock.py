"""One process at a time: a lock beside a file. It is the kernel's (flock), so it dies with its process."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Held(Exception):  # noqa: N818  it is a state of the world, not a mistake
    """Another process holds the lock."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of `path` for as long as the block runs.

    Raises `Held` at once if another process has it, `OSError` where none can be had: the folder is read-only, or its
    file system has no locks. The lock's file is `NAME-lock` beside the path. It is removed at the end, while still
    locked: who waits for it finds that it has no name any more, and takes a new one.
    """
    name = _lock_of(path)
    lock = FileLock(name, timeout=0, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise Held from None
    try:
        yield
    finally:
        with suppress(OSError):  # on a disk that has become read-only it stays, and does no harm
            name.unlink()
        lock.release()


def seems_held(path: Path, pid: int) -> bool:
    """Whether the process that locked `path` seems to hold it still: it lives, and the lock's file is there.

    The lock itself is left alone: who took it only to see would turn away a process that begins just then. This
    process looks and holds none: a container gives its processes the numbers of those of the night before.
    """
    return pid != os.getpid() and _lock_of(path).exists() and _lives(pid)


def _lock_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-lock")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except PermissionError:  # somebody else's
        return True
    except OSError:
        return False
    return True
