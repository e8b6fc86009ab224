"""Files that outlast a crash: locks, fsync of folders, and a file replaced whole or not at all.

Write a hidden file beside it, fsync it, rename it into place, fsync the folder. What Windows does in another way than
POSIX stands here, each in one function.
"""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import stat
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec
from filelock import FileLock, Timeout

from batch_runner.errors import OutputFailed, UsageError, reason_of
from batch_runner.units import problem_of_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from subprocess import Popen


class LockHeld(Exception):  # noqa: N818  it is a state of the world, not a mistake
    """Another process holds the lock."""


@contextmanager
def hold_lock(path: Path) -> Iterator[None]:
    """Hold the lock of `path` for as long as the block runs.

    Raises `LockHeld` at once if another process has it, `OSError` where none can be had: the folder is read-only, or
    its file system has no locks. The lock's file is `NAME-lock` beside the path. It is removed at the end, while still
    locked: who waits for it finds that it has no name any more, and takes a new one.
    """
    name = _lock_of(path)
    lock = FileLock(name, timeout=0, thread_local=False, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        raise LockHeld from None
    try:
        yield
    finally:
        with suppress(OSError):  # on a disk that has become read-only it stays, and does no harm
            name.unlink()
        lock.release()  # last: removed after it, the file could be the lock of a process that came in between


def seems_held(path: Path, pid: int) -> bool:
    """Whether the process that locked `path` seems to hold it still: it lives, and the lock's file is there.

    The lock itself is left alone: who took it only to see would turn away a process that begins just then. This
    process looks and holds none: a container gives its processes the numbers of those of the night before.
    """
    return pid != os.getpid() and is_lock_there(path) and _is_alive(pid)


def _is_alive(pid: int) -> bool:
    """Whether there is a process of this number, ours or another user's."""
    if sys.platform == "win32":  # there `os.kill` ends a process, whatever the signal
        import _winapi

        try:
            process = _winapi.OpenProcess(_winapi.SYNCHRONIZE, False, pid)
        except OSError as error:
            return isinstance(error, PermissionError)
        try:
            return _winapi.WaitForSingleObject(process, 0) == _winapi.WAIT_TIMEOUT
        finally:
            _winapi.CloseHandle(process)
    try:
        os.kill(pid, 0)
    except PermissionError:  # it lives, and is somebody else's
        return True
    except OSError:
        return False
    return True


def is_lock_there(path: Path) -> bool:
    """Whether the lock's file of `path` is there: without it nobody holds it; with it, somebody may."""
    return _lock_of(path).exists()


def _lock_of(path: Path) -> Path:
    return path.with_name(f"{path.name}-lock")


def sync_folder(folder: Path) -> None:
    """Make what was created or renamed in it durable: POSIX leaves that to the folder's own fsync.

    Raises `OSError`, with EINVAL or EBADF where its file system can't do that, as some network ones.
    """
    if sys.platform == "win32":  # a program can't open a folder there, and NTFS keeps a log of its names
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_private(path: Path, data: bytes) -> None:
    """Write a small file whole, for its owner's eyes alone, in place of what stood there. Raises `OSError`."""
    handle, draft = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)  # with mode 600, by a name of its own
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        replace_file(Path(draft), path)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise


def read_private(path: Path, most: int) -> bytes | None:
    """The whole of a file that only this user could have written; None where there is none, or it may be another's.

    A link is never followed, and what is longer than `most` bytes isn't read.
    """
    try:
        handle = open_at_once(path, os.O_RDONLY)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        seen = os.fstat(handle)
        is_ours = stat.S_ISREG(seen.st_mode) and _is_private(seen)
        return file.read() if is_ours and seen.st_size <= most else None


def _is_private(seen: os.stat_result) -> bool:
    if sys.platform == "win32":  # who may write a file is said there by the folder, and by no mode
        return True
    return seen.st_uid == os.geteuid() and not seen.st_mode & 0o077


