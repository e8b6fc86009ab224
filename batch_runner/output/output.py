"""Sheet and outcomes become the output file: written, checked, swapped in.

The check before the swap: every input row once, in order, each with its own run and all else of ours.
"""

from __future__ import annotations

import hashlib
import os
import re
from bisect import bisect_left
from heapq import merge
from itertools import zip_longest
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from batch_runner.errors import OutputFailed, SheetError, Unlike
from batch_runner.fs import AtomicFile, digest_of
from batch_runner.journal.outputs import WrittenHeaders, WrittenOutput
from batch_runner.output.long_texts import LongTexts
from batch_runner.rows.columns import NewField, free_name, plain_text, top_level
from batch_runner.sheet.csv.writer import harmless
from batch_runner.sheet.export import (
    READ_BACK,
    Grid,
    append_columns,
    appended,
    open_written,
    refuse_unwritable,
    write_table,
    written_lines,
)
from batch_runner.sheet.model import LIST_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from batch_runner.journal.view import Placed
    from batch_runner.rows.columns import OurColumns
    from batch_runner.sheet.model import Column, NewColumns, Row, Sheet


MOST_KEYS = 1_000
"""So many columns may `--expand` add: results keyed by something like a number would outgrow any sheet."""


class Written(msgspec.Struct, frozen=True):
    """Where the output ended up, and what a person should hear about it."""

    path: Path
    notes: tuple[str, ...]
    cautions: tuple[str, ...] = ()
    """Those of the notes that a person should hear however quiet the program is to be."""


class HerNotes(msgspec.Struct, frozen=True):
    """Columns that a person added to the output, and what stands in them, by the number of tonight's row."""

    headers: tuple[str, ...] = ()
    texts: dict[int, tuple[str, ...]] = {}


