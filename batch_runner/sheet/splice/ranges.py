"""Ranges of cells as a workbook writes them (ECMA-376 part 1, 18.18.62 ST_Ref)."""

from __future__ import annotations

import re

import msgspec

from batch_runner.sheet.sheet import column_letter

MAX_COLUMNS = 16_384
"""Excel specifications and limits."""
_RANGE = re.compile(r"\$?([A-Za-z]{1,3})\$?([0-9]+)(?::\$?([A-Za-z]{1,3})\$?([0-9]+))?")


class Range(msgspec.Struct, frozen=True):
    """A rectangle of cells. Rows count from 1, columns from 0; both ends are part of it."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def text(self) -> str:
        """Such as `A1:L100`, or `A1` for one cell."""
        first = f"{column_letter(self.left)}{self.top}"
        last = f"{column_letter(self.right)}{self.bottom}"
        return first if first == last else f"{first}:{last}"

    @property
    def absolute(self) -> str:
        """Such as `$A$1:$L$100`, as a defined name has it."""
        return f"${column_letter(self.left)}${self.top}:${column_letter(self.right)}${self.bottom}"

    def meets(self, other: Range) -> bool:
        """Whether they share a cell."""
        return (
            self.top <= other.bottom
            and other.top <= self.bottom
            and self.left <= other.right
            and other.left <= self.right
        )

    def with_right(self, right: int) -> Range:
        """The same rows, up to another last column."""
        return msgspec.structs.replace(self, right=right)

    def around(self, other: Range) -> Range:
        """The smallest range that holds both."""
        return Range(
            min(self.top, other.top),
            min(self.left, other.left),
            max(self.bottom, other.bottom),
            max(self.right, other.right),
        )


def parse_range(text: str) -> Range | None:
    """`A1:L100`, `$A$1` and the like; None for anything else (a whole column, several ranges)."""
    found = _RANGE.fullmatch(text)
    if found is None:
        return None
    left, top, right, bottom = found.groups()
    return Range(int(top), column_place(left), int(bottom or top), column_place(right or left))


def column_place(letters: str) -> int:
    """The place of a column, from 0: `A` → 0, `XFD` → 16,383."""
    number = 0
    for letter in letters:
        number = number * 26 + (ord(letter) & 31)
    return number - 1
