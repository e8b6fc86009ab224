"""Compares what was written with its original, byte by byte."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from batch_runner.errors import Unlike
from batch_runner.sheet.xlsx.row_reader import END, HEAD_LIMIT, ROW_END, START
from batch_runner.sheet.xlsx.shared_strings import plain_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_runner.sheet.xlsx.package import Package


_ROW = re.compile(rb'\s*+<row r="([0-9]{1,7})"(?: (?!spans=)[A-Za-z0-9:]++="[^"<>&]*+"| spans="[0-9: ]*+")*+>')
_FIRST = re.compile(
    rb'<c r="([A-Z]{1,3})[0-9]{1,7}"(?: s="[0-9]+")?'
    rb'(?: t="inlineStr"><is><t(?: xml:space="preserve")?>([^<]*+)</t></is></c>|/>)'
)


def first_new_cells(before: Package, after: Package, part: str, column: str) -> Iterator[tuple[int, str]]:
    """Each row's number, and its text in the first new column, where `after` is `before` with columns appended.

    Raises `Unlike` where a row isn't the same row to the letter with cells of ours behind it: that may well be right,
    but only a reader can tell.
    """
    letters = column.encode()
    for old, new in zip(_rows(before, part), _rows(after, part), strict=False):
        own, all_ = _ROW.match(old), _ROW.match(new)
        if own is None or all_ is None or own[1] != all_[1]:
            if old.startswith(END) and new.startswith(END):
                return
            raise Unlike
        end = all_.end() + len(old) - own.end()
        if new[all_.end() : end] != old[own.end() :]:
            raise Unlike
        first = _FIRST.match(new, end)
        if first is None and end < len(new):
            raise Unlike
        is_ours = first is not None and first[1] == letters and first[2] is not None
        yield int(own[1]), plain_text(first[2]) if first is not None and is_ours else ""
    raise Unlike


def _rows(package: Package, part: str) -> Iterator[bytes]:
    """The rows of a part, each up to its end tag, and what follows the last one."""
    chunks = package.open_part(part)
    rest = b""
    while START not in rest and len(rest) < HEAD_LIMIT:
        chunk = next(chunks, b"")
        rest += chunk
        if not chunk:
            break
    rest = rest.partition(START)[2]
    while True:
        *rows, rest = rest.split(ROW_END)
        yield from rows
        chunk = next(chunks, b"")
        if not chunk:
            yield rest
            return
        rest += chunk
