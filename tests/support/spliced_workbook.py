"""One workbook with four columns appended to it, checked from all sides."""

from __future__ import annotations

import zipfile
from collections import Counter
from typing import TYPE_CHECKING
from xml.parsers import expat

from batch_runner.sheet.export import append_columns
from batch_runner.sheet.model import NewColumns, RowKind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batch_runner.sheet.model import Row
    from batch_runner.sheet.xlsx.workbook import Workbook

NEW = NewColumns(("my_run_id", "my_status", "my_result", "my_error"))
GROWING = {"c", "is", "t", "cols", "col"}
"""The elements of a sheet's part that there may be more of."""


def texts_for(number: int) -> tuple[str, str, str, str]:
    """What the new cells of a row hold."""
    return (f"r-{number}", "success", f'{{"row": {number}, "text": " <ä>"}}', "" if number % 2 else "x")


def append_to_all(sheet: Workbook, out: Path) -> tuple[str, ...]:
    """Write the workbook with new cells in every data row; returns the notes."""
    cells = ((row.number, texts_for(row.number)) for row in sheet.rows() if row.kind is RowKind.DATA)
    with out.open("wb") as target:
        return append_columns(sheet, target, NEW, cells)


def changed_parts(before: Path, after: Path) -> set[str]:
    """The names of the entries that aren't the same byte for byte, packed; all must be there, in the same order."""
    with zipfile.ZipFile(before) as old, zipfile.ZipFile(after) as new:
        assert [entry.filename for entry in old.infolist()] == [entry.filename for entry in new.infolist()]
        first = dict(_packed(before, old))
        return {name for name, packed in _packed(after, new) if packed != first[name]}


def _packed(path: Path, package: zipfile.ZipFile) -> Iterator[tuple[str, tuple[object, ...]]]:
    with path.open("rb") as file:
        for entry in package.infolist():
            file.seek(entry.header_offset)
            header = file.read(30)
            rest = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
            facts = (
                entry.date_time,
                entry.compress_type,
                entry.flag_bits,
                entry.external_attr,
                entry.comment,
                entry.extra,
            )
            yield entry.filename, (header, file.read(rest + entry.compress_size), *facts)


def elements(path: Path, part: str) -> Counter[str]:
    """How often each element occurs in a part; also whether it is well-formed."""
    counts: Counter[str] = Counter()
    parser = expat.ParserCreate()

    def start(name: str, _attributes: dict[str, str]) -> None:
        counts[name.rpartition(":")[2]] += 1

    parser.StartElementHandler = start
    with zipfile.ZipFile(path) as package:
        parser.Parse(package.read(part), True)
    return counts


def misplaced(sheet: Workbook, written: Workbook) -> list[str]:
    """What our own reader finds wrong in what was written: rows that changed, new cells in other places."""
    first = new_place(written)
    problems = [] if first >= sheet.width else ["the new columns stand among the old ones"]
    for row, back in zip(sheet.rows(), written.rows(), strict=True):
        if (row.number, row.texts) != (back.number, back.texts[: len(row.texts)]):
            problems.append(f"row {row.number} changed")
        if row.kind in (RowKind.HEADER, RowKind.DATA) and back.texts[first : first + 4] != _expected(row):
            problems.append(f"row {row.number} has {back.texts[first:]}")
    return problems


def new_place(written: Workbook) -> int:
    """The place of the first new column."""
    return next(column.index for column in written.columns if column.name == NEW.headers[0])


def expected_rows(sheet: Workbook) -> dict[int, tuple[str, ...]]:
    """What the new columns hold, by row."""
    return {row.number: _expected(row) for row in sheet.rows() if row.kind in (RowKind.HEADER, RowKind.DATA)}


def _expected(row: Row) -> tuple[str, ...]:
    return NEW.headers if row.kind is RowKind.HEADER else texts_for(row.number)
