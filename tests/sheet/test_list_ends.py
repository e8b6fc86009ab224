"""Where a workbook's list ends, and which of its sheet's tables it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openpyxl
import pytest
from openpyxl.worksheet.table import Table
from packages import parts
from workbooks import opened

from batch_runner.errors import SheetError
from batch_runner.job.job import Job
from batch_runner.rows.source import Source
from batch_runner.sheet.export import append_columns
from batch_runner.sheet.model import NewColumns, Reading, RowKind

if TYPE_CHECKING:
    from pathlib import Path

    from batch_runner.rows.params import RowParams

LIST: list[list[Any]] = [["No", "Vendor", "Net"], *([f"A-{n}", f"V{n}", 10 * n] for n in range(1, 11))]


def written(
    folder: Path, cells: dict[str, list[list[Any]]], tables: tuple[str, ...] = (), autofilter: str | None = None
) -> Path:
    """A workbook with these blocks of cells, each by its first cell, and these tables."""
    book = openpyxl.Workbook()
    page = book.active
    assert page is not None
    for first, block in cells.items():
        at = page[first]
        for down, texts in enumerate(block):
            for right, text in enumerate(texts):
                page.cell(at.row + down, at.column + right, text)
    for place, ref in enumerate(tables, 1):
        page.add_table(Table(displayName=f"T{place}", ref=ref))
    page.auto_filter.ref = autofilter
    book.save(folder / "a.xlsx")
    return folder / "a.xlsx"


def kinds(path: Path, kind: RowKind, reading: Reading | None = None) -> list[int]:
    with opened(path, reading) as sheet:
        return [row.number for row in sheet.rows() if row.kind is kind]


@pytest.mark.parametrize("ends", [{"tables": ("A1:C11",)}, {"autofilter": "A1:C11"}])
def test_rows_below_the_end_take_no_part(tmp_path: Path, ends: dict[str, Any]) -> None:
    """Notes and a second list below a table or a filter are never run, and a note names them."""
    path = written(tmp_path, {"A1": LIST, "A13": [["Code", "Meaning"], ["a", "x"]], "A16": [["printed"]]}, **ends)
    assert kinds(path, RowKind.OUTSIDE) == [13, 14, 16]
    with opened(path) as sheet:
        assert sheet.row_count == 10
        assert any("stands below row 11" in note and "rows 13, 14, 16" in note for note in sheet.notes)


@pytest.mark.parametrize("ends", [{"tables": ("A1:C9",)}, {"autofilter": "A1:C9"}])
def test_rows_that_a_list_outgrew_are_refused(tmp_path: Path, ends: dict[str, Any]) -> None:
    """A row directly below that looks like data is refused alone; so is the next one."""
    with opened(written(tmp_path, {"A1": LIST, "A13": [["printed"]]}, **ends)) as sheet:
        refused = {row.number: row.refusal for row in sheet.rows() if row.refusal}
        assert sheet.row_count == 10
    assert list(refused) == [10, 11]
    assert "looks like data, but stands below row 9" in (refused[10] or "")


def test_a_total_directly_below_is_no_data(tmp_path: Path) -> None:
    """It is left out like a note."""
    path = written(tmp_path, {"A1": LIST, "A12": [["Total", None, 550]]}, ("A1:C11",))
    assert kinds(path, RowKind.OUTSIDE) == [12]


def test_an_autofilter_over_the_headers_alone_ends_nothing(tmp_path: Path) -> None:
    """Programs write it so, and Excel finds the rows by itself."""
    assert kinds(written(tmp_path, {"A1": LIST}, autofilter="A1:C1"), RowKind.DATA) == [*range(2, 12)]


def test_columns_of_another_table_are_not_ours(tmp_path: Path) -> None:
    """They aren't sent; without room beside ours the new columns go right of everything, and no other table grows."""
    block: list[list[Any]] = [["Code", "Meaning"], ["a", "x"], ["b", "y"]]
    path = written(tmp_path, {"A1": LIST, "F1": block}, ("A1:C11", "F1:G3"))
    with opened(path) as sheet, (tmp_path / "b.xlsx").open("w+b") as target:
        assert [column.name for column in sheet.columns] == ["No", "Vendor", "Net"]
        assert any("not sent" in note and "F, G" in note for note in sheet.notes)
        append_columns(sheet, target, NewColumns(("run_id", "status", "error")), [(2, ("r", "s", "e"))])
        before = {name: data for name, data in parts(path).items() if "/tables/" in name}
    assert before == {name: data for name, data in parts(tmp_path / "b.xlsx").items() if "/tables/" in name}
    assert openpyxl.load_workbook(tmp_path / "b.xlsx")["Sheet"]["H2"].value == "r"


