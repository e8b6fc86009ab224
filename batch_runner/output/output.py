"""Sheet and outcomes become the output file: written, checked, swapped in."""

from __future__ import annotations

import json
import shutil
import tempfile
from functools import partial
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from batch_runner.errors import OutputFailed, SheetError, Unlike
from batch_runner.fs import AtomicFile
from batch_runner.job.job import stem_of
from batch_runner.journal.view import Placed
from batch_runner.output.verify import check_alignment, check_appended
from batch_runner.sheet.export import append_columns, appended, open_written, write_table
from batch_runner.sheet.model import LIST_ROWS, NewColumns, RowKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from batch_runner.rows.columns import OurColumns
    from batch_runner.sheet.model import Row, Sheet


CELL_UNITS = 32_767
"""What one cell of a workbook holds, in UTF-16 units (Excel specifications and limits)."""


class LongText(msgspec.Struct, frozen=True):
    """One line of the file: the row's number, the header of the column, the whole text."""

    row: int
    column: str
    text: str


class LongTexts:
    """The long texts of one output, gathered while it is written, put beside it by `put`, and let go on leaving."""

    def __init__(self, output: AtomicFile) -> None:
        beside = output.real.with_name(f"{stem_of(output.real)}.long.jsonl")
        self._target = AtomicFile(beside, beside, output.mode)
        self._is_elsewhere = output.real != output.path
        self._spool: BinaryIO | None = None
        self._count = 0

    def fitted(self, number: int, headers: tuple[str, ...], texts: tuple[str, ...]) -> tuple[str, ...]:
        """The texts of one row as cells can hold them; what is too long is kept whole."""
        if all(len(text) <= CELL_UNITS // 2 for text in texts):
            return texts
        return tuple(self._fit(number, header, text) for header, text in zip(headers, texts, strict=True))

    def put(self) -> tuple[str, ...]:
        """Put the file beside the output, if there was anything too long; says so in a sentence."""
        spool = self._spool
        if spool is None:
            return ()
        spool.seek(0)
        path = self._target.put(lambda file: shutil.copyfileobj(spool, file), _unchecked)
        texts = "1 text was" if self._count == 1 else f"{self._count} texts were"
        return (f"{texts} too long for a cell and cut; {path if self._is_elsewhere else path.name} has the whole",)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._spool is not None:
            self._spool.close()

    def _fit(self, number: int, header: str, text: str) -> str:
        encoded = text.encode("utf-16-le", "surrogatepass")
        if len(encoded) <= 2 * CELL_UNITS:
            return text
        if self._spool is None:
            self._spool = tempfile.TemporaryFile(dir=self._target.path.parent)  # noqa: SIM115  closed on leaving
        self._count += 1
        whole = text.encode("utf-8", "replace").decode()
        self._spool.write(msgspec.json.encode(LongText(number, header, whole)) + b"\n")
        mark = f" … [cut: the whole text is in {self._target.path.name}]"
        room = CELL_UNITS - len(mark.encode("utf-16-le")) // 2
        return encoded[: 2 * room].decode("utf-16-le", "ignore") + mark


def _unchecked(draft: Path) -> None:
    """The spool is the one copy there is: nothing to compare it with."""


_ROWS = (*LIST_ROWS, RowKind.TOTALS, RowKind.OUTSIDE)


def with_earlier(sheet: Sheet, layout: OurColumns, outcomes: Iterator[Placed]) -> Iterator[Placed]:
    """The outcomes, and between them those that stand in the sheet itself for rows without one, in order of number."""
    ours = layout.places(sheet.columns)
    if not ours:
        yield from outcomes
        return
    placed = next(outcomes, None)
    for row in sheet.rows():
        if placed is not None and placed.number == row.number:
            yield placed
            placed = next(outcomes, None)
        elif row.kind in _ROWS and any(row.texts[index] for index in ours):
            yield _placed(row, ours)


def _placed(row: Row, ours: list[int]) -> Placed:
    run_id, status, result, error = (row.texts[index] for index in ours)
    return Placed(row.number, status, run_id, result, error, changed=False)


WORKBOOKS = (".xlsx", ".xlsm")
MOST_KEYS = 1_000
"""So many columns may `--expand` add: results keyed by something like a number would outgrow any sheet."""
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
CHECKED = (*WORKBOOKS, ".csv", ".tsv")
"""The formats that are read back before the swap."""


class Written(msgspec.Struct, frozen=True):
    """Where the output ended up, and what a person should hear about it."""

    path: Path
    notes: tuple[str, ...]


class Output:
    """The output of one batch: the sheet's rows with our columns right of them.

    `outcomes` streams what came of each row that took part, in order of its number, anew at each call.
    """

    def __init__(self, sheet: Sheet, layout: OurColumns, target: AtomicFile, expand: bool) -> None:
        self._sheet = sheet
        self._layout = layout
        self._target = target
        self._expand = expand
        self._ending = target.path.suffix.lower()

    def write(self, outcomes: Callable[[], Iterator[Placed]], keep: bool) -> Written:
        """Write the file; with `keep` beside the one that stands there. Raises `OutputFailed`."""
        all_outcomes = partial(self._with_earlier, outcomes)
        keys = _keys(all_outcomes()) if self._expand else ()
        notes: list[str] = []
        if len(keys) > MOST_KEYS:
            keys = keys[:MOST_KEYS]
            notes.append(
                f"the results have more than {MOST_KEYS} keys: the first {MOST_KEYS} have columns of their own"
            )

        def write(file: BinaryIO) -> None:
            notes.extend(self._write(file, all_outcomes(), keys))

        try:
            path = self._target.put(write, lambda draft: self._check(draft, all_outcomes), keep=keep)
        except SheetError as error:
            other = self._target.path.with_suffix(".csv")
            raise OutputFailed(f"{error}; the journal has it all: the same command with --output {other}") from error
        if path != self._target.path:
            notes.append(f"{self._target.path.name} could not be replaced (open, read-only or edited): see {path.name}")
        return Written(path, tuple(notes))

    def _with_earlier(self, outcomes: Callable[[], Iterator[Placed]]) -> Iterator[Placed]:
        return with_earlier(self._sheet, self._layout, outcomes())

    def _write(self, file: BinaryIO, outcomes: Iterable[Placed], keys: tuple[str, ...]) -> tuple[str, ...]:
        """The sheet with our columns to `file`, and what is too long for it beside it. Returns notes for a person."""
        new = NewColumns(self._layout.expanded(keys), self._layout.replaced)
        with LongTexts(self._target) as long:
            cells = _cells(outcomes, keys)
            if self._ending in WORKBOOKS:
                cells = ((number, long.fitted(number, new.headers, texts)) for number, texts in cells)
            if self._sheet.path.suffix.lower() == self._ending:
                notes = append_columns(self._sheet, file, new, cells)
            else:
                notes = write_table(file, self._ending, self._sheet, new, cells)
            return (*notes, *long.put())

    def _check(self, draft: Path, outcomes: Callable[[], Iterator[Placed]]) -> None:
        """Read the draft back: every input row once, in order, each with its own run (DESIGN, *The output*)."""
        if self._ending not in CHECKED:
            return
        sheet, layout = self._sheet, self._layout
        new = NewColumns(layout.headers, layout.replaced)
        try:
            rows = appended(sheet, draft, new)
            check_appended(draft.name, sheet.header_row, layout.headers[0], rows, outcomes())
        except Unlike:
            with open_written(draft, sheet) as written:
                check_alignment(sheet, written, layout, outcomes())


def _cells(outcomes: Iterable[Placed], keys: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
    for placed in outcomes:
        expanded = _expanded(placed.result, keys)
        yield placed.number, (placed.run_id, placed.status, placed.result, placed.error, *expanded)


def _keys(outcomes: Iterable[Placed]) -> tuple[str, ...]:
    """The top-level keys of all results, in the order in which they first come; ends where there are too many."""
    keys: dict[str, None] = {}
    for placed in outcomes:
        keys.update(dict.fromkeys(_top_level(placed.result)))
        if len(keys) > MOST_KEYS:
            break
    return tuple(keys)


def _top_level(result: str) -> dict[str, msgspec.Raw]:
    """The values of an object by key; none where it can't be taken apart (half a character, nested without end)."""
    if not result.startswith("{"):
        return {}
    try:
        return _decode_object(result)
    except (msgspec.DecodeError, RecursionError):
        return {}


def _expanded(result: str, keys: tuple[str, ...]) -> tuple[str, ...]:
    if not keys:
        return ()
    values = _top_level(result)
    return tuple(_plain(values.get(key)) for key in keys)


def _plain(value: msgspec.Raw | None) -> str:
    """A text as itself, null as nothing, all else as the JSON that it came as."""
    text = "" if value is None else bytes(value).decode().strip()
    if text.startswith('"'):
        return str(json.loads(text))
    return "" if text == "null" else text
