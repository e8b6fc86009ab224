"""Columns appended to whole workbooks, made by hand: what grows, what stays, and what a person is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from packages import SHEET, TABLE, WORKBOOK, HandMade, parts, row, table

from batch_runner.errors import SheetError
from batch_runner.sheet.export import append_columns, open_sheet
from batch_runner.sheet.model import NewColumns, Reading
from batch_runner.sheet.xlsx.workbook import open_workbook
from batch_runner.sheet.xlsx_append.append import place_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

ROWS = row(1, "File", "Pages", style="2") + row(2, "a.pdf", "1") + row(3, "b.pdf", "2")
NEW = NewColumns(("run_id", "status"))
CELLS = ((2, ("r-1", "success")), (3, ("r-2", "failure")))
FILTER = '<autoFilter ref="A1:B3"><filterColumn colId="0"/></autoFilter>'


def appended(
    made: HandMade,
    folder: Path,
    new: NewColumns = NEW,
    cells: Sequence[tuple[int, tuple[str, ...]]] = CELLS,
    header_row: int | None = None,
) -> tuple[dict[str, bytes], tuple[str, ...]]:
    """The parts of the workbook with new columns, and the notes; all parts that mustn't change are compared."""
    path, out = made.write(folder / "in.xlsx"), folder / "out.xlsx"
    with open_sheet(path, Reading(header_row=header_row), folder) as sheet, out.open("wb") as target:
        notes = append_columns(sheet, target, new, cells)
    before, after = parts(path), parts(out)
    touchable = {SHEET, TABLE, WORKBOOK}
    assert list(before) == list(after)
    assert all(before[name] == after[name] for name in before if name not in touchable)
    return after, notes


def test_only_the_sheet_changes(tmp_path: Path) -> None:
    """Without table and autofilter, the sheet's part is the only one that changes, and nobody is told anything."""
    made = HandMade(rows=ROWS)
    after, notes = appended(made, tmp_path)
    before = parts(tmp_path / "in.xlsx")
    assert {name for name in after if after[name] != before[name]} == {SHEET}
    assert notes == ()


def test_the_dimension_grows(tmp_path: Path) -> None:
    """`dimension` takes in the new columns; what it said beyond the rows it still says."""
    after, _ = appended(HandMade(rows=ROWS, before='<dimension ref="A1:B9"/>'), tmp_path)
    assert b'<dimension ref="A1:D9"/>' in after[SHEET]


def test_the_table_grows(tmp_path: Path) -> None:
    """The table's range, its autofilter and its columns take in ours: id = max + 1, name = header cell."""
    part = table("A1:B3", "File", "Pages", inside='<autoFilter ref="A1:B3"/>')
    after, notes = appended(HandMade(rows=ROWS, tables=(part,)), tmp_path)
    text = after[TABLE].decode()
    assert 'ref="A1:D3"><autoFilter ref="A1:D3"/><tableColumns count="4">' in text
    assert '<tableColumn id="3" name="run_id"/><tableColumn id="4" name="status"/></tableColumns>' in text
    assert notes == ()


def test_a_totals_row_stays_empty(tmp_path: Path) -> None:
    """The totals row gets no cells, and the table's autofilter still ends above it."""
    part = table("A1:B3", "File", "Pages", attributes=' totalsRowCount="1"', inside='<autoFilter ref="A1:B2"/>')
    after, _ = appended(HandMade(rows=ROWS, tables=(part,)), tmp_path, cells=CELLS[:1])
    assert 'ref="A1:D3" totalsRowCount="1"><autoFilter ref="A1:D2"/>' in after[TABLE].decode()
    assert b'r="C3"' not in after[SHEET]


def test_names_of_table_columns_are_escaped(tmp_path: Path) -> None:
    """A header with quotes, markup and a line break is a table column's name too, as Excel writes it."""
    new = NewColumns(('result."<a>"\n',))
    part = table("A1:B3", "File", "Pages")
    after, _ = appended(HandMade(rows=ROWS, tables=(part,)), tmp_path, new, ())
    assert b'name="result.&quot;&lt;a&gt;&quot;_x000a_"' in after[TABLE]


@pytest.mark.parametrize(
    ("part", "why"),
    [
        (table("A1:B3", "File", "Pages", attributes=' tableType="queryTable"'), "is filled by a query"),
        (table("A2:B3", "File", "Pages", attributes=' headerRowCount="0"'), "has no header row"),
        (table("A1:A3", "File"), "ends left of other columns"),
    ],
)
def test_a_table_that_cant_grow_is_named(part: str, why: str, tmp_path: Path) -> None:
    """A query's table, one without headers, and one that isn't adjacent stay as they are, and a person hears why."""
    after, notes = appended(HandMade(rows=ROWS, tables=(part,)), tmp_path)
    assert after[TABLE].decode() == part
    assert len(notes) == 1
    assert f"Table1 {why}" in notes[0]


def test_a_table_elsewhere_stays(tmp_path: Path) -> None:
    """A table below the rows is none of ours."""
    below = row(6, "x") + row(7, "y")
    part = table("A6:A7", "x")
    after, notes = appended(HandMade(rows=ROWS + below, tables=(part,)), tmp_path, header_row=1)
    assert after[TABLE].decode() == part
    assert notes == ()