def test_a_longer_table_beside_adds_no_rows(tmp_path: Path) -> None:
    """A row that has text in the other table alone is an empty one of ours."""
    block: list[list[Any]] = [["Code", "Meaning"], *([str(n), "x"] for n in range(20))]
    path = written(tmp_path, {"A1": LIST, "F1": block}, ("A1:C11", "F1:G21"))
    assert kinds(path, RowKind.DATA) == [*range(2, 12)]
    with opened(path) as sheet:
        assert sheet.row_count == 10


@pytest.mark.parametrize(("first", "ref"), [("F3", "F3:G6"), ("A15", "A15:B18"), ("F1", "F1:G4")])
def test_a_small_table_is_not_the_list(tmp_path: Path, first: str, ref: str) -> None:
    """Beside or below a wider list both are named, and --header-row says which."""
    block: list[list[Any]] = [["Code", "Meaning"], ["a", "x"], ["b", "y"], ["c", "z"]]
    path = written(tmp_path, {"A1": LIST, first: block}, (ref,))
    with pytest.raises(SheetError, match=rf"the table T1 \({ref}\) and the wider list that begins in A1:C1") as refused:
        opened(path)
    assert "--header-row" in str(refused.value)


@pytest.mark.parametrize(("first", "ref"), [("F3", "F3:G6"), ("A15", "A15:B18"), ("F1", "F1:G4")])
def test_the_list_that_was_said_is_read_alone(tmp_path: Path, first: str, ref: str) -> None:
    """Neither the rows nor the columns of the small table come with it."""
    block: list[list[Any]] = [["Code", "Meaning"], ["a", "x"], ["b", "y"], ["c", "z"]]
    path = written(tmp_path, {"A1": LIST, first: block}, (ref,))
    with opened(path, Reading(header_row=1)) as sheet:
        assert [column.name for column in sheet.columns] == ["No", "Vendor", "Net"]
        assert not sheet.strays
        assert sheet.row_count == 10
    assert kinds(path, RowKind.DATA, Reading(header_row=1)) == [*range(2, 12)]


def test_of_two_tables_the_wider_is_not_passed_over(tmp_path: Path) -> None:
    """A lookup table above the list would take its place."""
    path = written(tmp_path, {"A1": [["Code", "Meaning"], ["a", "x"]], "A5": LIST}, ("A1:B2", "A5:C15"))
    with pytest.raises(SheetError, match=r"T1 \(A1:B2\) and the wider table T2 \(A5:C15\)"):
        opened(path)
    assert kinds(path, RowKind.DATA, Reading(header_row=5)) == [*range(6, 16)]


@pytest.mark.parametrize("formula", ["=SUM(C2:C11)", "=SUBTOTAL(109,C2:C11)", "=SUM($C$2:$C$11)"])
def test_a_row_that_adds_up_its_column_is_a_total(tmp_path: Path, formula: str) -> None:
    """It is never run, whatever is written beside the amount; a note names it."""
    path = written(tmp_path, {"A1": LIST, "A12": [["A-11", "V11", formula]]})
    assert kinds(path, RowKind.TOTALS) == [12]
    with opened(path) as sheet:
        assert sheet.row_count == 10
        assert "not run, since it adds up its column: row 12" in sheet.notes


def test_sums_across_a_row_are_data(tmp_path: Path) -> None:
    """A gross amount that adds up its own row's cells, or another column's, is an invoice's."""
    rows: list[list[Any]] = [
        ["No", "Net", "Tax", "Gross"],
        *([f"A-{n}", 10, 2, f"=SUM(B{n + 1}:C{n + 1})"] for n in range(1, 5)),
    ]
    path = written(tmp_path, {"A1": rows, "E1": [["Running"], *([f"=SUM(B$2:B{n})"] for n in range(2, 6))]})
    assert kinds(path, RowKind.DATA) == [2, 3, 4, 5]


