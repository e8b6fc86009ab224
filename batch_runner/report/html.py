"""The report: one page for people about one batch.

Excel and LibreOffice read `FILE#'Sheet'!A17` as a place in a workbook where the system's browser hands it on; of a text
file `FILE#row=17` is the place (RFC 7111). The address always stands there as text, too.
"""

from __future__ import annotations

import os
import re
import time
from base64 import b64encode
from decimal import Decimal
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import jinja2
import msgspec
from markupsafe import Markup

from batch_runner.errors import BatchRunnerError
from batch_runner.fs import AtomicFile
from batch_runner.outcomes import SUCCESS, kind_of
from batch_runner.report.stats import Headline, gather_stats, headline_of, headline_of_night, local, moment_of
from batch_runner.report.summary import duration_of
from batch_runner.report.totals import PLAIN, NightSum, Writing, sums_of_all, writing_of
from batch_runner.rows.amounts import worded
from batch_runner.units import way_to

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from typing import BinaryIO

    from batch_runner.job.job import Job
    from batch_runner.journal.changes import Origin
    from batch_runner.journal.journal import Journal
    from batch_runner.journal.view import BatchRecord
    from batch_runner.report.stats import BatchStats
    from batch_runner.report.summary import Summary
    from batch_runner.rows.source import Source


LONGEST_NAME = 80
"""Characters of a row's key that are shown."""
LONGEST_MESSAGE = 1_000
"""Characters of a message that are shown; the output has it whole."""
LEAST_TALL = 2.0
"""Percent of the tallest bar that is drawn of any failures, so that they are seen among thousands of successes."""
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
    place: Callable[[int], Link]
    """The address of a row by its number."""
    origins: tuple[Origin, ...] = ()
    """The earlier nights and sheets that rows were carried over from."""

    @property
    def is_short(self) -> bool:
        """Whether it began and ended in the same minute."""
        return f"{self.begin:%Y-%m-%d %H:%M}" == f"{self.end:%Y-%m-%d %H:%M}"

    @property
    def is_of_one_day(self) -> bool:
        """Whether it ended on the day on which it began."""
        return self.begin.date() == self.end.date()

    @property
    def zone(self) -> str:
        """The time zone by name; two names where the clocks changed in the night."""
        zones = dict.fromkeys(f"{at:%Z} (UTC{at.isoformat()[-6:]})" for at in (self.begin, self.end))
        return ", then ".join(zones)


class NightPage(msgspec.Struct, frozen=True):
    """All sheets of a night on one page; `not_run` are those without a batch, each with why."""

    name: str
    pages: tuple[Page, ...]
    not_run: tuple[tuple[str, str], ...] = ()

    @property
    def rows(self) -> int:
        """The rows that took part, of all sheets."""
        return sum(page.summary.rows for page in self.pages)

    @property
    def success(self) -> int:
        """Those which succeeded."""
        return sum(page.summary.count(SUCCESS) for page in self.pages)

    @property
    def sums(self) -> list[tuple[str, str, NightSum]]:
        """The control totals of all sheets; none of a single sheet, which has its own."""
        return sums_of_all(page.summary.totals for page in self.pages) if len(self.pages) > 1 else []

    @property
    def verdict(self) -> Headline:
        """What to say of the night first."""
        return headline_of_night([page.verdict for page in self.pages], self.rows, self.success, len(self.not_run))


def page_of(
    summary: Summary, batch: BatchRecord, course: BatchStats, places: Places, origins: tuple[Origin, ...] = ()
) -> Page:
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
        place=places.row,
        origins=origins,
    )


def render(told: Page | NightPage, locale: str | None = None) -> str:
    """The page as HTML: it holds all that it needs, and its policy lets nothing else in.

    Amounts and moments are written as `locale` has it; a browser's own is taken where nobody named one.
    """
    css, js = (files(__package__).joinpath(name).read_text("utf-8") for name in ("page.css", "page.js"))
    known = writing_of(locale)
    return (
        _templates(known)
        .get_template("page.html")
        .render(
            page=told if isinstance(told, Page) else None,
            night=told if isinstance(told, NightPage) else None,
            name=told.name,
            verdict=told.verdict,
            css=css,
            digest=_digest(css),
            js=None if known else js,
            js_digest=_digest(js),
            locale=(locale or "").replace("_", "-"),
        )
    )


def _digest(text: str) -> str:
    return b64encode(sha256(text.encode()).digest()).decode()


