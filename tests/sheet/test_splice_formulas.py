"""Formulas that show nothing yet: no result may take their place, and that is known before anything is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from workbooks import Tab, opened, text_cell, write_workbook

from batch_runner.errors import SheetError
from batch_runner.sheet.export import append_columns, make_room
from batch_runner.sheet.model import NewColumns

if TYPE_CHECKING:
    from pathlib import Path

NEW = NewColumns(("run_id", "status"))
AGAIN = NewColumns(("run_id", "status"), replaced=2)
BLANK_FORMULA = '<c r="{}" t="str"><f>IF(1,"")</f><v></v></c>'


def sheet_of(folder: Path, third: str, *, header: str = "", quick: bool = True) -> Path:
    """A sheet of two columns, and whatever else stands in its third row of four; `quick=False`: for the parser."""
    rows = [
        text_cell("A1", "File") + text_cell("B1", "Pages") + header,
        text_cell("A2", "a.pdf") + text_cell("B2", "1"),
        text_cell("A3", "b.pdf") + third,
        text_cell("A4", "c.pdf") + text_cell("B4", "3"),
    ]
    odd = "" if quick else "<!-- odd -->"
    made = odd + "".join(f'<row r="{number}">{cells}</row>' for number, cells in enumerate(rows, 1))
    return write_workbook(folder / "a.xlsx", {"S": Tab(rows=made)})


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("last", ["", '<c r="F3" s="0"/>'])
def test_columns_stand_right_of_a_formula_that_shows_nothing(tmp_path: Path, last: str, *, quick: bool) -> None:
    """It has no header and no text; the new columns begin right of it, and a person hears why."""
    path = sheet_of(tmp_path, text_cell("B3", "2") + BLANK_FORMULA.format("D3") + last, quick=quick)
    with opened(path) as sheet, (tmp_path / "out.xlsx").open("wb") as target:
        assert sheet.width == 2
        (note,) = append_columns(sheet, target, NEW, [(3, ("r-1", "success"))])
    assert "begin at E: merged cells, formulas or a pivot table reach beyond column B" in note
    with opened(tmp_path / "out.xlsx") as written:
        assert [(column.name, column.letter) for column in written.columns][2:] == [("run_id", "E"), ("status", "F")]


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("last", ["", text_cell("D3", "success")])
def test_a_formula_in_an_earlier_outputs_column_is_named_before_a_run(
    tmp_path: Path, last: str, *, quick: bool
) -> None:
    """A person typed it there: it would be lost, so there is no room until it goes, wherever it stands in its row."""
    header = text_cell("C1", "run_id") + text_cell("D1", "status")
    formula = BLANK_FORMULA.format("C3")
    path = sheet_of(tmp_path, text_cell("B3", "2") + formula + last, header=header, quick=quick)
    with opened(path) as sheet, pytest.raises(SheetError, match="S!C3 holds a formula where a result belongs"):
        make_room(sheet, AGAIN)


def test_a_formula_of_the_persons_own_is_no_obstacle(tmp_path: Path) -> None:
    """Formulas in the sheet's own columns leave the new columns where they belong."""
    path = sheet_of(tmp_path, '<c r="B3" t="str"><f>A3</f><v>x</v></c>')
    with opened(path) as sheet:
        make_room(sheet, NEW)
        assert sheet.formulas == ((1, 3),)


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("formula", ['<f t="array" ref="C2:E4">A1:C3</f>', '<f t="dataTable" ref="C2:E4" r1="A1"/>'])
def test_what_a_formula_fills_is_taken(tmp_path: Path, formula: str, *, quick: bool) -> None:
    """An array, a spill, a data table: all cells of its `ref` are the formula's own, and what is right of them is free.

    Excel and LibreOffice write all of them anew at the next calculation, the empty ones too.
    """
    header = f'{text_cell("C1", "Flag")}</row><row r="2">{text_cell("A2", "a.pdf")}<c r="C2">{formula}<v>1</v></c>'
    path = write_workbook(
        tmp_path / "a.xlsx",
        {"S": Tab(rows=("" if quick else "<!-- odd -->") + f'<row r="1">{text_cell("A1", "File")}{header}</row>')},
    )
    with opened(path) as sheet, (tmp_path / "out.xlsx").open("wb") as target:
        append_columns(sheet, target, NEW, [(2, ("r-1", "success"))])
    with opened(tmp_path / "out.xlsx") as written:
        assert [(column.name, column.letter) for column in written.columns][2:] == [("run_id", "F"), ("status", "G")]


def test_an_earlier_output_under_an_array_formula_is_named_before_a_run(tmp_path: Path) -> None:
    """Somebody put a formula left of our columns that spills into them: there is no room until it goes."""
    header = text_cell("C1", "run_id") + text_cell("D1", "status")
    spill = '<c r="B3"><f t="array" ref="B3:C3">{1,2}</f><v>1</v></c><c r="C3"><v>2</v></c>'
    with (
        opened(sheet_of(tmp_path, spill, header=header)) as sheet,
        pytest.raises(SheetError, match=r"B3:C3 is merged.*or a formula fills it"),
    ):
        make_room(sheet, AGAIN)
