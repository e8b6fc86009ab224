"""Records what the program does to files, in order: what has to be on disk before what."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from program import COMMAND, PATIENCE, environment

if TYPE_CHECKING:
    from collections.abc import Iterator


class FileStep(msgspec.Struct, frozen=True):
    """One step: `sync` of a file or folder, or `rename` to a path; `digest` is of what the file held then."""

    what: str
    path: Path
    digest: str = ""


@contextmanager
def recorded(patch: pytest.MonkeyPatch) -> Iterator[list[FileStep]]:
    """The syncs and renames of this process in here; they are done as ever."""
    steps: list[FileStep] = []
    sync, rename, replace = os.fsync, os.rename, os.replace

    def fsync(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink()
        steps.append(FileStep("sync", path, digest_of(path)))
        sync(handle)

    def renaming(source: str, target: str) -> None:
        steps.append(FileStep("rename", Path(target), digest_of(Path(source))))
        rename(source, target)

    def replacing(source: str, target: str) -> None:
        steps.append(FileStep("rename", Path(target), digest_of(Path(source))))
        replace(source, target)

    with patch.context() as patched:
        patched.setattr(os, "fsync", fsync)
        patched.setattr(os, "rename", renaming)
        patched.setattr(os, "replace", replacing)
        yield steps


def digest_of(path: Path) -> str:
    """What a file holds, as far as the system has it; "" for what is no file."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""


_CALL = re.compile(r"^(?:\[pid +\d+\] |\d+ +)?(\w+)\((.*)$")


def traced(folder: Path, *arguments: str) -> list[tuple[str, str]]:
    """Run the program under strace; gives its calls about files and sockets in order, each with its arguments.

    Skips the test where there is no strace, or it isn't allowed.
    """
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    log = folder / "calls.log"
    calls = "trace=pwrite64,write,writev,sendto,sendmsg,fsync,fdatasync,rename,renameat,renameat2,unlink,flock"
    done = subprocess.run(
        ["strace", "-f", "-qq", "-y", "-s", "64", "-e", calls, "-o", str(log), *COMMAND, *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if "ptrace" in done.stderr or not log.exists():
        pytest.skip("strace isn't allowed here")
    assert done.returncode == 0, done.stderr
    lines = log.read_text("utf-8", "replace").splitlines()
    log.unlink()
    found = (_CALL.match(line) for line in lines if "resumed>" not in line)
    return [(call[1], call[2]) for call in found if call is not None]


def injected(folder: Path, fault: str, path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the program under strace with a fault of its calls about one file: `pwrite64:error=EDQUOT:when=5`."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace")
    done = subprocess.run(
        ["strace", "-f", "-qq", "-P", str(path), "-e", f"inject={fault}", "-o", os.devnull, *COMMAND, *arguments],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    if "ptrace" in done.stderr:
        pytest.skip("strace isn't allowed here")
    return done


if sys.platform != "linux":
    pytest.skip("strace and /proc are Linux's", allow_module_level=True)
