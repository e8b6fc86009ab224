"""The job's sheet, opened: which of its rows take part, and what each sends, and its plan."""

from __future__ import annotations

import re
from copy import copy
from itertools import islice, takewhile
from typing import TYPE_CHECKING

import msgspec
from anyio.lowlevel import checkpoint_if_cancelled

from batch_runner.errors import Findings, SheetError, quote_words
from batch_runner.outcomes import ENDED
from batch_runner.rows.amounts import EITHER, Amount, read_amount
from batch_runner.rows.columns import find_our_columns, holds_results
from batch_runner.rows.keys import KeyFinder, said
from batch_runner.rows.params import Template
from batch_runner.rows.selection import select
from batch_runner.sheet.export import open_sheet, refuse_unwritable
from batch_runner.sheet.header import ListShape
from batch_runner.sheet.model import LIST_ROWS, Reading, RowKind

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from batch_runner.job.job import Job
    from batch_runner.journal.journal import Journal
    from batch_runner.journal.outputs import WrittenHeaders
    from batch_runner.plan.plan import Step
    from batch_runner.rows.params import Known, RowParams
    from batch_runner.rows.task_inputs import Input, TaskInputs
    from batch_runner.sheet.model import Row, Sheet, TypedRow


MOST_WARNINGS = 10
LOOK = 100
"""How many rows are looked at for what an output of ours holds."""

CHUNK = 128
"""Rows that are read and placed in the journal at once: some milliseconds' work."""
LARGE_CHUNK = 2_048
"""The same where nobody waits for a commit of their own any more: half the time for each row."""
SEEN_CHUNK = 1_024
"""Rows that are only noted at once; on a busy machine a shutdown waits a tenth of a second for so many."""


