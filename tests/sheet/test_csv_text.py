"""What is text in a CSV file and what isn't: damaged bytes, pages saved as tables, marks, ends, and lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from csvfiles import appended, headers_of, sheet_of, texts_of

from batch_runner.errors import SheetError
from batch_runner.sheet.model import Reading

if TYPE_CHECKING:
    from pathlib import Path

ROWS = "Id,Name\r\n1,Müller\r\n2,Bäcker & Söhne\r\n"


def refusal(folder: Path, content: bytes | str) -> str:
    with pytest.raises(SheetError) as refused:
        sheet_of(folder, content)
    return str(refused.value)


@pytest.mark.parametrize(
    ("bad", "where"),
    [
        (b"3,Caf\xe9\r\n", "line 4, byte 6 (0xE9)"),
        (b"3,x\r\n\xff,y\r\n", "line 5, byte 1 (0xFF)"),
        (b"3,M\xc3", "line 4, byte 4 (0xC3)"),
        ("3,ü".encode() + b"\x80\r\n", "line 4, byte 5 (0x80)"),
    ],
)
def test_utf_8_with_a_few_bad_bytes_is_refused(tmp_path: Path, bad: bytes, where: str) -> None:
    """The first one is named by line and byte: read as Windows-1252, all other letters would be sent wrong."""
    assert refusal(tmp_path, ROWS.encode() + bad).startswith(f"list.csv: {where} is not UTF-8")
    assert where in refusal(tmp_path, b"\xef\xbb\xbf" + ROWS.encode() + bad)


@pytest.mark.parametrize("mark", [b"\xef\xbb\xbf" * 2, b"\xff\xfe\xff\xfe"])
def test_a_second_mark_is_no_part_of_a_header(tmp_path: Path, mark: bytes) -> None:
    """What joins files that have a mark each puts two before the first header: its name is what is seen."""
    encoding = "utf-8" if mark[0] == 0xEF else "utf-16-le"
    with sheet_of(tmp_path, mark + ROWS.encode(encoding)) as sheet:
        assert headers_of(sheet) == ["Id", "Name"]


def test_a_bad_byte_far_down_is_found(tmp_path: Path) -> None:
    """Not only at the file's beginning."""
    assert "line 50003, byte 3 (0xFC)" in refusal(tmp_path, "a,ö\n".encode() * 50_002 + b"b,\xfc\n")


def test_windows_1252_that_looks_like_utf_8_in_a_place_is_none(tmp_path: Path) -> None:
    """A capital letter before a dash happens to be UTF-8; the file's other letters say what it is."""
    rows = "".join(f"{number},Jürgen Größe\n" for number in range(50))
    with sheet_of(tmp_path, f"Id,Name\n{rows}99,CAFÉ–BAR\n".encode("cp1252")) as sheet:
        assert texts_of(sheet)[-1] == ("99", "CAFÉ–BAR")
        assert sheet.cautions == (
            "list.csv was read as Windows-1252; if letters look wrong, name its encoding with --encoding",
        )


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>\n", "a web page"),
        ("\ufeff\n  <html lang=de>\n<body>Login, please; or else</body>\n", "a web page"),
        ("<?xml version='1.0'?>\n<Error><Code>AccessDenied</Code></Error>\n", "a web page or XML"),
        ("<Error><Code>AccessDenied</Code><Message>no, no</Message></Error>", "a web page or XML"),
        ('{"error": "unauthorized", "code": 401}\n', "JSON"),
        ('[{"id": 1, "name": "a"},\n {"id": 2, "name": "b"}]\n', "JSON"),
        ('{"error": "no", "trace": [' + ", ".join(f'"line {number}"' for number in range(9000)) + "]}", "JSON"),
        ("HTTP/1.1 403 Forbidden\nContent-Type: text/plain\n\nno", "the answer of a web server"),
    ],
)
def test_a_page_saved_as_a_table_is_none(tmp_path: Path, content: str, what: str) -> None:
    """A login page or an error under the name of the list is refused, never an empty night."""
    assert refusal(tmp_path, content).startswith(f"list.csv: this is {what}")


@pytest.mark.parametrize(
    "content", ["<DATE>,<OPEN>\n2026-01-01,1\n", "{id},{name}\nx,y\n", "[Id],[Name]\nx,y\n", "<none>;b\nx;y\n"]
)
def test_brackets_alone_make_no_page(tmp_path: Path, content: str) -> None:
    """Headers in brackets are headers (MetaTrader writes `<DATE>`)."""
    with sheet_of(tmp_path, content) as sheet:
        assert sheet.row_count == 1


@pytest.mark.parametrize("content", ["Internal Server Error", "Access denied.\n", "Rate limit exceeded, try again\n"])
def test_a_lone_line_is_no_empty_list(tmp_path: Path, content: str) -> None:
    """A file with text in it is never "nothing to do" by a guess; a list without rows can be said."""
    assert "--header-row 1" in refusal(tmp_path, content)
    with sheet_of(tmp_path, content, reading=Reading(header_row=1)) as sheet:
        assert sheet.row_count == 0


