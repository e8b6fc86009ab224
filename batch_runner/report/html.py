"""The report: one page for people about one batch.

Excel and LibreOffice read `FILE#'Sheet'!A17` as a place in a workbook where the system's browser hands it on; of a text
file `FILE#row=17` is the place (RFC 7111). The address always stands there as text, too.
"""

from __future__ import annotations

import os
import re
import time
from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import jinja2
import msgspec

from batch_runner.errors import BatchRunnerError
from batch_runner.fs import AtomicFile
from batch_runner.outcomes import FAILED, GOING, NOT_STARTED, SUCCESS, UNKNOWN
from batch_runner.report.stats import Headline, gather_stats, headline_of, local, moment_of
from batch_runner.report.summary import duration_of
from batch_runner.rows.amounts import worded

if TYPE_CHECKING:
    from datetime import datetime
    from typing import BinaryIO

    from batch_runner.journal.journal import Journal
    from batch_runner.journal.view import BatchRecord
    from batch_runner.report.stats import BatchStats
    from batch_runner.report.summary import Summary


LONGEST_MESSAGE = 1_000
"""Characters of a message that are shown; the output has it whole."""
LEAST_TALL = 2.0
"""Percent of the tallest bar that is drawn of any failures, so that they are seen among thousands of successes."""
KINDS = {
    SUCCESS: "good",
    **dict.fromkeys(FAILED, "bad"),
    UNKNOWN: "unsure",
    **dict.fromkeys(GOING, "going"),
    NOT_STARTED: "idle",
}
_UNITS = (("d", 86_400), ("h", 3600), ("min", 60))
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


class Group(msgspec.Struct, frozen=True):
    """Rows that failed alike: what they have in common, and where the first ones stand."""

    status: str
    kind: str
    rows: int
    message: str
    links: tuple[Link, ...]

    @property
    def more(self) -> int:
        """Rows that are not named."""
        return self.rows - len(self.links)


class TimeSlot(msgspec.Struct, frozen=True):
    """A bin of the timeline as it is drawn, in percent of the tallest, and as it is told."""

    begin: datetime
    starts: int
    succeeded: int
    failed: int
    tall_starts: float
    tall_succeeded: float
    tall_failed: float


class Slowest(msgspec.Struct, frozen=True):
    """A row whose run took long."""

    link: Link
    seconds: float


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """All that the page shows."""

    summary: Summary
    batch: BatchRecord
    verdict: Headline
    name: str
    sheet: str | None
    output: Link
    begin: datetime
    end: datetime
    groups: tuple[Group, ...]
    slots: tuple[TimeSlot, ...]
    width: float
    """Seconds of one slot."""
    until: datetime
    """The end of the last slot."""
    runs: int
    median: float
    most: float
    """The time that 95 of a hundred runs did not exceed."""
    slowest: tuple[Slowest, ...]
    since: datetime | None

    @property
    def night(self) -> str:
        """From when to when it lasted, each day named once."""
        begin, end = f"{self.begin:%Y-%m-%d %H:%M}", f"{self.end:%Y-%m-%d %H:%M}"
        if begin == end:
            return begin
        return f"{begin} – {end[11:] if begin[:10] == end[:10] else end}"

    @property
    def zone(self) -> str:
        """The time zone by name; two names where the clocks changed in the night."""
        zones = dict.fromkeys(f"{at:%Z} (UTC{at.isoformat()[-6:]})" for at in (self.begin, self.end))
        return ", then ".join(zones)


def page_of(summary: Summary, batch: BatchRecord, course: BatchStats, places: Places) -> Page:
    """The page of a batch whose output stands."""
    times, timeline = course.times, course.timeline
    end = moment_of(batch.ended) if batch.ended else moment_of(batch.started) + summary.seconds
    return Page(
        summary=summary,
        batch=batch,
        verdict=headline_of(summary),
        name=Path(summary.input).name,
        sheet=places.sheet,
        output=places.file,
        begin=local(moment_of(batch.started)),
        end=local(end),
        groups=_groups(summary, course, places),
        slots=_slots(course),
        width=float(timeline.width),
        until=timeline.edge(len(timeline.bins)),
        runs=times.runs,
        median=times.percentile(50) if times.runs else 0.0,
        most=times.percentile(95) if times.runs else 0.0,
        slowest=tuple(Slowest(places.row(slow.number), slow.milliseconds / 1000) for slow in times.slowest),
        since=local(moment_of(summary.since.started)) if summary.since else None,
    )


def render(page: Page) -> str:
    """The page as HTML: it holds all that it needs, and its policy lets nothing else in."""
    css = files(__package__).joinpath("page.css").read_text("utf-8")
    digest = b64encode(sha256(css.encode()).digest()).decode()
    return _templates().get_template("page.html").render(page=page, css=css, digest=digest)


