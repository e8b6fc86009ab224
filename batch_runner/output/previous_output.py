"""The output of an earlier night, as it stands there now: its runs, what a person changed in it, her own columns."""

from __future__ import annotations

import csv
import os
import tempfile
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from batch_runner.errors import SheetError, UsageError
from batch_runner.fs import digest_of
from batch_runner.journal.database import LOST
from batch_runner.journal.outputs import FoundRun
from batch_runner.journal.view import Placed
from batch_runner.outcomes import ENDED, RUNNING, UNKNOWN
from batch_runner.output.output import CellsHash, unharmed
from batch_runner.rows.columns import find_our_columns, holds_results
from batch_runner.rows.params import Template
from batch_runner.rows.source import reading_of
from batch_runner.sheet.export import READ_BACK, open_sheet, open_written, written_headers, written_lines
from batch_runner.sheet.model import LIST_ROWS, Reading, RowKind

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

    from batch_runner.fs import AtomicFile
    from batch_runner.job.job import Job
    from batch_runner.journal.outputs import WrittenHeaders, WrittenOutput
    from batch_runner.output.long_texts import WholeTexts
    from batch_runner.rows.columns import OurColumns
    from batch_runner.rows.params import RowParams
    from batch_runner.rows.source import Source
    from batch_runner.sheet.model import Column, Row, Sheet


_ROWS = (*LIST_ROWS, RowKind.TOTALS, RowKind.OUTSIDE)
LOOK = 100
"""Rows that are looked at for runs of ours where no header of ours is left."""


class PreviousRow(msgspec.Struct, frozen=True):
    """One row of it: how it is known (nothing, where the columns of its key are gone), and what stands there."""

    number: int
    known: RowParams | None
    texts: tuple[str, ...]
    run_id: str
    status: str
    result: str
    error: str


class PreviousOutput:
    """A file that has columns of ours. `hers` are columns that neither the sheet nor we have put there."""

    def __init__(
        self, sheet: Sheet, layout: OurColumns, template: Template | None, hers: Sequence[Column] = ()
    ) -> None:
        self.sheet = sheet
        self.layout = layout
        self.hers = tuple(hers)
        self._template = template

    @classmethod
    def of_source(cls, source: Source) -> PreviousOutput:
        """The sheet itself, where it is an earlier output."""
        return cls(source.sheet, source.layout, source.template)

    def rows(self) -> Iterator[PreviousRow]:
        """Its rows, from top to bottom."""
        places = [column.index if column else None for column in self.layout.four]
        for row in self.sheet.rows():
            if row.kind in LIST_ROWS:
                four = ("" if place is None else unharmed(row.texts[place]) for place in places)
                yield PreviousRow(row.number, self._template.fill(row) if self._template else None, row.texts, *four)

    def cells(self) -> bytes:
        """The hash of our cells, as the journal has that of what was written."""
        found = CellsHash()
        places = [column.index for column in self.layout.earlier]
        for row in self.sheet.rows():
            if row.kind in _ROWS:
                found.add(row.texts[place] for place in places)
        return found.digest


@contextmanager
def open_previous(
    path: Path, job: Job, source: Source, written: Sequence[WrittenHeaders], scratch: Path
) -> Iterator[PreviousOutput | None]:
    """The output at `path`; None where it isn't one, or can't be read as one.

    `written` are the headers that a journal wrote into this very file, the latest first.
    """
    with ExitStack() as stack:
        yield _found(path, job, source, written, scratch, stack)


def _found(
    path: Path, job: Job, source: Source, written: Sequence[WrittenHeaders], scratch: Path, stack: ExitStack
) -> PreviousOutput | None:
    for open_it in (_as_written, _as_found) if path.suffix.lower() in READ_BACK else (_as_lines,):
        with suppress(SheetError, UsageError, OSError, ValueError):
            sheet = stack.enter_context(open_it(path, job, source, scratch))
            layout = find_our_columns(sheet.columns, written, holds_results(sheet))
            if layout.is_earlier_output:
                return _previous(job, source, sheet, layout, written)
    return None