@pytest.mark.parametrize("codec", ["utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"])
def test_wide_encodings_without_a_mark_are_read(tmp_path: Path, codec: str) -> None:
    """By where their NULs stand; never as text full of NULs."""
    with sheet_of(tmp_path, (ROWS + "3,日本\r\n").encode(codec)) as sheet:
        assert headers_of(sheet) == ["Id", "Name"]
        assert texts_of(sheet)[-1] == ("3", "日本")


@pytest.mark.parametrize("codec", ["utf-8", "utf-16-le", "utf-32-be"])
@pytest.mark.parametrize("marks", [1, 2, 3])
def test_a_second_mark_is_no_text(tmp_path: Path, codec: str, marks: int) -> None:
    """However many byte order marks a file begins with, none is part of a header; the output keeps them."""
    content = ("\ufeff" * marks + '"Id, or so",Name\n1,x\n').encode(codec)
    with sheet_of(tmp_path, content) as sheet:
        assert headers_of(sheet) == ["Id, or so", "Name"]
        written, _notes = appended(sheet, {2: ("r",)}, ("run_id",))
    assert written == ("\ufeff" * marks + '"Id, or so",Name,run_id\n1,x,r\n').encode(codec)


def test_a_mark_behind_the_line_that_names_the_delimiter_is_no_text(tmp_path: Path) -> None:
    """Some programs write `sep=;` first and the mark after it."""
    with sheet_of(tmp_path, "sep=;\r\n\ufeffId;Name\r\n1;x\r\n") as sheet:
        assert headers_of(sheet) == ["Id", "Name"]


@pytest.mark.parametrize("tail", [b"\x1a", b"\0", b"\0" * 5000, b"\x1a\r\n", b"\r\n\x1a", b"\x1a\0\0 \r\n\0"])
@pytest.mark.parametrize("end", [b"\r\n", b""])
def test_what_ends_a_text_is_no_row(tmp_path: Path, tail: bytes, end: bytes) -> None:
    """Ctrl-Z and NULs at the end are no row and no part of one; the output has them where they stood."""
    content = b"Id;Name\r\n1;ACME" + end
    with sheet_of(tmp_path, content + tail) as sheet:
        assert texts_of(sheet) == [("1", "ACME")]
        assert [row.number for row in sheet.rows()] == [1, 2]
        written, _notes = appended(sheet, {2: ("r",)}, ("run_id",))
    assert written == b"Id;Name;run_id\r\n1;ACME;r" + end + tail


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-32-be"])
def test_what_ends_a_text_is_found_in_wide_encodings(tmp_path: Path, codec: str) -> None:
    """A Ctrl-Z has as many bytes there as any sign."""
    with sheet_of(tmp_path, "\ufeffId;Name\r\n1;ACME\r\n\x1a".encode(codec)) as sheet:
        assert texts_of(sheet) == [("1", "ACME")]


@pytest.mark.parametrize("end", ["\r\n", "\n"])
@pytest.mark.parametrize("field", ["a\rb", '"a\rb"', "a\r", "\ra", '"a ""x""\r\r"'])
def test_a_lone_cr_is_text_where_lines_end_otherwise(tmp_path: Path, end: str, field: str) -> None:
    """It begins no row of its own; the row keeps its bytes, and what comes behind it its column."""
    content = end.join(["Id,Text,Amount", f"1,{field},5.00", "2,ok,6.00", ""])
    with sheet_of(tmp_path, content) as sheet:
        text = field.strip('"').replace('""', '"') if field[0] == '"' else field
        assert texts_of(sheet) == [("1", text, "5.00"), ("2", "ok", "6.00")]
        assert any("a CR that ends no line, the first in row 2" in note for note in sheet.notes)
        written, _notes = appended(sheet, {2: ("r",), 3: ("s",)}, ("run_id",))
    assert written.decode() == end.join(["Id,Text,Amount,run_id", f"1,{field},5.00,r", "2,ok,6.00,s", ""])


def test_ascii_with_other_results_gets_a_mark(tmp_path: Path) -> None:
    """Excel takes a file without one for its locale's encoding, and would show `日` as three other letters."""
    rows = "".join(f"{number},x\n" for number in range(9000))
    with sheet_of(tmp_path, f"a,b\n{rows}") as sheet:
        written, notes = appended(sheet, {8999: ("日",)}, ("result",))
        plain, _notes = appended(sheet, {8999: ("x",)}, ("result",))
    assert written.startswith(b"\xef\xbb\xbfa,b,result\n")
    assert written.decode("utf-8-sig").splitlines()[8998] == "8997,x,日"
    assert plain.startswith(b"a,b,result\n")
    assert notes == ()


@pytest.mark.parametrize("start", ["\n", "\r\n", "\v", "\u2028", "＝", "＋", "－", "＠"])
def test_formulas_behind_a_line_break_or_in_full_width_are_made_harmless(tmp_path: Path, start: str) -> None:
    """A cell of ours that begins so gets a leading `'`."""
    with sheet_of(tmp_path, "a\n1\n2\n") as sheet:
        written, _notes = appended(sheet, {2: (f"{start}1+1",)}, ("result",))
    with sheet_of(tmp_path, written) as back:
        assert texts_of(back)[0][1] == f"'{start}1+1"