class Source:
    """Opened, it has found every problem of the sheet as a whole and of the options that name its columns.

    Raises `SheetError` and `UsageError`. `scratch` is the folder for the private copy of the sheet, `inputs` what the
    task takes, if that is known, `written` the headers of outputs that a journal knows.
    """

    def __init__(
        self, job: Job, scratch: Path, inputs: TaskInputs | None = None, written: Sequence[WrittenHeaders] = ()
    ) -> None:
        self._warnings: list[str] = []
        self._warned = 0
        self._job = job
        self.identifying: tuple[str, ...] = ()
        self._finder: KeyFinder | None = None
        self.likely_key: tuple[str, ...] = ()
        """Without a key: the columns that look like one, once the rows have been gone through to their end."""
        self.sheet = open_sheet(job.input_path, reading_of(job), scratch)
        try:
            _refuse_output_without_headers(self.sheet)
            self.layout = find_our_columns(self.sheet.columns, written, holds_results(self.sheet))
            fields = self.layout.fields(("",) if job.expand and not self.layout.expanded else ())
            new = self.layout.new_columns(fields, self.sheet)
            refuse_unwritable(self.sheet, job.output_path.suffix.lower(), new)
            findings = Findings()
            with findings.look():
                self.template = Template(job, self.sheet, self.layout.own)
            with findings.look():
                self._selection = select(self.sheet, job.row_ranges, job.where, job.limit)
            findings.tell()
            self._look_for_suspects(job.suspect_rows)
            self.amounts = self.template.columns(job.total)
            sums = frozenset[int]().union(*self.sheet.sums.values())
            self.compared = tuple(
                dict.fromkeys((*self.amounts, *(column for column in self.layout.own if column.index in sums)))
            )
            self.pairs = tuple((self.template.columns([name])[0], path) for name, path in job.compare.items())
            """The columns that are compared with a part of the result, each with that part: `result.total`."""
            if inputs is not None:
                self.template.require(inputs)
        except BaseException:
            self.sheet.close()
            raise

    def _look_for_suspects(self, wish: str | None) -> None:
        """Have the sheet refuse or skip the rows that look like none of a plain list."""
        if wish == "run" or self.sheet.is_table or len(self.layout.own) < 2:
            return
        data = (row.texts for row in self.sheet.rows() if row.kind is RowKind.DATA)
        self.sheet.shape = ListShape.of([column.index for column in self.layout.own], list(islice(data, LOOK)))
        self.sheet.skips_suspects = wish == "skip"
        if self.sheet.skips_suspects:
            self.sheet.row_count = sum(row.kind is RowKind.DATA for row in self.sheet.rows())

    @property
    def total(self) -> int:
        """How many rows take part."""
        return self._selection.count(self.sheet)

    def beside(self) -> Source:
        """The same sheet for somebody else who goes through its rows at the same time; it is closed with this one."""
        other = copy(self)
        other._warnings = []
        return other

    def rows(self) -> Iterator[RowParams]:
        """Stream what the rows that take part send, in the sheet's order; gathers `warnings` anew."""
        return (row for row in self.places() if row.takes_part)

    def numbers(self) -> Iterator[int]:
        """The numbers of the rows that take part, in the sheet's order."""
        return (row.number for row in self._selection.rows(self.sheet))

    def chosen(self, see: Callable[[TypedRow], None] | None = None) -> Iterator[TypedRow]:
        """The rows that take part, as in the sheet, with those cells of `compared` and `pairs` that are no texts.

        `see` is shown every row of the sheet, of whatever kind, in their order.
        """
        asked = (*self.compared, *(column for column, _path in self.pairs))
        places = {column.index for column in asked}.union(self._selection.typed_places)
        every = self.sheet.typed_rows(places)
        if see is None:
            yield from self._selection.of(every)
            return

        def seen() -> Iterator[TypedRow]:
            for row in every:
                see(row)
                yield row

        rows = seen()
        yield from self._selection.of(rows)
        for _row in rows:
            pass

    def places(self, *, is_keyed: bool = True) -> Iterator[RowParams]:
        """As `rows`, with the rows left out between them: they, too, count among rows with equal keys.

        `is_keyed`: each has what it is known by.
        """
        self._warnings.clear()
        self._warned = 0
        finder = None if self._job.key else KeyFinder(self.layout.own)
        for row, takes_part in self._selection.places(self.sheet):
            if row.problems and takes_part:
                self._warn(row)
            if finder is not None:
                finder.add(row.texts)
            yield self.template.fill(row, takes_part=takes_part, is_keyed=is_keyed)
        self.likely_key = finder.found if finder is not None else ()

    def some(self, numbers: Collection[int]) -> Iterator[RowParams]:
        """What these rows that take part send, in the sheet's order."""
        wanted = frozenset(numbers)
        return (self.template.fill(row) for row in self.sheet.rows() if row.number in wanted)

    def every(
        self, is_hasty: Callable[[], bool] = lambda: False, is_known: Known = None, *, keeps_pairs: bool = False
    ) -> Iterator[RowParams]:
        """As `places`, to the sheet's end, whichever rows take part; nothing is said of its cells.

        Then `identifying` has the params of the columns that look like a row's own number; none where it became hasty.
        """
        finder = self._finder = KeyFinder(self.layout.own, keeps_pairs=keeps_pairs)
        for row in self.sheet.rows():
            if row.kind in LIST_ROWS:
                if not is_hasty():
                    finder.add(row.texts)
                yield self.template.fill(row, takes_part=row.kind is RowKind.DATA, is_known=is_known)
        self.identifying = () if is_hasty() else self.template.params_of(finder.found)

    def every_again(self, is_hasty: Callable[[], bool] = lambda: False) -> Iterator[RowParams]:
        """After `every`: the same rows once more, if only so `identifying` can have a pair; else none."""
        if self._finder is not None and self._finder.lacks_pairs:
            yield from self.every(is_hasty, lambda _: True, keeps_pairs=True)

    def shown(self, numbers: Collection[int]) -> dict[int, str]:
        """By what a person knows the rows with these numbers: the texts of the key's columns."""
        wanted, last = set(numbers), max(numbers, default=0)
        places = [column.index for column in self.template.shown]
        found: dict[int, str] = {}
        for row in self.sheet.rows() if wanted else ():
            if row.number in wanted:
                found[row.number] = ", ".join(text for place in places if (text := row.texts[place].strip()))
            if row.number >= last:
                break
        return found

    @property
    def notes(self) -> tuple[str, ...]:
        """What a person should hear about how the sheet was understood."""
        hints = self.template.fit.hints() if self.template.fit else ()
        return (*self.sheet.notes, *filter(None, (self.layout.note,)), *hints)

    @property
    def first_notes(self) -> tuple[str, ...]:
        """What they should hear on the first night alone."""
        return tuple(filter(None, (self._hidden_columns(), self._volatile_columns(), self._likely_key())))

    def _likely_key(self) -> str | None:
        """All params are the key, so that any edit makes a new row: which columns would know it again."""
        if not self.likely_key:
            return None
        of, journal = " with ".join(map(repr, self.likely_key)), self._job.journal_path
        way = f"--key {said(self.likely_key)}"
        if journal.exists():
            way = f"batch-runner rekey {quote_words([str(journal)])} {way}"
        return f"without --key an edited row is a new one; {of} differs in every row and looks like its number: {way}"

    def _hidden_columns(self) -> str | None:
        """Nobody who looks at the sheet sees that these are sent."""
        hidden = [column for column in self.template.sent if column.index in self.sheet.hidden_columns]
        if not hidden:
            return None
        names = ", ".join(f"{column.name!r} ({column.letter})" for column in hidden)
        return f"hidden in the sheet, and sent like the others: {names}; leave them out with --exclude"

    def _volatile_columns(self) -> str | None:
        """What they hold is another value at each save, so that no row would be known again by it."""
        volatile = self.template.volatile
        if not volatile or self._job.key:
            return None
        names = ", ".join(f"{name!r} ({function})" for name, function in volatile.items())
        return f"no part of the key, since its value differs at each save: {names}; it is sent like the others"

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence for each of the first cells that were sent although something about them is worth knowing."""
        more = self._warned - len(self._warnings)
        return (*self._warnings, f"and {more} more such cells") if more else tuple(self._warnings)

    def _warn(self, row: Row) -> None:
        for sentence in self.template.warnings(row):
            self._warned += 1
            if len(self._warnings) < MOST_WARNINGS:
                self._warnings.append(sentence)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sheet.close()


def _refuse_output_without_headers(sheet: Sheet) -> None:
    """Raises `SheetError` for what was written from a sheet without headers: its rows would be new ones, and run again.

    Nothing there says which columns are ours, but what stands in them: an id, a status, and no result or one in JSON.
    """
    if sheet.header_row:
        return
    for row in islice(sheet.rows(), LOOK):
        for index, text in enumerate(row.texts[1:], 1):
            beside = "".join(row.texts[index + 1 : index + 2])
            if text in ENDED and row.texts[index - 1] and beside[:1] in ("", *'{["tfn-0123456789'):
                raise SheetError(
                    f"{sheet.address(row.number, index)}: {text!r} stands there as in an output of ours; name the "
                    "sheet that it was written from, or put headers above the columns"
                )


def reading_of(job: Job) -> Reading:
    """How the job wants its sheet read."""
    return Reading(
        sheet=job.sheet,
        header_row=job.header_row,
        no_header=job.no_header,
        encoding=job.encoding,
        delimiter=job.delimiter,
        hidden=job.hidden,
        merged=job.merged,
        as_shown=job.as_shown,
        trust_formulas=job.trust_formulas,
    )


FILE_NAME = "File Name"
_FILES = re.compile(r".+\.(pdf|xml)", re.IGNORECASE)
_DECIMALS = re.compile(r"[.,][0-9]{1,2}\b")
_PADDED = re.compile(r"[^0-9]*0[0-9]")
_AMOUNT_WORDS = re.compile(
    r"amount|total|sum|net|gross|price|betrag|preis|brutto|montant|prix|importe|precio|importo|bedrag|kwota|valor",
    re.IGNORECASE,
)


class Profile(msgspec.Struct, frozen=True):
    """What a sheet shows of itself: its columns, those whose values are all different, of amounts, of names of files.

    `hidden`: it has hidden rows, about which a job must say something. `suspects` look like none of the list.
    """

    sheet: str | None
    header_row: int
    columns: tuple[str, ...]
    different: tuple[str, ...]
    amounts: tuple[str, ...]
    hidden: bool = False
    suspects: tuple[int, ...] = ()
    key: tuple[str, ...] = ()
    """The column, or the two, by which a row would be known."""
    files: tuple[str, ...] = ()


class _Column:
    """What the texts of one column have in common so far."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.is_different = True
        """Every row has a text, and no two have the same."""
        self._seen: set[int] = set()
        self._numbers = self._texts = self._decimals = self._files = 0

    def add(self, text: str) -> None:
        if self.is_different:
            known = hash(text)
            self.is_different = bool(text) and known not in self._seen
            self._seen.add(known)
        if text:
            self._texts += 1
            self._files += _FILES.fullmatch(text) is not None
            if self._numbers == self._texts - 1:  # a column with one other text holds no amounts
                amount = read_amount(text)
                self._numbers += amount == EITHER or (isinstance(amount, Amount) and not _PADDED.match(text))
                self._decimals += bool(isinstance(amount, Amount) and (amount.currency or _DECIMALS.search(text)))

    @property
    def is_amount(self) -> bool:
        """Amounts only, some with decimals or a currency, or under a header that speaks of money."""
        return 0 < self._texts == self._numbers and bool(self._decimals or _AMOUNT_WORDS.search(self.name))

    @property
    def is_file(self) -> bool:
        """Names of files, for the most part."""
        return 2 * self._files > self._texts


