"""A row as its XML says it, before any cell has become text."""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

MAX_ROWS = 1_048_576
"""Excel specifications and limits."""


class RawRow(NamedTuple):
    """A row of a sheet's part: four lists with one place for each of its cells.

    `letters` is the cell's column (`b"AB"`) or None where it only follows the one before; `marks` its other attributes
    as they stand (see `read_mark`); `formulas` is not None where it has a formula; `values` is the text of its `v` or
    `is`, escaped as in XML, or None.
    """

    number: int
    hidden: bool
    letters: list[bytes | None]
    marks: list[bytes | None]
    formulas: list[bytes | None]
    values: list[bytes | None]

    @property
    def is_blank(self) -> bool:
        """Whether it has neither a value nor a formula: formatting, or nothing at all."""
        return not any(self.values) and not any(self.formulas)


class Mark(msgspec.Struct, frozen=True):
    """What a cell's attributes say: `s` its place in the cell formats, `t` its type, `vm` its place in the metadata."""

    style: int = 0
    type: str = "n"
    metadata: int = 0


_ATTRIBUTE = re.compile(rb' ([a-z]+)="([^"]*)"')


def read_mark(mark: bytes) -> Mark:
    """The attributes of a cell, from `b' s="5" t="s"'`."""
    known = dict(_ATTRIBUTE.findall(mark))
    return Mark(
        _number(known.get(b"s")), (known.get(b"t") or b"n").decode("ascii", "replace"), _number(known.get(b"vm"))
    )


def _number(text: bytes | None) -> int:
    return int(text) if text and text.isdigit() else 0


def column_index(letters: bytes) -> int:
    """The place of a column, from 0: `b"A"` → 0, `b"XFD"` → 16,383."""
    number = 0
    for letter in letters:
        number = number * 26 + (letter & 31)
    return number - 1


def column_places(letters: list[bytes | None], known: dict[bytes | None, int]) -> list[int]:
    """The places of a row's cells, from 0. `known` remembers columns that were met before."""
    try:
        return [known[name] for name in letters]
    except KeyError:
        return _count_on(letters, known)


def _count_on(letters: list[bytes | None], known: dict[bytes | None, int]) -> list[int]:
    places: list[int] = []
    for name in letters:
        if name is None:  # a cell without `r` stands right of the one before it (ECMA-376 part 1, 18.3.1.4)
            places.append(places[-1] + 1 if places else 0)
        else:
            places.append(known.setdefault(name, column_index(name)))
    return places