def test_the_autofilter_and_its_hidden_name_grow(tmp_path: Path) -> None:
    """The sheet's autofilter and `_xlnm._FilterDatabase` of this very sheet take in the new columns."""
    hidden = '<definedName name="_xlnm._FilterDatabase" localSheetId="{}" hidden="1">{}$A$1:$B$3</definedName>'
    names = hidden.format(1, "Other!") + hidden.format(0, "'It''s &amp; more'!")
    made = HandMade(rows=ROWS, after=FILTER, names=names, sheet="It's & more")
    after, notes = appended(made, tmp_path)
    assert b'<autoFilter ref="A1:D3"><filterColumn colId="0"/></autoFilter>' in after[SHEET]
    assert b"Other!$A$1:$B$3</definedName>" in after[WORKBOOK]
    assert b"'It''s &amp; more'!$A$1:$D$3</definedName>" in after[WORKBOOK]
    assert notes == ()


def test_an_autofilter_without_a_name_grows_alone(tmp_path: Path) -> None:
    """Where the workbook has no hidden name, its part stays byte for byte."""
    after, _ = appended(HandMade(rows=ROWS, after=FILTER), tmp_path)
    assert b'ref="A1:D3"' in after[SHEET]
    assert after[WORKBOOK] == parts(tmp_path / "in.xlsx")[WORKBOOK]


def test_an_autofilter_among_the_columns_stays(tmp_path: Path) -> None:
    """One that ends left of other columns can't reach ours: a person hears that sorting parts the rows."""
    after, notes = appended(HandMade(rows=ROWS, after='<autoFilter ref="A1:A3"/>'), tmp_path)
    assert b'<autoFilter ref="A1:A3"/>' in after[SHEET]
    assert "the autofilter ends at column A" in notes[0]


def test_merged_cells_are_stepped_over(tmp_path: Path) -> None:
    """New cells inside a merged range would be seen by nobody: the columns begin right of it, and a person hears it."""
    merges = '<mergeCells count="2"><mergeCell ref="B2:D2"/><mergeCell ref="A7:Z8"/></mergeCells>'
    after, notes = appended(HandMade(rows=ROWS, after=merges), tmp_path)
    assert b'<c r="E2" t="inlineStr"><is><t>r-1</t>' in after[SHEET]
    assert b'<c r="E1" s="2" t="inlineStr"><is><t>run_id</t>' in after[SHEET]
    assert "begin at E: merged cells, formulas or a pivot table reach beyond column B" in notes[0]


def test_a_pivot_table_is_stepped_over(tmp_path: Path) -> None:
    """A pivot table that isn't drawn yet would write over the new cells: they begin right of it."""
    after, notes = appended(HandMade(rows=ROWS, pivot="D2:E4"), tmp_path)
    assert b'<c r="F2" t="inlineStr"><is><t>r-1</t>' in after[SHEET]
    assert "begin at F" in notes[0]


def test_an_earlier_output_cant_step_aside(tmp_path: Path) -> None:
    """Cells that were merged over an earlier output's columns are named, and have to be split."""
    merges = '<mergeCells count="1"><mergeCell ref="B2:B3"/></mergeCells>'
    with pytest.raises(SheetError, match="B2:B3 is merged, or a pivot table, where Pages"):
        appended(HandMade(rows=ROWS, after=merges), tmp_path, NewColumns(("Pages",), 1), ())


def test_a_sheet_without_room_is_refused(tmp_path: Path) -> None:
    """A row that is merged to the last column but one leaves no room for two: asked before anything is written."""
    merges = '<mergeCells count="1"><mergeCell ref="B2:XFC2"/></mergeCells>'
    path = HandMade(rows=ROWS, after=merges).write(tmp_path / "in.xlsx")
    with open_workbook(path, Reading(), tmp_path) as sheet:
        assert place_of(sheet, NewColumns(("id",))).start == 16_383
        with pytest.raises(SheetError, match="no room for 2 columns right of B"):
            place_of(sheet, NEW)


def test_an_earlier_output_is_refreshed(tmp_path: Path) -> None:
    """Written again, the columns stay where they are: table, widths and names are no more than before."""
    part = table("A1:B3", "File", "Pages", inside='<autoFilter ref="A1:B3"/>')
    first, _ = appended(HandMade(rows=ROWS, tables=(part,), before='<dimension ref="A1:B3"/>'), tmp_path)
    again = tmp_path / "again.xlsx"
    with open_sheet(tmp_path / "out.xlsx", Reading(), tmp_path) as sheet, again.open("wb") as target:
        append_columns(sheet, target, NewColumns(NEW.headers, 2), CELLS)
    assert parts(again) == first


@pytest.mark.parametrize("headers", [("run_id",), ("run_id", "status", "result.a")])
def test_a_refreshed_table_has_the_new_columns(headers: tuple[str, ...], tmp_path: Path) -> None:
    """Fewer or more columns than the earlier output's: the table has exactly those, each with its own id."""
    rows = row(1, "File", "run_id", "Status") + row(2, "a.pdf", "r", "s")
    filters = '<autoFilter ref="A1:C2"><filterColumn colId="2"/></autoFilter>'
    part = table("A1:C2", "File", "run_id", "Status", inside=filters)
    cells = [(2, ("x",) * len(headers))]
    after, _ = appended(HandMade(rows=rows, tables=(part,)), tmp_path, NewColumns(headers, 2), cells)
    text = after[TABLE].decode()
    assert f'<tableColumns count="{1 + len(headers)}">' in text
    assert [name.partition('"')[0] for name in text.split(' name="')[2:]] == ["File", *headers]
    assert ('colId="2"' in text) == (len(headers) > 1)
    assert ('<tableColumn id="4" name="result.a"/>' in text) == (len(headers) == 3)
