"""What a task takes, and how a cell's text is read as a value of that kind.

An input with a name of its own is found under that name to the letter, as the Tasks API has it. One that is known by
its argument only is found whatever the case, the spaces and the signs of the name (`invoice_no` is `Invoice No.`,
`faellig` is `Fällig`), if just one name could be it; where two could be, even if one of them is it to the letter,
nobody guesses: a row in which that cell is empty would otherwise take the other's.

Spaces around a text count only where the kind is text. A number or a date in the way of a country is read if there is
but one way to read it: `1.234,50 €`, `28.02.2026`. `1,234` is one number in New York and another in Berlin.
"""

from __future__ import annotations

import re
import unicodedata
from datetime import date, datetime, time
from decimal import Decimal
from difflib import get_close_matches
from math import isfinite
from typing import TYPE_CHECKING, Any

import msgspec

from batch_runner.errors import quote_words
from batch_runner.rows.amounts import Amount, read_amount
from batch_runner.rows.keys import readings
from batch_runner.units import plain_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence


NEAR, VERY_NEAR = 0.6, 0.8
"""How like a missing name another has to be: to be asked about, and to be spoken of although nothing is wrong."""
MOST_NAMES = 20
"""Names that a sentence lists."""


class Input(msgspec.Struct, frozen=True):
    """One thing that a task takes: its name, the kind of its value, and whether it can do without.

    `argument` is what the function calls it, `name` what people do: `has_own_name` says that it must be met to the
    letter. A `required` one needs a column; `may_be_empty` allows it empty cells. `default` is what holds for an empty
    cell otherwise, as a text (None: nothing that could be shown).
    """

    argument: str
    name: str
    kind: ValueKind
    has_own_name: bool = False
    required: bool = True
    may_be_empty: bool = False
    default: str | None = None

    def is_called(self, name: str) -> bool:
        """Whether a param of this name can be it."""
        return name == self.name if self.has_own_name else folded(name) == folded(self.name)

    def is_given(self, text: str | None) -> bool:
        """Whether this is a value at all: no empty cell, unless an empty text is one."""
        return text is not None and (text != "" or self.kind.takes_empty)


class TaskInputs(msgspec.Struct, frozen=True):
    """All that a task takes. With `takes_rest` it takes every other param, too."""

    inputs: tuple[Input, ...] = ()
    takes_rest: bool = False

    def fit(self, sent: Iterable[str], left_out: Iterable[str] = ()) -> Fit:
        """Find the inputs among the names that are sent; `left_out` are columns that are there and not sent."""
        names = tuple(sent)
        found = {each.argument: tuple(name for name in names if each.is_called(name)) for each in self.inputs}
        return Fit(self, names, found, tuple(left_out))


