"""Where our columns stand in a sheet, and which are the person's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from batch_runner.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from batch_runner.sheet.model import Column


OURS = ("run_id", "status", "result", "error")
PREFIX = "batch_"
LONGEST_HEADER = 200
"""Characters of a header that is made of a key: a table's column in Excel holds 255, and a number may follow."""
PREFIXED = tuple(PREFIX + name for name in OURS)


class OurColumns(msgspec.Struct, frozen=True):
    """The columns of a sheet told apart.

    `own` are the person's, which may be sent; `replaced` counts those at the end that an earlier output left and that
    are written anew; `headers` are the names of our four. `note` is what a person should hear about it.
    """

    own: tuple[Column, ...]
    replaced: int
    headers: tuple[str, str, str, str]
    note: str | None = None

    def places(self, columns: Sequence[Column]) -> list[int]:
        """Where our four stand, from left to right, in the earlier output with these columns; none in another sheet."""
        return [column.index for column in columns[len(self.own) :][: len(self.headers)]]

    def expanded(self, keys: Iterable[str]) -> tuple[str, ...]:
        """The headers with one more for each top-level key of the results; unique whatever their case."""
        taken = {column.name.casefold() for column in self.own} | {name.casefold() for name in self.headers}
        names = list(self.headers)
        for key in keys:
            name = _free(f"{self.headers[2]}.{key}"[:LONGEST_HEADER], taken)
            taken.add(name.casefold())
            names.append(name)
        return tuple(names)


def find_our_columns(columns: Sequence[Column]) -> OurColumns:
    """Tell the columns of a sheet apart (README, *Statuses*). Raises `UsageError` where ours would not be unique."""
    replaced = _earlier(columns)
    own = tuple(columns[: len(columns) - replaced])
    taken = {column.name.casefold() for column in own}
    names = PREFIXED if taken.intersection(OURS) else OURS
    clash = next((column for column in own if column.name.casefold() in names), None)
    if clash is not None:
        raise UsageError(
            f"column {clash.letter}: the output needs the name {clash.name!r} for a column of ours, since one of "
            f"{', '.join(OURS)} is a column of the sheet's own; give one of the two another name"
        )
    return OurColumns(own, replaced, (names[0], names[1], names[2], names[3]), _buried_note(own))


def _earlier(columns: Sequence[Column]) -> int:
    """How many columns at the end are an earlier output's: ours, and those that `--expand` put right of them."""
    names = [column.name for column in columns]
    for ours in (OURS, PREFIXED):
        end = len(names)
        while end and names[end - 1].startswith(f"{ours[2]}."):
            end -= 1
        if tuple(names[max(end - 4, 0) : end]) == ours:
            return len(names) - end + 4
    return 0


def _buried_note(own: Sequence[Column]) -> str | None:
    """An earlier output with a column added at its right: sent along, our columns make every row a new one."""
    names = tuple(column.name for column in own)
    for first in range(len(names) - len(OURS)):
        if names[first : first + len(OURS)] in (OURS, PREFIXED):
            stray = own[first + len(OURS)]
            return (
                f"{stray.name!r} ({stray.letter}) stands right of what looks like an earlier output, whose columns are "
                f"sent like any others; move it left of {names[first]!r} ({own[first].letter}) to have them refreshed"
            )
    return None


def _free(name: str, taken: set[str]) -> str:
    number, free = 1, name
    while free.casefold() in taken:
        number += 1
        free = f"{name} ({number})"
    return free
