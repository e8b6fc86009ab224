"""A sheet in another format than its own: its grid as text, with new columns right of the table."""

from __future__ import annotations

import csv
from io import TextIOWrapper
from typing import TYPE_CHECKING

import msgspec

from batch_runner.sheet.errors import SheetError
from batch_runner.sheet.grid import Grid
from batch_runner.sheet.text.dialect import DELIMITERS
from batch_runner.sheet.text.quoting import harmless, storable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import BinaryIO

    from batch_runner.sheet.row import NewColumns
    from batch_runner.sheet.sheet import Sheet

TABLE_ENDINGS = (*DELIMITERS, ".xlsx", ".jsonl", ".parquet")


def write_table(
    target: BinaryIO, ending: str, sheet: Sheet, new: NewColumns, cells: Iterable[tuple[int, tuple[str, ...]]]
) -> tuple[str, ...]:
    """Write a sheet with new columns to `target`, which is seekable; `new` and `cells` are as for `Sheet.append`.

    `.csv` and `.tsv` (UTF-8 with a byte order mark, without which Excel takes it for its locale's encoding; CR LF) and
    `.xlsx` (every cell a text, none a formula) have each row of the sheet in its place. `.jsonl` (an object a line) and
    `.parquet` are for programs: they have the data rows only, hidden ones included, by header. Returns notes for a
    person. Raises `SheetError` for another ending, and for a sheet that the format can't hold.
    """
    grid = Grid(sheet, new, cells)
    if ending in DELIMITERS:
        _write_text(target, DELIMITERS[ending], grid)
    elif ending == ".xlsx":
        from batch_runner.sheet.newworkbook import write_workbook

        write_workbook(target, grid)
    elif ending == ".jsonl":
        _write_lines(target, grid)
    elif ending == ".parquet":
        from batch_runner.sheet.parquet import write_parquet

        write_parquet(target, grid)
    else:
        raise SheetError(
            f"{sheet.path.name} can't be written as {ending or 'a file without ending'}; "
            f"use one of {' '.join(TABLE_ENDINGS)}"
        )
    return ()


def refuse_unwritable(sheet: Sheet, ending: str, new: NewColumns) -> None:
    """Find out before any run is started whether a sheet with new columns can be written as `ending`.

    Raises `SheetError`: no room for the columns in their own format, or a sheet that another format can't hold.
    """
    if ending == sheet.path.suffix.lower():
        sheet.make_room(new)
    elif ending == ".xlsx":
        from batch_runner.sheet.newworkbook import refuse_too_much

        refuse_too_much(Grid(sheet, new, ()))


def _write_text(target: BinaryIO, delimiter: str, grid: Grid) -> None:
    stream = TextIOWrapper(target, "utf-8-sig", newline="")
    try:
        writer = csv.writer(stream, delimiter=delimiter, lineterminator="\r\n")
        writer.writerows((*own, *map(harmless, map(storable, new))) for _row, own, new in grid.rows())
    finally:
        stream.detach()


def _write_lines(target: BinaryIO, grid: Grid) -> None:
    encoder = msgspec.json.Encoder()
    headers = grid.headers
    for texts in grid.data():
        target.write(encoder.encode(dict(zip(headers, texts, strict=True))) + b"\n")