def open_at_once(path: Path, flags: int, *, by_link: bool = False) -> int:
    """As `os.open`: as bytes, without waiting for who reads a pipe, through no link unless it may be. For its owner."""
    if sys.platform == "win32":
        if path.is_symlink() and not by_link:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        return os.open(path, flags | os.O_BINARY, 0o600)
    return os.open(path, flags | os.O_NONBLOCK | (0 if by_link else os.O_NOFOLLOW), 0o600)


SCANNED = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Seconds between the tries to replace a file on Windows."""


def replace_file(draft: Path, path: Path) -> None:
    """Rename a file over another. Raises `OSError`.

    On Windows nobody may have one of the two open. Virus scanners, indexers and OneDrive open what was just written,
    for a moment: that is waited for.
    """
    for pause in SCANNED if sys.platform == "win32" else ():
        with suppress(PermissionError):
            draft.replace(path)
            return
        time.sleep(pause)
    draft.replace(path)


OWN_GROUP: dict[str, Any] = {"creationflags": 0x200} if sys.platform == "win32" else {"start_new_session": True}
"""How a child process is begun that a Ctrl-C at our console is not for (0x200 is CREATE_NEW_PROCESS_GROUP)."""


def own_python() -> tuple[str, dict[str, str] | None]:
    """Python, and its environment: in a `venv` of Windows, `python.exe` only starts another, of another number."""
    if sys.platform == "win32":
        return getattr(sys, "_base_executable", sys.executable), {**os.environ, "__PYVENV_LAUNCHER__": sys.executable}
    return sys.executable, None


def interrupt(pid: int, child: Popen[bytes] | None) -> bool:
    """Tell a process to end as Ctrl-C does; Windows lets nobody tell another's, which is no child of ours."""
    if sys.platform == "win32":
        if child is not None:
            child.send_signal(signal.CTRL_BREAK_EVENT)
        return child is not None
    with suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGINT)
    return True


LOCK_NAMES = ("~${name}", ".~lock.{name}#")
"""What Excel and LibreOffice leave beside a file that they have open."""
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)
"""What a file system says that knows no locks (some network ones)."""
NO_SYNC = (errno.EINVAL, errno.EBADF, errno.ENOSYS, errno.EOPNOTSUPP)
"""What a file system says that can't sync (some network ones)."""
IN_USE = (errno.EACCES, errno.EPERM, errno.EBUSY, errno.ETXTBSY)
"""What the system says of a file that can't be replaced now: somebody has it open, or keeps it. Python says EACCES for
the sharing violations of Windows, 32 and 33."""
MOST_NEIGHBOURS = 99
LONGER_NAMES = 20
"""So many bytes more than the output's has any name of a file that is written beside it."""