@pytest.mark.parametrize("formula", ["=SUM(C2,C11)", "=ROUND(SUM(C2:C11),2)", "=_xlfn.AGGREGATE(9,5,C2:C11)"])
def test_sums_of_other_forms_are_totals(tmp_path: Path, formula: str) -> None:
    """Single cells of the column, a rounded sum and Excel's newer function say as much."""
    path = written(tmp_path, {"A1": LIST, "A12": [["A-11", "V11", formula]]})
    assert kinds(path, RowKind.TOTALS) == [12]
    with opened(path) as sheet:
        assert sheet.sums == {12: frozenset({2})}


def test_an_average_is_no_sum(tmp_path: Path) -> None:
    """Its row is never run; its value says nothing of what the rows come to."""
    path = written(tmp_path, {"A1": LIST, "A12": [["Mean", None, "=SUBTOTAL(1,C2:C11)"]]})
    assert kinds(path, RowKind.TOTALS) == [12]
    with opened(path) as sheet:
        assert sheet.sums == {12: frozenset()}


@pytest.mark.parametrize("ends", [{"tables": ("A1:C11",)}, {"autofilter": "A1:C11"}])
def test_a_sum_below_the_end_is_a_total(tmp_path: Path, ends: dict[str, Any]) -> None:
    """A formula over the list's own rows is its total, wherever it stands; one over other rows is outside."""
    cells = {"A1": LIST, "A13": [["Total", None, "=SUM(C2:C11)"]], "A15": [["x", 1, 2], ["y", 1, "=SUM(C15:C15,C15)"]]}
    path = written(tmp_path, cells, **ends)
    assert kinds(path, RowKind.TOTALS) == [13]
    assert kinds(path, RowKind.OUTSIDE) == [15, 16]


@pytest.mark.parametrize("ends", [{"tables": ("A1:C11",)}, {"autofilter": "A1:C11"}])
def test_columns_beside_the_list_take_no_part(tmp_path: Path, ends: dict[str, Any]) -> None:
    """With a header or without, right of it; a note names them, and --columns may."""
    path = written(tmp_path, {"A1": LIST, "E1": [["Memo", None], ["x", "stray"]]}, **ends)
    with opened(path) as sheet:
        assert [column.name for column in sheet.columns] == ["No", "Vendor", "Net"]
        assert [(column.name, column.letter) for column in sheet.aside] == [("Memo", "E"), ("F", "F")]
        assert not sheet.strays
        assert any("not sent" in note and "columns E, F" in note for note in sheet.notes)


def test_an_earlier_output_beside_a_filter_is_known(tmp_path: Path) -> None:
    """Our columns may stand right of a filter that couldn't take them in."""
    ours = ["run_id", "status", "result", "error", "result.total"]
    path = written(tmp_path, {"A1": LIST, "D1": [["Memo", *ours], ["x", *ours]]}, autofilter="A1:C11")
    with opened(path) as sheet:
        assert [column.name for column in sheet.columns] == ["No", "Vendor", "Net", *ours]


@pytest.mark.parametrize(("beside", "first"), [("G1", "D"), ("I1", "D"), ("F1", "H"), ("D1", "F")])
def test_new_columns_go_right_of_the_list_where_there_is_room(tmp_path: Path, beside: str, first: str) -> None:
    """Else right of everything; the other table keeps its cells and its range."""
    block: list[list[Any]] = [["Code", "Meaning"], ["a", "x"], ["b", "y"]]
    ref = f"{beside}:{chr(ord(beside[0]) + 1)}3"
    path = written(tmp_path, {"A1": LIST, beside: block}, ("A1:C11", ref))
    with opened(path) as sheet, (tmp_path / "b.xlsx").open("w+b") as target:
        append_columns(sheet, target, NewColumns(("run_id", "status", "result")), [(2, ("r", "s", "{}"))])
    page: Any = openpyxl.load_workbook(tmp_path / "b.xlsx")["Sheet"]
    assert [page[f"{first}1"].value, page[f"{first}2"].value] == ["run_id", "r"]
    assert [page[beside].value, page[f"{beside[0]}3"].value] == ["Code", "b"]
    assert page.tables["T2"].ref == ref
    assert page.tables["T1"].ref == ("A1:F11" if first == "D" else "A1:C11")
    with opened(tmp_path / "b.xlsx") as again:
        assert [column.name for column in again.columns] == ["No", "Vendor", "Net", "run_id", "status", "result"]


