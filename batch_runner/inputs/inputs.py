"""A task's inputs, and which of the names that a sheet sends is which.

An input with a name of its own is found under that name to the letter, as the Tasks API has it. One that is known by
its argument only is found whatever the case, the spaces and the signs of the name (`invoice_no` is `Invoice No.`), if
just one name could be it; where two could be, even if one of them is it to the letter, nobody guesses: a row in which
that cell is empty would otherwise take the other's.
"""

from __future__ import annotations

import shlex
import unicodedata
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from batch_runner.inputs.kinds import Kind

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
    kind: Kind
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


class Inputs(msgspec.Struct, frozen=True):
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

    inputs: Inputs
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
        return f"{sentence}; {_listed('sent are', self.rest)}"

    def _absent(self, each: Input, name: str | None) -> str:
        near = self._near(each, NEAR) if name is None else None
        how = "missing" if name is None else "empty"
        return f"the param {each.name!r} is {how}; {f'did you mean {near!r}?' if near else 'the task needs it'}"

    def _near(self, each: Input, likeness: float) -> str | None:
        """The unused name that is nearest to the input's."""
        names = {folded(name): name for name in reversed(self.rest)}
        near = get_close_matches(folded(each.name), names, n=1, cutoff=likeness)
        return names[near[0]] if near else None


def folded(name: str) -> str:
    """A name without case, spaces and signs; one of signs only stays as it is."""
    plain = unicodedata.normalize("NFKC", name).casefold()
    return "".join(filter(str.isalnum, plain)) or plain


def _mend(near: str, each: Input) -> str:
    """Double quotes do for every shell, unless there is a sign in them that means something to it."""
    rename = f"{near}={each.name}"
    quoted = shlex.quote(rename) if set('"$`\\!%').intersection(rename) else f'"{rename}"'
    return f"did you mean {near!r}? then say --rename {quoted}"


def _listed(words: str, names: Sequence[str]) -> str:
    if not names:
        return "nothing else is sent"
    more = ", …" if len(names) > MOST_NAMES else ""
    return f"{words} {', '.join(map(repr, names[:MOST_NAMES]))}{more}"
