"""What is done beside running batches: their concurrency is changed by a file beside the journal, their outputs are
refreshed.

`adjust` writes `NAME-adjust`, the batch looks for it every half second, takes it up and removes it. The file is its
owner's alone, and names the process and the batch that it is for: what was left for one that is gone changes nothing.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import msgspec

from batch_runner import log
from batch_runner.errors import UsageError
from batch_runner.fs import is_lock_there, read_private, write_private
from batch_runner.job.validation import OUTPUT_ENDINGS
from batch_runner.journal.view import JournalView
from batch_runner.runner.memory import journals_of_job

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from datetime import date

    from batch_runner.batch.pool import SheetBatch
    from batch_runner.journal.view import BatchRecord


LOOK = 0.5
"""Seconds between two looks of a running batch."""
PATIENCE = 10.0
"""Seconds until a batch that has not taken a change up is taken for one that won't."""
LARGEST = 1000
"""Bytes that such a file has at most."""


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


class RefreshEnded(Exception):  # noqa: N818  it is no mistake: the batch is ending, and writes its output itself
    """The batch has no more use for a refresh."""


class Refresher:
    """Has the outputs of running batches written anew now and then, one at a time, until each batch ends.

    `write` is given a batch, and what to call again and again on the way: that raises `RefreshEnded` once the batch
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
        self._writing = anyio.Lock()

    def add(self, batch: SheetBatch) -> None:
        """Refresh this batch's output from now on."""
        self._open[batch] = None

    async def let_go(self, batch: SheetBatch) -> None:
        """Write this batch's output no more; returns when nothing of it is being written."""
        self._open.pop(batch, None)
        async with self._writing:
            pass

    async def drive(self) -> None:
        """Refresh them until cancelled: each minute, or as seldom as the time that the last turn took allows."""
        spent = 0.0
        while True:
            expected = SECONDS_A_ROW * sum(batch.source.total for batch in self._open)
            await anyio.sleep(max(REFRESH_EVERY, (spent or expected) * (1 / REFRESH_SHARE - 1)))
            began = anyio.current_time()
            for batch in list(self._open):
                async with self._writing:
                    if batch in self._open and not self._is_stopping():
                        await self._refresh(batch)
            spent = anyio.current_time() - began

    async def _refresh(self, batch: SheetBatch) -> None:
        def look() -> None:
            if batch not in self._open or self._is_stopping():
                raise RefreshEnded

        try:
            await self._write(batch, look)
        except RefreshEnded:
            log.debug("the refresh of an output was left off: the batch ends")


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