def test_a_formula_that_shows_nothing_leaves_no_room(tmp_path: Path) -> None:
    """New cells never take its place."""
    block: list[list[Any]] = [["Code", "Meaning"], ["a", "x"], ["b", "y"]]
    path = written(tmp_path, {"A1": LIST, "E3": [['=""']], "H1": block}, ("A1:C11", "H1:I3"))
    with opened(path) as sheet, (tmp_path / "b.xlsx").open("w+b") as target:
        append_columns(sheet, target, NewColumns(("run_id", "status")), [(2, ("r", "s"))])
    page: Any = openpyxl.load_workbook(tmp_path / "b.xlsx")["Sheet"]
    assert [page["E3"].value, page["J1"].value] == ['=""', "run_id"]


def test_an_earlier_output_between_two_tables_is_refreshed(tmp_path: Path) -> None:
    """Formulas of the other table are in nobody's way; more columns than there is room for are refused."""
    block: list[list[Any]] = [["Code", "Twice"], ["a", "=1+1"], ["b", "=2+2"]]
    path = written(tmp_path, {"A1": LIST, "F1": block}, ("A1:C11", "F1:G3"))
    new = NewColumns(("run_id", "status"))
    with opened(path) as sheet, (tmp_path / "b.xlsx").open("w+b") as target:
        append_columns(sheet, target, new, [(2, ("r", "s"))])
    with opened(tmp_path / "b.xlsx") as sheet, (tmp_path / "c.xlsx").open("w+b") as target:
        append_columns(sheet, target, NewColumns(new.headers, 2), [(2, ("r2", "s2"))])
        with pytest.raises(SheetError, match="no room for 3 columns right of C"):
            append_columns(sheet, target, NewColumns((*new.headers, "result"), 2), [])
    page: Any = openpyxl.load_workbook(tmp_path / "c.xlsx")["Sheet"]
    assert [page["D2"].value, page["E2"].value, page["G2"].value] == ["r2", "s2", "=1+1"]


def test_a_plain_block_behind_an_empty_column_is_named(tmp_path: Path) -> None:
    """It may be a list of its own; nobody knows, so it is sent like the others, and said."""
    path = written(tmp_path, {"A1": LIST, "F1": [["Code", "Meaning"], ["a", "x"]]})
    with opened(path) as sheet:
        assert [column.name for column in sheet.columns] == ["No", "Vendor", "Net", "Code", "Meaning"]
        assert any("behind an empty column: columns F, G; --exclude F,G leaves them out" in one for one in sheet.notes)


def test_a_row_is_known_by_what_was_sent_with_the_columns_beside_it(tmp_path: Path) -> None:
    """Earlier releases sent columns beside a filter: such a row isn't a new one."""

    def sent(ref: str) -> RowParams:
        folder = tmp_path / ref.partition(":")[2]
        folder.mkdir()
        cells: dict[str, list[list[Any]]] = {"A1": LIST, "D1": [["Memo"], ["x"]]}
        path = written(folder, cells, autofilter=ref)
        with Source(Job(input=str(path), task="t"), tmp_path) as source:
            return next(source.rows())

    before, now = sent("A1:D11"), sent("A1:C11")
    assert (before.params.get("Memo"), now.params.get("Memo")) == ("x", None)
    assert before.key in now.former_keys


def test_our_columns_beside_a_table_are_no_wider_list(tmp_path: Path) -> None:
    """An output with many expanded columns, right of another table, is read again as it was."""
    ours = ["run_id", "status", "result", "error", "result.a", "result.b"]
    cells = {"A1": LIST, "E1": [["Code", "Meaning"], ["a", "x"]], "G1": [ours, *([[*ours]] * 10)]}
    path = written(tmp_path, cells, ("A1:C11", "E1:F2"))
    with opened(path) as sheet:
        assert sheet.is_table
        assert [column.name for column in sheet.columns] == ["No", "Vendor", "Net", *ours]