class Output:
    """The output of one batch: the sheet's rows with our columns right of them, and `hers` right of those."""

    def __init__(
        self, sheet: Sheet, layout: OurColumns, target: AtomicFile, expand: bool, hers: HerNotes | None = None
    ) -> None:
        self._sheet = sheet
        self._layout = layout
        self._target = target
        self._expand = expand
        self._hers = hers or HerNotes()
        self._ending = target.path.suffix.lower()

    def write(
        self,
        outcomes: Callable[[], Iterator[Placed]],
        may_replace: Callable[[Path], bool] | None = None,
        note: Callable[[WrittenOutput], None] = lambda _written: None,
    ) -> Written:
        """Write the file. Raises `OutputFailed`.

        `outcomes` streams what came of each row, in order of its number, anew at each call. `may_replace` is as for
        `AtomicFile.put`; `note` hears what was written, and is to remember it, before it takes its place.
        """
        fields, sentence = self._fields(outcomes)
        notes = [sentence] if sentence else []
        hashed = CellsHash()

        def write(file: BinaryIO) -> None:
            notes.extend(self._write(file, outcomes, fields, hashed))

        def check(draft: Path) -> None:
            self._check(draft, outcomes, fields)
            path, digest = os.path.realpath(self._target.real), digest_of(draft) or ""
            note(WrittenOutput(path, digest, hashed.digest, self._headers(fields)))

        try:
            path = self._target.put(write, check, may_replace)
        except SheetError as error:
            other = self._target.path.with_suffix(".csv")
            raise OutputFailed(f"{error}; the journal has it all: the same command with --output {other}") from error
        if path != self._target.path:
            notes.append(f"{self._target.path.name} could not be replaced (open, read-only or edited): see {path.name}")
        return Written(path, tuple(notes))

    def _fields(self, outcomes: Callable[[], Iterator[Placed]]) -> tuple[tuple[NewField, ...], str | None]:
        """The columns to write, and what a person should hear where not every key of the results has one."""
        layout = self._layout
        if not self._expand and not layout.expanded:
            return self._with_hers(layout.fields(())), None
        keys = _keys(outcomes(), layout.expanded_keys())
        fields = layout.fields(keys, grow=self._expand)
        kept = layout.fields(keys, grow=False)
        fresh = fields[len(kept) :]
        room = min(len(fresh), MOST_KEYS)
        if not self._has_room((*kept, *fresh[:room])):
            room = bisect_left(range(1, room), True, key=lambda count: not self._has_room((*kept, *fresh[:count])))
        if room == len(fresh):
            return self._with_hers(fields), None
        what = f"more than {MOST_KEYS} keys" if room == MOST_KEYS else "more keys than there is room for"
        return self._with_hers(
            (*kept, *fresh[:room])
        ), f"the results have {what}: the first {room} have columns of their own"

    def _has_room(self, fields: tuple[NewField, ...]) -> bool:
        try:
            refuse_unwritable(self._sheet, self._ending, self._new(fields))
        except SheetError:
            return False
        return True

    def _with_hers(self, fields: tuple[NewField, ...]) -> tuple[NewField, ...]:
        taken = {column.name.casefold() for column in (*self._layout.own, *self._layout.beside)}
        taken |= {field.header.casefold() for field in fields}
        for place, header in enumerate(self._hers.headers):
            name = free_name(header, taken)
            taken.add(name.casefold())
            fields = (*fields, NewField(name, note=place))
        return fields

    def _new(self, fields: tuple[NewField, ...]) -> NewColumns:
        return self._layout.new_columns(fields, self._sheet)

    def _headers(self, fields: tuple[NewField, ...]) -> WrittenHeaders:
        ours = [field for field in fields if field.note is None]
        four = sorted((field for field in ours if field.ours is not None), key=lambda field: field.ours or 0)
        return WrittenHeaders(
            own=tuple(column.name for column in self._layout.own),
            ours=tuple(field.header for field in (*four, *(field for field in ours if field.ours is None))),
            hers=(
                *(column.name for column in self._layout.beside),
                *(field.header for field in fields if field.note is not None),
            ),
        )

    def _write(
        self,
        file: BinaryIO,
        outcomes: Callable[[], Iterator[Placed]],
        fields: tuple[NewField, ...],
        hashed: CellsHash,
    ) -> tuple[str, ...]:
        """The sheet with our columns to `file`, and what is too long for it beside it. Returns notes for a person.

        `hashed` gets the cells of ours.
        """
        new = self._new(fields)
        ours = slice(sum(field.note is None for field in fields))
        with LongTexts(self._target) as long:

            def cells() -> Iterator[tuple[int, tuple[str, ...]]]:
                for number, texts in self._cells(outcomes(), fields):
                    fitted = long.fitted(number, new.headers, texts)
                    del texts  # it may be long, and the next one is made before this name is given to it
                    hashed.add(fitted[ours])
                    yield number, fitted

            fitted = cells()
            if self._sheet.path.suffix.lower() == self._ending:
                notes = append_columns(self._sheet, file, new, fitted)
            else:
                is_grouped = self._ending == ".parquet"
                longest = max((len(each.result) for each in outcomes()), default=0) if is_grouped else 0
                notes = write_table(file, self._ending, self._sheet, new, fitted, longest)
            return (*notes, *long.put())

    def _check(self, draft: Path, outcomes: Callable[[], Iterator[Placed]], fields: tuple[NewField, ...]) -> None:
        """Read the draft back: every input row once, in order, each with its own run (DESIGN, *The output*)."""
        new = self._new(fields)
        with LongTexts(self._target) as long:

            def cells() -> Iterator[tuple[int, tuple[str, ...]]]:
                for number, texts in self._cells(outcomes(), fields):
                    cut = long.cut(texts)
                    del texts
                    yield number, cut

            own = (*self._layout.own, *self._layout.beside)
            check_output(draft, self._target.path.name, self._sheet, own, new, cells)

    def _cells(self, outcomes: Iterable[Placed], fields: tuple[NewField, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
        """The new cells of each row that has any."""
        is_expanded = any(field.key is not None for field in fields)
        if not self._hers.texts:
            is_plain = [field.ours for field in fields] == [0, 1, 2, 3]
            for placed in outcomes:
                number, four = placed.number, (placed.run_id, placed.status, placed.result, placed.error)
                texts = four if is_plain else self._texts(number, placed, fields, is_expanded)
                del four
                del placed
                yield number, texts
                del texts
            return
        noted = ((number, None) for number in sorted(self._hers.texts))
        numbered = ((placed.number, placed) for placed in outcomes)
        waiting: tuple[int, Placed | None] | None = None
        for number, found in merge(numbered, noted, key=lambda each: each[0]):
            if waiting is not None and waiting[0] != number:
                yield waiting[0], self._texts(*waiting, fields, is_expanded)
                waiting = None
            waiting = (number, found or (waiting[1] if waiting else None))
        if waiting is not None:
            yield waiting[0], self._texts(*waiting, fields, is_expanded)

    def _texts(
        self, number: int, placed: Placed | None, fields: tuple[NewField, ...], is_expanded: bool
    ) -> tuple[str, ...]:
        four = (placed.run_id, placed.status, placed.result, placed.error) if placed else ("",) * 4
        values = top_level(four[2]) if is_expanded else {}
        hers = self._hers.texts.get(number)
        return tuple(_text(field, four, values, hers) for field in fields)


def _text(field: NewField, four: tuple[str, ...], values: dict[str, msgspec.Raw], hers: tuple[str, ...] | None) -> str:
    if field.ours is not None:
        return four[field.ours]
    if field.note is not None:
        return hers[field.note] if hers else ""
    return "" if field.key is None else plain_text(values.get(field.key))


def _keys(outcomes: Iterable[Placed], known: set[str]) -> tuple[str, ...]:
    """The top-level keys of all results, in the order in which they first come.

    Those that have a column already (`known`) are all among them, of others only some more than can have one.
    """
    keys: dict[str, None] = {}
    fresh = 0
    for placed in outcomes:
        for key in top_level(placed.result):
            if key not in keys and (key in known or fresh <= MOST_KEYS):
                keys[key] = None
                fresh += key not in known
        del placed  # its result may be long, and the next one is made before this name is given to it
    return tuple(keys)


Cells = tuple[int, tuple[str, ...]]


_ODD = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffd-\uffff]")
"""What not every format can hold as it is: left out where texts are compared."""


_REWRITTEN = re.compile("[\0\r\ud800-\udfff\ufffd-\uffff]")
"""What other programs leave out when they save a file again."""


def unharmed(text: str) -> str:
    """A text without the `'` that keeps it harmless in a text file."""
    return text[1:] if text.startswith("'") and harmless(text[1:]) != text[1:] else text


def _is_plain(text: str) -> bool:
    """Whether no program and no format would change anything about it."""
    return text.isascii() and text.isprintable() and text[:1] != "'"


def resaved(text: str) -> str:
    """A text as it is when another program has saved its file, too: what differs then was changed by a person."""
    return text if _is_plain(text) else unharmed(_REWRITTEN.sub("", text))


def comparable(text: str) -> str:
    """A text without all that a format may have changed about it, to be held against what was to be written."""
    return text if _is_plain(text) else unharmed(_ODD.sub("", text))


class CellsHash:
    """A hash over the cells of ours of all rows, in whatever order they come: a sorted output has the same."""

    def __init__(self) -> None:
        self._sum = 0

    def add(self, texts: Iterable[str]) -> None:
        """One row's cells; a row without any counts as none."""
        texts = tuple(texts)
        if not _is_plain(line := "".join(texts)) or "'" in line:
            texts = tuple(map(resaved, texts))
        if any(texts):
            self._sum += int.from_bytes(hashlib.sha256(msgspec.json.encode(texts)).digest()[:16])

    @property
    def digest(self) -> bytes:
        """What stands for all of them."""
        return (self._sum % (1 << 128)).to_bytes(16)


class Expected:
    """The new cells as they should have come out; asked for row by row, in ascending order."""

    def __init__(self, name: str, headers: tuple[str, ...], cells: Iterable[Cells]) -> None:
        self._name = name
        self._nothing = ("",) * len(headers)
        self._cells = iter(cells)
        self._next: Cells | None = None

    def of(self, number: int) -> tuple[str, ...]:
        """The new texts of a row."""
        if self._next is None:
            self._next = next(self._cells, None)
        if self._next is None or self._next[0] != number:
            return self._nothing
        texts, self._next = self._next[1], None
        return texts

    def wrong(self, number: int | None) -> OutputFailed:
        """What to raise about a row; None: the header row."""
        what = f"row {number}" if number is not None else "the header row"
        return OutputFailed(f"{self._name}: {what} came out wrong, so nothing was replaced; please report this")

    def finish(self) -> None:
        """Raises `OutputFailed` where cells are left for which there was no row."""
        left = self._next or next(self._cells, None)
        if left is not None:
            raise OutputFailed(f"{self._name}: row {left[0]} has an outcome but no place in the output")


def check_output(
    draft: Path, name: str, sheet: Sheet, own: Sequence[Column], new: NewColumns, cells: Callable[[], Iterator[Cells]]
) -> None:
    """Read a draft back and hold it against the sheet and the new cells. Raises `OutputFailed` naming the row.

    `name` is what messages call the file: the draft is hidden, and gone by the time that a person reads of it.
    """
    try:
        if draft.suffix.lower() not in READ_BACK:
            check_lines(written_lines(draft), sheet, new, Expected(name, new.headers, cells()))
            return
        try:
            check_appended(appended(sheet, draft, new), sheet.header_row, new, Expected(name, new.headers, cells()))
        except Unlike:
            with open_written(draft, sheet) as written:
                check_alignment(sheet, written, own, new, Expected(name, new.headers, cells()))
    except SheetError as error:
        raise OutputFailed(str(error).replace(draft.name, name)) from error


def check_appended(rows: Iterator[Cells], header_row: int, new: NewColumns, expected: Expected) -> None:
    """Where each row's own cells were compared already: `rows` are (number, texts in the new columns).

    Raises `OutputFailed`, and `Unlike` as `appended`.
    """
    for number, texts in rows:
        wanted = new.headers if number == header_row else expected.of(number)
        if not _same_texts(wanted, texts):
            raise expected.wrong(number if number != header_row else None)
    expected.finish()


def check_lines(lines: Iterator[tuple[str, ...]], sheet: Sheet, new: NewColumns, expected: Expected) -> None:
    """Where the file has the rows of the list only, each with all its texts, and no numbers."""
    grid = Grid(sheet, new, ())
    for row in sheet.rows():
        texts = dict(enumerate(row.texts)) | dict(zip(grid.new_places, expected.of(row.number), strict=True))
        if row.kind in LIST_ROWS and not _same_texts([texts[place] for place in grid.places], next(lines, ())):
            raise expected.wrong(row.number)
        del texts  # they may be long, and the next ones are made before this name is given to them
    if next(lines, None) is not None:
        raise expected.wrong(None)
    expected.finish()


def check_alignment(sheet: Sheet, written: Sheet, own: Sequence[Column], new: NewColumns, expected: Expected) -> None:
    """Compare what was written, read back, with the sheet and the new cells."""
    start = next((column.index for column in written.columns if column.name == new.headers[0]), None)
    if start is None and sheet.header_row:
        raise expected.wrong(None)
    places = [column.index for column in own]
    for row, back in zip_longest(sheet.rows(), written.rows()):
        if row is None or back is None or not _same_cells(row, back, places):
            raise expected.wrong((row or back).number)
        texts = expected.of(row.number)
        if start is None and any(texts):  # without headers the first row that has any shows where they stand
            start = next(
                (place for place in range(sheet.width, written.width) if _same_texts(texts, _cells(back, new, place))),
                None,
            )
            if start is None:
                raise expected.wrong(row.number)
        wanted = new.headers if row.number == sheet.header_row else texts
        if start is not None and row.number >= sheet.header_row and not _same_texts(wanted, _cells(back, new, start)):
            raise expected.wrong(row.number if row.number != sheet.header_row else None)
    expected.finish()


def _cells(back: Row, new: NewColumns, start: int) -> list[str]:
    return [back.texts[place] if place < len(back.texts) else "" for place in new.places_from(start)]


def _same_cells(row: Row, back: Row, own: Sequence[int]) -> bool:
    if row.number != back.number:
        return False
    if row.texts == back.texts[: len(row.texts)]:
        return True
    pairs = [(row.texts[index], back.texts[index]) for index in own if index < len(back.texts)]
    return len(pairs) == len(own) and all(text == back or comparable(text) == comparable(back) for text, back in pairs)


def _same_texts(texts: Sequence[str], back: Sequence[str]) -> bool:
    if texts == back or len(texts) != len(back):
        return len(texts) == len(back)
    return all(text == other or comparable(text) == comparable(other) for text, other in zip(texts, back, strict=True))
