"""Which rows take part: by number, by a condition, the first so many."""

from __future__ import annotations

import re
from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING, TypeVar

import msgspec

from batch_runner.errors import UsageError
from batch_runner.rows.amounts import Amount, NoAmount, agreed, held_amount, read_amount
from batch_runner.sheet.model import LIST_ROWS, Column, RowKind, TypedRow, column_letter, refuse_ambiguity
from batch_runner.units import plain_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from decimal import Decimal

    import polars as pl

    from batch_runner.sheet.model import Row, Sheet
    from batch_runner.units import RowRanges


CHUNK = 512
MOST_FLOAT_DIGITS = 15
"""So many digits has a number that a float keeps."""
_PADDED = re.compile(r"[^0-9]*0[0-9]")
_SQL_TOKEN = re.compile(
    r"""(?P<text>'(?:[^']|'')*')|"(?:[^"]|"")*"|--[^\n]*|(?P<order><=|>=|<(?!>)|>|\bBETWEEN\b)"""
    r"""|(?P<equal>=|<>|!=|\bIN\b)|\w+|\S""",
    re.IGNORECASE,
)

_R = TypeVar("_R", bound="Row")
_PLACE = "\0place"
"""The column that tells the rows apart: no column of a sheet is called so."""


class Condition(msgspec.Struct, frozen=True):
    """A condition in SQL over the columns of a sheet, each of the type that its texts have in all of it."""

    text: str
    expression: pl.Expr
    types: tuple[tuple[Column, type[pl.DataType]], ...]

    @property
    def places(self) -> tuple[int, ...]:
        """Where the columns stand whose cells it looks at."""
        return tuple(column.index for column, _kind in self.types)

    def holds(self, rows: Sequence[Row]) -> Iterable[bool | None]:
        """For each row whether the condition holds; None where an empty cell leaves it open, as in SQL.

        Raises `UsageError` where it can't be decided for these rows, or looks at more than one row at a time.
        """
        import polars as pl

        place = pl.int_range(len(rows), eager=True).alias(_PLACE)
        frame = pl.DataFrame([place, *(self._series(column, kind, rows) for column, kind in self.types)])
        alone = self.expression.over(_PLACE)
        try:
            holds = frame.with_columns(self.expression.alias("holds")).get_column("holds")
            same = frame.with_columns(alone.alias("holds")).get_column("holds").equals(holds)
        except _polars_errors() as error:
            where = f"rows {rows[0].number} to {rows[-1].number}"
            raise UsageError(f"where: {self.text!r} can't be decided for {where}: {_first_line(error)}") from None
        if not same:
            raise UsageError(f"where: {self.text!r} is about several rows at once; it can be about one row only")
        return holds

    def problem(self) -> str | None:
        """Why the condition makes no sense of the columns' types, if so."""
        import polars as pl

        frame = pl.DataFrame(schema={column.name: kind for column, kind in self.types})
        try:
            kind = frame.select(self.expression.alias("holds")).dtypes[0]
        except _polars_errors() as error:
            return _first_line(error)
        return None if kind == pl.Boolean else "it gives a value, not yes or no"

    @staticmethod
    def _series(column: Column, kind: type[pl.DataType], rows: Sequence[Row]) -> pl.Series:
        import polars as pl

        texts = [row.texts[column.index] or None for row in rows]
        if kind == pl.Float64:
            texts = [text and _plain_number(row, column.index) for row, text in zip(rows, texts, strict=True)]
        return pl.Series(column.name, texts, pl.String).cast(kind)


class Selection(msgspec.Struct, frozen=True):
    """The rows of a sheet that take part; made by `select`."""

    ranges: RowRanges | None
    condition: Condition | None
    limit: int | None

    def rows(self, sheet: Sheet) -> Iterator[Row]:
        """Stream the data rows that take part, in the sheet's order. Raises `UsageError` as the condition does."""
        return self.of(sheet.typed_rows(self.typed_places))

    @property
    def typed_places(self) -> tuple[int, ...]:
        """Of which cells `of` must know whether they are numbers."""
        return self.condition.places if self.condition is not None else ()

    def of(self, every: Iterable[_R]) -> Iterator[_R]:
        """The same of all rows of a sheet, typed at `typed_places` at least."""
        rows = _data(every)
        if self.ranges is not None:
            ranges = self.ranges
            rows = (row for row in rows if row.number in ranges)
        if self.condition is not None:
            rows = _matching(rows, self.condition)
        return islice(rows, self.limit)

    def places(self, sheet: Sheet) -> Iterator[tuple[Row, bool]]:
        """Stream the data rows up to the last that takes part, hidden ones too, each with whether it does.

        Raises as `rows`.
        """
        every = (row for row in sheet.rows() if row.kind in LIST_ROWS)
        if self.ranges is None and self.condition is None:
            yield from _up_to(every, self.limit)
            return
        for chosen in self.rows(sheet):
            for row in every:
                yield row, row.number == chosen.number
                if row.number == chosen.number:
                    break

    def count(self, sheet: Sheet) -> int:
        """How many rows take part; needs a pass over the sheet where ranges or a condition choose them."""
        if self.ranges is None and self.condition is None:
            return sheet.row_count if self.limit is None else min(self.limit, sheet.row_count)
        return sum(1 for _ in self.rows(sheet))


