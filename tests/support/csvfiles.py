"""Text files for tests: written from rows or bytes, opened as sheets, written back with new columns."""

from __future__ import annotations

import csv
import io
import os
from typing import TYPE_CHECKING

from batch_runner.sheet.csv.reader import open_csv
from batch_runner.sheet.export import append_columns
from batch_runner.sheet.model import NewColumns, Reading, RowKind

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from batch_runner.sheet.model import Sheet

OURS = ("run_id", "status", "result", "error")


def sheet_of(folder: Path, content: bytes | str, name: str = "list.csv", reading: Reading | None = None) -> Sheet:
    """A file of this content, opened."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    os.utime(path, (0, 0))  # a young file without a last line end is waited for
    return open_csv(path, reading or Reading(), folder)


def csv_text(*rows: Sequence[str]) -> str:
    """Rows as the text of a CSV file."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


def csv_sheet(folder: Path, *rows: Sequence[str], name: str = "invoices.csv") -> Sheet:
    """A file of these rows, the first of them the headers, opened; to be closed by the test."""
    return sheet_of(folder, csv_text(*rows), name, Reading(header_row=1))


def texts_of(sheet: Sheet) -> list[tuple[str, ...]]:
    """The texts of the data rows."""
    return [row.texts for row in sheet.rows() if row.kind is RowKind.DATA]


def kinds_of(sheet: Sheet) -> list[tuple[int, RowKind]]:
    """Number and kind of every row."""
    return [(row.number, row.kind) for row in sheet.rows()]


def headers_of(sheet: Sheet) -> list[str]:
    return [column.name for column in sheet.columns]


def appended(
    sheet: Sheet, cells: Mapping[int, tuple[str, ...]], headers: tuple[str, ...] = OURS, replaced: int = 0
) -> tuple[bytes, tuple[str, ...]]:
    """What `append` writes, and its notes."""
    target = io.BytesIO()
    notes = append_columns(sheet, target, NewColumns(headers, replaced), iter(sorted(cells.items())))
    return target.getvalue(), notes


def records_of(text: str, delimiter: str = ",") -> list[list[str]]:
    """What the stdlib's reader makes of a text."""
    return list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
