"""A cell's text as an amount with its currency, and what a sheet says itself that its amounts come to.

What may be read in two ways isn't read at all.
"""

from __future__ import annotations

import json
import re
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import TYPE_CHECKING, Literal

import msgspec

from batch_runner.sheet.model import LIST_ROWS, RowKind
from batch_runner.sheet.numfmt.digits import decimal_of
from batch_runner.sheet.numfmt.meaning import CURRENCY_CODES
from batch_runner.units import plain_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from batch_runner.sheet.model import Column, Sheet, TypedCell, TypedRow


SIGNS = {
    "€": "EUR",
    "euro": "EUR",
    "us$": "USD",
    "r$": "BRL",
    "zł": "PLN",
    "kč": "CZK",
    "₹": "INR",
    "₺": "TRY",
    "₩": "KRW",
    "₪": "ILS",
    "₴": "UAH",
    "₽": "RUB",
    "₫": "VND",
    "₱": "PHP",
    "฿": "THB",
}
"""Signs that one currency alone has."""

_DOLLARS = "ARS AUD BBD BMD BND BSD BZD CAD CLP COP FJD HKD JMD MXN NZD SGD SRD TTD TWD USD UYU XCD"
SHARED_SIGNS = {
    "$": frozenset(_DOLLARS.split()),
    "£": frozenset({"EGP", "FKP", "GBP", "GIP", "LBP", "SDG", "SHP", "SYP"}),
    "¥": frozenset({"CNY", "JPY"}),
}
"""Signs of several: alone they are a currency of their own, beside the code of one of these they mean that one."""

COLUMN_NAMES = frozenset(
    {
        *("currency", "currency code", "curr", "curr.", "ccy", "währung", "waehrung", "whg", "whg.", "devise"),
        *("monnaie", "moneda", "moeda", "divisa", "valuta", "waluta", "měna", "pénznem"),
    }
)
"""What a column is called that names the currency of each row, in small letters."""


def currency_of(word: str) -> str | None:
    """The currency that a word or sign names: a code of ISO 4217 or a shared sign; None where it names none."""
    code = word.upper()
    if code in CURRENCY_CODES or word in SHARED_SIGNS:
        return code
    return SIGNS.get(word.lower())


def agreed(one: str, other: str) -> str | None:
    """The currency that two places name, either of which may be ""; None where they contradict each other."""
    if not one or not other or one == other:
        return one or other
    if other in SHARED_SIGNS.get(one, ()):
        return other
    return one if one in SHARED_SIGNS.get(other, ()) else None


def currency_column(columns: Iterable[Column]) -> Column | None:
    """The one column that names currencies; None where there is none, or more than one."""
    found = [column for column in columns if column.name.strip().lower() in COLUMN_NAMES]
    return found[0] if len(found) == 1 else None


EXACT = Context(prec=80, traps=[Inexact, InvalidOperation])
"""Adds without ever rounding: 80 digits are more than any sheet's amounts come to."""
MOST_DIGITS = 30

_SPACES = " \u00a0\u2009\u202f"
_AMOUNT = re.compile(rf"([^0-9]*)([0-9](?:[0-9.,'’{_SPACES}]*[0-9])?)([^0-9]*)")
_PLAIN = re.compile(r"([0-9]+)(?:[.,]([0-9]+))?")
_GROUPED = re.compile(rf"([1-9][0-9]{{0,2}}([.,'’{_SPACES}])[0-9]{{3}}(?:\2[0-9]{{3}})*)(?:(?!\2)[.,]([0-9]+))?")
_TWO_WAYS = re.compile(r"[1-9][0-9]{0,2}[.,][0-9]{3}")
"""`1.234` is 1234 to some and 1.234 to others."""
_SCIENTIFIC = re.compile(r"-?[0-9]+(?:\.[0-9]+)?[eE][+-]?[0-9]+")
_ANY_DIGIT = re.compile("[0-9A-Za-z%]")
_SIGN = {"": 1, "+": 1, "-": -1, "()": -1}
_SIGN_MARKS = "+-−()"
_NO_SIGNS = dict.fromkeys(map(ord, _SIGN_MARKS))
_FIGURES = re.compile(rf"[0-9.,'’{_SPACES}{re.escape(_SIGN_MARKS)}]+")


class Amount(msgspec.Struct, frozen=True):
    """So much of a currency: a code of ISO 4217, a sign, or "" where none is named."""

    value: Decimal
    currency: str


class NoAmount(msgspec.Struct, frozen=True):
    """Why a cell's amount is not known for sure: a phrase without the cell's text, which is nobody else's."""

    why: str


EMPTY = NoAmount("empty")
EITHER = NoAmount("its one comma or point may mark thousands or decimals")


