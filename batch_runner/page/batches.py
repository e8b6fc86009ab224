"""A batch while it runs and afterwards: started as a process of its own, watched, stopped; and all nights."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from datetime import UTC, datetime
from math import sqrt
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec

from batch_runner.errors import BatchRunnerError, ExitCode, JournalError, SheetError, UsageError
from batch_runner.fs import OWN_GROUP
from batch_runner.job.config import load_job
from batch_runner.job.inputs import night_job_of
from batch_runner.job.options import command_words, options
from batch_runner.journal.index import Index, state_folder
from batch_runner.journal.outputs import StartWords, recall_start, remember_start
from batch_runner.journal.view import BatchRecord, Failures, JournalView
from batch_runner.outcomes import FAILED, GOING, NOT_STARTED, STARTING, SUCCESS, UNKNOWN
from batch_runner.report.summary import duration_of, sorted_counts
from batch_runner.runner.adjust import adjust
from batch_runner.runner.memory import place_journals
from batch_runner.sheet.model import TEXT_ENDINGS, WORKBOOK_ENDINGS
from batch_runner.units import local_time, ranges_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


MOST_NIGHTS = 100
MOST_GROUPS = 20
MOST_OTHERS = 10
MOST_KNOWN = 2 * MOST_NIGHTS
MOST_AT_ONCE = 10_000
GROUND = 10
"""So many rows must have ended before a forecast has ground."""
ENDS = {
    ExitCode.OK: "complete: every row succeeded",
    ExitCode.BUG: "ended by a bug of ours; the same command goes on",
    ExitCode.REFUSED: "refused before anything was sent",
    ExitCode.SOME_FAILED: "complete; some rows did not succeed",
    ExitCode.SOME_UNKNOWN: "complete; some rows are unknown: a person must look",
    ExitCode.STOPPED: "stopped early; the same command goes on",
    ExitCode.JOURNAL_BUSY: "another batch held the journal",
    ExitCode.INTERRUPTED: "stopped by a person; the same command goes on",
    ExitCode.TERMINATED: "told to end; the same command goes on",
}
LEFT_OUT_AGAIN = ("limit", "where", "canary", "date", "report", "output", "journal", "when_missing", "retry_limit")
"""Options of a whole batch that make no sense for some of its rows."""


def local(moment: str | None) -> str:
    """A recorded moment on this computer's clock."""
    return "–" if moment is None else local_time(moment, "seconds").partition("+")[0]


def kind_of(status: str) -> str:
    """Which colour a status has."""
    if status == SUCCESS:
        return "good"
    if status in FAILED:
        return "bad"
    return "unsure" if status == UNKNOWN else "going" if status in (*GOING, STARTING) else "idle"


class BatchLine(msgspec.Struct, frozen=True):
    """One batch among the others: when, how many, how it ended."""

    journal: str
    batch: BatchRecord
    counts: dict[str, int]
    held: dict[str, int]
    is_running: bool

    @property
    def output(self) -> str:
        """The result file's path."""
        return self.batch.output

    @property
    def sheet(self) -> str:
        """The sheet's file name."""
        return Path(self.batch.input).name

    @property
    def state(self) -> str:
        """How it ended, in words."""
        return state_of(self.batch, is_running=self.is_running)


def state_of(batch: BatchRecord, *, is_running: bool) -> str:
    """How a batch ended, in words."""
    if is_running:
        return "running"
    if batch.ended is None or batch.exit_code is None:
        return "cut off (killed, or a power cut); the same command goes on"
    return ENDS.get(ExitCode(batch.exit_code), f"exit code {batch.exit_code}")


class FailureGroup(msgspec.Struct, frozen=True):
    """Rows that failed alike, and whether they may be run again from here."""

    failures: Failures
    can_retry: bool