def profile_of(source: Source, *, hidden: bool = False, look: Callable[[], None] = lambda: None) -> Profile:
    """Go once through the rows that take part; `look` is called at each, and may raise."""
    columns = [(column.index, _Column(column.name)) for column in source.layout.own]
    finder = KeyFinder(source.layout.own)
    rows = 0
    for rows, row in enumerate(source.chosen(), 1):  # noqa: B007  it is asked at the end
        look()
        finder.add(row.texts)
        refused = {problem.index for problem in row.problems if problem.refuses}
        for index, column in ((place, column) for place, column in columns if place not in refused):
            column.add(row.texts[index])
    different = tuple(c.name for _, c in columns if rows > 1 and c.is_different and not c.is_amount)
    files = tuple(column.name for _, column in columns if column.is_file)
    return Profile(
        sheet=source.sheet.name,
        header_row=source.sheet.header_row,
        columns=tuple(column.name for _, column in columns),
        different=different,
        amounts=tuple(column.name for _, column in columns if column.is_amount),
        hidden=hidden,
        key=finder.found or tuple(sorted(different, key=files.__contains__)[:1]),
        files=files,
    )


def repeated_keys(source: Source, key: tuple[str, ...], profile: Profile) -> int:
    """How many rows have the key of a row above."""
    places = [column.index for column in source.layout.own if column.name in key]
    if not places or set(key) & set(profile.different):
        return 0
    keys = [tuple(row.texts[place] for place in places) for row in source.chosen()]
    return len(keys) - len(set(keys))


