"""What a journal tells a person: its nights, and one row's whole story. Looks only; a running batch isn't disturbed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from batch_runner.errors import UsageError
from batch_runner.journal import Batch, Count, Failures, JournalView, Try

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MOST_GROUPS = 20


class Night(msgspec.Struct, frozen=True):
    """One batch with what its rows came to."""

    batch: Batch
    counts: tuple[Count, ...]

    @property
    def state(self) -> str:
        """How it ended, in words."""
        if self.batch.ended is None:
            return "running, or killed"
        return f"exit {self.batch.exit_code}"


class History(msgspec.Struct, frozen=True):
    """All nights of a journal, the oldest first; `failures` are the last one's."""

    journal: str
    nights: tuple[Night, ...]
    failures: tuple[Failures, ...]

    def to_json(self) -> str:
        """One JSON object, on one line."""
        return msgspec.json.encode(self).decode()

    def to_text(self) -> str:
        """A line for each night, and what went wrong in the last one."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        last = self.nights[-1].batch
        yield f"{self.journal}: task {last.task} on {last.service}, {len(self.nights)} batches of {last.input}"
        for night in self.nights:
            counts = ", ".join(f"{count.rows} {count.status}" for count in night.counts) or "no rows yet"
            yield f"  {night.batch.id}  {night.batch.started}  {night.state}: {counts}"
        for group in self.failures:
            numbers = ", ".join(map(str, group.numbers))
            yield f"  {group.rows} × {group.status}: {group.error or '(no message)'}  [rows {numbers}]"


class Story(msgspec.Struct, frozen=True):
    """All attempts, of all nights, for one row of the last night's sheet."""

    row: int
    attempts: tuple[Try, ...]

    def to_json(self) -> str:
        """One JSON object, on one line."""
        return msgspec.json.encode(self).decode()

    def to_text(self) -> str:
        """A paragraph for each attempt."""
        return "\n".join([f"row {self.row}: {len(self.attempts)} attempts", *map(_paragraph, self.attempts)])


def history(path: Path) -> History:
    """The nights of a journal. Raises `JournalError`, and `UsageError` if it has none."""
    with JournalView.open(path) as view:
        batches = view.batches()
        if not batches:
            raise UsageError(f"{path}: no batch has begun with this journal yet")
        nights = tuple(Night(batch, view.counts(batch.id)) for batch in batches)
        return History(str(path), nights, view.failures(batches[-1].id, MOST_GROUPS))


def story(path: Path, row: int) -> Story:
    """The attempts for the row with this number in the last night's sheet. Raises as `history`."""
    with JournalView.open(path) as view:
        batches = view.batches()
        attempts = view.story(batches[-1].id, row) if batches else ()
    return Story(row, attempts)


def _paragraph(attempt: Try) -> str:
    place = f" (row {attempt.number} then)" if attempt.number is not None else ""
    lines = [f"  batch {attempt.batch}{place}: {attempt.status}, sent {attempt.posts} times"]
    lines.append(
        f"    intended {attempt.intended_at}, started {attempt.started_at or '–'}, ended {attempt.ended_at or '–'}"
    )
    if attempt.run_id:
        lines.append(f"    run {attempt.run_id}")
    lines += [f"    {name}: {text}" for name, text in (("error", attempt.error), ("result", attempt.result)) if text]
    return "\n".join(lines)
