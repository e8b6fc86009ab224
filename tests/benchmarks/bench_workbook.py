"""Reading a workbook and appending four columns: beside openpyxl's load and save, and beside zlib alone.

python tests/benchmarks/bench_workbook.py [ROWS ...] [--no-openpyxl]

Each contestant runs in a process of its own, which tells its time and its peak memory; all of them work on the same
file, in turns, so that a busy machine is busy for all. The ratios are of CPU; they are what to read.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

import msgspec

from batch_runner.sheet.export import append_columns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

WIDTH = 12
NEW = ("run_id", "status", "result", "error")
TURNS = 3
MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
REL = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml"
LINKS = '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{}</Relationships>'
LINK = f'<Relationship Id="{{0}}" Type="{REL}/{{0}}" Target="{{1}}"/>'
PARTS = {
    "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    f'<Override PartName="/xl/workbook.xml" ContentType="{TYPE}.sheet.main+xml"/>'
    f'<Override PartName="/xl/worksheets/sheet1.xml" ContentType="{TYPE}.worksheet+xml"/>'
    f'<Override PartName="/xl/styles.xml" ContentType="{TYPE}.styles+xml"/>'
    f'<Override PartName="/xl/sharedStrings.xml" ContentType="{TYPE}.sharedStrings+xml"/></Types>',
    "_rels/.rels": LINKS.format(LINK.format("officeDocument", "xl/workbook.xml")),
    "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{REL}"><sheets><sheet name="Invoices" sheetId="1" '
    'r:id="worksheet"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": LINKS.format(
        LINK.format("worksheet", "worksheets/sheet1.xml")
        + LINK.format("styles", "styles.xml")
        + LINK.format("sharedStrings", "sharedStrings.xml")
    ),
    "xl/styles.xml": f'<styleSheet xmlns="{MAIN}"><fonts count="1"><font/></fonts>'
    '<fills count="1"><fill><patternFill/></fill></fills>'
    '<borders count="1"><border/></borders><cellStyleXfs count="1"><xf/></cellStyleXfs><cellXfs count="2"><xf/>'
    '<xf numFmtId="14" applyNumberFormat="1"/></cellXfs></styleSheet>',
}
WORDS = ("extract_text", "München", "open", "2026-02", "Dolor Sit & Amet GmbH", "EUR", "net 30 days")


class Cost(msgspec.Struct, frozen=True):
    """What a contestant took: seconds of CPU for reading and for all of it, seconds by the clock, peak memory in MB."""

    reading: float
    cpu: float
    seconds: float
    memory: int


def make(path: Path, rows: int) -> None:
    """An invoice list as Excel writes it: texts in shared strings, numbers, a column of dates."""
    chance = random.Random(1)
    strings = [
        *WORDS,
        *(f"Column {place}" for place in range(WIDTH)),
        *(f"invoice-{row:07}.pdf" for row in range(rows)),
    ]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        for name, text in PARTS.items():
            package.writestr(name, text)
        items = "".join(f"<si><t>{escape(text)}</t></si>" for text in strings)
        package.writestr("xl/sharedStrings.xml", f'<sst xmlns="{MAIN}" count="{rows}">{items}</sst>')
        with package.open("xl/worksheets/sheet1.xml", "w") as part:
            part.write(f'<worksheet xmlns="{MAIN}"><dimension ref="A1:L{rows + 1}"/><sheetData>'.encode())
            part.write(row_xml(1, [f' t="s"><v>{len(WORDS) + place}</v>' for place in range(WIDTH)]))
            for row in range(rows):
                part.write(row_xml(row + 2, list(cells_xml(row, chance))))
            part.write(b"</sheetData></worksheet>")


def cells_xml(row: int, chance: random.Random) -> Iterator[str]:
    """The file's name, a date, then texts and amounts in turns."""
    yield f' t="s"><v>{len(WORDS) + WIDTH + row}</v>'
    yield f' s="1"><v>{45_000 + row % 900}</v>'
    for _pair in range(WIDTH // 2 - 1):
        yield f"><v>{chance.randrange(1_000_000) / 100}</v>"
        yield f' t="s"><v>{chance.randrange(len(WORDS))}</v>'


def row_xml(number: int, cells: list[str]) -> bytes:
    """A row as Excel writes it."""
    inside = "".join(f'<c r="{letter}{number}"{cell}</c>' for letter, cell in zip("ABCDEFGHIJKL", cells, strict=True))
    return f'<row r="{number}" spans="1:12">{inside}</row>'.encode()


def new_cells(rows: int) -> Iterator[tuple[int, tuple[str, ...]]]:
    """What a batch puts beside each row."""
    for number in range(2, rows + 2):
        result = f'{{"pages": 2, "number": "R-{number}", "total": "1234.50", "currency": "EUR"}}'
        yield number, (f"7f0c2c1e-8a55-4d0e-9d5e-{number:012}", "success", result, "")


def ours(path: Path, out: Path, rows: int) -> float:
    """Open, read every row, append."""
    from batch_runner.sheet.export import open_sheet
    from batch_runner.sheet.model import NewColumns, Reading

    begin = time.process_time()
    with open_sheet(path, Reading(), path.parent) as sheet, out.open("wb") as target:
        for _row in sheet.rows():
            pass
        reading = time.process_time() - begin
        append_columns(sheet, target, NewColumns(NEW), new_cells(rows))
    return reading


def openpyxl(path: Path, out: Path, rows: int) -> float:
    """Load, write the four columns, save."""
    from openpyxl import load_workbook

    begin = time.process_time()
    book = load_workbook(path)
    reading = time.process_time() - begin
    sheet = book.worksheets[0]
    for place, header in enumerate(NEW, WIDTH + 1):
        sheet.cell(1, place, header)
    for number, texts in new_cells(rows):
        for place, text in enumerate(texts, WIDTH + 1):
            sheet.cell(number, place, text)
    book.save(out)
    return reading


def floor(path: Path, out: Path, rows: int) -> float:
    """Inflate the sheet's part and deflate it again with zlib's own level: no reader or writer is faster."""
    begin = time.process_time()
    packer = zlib.compressobj()
    with zipfile.ZipFile(path) as package, package.open("xl/worksheets/sheet1.xml") as part, out.open("wb") as target:
        while chunk := part.read(1 << 18):
            target.write(packer.compress(chunk))
        target.write(packer.flush())
    return time.process_time() - begin


CONTESTANTS: dict[str, Callable[[Path, Path, int], float]] = {"ours": ours, "openpyxl": openpyxl, "floor": floor}


def measure(name: str, path: Path, rows: int) -> Cost:
    """Run one contestant here and now."""
    begin, idle = time.perf_counter(), time.process_time()
    reading = CONTESTANTS[name](path, path.with_suffix(f".{name}.xlsx"), rows)
    seconds, cpu = time.perf_counter() - begin, time.process_time() - idle
    return Cost(reading, cpu, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10)


def measure_apart(name: str, path: Path, rows: int) -> Cost:
    """Run one contestant in a process of its own."""
    command = [sys.executable, __file__, str(rows), "--only", name, "--file", str(path)]
    return msgspec.json.decode(subprocess.run(command, check=True, capture_output=True).stdout, type=Cost)


def compare(rows: int, names: list[str], folder: Path) -> None:
    """Measure all of them in turns and print the best of each."""
    path = folder / f"{rows}.xlsx"
    make(path, rows)
    costs: dict[str, list[Cost]] = {name: [] for name in names}
    for _turn in range(TURNS):
        for name in names:
            costs[name].append(measure_apart(name, path, rows))
    best = {name: min(some, key=lambda cost: cost.cpu) for name, some in costs.items()}
    print(f"{rows:,} rows × {WIDTH} cells, {path.stat().st_size >> 10:,} KiB; the best of {TURNS}")
    for name, cost in best.items():
        ratio = cost.cpu / best["ours"].cpu
        print(
            f"  {name:<10}{cost.cpu:>7.2f} s CPU ({cost.reading:.2f} reading){cost.seconds:>7.2f} s by the clock"
            f"{cost.memory:>6} MB{ratio:>7.1f} × ours"
        )


def main() -> None:
    """Compare for each number of rows, or run one contestant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", type=int, nargs="*", default=[50_000, 100_000])
    parser.add_argument("--no-openpyxl", action="store_true", help="it takes a minute for 100,000 rows")
    parser.add_argument("--only", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.only:
        print(msgspec.json.encode(measure(asked.only, asked.file, asked.rows[0])).decode())
        return
    names = [name for name in CONTESTANTS if not (asked.no_openpyxl and name == "openpyxl")]
    with tempfile.TemporaryDirectory() as folder:
        for rows in asked.rows:
            compare(rows, names, Path(folder))


if __name__ == "__main__":
    main()
