"""Reading CSV and TSV files: rows, headers, and what refuses a file. Each test's docstring is its claim."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from csvfiles import headers_of, kinds_of, sheet_of, texts_of

from batch_runner.errors import SheetError
from batch_runner.sheet.csv.reader import open_csv
from batch_runner.sheet.model import Reading, RowKind, refuse_ambiguity

if TYPE_CHECKING:
    from pathlib import Path

ABOVE, HEADER, DATA, EMPTY = RowKind.ABOVE, RowKind.HEADER, RowKind.DATA, RowKind.EMPTY


def refusal(folder: Path, content: bytes | str, name: str = "list.csv", reading: Reading | None = None) -> str:
    """Why a file is refused of which all columns are wanted."""
    with pytest.raises(SheetError) as refused, sheet_of(folder, content, name, reading) as sheet:
        refuse_ambiguity(sheet, sheet.columns, sheet.strays)
    return str(refused.value)


def test_fields_are_text_to_the_letter(tmp_path: Path) -> None:
    """Nothing is guessed at: zeros, exponents, booleans, spaces and dates stay as they stand."""
    with sheet_of(tmp_path, "Id,Amount, Note \n007,1.10, x \n1E5,TRUE,2026-02-28\n") as sheet:
        assert headers_of(sheet) == ["Id", "Amount", " Note "]
        assert texts_of(sheet) == [("007", "1.10", " x "), ("1E5", "TRUE", "2026-02-28")]
        assert [column.letter for column in sheet.columns] == ["A", "B", "C"]
        assert (sheet.row_count, sheet.width, sheet.header_row, sheet.notes) == (2, 3, 1, ())


def test_rows_of_no_text_keep_their_place(tmp_path: Path) -> None:
    """Blank lines, lines of delimiters and of blanks are EMPTY rows with numbers of their own."""
    with sheet_of(tmp_path, 'a,b\n1,2\n\n,,\n" ",""\n3,4\n\n,\n') as sheet:
        assert kinds_of(sheet) == [(1, HEADER), (2, DATA), (3, EMPTY), (4, EMPTY), (5, EMPTY), (6, DATA)]
        assert sheet.row_count == 2
        assert {len(row.texts) for row in sheet.rows()} == {2}


def test_a_record_of_many_lines_is_one_row(tmp_path: Path) -> None:
    """A row's number is the place of its record, not of its line; quoted line ends stay as they are."""
    with sheet_of(tmp_path, 'a,b\r\n"1\r\n\n2\r",x\r\n3,"say ""no"""\r\n') as sheet:
        assert [(row.number, row.texts) for row in sheet.rows()][1:] == [
            (2, ("1\r\n\n2\r", "x")),
            (3, ("3", 'say "no"')),
        ]


def test_stray_quotes_are_text(tmp_path: Path) -> None:
    """A quote inside an unquoted field is a character, and what follows a closing quote belongs to the field."""
    with sheet_of(tmp_path, 'a,b\n5" pipe,x\n"y"z"w,2\n') as sheet:
        assert texts_of(sheet) == [('5" pipe', "x"), ('yz"w', "2")]


def test_short_records_are_filled_up(tmp_path: Path) -> None:
    """A record shorter than the header has empty cells at its end."""
    with sheet_of(tmp_path, "a,b,c\n1\n1,2\n") as sheet:
        assert texts_of(sheet) == [("1", "", ""), ("1", "2", "")]


def test_trailing_delimiters_widen_nothing(tmp_path: Path) -> None:
    """Fields beyond the last header that are empty everywhere are no columns."""
    with sheet_of(tmp_path, "a,b,,\n1,2,,,,\n3,4\n") as sheet:
        assert (headers_of(sheet), sheet.width) == (["a", "b"], 2)
        assert texts_of(sheet) == [("1", "2"), ("3", "4")]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_any_line_end_will_do(tmp_path: Path, end: str) -> None:
    """LF, CR LF and CR alone end a record, and the last one may have none."""
    with sheet_of(tmp_path, end.join(["a,b", "1,2", "3,4"])) as sheet:
        assert texts_of(sheet) == [("1", "2"), ("3", "4")]


