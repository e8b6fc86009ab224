"""The rows of a sheet and what becomes of them; those of a batch: their stories, mended cells, settled ones."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import tempfile
import threading
from bisect import bisect_right
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import finalize

import msgspec

from batch_runner.errors import BatchRunnerError, SheetError, UsageError
from batch_runner.fs import AtomicFile
from batch_runner.job.job import Job
from batch_runner.journal.resolve import Finding, resolve, user_name
from batch_runner.journal.view import JournalView, Placed, Try
from batch_runner.outcomes import FAILED, GOING, RESOLVED, UNKNOWN
from batch_runner.rows.source import Source
from batch_runner.sheet.export import replace_cells
from batch_runner.sheet.model import LIST_ROWS, RowKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import BinaryIO

    from batch_runner.page.batches import BatchSeen
    from batch_runner.sheet.model import Row


PAGE = 50
MOST_MENDED = 25
"""Rows that one form offers for mending."""
MOST_LOOKED, LONGEST_GIST, MOST_SHEETS, MOST_DIGESTS = 200, 160, 3, 200
AT_ONCE = 2 << 20
"""Bytes of a sheet that is read before its screen is shown; a larger one is read beside it."""
CHUNK = 2_000
"""Rows that are kept together while a sheet is read."""
READING = ("sheet", "header_row", "no_header", "encoding", "delimiter", "merged", "as_shown", "trust_formulas")
LEFT = {
    RowKind.ABOVE: "above the list",
    RowKind.HEADER: "header",
    RowKind.EMPTY: "empty",
    RowKind.HIDDEN: "hidden in the sheet",
    RowKind.REPEATED: "the header once more",
    RowKind.TOTALS: "total row",
    RowKind.OUTSIDE: "below the end of the list",
    RowKind.SUSPECT: "looks like a total, a heading or a note",
}
"""Why a row takes no part."""
PLANNED = {
    "start": "will start",
    "poll": "goes on",
    "carried_over": "done before",
    "retried": "will start again",
    "held": "held back",
    "parked": "parked",
    "unknown": "unknown",
    "refused": "refused",
}
"""What becomes of a row, in words; the names are those of `Counts`."""


class ShownCell(msgspec.Struct, frozen=True):
    """A cell as the table shows it."""

    text: str
    is_refused: bool


class ShownRow(msgspec.Struct, frozen=True):
    """A row as the table shows it: what becomes of it, and why."""

    number: int
    kind: str
    word: str
    why: str
    cells: tuple[ShownCell, ...]


def sheet_rows(source: Source, steps: Mapping[int, tuple[str, str]], *, is_planned: bool) -> Iterator[ShownRow]:
    """All rows of a sheet as the table shows them; `steps` say what becomes of each, and why."""
    indexes = [column.index for column in source.layout.own]
    for row in source.sheet.rows():
        yield _shown(source, row, steps.get(row.number), indexes, is_planned=is_planned)


def _shown(
    source: Source, row: Row, step: tuple[str, str] | None, indexes: Iterable[int], *, is_planned: bool
) -> ShownRow:
    name, why = step or ("", "")
    is_refused = name == "refused" or not is_planned
    bad = {problem.index for problem in row.problems if problem.refuses and is_refused}
    if name == "refused":
        bad |= {index for index in indexes if f"{source.sheet.address(row.number, index)}:" in f"{why}:"}
    cells = tuple(ShownCell(row.texts[index], index in bad) for index in indexes)
    if row.kind is not RowKind.DATA:
        kind = "header" if row.kind is RowKind.HEADER else "left"
        return ShownRow(row.number, kind, LEFT[row.kind], "", cells)
    if not name:
        return ShownRow(row.number, "left" if is_planned else "taken", "left out" if is_planned else "", "", cells)
    kind = "refused" if name in ("refused", "held", "parked", "unknown") else "taken"
    return ShownRow(row.number, kind, PLANNED.get(name, name), why if name not in ("carried_over", why) else "", cells)


class RowShown(msgspec.Struct, frozen=True):
    """A row's outcome beside its own cells."""

    placed: Placed
    cells: tuple[str, ...]


class RowsPage(msgspec.Struct, frozen=True):
    """Some rows of a batch, and how to go on to the next. `is_edited`: the sheet is no longer what the batch read."""

    columns: tuple[str, ...]
    rows: tuple[RowShown, ...]
    following: int | None
    status: str
    search: str
    is_reading: bool
    is_edited: bool
    total: int | None


class MendRow(msgspec.Struct, frozen=True):
    """A row that did not succeed, with its cells to be mended."""

    placed: Placed
    cells: tuple[tuple[int, str, str], ...]


class Mending(msgspec.Struct, frozen=True):
    """The rows that can be mended, and the state of the file that they are read from; `more` have to wait."""

    rows: tuple[MendRow, ...] = ()
    fingerprint: str = ""
    columns: tuple[str, ...] = ()
    more: int = 0
    is_reading: bool = False


