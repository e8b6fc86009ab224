"""Reading workbooks: sheets, headers, tables, hidden and merged cells, and what refuses one."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packages import MAIN, changed, table
from workbooks import Tab, opened, read_rows, text_cell, text_row, write_workbook

from batch_runner.errors import SheetError
from batch_runner.sheet.model import Reading, RowKind, refuse_ambiguity

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
        (
            text_row(1, "A") + text_row(2, "x", attributes=HIDDEN) + text_row(5, "y", attributes=HIDDEN),
            "among the data: 2, the first is row 2",
        ),
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


PLAIN = (
    '<c r="A{n}" t="s"><v>{s}</v></c><c r="B{n}" s="1"><v>{v}</v></c><c r="D{n}" s="2"><f>B{n}*2</f><v>{v}.5</v></c>'
)
ODD = (
    PLAIN.replace('t="s"', 't="e"').replace("{s}", "#N/A"),
    PLAIN.replace("<v>{v}.5</v>", ""),
    PLAIN.replace("<f>B{n}*2</f>", "<f>SUM(D2:D4)</f>"),
    PLAIN.replace("{v}", "1234567890123456"),
    PLAIN.replace("{v}", "x"),
    PLAIN.replace("{s}", "99"),
    '<c r="A{n}" t="s"><v>3</v></c>',
    '<c r="A{n}" t="s"><v>{s}</v></c><c r="C{n}"><v>{v}</v></c><c r="F{n}" t="b"><v>1</v></c>',
    '<c r="A{n}" t="s"><v>4</v></c>',
    text_cell("A{n}", "Total") + '<c r="D{n}"><v>{v}</v></c>',
    text_cell("A{n}", "a") + text_cell("B{n}", "b") + text_cell("D{n}", "d"),
    "",
)
"""The cells of rows among which are errors, sums, the header once more, blanks, what stands beside the list."""


@pytest.mark.long
@settings(max_examples=60, deadline=None)
@given(
    runs=st.lists(st.tuples(st.integers(0, 9), st.sampled_from(ODD), st.integers(-3, 60_000)), max_size=6),
    gap=st.sampled_from([0, 0, 1]),
    mark=st.sampled_from(["", "", ' hidden="1"']),
    after=st.sampled_from(["", "", '<mergeCells><mergeCell ref="A3:A5"/></mergeCells>', '<autoFilter ref="A1:D9"/>']),
    hidden=st.sampled_from(["include", "skip"]),
    strings=st.integers(1, 6),
    as_shown=st.booleans(),
)
def test_rows_that_are_read_together_say_what_they_say_alone(
    runs: list[tuple[int, str, int]], gap: int, mark: str, after: str, hidden: str, strings: int, as_shown: bool
) -> None:
    """A list of alike rows with others among them: what the parser's way finds of it, row by row and as a whole."""
    rows, number = text_row(1, "a", "b", "", "d"), 1
    for times, odd, value in runs:
        for cells in (*[PLAIN] * times, odd):
            number += 1 + gap * (cells is odd)
            attributes = mark if cells is odd else ""
            inside = cells.format(n=number, s=number % strings, v=value + number)
            rows += f'<row r="{number}"{attributes}>{inside}</row>'
    texts = "".join(f"<si><t>{text}</t></si>" for text in ("x", "y &amp; z", "_x0041_", "  ", "a", "r/1"))
    reading = Reading(header_row=1, hidden=hidden, merged="fill", as_shown=as_shown)
    found = []
    with tempfile.TemporaryDirectory() as name:
        for odd in ("", "<!-- so that the parser reads it -->"):
            part = Tab(rows=rows, after=after).part.replace(b"<sheetData>", f"{odd}<sheetData>".encode())
            path = Path(name) / "a.xlsx"
            write_workbook(path, {"A": Tab(whole=part)}, strings=texts, formats=("dd/mm/yyyy", '0.00 "kg"'))
            with opened(path, reading) as sheet:
                every = [*sheet.rows(), *sheet.typed_rows(range(sheet.width))]
                seen = (sheet.width, sheet.row_count, sheet.strays, sheet.sums, sheet.formulas, sheet.last_data_row)
                found.append((every, *seen, sheet.notes, sheet.describe_formats(), sheet.volatile_columns()))
    assert found[0] == found[1]


def test_totals_and_headers_that_come_many_at_once_are_none_of_the_list(tmp_path: Path) -> None:
    """Six sums below one another, then six header rows once more, below rows that look like them."""
    row = '<row r="{n}"><c r="A{n}" t="s"><v>{s}</v></c>{b}<c r="C{n}" t="s"><v>{t}</v></c></row>'
    amount, text = '<c r="B{n}"><f>{f}</f><v>5</v></c>', '<c r="B{n}" t="s"><v>2</v></c>'
    rows = text_row(1, "a", "b", "c")
    for n in range(2, 18):
        rows += row.format(n=n, s=0, t=0, b=amount.format(n=n, f=f"A{n}*2" if n < 12 else "SUM(B2:B11)"))
    for n in range(18, 24):
        rows += row.format(n=n, s=1, t=3, b=text.format(n=n))
    strings = "".join(f"<si><t>{text}</t></si>" for text in "xabc")
    write_workbook(tmp_path / "a.xlsx", {"S": Tab(rows=rows)}, strings=strings)
    with opened(tmp_path / "a.xlsx", Reading(header_row=1)) as sheet:
        kinds = [row.kind for row in sheet.rows()]
    assert kinds == [RowKind.HEADER] + [RowKind.DATA] * 10 + [RowKind.TOTALS] * 6 + [RowKind.REPEATED] * 6
