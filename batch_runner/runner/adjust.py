"""What is done beside batches: the plan is told, outputs are refreshed, it is counted where a whole sheet stands, and
the concurrency is changed by a file beside the journal.

`adjust` writes `NAME-adjust`, the batch looks for it every half second, takes it up and removes it. The file is its
owner's alone, and names the process and the batch that it is for: what was left for one that is gone changes nothing.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections import Counter, defaultdict
from contextlib import contextmanager
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import msgspec

from batch_runner import log
from batch_runner.errors import BatchRunnerError, SheetError, UsageError
from batch_runner.fs import is_lock_there, read_private, write_private
from batch_runner.job.validation import OUTPUT_ENDINGS
from batch_runner.journal.index import Purpose
from batch_runner.journal.view import JournalView
from batch_runner.report.totals import Told, control_totals, differing
from batch_runner.runner.check import open_source
from batch_runner.runner.memory import info_of, journals_of_job, outcomes_now

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from datetime import date

    from batch_runner.batch.pool import SheetBatch
    from batch_runner.job.job import Job
    from batch_runner.journal.view import BatchRecord


LOOK = 0.5
"""Seconds between two looks of a running batch."""
PATIENCE = 10.0
"""Seconds until a batch that has not taken a change up is taken for one that won't."""
LARGEST = 1000
"""Bytes that such a file has at most."""
MOST_STANDINGS = 20


