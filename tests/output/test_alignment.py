"""The check before the swap sees every way in which a row could get another row's run."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import TYPE_CHECKING

import polars
import pytest
from csvfiles import csv_sheet, csv_text
from packages import changed as put_part
from packages import parts
from workbooks import Tab, text_row, write_workbook

from batch_runner.errors import OutputFailed
from batch_runner.journal.view import Placed
from batch_runner.output.output import Expected, check_alignment, check_output
from batch_runner.sheet.export import append_columns, open_sheet, open_written
from batch_runner.sheet.model import NewColumns, Reading

if TYPE_CHECKING:
    from pathlib import Path

HEADERS = ["N", "Note"]
OURS = ["run_id", "status", "result", "error"]
ROWS = [["1", "a"], ["", ""], ["2", "b"], ["3", "c"]]
OUTCOMES = [Placed(2, "success", "r2", "", "", changed=False), Placed(5, "success", "-r5", "", "", changed=False)]
GOOD = [
    [*HEADERS, *OURS],
    ["1", "a", "r2", "success", "", ""],
    ["", "", "", "", "", ""],
    ["2", "b", "", "", "", ""],
    ["3", "c", "'-r5", "success", "", ""],
]


def check(folder: Path, written: list[list[str]], outcomes: list[Placed] | None = None) -> None:
    """Hold a file of these rows against the sheet and its outcomes."""
    draft = folder / ".draft.csv"
    draft.write_text(csv_text(*written), "utf-8", newline="")
    with csv_sheet(folder, HEADERS, *ROWS) as sheet, open_written(draft, sheet) as back:
        placed = OUTCOMES if outcomes is None else outcomes
        cells = ((one.number, (one.run_id, one.status, one.result, one.error)) for one in placed)
        new = NewColumns(tuple(OURS))
        check_alignment(sheet, back, sheet.columns, new, Expected(draft.name, new.headers, cells))


def changed(row: int, column: int, text: str) -> list[list[str]]:
    """The good file with one cell changed."""
    rows = [list(one) for one in GOOD]
    rows[row][column] = text
    return rows


def test_what_is_right_passes(tmp_path: Path) -> None:
    """Every row once, in order, with its run; a `'` that makes an id harmless is no part of it."""
    check(tmp_path, GOOD)


@pytest.mark.parametrize(
    ("written", "where"),
    [
        (changed(1, 2, "r5"), "row 2"),
        (changed(1, 2, ""), "row 2"),
        (changed(3, 2, "r2"), "row 4"),
        (changed(1, 0, "7"), "row 2"),
        (changed(4, 1, ""), "row 5"),
        (changed(0, 0, "M"), "row 1"),
        (changed(0, 2, "run"), "the header row"),
        (GOOD[:4], "row 5"),
        (changed(1, 3, "failure"), "row 2"),
        (changed(1, 4, "{}"), "row 2"),
        (changed(3, 5, "no"), "row 4"),
        (changed(0, 4, "error"), "the header row"),
        ([*GOOD, ["4", "d", "", "", "", ""]], "row 6"),
        ([GOOD[0], GOOD[3], GOOD[2], GOOD[1], GOOD[4]], "row 2"),
        ([GOOD[0], GOOD[1], *GOOD[3:]], "row 3"),
        ([GOOD[0], GOOD[1], *GOOD[1:]], "row 3"),
        ([[*OURS], *(row[2:] for row in GOOD[1:])], "row 1"),
        ([["run_id"], ["r2"], [""], [""], ["-r5"]], "row 1"),
    ],
)
def test_what_is_wrong_is_found(tmp_path: Path, written: list[list[str]], where: str) -> None:
    """A run beside another row, a row lost, added, doubled or moved, a cell or header altered: the row is named."""
    with pytest.raises(OutputFailed, match=f"{where} came out wrong, so nothing was replaced"):
        check(tmp_path, written)


def test_an_outcome_without_a_place_is_found(tmp_path: Path) -> None:
    """An outcome whose row is nowhere in the output is not lost without a word."""
    lost = Placed(9, "success", "r9", "", "", changed=False)
    with pytest.raises(OutputFailed, match="row 9 has an outcome but no place in the output"):
        check(tmp_path, GOOD, [*OUTCOMES, lost])


def test_a_row_without_a_run_needs_none(tmp_path: Path) -> None:
    """A row that was refused has an outcome, and an empty run id."""
    refused = Placed(4, "error", "", "", "", changed=False)
    check(tmp_path, changed(3, 3, "error"), [OUTCOMES[0], refused, OUTCOMES[1]])


def own_cells(number: int) -> str:
    return f'<c r="A{number}"><v>{number}</v></c><c r="B{number}" t="s"><v>{number % 2}</v></c>'


def ours(number: int) -> str:
    texts = zip("CDE", (f"r{number}", "success", f'{{"n": "{number} &amp; _x005F_x0041_"}}'), strict=True)
    return "".join(f'<c r="{at}{number}" t="inlineStr"><is><t>{text}</t></is></c>' for at, text in texts)


ROW_7, ROW_8 = (f'<row r="{number}" spans="1:6">{own_cells(number)}{ours(number)}</row>' for number in (7, 8))


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize(
    ("old", "new", "where"),
    [
        ("", "", None),
        ('r="7" spans="1:6"', 'r="7" spans="1:9"', None),
        ("<t>r7<", "<t>r8<", "row 7"),
        ("<t>r7<", "<t><", "row 7"),
        ("7 &amp; _x", "7 &amp;amp; _x", "row 7"),
        ("7 &amp; _x005F_", "7 &amp; ", "row 7"),
        ('<c r="A7"><v>7</v>', '<c r="A7"><v>8</v>', "row 7"),
        ('<c r="A7"><v>7</v></c>', "", "row 7"),
        ('<c r="B7" t="s"><v>1<', '<c r="B7" t="s"><v>0<', "row 7"),
        ('<c r="D7" t="inlineStr"><is><t>success</t></is></c>', "", "row 7"),
        (ours(7), ours(7).replace('"E7', '"F7').replace('"D7', '"E7').replace('"C7', '"D7'), "row 7"),
        (ours(7), ours(8), "row 7"),
        (ROW_7, "", "row 7"),
        (ROW_7 + ROW_8, ROW_7.replace(ours(7), ours(8)) + ROW_8.replace(ours(8), ours(7)), "row 7"),
        (ROW_7 + ROW_8, (ROW_8 + ROW_7).replace('row r="7"', 'row r="9"'), "row 7|rows? 8|damaged|after row"),
        (ROW_8, ROW_8 + ROW_8, "has row 8 after row 8"),
        ('<row r="7"', '<row r="6"', "has row 6 after row 6"),
        ("<t>run_id<", "<t>run<", "the header row"),
        ("</sheetData>", '<row r="60"><c r="A60"><v>1</v></c></row></sheetData>', "row 60|row 4"),
    ],
)
def test_a_workbook_is_held_against_all_its_cells(
    tmp_path: Path, old: str, new: str, where: str | None, odd: bool
) -> None:
    """What the quick comparison of bytes can't judge is read: an own cell, a result, a row that is wrong is named."""
    rows = "".join(f'<row r="{number}" spans="1:2">{own_cells(number)}</row>' for number in range(2, 40))
    strings = "<si><t>a</t></si><si><t>b</t></si>"
    part = Tab(rows=text_row(1, *HEADERS) + rows)
    path = write_workbook(tmp_path / "a.xlsx", {"S": part}, strings=strings)
    draft = tmp_path / ".draft.xlsx"
    cells = [(n, (f"r{n}", "success", f'{{"n": "{n} & _x0041_"}}', "")) for n in range(2, 40)]
    columns = NewColumns(tuple(OURS))
    with open_sheet(path, Reading(), tmp_path) as sheet:
        with draft.open("wb") as file:
            append_columns(sheet, file, columns, cells)
        written = parts(draft)["xl/worksheets/sheet1.xml"].decode()
        assert old in written
        written = written.replace(old, new, 1) if old else written
        put_part(draft, "xl/worksheets/sheet1.xml", written.replace("<sheetData>", "<sheetData>" + " " * odd).encode())
        with pytest.raises(OutputFailed, match=where or "$") if where else nullcontext():
            check_output(draft, "out.xlsx", sheet, sheet.columns, columns, lambda: iter(cells))


