"""The sheets of a journal: one may hold those of several days, or all that a pattern matches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from batch_runner.errors import UsageError

if TYPE_CHECKING:
    import sqlite3

_SHEETS = "SELECT input, max(id) FROM batch GROUP BY input ORDER BY max(id) DESC"
_MOST_NAMED = 5


class Sheet(msgspec.Struct, frozen=True):
    """One sheet: its path, and the last batch over it."""

    path: str
    batch: int


def sheets(connection: sqlite3.Connection) -> tuple[Sheet, ...]:
    """All sheets of the journal, the latest first."""
    return tuple(Sheet(*found) for found in connection.execute(_SHEETS))


def sheet_of(journal: Path, known: tuple[Sheet, ...], said: str | None) -> Sheet:
    """The sheet whose rows a person means: the one that they name by its path or its file's name, or the only one.

    Raises `UsageError` where that isn't one: a row 17 stands in each of several sheets.
    """
    found = [sheet for sheet in known if said is None or _is(sheet, said)]
    if len(found) == 1:
        return found[0]
    names = [Path(sheet.path).name for sheet in known]
    listed = names if len(set(names)) == len(names) else [sheet.path for sheet in known]
    more = f" and {len(listed) - _MOST_NAMED} more" if len(listed) > _MOST_NAMED else ""
    which = f"it has {', '.join(listed[:_MOST_NAMED])}{more}"
    what = "a row of which sheet? say --input" if said is None else f"{said!r} is no one sheet of it"
    raise UsageError(f"{journal}: {what}; {which}")


def _is(sheet: Sheet, said: str) -> bool:
    return sheet.path == str(Path(said).absolute()) or Path(sheet.path).name == said
