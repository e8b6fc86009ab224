"""Where our columns stand in a sheet, and which are the person's own."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from batch_runner.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from batch_runner.sheet.model import Column


OURS = ("run_id", "status", "result", "error")
PREFIX = "batch_"
LONGEST_HEADER = 200
"""Characters of a header that is made of a key: a table's column in Excel holds 255, and a number may follow."""
_NUMBERED = re.compile(r" \([0-9]+\)\Z")
"""What makes the header of a key unique."""
PREFIXED = tuple(PREFIX + name for name in OURS)


class NewField(msgspec.Struct, frozen=True):
    """One column as it is written: its header, "" for a blank column that a person put between ours.

    It holds one of our four (`ours` is its place among them), or what the results have under `key`, or nothing.
    """

    header: str
    ours: int | None = None
    key: str | None = None


class OurColumns(msgspec.Struct, frozen=True):
    """The columns of a sheet told apart.

    `own` are the person's, which may be sent; `replaced` counts those at the end that an earlier output left and that
    are written anew; `headers` are the names of our four. `note` is what a person should hear about it.
    """

    own: tuple[Column, ...]
    replaced: int
    headers: tuple[str, str, str, str]
    note: str | None = None
    earlier: tuple[Column, ...] = ()
    """Those that are replaced."""

    @property
    def has_expanded(self) -> bool:
        """Whether an earlier `--expand` left columns."""
        return self.replaced > len(self.headers)

    def places(self, columns: Sequence[Column]) -> list[int]:
        """Where our four stand, from left to right, in the earlier output with these columns; none in another sheet."""
        return [column.index for column in columns[len(self.own) :][: len(self.headers)]]

    def fields(self, keys: Sequence[str], *, grow: bool = True) -> tuple[NewField, ...]:
        """The columns to write, from the first of ours on; `keys` are the top-level keys of the results.

        An earlier output's columns stay where they are, since a person's formulas may look at them: those of keys that
        no result has any more are empty. With `grow` new keys follow at the end. Headers are unique in whatever case.
        """
        held = self._held(keys)
        fields = [*self._kept({header: key for key, header in held.items()})]
        taken = {column.name.casefold() for column in self.own} | {field.header.casefold() for field in fields}
        for key in keys if grow else ():
            if key not in held:
                name = _free(f"{self.headers[2]}.{key}"[:LONGEST_HEADER], taken)
                taken.add(name.casefold())
                fields.append(NewField(name, key=key))
        return tuple(fields)

    def expanded_keys(self) -> set[str]:
        """What the keys of an earlier output's columns may be."""
        rests = [column.name.partition(".")[2] for column in self.earlier[len(self.headers) :]]
        return {*rests, *(_NUMBERED.sub("", rest) for rest in rests)}

    def _kept(self, keys: dict[str, str]) -> Iterator[NewField]:
        for place, header in enumerate(self.headers):
            yield from self._blanks(place)
            yield NewField(header, ours=place)
        for place, column in enumerate(self.earlier[len(self.headers) :], len(self.headers)):
            yield from self._blanks(place)
            header = f"{self.headers[2]}.{column.name.partition('.')[2]}"
            yield NewField(header, key=keys.get(column.name))

    def _blanks(self, place: int) -> Iterator[NewField]:
        """The blank columns left of an earlier output's column, up to the one before it."""
        if 0 < place < len(self.earlier):
            gap = self.earlier[place].index - self.earlier[place - 1].index - 1
            yield from (NewField("") for _ in range(gap))

    def _held(self, keys: Iterable[str]) -> dict[str, str]:
        """The header of each key that has a column in the earlier output, also one that a number makes unique."""
        if not self.has_expanded:
            return {}
        before = self.earlier[2].name
        names = {column.name for column in self.earlier[len(self.headers) :]}
        wanted = {key: f"{before}.{key}"[:LONGEST_HEADER] for key in keys}
        held: dict[str, str] = {}
        for key, name in wanted.items():
            if name in names:
                names.discard(name)
                held[key] = name
        folded = {column.name.casefold() for column in (*self.own, *self.earlier)}
        for key, name in wanted.items():
            if key not in held and name.casefold() in folded:
                numbered = next((other for other in sorted(names) if _NUMBERED.sub("", other) == name), None)
                if numbered is not None:
                    names.discard(numbered)
                    held[key] = numbered
        return held


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
    headers = (names[0], names[1], names[2], names[3])
    return OurColumns(own, replaced, headers, _buried_note(own), tuple(columns[len(own) :]))


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
