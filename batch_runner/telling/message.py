"""What is told of a batch: counts, row numbers and paths. No error's text is in it: it may hold what a cell holds."""

from __future__ import annotations

import shlex
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from batch_runner.errors import ExitCode
from batch_runner.summary import number_of, row_numbers

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from batch_runner.summary import Summary

MOST_GROUPS = 5
"""Groups of failures that are told of each batch."""
RETRIED = ("failure", "timeout", "cancelled", "error")
"""Statuses that `--retry` is offered for; a row that is `unknown` must be looked at first."""
MOST_BATCHES = 20
"""Batches that are told of one by one."""

_ENDS = {
    ExitCode.OK: "Every row succeeded, or there was nothing to do.",
    ExitCode.BUG: "A bug of batch-runner ended it; please report it. What was sent is recorded: {goes_on}",
    ExitCode.REFUSED: "Nothing was sent: the command, the job or the sheet is wrong. "
    "The same command with check instead of run says what is wrong.",
    ExitCode.SOME_FAILED: "Some rows did not succeed: look at status and error in the output and fix them. "
    "Then {again}",
    ExitCode.SOME_UNKNOWN: "Of some rows it is unknown whether a run exists: a person must look in the service, "
    "or in the books, and say what was found, as below; the next batch carries it over.",
    ExitCode.STOPPED: "It stopped early: its summary says why. Mended, {goes_on}",
    ExitCode.JOURNAL_BUSY: "Another batch holds the journal. When that has ended, {goes_on}",
    ExitCode.INTERRUPTED: "It was interrupted; {goes_on}",
    ExitCode.TERMINATED: "It was told to end; {goes_on}",
}


class Ending(msgspec.Struct, frozen=True):
    """How a command ended: its code, its INPUT, and what its batches came to, each with its report if it has one."""

    exit_code: int
    source: str
    summaries: Sequence[tuple[Summary, str | None]] = ()

    @property
    def is_success(self) -> bool:
        """Whether all is well: every row succeeded, or there was nothing to do. An interrupted batch is not well."""
        return self.exit_code == ExitCode.OK

    @property
    def title(self) -> str:
        """One line: the input, and in a few words what it came to."""
        words = ", ".join(f"{rows} {status}" for status, rows in self._counts().items())
        nothing = "nothing to do" if self.is_success else "failed"
        text = f"batch-runner: {self.source}: {words or nothing} (exit {self.exit_code})"
        return _sendable(" ".join(text.split()))

    @property
    def body(self) -> str:
        """A few lines: what to do, and what each batch came to."""
        return _sendable("\n".join(self._lines()))

    def _lines(self) -> Iterator[str]:
        yield _ENDS[ExitCode(self.exit_code)].format(goes_on=self._going_on(), again=self._again())
        for summary, report in self.summaries[:MOST_BATCHES]:
            yield ""
            yield from _told(summary, report)
        if len(self.summaries) > MOST_BATCHES:
            yield f"and {len(self.summaries) - MOST_BATCHES} more batches"
        yield ""
        yield f"on {socket.gethostname()}"

    def _going_on(self) -> str:
        return f"the same command goes on{self._command('')}"

    def _again(self) -> str:
        """How rows that did not succeed are run again."""
        retry = ",".join(status for status in RETRIED if status in self._counts())
        words = f"--retry {retry}"
        return f"the same command with {words} runs them again{self._command(words)}" if retry else self._going_on()

    def _command(self, words: str) -> str:
        """The command, to be pasted, where a job file holds all that was said: flags are known to a crontab only."""
        if not self.source.lower().endswith(".toml"):
            return ""
        return f": batch-runner run {shlex.quote(self.source)} {words}".rstrip()

    def _counts(self) -> dict[str, int]:
        """How many rows of all batches have which status."""
        counts: dict[str, int] = {}
        for summary, _ in self.summaries:
            for counted in summary.counts:
                counts[counted.status] = counts.get(counted.status, 0) + counted.rows
        return counts


def _sendable(text: str) -> str:
    """Names of files may hold bytes that are no text."""
    return text.encode("utf-8", "backslashreplace").decode()


def _told(summary: Summary, report: str | None) -> Iterator[str]:
    yield summary.headline
    if summary.changed:
        yield f"  edited since they ran, and not run again: {number_of(summary.changed, 'row')}"
    for group in summary.failures[:MOST_GROUPS]:
        yield f"  {group.rows} × {group.status} ({row_numbers(group)})"
    told = sum(group.rows for group in summary.failures[:MOST_GROUPS])
    more = sum(group.rows for group in summary.failures) + summary.more_failures - told
    if more:
        yield f"  and {number_of(more, 'row')} more that did not succeed"
    if summary.count("unknown"):
        journal = shlex.quote(str(Path(summary.journal).absolute()))
        yield f"  unknown: batch-runner resolve {journal} --row N --as success|failure|not_started --note …"
    if summary.output:
        yield f"  output: {summary.output}"
    if report:
        yield f"  report: {report}"