class AtomicFile(msgspec.Struct, frozen=True):
    """Where the output goes, and the permissions it gets (the input's, so that who could read one can read both).

    `path` is as it was said; `real` the file that is written, which a link leads to. `what` is the option that names
    it, and the word for it. `is_alone`: where it can't be replaced, no neighbour is written in its stead.
    """

    path: Path
    real: Path
    mode: int
    what: str = "output"
    is_alone: bool = False

    @classmethod
    def prepare(cls, path: Path, like: Path, what: str = "output") -> AtomicFile:
        """Make sure, before anything is sent, that a file can be written there. Raises `UsageError`."""
        try:
            real = _follow_link(path)
            if not real.parent.exists():
                raise UsageError(f"{path}: there is no folder {real.parent}; make it, or use --{what}")
            if real.is_dir():
                raise UsageError(f"{path}: the {what} is a folder; name a file")
            if problem := problem_of_name(real):
                raise UsageError(f"{path}: {problem}; use --{what}")
            if _is_too_long(real):
                raise UsageError(f"{path}: the {what}'s name is too long; name a shorter one with --{what}")
            _try_out(real.parent)
            target = cls(path, real, _mode_for(real, like), what)
            target.look_at_draft()
        except OSError as error:
            raise UsageError(f"{path}: the {what} can't be written there: {error.strerror}; use --{what}") from None
        return target

    def put(
        self,
        write: Callable[[BinaryIO], None],
        check: Callable[[Path], None],
        may_replace: Callable[[Path], bool] | None = None,
    ) -> Path:
        """Write, check, swap in; returns the path it ended up at, `path` where that leads to it.

        `may_replace` says of a file that stands there, or beside it as its neighbour, whether it may be written over;
        it is asked last, just before the rename. Without it, the file itself may be, and no neighbour. Raises
        `OutputFailed` where nothing could be written (a full disk); then what stood there before stands there still.
        """
        try:
            with self._draft() as draft:
                with draft.open("r+b") as file:
                    write(file)
                    file.flush()
                    sync(file.fileno())  # before the rename: after a crash the new name may not lead to half a file
                check(draft)
                with suppress(OSError):  # some mounts know no permissions: all files there have the same
                    draft.chmod(self.mode)
                return self._swap(draft, may_replace)
        except OSError as error:
            raise OutputFailed(
                f"{self.path}: the {self.what} could not be written: {error.strerror or error}; "
                "the journal has it all: make room and run the same command"
            ) from error

    @property
    def _draft_path(self) -> Path:
        return self.real.with_name(f".{self.real.stem}.part{self.path.suffix}")

    def look_at_draft(self) -> None:
        """Raise `OSError`, which names it, where something else stands in the way of the hidden file."""
        draft = self._draft_path
        if draft.is_symlink() or (draft.exists() and not (draft.is_file() and os.access(draft, os.R_OK | os.W_OK))):
            raise OSError(errno.EEXIST, f"the hidden {draft} is in the way; remove it")

    @contextmanager
    def _draft(self) -> Iterator[Path]:
        """A hidden file in the real one's folder, with the ending that was said, gone afterwards unless it was renamed.

        Its name is always the same, so that what a kill leaves is overwritten by the next batch, not added to. While
        it is written it is locked: two batches with one output (and two journals) would write into each other's draft.
        """
        draft = self._draft_path
        self.look_at_draft()
        with ExitStack() as held:
            try:
                held.enter_context(hold_lock(draft))
            except LockHeld:
                raise OutputFailed(
                    f"{self.path}: another batch is writing it just now; the journal has it all: run the same command"
                ) from None
            except OSError as error:
                if error.errno not in NO_LOCKS:
                    raise
                _lock_of(draft).unlink(missing_ok=True)
            os.close(open_at_once(draft, os.O_CREAT | os.O_WRONLY | os.O_TRUNC))
            try:
                yield draft
            finally:
                draft.unlink(missing_ok=True)

    def _swap(self, draft: Path, may_replace: Callable[[Path], bool] | None) -> Path:
        for path in self._candidates():
            if path.exists() and not (may_replace(path) if may_replace else path == self.real):
                continue
            try:
                replace_file(draft, path)
            except OSError as error:
                if error.errno not in IN_USE:
                    raise
                continue
            sync_if_possible(path.parent)  # else a crash could bring the old file back, after we told of the new one
            return self.path if path == self.real else path
        both = "it can't" if self.is_alone else f"neither it nor any of {MOST_NEIGHBOURS} neighbours can"
        raise PermissionError(None, f"{both} be replaced")

    def _candidates(self) -> Iterator[Path]:
        """The real file, then its neighbours `STEM-2`, `STEM-3`, …, less those that a person keeps from us."""
        if not is_held(self.real) and not is_held(self.path):
            yield self.real
        for number in range(2, 2 if self.is_alone else MOST_NEIGHBOURS + 2):
            neighbour = self.real.with_name(f"{self.real.stem}-{number}{self.real.suffix}")
            if not is_held(neighbour):
                yield neighbour


def _is_too_long(path: Path) -> bool:
    """Whether a file beside this one may have a name that is too long for the folder; on Windows, for any path."""
    try:
        path.with_name(path.name + "x" * LONGER_NAMES).lstat()
    except OSError as error:
        return error.errno == errno.ENAMETOOLONG or getattr(error, "winerror", None) in (3, 123, 206)
    return False


