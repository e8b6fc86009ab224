"""Public workbooks, where BATCH_RUNNER_COLLECTIONS names a folder of them: four columns appended, checked by others."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import warnings
import zipfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from openpyxl import load_workbook
from spliced_workbook import (
    GROWING,
    append_to_all,
    changed_parts,
    elements,
    expected_rows,
    misplaced,
    new_place,
)

from batch_runner.errors import SheetError
from batch_runner.sheet.export import open_written
from batch_runner.sheet.model import Reading
from batch_runner.sheet.xlsx.workbook import Workbook, open_workbook

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.collections,
    pytest.mark.skipif("BATCH_RUNNER_COLLECTIONS" not in os.environ, reason="BATCH_RUNNER_COLLECTIONS isn't set"),
]
SAMPLE = 40
CSV = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,true,false,false,false,-1"
"""LibreOffice's filter for CSV: commas, quotes, UTF-8, every sheet to a file of its own."""


def workbooks() -> list[Path]:
    folder = Path(os.environ["BATCH_RUNNER_COLLECTIONS"])
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".xlsx", ".xlsm") and path.is_file())


def opened(folder: Path) -> Iterator[tuple[Path, Workbook]]:
    """Every workbook that isn't refused."""
    for path in workbooks():
        try:
            sheet = open_workbook(path, Reading(hidden="include"), folder)
        except SheetError:
            continue
        with sheet:
            yield path, sheet


def test_every_workbook_comes_back_whole(tmp_path: Path) -> None:
    """Only the parts of the sheet, its table and the workbook change; in the sheet nothing but our cells and widths
    comes; our reader, and openpyxl where it reads the input at all, finds the four columns in the right rows.
    """
    seen: Counter[str] = Counter()
    out = tmp_path / "out.xlsx"
    for path, sheet in opened(tmp_path):
        notes = append_to_all(sheet, out)
        tables = {table.part for table in sheet.tables}
        assert changed_parts(path, out) <= {sheet.part, sheet.package.main, *tables}, path
        assert not zipfile.ZipFile(out).testzip(), path
        assert all(name in GROWING for name in elements(out, sheet.part) - elements(path, sheet.part)), path
        written = open_written(out, sheet)
        assert isinstance(written, Workbook)
        with written:
            assert misplaced(sheet, written) == [], path
            seen[f"openpyxl: {_openpyxl_says(path, out, sheet, new_place(written))}"] += 1
        seen["written"] += 1
        seen["rows"] += sheet.row_count
        seen["notes"] += len(notes)
    print(*(f"{count:6} {what}" for what, count in seen.most_common()), sep="\n")
    assert seen["written"] >= 300


def _openpyxl_says(path: Path, out: Path, sheet: Workbook, place: int) -> str:
    expected = expected_rows(sheet)
    with warnings.catch_warnings(action="ignore"):
        try:
            book = load_workbook(path, read_only=True)
        except (KeyError, TypeError, ValueError, OSError) as error:
            return f"can't read the input ({type(error).__name__})"
        book.close()
        if sheet.name not in book.sheetnames:
            return "doesn't see the sheet in the input"
        book = load_workbook(out, read_only=True)
        rows = book[sheet.name or ""]
        rows.reset_dimensions()
        found = enumerate(rows.iter_rows(min_col=place + 1, max_col=place + 4, values_only=True), 1)
        values = {number: tuple(str(text or "") for text in texts) for number, texts in found if number in expected}
        book.close()
    assert values == expected, path
    return "agrees"


@pytest.mark.skipif(shutil.which("soffice") is None, reason="LibreOffice isn't installed")
def test_libreoffice_opens_a_sample(tmp_path: Path) -> None:
    """LibreOffice opens the workbooks that were written, and shows the new cells in the right rows."""
    drafts = tmp_path / "drafts"
    drafts.mkdir()
    expected: dict[str, dict[int, tuple[str, ...]]] = {}
    step = max(1, len(workbooks()) // (2 * SAMPLE))
    for order, (path, sheet) in enumerate(opened(tmp_path)):
        if order % step == 0 and len(expected) < SAMPLE and sheet.row_count:
            name = f"{order:05}"
            append_to_all(sheet, drafts / f"{name}{path.suffix.lower()}")
            expected[name] = expected_rows(sheet)
    shown = _shown_by_libreoffice(sorted(drafts.iterdir()), tmp_path / "shown")
    assert {name: shown.get(name) for name in expected} == expected


def _shown_by_libreoffice(paths: list[Path], folder: Path) -> dict[str, dict[int, tuple[str, ...]]]:
    profile = f"-env:UserInstallation={(folder / 'profile').as_uri()}"
    command = ["soffice", "--headless", profile, "--convert-to", CSV, "--outdir", str(folder), *map(str, paths)]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    found: dict[str, dict[int, tuple[str, ...]]] = {}
    for path in folder.glob("*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            rows = {number: _ours(fields) for number, fields in enumerate(csv.reader(file), 1)}
        found.setdefault(path.name[:5], {}).update({number: texts for number, texts in rows.items() if texts})
    return found


def _ours(fields: list[str]) -> tuple[str, ...] | None:
    """The four cells from the header `my_run_id`, or from a run id of ours, on."""
    place = next((at for at, text in enumerate(fields) if text == "my_run_id" or text.startswith("r-")), None)
    return None if place is None else tuple(fields[place : place + 4])
