"""The check before the swap sees every way in which a row could get another row's run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import polars
import pytest
from csvfiles import csv_sheet, csv_text

from batch_runner.errors import OutputFailed
from batch_runner.journal.view import Placed
from batch_runner.output.output import Expected, check_alignment, check_output
from batch_runner.sheet.export import open_written
from batch_runner.sheet.model import NewColumns

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
