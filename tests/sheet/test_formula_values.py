"""The values of formulas: which are what a spreadsheet program calculated, and which only hold the place of one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from workbooks import Tab, read_rows, text_row, write_workbook

from batch_runner.sheet.model import Reading

if TYPE_CHECKING:
    from pathlib import Path

    from batch_runner.sheet.model import Row

LIBREOFFICE = 'iterateCount="100" refMode="A1" iterate="false" iterateDelta="0.001"'


def read(
    path: Path, cells: str, calculation: str | None, *, after: str = "", trust: bool = False, has_chain: bool = False
) -> Row:
    """Row 2 of a workbook that says so much of its calculation."""
    rows = text_row(1, "Id", "Net", "Gross") + f'<row r="2">{cells}</row>' + text_row(3, "x")
    write_workbook(path, {"S": Tab(rows=rows, after=after)}, calculation=calculation, has_chain=has_chain)
    return read_rows(path, Reading(header_row=1, trust_formulas=trust))[1]


STALE = '<c r="B2"><v>100</v></c><c r="C2"><f>B2*1.19</f><v>595</v></c>'


@pytest.mark.parametrize(
    "calculation",
    [
        'calcId="191029" fullCalcOnLoad="1"',
        'fullCalcOnLoad="true"',
        'calcMode="manual" calcCompleted="0"',
        'calcCompleted="false"',
        'calcId="999999" calcMode="auto" calcCompleted="0" fullCalcOnLoad="1" forceFullCalc="1"',
    ],
)
def test_a_value_that_its_file_calls_stale_is_none(tmp_path: Path, calculation: str) -> None:
    """Its row is refused, by address and with what helps; a number that no formula made is sent."""
    row = read(tmp_path / "a.xlsx", STALE, calculation)
    (problem,) = row.problems
    assert (row.texts, problem.address, problem.refuses) == (("", "100", ""), "C2", True)
    assert "open the workbook in Excel" in problem.what
    assert "and save it" in problem.what
    assert "--trust-formulas" in problem.what


@pytest.mark.parametrize(
    "calculation",
    [
        *(
            None,
            "",
            'calcId="191029"',
            'calcId="191029" forceFullCalc="1"',
            'calcId="0" concurrentCalc="0"',
            LIBREOFFICE,
        ),
        *('calcMode="manual"', 'calcOnSave="0"', 'fullCalcOnLoad="0" calcCompleted="1"', 'calcMode="auto"'),
    ],
)
def test_what_excel_and_libreoffice_write_is_never_refused(tmp_path: Path, calculation: str | None) -> None:
    """These stand in files of their own: Excel keeps `forceFullCalc`, and Excel for Mac a sheet's `sheetCalcPr`."""
    cells = STALE.replace('r="B2"><v>100', 'r="B2"><f>1-1</f><v>0')
    after = '<sheetCalcPr fullCalcOnLoad="1"/>'
    row = read(tmp_path / "a.xlsx", cells, calculation, after=after, has_chain=calculation == 'calcMode="manual"')
    assert (row.texts, row.problems) == (("", "0", "595"), ())


def test_a_person_who_knows_better_says_so(tmp_path: Path) -> None:
    """`--trust-formulas` takes the values that stand there; a formula without any stays refused."""
    row = read(tmp_path / "a.xlsx", f'<c r="A2"><f>C2</f></c>{STALE}', 'fullCalcOnLoad="1"', trust=True)
    assert row.texts[:3] == ("", "100", "595")
    assert [problem.address for problem in row.problems] == ["A2"]
    assert "trust" not in row.problems[0].what


def test_a_zero_that_only_holds_the_place_is_none(tmp_path: Path) -> None:
    """Apache POI (QuickBooks, many exports) writes `0.0` for what it didn't calculate; a text or a number may be so."""
    cells = '<c r="A2" t="str"><f>"0"&amp;".0"</f><v>0.0</v></c><c r="B2"><v>0.0</v></c>'
    cells += '<c r="C2" t="n"><f>B2*1.19</f><v>0.0</v></c>'
    row = read(tmp_path / "a.xlsx", cells, None)
    assert row.texts == ("0.0", "0", "")
    assert [(problem.address, problem.refuses) for problem in row.problems] == [("C2", True)]
    assert "never calculated" in row.problems[0].what


def test_a_file_to_be_calculated_by_hand_may_never_have_been(tmp_path: Path) -> None:
    """XlsxWriter writes `0` there, without a word and without the chain that Excel keeps of what it calculated."""
    cells = '<c r="B2"><f>1+1</f><v>0</v></c><c r="C2"><f>1+2</f><v>3</v></c>'
    manual = 'calcId="124519" calcMode="manual" calcOnSave="0"'
    (problem,) = read(tmp_path / "a.xlsx", cells, manual).problems
    assert problem.address == "B2"
    assert "press F9" in problem.what
    assert read(tmp_path / "a.xlsx", cells, manual, has_chain=True).problems == ()


@pytest.mark.parametrize("kind", ["array", "dataTable"])
def test_results_that_one_formula_put_into_other_cells_are_stale_with_it(tmp_path: Path, kind: str) -> None:
    """An array's, a spilled one's or a data table's results stand in cells without a formula of their own."""
    rows = text_row(1, "Id", "Net")
    rows += f'<row r="2"><c r="B2"><f t="{kind}" ref="B2:B3">A2:A3*2</f><v>0</v></c></row>'
    rows += '<row r="3"><c r="B3"><v>0</v></c></row><row r="4"><c r="B4"><v>7</v></c></row>'
    write_workbook(tmp_path / "a.xlsx", {"S": Tab(rows=rows)}, calculation='fullCalcOnLoad="1"')
    found = read_rows(tmp_path / "a.xlsx", Reading(header_row=1))
    assert [(row.texts, len(row.problems)) for row in found[1:]] == [(("", ""), 1), (("", ""), 1), (("", "7"), 0)]


def test_a_stale_text_is_stale_too(tmp_path: Path) -> None:
    """Whatever a formula's value is: text, boolean, date, error."""
    cells = '<c r="A2" t="str"><f>"x"</f><v>x</v></c><c r="B2" t="b"><f>1=1</f><v>1</v></c>'
    cells += '<c r="C2" t="e"><f>1/0</f><v>#DIV/0!</v></c>'
    row = read(tmp_path / "a.xlsx", cells, 'fullCalcOnLoad="1"')
    assert [problem.address for problem in row.problems] == ["A2", "B2", "C2"]