def _as_written(path: Path, _job: Job, source: Source, _scratch: Path) -> Sheet:
    return open_written(path, source.sheet)


def _as_found(path: Path, job: Job, _source: Source, scratch: Path) -> Sheet:
    """As a person may have saved it: with another encoding or delimiter, or rows above the headers."""
    reading = msgspec.structs.replace(
        reading_of(job), hidden="include", merged="first", header_row=None, encoding=None, delimiter=None
    )
    return open_sheet(path, reading, scratch)


def _as_lines(path: Path, _job: Job, _source: Source, scratch: Path) -> Sheet:
    """A file for programs, as a text file with the same columns and rows."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        table = Path(folder) / "table.csv"
        with table.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(written_headers(path))
            writer.writerows(written_lines(path))
        sheet = open_sheet(table, Reading(header_row=1, encoding="utf-8", delimiter=","), scratch)
    sheet.path = path
    return sheet


def _previous(
    job: Job, source: Source, sheet: Sheet, layout: OurColumns, written: Sequence[WrittenHeaders]
) -> PreviousOutput:
    own = {column.name for column in source.layout.own}
    was_own = {name for headers in written[:1] for name in headers.own}
    beside = set(layout.beside)
    hers = [
        column
        for column in (*layout.own, *layout.beside)
        if column.name not in own | was_own and (column in beside or written)
    ]
    template = None
    with suppress(UsageError, SheetError):  # columns of the key are gone: its rows are known by their runs only
        template = Template(job, sheet, tuple(column for column in layout.own if column not in hers))
    return PreviousOutput(sheet, layout, template, sorted(hers, key=lambda column: column.index))


class UnknownRuns(msgspec.Struct, frozen=True):
    """The runs in an output that a journal doesn't know: their ids, and the keys of rows whose start was lost.

    `known` counts the ids that it knows; `twice` is a sentence about an id that two rows have.
    """

    unknown: frozenset[str]
    lost: frozenset[bytes]
    known: int
    twice: str | None


class Asked(Protocol):
    """A journal that says what it doesn't know."""

    def unknown_runs(self, run_ids: Iterable[str]) -> frozenset[str]:
        """Those of these ids that no attempt of it has."""
        ...

    def never_sent(self, keys: Iterable[bytes]) -> frozenset[bytes]:
        """Those of these keys of which no row of it was sent."""
        ...


def look_for_runs(previous: PreviousOutput, journal: Asked | None) -> UnknownRuns:
    """Ask a journal about every run in an output; without one, it knows none of them."""
    rows: dict[str, int] = {}
    lost: list[bytes] = []
    twice = None
    for row in previous.rows():
        if row.run_id:
            other = rows.setdefault(row.run_id, row.number)
            if other != row.number and twice is None:
                twice = f"rows {other} and {row.number} have the same run id, {row.run_id}"
        elif row.status == UNKNOWN and row.known is not None and row.known.key is not None:
            lost.append(row.known.key)
    unknown = journal.unknown_runs(rows) if journal else frozenset(rows)
    never = journal.never_sent(lost) if journal else frozenset(lost)
    return UnknownRuns(unknown, never, len(rows) - len(unknown), twice)


