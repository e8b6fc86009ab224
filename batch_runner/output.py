"""Sheet + outcomes → the file, checked and swapped in."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from batch_runner.alignment import check_alignment
from batch_runner.longtext import LongTexts
from batch_runner.sheet.row import NewColumns
from batch_runner.sheet.tables import write_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path
    from typing import BinaryIO

    from batch_runner.journal import Placed
    from batch_runner.layout import Layout
    from batch_runner.sheet.sheet import Sheet
    from batch_runner.target import Target

WORKBOOKS = (".xlsx", ".xlsm")
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
        self._long = LongTexts(target)

    def write(self, outcomes: Callable[[], Iterator[Placed]], keep: bool) -> Written:
        """Write the file; with `keep` beside the one that stands there. Raises `OutputFailed`."""
        keys = _keys(outcomes()) if self._expand else ()
        new = NewColumns(self._layout.expanded(keys), self._layout.replaced)
        notes: list[str] = []

        def write(file: BinaryIO) -> None:
            cells = self._cells(outcomes(), keys)
            if self._same_format():
                notes.extend(self._sheet.append(file, new, cells))
            else:
                notes.extend(write_table(file, self._ending, self._sheet, new, cells))

        path = self._target.put(write, lambda draft: self._check(draft, outcomes()), keep=keep)
        if path != self._target.path:
            notes.append(f"{self._target.path.name} could not be replaced (open, read-only or edited): see {path.name}")
        return Written(path, (*notes, *self._long.close()))

    def _same_format(self) -> bool:
        return self._sheet.path.suffix.lower() == self._ending

    def _cells(self, outcomes: Iterable[Placed], keys: tuple[str, ...]) -> Iterator[tuple[int, tuple[str, ...]]]:
        workbook = self._ending in WORKBOOKS
        headers = self._layout.expanded(keys)
        for placed in outcomes:
            texts = (placed.run_id or "", placed.status, placed.result, placed.error, *_expanded(placed.result, keys))
            yield placed.number, self._long.fitted(placed.number, headers, texts) if workbook else texts

    def _check(self, draft: Path, outcomes: Iterator[Placed]) -> None:
        """Read the draft back: every input row once, in order, each with its own run (DESIGN, *The output*)."""
        if self._ending not in CHECKED:
            return
        with self._sheet.again(draft) as written:
            check_alignment(self._sheet, written, self._layout, outcomes)


def _keys(outcomes: Iterable[Placed]) -> tuple[str, ...]:
    """The top-level keys of all results, in the order in which they first come."""
    keys: dict[str, None] = {}
    for placed in outcomes:
        keys.update(dict.fromkeys(_top_level(placed.result)))
    return tuple(keys)


def _top_level(result: str) -> dict[str, msgspec.Raw]:
    if not result.startswith("{"):
        return {}
    return msgspec.json.decode(result, type=dict[str, msgspec.Raw])


def _expanded(result: str, keys: tuple[str, ...]) -> tuple[str, ...]:
    if not keys:
        return ()
    values = _top_level(result)
    return tuple(_plain(values.get(key)) for key in keys)


def _plain(value: msgspec.Raw | None) -> str:
    """A text as itself, null as nothing, all else as the JSON that it came as."""
    text = "" if value is None else bytes(value).decode().strip()
    if text.startswith('"'):
        return msgspec.json.decode(text, type=str)
    return "" if text == "null" else text