class _Cells:
    """A sheet's cells by row in a table of SQLite's own that is gone when it is closed."""

    def __init__(self, path: Path, chosen: Mapping[str, Any]) -> None:
        self.columns: tuple[tuple[int, str], ...] = ()
        self.sent: tuple[tuple[int, str], ...] = ()
        self.fingerprint, self.is_ready = "", False
        self.total: int | None = None
        self._lock = threading.Lock()
        self._connection = sqlite3.connect("", check_same_thread=False, isolation_level=None)
        finalize(self, self._connection.close).atexit = False  # a screen may still read what another one has let go
        self._connection.execute("CREATE TABLE cell (number INTEGER PRIMARY KEY, texts TEXT, folded TEXT)")
        self._path, self._chosen = path, chosen

    def read(self) -> None:
        """Read the whole sheet; rows are there as soon as they are read. What can't be read has no cells to show."""
        with suppress(BatchRunnerError, SheetError), open_own(self._path, self._chosen) as source:
            own = source.layout.own
            self.sent = tuple(_sent(source, self._chosen))
            self.fingerprint = source.sheet.fingerprint
            self.columns = tuple((column.index, column.name) for column in own)
            texts = ((r.number, [r.texts[c.index] for c in own]) for r in source.sheet.rows() if r.kind in LIST_ROWS)
            rows = ((number, json.dumps(cells), "\n".join(cells).casefold()) for number, cells in texts)
            while some := list(islice(rows, CHUNK)):
                with self._lock:
                    self._connection.execute("BEGIN")
                    self._connection.executemany("INSERT INTO cell VALUES (?, ?, ?)", some)
                    self._connection.execute("COMMIT")
            with self._lock:
                (self.total,) = self._connection.execute("SELECT count(*) FROM cell").fetchone()
        self.is_ready = True

    def of(self, number: int) -> tuple[str, ...]:
        """The cells of a row; none where it isn't there, or not read yet."""
        with self._lock:
            found = self._connection.execute("SELECT texts FROM cell WHERE number = ?", (number,)).fetchone()
        return tuple(json.loads(found[0])) if found else ()

    def having(self, words: str) -> list[int]:
        """The rows that have these words in one of their cells, in order; or whose number they are."""
        plain = words.casefold().replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        sql = "SELECT number FROM cell WHERE folded LIKE ? ESCAPE '\\' OR number = ? ORDER BY number"
        with self._lock:
            return [n for (n,) in self._connection.execute(sql, (f"%{plain}%", words if words.isdecimal() else -1))]


def open_own(path: Path, chosen: Mapping[str, Any]) -> Source:
    """A batch's sheet opened again, only to look at it. Raises `SheetError`, `UsageError`."""
    reading = {name: value for name, value in chosen.items() if name in READING}
    return Source(Job(input=str(path), hidden="include", suspect_rows="run", **reading), Path(tempfile.gettempdir()))


