"""CSV beside the stdlib's reader and writer and polars: seconds, ratio, and peak memory of a process for each.

python tests/benchmarks/bench_delimited.py [--rows N] [--folder DIR]
"""

from __future__ import annotations

import argparse
import csv
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

from batch_runner.sheet.csv.reader import open_csv
from batch_runner.sheet.export import append_columns, write_table
from batch_runner.sheet.model import NewColumns, Reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

OURS = ("run_id", "status", "result", "error")
CELLS = ("6f1c2a9e0b7d4c55", "success", '{"pages": 2, "total": "1234.50"}', "")


def make(path: Path, rows: int, quote: str) -> None:
    """A sheet of 12 columns as a bookkeeper would have it; `quote` stands around every field."""
    with path.open("w", encoding="utf-8", newline="") as file:
        fields: tuple[object, ...] = tuple(f"Column {index}" for index in range(12))
        for number in range(rows + 1):
            file.write(",".join(f"{quote}{field}{quote}" for field in fields) + "\r\n")
            day = f"2026-02-{number % 28 + 1:02d}"
            names = ("Müller & Söhne GmbH", "Berlin", number % 7, "paid", f"note {number % 1000}")
            fields = (
                f"{number:07d}",
                f"invoice-{number}.pdf",
                "extract_text",
                f"{number}.50",
                "EUR",
                "DE",
                day,
                *names,
            )


def results(rows: int) -> Iterator[tuple[int, tuple[str, ...]]]:
    return ((number + 2, CELLS) for number in range(rows))


def nothing(path: Path) -> None:
    """What a process costs before it does anything."""


def ours_open(path: Path) -> None:
    open_csv(path, Reading(), path.parent).close()


def ours_rows(path: Path) -> None:
    with open_csv(path, Reading(), path.parent) as sheet:
        deque(sheet.rows(), 0)


def ours_append(path: Path) -> None:
    with open_csv(path, Reading(), path.parent) as sheet, path.with_suffix(".out").open("wb") as target:
        append_columns(sheet, target, NewColumns(OURS), results(sheet.row_count))


def ours_refresh(path: Path) -> None:
    """The four last columns, as if they were an earlier output's."""
    with open_csv(path, Reading(), path.parent) as sheet, path.with_suffix(".out").open("wb") as target:
        append_columns(sheet, target, NewColumns(OURS, 4), results(sheet.row_count))


def ours_parquet(path: Path) -> None:
    with open_csv(path, Reading(), path.parent) as sheet, path.with_suffix(".out").open("wb") as target:
        write_table(target, ".parquet", sheet, NewColumns(OURS), results(sheet.row_count))


def stdlib_read(path: Path) -> None:
    with path.open(encoding="utf-8", newline="") as file:
        deque(csv.reader(file), 0)


def stdlib_write(path: Path) -> None:
    out = path.with_suffix(".out")
    with path.open(encoding="utf-8", newline="") as file, out.open("w", encoding="utf-8", newline="") as target:
        csv.writer(target).writerows([*record, *CELLS] for record in csv.reader(file))


def polars_read(path: Path) -> None:
    import polars

    polars.read_csv(path, infer_schema=False)


def polars_write(path: Path) -> None:
    import polars

    frame = polars.read_csv(path, infer_schema=False)
    new = [polars.lit(text).alias(name) for name, text in zip(OURS, CELLS, strict=True)]
    frame.with_columns(new).write_csv(path.with_suffix(".out"))


MEASURES: dict[str, Callable[[Path], None]] = {
    "a process that does nothing": nothing,
    "open (copy, SHA-256, survey)": ours_open,
    "open and read all rows": ours_rows,
    "  csv.reader": stdlib_read,
    "  polars.read_csv, all text": polars_read,
    "open and append 4 columns": ours_append,
    "open and refresh 4 columns": ours_refresh,
    "open and write Parquet": ours_parquet,
    "  csv.reader and csv.writer": stdlib_write,
    "  polars, read and write": polars_write,
}


def measure(what: str, path: Path) -> tuple[float, int]:
    """Seconds and peak memory in MB of a process that does one thing with a file."""
    child = [sys.executable, __file__, "--child", what, "--folder", str(path)]
    seconds, memory = subprocess.run(child, check=True, capture_output=True, text=True).stdout.split()
    return float(seconds), int(memory) // 1024


def run_child(what: str, path: Path) -> None:
    began = time.perf_counter()
    MEASURES[what](path)
    print(time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def compare(rows: int, folder: Path) -> None:
    for kind, quote in (("no quotes", ""), ("every field quoted", '"')):
        path = folder / "list.csv"
        make(path, rows, quote)
        base, _memory = measure("  csv.reader", path)
        print(f"\n{rows:,} rows of 12, {kind}, {path.stat().st_size / 1e6:.0f} MB; ratios to csv.reader")
        for what in MEASURES:
            seconds, memory = measure(what, path)
            print(f"{what:<32}{seconds:7.2f} s {seconds / base:6.2f} x {memory:6} MB")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--folder", type=Path)
    arguments.add_argument("--child", help=argparse.SUPPRESS)
    asked = arguments.parse_args()
    if asked.child:
        run_child(asked.child, asked.folder)
        return
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        compare(asked.rows, Path(folder))


if __name__ == "__main__":
    main()
