"""The course of a batch: one pass over its rows gathers what the page shows of times and failures."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import msgspec

from batch_runner.report.runtimes import RunTimes
from batch_runner.report.timeline import Timeline

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_runner.journal import Batch, Failures, Span

MOST_ROWS = 24
"""Rows that are named of each group of failures."""


class Course(msgspec.Struct, frozen=True):
    """What happened when, how long runs took, and the first rows of each of the groups of failures."""

    timeline: Timeline
    times: RunTimes
    rows: tuple[tuple[int, ...], ...]


def course_of(batch: Batch, spans: Iterable[Span], groups: tuple[Failures, ...], now: float) -> Course:
    """Follow the rows of a batch, which has lasted until `now` (seconds since 1970)."""
    timeline, times = Timeline(moment_of(batch.started), now), RunTimes()
    rows: dict[tuple[str, str], list[int]] = {(group.status, group.error): [] for group in groups}
    for span in spans:
        failed = rows.get((span.status, span.error))
        if failed is not None and len(failed) < MOST_ROWS:
            failed.append(span.number)
        _note(span, timeline, times)
    return Course(timeline, times, tuple(tuple(rows[group.status, group.error]) for group in groups))


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