def runs_of(previous: PreviousOutput, runs: UnknownRuns) -> Iterator[FoundRun]:
    """What the journal is to take back, by key, from top to bottom."""
    seen: Counter[bytes] = Counter()
    taken: dict[str, int] = {}
    for row in previous.rows():
        key = row.known.key if row.known else None
        if row.known is None or key is None:
            continue
        seen[key] += 1
        where = f"{previous.sheet.path.name}, row {row.number}"
        if row.run_id in runs.unknown:
            first = taken.setdefault(row.run_id, row.number)
            if first == row.number:
                ended = row.status in ENDED
                status, error = (row.status, row.error) if ended else (RUNNING, "")
                yield FoundRun(row.known, seen[key], where, row.run_id, status, row.result if ended else "", error)
            else:
                error = f"the output has the run id of row {first} for it, too: look what became of it"
                yield FoundRun(row.known, seen[key], where, None, UNKNOWN, "", error)
        elif not row.run_id and row.status == UNKNOWN and key in runs.lost:
            yield FoundRun(row.known, seen[key], where, None, UNKNOWN, "", row.error or LOST)


class Evidence(msgspec.Struct, frozen=True):
    """Runs of an output that are to be taken back into the journal before any row of the sheet finds its place."""

    previous: PreviousOutput
    runs: UnknownRuns

    @property
    def note(self) -> str:
        """What a person should hear."""
        rows = len(self.runs.unknown) + len(self.runs.lost)
        what = f"{rows} run{'s' * (rows > 1)} of {self.previous.sheet.path.name}"
        return f"{what} the journal did not know: taken back into it by key, so none of these rows is started again"


class KnownOutputs(msgspec.Struct, frozen=True):
    """Whose output it may be: what a journal knows of it (None: there is none), and what the index says.

    `written` are the outputs that the journal knows, `was_written` says whether it knows this file's path; `is_known`
    asks the index about a digest and run ids.
    """

    journal: Asked | None
    written: Sequence[WrittenOutput]
    was_written: bool
    is_known: Callable[[str, Collection[str]], bool]


def headers_of(path: Path, written: Sequence[WrittenOutput]) -> list[WrittenHeaders]:
    """The headers that were written into a file, known by its bytes or its path; the latest first."""
    real, digest = os.path.realpath(path), digest_of(path) if written else None
    same = [one for one in written if one.sha256 == digest] or [one for one in written if one.path == real]
    return [one.headers for one in same]


def look_at_outputs(
    job: Job, source: Source, target: AtomicFile, place: KnownOutputs, stack: ExitStack
) -> tuple[Evidence, ...]:
    """Look at the output that stands there, before anything is sent: may it be written over, what runs does it have?

    The sheet itself is asked, too, where it is an earlier output. Raises `UsageError` where the file is no output of
    ours, or where there are runs that nobody can place.
    """
    found = [_look_at_sheet(job, source, place)]
    if os.path.realpath(target.real) != os.path.realpath(job.input_path):
        found.append(_look_at_file(job, source, target.real, place, stack))
    return tuple(evidence for evidence in found if evidence)


def _look_at_sheet(job: Job, source: Source, place: KnownOutputs) -> Evidence | None:
    digest = source.sheet.fingerprint
    if any(written.sha256 == digest for written in place.written):
        return None
    if source.layout.is_earlier_output:
        return _evidence(job, PreviousOutput.of_source(source), digest, place)
    if place.journal is not None and headers_of(job.input_path, place.written):
        _refuse_hidden_runs(source, place.journal)
    return None


def _look_at_file(job: Job, source: Source, path: Path, place: KnownOutputs, stack: ExitStack) -> Evidence | None:
    digest = digest_of(path)
    if digest is None or any(written.sha256 == digest for written in place.written):
        return None
    same = [written.headers for written in place.written if written.path == os.path.realpath(path)]
    previous = stack.enter_context(open_previous(path, job, source, same, source.sheet.scratch))
    if previous is None:
        _refuse_other_file(job, source, place)
        return None
    return _evidence(job, previous, digest, place)


