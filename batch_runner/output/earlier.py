"""What an earlier output said of the rows that take no part this time: it stands there still."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_runner.journal import Placed
from batch_runner.sheet.row import RowKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_runner.layout import Layout
    from batch_runner.sheet.row import Row
    from batch_runner.sheet.sheet import Sheet

_ROWS = (RowKind.DATA, RowKind.HIDDEN)


def with_earlier(sheet: Sheet, layout: Layout, outcomes: Iterator[Placed]) -> Iterator[Placed]:
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