class Adjustment(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is asked of a batch. `pid` and `batch` are as its journal records them."""

    pid: int
    batch: int
    concurrency: int


class AdjustmentInbox:
    """The files beside the journals of this process's batches."""

    def __init__(self) -> None:
        self._batches: defaultdict[Path, set[int]] = defaultdict(set)
        self.has_any = anyio.Event()

    def watch(self, journal: Path, batch: int) -> None:
        """Take up what is asked of this batch."""
        self._batches[journal].add(batch)
        self.has_any.set()

    def take(self) -> Iterator[int]:
        """Each concurrency that was asked for since the last look; its file is removed when the next is asked for.

        What is for another batch is removed, too: this one holds the journal, so nobody will ever take it up.
        """
        for journal, batches in self._batches.items():
            path = _place(journal)
            found = read_private(path, LARGEST)
            if found is None:
                continue
            try:
                asked = msgspec.json.decode(found, type=Adjustment)
            except (msgspec.DecodeError, UnicodeDecodeError):
                asked = None
            if asked is not None and asked.pid == os.getpid() and asked.batch in batches and asked.concurrency > 0:
                yield asked.concurrency
            path.unlink(missing_ok=True)


REFRESH_EVERY = 60.0
"""Seconds between two refreshes of the outputs at least."""
REFRESH_SHARE = 0.05
"""Of a batch's time, what refreshes may take at most."""
SECONDS_A_ROW = 0.0002
"""What the first refresh is taken to need, before one has been measured: few rows are slower to write."""


class BatchEnding(Exception):  # noqa: N818  it is no mistake
    """A batch has no more use for what is done beside it."""


class Refresher:
    """Has the outputs of running batches written anew now and then, one at a time, until each batch ends.

    `write` is given a batch, and what to call again and again on the way: that raises `BatchEnding` once the batch
    ends, or `is_stopping`.
    """

    def __init__(
        self,
        write: Callable[[SheetBatch, Callable[[], None]], Awaitable[None]],
        is_stopping: Callable[[], bool],
    ) -> None:
        self._write = write
        self._is_stopping = is_stopping
        self._open: dict[SheetBatch, None] = {}
        self._has_any = anyio.Event()
        self._writing: dict[SheetBatch, anyio.Event] = {}
        """The batch whose output is being written, and what will be set when that has ended."""

    def add(self, batch: SheetBatch) -> None:
        """Refresh this batch's output from now on."""
        self._open[batch] = None
        self._has_any.set()

    async def let_go(self, batch: SheetBatch) -> None:
        """Write this batch's output no more; returns when nothing of it is being written."""
        self._open.pop(batch, None)
        if batch in self._writing:
            await self._writing[batch].wait()

    async def drive(self) -> None:
        """Refresh them until cancelled: each minute, or as seldom as the time that the last turn took allows."""
        spent = 0.0
        await self._has_any.wait()
        while True:
            expected = SECONDS_A_ROW * sum(batch.source.total for batch in self._open)
            await anyio.sleep(max(REFRESH_EVERY, (spent or expected) * (1 / REFRESH_SHARE - 1)))
            began = anyio.current_time()
            for batch in list(self._open):
                if batch in self._open and not self._is_stopping():
                    await self._refresh(batch)
            spent = anyio.current_time() - began

    async def _refresh(self, batch: SheetBatch) -> None:
        def look() -> None:
            if batch not in self._open or self._is_stopping():
                raise BatchEnding

        self._writing[batch] = anyio.Event()
        try:
            await self._write(batch, look)
        except BatchEnding:
            log.debug("the refresh of an output was left off: the batch ends")
        finally:
            self._writing.pop(batch).set()


FIRST_SECOND = 1.0
"""So long do the first starts wait for the plan."""
POLITENESS = 3.0
"""Later it waits so many times as long as it works: threads of Python take turns, and runs come first."""


@contextmanager
def told_ahead(
    what: str,
    count: Callable[[Callable[[], None], Callable[[], None]], Awaitable[None]],
    tell: Callable[[str], None],
    is_stopping: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """Have `count` find out and tell the plan, in a thread of its own; the block begins then, or after a second.

    It is given what to call when the block may begin, and what to call again and again on the way: that waits, so that
    the block has the processor, and raises when the block has ended, or is to end soon.
    """
    is_ready, is_told, is_over = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        began = last = time.monotonic()
        is_slow = False

        def look() -> None:
            nonlocal last, is_slow
            if is_stopping() or (is_late.is_set() and is_over.wait(POLITENESS * (time.monotonic() - last))):
                raise BatchEnding
            last = time.monotonic()
            if last - began > 2 * FIRST_SECOND and not is_slow:
                is_slow = True
                tell(f"{what}: still counting what there is to do; what is certain begins meanwhile")

        try:
            anyio.run(count, is_ready.set, look)
        except Exception as error:  # noqa: BLE001  what is wrong stops the batch itself, which says so
            log.debug("the plan could not be told", why=type(error).__name__)
        finally:
            is_ready.set()
            is_told.set()

    is_late = threading.Event()
    thread = threading.Thread(target=copy_context().run, args=(work,), name="plan", daemon=True)
    thread.start()
    is_ready.wait()
    if not is_told.wait(FIRST_SECOND):
        is_late.set()
    try:
        yield
    finally:
        is_over.set()
        thread.join(FIRST_SECOND)  # it may be reading a large sheet: nobody waits for that at the end


class Standing(msgspec.Struct, frozen=True):
    """Where all rows of a sheet stand now: None where that isn't known, or not yet, since it is being counted."""

    now: Told | None = None
    is_counting: bool = False


class Standings:
    """Where whole sheets stand by what their journals know now, not as one of their batches has ended.

    Each is counted once, in a thread of its own, for as long as nothing is written to its journal or to the sheet.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], tuple[threading.Event, list[Told]]] = {}
        self._lock = threading.Lock()

    def look(self, journal: Path, batch: BatchRecord, job: Job) -> Standing:
        """Where the sheet of this job stands; `batch` is one that ran with the journal, for the same task."""
        if is_lock_there(journal):  # what is being written would have to be counted again and again
            return Standing()
        files = (journal, journal.with_name(f"{journal.name}-wal"), job.input_path)
        key = tuple((str(f), f.stat().st_mtime_ns, f.stat().st_size) for f in files if f.exists())
        with self._lock:
            if key not in self._known:
                self._known = dict([*self._known.items()][-MOST_STANDINGS:])
                self._known[key] = (threading.Event(), [])
                work = (journal, batch, job, *self._known[key])
                threading.Thread(target=self._count, args=work, daemon=True).start()
            is_counted, found = self._known[key]
        is_counted.wait(FIRST_SECOND)
        return Standing(found[0] if found else None, not is_counted.is_set())

    def _count(
        self, journal: Path, batch: BatchRecord, job: Job, is_counted: threading.Event, found: list[Told]
    ) -> None:
        try:
            found.append(stand_now(journal, batch, job))
        except (BatchRunnerError, SheetError, OSError) as error:
            log.debug("where the sheet stands isn't known", why=str(error))
        finally:
            is_counted.set()


def stand_now(journal: Path, batch: BatchRecord, job: Job) -> Told:
    """Where all rows of a job's sheet stand by what the journal, which is only read, knows now. Raises as a batch."""
    purpose = Purpose.of(batch.task, batch.service, journal.resolve().parent)
    with open_source(job, None, None, purpose, Path(tempfile.gettempdir())) as (source, _):
        info = info_of(job, source, None, str(job.input_path.absolute()))
        info = msgspec.structs.replace(info, task=batch.task, service=batch.service)
        with outcomes_now(journal, 0, source, info, None, lambda: None) as now:
            counts = Counter(placed.status for placed in now.rows())
            return Told(dict(counts), control_totals(source, now.rows()), differing(source, now.rows()))


def adjust(source: Path, concurrency: int, day: date) -> str:
    """Change the concurrency of the batch that runs with a journal; returns a sentence when it has taken it up.

    `source` is the journal, or the sheet, output or job of the batch. Raises `UsageError` where none runs, and
    `JournalError` where there is no journal.
    """
    journal, batch = _running(source, day)
    path = _place(journal)
    try:
        write_private(path, msgspec.json.encode(Adjustment(batch.pid, batch.id, concurrency)))
    except OSError as error:
        raise UsageError(
            f"{path}: it can't be written: {error.strerror}; run this as the user who runs the batch"
        ) from None
    until = time.monotonic() + PATIENCE
    while path.exists():
        if time.monotonic() > until:
            path.unlink(missing_ok=True)
            raise UsageError(f"{journal}: the running batch takes no change up: it is ending, or is another user's")
        time.sleep(LOOK / 10)
    return f"{journal}: the batch over {batch.input} has now up to {concurrency} runs in flight"


def _place(journal: Path) -> Path:
    return journal.with_name(f"{journal.name}-adjust")


def _running(source: Path, day: date) -> tuple[Path, BatchRecord]:
    """The journal of the batch that `source` stands for, and what is recorded of it, if it runs just now."""
    is_sheet = source.suffix.lower() in OUTPUT_ENDINGS
    for path in _journals(source, day):
        with JournalView.open(path) as view:
            first = next((batch for batch in view.batches() if batch.id == view.living), None)
            running = [batch for batch in view.batches() if first and batch.id >= first.id and batch.pid == first.pid]
        if is_sheet:
            here = source.resolve()
            running = [one for one in running if here in (Path(one.input).resolve(), Path(one.output).resolve())]
        if running:
            return path.resolve(), running[0]
    elsewhere = "; if its journal lies in another folder, name that" if is_sheet else ""
    raise UsageError(f"{source}: no batch is running with it{elsewhere}")


def _journals(source: Path, day: date) -> list[Path]:
    """The journals that may be meant: those of a job tonight, those beside a sheet that somebody holds, or itself."""
    if source.suffix.lower() == ".toml":
        return journals_of_job(source, day)
    if source.suffix.lower() in OUTPUT_ENDINGS:
        return [path for path in sorted(source.parent.glob("*.db")) if is_lock_there(path)]
    return [source]
