"""Whether all is well: one sentence that is read on a phone at seven in the morning, and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from batch_runner.errors import ExitCode
from batch_runner.summary import number_of

if TYPE_CHECKING:
    from batch_runner.summary import Summary

GOOD, BAD, CAUTION = "good", "bad", "caution"
_MARKS = {GOOD: "✓", BAD: "✗", CAUTION: "!"}


class Verdict(msgspec.Struct, frozen=True):
    """`mood` is good, bad or caution; `sentence` says why, `advice` the next step ("" for none)."""

    mood: str
    sentence: str
    advice: str = ""

    @property
    def mark(self) -> str:
        """A sign for the mood."""
        return _MARKS[self.mood]


def verdict_on(summary: Summary) -> Verdict:
    """What to say of a batch first."""
    if any(found.difference for column in summary.totals for found in column.sums):
        return Verdict(
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
    return _edited(summary) if summary.changed else Verdict(GOOD, _good(summary))


def _good(summary: Summary) -> str:
    if not summary.rows:
        return "Nothing to do: no row takes part"
    if summary.carried == summary.rows:
        return f"Nothing new: {_all(summary.rows)} had succeeded before"
    return f"{_all(summary.rows).capitalize()} succeeded"


def _edited(summary: Summary) -> Verdict:
    """All is well with what ran; but that isn't what now stands in the sheet."""
    rows = "1 row" if summary.changed == 1 else f"{summary.changed:,} rows"
    return Verdict(
        CAUTION,
        f"{_all(summary.rows).capitalize()} succeeded, but {rows} edited since",
        "What ran is what stood in the sheet before, an amount too; --retry changed runs these rows again.",
    )


def _all(rows: int) -> str:
    return "the one row" if rows == 1 else f"all {rows:,} rows"


def _failed(summary: Summary) -> Verdict:
    odd = summary.rows - summary.count("success")
    if odd == summary.rows:
        sentence = "The one row did not succeed" if odd == 1 else f"None of the {odd:,} rows succeeded"
    else:
        sentence = f"{odd:,} of {summary.rows:,} rows did not succeed"
    return Verdict(
        BAD,
        sentence,
        "Look at the failures below and fix what is wrong. The same command starts rows whose cells were refused; with "
        "--retry failure it also starts failed rows again.",
    )


def _unknown(summary: Summary) -> Verdict:
    rows = summary.count("unknown")
    return Verdict(
        BAD,
        f"{number_of(rows, 'row')} unknown: a person must look",
        "A start was sent and its answer lost, so a run may exist, or have done its work. Look in the service, and say "
        f"what you found: {summary.resolving} --row N --as success|failure|not_started --note …",
    )


def _stopped(summary: Summary) -> Verdict:
    left = summary.count("not_started")
    unsure = summary.count("unknown")
    looking = f" {number_of(unsure, 'row')} unknown: look whether a run exists before anything else." if unsure else ""
    why = (summary.stopped or "interrupted").rstrip(".")
    going_on = "" if "the same command" in why else " The same command goes on from here."
    return Verdict(
        CAUTION,
        f"Stopped early: {left:,} of {summary.rows:,} rows not started" if left else "Stopped early",
        f"{why[:1].upper()}{why[1:]}.{going_on}{looking}",
    )