def proposed(inputs: Iterable[Input], profile: Profile) -> dict[str, str]:
    """For each input of a task the column that it is made of, where one is surely meant; else "".

    For the name of a file that may be called otherwise: `PDF`.
    """
    found = {}
    for each in inputs:
        same = [name for name in profile.columns if each.is_called(name)]
        files = profile.files[:1] if each.name == FILE_NAME and not same else ()
        found[each.name] = next(iter(same if len(same) == 1 else files), "")
    return found


async def plan_rows(
    source: Source, journal: Journal, at_once: Callable[[], int] = lambda: CHUNK
) -> AsyncIterator[list[tuple[Step, RowParams]]]:
    """The plan: what to do with each row, in the sheet's order; a chunk is placed when it is asked for."""
    rows = source.places()
    while chunk := tuple(islice(rows, at_once())):
        await checkpoint_if_cancelled()  # what the journal does isn't cut short
        yield list(zip(await journal.register(chunk), chunk, strict=True))


async def look_ahead(
    source: Source,
    journal: Journal,
    is_hasty: Callable[[], bool] = lambda: False,
    look: Callable[[], None] = lambda: None,
) -> tuple[str, ...]:
    """Ask the whole sheet what has to be known before its first row is planned.

    `look` is called on the way, and may raise. Gives a sentence where rows ran before of which it could not tell what
    makes them unique.
    """
    if journal.may_have_twins:  # of rows with equal keys, a later one may be what was sent before
        await see(source, journal, is_hasty, look)
    if not journal.needs_claims:
        return ()
    for chunk in chunks(source.every(), CHUNK):  # rows that ran before anybody asked what makes them unique
        if is_hasty():
            await journal.leave_unasked()
            return ()
        look()
        await journal.adopt(chunk)
    return journal.unclaimed()


async def see(
    source: Source, journal: Journal, is_hasty: Callable[[], bool], look: Callable[[], None] = lambda: None
) -> None:
    """Have the journal note all rows of the sheet, and find out which of its rows they are."""
    with journal.known_keys() as is_known:
        for chunk in chunks(source.every(is_hasty, is_known), SEEN_CHUNK):
            await checkpoint_if_cancelled()
            look()
            await journal.see(chunk)
    for _chunk in takewhile(lambda _: not is_hasty(), chunks(source.every_again(is_hasty), SEEN_CHUNK)):
        await checkpoint_if_cancelled()
        look()
    await journal.tell_apart(None if is_hasty() else source.identifying)


def chunks(rows: Iterator[RowParams], size: int) -> Iterator[tuple[RowParams, ...]]:
    """The rows, so many at once."""
    while chunk := tuple(islice(rows, size)):
        yield chunk
