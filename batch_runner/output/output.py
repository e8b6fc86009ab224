"""Sheet and outcomes become the output file: written, checked, swapped in."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from bisect import bisect_left
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from batch_runner.errors import OutputFailed, SheetError, Unlike
from batch_runner.fs import AtomicFile
from batch_runner.job.job import stem_of
from batch_runner.journal.view import Placed
from batch_runner.output.verify import check_alignment, check_appended
from batch_runner.sheet.export import append_columns, appended, open_written, refuse_unwritable, write_table
from batch_runner.sheet.model import NewColumns, RowKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from batch_runner.rows.columns import NewField, OurColumns
    from batch_runner.sheet.model import Row, Sheet


CELL_UNITS = 32_767
"""What one cell of a workbook holds, in UTF-16 units (Excel specifications and limits)."""


_CUT = re.compile(r" … \[cut: the whole text is in ([^/\\\]]+\.long\.jsonl)\]\Z")
"""How a cell ends that holds a part of a text."""


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
        cut = cut_text(text, self._target.path.name)
        if cut == text:
            return text
        if self._spool is None:
            self._spool = tempfile.TemporaryFile(dir=self._target.path.parent)  # noqa: SIM115  closed on leaving
        self._count += 1
        whole = text.encode("utf-8", "replace").decode()
        self._spool.write(msgspec.json.encode(LongText(number, header, whole)) + b"\n")
        return cut


def cut_text(text: str, name: str) -> str:
    """A text as a cell can hold it; where it is cut, it says in which file the whole is."""
    encoded = text.encode("utf-16-le", "surrogatepass")
    if len(encoded) <= 2 * CELL_UNITS:
        return text
    mark = f" … [cut: the whole text is in {name}]"
    room = CELL_UNITS - len(mark.encode("utf-16-le")) // 2
    return encoded[: 2 * room].decode("utf-16-le", "ignore") + mark


class WholeTexts:
    """The long texts of earlier outputs in one folder, found by what a cell has of them. Holds only where they stand.

    A file is opened when a cell first names it, and kept open: ours replaces it in the end.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, tuple[BinaryIO, dict[bytes, list[tuple[int, int]]]] | None] = {}

    def whole(self, row: int, text: str) -> str:
        """The whole of a text that may be cut; as it is where no file has it, or several texts begin like it."""
        named = _CUT.search(text) if len(text) > CELL_UNITS // 2 else None
        opened = self._opened(named[1]) if named is not None else None
        if opened is None:
            return text
        file, places = opened
        found = places.get(_digest(text), [])
        here = [place for number, place in found if number == row] or [place for _number, place in found]
        texts = {_long_text(file, place).text for place in here}
        return texts.pop() if len(texts) == 1 else text

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for opened in self._files.values():
            if opened is not None:
                opened[0].close()

    def _opened(self, name: str) -> tuple[BinaryIO, dict[bytes, list[tuple[int, int]]]] | None:
        if name not in self._files:
            try:
                file = (self._folder / name).open("rb")
            except OSError:  # moved or deleted: the cell keeps what it has
                self._files[name] = None
            else:
                self._files[name] = file, _places(file, name)
        return self._files[name]


def _places(file: BinaryIO, name: str) -> dict[bytes, list[tuple[int, int]]]:
    """Row number and offset of each text, by a digest of what a cell has of it."""
    places: dict[bytes, list[tuple[int, int]]] = {}
    offset = 0
    for line in file:
        try:
            long = msgspec.json.decode(line, type=LongText)
        except msgspec.DecodeError:  # not a line of ours
            pass
        else:
            places.setdefault(_digest(cut_text(long.text, name)), []).append((long.row, offset))
        offset += len(line)
    return places


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _long_text(file: BinaryIO, place: int) -> LongText:
    file.seek(place)
    return msgspec.json.decode(file.readline(), type=LongText)


def _unchecked(draft: Path) -> None:
    """The spool is the one copy there is: nothing to compare it with."""


_ROWS = (RowKind.DATA, RowKind.HIDDEN)


def with_earlier(
    sheet: Sheet, layout: OurColumns, outcomes: Iterator[Placed], long: WholeTexts | None = None
) -> Iterator[Placed]:
    """The outcomes, and between them those that stand in the sheet itself for rows without one, in order of number.

    `long` has the whole of what was too long for its cells.
    """
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
            yield _placed(row, ours, long)


