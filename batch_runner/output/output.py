"""Sheet + outcomes → the file, checked and swapped in."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from batch_runner.errors import OutputFailed
from batch_runner.output.alignment import check_alignment, check_appended
from batch_runner.output.earlier import with_earlier
from batch_runner.output.longtext import LongTexts
from batch_runner.sheet.errors import SheetError, Unlike
from batch_runner.sheet.row import NewColumns
from batch_runner.sheet.tables import write_table
from batch_runner.sheet.written import open_written

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    from batch_runner.journal import Placed
    from batch_runner.layout import Layout
    from batch_runner.output.target import Target
    from batch_runner.sheet.sheet import Sheet

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

    def __init__(self, sheet: Sheet, layout: Layout, target: Target, expand: bool) -> None:
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
                notes = self._sheet.append(file, new, cells)
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
            rows = sheet.appended(draft, new)
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