def read_amount(text: str, *, typed: bool = False) -> Amount | NoAmount:
    """The amount that a text stands for.

    It may have a sign (`-5.00`, `5.00-`, `(5.00)`), a currency before or after it, and a comma or point before its
    decimals; thousands may be grouped by commas, points, apostrophes or spaces. `typed`: the cell is a number, so a
    comma can only group and a point only divide.
    """
    if not text.strip():
        return EMPTY
    found = _AMOUNT.fullmatch(text.strip())
    if found is None:
        return NoAmount("not an amount")
    before, number, after = found.groups()
    value = read_number(number, typed=typed)
    sign = _SIGN.get("".join(mark for mark in before + after if mark in _SIGN_MARKS).replace("−", "-"))
    words = [word for word in (_word(before), _word(after)) if word]
    currency = currency_of(words[0]) if len(words) == 1 else None if words else ""
    if isinstance(value, NoAmount):
        return value
    if sign is None or currency is None:
        return NoAmount("not an amount in a currency that is known")
    return Amount(value if sign > 0 else EXACT.minus(value), currency)


class AmountStyle(msgspec.Struct, frozen=True):
    """How the texts of a column write amounts. `is_local`: some have a decimal comma, or groups of thousands."""

    is_local: bool
    currencies: frozenset[str]

    def doubt(self, text: str) -> str | None:
        """What follows the name of a param whose amount is clear by itself, and isn't beside the others."""
        amount = read_amount(text)
        if amount is EITHER and self.is_local:
            return (
                f"has {text.strip()!r}, which beside the other amounts may be thousands or decimals; write the decimals"
            )
        if isinstance(amount, Amount) and amount.currency and len(self.currencies) > 1:
            return f"has amounts in {' and '.join(sorted(self.currencies))}, and a number has no currency"
        return None


def may_be_doubted(text: str) -> bool:
    """Whether the other amounts of the column have to be looked at."""
    amount = read_amount(text)
    return amount is EITHER or (isinstance(amount, Amount) and amount.currency != "")


def style_of(texts: Iterable[str]) -> AmountStyle:
    """Look at all texts of a column."""
    is_local, currencies = False, set()
    for text in texts:
        amount = read_amount(text)
        if amount is EITHER or isinstance(amount, Amount):
            number = _AMOUNT.fullmatch(text.strip())
            is_local = is_local or (number is not None and plain_number(number[2]) is None)
        if isinstance(amount, Amount) and amount.currency:
            currencies.add(amount.currency)
    return AmountStyle(is_local, frozenset(currencies))


def held_amount(text: str, cell: TypedCell) -> Amount | NoAmount:
    """The number that a cell holds, of which `text` is what is sent; with the currency that the text names.

    Excel's SUM adds this number, whatever the cell shows: fewer decimals, thousands, a dash for zero. It has 15 digits.
    A date, a percentage and the like are no amounts.
    """
    shown = read_amount(text, typed=True)
    try:
        held = decimal_of(float(cell.stored))
    except (ValueError, InvalidOperation):
        return NoAmount("not an amount")
    if not held.is_finite():
        return NoAmount("not an amount")
    if isinstance(shown, Amount):
        return shown if shown.value == held else Amount(held, shown.currency)
    if _SCIENTIFIC.fullmatch(text) or (not held and not _ANY_DIGIT.search(text)):
        return Amount(held, shown_currency(text))
    return shown


def amount_in(row: TypedRow, place: int) -> Amount | NoAmount:
    """The amount that a row's cell holds; the cell of a number is among those that are typed."""
    problem = next((problem for problem in row.problems if problem.index == place and problem.refuses), None)
    if problem is not None:
        return NoAmount(problem.what)
    cell = row.typed.get(place)
    return read_amount(row.texts[place]) if cell is None else held_amount(row.texts[place], cell)


def shown_currency(text: str) -> str:
    """The currency that a number's format shows beside it; "" where it shows none that is known."""
    return currency_of(_FIGURES.sub("", text)) or ""


def worded(value: Decimal) -> str:
    """`1,234.50`: as many decimals as it has, two where it has one."""
    places = -int(value.as_tuple().exponent)
    return f"{value:,.2f}" if places == 1 else f"{value:,f}"


def read_number(text: str, *, typed: bool = False) -> Decimal | NoAmount:
    """The value of a number without a sign, whose thousands may be grouped; `EITHER` for `1.234`."""
    if typed:
        text = text.replace(",", "")
    elif _TWO_WAYS.fullmatch(text):
        return EITHER
    if plain := _PLAIN.fullmatch(text):
        whole, cents = plain[1], plain[2]
    elif grouped := _GROUPED.fullmatch(text):
        whole, cents = re.sub("[^0-9]", "", grouped[1]), grouped[3]
    else:
        return NoAmount("not an amount")
    if len(whole) + len(cents or "") > MOST_DIGITS:
        return NoAmount(f"more than {MOST_DIGITS} digits")
    return Decimal(f"{whole}.{cents}" if cents else whole)


def _word(text: str) -> str:
    return text.translate(_NO_SIGNS).strip()


