"""Real sheets for tests: a CSV file written and opened as the program opens it."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from batch_runner.sheet import open_sheet
from batch_runner.sheet.row import Reading

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from batch_runner.sheet.sheet import Sheet


def csv_text(*rows: Sequence[str]) -> str:
    """Rows as the text of a CSV file."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


def csv_sheet(folder: Path, *rows: Sequence[str], name: str = "invoices.csv") -> Sheet:
    """A CSV file of these rows, the first of them the headers, opened; to be closed by the test."""
    path = folder / name
    path.write_text(csv_text(*rows), "utf-8", newline="")
    return open_sheet(path, Reading(header_row=1), folder)
