"""The report of a batch, written whole or not at all. It never costs the batch anything: what fails becomes a note."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from batch_runner.errors import BatchRunnerError
from batch_runner.output.target import Target
from batch_runner.report.course import course_of, moment_of
from batch_runner.report.places import Places

if TYPE_CHECKING:
    from typing import BinaryIO

    from batch_runner.journal import Journal
    from batch_runner.summary import Summary


def with_report(summary: Summary, path: Path, journal: Journal, *, like: Path, sheet: str | None) -> Summary:
    """Write the report of a batch whose output stands, and name it in the summary; or say there why it isn't there.

    It gets the permissions of the file `like`. `sheet` is the name of the sheet, None for a text file.
    """
    try:
        written = _write(summary, Target.prepare(path, like, "report"), journal, sheet)
    except BatchRunnerError as error:
        return msgspec.structs.replace(summary, notes=(*summary.notes, f"there is no report: {error}"))
    return msgspec.structs.replace(summary, report=str(written))


def _write(summary: Summary, target: Target, journal: Journal, sheet: str | None) -> Path:
    from batch_runner.report.page import page_of, render

    output = Path(summary.output or summary.input)
    batch = journal.recorded()
    end = moment_of(batch.ended) if batch.ended else time.time()
    course = course_of(batch, journal.spans(), summary.failures, end)
    text = render(page_of(summary, batch, course, Places(output, target.path, sheet)))

    def write(file: BinaryIO) -> None:
        file.write(text.encode("utf-8", "replace"))

    return target.put(write, _unchecked)


def _unchecked(draft: Path) -> None:
    """What stands in the page stands in the output and the journal, too."""
