"""Control totals: input = succeeded + failed + unsettled + edited + not started; and rows whose result differs."""

from __future__ import annotations

from collections import defaultdict
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

from batch_runner.outcomes import FAILED, NOT_STARTED, SUCCESS
from batch_runner.rows.amounts import (
    EXACT,
    Amount,
    NoAmount,
    TotalRow,
    TotalRows,
    agreed,
    amount_in,
    currency_column,
    currency_of,
    is_same,
    part_of,
    read_amount,
    shown_currency,
    worded,
)
from batch_runner.sheet.model import row_list

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from batch_runner.journal.view import Placed
    from batch_runner.rows.source import Source
    from batch_runner.sheet.model import Column, TypedRow


MOST_UNREAD = 20
"""Cells that could not be added which are named."""

_PARTS = {SUCCESS: "succeeded", **dict.fromkeys(FAILED, "failed"), NOT_STARTED: "not_started"}
"""Where the amount of a row with this status goes; of any other it is not settled: unknown, or still running."""
_EDITED = "edited"
_ALL_PARTS = ("succeeded", "failed", "unsettled", _EDITED, "not_started")


class Writing(msgspec.Struct, frozen=True):
    """How a locale writes amounts and days: what groups thousands, what stands before decimals, a form of a day."""

    group: str
    decimal: str
    day: str

    def digits(self, text: str) -> str:
        """A number that is written `1,234.50`, as it is written there."""
        return text.translate({ord(","): self.group, ord("."): self.decimal})

    def amount(self, value: Decimal) -> str:
        """An amount."""
        return self.digits(worded(value))

    def cell(self, text: str) -> str:
        """A text that is an amount, if it surely is one and no identifier; any other as it is."""
        amount = read_amount(text) if "." in text or "," in text else None
        return f"{self.amount(amount.value)} {amount.currency}".rstrip() if isinstance(amount, Amount) else text


PLAIN = Writing(",", ".", "%Y-%m-%d")
"""As it stands there where no script makes it the reader's own."""
WRITINGS = {
    "de": Writing(".", ",", "%d.%m.%Y"),
    "de-ch": Writing("’", ".", "%d.%m.%Y"),
    "en-gb": Writing(",", ".", "%d/%m/%Y"),
    "fr": Writing("\u202f", ",", "%d/%m/%Y"),
    "it": Writing(".", ",", "%d/%m/%Y"),
    "nl": Writing(".", ",", "%d-%m-%Y"),
}
"""Locales that need no script (CLDR 45). All others are written by the browser, which knows them."""
_ALIKE = {"de-de": "de", "fr-fr": "fr", "it-it": "it", "nl-nl": "nl"}


def writing_of(locale: str | None) -> Writing | None:
    """How this locale writes; None where only a browser knows."""
    name = (locale or "").replace("_", "-").lower()
    return WRITINGS.get(_ALIKE.get(name, name))


class Sum(msgspec.Struct, frozen=True, kw_only=True):
    """The amounts of one column in one currency ("" where none is named), exact.

    `input` was added up from the sheet's `rows` that take part, the others from the outcomes; `difference` is what
    the two sides differ by, and anything but zero is a bug. `edited` is of rows that were edited since they ran,
    whatever they came to, also where a person said that they are the same: what ran may have been another amount.
    """

    currency: str
    rows: int
    input: Decimal
    succeeded: Decimal
    failed: Decimal
    unsettled: Decimal
    edited: Decimal
    not_started: Decimal
    difference: Decimal


class Unread(msgspec.Struct, frozen=True):
    """A cell that was not added, and why."""

    row: int
    address: str
    why: str


