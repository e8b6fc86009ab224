"""Public workbooks, where BATCH_RUNNER_COLLECTIONS names a folder of them: read as another reader reads them."""

from __future__ import annotations

import math
import os
import warnings
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from openpyxl.utils.escape import unescape
from test_scan import seen

from batch_runner.errors import SheetError
from batch_runner.sheet.numfmt.dates import NoDate
from batch_runner.sheet.numfmt.formatter import NumberFormat
from batch_runner.sheet.xlsx.cells import Cells
from batch_runner.sheet.xlsx.metadata import read_catalog, read_formats, read_rich_values
from batch_runner.sheet.xlsx.package import Package
from batch_runner.sheet.xlsx.row_reader import RowReader
from batch_runner.sheet.xlsx.values import column_places, read_strings

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.collections,
    pytest.mark.skipif("BATCH_RUNNER_COLLECTIONS" not in os.environ, reason="no public collections here"),
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]
"""openpyxl leaves files open that it can't read."""
FOLDER = Path(os.environ.get("BATCH_RUNNER_COLLECTIONS", "."))
LARGE = 2 << 20
FORMAT_TESTS = {
    "NumberFormatTests.xlsx": {"Basic", "EscapedText", "Commas", "Scaling", "Percentages", "SpaceFilled"},
    "GeneralFormatTests.xlsx": {"Number"},
    "DateFormatTests.xlsx": {"Date", "Time", "Date,Time", "Time, Debug"},
    "ElapsedFormatTests.xlsx": {"Elapsed", "Elapsed, Debug"},
}
"""Workbooks of Apache POI that carry the expected texts, and their categories of plain numbers, dates and times."""


def books() -> list[Path]:
    if "BATCH_RUNNER_COLLECTIONS" not in os.environ:
        return []
    found = (path for path in FOLDER.rglob("*") if path.suffix.lower() in {".xlsx", ".xlsm"})
    return sorted(path for path in found if path.stat().st_size < LARGE)


def load(path: Path) -> Any:
    """What openpyxl makes of a workbook; None where it can't open it."""
    from openpyxl import load_workbook

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return load_workbook(path, data_only=True)
        except Exception:  # noqa: BLE001  whatever it stumbles over, there is nothing to compare with
            return None


def agrees(value: object, text: str) -> bool:
    """Whether a text is what another reader's value comes to; True for what the value alone can't tell."""
    if isinstance(value, bool):
        return text == str(value).upper()
    if isinstance(value, int | float):
        return _is_near(value, text)
    if isinstance(value, str):
        return text in {value, unescape(value)} or unescape(text) == value
    return _is_then(value, text) if isinstance(value, datetime) else isinstance(value, date | time | timedelta)


def _is_then(value: datetime, text: str) -> bool:
    if value < datetime(1900, 3, 1):
        return True  # before the day that never was, readers differ
    rounded = (value + timedelta(microseconds=500_000)).replace(microsecond=0)
    near = {text.partition(".")[0], text}
    options = (value, rounded)
    return any(near & {one.isoformat()[:19], one.date().isoformat(), one.time().isoformat()[:8]} for one in options)


def _is_near(value: float, text: str) -> bool:
    number = text.rstrip("%").replace(",", "")
    try:
        return math.isclose(float(number) / (100 if text.endswith("%") else 1), value, rel_tol=0.01, abs_tol=0.51)
    except ValueError:
        return True  # masks, fractions and words: the format's tests judge these


def texts(package: Package) -> Iterator[tuple[str, dict[tuple[int, int], str], set[tuple[int, int]]]]:
    """Each sheet's name, its texts by row and column from 1, and which cells have a problem."""
    catalog = read_catalog(package)
    formats = read_formats(package, is_1904=catalog.is_1904)
    cells = Cells(read_strings(package), formats, read_rich_values(package))
    for sheet in catalog.sheets:
        found: dict[tuple[int, int], str] = {}
        wrong: set[tuple[int, int]] = set()
        rows = list(RowReader(package, sheet.part))
        assert [seen(row) for row in rows] == [seen(row) for row in RowReader(package, sheet.part, quick=False)]
        for row in rows:
            line, problems = cells.texts(row, max(column_places(row.letters, {})) + 1)
            found.update({(row.number, place): text for place, text in enumerate(line, 1) if text})
            wrong.update((row.number, problem.index + 1) for problem in problems)
        yield sheet.name, found, wrong


@pytest.mark.parametrize("path", books(), ids=lambda path: path.name)
def test_a_public_workbook_is_read_as_another_reader_reads_it(path: Path) -> None:
    """Both ways of reading agree on every sheet, and every value that openpyxl finds is found in the same cell."""
    other = load(path)
    with path.open("rb") as file:
        try:
            sheets = list(texts(Package(file, path.name)))
        except SheetError:
            pytest.skip("refused with a sentence")
    if other is None:
        return
    different: list[str] = []
    for name, found, wrong in sheets:
        values = getattr(other[name], "_cells", {}) if name in other.sheetnames else {}
        for place, cell in values.items():
            text = found.get(place, "")
            if cell.value not in {None, ""} and place not in wrong and not agrees(cell.value, text):
                different.append(f"{name}!{cell.coordinate}: {cell.value!r} as {text!r}")
    assert not different


@pytest.mark.parametrize("name", FORMAT_TESTS)
def test_formats_show_what_excel_shows(name: str) -> None:
    """Nine of ten expected texts of plain numbers, dates and elapsed times are those of `--as-shown`."""
    path = next(FOLDER.rglob(name))
    rows = load(path)["Tests"].iter_rows(min_row=2, max_col=4, values_only=True)
    results: list[bool] = []
    for expected, code, value, category in rows:
        if category in FORMAT_TESTS[name] and expected is not None and not isinstance(value, bool):
            results.append(_shown(code, value) == str(expected).strip())
    assert sum(results) >= 0.9 * len(results) > 20


def _shown(code: str, value: Any) -> str:
    from openpyxl.utils.datetime import to_excel

    try:
        if isinstance(value, str):
            return NumberFormat(code).shown_text(value)
        number = value if isinstance(value, int | float) else to_excel(value)  # type: ignore[no-untyped-call]
        return NumberFormat(code).shown(float(number))
    except NoDate:
        return "####"
