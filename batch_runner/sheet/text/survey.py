"""One look at every record of a CSV file, as cheap as it can be: what is there, and what refuses the sheet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from batch_runner.sheet.text.dialect import Dialect


class Survey(msgspec.Struct, frozen=True):
    """What stands in the header row and below it.

    `last_row` is the number of the last row with text. `reach` is the greatest number of fields of a header or data
    record, empty ones included. `stray` is the first cell with text under no header, as (row number, index); nothing
    was looked at beyond it.
    """

    row_count: int
    last_row: int
    reach: int
    stray: tuple[int, int] | None = None


def survey(records: Iterable[tuple[str, int]], dialect: Dialect, header_row: int, headers: Sequence[str]) -> Survey:
    """Count the data rows under a header row; `records` are (text, number of fields) from the first on.

    A record is parsed only where its text leaves open whether it is blank, or has text under no header.
    """
    holes = [index for index, header in enumerate(headers) if not header]
    covered = holes[0] if holes else len(headers)
    row_count, last_row, reach = 0, header_row, 0
    for number, (text, size) in enumerate(records, 1):
        if number <= header_row:
            reach = size
            continue
        if size > covered or not text[0].isalnum():
            if not has_text(text, dialect):
                continue
            if size > covered and _may_reach_beyond(text, dialect, covered):
                stray = _stray(dialect.one(text), holes, len(headers))
                if stray is not None:
                    return Survey(row_count, last_row, reach, (number, stray))
        row_count += 1
        last_row = number
        reach = max(reach, size)
    return Survey(row_count, last_row, reach)


def is_blank(fields: Sequence[str]) -> bool:
    """Whether a record is an empty row: nothing in it that a person could see."""
    return not "".join(fields).strip()


def has_text(text: str, dialect: Dialect) -> bool:
    """Whether a record, as it stands in the file, is more than an empty row; parses it only where it must."""
    return (
        text[0].isalnum()
        or text[1:2].isalnum()
        or bool(text.replace(dialect.delimiter, "").replace('"', "").strip())
        or not is_blank(dialect.one(text))
    )


def _may_reach_beyond(text: str, dialect: Dialect, covered: int) -> bool:
    """False only for a record whose fields with text are all among the first `covered` for certain."""
    return text.rstrip(f"{dialect.delimiter}\r\n").count(dialect.delimiter) >= covered


def _stray(fields: Sequence[str], holes: Sequence[int], width: int) -> int | None:
    """The place of the first field with text under an empty header, or beyond the last."""
    places = (*holes, *range(width, len(fields)))
    return next((place for place in places if place < len(fields) and fields[place].strip()), None)
