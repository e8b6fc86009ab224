"""Kinds of values, and how the text of a cell is read as one (`batch-runner help tasks`). Nothing is guessed.

Spaces around a text count only where the kind is text. A number with a separator of thousands is none: `1,234` is one
number in New York and another in Berlin.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time
from decimal import Decimal
from difflib import get_close_matches
from math import isfinite
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

MOST_CHOICES = 8
"""Choices that a sentence names."""
LONGEST_TEXT = 60
"""Characters of a wrong text that a sentence shows."""

_WHOLE = re.compile(r"[+-]?\d{1,4000}(?=(\.0+)?\Z)", re.ASCII)
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d{1,3}|%)?", re.ASCII)
_DATE = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ]00:00(?::00)?)?", re.ASCII)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d:\d\d)?)?", re.ASCII)
_TIME = re.compile(r"\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?", re.ASCII)
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class Kind(msgspec.Struct, frozen=True):
    """A kind of value. `noun` follows "has to be"; `example` is a text of it; `choices` are all texts that it has.

    `parse` makes the value of a text, or raises ValueError or ArithmeticError.
    """

    noun: str
    parse: Callable[[str], Any]
    example: str = ""
    choices: tuple[str, ...] = ()

    @property
    def takes_empty(self) -> bool:
        """Whether the empty text is a value of it; for any other kind an empty cell is no value."""
        return self is TEXT or "" in self.choices

    def read(self, text: str) -> Any:
        """The value. Raises ValueError with what follows the name of the param: `has to be a number …`."""
        try:
            return self.parse(text)
        except (ValueError, ArithmeticError):
            raise ValueError(f"has to be {self._wanted()}, not {_shown(text)}{self._hint(text)}") from None

    def _wanted(self) -> str:
        return f"{self.noun} such as {self.example}" if self.example else self.noun

    def _hint(self, text: str) -> str:
        folded = {choice.casefold(): choice for choice in self.choices}
        near = get_close_matches(text.strip().casefold(), folded, n=1)
        return f"; did you mean {folded[near[0]]!r}?" if near else ""


def choice(values: Mapping[str, Any]) -> Kind:
    """The kind whose only values are these, each by its own text, to the letter."""

    def parse(text: str) -> Any:
        known = text if text in values else text.strip()
        if known not in values:
            raise ValueError(text)
        return values[known]

    return Kind(_alternatives(tuple(values)), parse, choices=tuple(values))


def _alternatives(texts: tuple[str, ...]) -> str:
    if len(texts) > MOST_CHOICES:
        return f"one of {', '.join(texts[:MOST_CHOICES])}, … ({len(texts)} in all)"
    return " or ".join(part for part in (", ".join(texts[:-1]), texts[-1]) if part)


def _shown(text: str) -> str:
    return repr(text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}…")


def _found(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    found = pattern.fullmatch(text.strip())
    if found is None:
        raise ValueError(text)
    return found


def _whole(text: str) -> int:
    """`12`, and `12.00`: a whole number may be shown with decimals."""
    found = _WHOLE.match(text.strip())
    if found is None:
        raise ValueError(text)
    return int(found[0])


def _decimal(text: str) -> Decimal:
    """`1234.50`, `1.5E+03`; `19.5%` is 0.195, as in the sheet."""
    return Decimal(_found(_NUMBER, text)[0].replace("%", "e-2"))


def _float(text: str) -> float:
    number = float(_decimal(text))
    if not isfinite(number):
        raise ValueError(text)
    return number


def _truth(text: str) -> bool:
    try:
        return _TRUTHS[text.strip().lower()]
    except KeyError:
        raise ValueError(text) from None


def _date(text: str) -> date:
    """A midnight is its date: a cell may show both."""
    return date.fromisoformat(_found(_DATE, text)[1])


def _moment(text: str) -> datetime:
    """A date alone is its midnight."""
    return datetime.fromisoformat(_found(_MOMENT, text)[0])


def _time(text: str) -> time:
    return time.fromisoformat(_found(_TIME, text)[0])


TEXT = Kind("a text", str)

KINDS: dict[type, Kind] = {
    str: TEXT,
    int: Kind("a whole number", _whole, "12"),
    Decimal: Kind("a number", _decimal, "1234.50"),
    float: Kind("a number", _float, "1234.50"),
    bool: Kind("TRUE or FALSE", _truth),
    date: Kind("a date", _date, "2026-02-28"),
    datetime: Kind("a date and time", _moment, "2026-02-28T14:05:00"),
    time: Kind("a time", _time, "14:05:00"),
}
"""The kinds that Python has a type for."""