def test_a_nul_is_a_character(tmp_path: Path) -> None:
    """A NUL in a text file in UTF-8 stays in its cell."""
    with sheet_of(tmp_path, "a,b\n1\0,2\n") as sheet:
        assert texts_of(sheet) == [("1\0", "2")]


def test_a_very_long_field_is_read(tmp_path: Path) -> None:
    """Neither the stdlib's limit of 131,072 characters nor a line's length cuts or refuses a field."""
    long = "x" * 3_000_000
    with sheet_of(tmp_path, f'a,b\n"{long}",1\n{long},2\n') as sheet:
        assert texts_of(sheet) == [(long, "1"), (long, "2")]


def test_only_a_header_is_a_sheet_of_no_rows(tmp_path: Path) -> None:
    """A header row with nothing under it is fine."""
    with sheet_of(tmp_path, "File Name,Operation") as sheet:
        assert (sheet.row_count, headers_of(sheet)) == (0, ["File Name", "Operation"])


@pytest.mark.long
def test_rows_can_be_read_twice_at_once(tmp_path: Path) -> None:
    """Two readers of one sheet don't move each other's place."""
    lines = "".join(f"{number},x\n" for number in range(200_000))
    with sheet_of(tmp_path, f"a,b\n{lines}") as sheet:
        assert all(one == other for one, other in zip(sheet.rows(), sheet.rows(), strict=True))


@pytest.mark.long
def test_rows_can_be_read_in_threads(tmp_path: Path) -> None:
    """Nor do readers in several threads."""
    lines = "".join(f"{number},{'x' * 50}\n" for number in range(100_000))
    with sheet_of(tmp_path, f"a,b\n{lines}") as sheet, ThreadPoolExecutor(4) as pool:
        sums = pool.map(lambda _turn: sum(int(texts[0]) for texts in texts_of(sheet)), range(4))
        assert list(sums) == [sum(range(100_000))] * 4


def test_later_edits_change_nothing(tmp_path: Path) -> None:
    """What is read is the file as it was when it was opened."""
    with sheet_of(tmp_path, "a,b\n1,2\n") as sheet:
        (tmp_path / "list.csv").write_text("b,a\n9,9\n9,9\n")
        assert texts_of(sheet) == [("1", "2")]


def test_a_title_block_is_passed_over(tmp_path: Path) -> None:
    """The header is the first row as wide as the data; what stands above it takes no part."""
    with sheet_of(tmp_path, "Invoices 2026\nPrinted by,ACME\n\nId,File,Amount\n1,a.pdf,5\n2,b.pdf,6\n") as sheet:
        assert (sheet.header_row, sheet.row_count) == (4, 2)
        assert kinds_of(sheet)[:4] == [(1, ABOVE), (2, ABOVE), (3, EMPTY), (4, HEADER)]
        assert sheet.notes == ()


def test_one_longer_row_is_no_header(tmp_path: Path) -> None:
    """A single row longer than the header is refused by name: taken for a header it would hide the rows above it."""
    content = "Id,File,Op\nx,a.pdf,y\nx,b.pdf,y\nx,c.pdf,y,oops\nx,d.pdf,y\n"
    assert refusal(tmp_path, content).startswith("list.csv, D1 and D4: there is text under an empty header")


def test_the_header_row_can_be_said(tmp_path: Path) -> None:
    """--header-row is the word of the person; a row that isn't there, or is empty, is refused."""
    content = "a,b\nc,d\n\n1,2\n"
    with sheet_of(tmp_path, content, reading=Reading(header_row=2)) as sheet:
        assert (headers_of(sheet), texts_of(sheet), sheet.notes) == (["c", "d"], [("1", "2")], ())
    for row in (0, -1, 3, 5, 10**6):
        assert f"there is nothing in row {row}; " in refusal(tmp_path, content, reading=Reading(header_row=row))


def test_equal_headers_are_refused(tmp_path: Path) -> None:
    """Two equal headers are named by their cells; those that differ in case are two."""
    assert refusal(tmp_path, "a,b,a\n1,2,3\n").startswith("list.csv, A1 and C1: two headers are 'a'; ")
    with sheet_of(tmp_path, "a,A\n1,2\n") as sheet:
        assert headers_of(sheet) == ["a", "A"]