class ColumnTotals(msgspec.Struct, frozen=True):
    """The control totals of one column; `not_added` cells hold no amount that is sure, `unread` are the first ones.

    What a cell holds is added, as Excel's SUM does; `differing` cells show another number, `differing_rows` has the
    first ones. Rows that are, or look like, the sheet's own totals are none of its amounts: `total_rows` says for each
    whether it is equal. A column that nobody asked for has them alone.
    """

    column: str
    sums: tuple[Sum, ...]
    not_added: int
    unread: tuple[Unread, ...]
    differing: int = 0
    differing_rows: tuple[int, ...] = ()
    total_rows: tuple[TotalRow, ...] = ()

    def lines(self, writing: Writing = PLAIN) -> Iterator[str]:
        """A line for each currency, for a person."""
        write = writing.amount
        for found in self.sums:
            unsettled = f" + {write(found.unsettled)} unknown or running" if found.unsettled else ""
            edited = f" + {write(found.edited)} edited since they ran" if found.edited else ""
            odds = f", WHICH DIFFERS BY {write(found.difference)}: a bug of ours" if found.difference else ""
            yield (
                f"total {self.column}: {write(found.input)} {found.currency or '(no currency)'}"
                f" = {write(found.succeeded)} succeeded + {write(found.failed)} failed{unsettled}{edited}"
                f" + {write(found.not_started)} not started{odds}"
            )
        yield from (f"total {self.column}: {line}" for line in self.compared(write))
        if self.not_added:
            named = ", ".join(f"row {cell.row}: {cell.why}" for cell in self.unread[:3])
            more = "; …" if self.not_added > 3 else ""
            yield f"total {self.column}: {self.not_added} not added ({named}{more})"
        if self.differing:
            cells = "1 cell shows" if self.differing == 1 else f"{self.differing} cells show"
            yield (
                f"total {self.column}: {cells} another number than what is held and added here "
                f"({row_list(self.differing_rows)})"
            )

    def compared(self, write: Callable[[Decimal], str] = worded) -> Iterator[str]:
        """What the sheet's own total rows say, and whether that is equal: a line each, the first ones that differ.

        The lines hold no text of the sheet's. `write` is how an amount is written.
        """
        equal = [one for one in self.total_rows if one.is_equal]
        odd = [one for one in self.total_rows if not one.is_equal]
        yield from (one.told(write) for one in odd[:MOST_UNREAD])
        if len(odd) > MOST_UNREAD:
            yield f"and {len(odd) - MOST_UNREAD} more of your total rows are not equal"
        if equal:
            also = f" (and {row_list([one.row for one in equal[:-1]])})" if len(equal) > 1 else ""
            yield f"{equal[-1].told(write)}{also}"


def control_totals(source: Source, outcomes: Iterable[Placed]) -> tuple[ColumnTotals, ...]:
    """Add up the job's `total` columns in one pass; `outcomes` are the batch's, in order of row number."""
    named = currency_column(source.layout.own)
    accounts = [_Account(column, named, source) for column in source.amounts]
    compared = [TotalRows(source.sheet, column) for column in source.compared]
    if not accounts and not compared:
        return ()

    def see(row: TypedRow) -> None:
        for one in compared:
            one.see(row)

    placed = _Beside(iter(outcomes))
    for row in source.chosen(see):
        if row.suspicion is not None:
            continue
        outcome = placed.at(row.number)
        for account in accounts:
            account.add(row, outcome)
    found = {column: one.found() for column, one in zip(source.compared, compared, strict=True)}
    asked = (account.totals(found[account.column]) for account in accounts)
    others = (ColumnTotals(c.name, (), 0, (), total_rows=found[c]) for c in source.compared if c not in source.amounts)
    return (*asked, *(one for one in others if one.total_rows))


class NightSum(msgspec.Struct):
    """The amounts of one column in one currency, in all sheets; `other` are unknown, running, edited, not started."""

    input: Decimal = Decimal()
    succeeded: Decimal = Decimal()
    failed: Decimal = Decimal()
    other: Decimal = Decimal()

    def add(self, found: Sum) -> None:
        """Add one sheet's, exactly."""
        self.input = EXACT.add(self.input, found.input)
        self.succeeded = EXACT.add(self.succeeded, found.succeeded)
        self.failed = EXACT.add(self.failed, found.failed)
        for rest in (found.unsettled, found.edited, found.not_started):
            self.other = EXACT.add(self.other, rest)


