"""Rows of a CSV file that aren't data, fields that mean another text, quotes that quote nothing, no headers at all."""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

import pytest
from csvfiles import OURS, appended, headers_of, kinds_of, sheet_of, texts_of

from batch_runner.errors import SheetError
from batch_runner.sheet.export import open_written
from batch_runner.sheet.model import Reading, RowKind

if TYPE_CHECKING:
    from pathlib import Path

REPEATED = RowKind.REPEATED


@pytest.mark.parametrize(
    "again", ["No,Date,Name", '"No","Date","Name"', "\ufeffNo,Date,Name", "No,Date,Name,,", "No ,Date"]
)
def test_the_header_row_once_more_is_no_row(tmp_path: Path, again: str) -> None:
    """A list that has its headers on each page: named, kept in place, not run, nor in an output."""
    with sheet_of(tmp_path, f"No,Date,Name\n3,x,A\n{again}\n1,y,Name\n{again}\n") as sheet:
        assert [number for number, kind in kinds_of(sheet) if kind is REPEATED] == [3, 5]
        assert sheet.row_count == 2
        assert sheet.notes == ("list.csv: not run, since it is the header row once more: rows 3, 5",)
        written, _notes = appended(sheet, {2: ("r1", "success", "{}", ""), 4: ("r2", "success", "{}", "")})
        (tmp_path / "out.csv").write_bytes(written)
        with open_written(tmp_path / "out.csv", sheet) as back:
            assert kinds_of(back) == kinds_of(sheet)
    with sheet_of(tmp_path, written) as back:
        assert [number for number, kind in kinds_of(back) if kind is REPEATED] == [3, 5]


def test_a_row_with_one_header_in_it_is_data(tmp_path: Path) -> None:
    """A vendor may be called as the column is; only a row that says nothing else is no row."""
    with sheet_of(tmp_path, "No,Vendor\n7,No\n1,Vendor\n") as sheet:
        assert texts_of(sheet) == [("7", "No"), ("1", "Vendor")]


@pytest.mark.parametrize(
    ("field", "text"),
    [('="00123"', "00123"), ('"=""00123"""', "00123"), ('"=""a """"b"""', 'a "b'), ('""', ""), ('="a', '="a')],
)
def test_a_field_that_excel_must_take_for_text_is_its_text(tmp_path: Path, field: str, text: str) -> None:
    """`="00123"` is how programs keep its zeros: sent as 00123 with a note, to the letter with --as-shown."""
    content = f"Zip,Name\n{field},x\n"
    with sheet_of(tmp_path, content) as sheet:
        assert texts_of(sheet) == [(text, "x")]
        assert [row.former for row in sheet.rows()][1] == (
            {0: next(csv.reader([field]))[0]} if text not in ("", '="a') else None
        )
        assert bool(sheet.notes) is (text not in ("", '="a'))
        written, _notes = appended(sheet, {2: ("r1", "success", "{}", "")})
        assert written.decode().splitlines()[1] == f"{field},x,r1,success,{{}},"
        (tmp_path / "out.csv").write_bytes(written)
        with open_written(tmp_path / "out.csv", sheet) as back:
            assert texts_of(back)[0][0] == text
    with sheet_of(tmp_path, content, reading=Reading(as_shown=True)) as sheet:
        assert texts_of(sheet)[0][0] == next(csv.reader([field]))[0]
        assert sheet.notes == ()


def test_headers_are_unwrapped_too(tmp_path: Path) -> None:
    """A program that writes all texts so writes its headers so."""
    with sheet_of(tmp_path, '="Zip",="Name"\n="00123",="x"\n') as sheet:
        assert headers_of(sheet) == ["Zip", "Name"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('Id, Name\n1, "Smith, John"\n', "row 2: a quote that follows a blank quotes nothing"),
        ('Id, Name, Tax\n0,a,b\n1, "Smith, John"\n', "row 3: a quote that follows a blank quotes nothing"),
        ('Id,Text\n1,"say \\"ok\\", or no"\n', 'row 2: a quote inside a text is written as \\"'),
        ('Id,Text,Tax\n1,"say \\"ok, paid\\""\n', 'row 2: a quote inside a text is written as \\"'),
    ],
)
def test_quotes_that_quote_nothing_are_refused(tmp_path: Path, content: str, said: str) -> None:
    """Else a delimiter in such a text would move the fields behind it, or one would be sent in two."""
    with pytest.raises(SheetError) as refused:
        sheet_of(tmp_path, content, reading=Reading(delimiter="comma"))
    assert said in str(refused.value)


