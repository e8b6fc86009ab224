"""Reading workbooks: sheets, headers, tables, hidden and merged cells, and what refuses one."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest
from packages import MAIN, table
from test_package import changed
from workbooks import Tab, opened, read_rows, text_row, write_workbook

from batch_runner.errors import SheetError
from batch_runner.sheet.model import Reading, RowKind, refuse_ambiguity

if TYPE_CHECKING:
    from pathlib import Path

HIDDEN = ' hidden="1"'


def test_every_row_comes_once_with_its_kind(tmp_path: Path) -> None:
    """Rows are numbered as Excel does, gaps included; a title is above, blanks are empty, all are of one width."""
    rows = text_row(2, "Invoices 2026") + text_row(4, "File", "Net") + text_row(5, "a.pdf", "12") + text_row(7, "b.pdf")
    blank = '<row r="8" spans="1:2"/><row r="1048576"><c r="A1048576" s="1"/></row>'
    write_workbook(tmp_path / "a.xlsx", {"S": Tab(rows=rows + blank)})
    found = read_rows(tmp_path / "a.xlsx")
    kinds = [RowKind.EMPTY, RowKind.ABOVE, RowKind.EMPTY, RowKind.HEADER, RowKind.DATA, RowKind.EMPTY, RowKind.DATA]
    assert [row.kind for row in found] == kinds
    assert [row.number for row in found] == [1, 2, 3, 4, 5, 6, 7]
    assert {len(row.texts) for row in found} == {2}


def test_the_first_visible_sheet_with_data_is_read(tmp_path: Path) -> None:
    """Hidden and empty sheets are passed over; a note says that there are others."""
    full = Tab(rows=text_row(1, "A") + text_row(2, "x"))
    hidden = Tab(rows=text_row(1, "H"), state="hidden")
    write_workbook(tmp_path / "a.xlsx", {"Old": hidden, "Blank": Tab(), "Data": full, "More": full})
    with opened(tmp_path / "a.xlsx") as sheet:
        assert (sheet.name, sheet.row_count) == ("Data", 1)
        assert "--sheet" in sheet.notes[0]
    with opened(tmp_path / "a.xlsx", Reading(sheet="old")) as sheet:
        assert sheet.name == "Old"


def test_an_unknown_sheet_is_refused_with_the_names_there_are(tmp_path: Path) -> None:
    """A misspelt name gets the names of the sheets and a guess."""
    write_workbook(tmp_path / "a.xlsx", {"Invoices": Tab(rows=text_row(1, "A")), "Notes": Tab()})
    with pytest.raises(SheetError, match=r"'Invoices', 'Notes'; did you mean 'Invoices'"):
        opened(tmp_path / "a.xlsx", Reading(sheet="Invoice"))


def test_an_empty_workbook_is_refused(tmp_path: Path) -> None:
    """A workbook without any text has no header row."""
    write_workbook(tmp_path / "a.xlsx", {"S": Tab(rows='<row r="1"><c r="A1" s="1"/></row>')})
    with pytest.raises(SheetError, match="empty"):
        opened(tmp_path / "a.xlsx")


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (text_row(1, "A", "B", "A"), "S!A1 and C1: two headers are 'A'"),
        (text_row(1, "A", "", "C") + text_row(9, "x", "y"), "S!B1 and B9: there is text under an empty header"),
        (text_row(1, "A", "B") + text_row(2, "x", "y") + text_row(4, "1", "2", "3"), "S!C1 and C4"),
        (text_row(1, "A", "B") + text_row(2, "x", "y", "z") + text_row(3, "x", "y", "z"), "S!C1 and C2"),
        (text_row(1, "A") + text_row(2, "x", attributes=HIDDEN) + text_row(5, "y", attributes=HIDDEN), "2 of the rows"),
        (text_row(1, "A") + text_row(2, "x", attributes=HIDDEN), "the first is row 2; say --hidden include"),
        (text_row(2, "A") + text_row(2, "x"), "has row 2 after row 2"),
        (text_row(1, "A") + text_row(1_048_577, "x"), "has row 1048577 after row 1"),
        (text_row(1, "A") + '<row r="2"><c r="ABCDEFG2"><v>1</v></c></row>', "XFD is the last"),
    ],
)
def test_what_makes_rows_ambiguous_is_refused(tmp_path: Path, rows: str, message: str) -> None:
    """Equal headers, text under none, hidden rows nobody spoke about, rows of one number: refused, naming the cells."""
    write_workbook(tmp_path / "a.xlsx", {"S": Tab(rows=rows)})
    with pytest.raises(SheetError) as refused, opened(tmp_path / "a.xlsx") as sheet:
        refuse_ambiguity(sheet, sheet.columns, sheet.strays)
    assert message in str(refused.value)


def test_hidden_rows_are_included_or_skipped_as_was_said(tmp_path: Path) -> None:
    """`include` reads them like the others; `skip` keeps their place and gives them their own kind."""
    rows = text_row(1, "A") + text_row(2, "x", attributes=HIDDEN) + text_row(3, "y")
    write_workbook(tmp_path / "a.xlsx", {"S": Tab(rows=rows)})
    with opened(tmp_path / "a.xlsx", Reading(hidden="include")) as sheet:
        assert (sheet.row_count, [row.kind for row in sheet.rows()][1]) == (2, RowKind.DATA)
    with opened(tmp_path / "a.xlsx", Reading(hidden="skip")) as sheet:
        assert (sheet.row_count, [row.kind for row in sheet.rows()][1]) == (1, RowKind.HIDDEN)


def test_a_table_says_where_header_and_totals_are(tmp_path: Path) -> None:
    """Its header row counts although a wider one stands above; its totals row and what is below take no part."""
    rows = text_row(1, "x", "y", "z") + text_row(3, "A", "B") + text_row(4, "1", "2")
    rows += text_row(5, "Total", "2") + text_row(7, "note")
    tab = Tab(rows=rows, tables=(table("A3:B5", "A", "B", attributes=' totalsRowCount="1"'),))
    write_workbook(tmp_path / "a.xlsx", {"S": tab})
    with opened(tmp_path / "a.xlsx") as sheet:
        assert (sheet.header_row, sheet.row_count, sheet.width, sheet.last_row) == (3, 1, 2, 7)
        assert sheet.table is not None
        assert (sheet.table.ref, sheet.table.totals_row) == ("A3:B5", 5)
        kinds = [row.kind for row in sheet.rows()]
    assert kinds[3:] == [RowKind.DATA, RowKind.TOTALS, RowKind.EMPTY, RowKind.TOTALS]


def test_an_autofilter_says_where_the_header_is(tmp_path: Path) -> None:
    """It is found at the sheet's end, and counts more than the first row that looks like a header."""
    rows = text_row(1, "x", "y") + text_row(2, "A", "B") + text_row(3, "1", "2")
    write_workbook(tmp_path / "a.xlsx", {"S": Tab(rows=rows, after='<autoFilter ref="A2:B3"/>')})
    with opened(tmp_path / "a.xlsx") as sheet:
        assert (sheet.header_row, sheet.row_count, sheet.autofilter) == (2, 1, "A2:B3")