def select(sheet: Sheet, ranges: RowRanges | None, where: str | None, limit: int | None) -> Selection:
    """Make the selection. Raises `UsageError` for a condition that makes no sense of the sheet's columns.

    In a condition a column whose every cell is an amount is a number, however each is formatted: no leading zeros, no
    more digits than a float keeps, one currency. Any other is text; an empty one is what the condition takes it for.
    """
    return Selection(ranges, None if where is None else _condition(sheet, where), limit)


def _data(rows: Iterable[_R]) -> Iterator[_R]:
    return (row for row in rows if row.kind is RowKind.DATA)


def _up_to(rows: Iterator[Row], limit: int | None) -> Iterator[tuple[Row, bool]]:
    """The rows with whether each is data, until there were so many of these."""
    left = limit
    for row in rows:
        if left == 0:
            return
        is_data = row.kind is RowKind.DATA
        left = None if left is None else left - is_data
        yield row, is_data


def _matching(rows: Iterator[_R], condition: Condition) -> Iterator[_R]:
    while chunk := tuple(islice(rows, CHUNK)):
        yield from (row for row, holds in zip(chunk, condition.holds(chunk), strict=True) if holds)


def _condition(sheet: Sheet, where: str) -> Condition:
    """The condition, its columns typed. Empty columns are tried as each type until the condition makes sense."""
    import polars as pl

    expression = _parsed(where)
    _refuse_texts(where)
    columns = _columns(sheet, expression)
    texts, filled = _first_texts(sheet, columns)
    problems = []
    for empty in (pl.Null, pl.String, pl.Float64):
        kinds = (pl.String if c.name in texts else pl.Float64 if c.name in filled else empty for c in columns)
        condition = Condition(where, expression, tuple(zip(columns, kinds, strict=True)))
        problem = condition.problem()
        if problem is None:
            return condition
        problems.append(problem)
    raise UsageError(f"where: {where!r} can't be decided: {problems[0]}{_hints(columns, texts, filled)}")


def _parsed(where: str) -> pl.Expr:
    """In brackets, since without polars may pass over what it can't read at the end."""
    import polars as pl

    try:
        return pl.sql_expr(f"({where}\n)")
    except _polars_errors() as error:
        raise UsageError(f"where: {where!r} is not a condition in SQL: {_first_line(error)}") from None


def _columns(sheet: Sheet, expression: pl.Expr) -> tuple[Column, ...]:
    """The columns that an expression names, by header or letter; each is called as the expression calls it."""
    letters = {letter: Column(letter, column.index, letter) for letter, column in columns_by_letter(sheet).items()}
    columns = letters | {column.name: column for column in sheet.columns}
    names = tuple(dict.fromkeys(expression.meta.root_names()))
    if unknown := [f"where: {no_column(sheet, name)}" for name in names if name not in columns]:
        raise UsageError("\n".join(unknown))
    refuse_ambiguity(sheet, [column for column in sheet.columns if column.name in names], ())
    return tuple(columns[name] for name in names)


def _polars_errors() -> tuple[type[BaseException], ...]:
    """What polars raises for a condition of a person's: a bug of its own (a panic) is no exception to Python."""
    import polars as pl

    return (pl.exceptions.PolarsError, pl.exceptions.PanicException)


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0]


def _refuse_texts(where: str) -> None:
    """Raises `UsageError` for a comparison with a text that isn't what it looks like.

    As texts `'9'` is more than `'100'`. An empty cell is NULL, so that nothing is ever equal to `''`.
    """
    tokens = [token for token in _SQL_TOKEN.finditer(where) if not token[0].startswith("--")]
    has_order = any(token["order"] for token in tokens)
    has_equal = any(token["equal"] for token in tokens)
    fills = re.search(r"(?i)\b(?:coalesce|ifnull)\b", where)
    for token in tokens:
        if token["text"] is None:
            continue
        text = token[0][1:-1].replace("''", "'")
        if not text and (has_equal or has_order) and not fills:
            raise UsageError(
                f"where: {where!r} compares with '', but an empty cell is NULL; write IS NULL or IS NOT NULL"
            )
        if has_order and isinstance(read_amount(text), Amount) and _is_ordered(tokens, token):
            raise UsageError(
                f"where: {where!r} compares {token[0]} as text, and as texts '9' is more than '100'; "
                "write the number without quotes"
            )