class OwnColumns:
    """The cells of the sheets that screens show, each read once for as long as it stays as it is."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, int, int], _Cells] = {}
        self._digests: dict[tuple[str, int, int], str] = {}
        self._lock = threading.Lock()

    def _cells(self, seen: BatchSeen) -> _Cells | None:
        """The sheet as the batch has read it: the sheet, or what the batch wrote; None where both were edited since."""
        of = seen.batch
        if self.digest(Path(of.input)) == of.input_sha256:
            return self._read(Path(of.input), seen)
        if of.ended and seen.is_latest and seen.written and self.digest(Path(of.output)) == seen.written:
            return self._read(Path(of.output), seen)
        return None

    def digest(self, path: Path) -> str:
        """The SHA-256 of a file as it is; "" where it can't be read."""
        with suppress(OSError):
            state = path.stat()
            known = (str(path), state.st_mtime_ns, state.st_size)
            if known not in self._digests:
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                self._digests = {**dict([*self._digests.items()][-MOST_DIGESTS:]), known: digest}
            return self._digests[known]
        return ""

    def _read(self, path: Path, seen: BatchSeen) -> _Cells:
        state = path.stat()
        key = (str(path), state.st_mtime_ns, state.st_size)
        with self._lock:
            known = self._known.get(key)
            if known is None:
                known = _Cells(path, seen.chosen)
                self._known = {**dict([*self._known.items()][-MOST_SHEETS:]), key: known}
                reading = threading.Thread(target=known.read, daemon=True)
                reading.start()
                if state.st_size <= AT_ONCE:
                    reading.join(5)
        return known

    def rows(self, seen: BatchSeen, query: Mapping[str, str]) -> RowsPage:
        """A page of rows: of one status or any, with these words or any, behind a number."""
        cells = self._cells(seen)
        status, words = query.get("status", ""), query.get("q", "").strip()
        after = int(query.get("after", "0")) if query.get("after", "").isdecimal() else 0
        with JournalView.open(seen.journal) as view:
            found = _found(view, seen.batch.id, status or None, words, cells) if words else None
            placed = list(_page(view, seen.batch.id, status or None, after, found))
        return RowsPage(
            tuple(name for _, name in cells.columns) if cells else (),
            tuple(RowShown(each, cells.of(each.number) if cells else ()) for each in placed[:PAGE]),
            placed[PAGE - 1].number if len(placed) > PAGE else None,
            status,
            words,
            is_reading=bool(cells and not cells.is_ready),
            is_edited=cells is None,
            total=cells.total if cells else None,
        )

    def of_row(self, seen: BatchSeen, number: int) -> list[tuple[str, str]]:
        """A row's own cells by their headers."""
        cells = self._cells(seen)
        return list(zip((name for _, name in cells.columns), cells.of(number), strict=False)) if cells else []

    def mending(self, seen: BatchSeen, *, is_part: bool) -> Mending | None:
        """The rows that did not succeed, with those of their cells that are sent; None where nothing can be mended.

        `is_part`: it is asked for the part of a screen that has none of it, but for whether it comes.
        """
        failed = seen.counts.keys() & {*FAILED}
        if not seen.can_mend or not failed:
            return None
        cells = self._read(Path(seen.batch.output), seen)
        if not cells.is_ready:
            return Mending(is_reading=True)
        if is_part or not cells.sent:
            return None
        with JournalView.open(seen.journal) as view:
            wanted = _still_failed(view, seen.batch.id, failed)
        indexes = [index for index, _ in cells.columns]
        rows = [
            MendRow(placed, tuple((i, name, texts[indexes.index(i)]) for i, name in cells.sent))
            for placed in wanted[:MOST_MENDED]
            if (texts := cells.of(placed.number))
        ]
        names = tuple(name for _, name in cells.sent)
        return Mending(tuple(rows), cells.fingerprint, names, max(len(wanted) - MOST_MENDED, 0))

    def write(self, seen: BatchSeen, form: Mapping[str, Any]) -> tuple[str, list[int]]:
        """Write mended cells into the result file; gives where it stands, and the rows that were mended.

        Raises `UsageError` where nothing was changed, or the file was edited since the form was shown.
        """
        if not seen.can_mend:
            raise UsageError("this result file can't be mended here: edit it in Excel, and run it again")
        path = Path(seen.batch.output)
        with open_own(path, seen.chosen) as source:
            if source.sheet.fingerprint != form.get("fingerprint"):
                raise UsageError(f"{path.name} was edited since this form was shown: look again, and mend it there")
            changed = dict(_changed(source, form))
            if not changed:
                raise UsageError("no cell was changed: type what is right into a cell first")
            target = AtomicFile.prepare(path, path)

            def write(file: BinaryIO) -> None:
                replace_cells(source.sheet, file, changed)

            written = target.put(write, lambda draft: _check(draft, source, seen.chosen, changed))
        return str(written), sorted({number for number, _ in changed})


class RowStory(msgspec.Struct, frozen=True):
    """One row: what it came to, and all tries of all nights."""

    seen: BatchSeen
    number: int
    outcome: Placed
    tries: tuple[Try, ...]
    who: str

    @property
    def fields(self) -> list[tuple[str, str]]:
        """The result by its parts; nothing where it has none."""
        try:
            found = msgspec.json.decode(self.outcome.result)
        except (msgspec.DecodeError, RecursionError):
            return []
        pairs = found.items() if isinstance(found, dict) else [("result", found)]
        return [(str(name), value if isinstance(value, str) else _json(value)) for name, value in pairs]

    @property
    def is_open(self) -> bool:
        """Whether a person may say what became of it."""
        is_unsettled = self.outcome.status in (UNKNOWN, *GOING)
        return is_unsettled and not self.seen.is_running

    @property
    def commands(self) -> list[tuple[str, list[str]]]:
        """What shows the same in a shell, and what settles it there."""
        of = ["--row", str(self.number), "--input", self.seen.batch.input]
        found = [("", ["batch-runner", "status", self.seen.journal_name, *of])]
        words = ["batch-runner", "resolve", self.seen.journal_name, *of, "--as", "success", "--note", "how you know"]
        return [*found, ("To settle it", words)] if self.is_open else found


def _json(value: object) -> str:
    return "" if value is None else msgspec.json.encode(value).decode()


def story_of(seen: BatchSeen, query: Mapping[str, str]) -> RowStory:
    """All that is known of one row. Raises `UsageError` for one that took no part."""
    number = int(query.get("row", "0")) if query.get("row", "").isdecimal() else 0
    with JournalView.open(seen.journal) as view:
        outcome, tries = view.outcome(seen.batch.id, number), view.story(seen.batch.id, number)
    if outcome is None:
        raise UsageError(f"{seen.sheet}: no row {number or '…'} took part in this batch")
    return RowStory(seen, number, outcome, tries, user_name())


