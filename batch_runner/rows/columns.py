"""Where our columns stand in a sheet, and which are the person's own."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import msgspec

from batch_runner.errors import UsageError
from batch_runner.sheet.model import LIST_ROWS, NewColumns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from batch_runner.journal.outputs import WrittenHeaders
    from batch_runner.sheet.model import Column, Sheet


OURS = ("run_id", "status", "result", "error")
PREFIX = "batch_"
LONGEST_HEADER = 200
"""Characters of a header that is made of a key: a table's column in Excel holds 255, and a number may follow."""
_NUMBERED = re.compile(r" \([0-9]+\)\Z")
"""What makes the header of a key unique."""
PREFIXED = tuple(PREFIX + name for name in OURS)


class NewField(msgspec.Struct, frozen=True):
    """One column as it is written: its header, and what it holds.

    That is one of our four (`ours` is its place among them), what the results have under `key`, what a person had added
    to an earlier output (`note` counts her columns), or nothing.
    """

    header: str
    ours: int | None = None
    key: str | None = None
    note: int | None = None


class OurColumns(msgspec.Struct, frozen=True):
    """The columns of a sheet told apart.

    `own` are the person's, which may be sent; `headers` are the names of our four. `note` is what a person should hear
    about it.
    """

    own: tuple[Column, ...]
    headers: tuple[str, str, str, str]
    note: str | None = None
    four: tuple[Column | None, ...] = (None,) * len(OURS)
    """Where an earlier output has our four; None for one that a person took out."""
    expanded: tuple[Column, ...] = ()
    """What an earlier `--expand` left."""
    beside: tuple[Column, ...] = ()
    """Columns that a person put between ours or right of them: they stay, and are never sent."""

    @property
    def earlier(self) -> tuple[Column, ...]:
        """All columns of ours that the sheet has, from left to right."""
        found = (*(column for column in self.four if column), *self.expanded)
        return tuple(sorted(found, key=lambda column: column.index))

    @property
    def is_earlier_output(self) -> bool:
        """Whether the sheet has columns of ours: an earlier night wrote it."""
        return any(self.four)

    def new_columns(self, fields: Sequence[NewField], sheet: Sheet) -> NewColumns:
        """Where the sheet has these fields: those that stand in it stay there, and new ones follow at its right."""
        earlier = self.earlier
        headers = tuple(field.header for field in fields)
        if not earlier:
            return NewColumns(headers)
        start = earlier[0].index
        replaced = sum(column.index >= start for column in sheet.columns)
        end = sheet.columns[-1].index + 1
        last = end + len(headers) - len(earlier) - 1
        free = range(end, last + 1) if sheet.has_room(end, last) else ()
        taken = frozenset(range(start, max(sheet.width, end)))
        return NewColumns(headers, replaced, taken.difference(free, (column.index for column in earlier)))

    def fields(self, keys: Sequence[str], *, grow: bool = True) -> tuple[NewField, ...]:
        """The columns to write, those of an earlier output first, in the order in which they stand there.

        `keys` are the top-level keys of the results. An earlier output's columns stay where they are, since a person's
        formulas may look at them: those of keys that no result has any more are empty. With `grow` new keys follow at
        the end. Headers are unique in whatever case.
        """
        held = self._held(keys)
        fields = [*self._kept({header: key for key, header in held.items()})]
        taken = {column.name.casefold() for column in (*self.own, *self.beside)}
        taken |= {field.header.casefold() for field in fields}
        for key in keys if grow else ():
            if key not in held:
                name = free_name(f"{self.headers[2]}.{key}"[:LONGEST_HEADER], taken)
                taken.add(name.casefold())
                fields.append(NewField(name, key=key))
        return tuple(fields)

    def expanded_keys(self) -> set[str]:
        """What the keys of an earlier output's columns may be."""
        rests = [column.name.partition(".")[2] for column in self.expanded]
        return {*rests, *(_NUMBERED.sub("", rest) for rest in rests)}

    def _kept(self, keys: dict[str, str]) -> Iterator[NewField]:
        for column in self.earlier:
            if column in self.four:
                place = self.four.index(column)
                yield NewField(self.headers[place], ours=place)
            else:
                header = f"{self.headers[2]}.{column.name.partition('.')[2]}"
                yield NewField(header, key=keys.get(column.name))
        for place, found in enumerate(self.four):
            if found is None:
                yield NewField(self.headers[place], ours=place)

    def _held(self, keys: Iterable[str]) -> dict[str, str]:
        """The header of each key that has a column in the earlier output, also one that a number makes unique."""
        if not self.expanded:
            return {}
        before = self.expanded[0].name.partition(".")[0]
        names = {column.name for column in self.expanded}
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


