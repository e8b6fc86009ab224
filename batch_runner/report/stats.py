"""The figures of a report: times, failures, run times, and its headline."""

from __future__ import annotations

import heapq
from collections import Counter
from datetime import datetime
from math import floor
from typing import TYPE_CHECKING

import msgspec

from batch_runner.errors import ExitCode
from batch_runner.report.summary import number_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from batch_runner.journal.view import BatchRecord, Failures, Span
    from batch_runner.report.summary import Summary


MOST_SLOWEST = 10
_DIGITS = 4


class Slow(msgspec.Struct, frozen=True, order=True):
    """A row whose run took long."""

    milliseconds: int
    number: int


class RunTimes:
    """Run times, counted as they come."""

    def __init__(self) -> None:
        self._counted: Counter[int] = Counter()
        self._slowest: list[Slow] = []

    def add(self, number: int, milliseconds: int) -> None:
        """Count the run of a row."""
        # Counted to as many digits as are shown: their order stays as it is, and they are few.
        excess = len(str(milliseconds)) - _DIGITS
        self._counted[milliseconds if excess <= 0 else round(milliseconds, -excess)] += 1
        slow = Slow(milliseconds, -number)
        if len(self._slowest) < MOST_SLOWEST:
            heapq.heappush(self._slowest, slow)
        else:
            heapq.heappushpop(self._slowest, slow)

    @property
    def runs(self) -> int:
        """How many were counted."""
        return self._counted.total()

    @property
    def slowest(self) -> tuple[Slow, ...]:
        """The slowest rows, the slowest first; of equal ones the upper row."""
        return tuple(Slow(slow.milliseconds, -slow.number) for slow in sorted(self._slowest, reverse=True))

    def percentile(self, percent: int) -> float:
        """The time, in seconds, that so many of a hundred runs did not exceed (nearest rank), to four digits."""
        rank = -(-self.runs * percent // 100)
        for milliseconds in sorted(self._counted):
            rank -= self._counted[milliseconds]
            if rank <= 0:
                return milliseconds / 1000
        raise ValueError("no runs were counted")


MOST_BINS = 60
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400
_WIDTHS = (
    *(0.1, 0.2, 0.5),
    *(1, 2, 5, 10, 15, 30),
    *(minutes * _MINUTE for minutes in (1, 2, 5, 10, 15, 30)),
    *(hours * _HOUR for hours in (1, 2, 3, 6, 12)),
    *(days * _DAY for days in (1, 2, 7, 14, 28, 91, 364, 3640)),
)


class Bin(msgspec.Struct):
    """What happened in one span of time: runs that started, that ended well, that ended otherwise."""

    starts: int = 0
    succeeded: int = 0
    failed: int = 0

    @property
    def ends(self) -> int:
        """All runs that ended."""
        return self.succeeded + self.failed


class Timeline:
    """The bins of a batch from `begin` to `end` (seconds since 1970), few enough to be seen, on round local times."""

    def __init__(self, begin: float, end: float) -> None:
        end = max(begin, end)
        self.width = next((width for width in _WIDTHS if (end - begin) / width <= MOST_BINS), _WIDTHS[-1])
        offset = local(begin).utcoffset()
        seconds = offset.total_seconds() if offset is not None else 0.0
        self.begin = floor((begin + seconds) / self.width) * self.width - seconds
        self.bins = [Bin() for _ in range(floor((end - self.begin) / self.width) + 1)]

    def at(self, moment: float) -> Bin | None:
        """The bin of a moment; None for one that is not in the batch's time."""
        place = floor((moment - self.begin) / self.width)
        return self.bins[place] if 0 <= place < len(self.bins) else None

    def edge(self, place: int) -> datetime:
        """When a bin begins, in local time."""
        return local(self.begin + place * self.width)


def local(moment: float) -> datetime:
    """A moment in this computer's time zone."""
    return datetime.fromtimestamp(moment).astimezone()


MOST_ROWS = 24
"""Rows that are named of each group of failures."""


class BatchStats(msgspec.Struct, frozen=True):
    """What happened when, how long runs took, and the first rows of each of the groups of failures."""

    timeline: Timeline
    times: RunTimes
    rows: tuple[tuple[int, ...], ...]


def gather_stats(batch: BatchRecord, spans: Iterable[Span], groups: tuple[Failures, ...], now: float) -> BatchStats:
    """Follow the rows of a batch, which has lasted until `now` (seconds since 1970)."""
    timeline, times = Timeline(moment_of(batch.started), now), RunTimes()
    rows: dict[tuple[str, str], list[int]] = {(group.status, group.error): [] for group in groups}
    for span in spans:
        failed = rows.get((span.status, span.error))
        if failed is not None and len(failed) < MOST_ROWS:
            failed.append(span.number)
        _note(span, timeline, times)
    return BatchStats(timeline, times, tuple(tuple(rows[group.status, group.error]) for group in groups))


def _note(span: Span, timeline: Timeline, times: RunTimes) -> None:
    """Put a run's start and end in their places; the run of an earlier batch may have ended in this one."""
    if span.started is None:
        return
    started = moment_of(span.started)
    if span.here and (start := timeline.at(started)) is not None:
        start.starts += 1
    if span.ended is None:
        return
    ended = moment_of(span.ended)
    if (end := timeline.at(ended)) is not None:
        end.succeeded += span.status == "success"
        end.failed += span.status != "success"
    if span.here:
        times.add(span.number, max(round((ended - started) * 1000), 0))


def moment_of(text: str) -> float:
    """Seconds since 1970 of a time as recorded."""
    return datetime.fromisoformat(text).timestamp()


GOOD, BAD, CAUTION = "good", "bad", "caution"
_MARKS = {GOOD: "✓", BAD: "✗", CAUTION: "!"}


class Headline(msgspec.Struct, frozen=True):
    """`mood` is good, bad or caution; `sentence` says why, `advice` the next step ("" for none)."""

    mood: str
    sentence: str
    advice: str = ""

    @property
    def mark(self) -> str:
        """A sign for the mood."""
        return _MARKS[self.mood]


def headline_of(summary: Summary) -> Headline:
    """What to say of a batch first."""
    if any(found.difference for column in summary.totals for found in column.sums):
        return Headline(
            BAD,
            "The control totals do not add up",
            "This is a bug of ours: compare the output with the sheet before you rely on it, and report it, please.",
        )
    if summary.stopped is not None or summary.exit_code in (ExitCode.INTERRUPTED, ExitCode.TERMINATED):
        return _stopped(summary)
    if summary.exit_code == ExitCode.SOME_UNKNOWN:
        return _unknown(summary)
    if summary.exit_code != ExitCode.OK:
        return _failed(summary)
    if summary.changed:
        return _edited(summary)
    return _differing(summary) if any(pair.rows for pair in summary.differing) else Headline(GOOD, _good(summary))


def headline_of_night(sheets: Sequence[Headline], rows: int, success: int, not_run: int) -> Headline:
    """What to say first of a night of several sheets: it is as bad as its worst one."""
    moods = {headline.mood for headline in sheets} | ({CAUTION} if not_run else set())
    mood = next((mood for mood in (BAD, CAUTION) if mood in moods), GOOD)
    told = f"{rows - success:,} of {rows:,} rows did not succeed" if success < rows else f"{_all(rows)} succeeded"
    left = f"; {number_of(not_run, 'sheet')} not run" if not_run else ""
    advice = "" if mood == GOOD else "Each sheet below says what to do. Look at those marked ✗ or ! first."
    return Headline(mood, f"{number_of(len(sheets) + not_run, 'sheet')}: {told}{left}", advice)


def _good(summary: Summary) -> str:
    if not summary.rows:
        return "Nothing to do: no row takes part"
    if summary.carried == summary.rows:
        return f"Nothing new: {_all(summary.rows)} had succeeded before"
    return f"{_all(summary.rows).capitalize()} succeeded"


def _edited(summary: Summary) -> Headline:
    """All is well with what ran; but that isn't what now stands in the sheet."""
    rows = "1 row" if summary.changed == 1 else f"{summary.changed:,} rows"
    return Headline(
        CAUTION,
        f"{_all(summary.rows).capitalize()} succeeded, but {rows} edited since",
        "What ran is what stood in the sheet before, an amount too; --retry changed runs these rows again.",
    )


def _differing(summary: Summary) -> Headline:
    """All is well with the runs; but a result says something else than the sheet."""
    return Headline(
        CAUTION,
        f"{_all(summary.rows).capitalize()} succeeded, but results differ from the sheet",
        "The rows are named below, with what the sheet says and what came back: find out which of the two is right.",
    )


def _all(rows: int) -> str:
    return "the one row" if rows == 1 else f"all {rows:,} rows"


def _failed(summary: Summary) -> Headline:
    odd = summary.rows - summary.count("success")
    if odd == summary.rows:
        sentence = "The one row did not succeed" if odd == 1 else f"None of the {odd:,} rows succeeded"
    else:
        sentence = f"{odd:,} of {summary.rows:,} rows did not succeed"
    return Headline(
        BAD,
        sentence,
        "Look at the failures below and fix what is wrong. The same command starts rows whose cells were refused; with "
        "--retry failure it also starts failed rows again.",
    )


def _unknown(summary: Summary) -> Headline:
    rows = summary.count("unknown")
    if summary.service == "local":
        why = f"Of an unknown row, {summary.lost}. Look where that would show"
        verdicts = "success|failure"  # it has a run, so it isn't one that never started
    else:
        why = f"A start was sent and its answer lost, so {summary.lost}. Look in the service"
        verdicts = "success|failure|not_started"
    return Headline(
        BAD,
        f"{number_of(rows, 'row')} unknown: a person must look",
        f"{why}, and say what you found: {summary.resolving} --row N --as {verdicts} --note …",
    )


def _stopped(summary: Summary) -> Headline:
    left = summary.count("not_started")
    unsure = summary.count("unknown")
    looking = (
        f" {number_of(unsure, 'row')} unknown: look whether the work was done before anything else." if unsure else ""
    )
    why = (summary.stopped or "interrupted").rstrip(".")
    going_on = "" if "the same command" in why else " The same command goes on from here."
    return Headline(
        CAUTION,
        f"Stopped early: {left:,} of {summary.rows:,} rows not started" if left else "Stopped early",
        f"{why[:1].upper()}{why[1:]}.{going_on}{looking}",
    )


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


def state_of(batch: BatchRecord, *, is_running: bool) -> str:
    """How a batch ended, in words."""
    if is_running:
        return "running"
    if batch.ended is None or batch.exit_code is None:
        return "cut off (killed, or a power cut); the same command goes on"
    return ENDS.get(ExitCode(batch.exit_code), f"exit code {batch.exit_code}")
