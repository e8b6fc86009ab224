"""Which rows take part: by number, by a condition, the first so many."""

from __future__ import annotations

import re
from bisect import bisect_right
from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING, Self

import msgspec

from batch_runner.errors import UsageError
from batch_runner.sheet.row import RowKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import polars as pl

    from batch_runner.sheet.row import Column, Row
    from batch_runner.sheet.sheet import Sheet

CHUNK = 512
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?\Z")


class RowRanges(msgspec.Struct, frozen=True):
    """Row numbers as Excel shows them: `2-100,205`, `500-` for all from there. Sorted and without overlap."""

    firsts: tuple[int, ...]
    lasts: tuple[float, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form. Raises `ValueError` with a sentence."""
        merged: list[tuple[int, float]] = []
        for first, last in sorted(_range(part.strip()) for part in text.split(",")):
            if merged and first <= merged[-1][1] + 1:
                merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
            else:
                merged.append((first, last))
        return cls(tuple(first for first, _ in merged), tuple(last for _, last in merged))

    def __contains__(self, number: int) -> bool:
        place = bisect_right(self.firsts, number) - 1
        return place >= 0 and number <= self.lasts[place]


def _range(part: str) -> tuple[int, float]:
    first, dash, last = part.partition("-")
    try:
        low = int(first)
        high = float("inf") if dash and not last.strip() else int(last) if dash else low
    except ValueError:
        raise ValueError(f"{part!r} is not a row or a range of rows; write for example 2-100,205") from None
    if low < 1 or high < low:
        raise ValueError(f"{part!r} is not a range of rows: rows count from 1, and the first comes first")
    return low, high


class Condition(msgspec.Struct, frozen=True):
    """A condition in SQL over the columns of a sheet; `numeric` names those that are numbers in it."""

    expression: pl.Expr
    numeric: frozenset[str]

    def holds(self, rows: Sequence[Row], sheet: Sheet) -> Iterable[bool | None]:
        """For each row whether the condition holds; None where an empty cell leaves it open, as in SQL."""
        return self._typed(_frame(rows, sheet)).select(self.expression.alias("holds")).to_series()

    def check(self, sheet: Sheet) -> None:
        """Raise `ValueError` with a sentence where the condition makes no sense of the columns' types."""
        import polars as pl

        try:
            kind = self._typed(_frame((), sheet)).select(self.expression.alias("holds")).dtypes[0]
        except pl.exceptions.PolarsError as error:
            raise ValueError(str(error).splitlines()[0]) from None
        if kind != pl.Boolean:
            raise ValueError("it gives a value, not yes or no")

    def _typed(self, frame: pl.DataFrame) -> pl.DataFrame:
        import polars as pl

        return frame.with_columns(pl.col(name).cast(pl.Float64) for name in sorted(self.numeric))


class Selection(msgspec.Struct, frozen=True):
    """The rows of a sheet that take part; made by `select`."""

    ranges: RowRanges | None
    condition: Condition | None
    limit: int | None

    def rows(self, sheet: Sheet) -> Iterator[Row]:
        """Stream the data rows that take part, in the sheet's order."""
        rows = _data(sheet)
        if self.ranges is not None:
            ranges = self.ranges
            rows = (row for row in rows if row.number in ranges)
        if self.condition is not None:
            rows = _matching(rows, sheet, self.condition)
        return islice(rows, self.limit)

    def count(self, sheet: Sheet) -> int:
        """How many rows take part; needs a pass over the sheet where ranges or a condition choose them."""
        if self.ranges is None and self.condition is None:
            return sheet.row_count if self.limit is None else min(self.limit, sheet.row_count)
        return sum(1 for _ in self.rows(sheet))


def select(sheet: Sheet, ranges: RowRanges | None, where: str | None, limit: int | None) -> Selection:
    """Make the selection; a condition is tried against the whole sheet first. Raises `UsageError` where it can't hold.

    In a condition a column whose every text is a plain number (no leading zeros) is a number, any other is text.
    """
    return Selection(ranges, None if where is None else _condition(sheet, where), limit)


def _data(sheet: Sheet) -> Iterator[Row]:
    return (row for row in sheet.rows() if row.kind is RowKind.DATA)


def _matching(rows: Iterator[Row], sheet: Sheet, condition: Condition) -> Iterator[Row]:
    for chunk in _chunks(rows):
        yield from (row for row, holds in zip(chunk, condition.holds(chunk, sheet), strict=True) if holds)


def _chunks(rows: Iterator[Row]) -> Iterator[Sequence[Row]]:
    while chunk := tuple(islice(rows, CHUNK)):
        yield chunk


def _frame(rows: Sequence[Row], sheet: Sheet) -> pl.DataFrame:
    """The rows as a table of text; an empty cell is NULL."""
    import polars as pl

    return pl.DataFrame(
        {column.name: [row.texts[column.index] or None for row in rows] for column in sheet.columns},
        schema={column.name: pl.String for column in sheet.columns},
    )


def _condition(sheet: Sheet, where: str) -> Condition:
    import polars as pl

    try:
        expression = pl.sql_expr(where)
    except pl.exceptions.PolarsError as error:
        raise UsageError(f"where: {where!r} is not a condition in SQL: {str(error).splitlines()[0]}") from None
    names = tuple(dict.fromkeys(expression.meta.root_names()))
    columns = {column.name: column for column in sheet.columns}
    for name in names:
        if name not in columns:
            raise UsageError(f"where: {no_column(sheet, name)}")
    texts = _first_texts(sheet, tuple(columns[name] for name in names))
    condition = Condition(expression, frozenset(names) - texts.keys())
    try:
        condition.check(sheet)
    except ValueError as error:
        why = "".join(f"; {name} is text, since {cell} is no plain number" for name, cell in texts.items())
        raise UsageError(f"where: {where!r} can't be decided: {error}{why}") from None
    return condition


def _first_texts(sheet: Sheet, columns: Sequence[Column]) -> dict[str, str]:
    """For each column that isn't all numbers: the address of the first cell that is none."""
    found: dict[str, str] = {}
    for row in _data(sheet):
        for column in columns:
            text = row.texts[column.index]
            if text and column.name not in found and not _NUMBER.match(text):
                found[column.name] = sheet.address(row.number, column.index)
        if len(found) == len(columns):
            break
    return found


def no_column(sheet: Sheet, name: str) -> str:
    """The sentence for a column that the sheet doesn't have, with the nearest that it has."""
    names = [column.name for column in sheet.columns]
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(map(repr, names))}"
    return f"{sheet.path.name} has no column {name!r}; {hint}"
