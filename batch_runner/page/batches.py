"""A batch while it runs and afterwards: started as a process of its own, watched, stopped; and all nights."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import msgspec

from batch_runner.errors import ExitCode, JournalError, UsageError
from batch_runner.fs import OWN_GROUP, interrupt, own_python
from batch_runner.job.options import command_words, for_some_rows
from batch_runner.journal.batches import COMPLETE
from batch_runner.journal.index import Index, state_folder
from batch_runner.journal.outputs import StartWords, recall_start, remember_start
from batch_runner.journal.view import BatchRecord, Failures, JournalView
from batch_runner.outcomes import FAILED, GOING, NOT_STARTED, STARTING, SUCCESS, UNKNOWN
from batch_runner.progress import Forecast, Tally
from batch_runner.report.stats import state_of
from batch_runner.report.summary import duration_of, sorted_counts
from batch_runner.report.totals import Told
from batch_runner.runner.adjust import adjust
from batch_runner.runner.memory import started_by_job
from batch_runner.sheet.model import TEXT_ENDINGS, WORKBOOK_ENDINGS
from batch_runner.units import ranges_of, way_to

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from batch_runner.report.totals import ColumnTotals


MOST_NIGHTS, MOST_GROUPS, MOST_OTHERS = 100, 20, 10
MOST_KNOWN, MOST_AT_ONCE = 2 * MOST_NIGHTS, 10_000


class KnownBatch(msgspec.Struct, frozen=True):
    """One batch among the others, by the journal that has it."""

    journal: str
    path: Path
    batch: BatchRecord
    is_running: bool


class BatchLine(msgspec.Struct, frozen=True):
    """One of them as a line: when, how many, how it ended, what its amounts came to then; `is_told` if that holds."""

    journal: str
    batch: BatchRecord
    counts: dict[str, int]
    held: dict[str, int]
    totals: tuple[ColumnTotals, ...]
    is_told: bool
    is_running: bool

    @property
    def state(self) -> str:
        """How it ended, in words."""
        return state_of(self.batch, is_running=self.is_running)


class FailureGroup(msgspec.Struct, frozen=True):
    """Rows that failed alike, whether they may be run again from here, and whether they were refused: none ever ran."""

    failures: Failures
    can_retry: bool
    is_refused: bool


class BatchSeen(msgspec.Struct, frozen=True):
    """A batch as its journal has it now; `started` is how that was done, where it is known.

    `is_latest`: since then only batches over its output have written that. `written` is the SHA-256 with which it was
    written last. `words` are those of its command, where it runs as a child of this page.
    """

    journal: Path
    journal_name: str
    batch: BatchRecord
    counts: dict[str, int]
    ended_here: int
    succeeded_here: int
    groups: tuple[FailureGroup, ...]
    told: Told | None
    is_running: bool
    stops: int
    is_latest: bool
    written: str
    started: StartWords | None
    others: tuple[BatchRecord, ...] = ()
    words: tuple[str, ...] = ()

    @property
    def place(self) -> dict[str, Any]:
        """What an address says of it."""
        return {"journal": self.journal_name, "id": self.batch.id}

    @property
    def chosen(self) -> dict[str, Any]:
        """The options that it was started with, as far as they are known."""
        return self.started.chosen if self.started else {}

    @property
    def known(self) -> dict[str, Any]:
        """The same. Raises `UsageError` where they aren't known."""
        if self.started is None:
            raise UsageError("it isn't known here how this batch was started: run it again by its own command")
        return self.started.chosen

    @property
    def source(self) -> str:
        """Of what it was started: the sheet, or the result file."""
        return self.started.source if self.started else self.sheet

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
        if self.stops > 1 and not self.is_running and self.batch.ended is None:
            return "left at once; the same command goes on"
        return state_of(self.batch, is_running=self.is_running)

    @property
    def can_go_on(self) -> bool:
        """Whether it was left before its end, so that its own command goes on with it, and that is known."""
        is_last = all(other.id < self.batch.id for other in self.others)
        is_left = is_last and not self.is_running and self.batch.exit_code not in COMPLETE
        return is_left and self.started is not None and (self.batch.input != self.batch.output or bool(self.counts))

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

    def forecast(self, size: int) -> str:
        """How long it may still take for so many rows, as a range; nothing where there is no ground for one."""
        carried = max(self.done - self.ended_here, 0)
        left = Forecast.of(Tally(size, done=self.done, carried=carried), self.seconds).left
        if left is None or not self.is_running or self.stops:
            return ""
        low, high = map(duration_of, left)
        return f"about {low} more" if low == high else f"about {low} to {high} more"

    @property
    def can_mend(self) -> bool:
        """Whether cells can be mended: the result file is one that can be read again, and nothing runs."""
        is_text_or_book = Path(self.batch.output).suffix.lower() in (*TEXT_ENDINGS, *WORKBOOK_ENDINGS)
        is_idle = self.is_latest and not self.is_running
        return self.started is not None and is_idle and is_text_or_book and self.has_output

    @property
    def differs(self) -> dict[int, str]:
        """Of the first rows whose result differs from the sheet, how."""
        return {number: what for pair in (self.told.differing if self.told else ()) for number, what in pair.first}

    @property
    def report(self) -> Path | None:
        """The report that was asked for, if there is one."""
        said = self.chosen.get("report")
        return Path(said) if said and Path(said).is_file() else None

    @property
    def has_output(self) -> bool:
        """Whether the result file is there."""
        return Path(self.batch.output).is_file()

    @property
    def sheet(self) -> str:
        """The sheet's file name."""
        return Path(self.batch.input).name

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """What does the same in a shell: the batch again, or a look at it; and what can be done here."""
        status = ["batch-runner", "status", self.journal_name]
        again = [("To run it", ["batch-runner", *self._again()])] if self._again() else []
        if self.is_running:
            adjust = ["batch-runner", "adjust", self.journal_name, "--concurrency", "10"]
            stop = [("To stop it, or Ctrl-C where it runs", ["kill", "-INT", str(self.batch.pid)])]
            return [("", status), *again, ("10 runs at once", adjust), *(stop if os.name == "posix" else ())]
        mended = []
        if self.can_mend and self.counts.keys() & {*FAILED}:
            name = way_to(Path(self.batch.output), Path())
            words = command_words("run", name, self.options_again(name))
            mended = [("Once its cells are mended", ["batch-runner", *words])]
        return [("", status), *again, *mended]

    @property
    def again(self) -> tuple[str, dict[str, Any]]:
        """Of what it is started once more, and with which options. Raises `UsageError` where that isn't known."""
        if self.batch.input == self.batch.output:  # what was mended stands in the result file alone
            with JournalView.open(self.journal) as view:
                return self.batch.output, self.options_again(self.batch.output, view.numbers_of(self.batch.id, None))
        return (self.started.job, {}) if self.started and self.started.job else (self.source, self.known)

    def _again(self) -> list[str]:
        return list(self.words) or (command_words("run", *self.again) if self.started else [])

    def options_again(self, path: str, numbers: Iterable[int] = ()) -> dict[str, Any]:
        """How to run some of its rows again from the result file at `path`; without numbers all that failed."""
        files = {} if self.batch.service != "local" else {"files": way_to(Path(self.batch.input).parent, Path())}
        rows = ranges_of(numbers)
        where = {"output": path, "journal": self.journal_name, **({"rows": rows} if rows else {})}
        return {**files, **for_some_rows(self.known), **where, "retry": list(FAILED), "retry_wait": "0s"}


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