def sums_of_all(sheets: Iterable[Iterable[ColumnTotals]]) -> list[tuple[str, str, NightSum]]:
    """The control totals of several sheets together, by column and currency."""
    sums: defaultdict[tuple[str, str], NightSum] = defaultdict(NightSum)
    for columns in sheets:
        for column in columns:
            for found in column.sums:
                sums[column.column, found.currency].add(found)
    return [(*both, sums[both]) for both in sorted(sums)]


class _Account:
    """One column's sums, growing."""

    def __init__(self, column: Column, named: Column | None, source: Source) -> None:
        self.column = column
        self._named = named
        self._sheet = source.sheet
        self._rows: defaultdict[str, int] = defaultdict(int)
        self._sums: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
        self._not_added = 0
        self._unread: list[Unread] = []
        self._differing = 0
        self._differing_rows: list[int] = []

    def add(self, row: TypedRow, outcome: Placed | None) -> None:
        """Add one row's amount to the input, and to what its outcome says."""
        amount = self._amount(row)
        if isinstance(amount, NoAmount):
            self._not_added += 1
            if len(self._unread) < MOST_UNREAD:
                address = self._sheet.address(row.number, self.column.index)
                self._unread.append(Unread(row.number, address, amount.why))
            return
        self._rows[amount.currency] += 1
        self._put(amount, "input")
        shown = read_amount(row.texts[self.column.index], typed=True)
        if self.column.index in row.typed and (isinstance(shown, NoAmount) or shown.value != amount.value):
            self._differing += 1
            if len(self._differing_rows) < MOST_UNREAD:
                self._differing_rows.append(row.number)
        if outcome is not None:
            self._put(amount, _EDITED if outcome.changed else _PARTS.get(outcome.status, "unsettled"))

    def totals(self, total_rows: tuple[TotalRow, ...]) -> ColumnTotals:
        """What it came to, currencies in the order of the alphabet, beside what the sheet's own totals say."""
        sums = tuple(self._sum(currency) for currency in sorted(self._rows))
        return ColumnTotals(
            self.column.name,
            sums,
            self._not_added,
            tuple(self._unread),
            self._differing,
            tuple(self._differing_rows),
            total_rows,
        )

    def _put(self, amount: Amount, part: str) -> None:
        place = (amount.currency, part)
        self._sums[place] = EXACT.add(self._sums[place], amount.value)

    def _sum(self, currency: str) -> Sum:
        total = self._sums[currency, "input"]
        parts = {part: self._sums[currency, part] for part in _ALL_PARTS}
        rest = total
        for part in parts.values():
            rest = EXACT.subtract(rest, part)
        alike = {part: EXACT.quantize(value, total) for part, value in parts.items()}
        return Sum(currency=currency, rows=self._rows[currency], input=total, difference=rest, **alike)

    def _amount(self, row: TypedRow) -> Amount | NoAmount:
        """The cell's amount; its currency stands beside it, in its format, or in the column that names it."""
        place = self.column.index
        amount = amount_in(row, place)
        if isinstance(amount, NoAmount):
            return amount
        cell = row.typed.get(place)
        own = amount.currency or (shown_currency(cell.shown) if cell is not None else "")
        word = row.texts[self._named.index].strip() if self._named is not None else ""
        other = currency_of(word) if word else ""
        if other is None:
            return NoAmount("its row names a currency that is not known")
        both = agreed(own, other)
        return NoAmount("its row names another currency") if both is None else Amount(amount.value, both)


class _Beside:
    """Outcomes that come in ascending order of row number, looked up in that order."""

    def __init__(self, coming: Iterator[Placed]) -> None:
        self._coming = coming
        self._next = next(coming, None)

    def at(self, number: int) -> Placed | None:
        """The outcome of the row with this number, if there is one."""
        while self._next is not None and self._next.number < number:
            self._next = None  # of two long results but one is to be in memory
            self._next = next(self._coming, None)
        return self._next if self._next is not None and self._next.number == number else None