def find_our_columns(
    columns: Sequence[Column],
    written: Sequence[WrittenHeaders] = (),
    is_expanded: Callable[[Column, Column], bool] | None = None,
) -> OurColumns:
    """Tell the columns of a sheet apart (README, *Statuses*).

    `written` are the headers that the journal wrote, those of this very file first: by them ours are known in any case,
    in part, in any order. Without any of them ours are known by the four names. `is_expanded` says whether a column
    holds what the results (the other column) have under its name; it is asked where no journal knows.

    Raises `UsageError` where ours would not be unique, or can't be told from others.
    """
    found = _by_journal(columns, written) or _by_names(columns, is_expanded) or OurColumns(tuple(columns), OURS)
    taken = {column.name.casefold() for column in (*found.own, *found.beside)}
    names = PREFIXED if taken.intersection(OURS) else OURS
    clash = next((column for column in (*found.own, *found.beside) if column.name.casefold() in names), None)
    if clash is not None:
        raise UsageError(
            f"column {clash.letter}: the output needs the name {clash.name!r} for a column of ours, since one of "
            f"{', '.join(OURS)} is a column of the sheet's own; give one of the two another name"
        )
    return msgspec.structs.replace(found, headers=names, note=_note(found.beside))


def _by_journal(columns: Sequence[Column], written: Sequence[WrittenHeaders]) -> OurColumns | None:
    """Ours by what was written. A part of the four is enough where the sheet's own columns are there, too."""
    for headers in written:
        own = {column for column in columns if column.name in headers.own}
        ours = {
            name.casefold(): [c for c in columns if c not in own and c.name.casefold() == name.casefold()]
            for name in headers.ours
        }
        twice = next((found for found in ours.values() if len(found) > 1), None)
        if twice is not None:
            raise UsageError(
                f"columns {twice[0].letter} and {twice[1].letter}: both are called {twice[0].name!r}, and one is a "
                "column of ours; give the other one another name"
            )
        four = tuple(next(iter(ours[name.casefold()]), None) for name in headers.ours[: len(OURS)])
        if not any(four) or (not all(four) and not own):
            continue
        expanded = tuple(found[0] for found in list(ours.values())[len(OURS) :] if found)
        return _told_apart(columns, four, expanded, own, {name.casefold() for name in headers.hers})
    return None


def _by_names(columns: Sequence[Column], is_expanded: Callable[[Column, Column], bool] | None) -> OurColumns | None:
    """Ours by the four names, in whatever case and order; what `--expand` added by its own."""
    for names in (PREFIXED, OURS):
        four = tuple(_named(columns, name) for name in names)
        result = four[2]
        if not all(four) or result is None:
            continue
        last = max(column.index for column in four if column)
        like = [column for column in columns if column.index > last and column.name.startswith(f"{result.name}.")]
        expanded = tuple(column for column in like if is_expanded is None or is_expanded(column, result))
        return _told_apart(columns, four, expanded, set(), set())
    return None


def _named(columns: Sequence[Column], name: str) -> Column | None:
    """The column of this name: to the letter, or the only one that is so in another case."""
    exact = [column for column in columns if column.name == name]
    found = exact or [column for column in columns if column.name.casefold() == name]
    return found[0] if len(found) == 1 else None


def _told_apart(
    columns: Sequence[Column],
    four: tuple[Column | None, ...],
    expanded: tuple[Column, ...],
    own: set[Column],
    hers: set[str],
) -> OurColumns:
    """What is left of ours is the sheet's own, unless it was carried over; what is right of them is beside."""
    ours = {*four, *expanded}
    first = min(column.index for column in columns if column in ours)
    others = [column for column in columns if column not in ours]
    is_left = any(column.index < first for column in others)
    mine = tuple(
        column
        for column in others
        if column in own or (column.name.casefold() not in hers and not own and not is_left) or column.index < first
    )
    return OurColumns(mine, OURS, None, four, expanded, tuple(column for column in others if column not in mine))


def _note(beside: Sequence[Column]) -> str | None:
    """What a person should hear of her columns between ours and right of them."""
    if not beside:
        return None
    names = ", ".join(f"{column.name!r} ({column.letter})" for column in beside)
    return f"beside the columns of ours, and so kept as they are and not sent: {names}; move them left to send them"


def free_name(name: str, taken: set[str]) -> str:
    """The name, with a number behind it where another column has it in whatever case."""
    number, free = 1, name
    while free.casefold() in taken:
        number += 1
        free = f"{name} ({number})"
    return free


def holds_results(sheet: Sheet) -> Callable[[Column, Column], bool]:
    """Whether all that a column of this sheet has stands in the results, under the key that its header names."""

    def ask(column: Column, result: Column) -> bool:
        key = column.name.partition(".")[2]
        keys = {key, _NUMBERED.sub("", key)}
        cells = ((row.texts[column.index], row.texts[result.index]) for row in sheet.rows() if row.kind in LIST_ROWS)
        return all(text in {plain_text(top_level(whole).get(key)) for key in keys} for text, whole in cells if text)

    return ask


_decode_text = msgspec.json.Decoder(str).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def top_level(result: str) -> dict[str, msgspec.Raw]:
    """The values of an object by key; none where it can't be taken apart (half a character, nested without end)."""
    if not result.startswith("{"):
        return {}
    try:
        return _decode_object(result)
    except (msgspec.DecodeError, RecursionError):
        return {}


def plain_text(value: msgspec.Raw | None) -> str:
    """A text as itself, null as nothing, all else as the JSON that it came as."""
    raw = memoryview(b"") if value is None else memoryview(value)
    if bytes(raw[:1]) == b'"':
        try:
            return _decode_text(raw)
        except msgspec.DecodeError:  # half a character
            return str(json.loads(str(raw, "utf-8")))
    text = str(raw, "utf-8").strip()
    return "" if text == "null" else text
