"""The header row of a text file."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from batch_runner.errors import SheetError
from batch_runner.sheet.header import LOOK, FirstRow, find_header, is_number
from batch_runner.sheet.text.survey import is_blank

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batch_runner.sheet.text.textfile import TextFile


def header_of(source: TextFile, name: str, asked: int | None) -> tuple[int, list[str]]:
    """The header row's number, and its cells up to the last one with text; "" for one without.

    `name` is what messages call the file, `asked` the row that a person named. Raises `SheetError`, `OpenQuote`.
    """
    number, fields = _found(source, name) if asked is None else _asked(source, name, asked)
    headers = [text if text.strip() else "" for text in fields]
    while not headers[-1]:
        headers.pop()
    return number, headers


def _asked(source: TextFile, name: str, asked: int) -> tuple[int, list[str]]:
    record = next(islice(source.records(), asked - 1, asked), None) if asked > 0 else None
    fields = source.dialect.one(record[0]) if record else []
    if is_blank(fields):
        raise SheetError(f"{name}: there is nothing in row {asked}; name another with --header-row")
    return asked, fields


def _found(source: TextFile, name: str) -> tuple[int, list[str]]:
    filled = {}
    for number, (text, _size) in enumerate(source.records(), 1):
        fields = source.dialect.one(text)
        if not is_blank(fields):
            filled[number] = fields
        if len(filled) == LOOK:
            break
    rows = [_first_row(number, fields) for number, fields in filled.items()]
    place = find_header(rows)
    if place is None:
        raise SheetError(f"{name}: the file is empty; name a file with a header row")
    return place, filled[place]


def _first_row(number: int, fields: Sequence[str]) -> FirstRow:
    texts = tuple(text if text.strip() else "" for text in fields)
    return FirstRow(number, texts, frozenset(place for place, text in enumerate(texts) if is_number(text)))
