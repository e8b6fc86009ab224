"""The tree of errors; each class knows its exit code.

    SheetError                 2   the sheet can't be used
    BatchRunnerError
    ├── UsageError             2   the command or the job is wrong: nothing was sent
    ├── JournalError           2   the journal can't be used, or is another batch's
    ├── JournalBusy            6   another batch holds the journal
    ├── RunsBusy               6   another `serve` holds the file of its runs
    ├── JournalFailed          5   the journal could not be written in mid-batch: starting stopped
    │   └── JournalFull        5   its disk is full; what was started before is still recorded
    ├── OutputFailed           5   the output could not be written; the journal has it all
    └── Interrupted          130   Ctrl-C before a batch ran: nothing was sent
        └── Terminated       143   the same by SIGTERM or SIGHUP

A row's failure is no error: it is data (its outcome). Exceptions only stop the batch.
"""

from __future__ import annotations

import re
import shlex
import signal
import sqlite3
import sys
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path


class SheetError(Exception):
    """The sheet cannot be used: one sentence that names file, sheet and cell, and the next step."""


class Unlike(Exception):  # noqa: N818  it is a state of two files: another way of comparing them takes over
    """Two files can't be compared byte by byte."""


NEW_JOURNAL = "another --journal, which starts every row again"
"""How every sentence names a journal that knows nothing of what ran."""


class ExitCode(IntEnum):
    """What the process says when it ends (README, *Exit codes*)."""

    OK = 0
    BUG = 1
    REFUSED = 2
    SOME_FAILED = 3
    SOME_UNKNOWN = 4
    STOPPED = 5
    JOURNAL_BUSY = 6
    INTERRUPTED = 130
    TERMINATED = 143


if sys.platform == "win32":
    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGBREAK)
else:
    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C; a machine that is shut down; and a terminal that is closed, which on Windows is as Ctrl-Break."""


WORST_FIRST = (
    ExitCode.INTERRUPTED,
    ExitCode.TERMINATED,
    ExitCode.BUG,
    ExitCode.STOPPED,
    ExitCode.SOME_UNKNOWN,
    ExitCode.JOURNAL_BUSY,
    ExitCode.SOME_FAILED,
    ExitCode.OK,
)
"""Which code stands for several: the first of them here."""


def worst(codes: Iterable[int]) -> ExitCode:
    """The one code that stands for all of these; 0 for none."""
    return min(map(ExitCode, codes), key=WORST_FIRST.index, default=ExitCode.OK)


class BatchRunnerError(Exception):
    """Something that a person can mend; its text is one clear sentence with the next step."""

    exit_code: ExitCode = ExitCode.BUG


class UsageError(BatchRunnerError):
    """The command, the job or a file that it names is wrong. Nothing was sent."""

    exit_code = ExitCode.REFUSED


class JournalError(BatchRunnerError):
    """The journal is damaged, newer than this program, another batch's, or can't be written. Nothing was sent."""

    exit_code = ExitCode.REFUSED


class JournalBusy(BatchRunnerError):  # noqa: N818  it is a state of the world, not a mistake
    """Another batch holds the journal."""

    exit_code = ExitCode.JOURNAL_BUSY


class RunsBusy(BatchRunnerError):  # noqa: N818  as above
    """Another `serve` holds the file in which runs are kept."""

    exit_code = ExitCode.JOURNAL_BUSY


class JournalFailed(BatchRunnerError):  # noqa: N818  as above
    """The journal could not be written while the batch ran (disk full): what isn't recorded isn't sent."""

    exit_code = ExitCode.STOPPED


class JournalFull(JournalFailed):
    """The journal's disk is full: no more starts, but what was started is recorded, in room set aside for it."""


class JournalLocked(JournalFailed):
    """Another program held the journal's write lock until a signal left no more time to wait for it."""

    def __init__(self, why: str, exit_code: ExitCode) -> None:
        super().__init__(why)
        self.exit_code = exit_code


class OutputFailed(BatchRunnerError):  # noqa: N818  as above
    """The output could not be written, or was found wrong before the swap. The journal still has every outcome."""

    exit_code = ExitCode.STOPPED


class Interrupted(BatchRunnerError):  # noqa: N818  as above
    """Ctrl-C came before a batch ran. Nothing was sent."""

    exit_code = ExitCode.INTERRUPTED


class Terminated(Interrupted):
    """The same by SIGTERM, SIGHUP or Ctrl-Break."""

    exit_code = ExitCode.TERMINATED


NEXT_STEP = f"restore it from a backup (rows that ran since then start again), or use {NEW_JOURNAL}"


FIX_THAT = "fix that and run the same command"
DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
"""What sqlite says of a file whose bytes are no database's any more; its other errors are of what is around it."""


def cant_be_read(path: Path, error: Exception) -> JournalError:
    """What to say where reading a journal raised this: only a damaged one is to be restored from a backup."""
    if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF not in DAMAGED:
        return JournalError(f"{path}: the journal can't be read: {error}; {FIX_THAT}")
    if _is_text(path):
        return JournalError(f"{path}: this is no journal, but a text, such as a job file; give the path of a journal")
    is_other = getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB
    what = "this is no journal, or a damaged one" if is_other else "the journal is damaged"
    return JournalError(f"{path}: {what} ({error}); {NEXT_STEP}")