NEAR = Decimal("1e-9")
"""What two sums may differ by, as a share of them: a workbook keeps 15 digits of a number."""


class TotalRow(msgspec.Struct, frozen=True):
    """What a total row of the sheet says that a column comes to, and what the sheet's rows come to.

    `rows` is the nearest of the sums that may be meant; None where some cells hold no amount that is sure.
    """

    row: int
    says: Decimal
    rows: Decimal | None

    @property
    def is_equal(self) -> bool:
        """Whether both are the same."""
        return self.rows is not None and abs(self.says - self.rows) <= NEAR * max(Decimal(1), abs(self.says))

    def told(self, write: Callable[[Decimal], str]) -> str:
        """The sentence, its amounts written so."""
        said = f"your row {self.row} says {write(self.says)}"
        if self.is_equal:
            return f"{said}: equal"
        if self.rows is None:
            return f"{said}, which can't be compared: some cells hold no amount that is sure"
        by = EXACT.subtract(self.says, self.rows)
        return f"{said}: NOT EQUAL, the rows come to {write(self.rows)}, which differs by {write(by)}"


class TotalRows:
    """Goes along all rows of a sheet and compares its own totals of one column with its rows."""

    def __init__(self, sheet: Sheet, column: Column) -> None:
        self._sheet = sheet
        self._place = column.index
        self._seen = Decimal(0)
        """What the rows so far come to; without those that are hidden and left out: `_shown`."""
        self._shown = Decimal(0)
        self._is_sure = True
        self._found: list[tuple[int, Decimal, Decimal, Decimal]] = []

    def see(self, row: TypedRow) -> None:
        """Add a row, or note what it says as a total."""
        if self._sheet.is_total(row):
            sums = self._sheet.sums.get(row.number)
            amount = amount_in(row, self._place)
            is_said = row.kind is not RowKind.TOTALS if sums is None else self._place in sums
            if isinstance(amount, Amount) and is_said:
                self._found.append((row.number, amount.value, self._seen, self._shown))
            return
        if row.kind not in LIST_ROWS or row.suspicion is not None:
            return
        amount = amount_in(row, self._place)
        if isinstance(amount, NoAmount):
            self._is_sure &= amount == EMPTY
            return
        self._seen = EXACT.add(self._seen, amount.value)
        if row.kind is RowKind.DATA:
            self._shown = EXACT.add(self._shown, amount.value)

    def found(self) -> tuple[TotalRow, ...]:
        """The sheet's totals, compared with the rows above each; or with those since the total before, or below it."""
        compared: list[TotalRow] = []
        for at, (number, says, above, _shown) in enumerate(self._found):
            sums = [one for side in (2, 3) for one in self._may_be_meant(at, side)]
            found = (TotalRow(number, says, one) for one in sums)
            other = TotalRow(number, says, (above or self._seen) if self._is_sure else None)
            compared.append(next((one for one in found if one.is_equal), other))
        return tuple(compared)

    def _may_be_meant(self, at: int, side: Literal[2, 3]) -> Iterator[Decimal]:
        """What a total may add up: the rows above it, all, those below, or those up to its neighbours."""
        marks = [Decimal(0), *(one[side] for one in self._found), self._seen if side == 2 else self._shown]
        before, here, after, last = marks[at], marks[at + 1], marks[at + 2], marks[-1]
        yield from (here, last)
        yield from (EXACT.subtract(*pair) for pair in ((here, before), (after, here), (last, here)))


def part_of(result: str, path: str) -> str | None:
    """The text, number or truth value that a result has at `total` or `sums.net`; None where it has none."""
    try:
        value = json.loads(result, parse_float=str, parse_int=str)
    except (ValueError, RecursionError):
        return None
    while path:
        if not isinstance(value, dict):
            return None
        if path in value:
            value, path = value[path], ""
        else:
            name, _dot, path = path.partition(".")
            value = value.get(name)
    if isinstance(value, bool):
        return str(value).upper()
    return value if isinstance(value, str) and value else None


def is_same(row: TypedRow, place: int, other: str) -> bool:
    """Whether a cell and a text say the same: as amounts if they can be read so, in any way, else as texts."""
    amount = amount_in(row, place)
    held = [amount] if isinstance(amount, Amount) else _readings(row.texts[place])
    for one in held:
        for two in _readings(other):
            if one.value == two.value and agreed(one.currency, two.currency) is not None:
                return True
    return row.texts[place].strip().casefold() == other.strip().casefold()


def _readings(text: str) -> list[Amount]:
    """The amounts that a text may stand for: `1.234` is two."""
    amount = read_amount(text)
    if isinstance(amount, Amount):
        return [amount]
    if amount != EITHER:
        return []
    both = (read_amount(re.sub(r"[.,](?=[0-9]{3}(?![0-9]))", mark, text), typed=True) for mark in ("", "."))
    return [one for one in both if isinstance(one, Amount)]