LISTED = [GOOD[0], GOOD[1], GOOD[3], [*GOOD[4][:2], "-r5", *GOOD[4][3:]]]
"""What a file for programs has: the rows of the list, and no `'`."""


def other(row: int, column: int, text: str) -> list[list[str]]:
    rows = [list(one) for one in LISTED]
    rows[row][column] = text
    return rows


def check_file(folder: Path, ending: str, written: list[list[str]]) -> None:
    """The same for a file for programs."""
    draft = folder / f".draft{ending}"
    if ending == ".jsonl":
        draft.write_text("".join(f"{json.dumps(dict(zip(written[0], row, strict=True)))}\n" for row in written[1:]))
    else:
        polars.DataFrame(written[1:], schema=written[0], orient="row").write_parquet(draft)
    with csv_sheet(folder, HEADERS, *ROWS) as sheet:
        new = NewColumns(tuple(OURS))
        cells = [(one.number, (one.run_id, one.status, one.result, one.error)) for one in OUTCOMES]
        check_output(draft, "out", sheet, sheet.columns, new, lambda: iter(cells))


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("written", "where"),
    [
        (LISTED, None),
        (other(1, 2, "r5"), "row 2"),
        (other(1, 2, ""), "row 2"),
        (other(1, 3, "failure"), "row 2"),
        (other(1, 4, "{}"), "row 2"),
        (other(2, 5, "no"), "row 4"),
        (other(1, 0, "7"), "row 2"),
        (LISTED[:3], "row 5"),
        ([LISTED[0], LISTED[3], LISTED[2], LISTED[1]], "row 2"),
        ([*LISTED, LISTED[3]], "the header row"),
    ],
)
def test_a_file_for_programs_is_held_against_all_its_cells(
    tmp_path: Path, ending: str, written: list[list[str]], where: str | None
) -> None:
    """A swapped result, a wrong status, a row lost, moved or doubled is found in JSON lines and Parquet as well."""
    if where is None:
        check_file(tmp_path, ending, written)
        return
    with pytest.raises(OutputFailed, match=f"{where} came out wrong, so nothing was replaced"):
        check_file(tmp_path, ending, written)