class Batches:
    """The batches of a folder: those of its journals, and those that this page has started."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._children: dict[int, Child] = {}
        self._journals: dict[str, Path] = {}
        self._known: dict[tuple[object, ...], tuple[dict[str, int], tuple[Failures, ...]]] = {}
        self._asked_to_stop: Counter[tuple[Path, int]] = Counter()

    def start(self, source: str, chosen: Mapping[str, Any], journal: Path, output: str) -> int:
        """Start a batch in a session of its own, so that it outlives this page; gives its process's number."""
        words = command_words("run", source, chosen)
        printed = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the child
        python, environment = own_python()
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
        if chosen and ("retry" not in chosen or "rows" not in chosen):
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

    def nights(self, most: int = MOST_NIGHTS) -> list[KnownBatch]:
        """The last batches of all journals, the latest first."""
        self._reap()
        found = []
        for name, path in self.journals().items():
            with suppress(JournalError), JournalView.open(path) as view:
                for batch in view.batches()[-most:]:
                    is_running = view.living is not None and batch.id >= view.living and batch.ended is None
                    found.append(KnownBatch(name, path, batch, is_running))
        return sorted(found, key=lambda night: night.batch.started, reverse=True)[:most]

    def lines(self, nights: Iterable[KnownBatch]) -> list[BatchLine]:
        """The same with what they came to."""
        return [line for night in nights for line in self._line(night)]

    def _line(self, night: KnownBatch) -> Iterator[BatchLine]:
        with suppress(JournalError), JournalView.open(night.path) as view:
            batch = night.batch
            told = Told.of(view.told(batch.id))
            if told is not None and not told.counts.keys() & {*GOING, UNKNOWN, STARTING}:
                counts = told.counts  # all is settled, so nothing of it changes any more
            else:
                counts, _ = self._sums(night.path, view, batch.id, is_running=night.is_running)
            totals = told.totals if told else ()
            is_told = told is None or told.counts == counts
            yield BatchLine(night.journal, batch, counts, view.held(batch.id), totals, is_told, night.is_running)

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
        started = recall_start(path, batch.output) or started_by_job(self._folder, path, batch.input)
        counts, groups = self._sums(path, view, batch.id, is_running=is_running)
        ended = view.ended_here(batch.id)
        refused = {group for group in groups if view.is_refused(batch.id, group.numbers[0])}
        can_run = {group for group in groups if started is not None and group.status in FAILED} - refused
        others = [other for other in view.batches() if other.output == batch.output and other.id != batch.id]
        return BatchSeen(
            path,
            self.name_of(path),
            batch,
            counts,
            sum(ended.values()),
            ended.get(SUCCESS, 0),
            tuple(FailureGroup(group, group in can_run, group in refused) for group in groups),
            Told.of(view.told(batch.id)),
            is_running,
            self._asked_to_stop[path, batch.id],
            all(other.id < batch.id or other.input == batch.output for other in others),
            next((each.sha256 for each in view.outputs() if each.path == batch.output), ""),
            started,
            tuple(others[-MOST_OTHERS:]),
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

    def beginning(self, query: Mapping[str, str]) -> Beginning:
        """A batch that this page has started, before it has a place in its journal. Raises `UsageError` for others."""
        pid = query.get("pid", "")
        child = self._children.get(int(pid)) if pid.isdecimal() else None
        if child is None:
            raise UsageError("no such batch was started here")
        words, code = ["batch-runner", *child.words], child.process.poll()
        return Beginning(query.get("journal", ""), int(pid), child.said(), code, words)

    def heartbeat(self, query: Mapping[str, str]) -> bytes:
        """What a live screen compares from one second to the next."""
        seen = self.look(query)
        return msgspec.json.encode({"running": seen.is_running, "counts": seen.counts} if seen else {"running": True})

    def stop(self, query: Mapping[str, Any]) -> BatchSeen:
        """Tell the batch to stop, as Ctrl-C does: first it starts nothing more, the second time it leaves at once."""
        seen = self.look_at(query)
        if not seen.is_running:
            return seen
        child = self._children.get(seen.batch.pid)
        if not interrupt(seen.batch.pid, child.process if child else None):
            raise UsageError("this batch was not started from this page: press Ctrl-C in the window that it runs in")
        self._asked_to_stop[seen.journal, seen.batch.id] += 1
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