class BatchSeen(msgspec.Struct, frozen=True):
    """A batch as its journal has it now; `source` and `chosen` are how it was started, where that is known."""

    journal: Path
    journal_name: str
    batch: BatchRecord
    counts: dict[str, int]
    groups: tuple[FailureGroup, ...]
    is_running: bool
    is_stopping: bool
    source: str
    chosen: dict[str, Any] | None
    others: tuple[BatchRecord, ...] = ()
    words: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        """How many rows have their place so far."""
        return sum(self.counts.values())

    @property
    def done(self) -> int:
        """How many rows came to their end."""
        return sum(rows for status, rows in self.counts.items() if status not in (*GOING, STARTING, NOT_STARTED))

    @property
    def state(self) -> str:
        """How it goes, or how it ended, in words."""
        return state_of(self.batch, is_running=self.is_running)

    @property
    def mood(self) -> str:
        """Which colour the whole has."""
        if self.is_running:
            return "going"
        return "good" if self.batch.exit_code == ExitCode.OK else "bad" if self.counts.keys() & {*FAILED} else "caution"

    @property
    def seconds(self) -> float:
        """How long it has taken."""
        ended = datetime.fromisoformat(self.batch.ended) if self.batch.ended else datetime.now(UTC)
        return (ended - datetime.fromisoformat(self.batch.started)).total_seconds()

    @property
    def took(self) -> str:
        """The same in words."""
        return duration_of(self.seconds)

    def forecast(self, size: int) -> str:
        """How long it may still take for so many rows, as a range; nothing where there is no ground for one."""
        left = size - self.done
        if not self.is_running or self.done < GROUND or left <= 0 or self.is_stopping:
            return ""
        spread = max(2 / sqrt(self.done), 0.15)
        low, high = (left * self.seconds / self.done * factor for factor in (max(1 - spread, 0.3), 1 + spread))
        return f"about {duration_of(low)} to {duration_of(high)} more"

    @property
    def can_mend(self) -> bool:
        """Whether cells can be mended: the result file is one that can be read again, and nothing runs."""
        ending = Path(self.batch.output).suffix.lower()
        is_there = ending in (*TEXT_ENDINGS, *WORKBOOK_ENDINGS) and Path(self.batch.output).is_file()
        return self.chosen is not None and not self.is_running and is_there

    @property
    def report(self) -> Path | None:
        """The report that was asked for, if there is one."""
        said = (self.chosen or {}).get("report")
        return Path(said) if said and Path(said).is_file() else None

    @property
    def has_output(self) -> bool:
        """Whether the result file is there."""
        return Path(self.batch.output).is_file()

    @property
    def output_name(self) -> str:
        """The result file's name."""
        return Path(self.batch.output).name

    @property
    def sheet(self) -> str:
        """The sheet's file name."""
        return Path(self.batch.input).name

    @property
    def command(self) -> list[str]:
        """What does the same in a shell: the batch again, or a look at it."""
        if self.words:
            return ["batch-runner", *self.words]
        if self.chosen is None:
            return ["batch-runner", "status", self.journal_name]
        return ["batch-runner", *command_words("run", self.source, self.chosen)]

    def options_again(self, numbers: Iterable[int], path: str) -> dict[str, Any]:
        """How to run some of its rows again from the result file at `path`."""
        if self.chosen is None:
            raise UsageError("it isn't known here how this batch was started: run it again by its own command")
        kept = {name: value for name, value in self.chosen.items() if name not in LEFT_OUT_AGAIN}
        files = {} if self.batch.service != "local" else {"files": str(Path(self.batch.input).parent)}
        return {
            **files,
            **kept,
            "output": path,
            "journal": str(self.journal),
            "rows": ranges_of(numbers),
            "retry": list(FAILED),
            "retry_wait": "0s",
        }


class Beginning(msgspec.Struct, frozen=True):
    """A batch that was started and has no place in its journal yet, or has ended without one."""

    journal: str
    pid: int
    printed: str
    exit_code: int | None
    command: list[str]


class Child(msgspec.Struct, frozen=True):
    """A batch that this page has started: its process, and what that prints."""

    process: subprocess.Popen[bytes]
    printed: IO[bytes]
    words: list[str]

    def said(self) -> str:
        """What it has printed so far."""
        self.printed.seek(0)
        return self.printed.read(20_000).decode("utf-8", "replace")


def _python() -> tuple[str, dict[str, str] | None]:
    """Python, and its environment: in a `venv` of Windows, `python.exe` only starts another, of another number."""
    if sys.platform == "win32":
        return getattr(sys, "_base_executable", sys.executable), {**os.environ, "__PYVENV_LAUNCHER__": sys.executable}
    return sys.executable, None