def settle(seen: BatchSeen, form: Mapping[str, Any]) -> int:
    """Settle a row that is unknown, or whose run never ends, as a person has found it."""
    number, status, note = str(form.get("row", "")), str(form.get("as", "")), str(form.get("note", "")).strip()
    if not number.isdecimal() or status not in RESOLVED:
        raise UsageError("say what became of the row: it ran, it failed, or it did not run")
    if not note:
        raise UsageError("say how you know; it is kept for whoever asks")
    who = str(form.get("who", "")).strip() or user_name()
    resolve(seen.journal, [int(number)], Finding(status, note, who), seen.batch.input)
    return int(number)


def gist(result: str) -> str:
    """A result at a glance: the texts of its first parts that have one."""
    try:
        found = msgspec.json.decode(result)
    except msgspec.DecodeError:
        return result[:LONGEST_GIST]
    parts = found.items() if isinstance(found, dict) else [("result", found)]
    plain = [f"{name} {value}" for name, value in parts if isinstance(value, str | int | float) and value != ""]
    line = ", ".join(plain) or result
    return line if len(line) <= LONGEST_GIST else f"{line[:LONGEST_GIST]}…"


def _still_failed(view: JournalView, batch: int, statuses: Iterable[str]) -> list[Placed]:
    """The rows of a batch that came to one of these, and to none better later; of very many the first ones."""
    found = (placed for status in statuses for placed in view.page(batch, status, 0, MOST_LOOKED))
    failed = sorted(found, key=lambda placed: placed.number)[:MOST_LOOKED]
    return [p for p in failed if all(last.status in FAILED for last in view.story(batch, p.number)[-1:])]


def _found(view: JournalView, batch: int, status: str | None, words: str, cells: _Cells | None) -> list[int]:
    """The rows that have the words in their own cells or in their error, or as their number or run."""
    in_cells = cells.having(words) if cells else [int(words)] if words.isdecimal() else []
    if status is not None and in_cells:
        in_cells = [*{*in_cells}.intersection(view.numbers_of(batch, status))]
    return sorted({*in_cells, *view.numbers_of(batch, status, words)})


def _page(view: JournalView, batch: int, status: str | None, after: int, numbers: list[int] | None) -> Iterator[Placed]:
    """Rows behind `after`, one more than a page has; `numbers` are the only ones where there was a search."""
    if numbers is None:
        yield from view.page(batch, status, after, PAGE + 1)
        return
    found = 0
    for number in numbers[bisect_right(numbers, after) :]:
        placed = view.outcome(batch, number)
        if placed is not None:
            yield placed
            found += 1
        if found > PAGE:
            return


def _sent(source: Source, chosen: Mapping[str, Any]) -> list[tuple[int, str]]:
    """The columns that are sent or are the key: what a mended cell would change."""
    only, left_out = set(chosen.get("columns") or ()), set(chosen.get("exclude") or ())
    return [
        (column.index, column.name)
        for column in source.layout.own
        if (not only or column.name in only) and column.name not in left_out
    ]


def _changed(source: Source, form: Mapping[str, Any]) -> Iterator[tuple[tuple[int, int], str]]:
    """The cells of the form that say something else than the file."""
    said: dict[int, dict[int, str]] = {}
    for name, text in form.items():
        found = re.fullmatch(r"cell\.(\d{1,7})\.(\d{1,5})", name)
        if found:
            said.setdefault(int(found[1]), {})[int(found[2])] = str(text).replace("\r\n", "\n")
    own = {column.index for column in source.layout.own}
    for row in source.sheet.rows():
        for index, text in said.get(row.number, {}).items():
            if row.kind in LIST_ROWS and index in own and row.texts[index].replace("\r\n", "\n") != text:
                yield (row.number, index), text


def _check(draft: Path, source: Source, chosen: Mapping[str, Any], changed: Mapping[tuple[int, int], str]) -> None:
    """Read the draft back: every cell is as it was, but for the mended ones, and formulas that are to be calculated."""
    with open_own(draft, chosen) as mended:
        for before, after in zip(source.sheet.rows(), mended.sheet.rows(), strict=True):
            unread = {problem.index for problem in after.problems if problem.refuses}
            pairs = enumerate(zip(before.texts, after.texts, strict=True))
            wrong = [i for i, (old, new) in pairs if i not in unread and new != changed.get((before.number, i), old)]
            if wrong and before.kind in (*LIST_ROWS, RowKind.HEADER):
                raise SheetError(f"row {before.number} could not be mended: edit the file in Excel, and run it again")