@pytest.mark.parametrize("content", ['a,b\n"{""p"": ""C:\\\\""}",x\n', 'a,b\n"C:\\",x\n', 'a,b\n5 "x" y,z\n'])
def test_backslashes_and_blanks_in_order_are_no_trouble(tmp_path: Path, content: str) -> None:
    """JSON with a path, a path that ends in a backslash, quotes within a text."""
    with sheet_of(tmp_path, content, reading=Reading(header_row=1)) as sheet:
        assert sheet.row_count == 1


def test_a_line_break_without_quotes_makes_no_two_rows(tmp_path: Path) -> None:
    """Where lines end in CR LF, a LF alone is in doubt: two halves that make a whole row are refused by number."""
    with pytest.raises(SheetError, match=r"list\.csv, row 4: it looks like the rest of the row before it"):
        sheet_of(tmp_path, "Id,Text,Amount\r\n1,a,1.00\r\n2,line one\nline two,5.00\r\n3,b,6.00\r\n")
    with sheet_of(tmp_path, "Id,Text,Amount\r\n1,a,1.00\n2,b,5.00\n3,c,6.00\r\n") as sheet:
        assert sheet.row_count == 3


def test_a_last_row_without_a_line_end_is_named(tmp_path: Path) -> None:
    """It may have been cut off; a file that ends with a line says nothing."""
    with sheet_of(tmp_path, "Key,Amount\nA,1000.00\nC,12") as sheet:
        assert sheet.notes == (
            "list.csv: the last row, 3, has no line end; if the file was cut off, that row isn't whole",
        )
    with sheet_of(tmp_path, "Key,Amount\nA,1000.00\n") as sheet:
        assert sheet.notes == ()


def test_without_headers_the_columns_have_letters(tmp_path: Path) -> None:
    """All rows are data, as wide as the widest of them; the output has no headers either, and reads back."""
    reading = Reading(no_header=True)
    with sheet_of(tmp_path, "A-1,10.50\n\nA-2,20.00,late,,\n", reading=reading) as sheet:
        assert (sheet.header_row, headers_of(sheet)) == (0, ["A", "B", "C"])
        assert texts_of(sheet) == [("A-1", "10.50", ""), ("A-2", "20.00", "late")]
        written, _notes = appended(sheet, {1: ("r1", "success", "{}", ""), 3: ("r2", "success", "{}", "")})
        (tmp_path / "out.csv").write_bytes(written)
        with open_written(tmp_path / "out.csv", sheet) as back:
            assert kinds_of(back) == kinds_of(sheet)
            assert texts_of(back)[0][:5] == ("A-1", "10.50", "", "", "")
    assert written.decode() == "A-1,10.50,,,,r1,success,{},\n\nA-2,20.00,late,,,r2,success,{},\n"
    assert OURS[0] not in written.decode()


@pytest.mark.parametrize(
    ("field", "is_total"),
    [
        ("=SUM(C2:C3)", True),
        ('"=SUBTOTAL(9;C2:C3)"', True),
        ("=SUM(A4:B4)", False),
        ("=SUM(B2:B3)", False),
        ("see =SUM(C2:C3)", False),
    ],
)
def test_a_formula_over_the_column_above_makes_a_total(tmp_path: Path, field: str, is_total: bool) -> None:
    """As in a workbook: its row is never run, and a note names it."""
    content = f"No,Vendor,Net\nA-1,V,1.00\nA-2,W,2.00\n,X,{field}\n"
    with sheet_of(tmp_path, content, reading=Reading(delimiter=",")) as sheet:
        assert sheet.row_count == 3 - is_total
        assert [row.kind for row in sheet.rows()][3] is (RowKind.TOTALS if is_total else RowKind.DATA)
        assert any("it adds up its column: row 4" in note for note in sheet.notes) is is_total