class Batches:
    """The batches of a folder: those of its journals, and those that this page has started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: dict[int, Child] = {}
        self._journals: dict[str, Path] = {}
        self._known: dict[tuple[object, ...], tuple[dict[str, int], tuple[Failures, ...]]] = {}
        self._asked_to_stop: set[tuple[Path, int]] = set()

    def start(self, source: str, chosen: Mapping[str, Any], journal: Path, output: str) -> int:
        """Start a batch in a session of its own, so that it outlives this page; gives its process's number."""
        words = command_words("run", source, chosen)
        printed = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the child
        python, environment = _python()
        process = subprocess.Popen(  # noqa: S603  our own program, its words as a list
            [python, "-P", "-m", "batch_runner", *words, "--progress", "never"],
            cwd=self._folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=printed,
            **OWN_GROUP,
        )
        self._children[process.pid] = Child(process, printed, words)
        self._journals[self.name_of(journal)] = journal.resolve()
        if "retry" not in chosen or "rows" not in chosen:
            remember_start(journal.resolve(), output, StartWords(source, dict(chosen)))
        self._await_place(process.pid, journal)
        return process.pid

    def _await_place(self, pid: int, journal: Path) -> None:
        """Give it a moment to take its place in the journal: then its own screen comes at once."""
        until = time.monotonic() + 3
        while time.monotonic() < until and self._children[pid].process.poll() is None:
            with suppress(JournalError), JournalView.open(journal) as view:
                if any(batch.pid == pid for batch in view.batches()):
                    return
            time.sleep(0.05)

    def name_of(self, journal: Path) -> str:
        """A journal's name in addresses: relative to the folder where it lies in it."""
        real, folder = journal.resolve(), self._folder.resolve()
        return str(real.relative_to(folder) if real.is_relative_to(folder) else real)

    def journals(self) -> dict[str, Path]:
        """The journals that the page may show, by name: those of the folder, and all that this user's batches had.

        No address can ask for any other file.
        """
        paths = (*sorted(self._folder.glob("*.db")), *Index(state_folder(os.environ)).all())
        return {**{self.name_of(path): path.resolve() for path in paths}, **self._journals}

    def _journal(self, name: str) -> Path:
        try:
            return self.journals()[name]
        except KeyError:
            raise UsageError(f"{name}: there is no such journal in this folder") from None

    def nights(self, most: int = MOST_NIGHTS) -> list[BatchLine]:
        """The last batches of all journals, the latest first."""
        self._reap()
        found = []
        for name, path in self.journals().items():
            with suppress(JournalError), JournalView.open(path) as view:
                for batch in view.batches()[-most:]:
                    is_running = view.living is not None and batch.id >= view.living and batch.ended is None
                    counts, _ = self._sums(path, view, batch.id, is_running=is_running)
                    found.append(BatchLine(name, batch, counts, view.held(batch.id), is_running))
        return sorted(found, key=lambda night: night.batch.started, reverse=True)[:most]

    def look(self, query: Mapping[str, str]) -> BatchSeen | None:
        """The batch that an address names, by its number or its process; None where it has no place yet."""
        self._reap()
        path = self._journal(query.get("journal", ""))
        if not path.exists():
            return None
        with JournalView.open(path) as view:
            batches = view.batches()
            pid, number = query.get("pid", ""), query.get("id", "")
            wanted = [b for b in batches if str(b.id) == number or (not number and str(b.pid) == pid)]
            wanted = wanted or ([] if pid or number else list(batches))
            if not wanted and number:
                raise UsageError(f"{query.get('journal')}: there is no batch {number}")
            return self._seen(path, view, wanted[-1]) if wanted else None

    def look_at(self, query: Mapping[str, Any]) -> BatchSeen:
        """As `look`, for a batch that has its place."""
        seen = self.look({name: str(query.get(name, "")) for name in ("journal", "id")})
        if seen is None:
            raise UsageError("this batch has not begun yet")
        return seen

    def _seen(self, path: Path, view: JournalView, batch: BatchRecord) -> BatchSeen:
        child = self._children.get(batch.pid)
        is_running = view.living is not None and batch.id >= view.living and batch.ended is None
        is_running = is_running or (child is not None and child.process.poll() is None)  # it still writes its report
        started = recall_start(path, batch.output) or self._of_job_file(path, batch)
        counts, groups = self._sums(path, view, batch.id, is_running=is_running)
        return BatchSeen(
            path,
            self.name_of(path),
            batch,
            counts,
            tuple(FailureGroup(group, started is not None and group.status in FAILED) for group in groups),
            is_running,
            (path, batch.id) in self._asked_to_stop,
            started.source if started else Path(batch.input).name,
            started.chosen if started else None,
            tuple(other for other in view.batches() if other.output == batch.output and other.id != batch.id)[
                -MOST_OTHERS:
            ],
            tuple(child.words) if child else (),
        )

    def _sums(
        self, path: Path, view: JournalView, batch: int, *, is_running: bool
    ) -> tuple[dict[str, int], tuple[Failures, ...]]:
        """The counts and groups of a batch; those of one that has ended are kept until something is written."""
        files = (path, path.with_name(f"{path.name}-wal"))
        key = (path, batch, *((f.stat().st_mtime_ns, f.stat().st_size) for f in files if f.exists()))
        if is_running or key not in self._known:
            counts = {count.status: count.rows for count in sorted_counts(view.counts(batch))}
            if is_running:
                return counts, ()
            self._known = dict([*self._known.items()][-MOST_KNOWN:])
            self._known[key] = (counts, view.failures(batch, MOST_GROUPS))
        return self._known[key]

    def _of_job_file(self, journal: Path, batch: BatchRecord) -> StartWords | None:
        """How the job file in the folder that has this journal starts its batches."""
        for path in sorted(self._folder.glob("*.toml")):
            with suppress(BatchRunnerError, SheetError, OSError):
                job = load_job(path.name, {}, os.environ).job
                for planned in place_journals(night_job_of(job, datetime.now().astimezone().date())).batches:
                    found = planned.job
                    if found.journal_path.resolve() == journal and str(found.input_path.absolute()) == batch.input:
                        fields = {option.name: getattr(found, option.name) for option in options().values()}
                        said = {n: v for n, v in fields.items() if v != options()[n].default and v not in (None, ())}
                        return StartWords(found.input, said)
        return None

    def beginning(self, query: Mapping[str, str]) -> Beginning:
        """A batch that this page has started, before it has a place in its journal. Raises `UsageError` for others."""
        pid = query.get("pid", "")
        child = self._children.get(int(pid)) if pid.isdecimal() else None
        if child is None:
            raise UsageError("no such batch was started here")
        code = child.process.poll()
        return Beginning(query.get("journal", ""), int(pid), child.said(), code, ["batch-runner", *child.words])

    def heartbeat(self, query: Mapping[str, str]) -> bytes:
        """What a live screen compares from one second to the next."""
        seen = self.look(query)
        if seen is None:
            return b'{"running":true}'
        return msgspec.json.encode({"running": seen.is_running, "counts": seen.counts})

    def stop(self, query: Mapping[str, Any]) -> BatchSeen:
        """Tell the batch to stop, as Ctrl-C does: first it starts nothing more, the second time it leaves at once."""
        seen = self.look_at(query)
        if not seen.is_running:
            return seen
        if sys.platform == "win32":
            if seen.batch.pid not in self._children:
                raise UsageError(
                    "this batch was not started from this page: press Ctrl-C in the window that it runs in"
                )
            self._children[seen.batch.pid].process.send_signal(signal.CTRL_BREAK_EVENT)
        else:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(seen.batch.pid, signal.SIGINT)
        self._asked_to_stop.add((seen.journal, seen.batch.id))
        return seen

    def change(self, query: Mapping[str, Any]) -> BatchSeen:
        """Let the batch have more or fewer runs in flight, as `adjust` does."""
        seen = self.look_at(query)
        wanted = str(query.get("concurrency", ""))
        if not wanted.isdecimal() or not 1 <= int(wanted) <= MOST_AT_ONCE:
            raise UsageError(f"how many runs at once? say a number from 1 to {MOST_AT_ONCE}")
        adjust(seen.journal, int(wanted), datetime.now().astimezone().date())
        return seen

    def numbers_of(self, seen: BatchSeen, status: str, error: str) -> list[int]:
        """All rows of a group that failed alike."""
        if status not in FAILED:
            raise UsageError(f"rows that are {status or 'nothing'} are not run again from here")
        with JournalView.open(seen.journal) as view:
            return list(view.numbers(seen.batch.id, status, error))

    def _reap(self) -> None:
        """A child that has ended is let go: as a zombie it would still seem to hold its journal."""
        for child in self._children.values():
            child.process.poll()