class Differing(msgspec.Struct, frozen=True):
    """The rows that succeeded with another result than a column of theirs says.

    `path` is the part of the result. Of `compared` rows so many differ; `first` says of the first ones how.
    """

    column: str
    path: str
    compared: int
    rows: int
    first: tuple[tuple[int, str], ...]

    @property
    def headline(self) -> str:
        """How many of how many differ."""
        return f"{self.column} and {self.path} differ in {self.rows} of {self.compared} rows that succeeded"

    def lines(self, _writing: Writing) -> Iterator[str]:
        """For a person, the first rows that differ."""
        yield self.headline
        yield from (f"  row {number}: {what}" for number, what in self.first)
        if self.rows > len(self.first):
            yield f"  and {self.rows - len(self.first)} more rows"


class Told(msgspec.Struct, frozen=True):
    """What was said of a batch at its end, as its journal keeps it for who looks later."""

    counts: dict[str, int]
    totals: tuple[ColumnTotals, ...] = ()
    differing: tuple[Differing, ...] = ()

    def to_json(self) -> str:
        """As it is kept."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def of(cls, text: str | None) -> Told | None:
        """What is kept; None where nothing is, or what nobody here can read."""
        try:
            return msgspec.json.decode(text, type=cls) if text else None
        except msgspec.DecodeError:
            return None


def differing(source: Source, outcomes: Iterable[Placed], locale: str | None = None) -> tuple[Differing, ...]:
    """Compare the job's `compare` columns with the results in one pass; `outcomes` come in order of row number.

    It is told with amounts as the locale writes them, if one was said; else as they stand there.
    """
    if not source.pairs:
        return ()
    compared = 0
    found: list[list[tuple[int, str]]] = [[] for _pair in source.pairs]
    counted = [0] * len(source.pairs)
    for outcome, differences in _compared(source, outcomes, writing_of(locale)):
        compared += outcome.status == SUCCESS
        for place, what in differences.items():
            counted[place] += 1
            if len(found[place]) < MOST_UNREAD:
                found[place].append((outcome.number, what))
    pairs = zip(source.pairs, counted, found, strict=True)
    return tuple(Differing(column.name, path, compared, rows, tuple(first)) for (column, path), rows, first in pairs)


def marked(source: Source, outcomes: Iterable[Placed]) -> Iterator[Placed]:
    """The outcomes, those whose result differs from the sheet with a sentence that says how as their error."""
    if not source.pairs:
        yield from outcomes
        return
    for outcome, differences in _compared(source, outcomes):
        what = "; ".join(differences.values())
        yield msgspec.structs.replace(outcome, error=f"differs: {what}") if what else outcome


def _compared(
    source: Source, outcomes: Iterable[Placed], writing: Writing | None = None
) -> Iterator[tuple[Placed, dict[int, str]]]:
    """Each outcome, and how it differs from its row, by the places of the pairs."""
    rows = source.chosen()
    row = next(rows, None)
    for outcome in outcomes:
        while row is not None and row.number < outcome.number:
            row = next(rows, None)
        is_comparable = row is not None and row.number == outcome.number and outcome.status == SUCCESS
        differences = _differences(source, row, outcome.result, writing) if row is not None and is_comparable else ()
        yield outcome, dict(differences)
        del outcome


def _differences(source: Source, row: TypedRow, result: str, writing: Writing | None) -> Iterator[tuple[int, str]]:
    write = writing.cell if writing else str
    for place, (column, path) in enumerate(source.pairs):
        other = part_of(result, path.removeprefix("result."))
        text = write(row.texts[column.index]) or "(empty)"
        if other is None:
            yield place, f"{column.name} {text} in the sheet, no {path}"
        elif not is_same(row, column.index, other):
            yield place, f"{column.name} {text} in the sheet, {write(other)} in {path}"
