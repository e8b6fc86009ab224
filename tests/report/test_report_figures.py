"""What a report is made of: the course of a night, run times, places, and the verdict."""

from __future__ import annotations

import math
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from journals import batch_info, entries, run_row
from test_summary import summary

from batch_runner.errors import ExitCode
from batch_runner.journal.journal import Journal
from batch_runner.journal.view import BatchRecord, Count, Failures, Span
from batch_runner.report.html import Link, Places
from batch_runner.report.stats import (
    MOST_BINS,
    MOST_ROWS,
    MOST_SLOWEST,
    RunTimes,
    Timeline,
    gather_stats,
    headline_of,
    moment_of,
)
from batch_runner.report.totals import Differing

if TYPE_CHECKING:
    from collections.abc import Callable

BEGAN = datetime(2026, 11, 25, 2, 15, tzinfo=UTC)


def recorded(seconds: float) -> str:
    """A time so long after the batch began, as the journal has it."""
    return (BEGAN + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def batch(**changes: object) -> BatchRecord:
    plain: dict[str, object] = {
        "id": 1,
        "started": recorded(0),
        "ended": recorded(60),
        "exit_code": 0,
        "input": "/in.csv",
        "output": "/in.results.csv",
        "task": "invoice",
        "service": "local",
        "version": "0.1.0",
        "pid": 1,
    }
    return BatchRecord(**{**plain, **changes})  # type: ignore[arg-type]


@given(st.floats(10**6, 2**31), st.floats(0, 10**9))
def test_bins_cover_the_night_and_are_few(begin: float, seconds: float) -> None:
    """Both ends have a bin, and there are never many."""
    timeline = Timeline(begin, begin + seconds)
    assert timeline.at(begin) is timeline.bins[0]
    assert timeline.at(begin + seconds) is timeline.bins[-1]
    assert 1 <= len(timeline.bins) <= MOST_BINS + 2
    assert timeline.at(begin - timeline.width * 1.01) is None


def test_bins_are_round_in_local_time(in_zone: Callable[[str], None]) -> None:
    """Also where the zone is not whole hours from UTC, and in the night in which the clocks change."""
    for zone in ("Asia/Kathmandu", "Europe/Berlin", "America/New_York"):
        in_zone(zone)
        begin = datetime(2026, 10, 25, 0, 10, tzinfo=UTC).timestamp()
        timeline = Timeline(begin, begin + 6 * 3600)
        edges = [timeline.edge(place) for place in range(len(timeline.bins))]
        assert timeline.width == 600
        assert {edge.minute % 10 for edge in edges} == {0}
        assert edges == sorted(edges)


@given(st.lists(st.integers(0, 10**8), min_size=1, max_size=300))
def test_run_times_are_those_of_all_runs(milliseconds: list[int]) -> None:
    """Percentiles by nearest rank, exact to four digits; the slowest exact, equal ones from the top of the sheet."""
    times = RunTimes()
    for number, taken in enumerate(milliseconds, 2):
        times.add(number, taken)
    ordered = sorted(milliseconds)
    for percent in (50, 95, 100):
        exact = ordered[math.ceil(len(ordered) * percent / 100) - 1] / 1000
        assert times.percentile(percent) == pytest.approx(exact, rel=0.0006)
    slowest = sorted(enumerate(milliseconds, 2), key=lambda found: (-found[1], found[0]))[:MOST_SLOWEST]
    assert [(slow.number, slow.milliseconds) for slow in times.slowest] == slowest


def test_a_million_runs_take_no_more_room_than_there_are_digits() -> None:
    """What is kept are numbers of four digits, not runs."""
    times = RunTimes()
    for number in range(200_000):
        times.add(number, number * 977 % 3_600_000)
    assert times.runs == 200_000
    assert len(times._counted) < 40_000


def test_the_course_counts_each_start_and_end_once() -> None:
    """Runs of this batch start and end in it; an earlier one's run only ends in it; a carried row does neither."""
    spans = [
        Span(2, "success", "", True, recorded(1), recorded(11)),
        Span(3, "failure", "no", True, recorded(2), recorded(42)),
        Span(4, "success", "", False, recorded(-3600), recorded(5)),
        Span(5, "success", "", False, recorded(-7200), recorded(-7000)),
        Span(6, "running", "", True, recorded(3), None),
        Span(7, "error", "refused", True, None, recorded(4)),
        Span(8, "not_started", "", False, None, None),
    ]
    groups = (Failures("failure", "no", 1, (3,)), Failures("error", "refused", 1, (7,)))
    course = gather_stats(batch(), spans, groups, moment_of(recorded(60)))
    assert sum(found.starts for found in course.timeline.bins) == 3
    assert sum(found.succeeded for found in course.timeline.bins) == 2
    assert sum(found.failed for found in course.timeline.bins) == 1
    assert course.times.runs == 2
    assert [slow.milliseconds for slow in course.times.slowest] == [40_000, 10_000]
    assert course.rows == ((3,), (7,))


@pytest.mark.long
def test_a_group_names_its_first_rows_only() -> None:
    """Whatever the number of rows that failed alike, the page stays small."""
    spans = (Span(number, "failure", "no", True, recorded(1), recorded(2)) for number in range(2, 50_002))
    course = gather_stats(batch(), spans, (Failures("failure", "no", 50_000, ()),), moment_of(recorded(60)))
    assert course.rows == (tuple(range(2, 2 + MOST_ROWS)),)


@pytest.mark.anyio
async def test_the_journal_tells_when_runs_began_and_ended() -> None:
    """Rows in order of number, those without a run included."""
    async with Journal.in_memory(batch_info()) as journal:
        plans = await journal.register(entries(["a", "b", "c"]))
        await run_row(journal, plans[1], "run-b", "failure")
        await run_row(journal, plans[0], "run-a")
        spans = list(journal.spans())
        recorded_batch = journal.recorded()
    assert [(span.number, span.status, span.error, span.here) for span in spans] == [
        (2, "success", "", True),
        (3, "failure", "no", True),
        (4, "not_started", "", False),
    ]
    assert [span.started is not None and span.ended is not None for span in spans] == [True, True, False]
    assert (recorded_batch.id, recorded_batch.task) == (1, "invoice")


def test_links_lead_to_the_row() -> None:
    """In a workbook to the sheet's cell, in a text file to its record (RFC 7111), elsewhere nowhere."""
    report = Path("/srv/reports/tonight.html")
    book = Places(Path("/srv/out/in results.xlsx"), report, "Nov's sheet")
    assert book.file == Link("in results.xlsx", "../out/in%20results.xlsx")
    assert book.row(17) == Link("A17", "../out/in%20results.xlsx#'Nov''s%20sheet'!A17")
    assert Places(Path("/srv/reports/a.csv"), report, None).row(17) == Link("17", "a.csv#row=17")
    assert Places(Path("/srv/reports/a.jsonl"), report, None).row(17) == Link("17", None)


NO_LETTERS = "/\0\\:" if sys.platform == "win32" else "/\0"
"""What no name of a file holds."""


@given(st.text(st.characters(blacklist_characters=NO_LETTERS, blacklist_categories=["Cs"]), min_size=1), st.text())
def test_no_name_makes_a_link_lead_out(name: str, sheet: str) -> None:
    """Whatever a file or a sheet is called, the link is a relative path that unquotes to it."""
    place = Places(Path("/out") / f"{name}.xlsx", Path("/out/r.html"), sheet)
    assert place.file.href is not None
    parts = urlsplit(place.row(2).href)
    assert (parts.scheme, parts.netloc, parts.query) == ("", "", "")
    assert unquote(str(parts.path)) == f"{name}.xlsx"
    assert not set('<>"& ') & set(str(place.row(2).href))


@pytest.mark.parametrize(
    ("changes", "mood", "sentence"),
    [
        ({}, "good", "All 3 rows succeeded"),
        ({"rows": 1, "counts": (Count("success", 1),)}, "good", "The one row succeeded"),
        ({"carried": 3}, "good", "Nothing new: all 3 rows had succeeded before"),
        ({"rows": 0, "counts": ()}, "good", "Nothing to do: no row takes part"),
        (
            {"carried": 3, "differing": (Differing("Net", "result.net", 3, 1, ((2, "Net 1 in the sheet, 2"),)),)},
            "caution",
            "All 3 rows succeeded, but results differ from the sheet",
        ),
        ({"differing": (Differing("Net", "result.net", 3, 0, ()),)}, "good", "All 3 rows succeeded"),
        ({"carried": 3, "changed": 1}, "caution", "All 3 rows succeeded, but 1 row edited since"),
        (
            {"exit_code": 3, "counts": (Count("success", 1), Count("failure", 2))},
            "bad",
            "2 of 3 rows did not succeed",
        ),
        ({"exit_code": 3, "counts": (Count("failure", 3),)}, "bad", "None of the 3 rows succeeded"),
        (
            {"exit_code": 4, "counts": (Count("success", 1), Count("unknown", 2))},
            "bad",
            "2 rows unknown: a person must look",
        ),
        (
            {"exit_code": 5, "counts": (Count("success", 1), Count("not_started", 2)), "stopped": "the key is wrong"},
            "caution",
            "Stopped early: 2 of 3 rows not started",
        ),
        ({"exit_code": 130, "stopped": "interrupted; the same command goes on from here"}, "caution", "Stopped early"),
    ],
)
def test_the_verdict_is_one_sentence(changes: dict[str, object], mood: str, sentence: str) -> None:
    """For each way in which a night can end."""
    found = headline_of(summary(**changes))
    assert (found.mood, found.sentence) == (mood, sentence)
    assert bool(found.advice) == (mood != "good")


def test_a_stop_says_that_the_same_command_goes_on() -> None:
    """Once, and what is unknown comes with it."""
    counts = (Count("unknown", 1), Count("not_started", 2))
    told = headline_of(summary(exit_code=ExitCode.STOPPED, counts=counts, stopped="the failure limit is reached"))
    assert told.advice.startswith("The failure limit is reached. The same command goes on from here.")
    assert "1 row unknown" in told.advice
    again = headline_of(
        summary(exit_code=5, stopped="the deadline was reached; the same command goes on with the rest")
    )
    assert again.advice == "The deadline was reached; the same command goes on with the rest."