@cache
def _templates() -> jinja2.Environment:
    templates = jinja2.Environment(
        autoescape=True,
        finalize=_readable,
        loader=jinja2.PackageLoader("batch_runner", "report"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    templates.filters.update(number=_number, time=_time, span=_span, share=_share, amount=worded, kind=_kind)
    return templates


def _groups(summary: Summary, course: BatchStats, places: Places) -> tuple[Group, ...]:
    """Those that a person must look at come first."""
    groups = (
        Group(found.status, _kind(found.status), found.rows, _message(found.error), tuple(map(places.row, rows)))
        for found, rows in zip(summary.failures, course.rows, strict=True)
    )
    return tuple(sorted(groups, key=lambda group: group.kind != "unsure"))


def _slots(course: BatchStats) -> tuple[TimeSlot, ...]:
    timeline = course.timeline
    tallest = max(max(found.starts, found.ends) for found in timeline.bins) or 1
    return tuple(
        TimeSlot(
            begin=timeline.edge(place),
            starts=found.starts,
            succeeded=found.succeeded,
            failed=found.failed,
            tall_starts=100 * found.starts / tallest,
            tall_succeeded=100 * found.succeeded / tallest,
            tall_failed=max(100 * found.failed / tallest, LEAST_TALL) if found.failed else 0.0,
        )
        for place, found in enumerate(timeline.bins)
    )


def _message(error: str) -> str:
    return error if len(error) <= LONGEST_MESSAGE else f"{error[:LONGEST_MESSAGE]}…"


def _kind(status: str) -> str:
    """What a status is to a person; a word of the service's that we don't know is unsure."""
    return KINDS.get(status, "unsure")


def _number(value: float) -> str:
    return f"{value:,}"


def _share(rows: int, of: int) -> str:
    """In percent; what is not all is never shown as all, what is not nothing never as nothing."""
    percent = 100 * rows / of if of else 0.0
    if rows < of and percent >= 99.95:
        return "> 99.9 %"
    return "< 0.1 %" if 0 < percent < 0.05 else f"{percent:.1f} %"


def _time(seconds: float) -> str:
    return duration_of(seconds).replace(" ", "\u00a0")


def _span(seconds: float) -> str:
    """The width of a bar: `30 s`, `5 min`, `2 h`, `7 d`."""
    unit, length = next((found for found in _UNITS if seconds % found[1] == 0), ("s", 1))
    return f"{seconds / length:g} {unit}"


def _readable(value: object) -> object:
    """Control characters and halves of characters, which no page may hold, as the sign for what can't be shown."""
    return _CONTROLS.sub("\ufffd", value) if type(value) is str else value


WORKBOOKS = (".xlsx", ".xlsm")
TEXTS = (".csv", ".tsv")


class Link(msgspec.Struct, frozen=True):
    """What stands there, and where it leads; None for nowhere."""

    text: str
    href: str | None = None


class Places(msgspec.Struct, frozen=True):
    """The rows of an output as seen from a report. `sheet` is the name of the sheet, None for a text file."""

    output: Path
    report: Path
    sheet: str | None

    @property
    def file(self) -> Link:
        """The output itself."""
        way = os.path.relpath(self.output.absolute(), self.report.absolute().parent)
        return Link(self.output.name, quote(os.fsencode(way)))

    def row(self, number: int) -> Link:
        """A row of it."""
        ending = self.output.suffix.lower()
        if ending in WORKBOOKS:
            tab = (self.sheet or "Sheet1").replace("'", "''")
            place = quote(f"'{tab}'!A{number}", safe="'!", errors="replace")
            return Link(f"A{number}", f"{self.file.href}#{place}")
        return Link(str(number), f"{self.file.href}#row={number}" if ending in TEXTS else None)


def write_report(summary: Summary, path: Path, journal: Journal, *, like: Path, sheet: str | None) -> Summary:
    """Write the report of a batch whose output stands, and name it in the summary; or say there why it isn't there.

    It gets the permissions of the file `like`. `sheet` is the name of the sheet, None for a text file.
    """
    try:
        written = _write(summary, AtomicFile.prepare(path, like, "report"), journal, sheet)
    except BatchRunnerError as error:
        return msgspec.structs.replace(summary, notes=(*summary.notes, f"there is no report: {error}"))
    return msgspec.structs.replace(summary, report=str(written))


def _write(summary: Summary, target: AtomicFile, journal: Journal, sheet: str | None) -> Path:

    output = Path(summary.output or summary.input)
    batch = journal.recorded()
    end = moment_of(batch.ended) if batch.ended else time.time()
    course = gather_stats(batch, journal.spans(), summary.failures, end)
    text = render(page_of(summary, batch, course, Places(output, target.path, sheet)))

    def write(file: BinaryIO) -> None:
        file.write(text.encode("utf-8", "replace"))

    return target.put(write, _check_nothing)


def _check_nothing(draft: Path) -> None:
    """What stands in the page stands in the output and the journal, too."""
