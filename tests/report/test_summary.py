"""What a batch came to: for a person, for a program, and as an exit code."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_runner.errors import ExitCode
from batch_runner.journal.changes import HeldRows
from batch_runner.journal.view import Count, Failures
from batch_runner.outcomes import STATUSES
from batch_runner.report.summary import NamedRows, Summary, exit_code_for, sorted_counts


def summary(**changes: Any) -> Summary:
    """A batch of three rows that went well."""
    plain: dict[str, Any] = {
        "exit_code": 0,
        "input": "in.csv",
        "output": "in.results.csv",
        "journal": "in.journal.db",
        "rows": 3,
        "counts": (Count("success", 3),),
        "carried": 0,
        "changed": 0,
        "failures": (),
        "more_failures": 0,
        "stopped": None,
        "notes": (),
        "seconds": 1.25,
    }
    return Summary(**{**plain, **changes})


def test_a_good_night_is_two_lines() -> None:
    """Counts, the time, and where the output is: nothing else when nothing else is to be said."""
    assert summary().to_text() == "in.csv: 3 rows in 1.2 s: 3 success\n  output: in.results.csv"


def test_all_that_can_be_said() -> None:
    """Rows carried over, failures by their message with row numbers, why it stopped, what to look at, notes."""
    text = summary(
        rows=40,
        counts=(Count("success", 1), Count("failure", 30), Count("error", 1), Count("unknown", 1)),
        carried=5,
        changed=2,
        failures=(Failures("failure", "no such invoice", 30, (2, 3, 4, 5, 6)), Failures("error", "", 1, (9,))),
        more_failures=1,
        stopped="the deadline was reached",
        notes=("a note",),
        seconds=3725,
    ).to_text()
    assert text.splitlines() == [
        "in.csv: 40 rows in 1 h 2 min: 1 success, 30 failure, 1 error, 1 unknown",
        "  5 carried over from an earlier batch, 2 of them edited since they ran (--retry changed runs them again)",
        "  30 × failure: no such invoice  [rows 2, 3, 4, 5, 6, …]",
        "  1 × error: (no message)  [row 9]",
        "  and 1 row more that did not succeed",
        "  stopped early: the deadline was reached",
        "  unknown: a run may exist, or have done its work: look before you say --retry unknown",
        "    what you find is said so: batch-runner resolve in.journal.db --input in.csv --row N --as success --note …",
        "  note: a note",
        "  output: in.results.csv",
    ]


def test_a_message_of_many_lines_is_one() -> None:
    """A service's message, however long and however many lines, takes one line of the summary; JSON has it whole."""
    failures = (Failures("failure", "first\n  second\r\n" + "x" * 5000 + "; do this next", 1, (2,)),)
    lines = summary(failures=failures).to_text().splitlines()
    assert len(lines) == 3
    assert lines[1].startswith("  1 × failure: first second xxx")
    assert lines[1].endswith("xxx; do this next  [row 2]")
    assert len(lines[1]) < 400
    assert json.loads(summary(failures=failures).to_json())["failures"][0]["error"] == failures[0].error


def test_nothing_to_do() -> None:
    """A sheet of zero rows is fine."""
    assert summary(rows=0, counts=()).to_text() == "in.csv: nothing to do; output: in.results.csv"
    assert summary(rows=1, counts=()).to_text().startswith("in.csv: 1 row in")


def test_notes_make_no_news() -> None:
    """A sheet that has a note each night is still one line where nothing is new, and its notes below it."""
    told = summary(carried=3, notes=("fields are separated by semicolons",))
    assert told.to_text().splitlines() == [
        "in.csv: nothing new: 3 carried over (3 success); output: in.results.csv",
        "  note: fields are separated by semicolons",
    ]
    assert not summary(carried=3, notes=("read as it seems",), cautions=("read as it seems",)).is_quiet


def test_what_was_carried_over_is_said_once() -> None:
    """On a sheet's first night the line below the headline comes only where it says more."""
    named = (NamedRows("carried_over", "from 29 Nov", 3),)
    assert summary(rows=4, carried=3, named=named).to_text().count("carried over") == 1
    assert ", 1 of them edited" in summary(rows=4, carried=3, changed=1, named=named).to_text()


def test_an_advice_is_not_given_beside_its_warning() -> None:
    """Rows that another file's rows hold up: `--retry changed` may run them twice, so it is named with that only."""
    held = summary(rows=4, carried=3, changed=2, taken=HeldRows(2, (2, 3))).to_text()
    assert "2 of them edited since they ran\n  not sent: 2 rows" in held
    assert held.count("--retry changed") == 1
    some = summary(rows=4, carried=3, changed=3, taken=HeldRows(2, (2, 3))).to_text()
    assert "3 of them edited since they ran (--retry changed" in some


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (60, "1 min 0 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 0 min"),
        (86400, "24 h 0 min"),
    ],
)
def test_times(seconds: float, shown: str) -> None:
    """Seconds, then minutes, then hours; never sixty of one."""
    assert f" in {shown}: " in summary(seconds=seconds).to_text()


def test_json_is_one_object_on_one_line() -> None:
    """A program reads the counts as an object, and everything that a person reads."""
    text = summary(failures=(Failures("failure", "a\nb", 1, (2,)),), counts=(Count("failure", 1),)).to_json()
    assert "\n" not in text
    told = json.loads(text)
    assert told["counts"] == {"failure": 1}
    assert told["failures"] == [{"status": "failure", "error": "a\nb", "rows": 1, "numbers": [2]}]
    assert set(told) == set(Summary.__struct_fields__)


def test_count() -> None:
    """A status that no row has counts 0."""
    assert (summary().count("success"), summary().count("failure")) == (3, 0)


@pytest.mark.parametrize(
    ("statuses", "stopped", "code"),
    [
        ((), None, 0),
        (("success",), None, 0),
        (("success", "failure"), None, 3),
        (("error",), None, 3),
        (("running",), None, 3),
        (("a new word",), None, 3),
        (("failure", "unknown"), None, 4),
        (("unknown", "not_started"), ExitCode.STOPPED, 5),
        (("success",), ExitCode.STOPPED, 5),
        (("unknown",), ExitCode.INTERRUPTED, 130),
        (("failure",), ExitCode.TERMINATED, 143),
    ],
)
def test_exit_codes(statuses: tuple[str, ...], stopped: ExitCode | None, code: int) -> None:
    """If several hold: 130 or 143, then 5, then 4, then 3."""
    assert exit_code_for([Count(status, 1) for status in statuses], stopped) == code


def test_a_status_of_no_row_decides_nothing() -> None:
    """What is counted as zero didn't happen."""
    assert exit_code_for([Count("success", 3), Count("unknown", 0)], None) == 0


@given(st.permutations([*STATUSES, "novel", "another"]))
def test_counts_are_in_the_order_of_reading(statuses: list[str]) -> None:
    """Success first, words that we don't know last, whatever order they come in."""
    counts = sorted_counts(Count(status, 1) for status in statuses)
    assert [counted.status for counted in counts] == [*STATUSES, "another", "novel"]
