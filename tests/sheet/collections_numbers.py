"""Every number of public workbooks, as it is sent, against the value that openpyxl reads from the same cell.

    BATCH_RUNNER_COLLECTIONS=FOLDER python tests/sheet/collections_numbers.py

FOLDER holds workbooks, at any depth. A number that is sent must be the cell's value, to the decimals that its format
shows; how many those are is read from the code by a few lines of this file. What is sent and reads like no number is
counted, with its codes, for a person to look at. Ends with 1 where any number differs.
"""

from __future__ import annotations

import os
import re
import sys
import warnings
from collections import Counter
from datetime import date, datetime, time, timedelta
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch_runner.errors import SheetError
from batch_runner.sheet.xlsx.cells import Cells
from batch_runner.sheet.xlsx.metadata import read_catalog, read_formats, read_rich_values
from batch_runner.sheet.xlsx.package import Package
from batch_runner.sheet.xlsx.row_reader import RowReader
from batch_runner.sheet.xlsx.values import column_places, read_strings

if TYPE_CHECKING:
    from collections.abc import Iterator

Sheet = tuple[str, dict[tuple[int, int], str], set[tuple[int, int]]]
"""Its name, its texts by row and column from 1, and which of its cells are refused."""
LARGEST = 2 << 20
SAID = {True: "sent as they are", False: "DIFFERENT", None: "sent as no number"}
NUMBER = re.compile(r"[-+]?[0-9]+(?:\.[0-9]+)?(?:[eE][-+][0-9]+)?")
FRACTION = re.compile(r"(-?)(?:([0-9]+) )?([0-9]+)/([0-9]+)")


def value_of(text: str) -> Fraction | None:
    """The number that a text stands for, a percent sign left aside; None where it stands for none."""
    if match := FRACTION.fullmatch(text):
        size = Fraction(match[2] or 0) + Fraction(int(match[3]), int(match[4]) or 1)
        return -size if match[1] else size
    return Fraction(text) if NUMBER.fullmatch(text) else None


@cache
def stripped(code: str) -> str:
    """A code without its literals, colours and the like."""
    return re.sub(r'"[^"]*"|\\.|_.|\*.|\[[^\]]*\]', "", code)


@cache
def decimals_of(code: str, *, is_below: bool) -> int | None:
    """How many decimals a code shows of a number; None where it shows all that there are, or it can't be told."""
    sections = stripped(code).split(";")
    own = sections[1] if len(sections) > 1 and is_below else sections[0]
    places = [section.partition(".")[2] for section in (own, *sections)]
    if "[" in code.replace("[$", "").replace("[Red", "").replace("[RED", "") or not re.search(r"[0#?]", own):
        return min((len(re.findall("[0#?]", place)) for place in places), default=0)
    if re.search(r"General|[eE@/]|,(?![0#?])", own):
        return None
    return len(re.findall("[0#?]", places[0]))


def is_same(value: float, code: str, text: str) -> bool | None:
    """Whether a text is a cell's value to the decimals shown; None where it is no number."""
    if text == str(value):
        return True
    bare = text.rstrip("%")
    read = value_of(bare)
    if read is None:
        return None
    if text.endswith("%") and "%" in stripped(code):
        read /= 100
    exact = Fraction(value)
    places = decimals_of(code, is_below=value < 0)
    slack = abs(exact) * Fraction(1, 10**14)
    if "E" in bare or "/" in bare:
        return abs(read - exact) <= max(abs(exact) / 10, Fraction(1, 10))
    if places is not None:
        slack += Fraction(1, 2 * 10 ** (places + (2 if text.endswith("%") else 0)))
    return abs(read - exact) <= slack and (read < 0) <= (value < 0)


def is_then(value: Any, text: str) -> bool:
    """Whether a text is a date, a time or both of what openpyxl reads."""
    if isinstance(value, datetime):
        near = [value + timedelta(microseconds=shift) for shift in (0, 500_000)]
        known = {part for one in near for part in (str(one.date()), one.time().isoformat()[:8], one.isoformat()[:19])}
        return value < datetime(1900, 3, 1) or text.partition(".")[0] in known
    return isinstance(value, date | time | timedelta)


def sent(package: Package) -> Iterator[Sheet]:
    """Each sheet as it is sent."""
    catalog = read_catalog(package)
    formats = read_formats(package, is_1904=catalog.is_1904)
    cells = Cells(read_strings(package), formats, read_rich_values(package), calculation=catalog.calculation)
    for sheet in catalog.sheets:
        texts: dict[tuple[int, int], str] = {}
        refused: set[tuple[int, int]] = set()
        for row in RowReader(package, sheet.part):
            line, problems = cells.texts(row, max(column_places(row.letters, {}), default=-1) + 1)
            texts.update({(row.number, place): text for place, text in enumerate(line, 1) if text})
            refused.update((row.number, problem.index + 1) for problem in problems if problem.refuses)
        yield sheet.name, texts, refused


def opened(path: Path) -> tuple[Any, list[Sheet]] | str:
    """What openpyxl and what we make of a workbook; or why there is nothing to compare."""
    from openpyxl import load_workbook

    try:
        book = load_workbook(path, data_only=True)
    except Exception:  # noqa: BLE001  whatever it stumbles over
        return "workbooks that openpyxl can't open"
    try:
        with path.open("rb") as file:
            return book, list(sent(Package(file, path.name)))
    except SheetError:
        return "workbooks refused with a sentence"


def compare(path: Path, counts: Counter[str], others: Counter[str]) -> Iterator[str]:
    """A line for each number of a workbook that is sent as another."""
    found = opened(path)
    if isinstance(found, str):
        counts[found] += 1
        return
    book, sheets = found
    counts["workbooks compared"] += 1
    for name, texts, refused in sheets:
        for place, cell in getattr(book[name], "_cells", {}).items() if name in book.sheetnames else ():
            if isinstance(cell.value, bool | str) or cell.value is None:
                continue
            if place in refused:
                counts["cells refused"] += 1
                continue
            text, code = texts.get(place, ""), cell.number_format
            is_number = isinstance(cell.value, int | float)
            same = is_same(cell.value, code, text) if is_number else is_then(cell.value, text)
            line = f"{code!r}: {cell.value!r} as {text!r}"
            kind = "numbers" if is_number else "dates and times"
            counts[f"{kind} {SAID[same]}"] += 1
            if same is None:
                others[line] += 1
            elif not same:
                yield f"{path}: {name}!{cell.coordinate}, {line}"


def main() -> int:
    """Compare all workbooks of the folder that the environment names, and say what came of it."""
    warnings.simplefilter("ignore")
    folder = Path(os.environ["BATCH_RUNNER_COLLECTIONS"])
    counts: Counter[str] = Counter()
    others: Counter[str] = Counter()
    different = 0
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in {".xlsx", ".xlsm"} and path.stat().st_size < LARGEST:
            for line in compare(path, counts, others):
                different += 1
                print(line)
    print("\nnumbers sent as no number, by code:")
    for line, count in others.most_common():
        print(f"{count:8} {line}")
    print()
    for what, count in counts.most_common():
        print(f"{count:8} {what}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