@cache
def _templates(known: Writing | None) -> jinja2.Environment:
    writing = known or PLAIN

    def figure(text: str, value: object) -> Markup:
        written = writing.digits(text)
        return Markup('<data value="{}">{}</data>').format(
            f"{value:f}" if isinstance(value, Decimal) else value, written
        )

    def moment(at: datetime, *, is_clock: bool = False) -> Markup:
        form = "%H:%M" if is_clock else f"{writing.day} %H:%M"
        kind = "clock" if is_clock else "moment"
        text = Markup('<time class="{}" datetime="{}">{}</time>')
        return text.format(kind, at.strftime("%Y-%m-%dT%H:%M"), at.strftime(form))

    templates = jinja2.Environment(
        autoescape=True,
        finalize=_readable,
        loader=jinja2.PackageLoader("batch_runner", "report"),
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )

    def amount(value: Decimal) -> Markup:
        return figure(worded(value), value)

    templates.globals["compared"] = lambda column: map(Markup, column.compared(amount))
    templates.filters.update(
        number=lambda value: figure(f"{value:,}", value),
        amount=amount,
        moment=moment,
        time=_time,
        span=_span,
        share=_share,
        kind=kind_of,
    )
    return templates


def _groups(summary: Summary, course: BatchStats, places: Places) -> tuple[Group, ...]:
    """Those that a person must look at come first."""
    groups = (
        Group(found.status, kind_of(found.status), found.rows, _message(found.error), tuple(map(places.row, rows)))
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
    """What stands there, and where it leads; None for nowhere. `name` is by what a person knows the row.

    `origin` is the earlier night and sheet that the row's outcome was carried over from.
    """

    text: str
    href: str | None = None
    name: str = ""
    origin: str = ""


class Places(msgspec.Struct, frozen=True):
    """The rows of an output as seen from a report. `sheet` is the name of the sheet, None for a text file.

    `names` are the texts of the key's columns by the numbers of rows, `origins` what rows were carried over from.
    """

    output: Path
    report: Path
    sheet: str | None
    names: dict[int, str] = {}
    origins: dict[int, str] = {}

    @property
    def file(self) -> Link:
        """The output itself."""
        way = Path(way_to(self.output.absolute(), self.report.absolute().parent))
        return Link(self.output.name, way.as_uri() if way.is_absolute() else quote(os.fsencode(way.as_posix())))

    def row(self, number: int) -> Link:
        """A row of it."""
        ending, name = self.output.suffix.lower(), self.names.get(number, "")[:LONGEST_NAME]
        origin = self.origins.get(number, "")
        if ending in WORKBOOKS:
            tab = (self.sheet or "Sheet1").replace("'", "''")
            place = quote(f"'{tab}'!A{number}", safe="'!", errors="replace")
            return Link(f"A{number}", f"{self.file.href}#{place}", name, origin)
        return Link(str(number), f"{self.file.href}#row={number}" if ending in TEXTS else None, name, origin)


def write_report(summary: Summary, journal: Journal, job: Job, source: Source) -> Summary:
    """Write the report of a batch whose output stands, and name it in the summary; or say there why it isn't there.

    It gets the permissions of the sheet's file.
    """
    assert job.report_path is not None
    page = batch_page(summary, journal, job, source)
    return with_report(summary, write_page(page, job.report_path, job.input_path, job.locale))


def with_report(summary: Summary, written: Path | str) -> Summary:
    """The summary with the report's path; or with what was wrong, where it could not be written."""
    if isinstance(written, Path):
        return msgspec.structs.replace(summary, report=str(written))
    return msgspec.structs.replace(summary, report=None, notes=(*summary.notes, f"there is no report: {written}"))


def write_page(told: Page | NightPage, path: Path, like: Path, locale: str | None) -> Path | str:
    """Write a page, with the permissions of the file `like`; gives its path, or what is wrong where that can't be done.

    A page that is open elsewhere, so that it can't be replaced, has a neighbour.
    """
    text = render(told, locale)

    def write(file: BinaryIO) -> None:
        file.write(text.encode("utf-8", "replace"))

    try:
        return AtomicFile.prepare(path, like, "report").put(write, _check_nothing)
    except BatchRunnerError as error:
        return str(error)


def batch_page(summary: Summary, journal: Journal, job: Job, source: Source) -> Page:
    """What a report says of a batch whose output stands."""
    assert job.report_path is not None
    output = Path(summary.output or summary.input)
    batch = journal.recorded()
    end = moment_of(batch.ended) if batch.ended else time.time()
    course = gather_stats(batch, journal.spans(), summary.failures, end)
    rows = {row for found in course.rows for row in found} | {slow.number for slow in course.times.slowest}
    rows.update(number for pair in summary.differing for number, _what in pair.first)
    origins = {number: one.words for number in rows for one in journal.origins(number)}
    places = Places(output, job.report_path, source.sheet.name, source.shown(rows), origins)
    return page_of(summary, batch, course, places, journal.origins())


def _check_nothing(draft: Path) -> None:
    """What stands in the page stands in the output and the journal, too."""