class Fit(msgspec.Struct, frozen=True):
    """How the names that are sent meet a task's inputs. `found` are the names that each input could be, by argument."""

    inputs: TaskInputs
    sent: tuple[str, ...]
    found: Mapping[str, tuple[str, ...]]
    left_out: tuple[str, ...] = ()

    @property
    def pairs(self) -> Iterator[tuple[Input, str | None]]:
        """Each input with the name that it is sent under."""
        return ((each, next(iter(self.found[each.argument]), None)) for each in self.inputs.inputs)

    @property
    def rest(self) -> tuple[str, ...]:
        """The names that are no input's."""
        taken = {name for names in self.found.values() for name in names}
        return tuple(name for name in self.sent if name not in taken)

    @property
    def unused(self) -> tuple[str, ...]:
        """The names that are sent and that the task does nothing with."""
        return () if self.inputs.takes_rest else self.rest

    def problems(self) -> list[str]:
        """A sentence for each reason why no row could be sent."""
        missing = [each for each, name in self.pairs if name is None and each.required]
        return [*self.confusions(), *(self._missing(each) for each in missing)]

    def confusions(self) -> Iterator[str]:
        """A sentence for each name that could be meant in two ways."""
        for each in self.inputs.inputs:
            if len(names := self.found[each.argument]) > 1:
                yield (
                    f"{' and '.join(map(repr, names))} could each be what the task takes as {each.name!r}; leave out "
                    "all but one (--exclude)"
                )
        arguments = {each.argument for each in self.inputs.inputs}
        for name in self.rest if self.inputs.takes_rest else ():
            if name in arguments:
                yield f"{name!r} is sent beside what the task takes as {name!r}; leave it out (--exclude)"

    def hints(self) -> Iterator[str]:
        """A sentence for each input that isn't sent although a name very near to its own is, and isn't used."""
        for each, name in self.pairs:
            if name is None and not each.required and (near := self._near(each, VERY_NEAR)):
                yield f"nothing is sent as {each.name!r}, which the task can do without; {_mend(near, each)}"

    def wrongs(self, params: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        """The names of one row's params that are missing or wrong, each with a sentence."""
        for each, name in self.pairs:
            text = None if name is None else params.get(name)
            if name is not None and not each.is_given(text):
                if each.required and not each.may_be_empty:
                    yield name, f"it is empty, and the task needs {name!r}"
            elif name is not None and text is not None:
                try:
                    each.kind.read(text)
                except ValueError as error:
                    yield name, f"{name!r} {error}"

    def values(self, params: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
        """The values of one run's arguments; an argument without a text is left out if it has a default.

        Raises ValueError with a sentence where one is missing or wrong.
        """
        for each, name in self.pairs:
            text = None if name is None else params.get(name)
            if text is not None and each.is_given(text):
                try:
                    yield each.argument, each.kind.read(text)
                except ValueError as error:
                    raise ValueError(f"{name!r} {error}") from None
            elif each.required:
                if not each.may_be_empty:
                    raise ValueError(self._absent(each, name))
                yield each.argument, None

    def _missing(self, each: Input) -> str:
        sentence = f"the task needs {each.name!r}, and nothing is sent under that name"
        if hidden := next((name for name in self.left_out if each.is_called(name)), None):
            return f"{sentence}: the column {hidden!r} is left out (--columns, --exclude, --rename)"
        if near := self._near(each, NEAR):
            return f"{sentence}; {_mend(near, each)}"
        if not self.rest:
            return f"{sentence}; nothing else is sent"
        likely = (
            next(filter(_FILE_LIKE.search, self.rest), self.rest[0]) if "file" in each.name.lower() else self.rest[0]
        )
        which = f"say which of them it is, as in --rename {_rename(likely, each)}"
        return f"{sentence}; {_listed('sent are', self.rest)}: {which}"

    def _absent(self, each: Input, name: str | None) -> str:
        near = self._near(each, NEAR) if name is None else None
        how = "missing" if name is None else "empty"
        return f"the param {each.name!r} is {how}; {f'did you mean {near!r}?' if near else 'the task needs it'}"

    def _near(self, each: Input, likeness: float) -> str | None:
        """The unused name that is nearest to the input's."""
        names = {folded(name): name for name in reversed(self.rest)}
        near = get_close_matches(folded(each.name), names, n=1, cutoff=likeness)
        return names[near[0]] if near else None


_UMLAUTS = str.maketrans({"ä": "ae", "ö": "oe", "ü": "ue"})


def folded(name: str) -> str:
    """A name without case, spaces, signs and umlauts; one of signs only stays as it is."""
    plain = unicodedata.normalize("NFKC", name).casefold().translate(_UMLAUTS)
    return "".join(filter(str.isalnum, plain)) or plain


def _mend(near: str, each: Input) -> str:
    return f"did you mean {near!r}? then say --rename {_rename(near, each)}"


def _rename(name: str, each: Input) -> str:
    """What says that this column is the input. Double quotes do for every shell, unless a sign means something."""
    rename = f"{name}={each.name}"
    return quote_words([rename]) if set('"$`\\!%').intersection(rename) else f'"{rename}"'


_FILE_LIKE = re.compile(r"pdf|file|document|attachment|path|datei|fichier", re.IGNORECASE)
"""What a column is called that may well hold the names of files."""


def _listed(words: str, names: Sequence[str]) -> str:
    if not names:
        return "nothing else is sent"
    more = ", …" if len(names) > MOST_NAMES else ""
    return f"{words} {', '.join(map(repr, names[:MOST_NAMES]))}{more}"


MOST_CHOICES = 8
"""Choices that a sentence names."""
LONGEST_TEXT = 60
"""Characters of a wrong text that a sentence shows."""

_WHOLE = re.compile(r"[+-]?\d{1,4000}(?=(\.0+)?\Z)", re.ASCII)
_DATE = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ]00:00(?::00)?)?", re.ASCII)
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d:\d\d)?)?", re.ASCII)
_FULL_YEAR = re.compile(r"[0-9]{4}")
_TIME = re.compile(r"\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?", re.ASCII)
_TRUTHS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class ValueKind(msgspec.Struct, frozen=True):
    """A kind of value. `noun` follows "has to be"; `example` is a text of it; `choices` are all texts that it has.

    `parse` makes the value of a text, or raises ValueError or ArithmeticError.
    """

    noun: str
    parse: Callable[[str], Any]
    example: str = ""
    choices: tuple[str, ...] = ()

    @property
    def is_amount(self) -> bool:
        """Whether its texts may be written in the way of a country."""
        return self.parse in (_whole, _decimal, _float)

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


def choice(values: Mapping[str, Any]) -> ValueKind:
    """The kind whose only values are these, each by its own text, to the letter."""

    def parse(text: str) -> Any:
        known = text if text in values else text.strip()
        if known not in values:
            raise ValueError(text)
        return values[known]

    return ValueKind(_alternatives(tuple(values)), parse, choices=tuple(values))


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
    """`1234.50`, `1.5E+03`, `1.234,50 €`; `19.5%` is 0.195, as in the sheet."""
    bare = text.strip()
    number = plain_number(bare.removesuffix("%"))
    if number is None and isinstance(amount := read_amount(bare), Amount):
        return amount.value
    if number is None or (bare.endswith("%") and "e" in bare.lower()):
        raise ValueError(text)
    return Decimal(f"{bare[:-1]}e-2") if bare.endswith("%") else number


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


def _dated(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    """A date of ISO 8601, or the only one that `28.02.2026` can be."""
    read = readings(text.strip()) if _FULL_YEAR.search(text) else ()
    return _found(pattern, text if pattern.fullmatch(text.strip()) or len(read) != 1 else read[0])


def _date(text: str) -> date:
    """A midnight is its date: a cell may show both."""
    return date.fromisoformat(_dated(_DATE, text)[1])


def _moment(text: str) -> datetime:
    """A date alone is its midnight."""
    return datetime.fromisoformat(_dated(_MOMENT, text)[0])


def _time(text: str) -> time:
    return time.fromisoformat(_found(_TIME, text)[0])


TEXT = ValueKind("a text", str)

KINDS: dict[type, ValueKind] = {
    str: TEXT,
    int: ValueKind("a whole number", _whole, "12"),
    Decimal: ValueKind("a number", _decimal, "1234.50"),
    float: ValueKind("a number", _float, "1234.50"),
    bool: ValueKind("TRUE or FALSE", _truth),
    date: ValueKind("a date", _date, "2026-02-28"),
    datetime: ValueKind("a date and time", _moment, "2026-02-28T14:05:00"),
    time: ValueKind("a time", _time, "14:05:00"),
}
"""The kinds that Python has a type for."""