def _mode_for(real: Path, like: Path) -> int:
    """The permissions of an output: its own if it is there, else the input's, as far as the umask lets them through."""
    if real.exists():
        return stat.S_IMODE(real.stat().st_mode) | stat.S_IWUSR
    mask = os.umask(0o077)
    os.umask(mask)
    return stat.S_IMODE(like.stat().st_mode) & ~mask | stat.S_IWUSR


_TRIALS = (".batch-runner.trial", ".batch-runner-2.trial")
"""Always the same names, so that what a kill leaves is overwritten and removed by the next batch."""


def _try_out(folder: Path) -> None:
    """Do with two files of a moment what is done with an output. Raises `OSError` where its folder refuses that."""
    first, second = (folder / name for name in _TRIALS)
    try:
        for path in (first, second):
            handle = open_at_once(path, os.O_CREAT | os.O_WRONLY)
            try:
                os.write(handle, b"trial")
                sync(handle)
            finally:
                os.close(handle)
        try:
            with suppress(FileNotFoundError):  # another batch tries the same folder, and has just done it
                os.replace(first, second)  # noqa: PTH105  the call that an output is swapped in by
        except OSError as error:
            why = f"a file there can't be replaced ({reason_of(error)}), so it could come out in part"
            raise OSError(error.errno, why) from None
        sync_if_possible(folder)
    finally:
        for path in (first, second):
            path.unlink(missing_ok=True)


def have_temporary_folder(folder: Path) -> None:
    """Where the system has no folder for temporary files, let this one serve, for our children and SQLite, too."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        tempfile.tempdir = str(folder)
        os.environ["TMPDIR"] = os.environ["SQLITE_TMPDIR"] = str(folder)


def _follow_link(path: Path) -> Path:
    """The file that is written by this name: what a link leads to, there or not. Raises `OSError` for a circle."""
    if not path.is_symlink():
        return path
    real = Path(os.path.realpath(path))
    if real.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    return real


def digest_of(path: Path) -> str | None:
    """SHA-256 of a file's bytes, in hex; None where there is none, or it is being written. Raises `OSError`."""
    try:
        before = path.stat()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            after = path.stat()
    except FileNotFoundError:
        return None
    is_same = (before.st_ino, before.st_size, before.st_mtime_ns) == (after.st_ino, after.st_size, after.st_mtime_ns)
    return digest if is_same else None


def is_draft(path: Path) -> bool:
    """Whether a file is what a killed batch left of its output, by its name: nothing that a person knows of."""
    return path.name.startswith(".") and Path(path.stem).suffix == ".part"


def is_held(path: Path) -> bool:
    """Whether a person keeps this file from being replaced: it is read-only, a folder, or open in a spreadsheet."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISREG(mode) or not mode & stat.S_IWUSR:
        return True
    return any(path.with_name(lock.format(name=path.name)).exists() for lock in LOCK_NAMES)


def sync(handle: int) -> None:
    """Have a file on disk, where its file system can do that. Raises `OSError` for any other failure."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in NO_SYNC:
            raise


def sync_if_possible(folder: Path) -> None:
    """Make a rename in the folder durable where its file system can do that; the rename stands all the same.

    Unlike a journal, an output that a power cut takes back can be written once more.
    """
    try:
        sync_folder(folder)
    except OSError as error:
        if error.errno not in (*NO_SYNC, errno.EACCES, errno.EPERM, errno.EISDIR):
            raise


def state_of_folder(folder: Path) -> list[tuple[str, int, int]]:
    """What tells whether any file of the folder was made, written or taken away."""
    states = []
    for entry in [*os.scandir(folder)]:
        with suppress(FileNotFoundError):  # a draft may be gone by now
            states.append((entry.name, (state := entry.stat(follow_symlinks=False)).st_mtime_ns, state.st_size))
    return sorted(states)