def cant_be_written(path: Path, error: sqlite3.Error) -> JournalError:
    """What to say where a batch can't begin since writing its journal raised this."""
    if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
        return JournalError(
            f"{path}: another program has locked the journal (a database shell, a backup?), so nothing was sent; once "
            "it has let go, the same command goes on"
        )
    return JournalError(f"{path}: the journal can't be written, or brought up to this version: {error}; fix that first")


def elsewhere(path: Path) -> str:
    """What else a person can do where a first journal can't be made. One that is there knows what ran."""
    return "" if path.exists() else ", or name a journal in another folder with --journal"


def half_journal(path: Path, wal: Path, *, is_certain: bool) -> JournalError:
    """What to say where a batch was under way and the WAL is missing: it was left behind, or put in by another program.

    SQLite removes it when the last program that has the journal open, such as a shell after a kill, closes it. Where
    the WAL was kept under another name, it is certain that the journal lacks some of it.
    """
    half = (
        f"{path}: this is half a journal: a batch was under way, and what it wrote last is in {wal.name}, which is "
        f"missing; bring that file, too, from where this one was; else {NEXT_STEP}"
    )
    if is_certain:
        return JournalError(half)
    words = quote_words(["sqlite3", str(path), "UPDATE about SET under_way = 0"])
    return JournalError(
        f"{half}. Only if a database program opened it since, and nobody moved, copied or restored it or removed that "
        f"file, it is whole; then say so: {words} (of a half, rows that ran would start again)"
    )


def _is_text(path: Path) -> bool:
    """Whether a file is something that a person wrote, such as a job file or a sheet."""
    with path.open("rb") as file:
        return 0 not in file.read(4096)  # a database has zeros in its header


class Findings:
    """Several looks before anything is sent, so that a person hears of all that is wrong at once."""

    def __init__(self) -> None:
        self._errors: list[BatchRunnerError | SheetError] = []

    @contextmanager
    def look(self) -> Iterator[None]:
        """What is found wrong in here is kept until `tell`."""
        try:
            yield
        except (UsageError, SheetError) as error:
            self._errors.append(error)

    @property
    def has_any(self) -> bool:
        """Whether something was found wrong so far."""
        return bool(self._errors)

    def tell(self) -> None:
        """Raise what was found: a single error as it is, several as one `UsageError` with a line each."""
        if len(self._errors) == 1:
            raise self._errors[0]
        if self._errors:
            raise UsageError(
                "\n".join(dict.fromkeys(line for error in self._errors for line in str(error).splitlines()))
            )


class Catching:
    """Asks `take` about an error that leaves the block; one that it takes goes no further.

    Each run in flight is in some: a generator would weigh six times as much.
    """

    __slots__ = ("_take",)

    def __init__(self, take: Callable[[Exception], bool]) -> None:
        self._take = take

    def __enter__(self) -> None:
        """Nothing is to be done before."""

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        return isinstance(error, Exception) and self._take(error)


@contextmanager
def sole_error() -> Iterator[None]:
    """Let what a person can mend out of the groups that task groups wrap it in (PEP 654); bugs stay as they are."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise _first_mendable(group) or group from None


def _first_mendable(group: BaseExceptionGroup[BaseException]) -> BatchRunnerError | None:
    mendable = group.subgroup(BatchRunnerError)
    while mendable is not None:
        first = mendable.exceptions[0]
        if isinstance(first, BatchRunnerError):
            return first
        mendable = first if isinstance(first, BaseExceptionGroup) else None
    return None


def exit_code_of(error: Exception) -> ExitCode:
    """The exit code for an error that ended the program; what isn't in the tree is a bug of ours."""
    if isinstance(error, SheetError):
        return ExitCode.REFUSED
    return error.exit_code if isinstance(error, BatchRunnerError) else ExitCode.BUG


def reason_of(error: OSError) -> str:
    """What the system says of an error, without its path, to stand inside a sentence."""
    return (error.strerror or str(error)).lower()


_OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What a terminal or a mail program would obey, and not show: controls, escapes, marks of direction."""


def printable(text: str) -> str:
    """A text, somebody else's in part, as a terminal, a mail and a log of text may show it; line ends and tabs stay.

    The escapes are those of JSON, so that a line of JSON stays one.
    """
    return _OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


_PLAIN_WORD = re.compile(r"[\w./:\\=+-]+", re.ASCII)
_ESCAPED = re.compile(r'(\\*)("|\Z)')
"""A program of Windows takes backslashes for what they are, but before a quote."""


def quote_words(words: Iterable[str], *, windows: bool = sys.platform == "win32") -> str:
    """Words as a person can type them to a shell; on Windows to cmd.exe, to which ' is a letter, and to PowerShell.

    PowerShell makes two words of `A,B` that stands in no quotes.
    """
    if not windows:
        return shlex.join(words)
    return " ".join(word if _PLAIN_WORD.fullmatch(word) else f'"{_ESCAPED.sub(_double, word)}"' for word in words)


def _double(found: re.Match[str]) -> str:
    return 2 * found[1] + ('\\"' if found[2] else "")


def escaped(error: UnicodeError) -> tuple[str, int]:
    """What stands for letters that a stream's encoding lacks, in the same way: for `codecs.register_error`."""
    assert isinstance(error, UnicodeEncodeError)
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2)), error.end