@pytest.mark.parametrize("content", ["a,,c\n1,,3\n1,x,3\n", 'a,,c\n"1",,3\n"1",x,3\n', "a,,c\n1,,3\n,x\n"])
def test_data_under_an_empty_header_is_refused(tmp_path: Path, content: str) -> None:
    """The empty header and the first cell under it are named."""
    assert refusal(tmp_path, content).startswith("list.csv, B1 and B3: there is text under an empty header; ")


@pytest.mark.parametrize(
    "content", ["Id,Amount,\na,1.5,z\nb,2,y\nc,3,x\n", "Id,Amount\na,1.5,z\n", "Id,Name\na,b,c\nd,e,f\n"]
)
def test_data_right_of_the_last_header_is_refused(tmp_path: Path, content: str) -> None:
    """In every row of data, too: the first of them is not taken for the header."""
    assert refusal(tmp_path, content).startswith("list.csv, C1 and C2: there is text under an empty header; ")


@pytest.mark.parametrize("row", ["1,2,3", "1,2,,3,", '1,"2,2",3', '1,2,"3\n"'])
def test_text_beyond_the_last_header_is_refused(tmp_path: Path, row: str) -> None:
    """A record with text beyond the header names the cells too, quoted or not."""
    said = refusal(tmp_path, f"a,b\n1,2\n1,2\n{row}\n")
    assert said.startswith(("list.csv, C1 and C4: there is text", "list.csv, D1 and D4: there is text"))


def test_delimiters_in_quotes_are_no_extra_fields(tmp_path: Path) -> None:
    """Quoted delimiters don't make a record long."""
    with sheet_of(tmp_path, 'a,b\n"1,1,1","2,,"\n') as sheet:
        assert texts_of(sheet) == [("1,1,1", "2,,")]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('a,b\n1,"2\n3,4\n', 2),
        ('a,b\n"1\n1",2\n1,"2\n""\n5', 4),
        ('"a,b\n1,2\n', 1),
        ('a,b\n1,"x\ny",2\n3,"x"",\n\n\n', 4),
        ('sep=,\na,b\n1,"2\n', 3),
        ('a,b\r1,2\r"x\r', 3),
    ],
)
def test_an_open_quote_is_named_with_its_line(tmp_path: Path, content: str, line: int) -> None:
    """A quote that never closes is refused with the line that it opens in, as a text editor counts."""
    assert refusal(tmp_path, content).startswith(f"list.csv: the quote that opens in line {line} never closes; ")


@pytest.mark.long
def test_an_open_quote_does_not_swallow_a_big_file(tmp_path: Path) -> None:
    """A quote counts as open after 16 million characters: memory stays small, and the answer is quick."""
    content = b'a,b\n1,"2\n' + b"3,4,some text\n" * 1_500_000
    assert "opens in line 2 never" in refusal(tmp_path, content)


def test_a_text_file_has_no_sheets(tmp_path: Path) -> None:
    """--sheet with a text file is refused, not passed over."""
    assert "leave out --sheet" in refusal(tmp_path, "a,b\n1,2\n", reading=Reading(sheet="Sheet1"))


def test_a_line_that_no_table_has_is_refused(tmp_path: Path) -> None:
    """A file that is one endless line is refused without being taken into memory."""
    assert "a line is longer than" in refusal(tmp_path, b"a,b\n1," + b"x" * 20_000_000)


def test_what_is_no_sheet_gets_a_sentence(tmp_path: Path) -> None:
    """Empty, blank, binary, workbook, folder, missing: one sentence each, with the file's name."""
    assert "is empty" in refusal(tmp_path, b"")
    assert "is empty" in refusal(tmp_path, b"\n\r\n,,\n")
    assert "is empty" in refusal(tmp_path, b"\xef\xbb\xbf")
    assert "not a text file" in refusal(tmp_path, bytes(range(256)) * 9)
    assert "not a text file" in refusal(tmp_path, bytes(4096))
    assert "not a text file" in refusal(tmp_path, b"%PDF-1.7 text and more")
    assert "this is a workbook" in refusal(tmp_path, b"PK\x03\x04" + b"x" * 99)
    for name in (".", "missing.csv"):
        with pytest.raises(SheetError, match=r"not a file|no such file"):
            open_csv(tmp_path / name, Reading(), tmp_path)