def _placed(row: Row, ours: list[int], long: WholeTexts | None) -> Placed:
    texts = (row.texts[index] for index in ours)
    run_id, status, result, error = (long.whole(row.number, text) if long else text for text in texts)
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
        with WholeTexts(self._sheet.path.parent) as long:
            return self._put(lambda: with_earlier(self._sheet, self._layout, outcomes(), long), keep)

    def _put(self, all_outcomes: Callable[[], Iterator[Placed]], keep: bool) -> Written:
        fields, note = self._fields(all_outcomes)
        notes = [note] if note else []

        def write(file: BinaryIO) -> None:
            notes.extend(self._write(file, all_outcomes(), fields))

        try:
            path = self._target.put(write, lambda draft: self._check(draft, all_outcomes, fields), keep=keep)
        except SheetError as error:
            other = self._target.path.with_suffix(".csv")
            raise OutputFailed(f"{error}; the journal has it all: the same command with --output {other}") from error
        if path != self._target.path:
            notes.append(f"{self._target.path.name} could not be replaced (open, read-only or edited): see {path.name}")
        return Written(path, tuple(notes))

    def _fields(self, outcomes: Callable[[], Iterator[Placed]]) -> tuple[tuple[NewField, ...], str | None]:
        """The columns to write, and what a person should hear where not every key of the results has one."""
        layout = self._layout
        if not self._expand and not layout.has_expanded:
            return layout.fields(()), None
        keys = _keys(outcomes(), layout.expanded_keys())
        fields = layout.fields(keys, grow=self._expand)
        kept = layout.fields(keys, grow=False)
        fresh = fields[len(kept) :]
        room = min(len(fresh), MOST_KEYS)
        if not self._has_room((*kept, *fresh[:room])):
            room = bisect_left(range(1, room), True, key=lambda count: not self._has_room((*kept, *fresh[:count])))
        if room == len(fresh):
            return fields, None
        what = f"more than {MOST_KEYS} keys" if room == MOST_KEYS else "more keys than there is room for"
        return (*kept, *fresh[:room]), f"the results have {what}: the first {room} have columns of their own"

    def _has_room(self, fields: tuple[NewField, ...]) -> bool:
        try:
            refuse_unwritable(self._sheet, self._ending, self._new(fields))
        except SheetError:
            return False
        return True

    def _new(self, fields: tuple[NewField, ...]) -> NewColumns:
        return NewColumns(tuple(field.header for field in fields), self._layout.replaced)

    def _write(self, file: BinaryIO, outcomes: Iterable[Placed], fields: tuple[NewField, ...]) -> tuple[str, ...]:
        """The sheet with our columns to `file`, and what is too long for it beside it. Returns notes for a person."""
        new = self._new(fields)
        with LongTexts(self._target) as long:
            cells = _cells(outcomes, fields)
            if self._ending in WORKBOOKS:
                cells = ((number, long.fitted(number, new.headers, texts)) for number, texts in cells)
            if self._sheet.path.suffix.lower() == self._ending:
                notes = append_columns(self._sheet, file, new, cells)
            else:
                notes = write_table(file, self._ending, self._sheet, new, cells)
            return (*notes, *long.put())

    def _check(self, draft: Path, outcomes: Callable[[], Iterator[Placed]], fields: tuple[NewField, ...]) -> None:
        """Read the draft back: every input row once, in order, each with its own run (DESIGN, *The output*)."""
        if self._ending not in CHECKED:
            return
        sheet, layout = self._sheet, self._layout
        name = self._target.path.name  # the draft is hidden, and gone by the time that a person reads of it
        try:
            try:
                rows = appended(sheet, draft, self._new(fields))
                check_appended(name, sheet.header_row, layout.headers[0], rows, outcomes())
            except Unlike:
                with open_written(draft, sheet) as written:
                    check_alignment(sheet, written, layout, outcomes())
        except (SheetError, OutputFailed) as error:
            raise type(error)(str(error).replace(draft.name, name)) from error


def _cells(outcomes: Iterable[Placed], fields: tuple[NewField, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
    is_expanded = any(field.key is not None for field in fields)
    for placed in outcomes:
        four = (placed.run_id, placed.status, placed.result, placed.error)
        values = _top_level(placed.result) if is_expanded else {}
        yield placed.number, tuple(_text(field, four, values) for field in fields)


def _text(field: NewField, four: tuple[str, ...], values: dict[str, msgspec.Raw]) -> str:
    if field.ours is not None:
        return four[field.ours]
    return "" if field.key is None else _plain(values.get(field.key))


def _keys(outcomes: Iterable[Placed], known: set[str]) -> tuple[str, ...]:
    """The top-level keys of all results, in the order in which they first come.

    Those that have a column already (`known`) are all among them, of others only some more than can have one.
    """
    keys: dict[str, None] = {}
    fresh = 0
    for placed in outcomes:
        for key in _top_level(placed.result):
            if key not in keys and (key in known or fresh <= MOST_KEYS):
                keys[key] = None
                fresh += key not in known
    return tuple(keys)


def _top_level(result: str) -> dict[str, msgspec.Raw]:
    """The values of an object by key; none where it can't be taken apart (half a character, nested without end)."""
    if not result.startswith("{"):
        return {}
    try:
        return _decode_object(result)
    except (msgspec.DecodeError, RecursionError):
        return {}


def _plain(value: msgspec.Raw | None) -> str:
    """A text as itself, null as nothing, all else as the JSON that it came as."""
    text = "" if value is None else bytes(value).decode().strip()
    if text.startswith('"'):
        return str(json.loads(text))
    return "" if text == "null" else text