def test_a_named_header_row_counts_most(tmp_path: Path) -> None:
    """`--header-row` overrides table and autofilter; an empty row is refused."""
    rows = text_row(1, "x", "y") + text_row(2, "A", "B") + text_row(3, "1", "2")
    write_workbook(tmp_path / "a.xlsx", {"S": Tab(rows=rows, after='<autoFilter ref="A2:B3"/>')})
    with opened(tmp_path / "a.xlsx", Reading(header_row=1)) as sheet:
        assert [column.name for column in sheet.columns] == ["x", "y"]
    with pytest.raises(SheetError, match="no header stands in row 9"):
        opened(tmp_path / "a.xlsx", Reading(header_row=9))


def test_hidden_columns_are_read_like_the_others(tmp_path: Path) -> None:
    """Only rows can be hidden from the batch: a hidden column is often an id."""
    whole = Tab(rows=text_row(1, "A", "B") + text_row(2, "x", "y")).part
    whole = whole.replace(b"<sheetData>", b'<cols><col min="2" max="2" hidden="1"/></cols><sheetData>')
    write_workbook(tmp_path / "a.xlsx", {"S": Tab(whole=whole)})
    assert read_rows(tmp_path / "a.xlsx")[1].texts == ("x", "y")


def test_edits_after_opening_change_nothing(tmp_path: Path) -> None:
    """The sheet is as it was when it was opened, whatever happens to its file."""
    path = write_workbook(tmp_path / "a.xlsx", {"S": Tab(rows=text_row(1, "A") + text_row(2, "x"))})
    with opened(path) as sheet:
        path.write_bytes(b"gone")
        assert [row.texts for row in sheet.rows()] == [("A",), ("x",)]
        assert [row.texts for row in sheet.rows()] == [("A",), ("x",)]


def test_a_picture_in_a_cell_is_named(tmp_path: Path) -> None:
    """A picture placed in a cell stands in the file as #VALUE!; the chain of rich values says what it is."""
    path = write_workbook(
        tmp_path / "a.xlsx",
        {"S": Tab(rows=text_row(1, "A", "B") + '<row r="2">' + PICTURE + "</row>")},
    )
    for name, content in RICH.items():
        changed(path, name, content.encode())
    with zipfile.ZipFile(path) as package:
        links = package.read("xl/_rels/workbook.xml.rels").decode()
    more = "".join(
        f'<Relationship Id="v{place}" Type="t/{kind}" Target="{kind}.xml"/>'
        for place, kind in enumerate(("sheetMetadata", "rdRichValue", "rdRichValueStructure"))
    )
    changed(path, "xl/_rels/workbook.xml.rels", links.replace("</Rel", more + "</Rel", 1).encode())
    row = read_rows(path)[1]
    assert [(problem.address, problem.what) for problem in row.problems] == [
        ("A2", "a picture in the cell"),
        ("B2", "the error #SPILL!"),
    ]


PICTURE = '<c r="A2" t="e" vm="1"><v>#VALUE!</v></c><c r="B2" t="e" vm="2"><v>#VALUE!</v></c>'
RICH = {
    "xl/sheetMetadata.xml": f'<metadata xmlns="{MAIN}" xmlns:x="rich"><futureMetadata name="XLRICHVALUE">'
    '<bk><extLst><ext><x:rvb i="0"/></ext></extLst></bk><bk><extLst><ext><x:rvb i="1"/></ext></extLst></bk>'
    '</futureMetadata><valueMetadata><bk><rc t="1" v="0"/></bk><bk><rc t="1" v="1"/></bk></valueMetadata></metadata>',
    "xl/rdRichValue.xml": '<rvData xmlns="rich"><rv s="0"><v>0</v><v>5</v></rv><rv s="1"><v>8</v></rv></rvData>',
    "xl/rdRichValueStructure.xml": '<rvStructures xmlns="rich"><s t="_localImage"><k n="_rvRel:LocalImageIdentifier"/>'
    '<k n="CalcOrigin"/></s><s t="_error"><k n="errorType"/></s></rvStructures>',
}