def _is_ordered(tokens: Sequence[re.Match[str]], text: re.Match[str]) -> bool:
    """Whether a text stands beside `<`, `>` and the like, or at an end of BETWEEN."""
    at = tokens.index(text)
    before = [token[0].upper() for token in tokens[max(at - 3, 0) : at]]
    after = tokens[at + 1] if at + 1 < len(tokens) else None
    if tokens[at - 1]["order"] if at else False:
        return True
    return bool(after is not None and after["order"]) or (len(before) == 3 and before[0::2] == ["BETWEEN", "AND"])


def _plain_number(row: Row, place: int) -> str | None:
    """A cell's amount as a plain number; None where it has none that is sure, or a float doesn't keep it."""
    amount = _amount(row, place)
    return None if amount is None else format(amount.value, "f")


def _kept_number(text: str) -> Decimal | None:
    """A plain number without leading zeros that a float keeps."""
    number = plain_number(text)
    is_kept = number is not None and format(number, "f") == text and sum(map(str.isdigit, text)) <= MOST_FLOAT_DIGITS
    return number if is_kept else None


def _amount(row: Row, place: int) -> Amount | None:
    """The amount of a cell: of a number in a workbook, whatever its format; of a text that can be read in one way."""
    text = row.texts[place]
    cell = row.typed.get(place) if isinstance(row, TypedRow) else None
    if (number := _kept_number(text)) is not None:
        return Amount(number, "")
    if _PADDED.match(text):
        return None
    amount = read_amount(text) if cell is None else held_amount(text, cell)
    if isinstance(amount, NoAmount) or len(amount.value.as_tuple().digits) > MOST_FLOAT_DIGITS:
        return None
    return amount


class _Amounts:
    """Looks at the cells of a column, one after the other, until it isn't one of amounts."""

    def __init__(self) -> None:
        self._currency = ""
        self._unsure = False
        """A text was read that may be thousands or decimals, as a plain number would be: `1.234`."""
        self._grouped = False
        """A text was read with a comma or with groups, so that the other may not be what it seems."""

    def takes(self, row: Row, place: int) -> bool:
        """Whether the cell's amount is one as those before it."""
        amount = _amount(row, place)
        if amount is None:
            return False
        is_text = not (isinstance(row, TypedRow) and place in row.typed)
        self._unsure |= is_text and isinstance(read_amount(row.texts[place]), NoAmount)
        self._grouped |= is_text and _kept_number(row.texts[place]) is None
        both = agreed(self._currency, amount.currency)
        self._currency = both or ""
        return both is not None and not (self._unsure and self._grouped)


def _first_texts(sheet: Sheet, columns: Sequence[Column]) -> tuple[dict[str, str], set[str]]:
    """For each column that isn't all amounts the address of the first cell that is none; and who has any text."""
    texts: dict[str, str] = {}
    filled: set[str] = set()
    amounts = {column.name: _Amounts() for column in columns}
    for row in _data(sheet.typed_rows([column.index for column in columns])):
        for column in columns:
            if row.texts[column.index] and column.name not in texts:
                filled.add(column.name)
                if not amounts[column.name].takes(row, column.index):
                    texts[column.name] = sheet.address(row.number, column.index)
        if len(texts) == len(columns):
            break
    return texts, filled


def _hints(columns: Sequence[Column], texts: dict[str, str], filled: set[str]) -> str:
    """What a person should know of the columns' types."""
    hints = [f"{name} is text, since {cell} is no plain number" for name, cell in texts.items()]
    hints += [f"{c.name} is a number" for c in columns if c.name in filled and c.name not in texts]
    return "".join(f"; {hint}" for hint in hints)


def columns_by_letter(sheet: Sheet) -> dict[str, Column]:
    """A sheet's columns by their letters: those that lack a header and have text, and those beside the list, too."""
    nameless = [Column(column_letter(place), place, column_letter(place)) for place in sheet.strays]
    return {column.letter: column for column in (*sheet.aside, *sheet.columns, *nameless)}


def no_column(sheet: Sheet, name: str) -> str:
    """The sentence for a column that the sheet doesn't have, with the nearest that it has."""
    names = [column.name for column in sheet.columns]
    if name in names:
        return f"{sheet.path.name}: the column {name!r} is an earlier output's, which is written anew and never sent"
    near = get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(map(repr, names))}"
    return f"{sheet.path.name} has no column {name!r}; {hint}"