def _evidence(job: Job, previous: PreviousOutput, digest: str, place: KnownOutputs) -> Evidence | None:
    runs = look_for_runs(previous, place.journal)
    if job.ignore_output or not (runs.unknown or runs.lost):
        return None
    if not job.adopt_output and (why := _why_unclear(job, runs, digest, place)) is not None:
        rows = len(runs.unknown) + len(runs.lost)
        raise UsageError(
            f"{previous.sheet.path}: it has {rows} run{'s' * (rows > 1)} that the journal {job.journal_path} does not "
            f"know, and {why}; say --adopt-output to take them back (none of these rows is started again), "
            "--ignore-output to have their rows started, or name the --journal that knows them; if they are another "
            "task's, give this one another --output"
        )
    return Evidence(previous, runs)


def _refuse_other_file(job: Job, source: Source, place: KnownOutputs) -> None:
    """The file that stands there has no columns of ours that can be seen. Raises `UsageError`."""
    if job.overwrite or (not source.sheet.header_row and (place.was_written or job.ignore_output)):
        return
    if source.sheet.header_row or not _reaches_beyond(job.output_path, source):
        raise UsageError(
            f"{job.output_path}: this file is no output of this program; name another with --output, "
            "or say --overwrite to have it written over"
        )
    raise UsageError(
        f"{job.output_path}: it may be the output of an earlier night whose journal {job.journal_path} is gone, and "
        "without headers its runs can't be taken back; restore the journal, or name it with --journal; "
        "--ignore-output has every row started"
    )


def _reaches_beyond(path: Path, source: Source) -> bool:
    """Whether a file that was written from a sheet without headers has cells right of the sheet's own."""
    with suppress(SheetError, OSError), open_written(path, source.sheet) as written:
        return any(any(row.texts[source.sheet.width :]) for row in written.rows())
    return False


def _why_unclear(job: Job, runs: UnknownRuns, digest: str, place: KnownOutputs) -> str | None:
    """Why nobody can say whose rows these runs are of; None where that is clear."""
    if runs.twice is not None:
        return runs.twice
    if not job.key:
        return "without --key nobody can say whose they are"
    if runs.known or place.is_known(digest, runs.unknown):
        return None
    return "nothing says that they are of this task on this service"


def _refuse_hidden_runs(source: Source, journal: Asked) -> None:
    """The sheet was written by us, and none of our headers is there any more: are our cells? Raises `UsageError`."""
    for row in islice(source.sheet.rows(), LOOK):
        texts = {text: place for place, text in enumerate(row.texts) if text}
        known = texts.keys() - journal.unknown_runs(texts)
        if known:
            raise UsageError(
                f"{source.sheet.address(row.number, texts[known.pop()])}: a run of an earlier night stands there, "
                "under a header that is none of ours; call its column run_id again, or take our columns out"
            )


def with_earlier(
    sheet: Sheet,
    layout: OurColumns,
    outcomes: Iterator[Placed],
    long: WholeTexts | None = None,
    is_its_own: Callable[[Row, str], bool] = lambda _row, _run_id: True,
) -> Iterator[Placed]:
    """The outcomes, and between them those that stand in the sheet itself for rows without one, in order of number.

    `long` has the whole of what was too long for its cells. `is_its_own` says whether a run, or an outcome without one,
    is that of the row's key: who copies or edits a row takes its cells along.
    """
    if not layout.is_earlier_output:
        yield from outcomes
        return
    ours = [column.index if column else None for column in layout.four]
    given = set[str]()
    placed = next(outcomes, None)
    for row in sheet.rows():
        if placed is not None and placed.number == row.number:
            given.add(placed.run_id)
            yield placed
            placed = next(outcomes, None)
        elif row.kind in _ROWS and any(row.texts[index] for index in ours if index is not None):
            found = _placed(row, ours, long)
            if is_its_own(row, found.run_id) and (not found.run_id or found.run_id not in given):
                given.add(found.run_id)
                yield found


def _placed(row: Row, ours: Sequence[int | None], long: WholeTexts | None) -> Placed:
    texts = ("" if index is None else row.texts[index] for index in ours)
    run_id, status, result, error = (long.whole(row.number, text) if long else text for text in texts)
    return Placed(row.number, status, run_id, result, error, changed=False)
