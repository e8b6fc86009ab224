"""Large results: memory stays bounded while they come, are recorded and are written, and every format holds them."""

from __future__ import annotations

import io
import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import pytest
from csvfiles import sheet_of
from program import start_program
from scripted_server import Connection, serving
from workbooks import Tab, write_workbook

from batch_runner.sheet.export import append_columns, open_sheet, open_written, write_table
from batch_runner.sheet.model import NewColumns, Reading

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_runner.sheet.model import Sheet

ALIKE = 2_300
"""Rows whose cells of 32,767 equal characters are more than 64 MiB, which deflate packs 500 to 1 and better."""


def alike(number: int) -> Iterator[tuple[int, tuple[str, ...]]]:
    return ((row, ("x" * 32_767,)) for row in range(2, number + 2))


def write_own(sheet: Sheet, target: io.BytesIO) -> None:
    append_columns(sheet, target, NewColumns(("result",)), alike(ALIKE))


def write_other(sheet: Sheet, target: io.BytesIO) -> None:
    write_table(target, ".xlsx", sheet, NewColumns(("result",)), alike(ALIKE))


@pytest.mark.long
@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_equal_long_results_make_no_zip_bomb(tmp_path: Path, kind: str) -> None:
    """A workbook whose rows all hold the same long text opens again; it isn't packed 100 to 1 in any part."""
    if kind == "csv":
        sheet = sheet_of(tmp_path, "Row\n" + "".join(f"{row}\n" for row in range(ALIKE)))
    else:
        texts = ["Row", *(f"a{row}" for row in range(ALIKE))]
        cells = (f'<c r="A{row}" t="inlineStr"><is><t>{text}</t></is></c>' for row, text in enumerate(texts, 1))
        rows = "".join(f'<row r="{row}">{cell}</row>' for row, cell in enumerate(cells, 1))
        path = write_workbook(tmp_path / "a.xlsx", {"S": Tab(rows=rows)})
        sheet = open_sheet(path, Reading(), tmp_path)
    target = io.BytesIO()
    with sheet:
        (write_other if kind == "csv" else write_own)(sheet, target)
        (tmp_path / "out.xlsx").write_bytes(target.getvalue())
        with open_written(tmp_path / "out.xlsx", sheet) as back:
            assert sum(row.texts[-1] == "x" * 32_767 for row in back.rows()) == ALIKE
    listed = subprocess.run(["unzip", "-v", tmp_path / "out.xlsx"], capture_output=True, text=True, check=False)
    assert "100%" not in listed.stdout


async def _night(folder: Path, rows: int, size: int, sheet: str, output: str) -> float:
    """Run so many rows whose results have so many characters, eight at once; gives the peak memory in MB.

    No two results have a text in common: equal ones are kept but once, by Parquet's dictionaries for example.
    """

    async def script(connection: Connection) -> None:
        while request := await connection.request():
            row = json.loads(request.partition(b"\r\n\r\n")[2])["input_params"]["Row"]
            begin = f'{{"run_id":"run-{row}","status":"success","result":{{"a":"'.encode()
            end = b'","b":2}}'
            length = len(begin) + size + len(end)
            await connection.send(f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode() + begin)
            await connection.send((f"{row:>10}" * (size // 10 + 1))[:size].encode())
            await connection.send(end)

    if sheet.endswith(".csv"):
        (folder / sheet).write_text("Row\n" + "".join(f"{row}\n" for row in range(rows)))
    else:
        cells = "".join(
            f'<row r="{number}"><c r="A{number}" t="inlineStr"><is><t>{text}</t></is></c></row>'
            for number, text in enumerate(["Row", *map(str, range(rows))], 1)
        )
        write_workbook(folder / sheet, {"S": Tab(rows=cells)})
    peak = 0
    async with serving(script) as server:
        options = ["--task", "t", "--service", server.url, "--concurrency", "8", "--expand", "--output", output]
        with start_program("run", sheet, *options, cwd=folder) as program:
            status = Path(f"/proc/{program.pid}/status")
            while program.poll() is None:
                found = re.search(r"VmHWM:\s+(\d+)", status.read_text())
                peak = max(peak, int(found[1]) if found else 0)
                await anyio.sleep(0.1)
            assert program.returncode == 0, program.stderr and program.stderr.read()
    return peak * 1024 / 1e6


@pytest.mark.soak
@pytest.mark.long
@pytest.mark.anyio
@pytest.mark.parametrize(
    ("rows", "size", "sheet", "output", "most"),
    [
        (8, 60_000_000, "in.csv", "out.csv", 250),
        (8, 60_000_000, "in.xlsx", "out.xlsx", 250),
        (3_000, 100_000, "in.csv", "out.csv", 150),
        (3_000, 100_000, "in.csv", "out.jsonl", 150),
        (3_000, 100_000, "in.csv", "out.xlsx", 150),
        (3_000, 100_000, "in.xlsx", "out.xlsx", 150),
        (3_000, 100_000, "in.csv", "out.parquet", 250),
    ],
)
async def test_memory_is_bounded(tmp_path: Path, rows: int, size: int, sheet: str, output: str, most: int) -> None:
    """However many large answers there are, and at once: one at a time is in memory (MB, the whole program's peak)."""
    assert await _night(tmp_path, rows, size, sheet, output) < most
    assert (tmp_path / output).exists()
