"""Encodings and delimiters: found as they were measured, said out loud, overruled by the person."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from csvfiles import headers_of, sheet_of, texts_of

from batch_runner.errors import SheetError
from batch_runner.sheet.model import Reading

if TYPE_CHECKING:
    from pathlib import Path

TEXT = "Größe,Name\n1,Zoë\n2,Ørsted\n"


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252"])
def test_encodings_are_found(tmp_path: Path, codec: str) -> None:
    """A byte order mark, UTF-8, UTF-16 without a mark and Windows-1252 are found; a note says so unless it is UTF-8."""
    with sheet_of(tmp_path, TEXT.encode(codec)) as sheet:
        assert headers_of(sheet) == ["Größe", "Name"]
        assert texts_of(sheet) == [("1", "Zoë"), ("2", "Ørsted")]
        assert bool(sheet.notes) is not codec.startswith("utf-8")


def test_a_note_names_the_encoding_that_was_taken(tmp_path: Path) -> None:
    """What isn't plain UTF-8 is said, with the option that overrules it."""
    with sheet_of(tmp_path, TEXT.encode("cp1252")) as sheet:
        assert sheet.notes == (
            "list.csv was read as Windows-1252; if letters look wrong, name its encoding with --encoding",
        )


@pytest.mark.parametrize("codec", ["cp1251", "shift_jis", "gb18030", "mac_roman", "latin-1", "utf-16"])
def test_an_encoding_can_be_said(tmp_path: Path, codec: str) -> None:
    """--encoding takes any codec that gives the file's own bytes back."""
    text = "Имя,b\nЖук,2\n" if codec == "cp1251" else "名,b\n表|,2\n" if codec in {"shift_jis", "gb18030"} else TEXT
    content = text.encode(codec)
    with sheet_of(tmp_path, content, reading=Reading(encoding=codec)) as sheet:
        assert headers_of(sheet) == text.split("\n", maxsplit=1)[0].split(",")
        assert not sheet.notes


def test_a_mark_is_stronger_than_a_word(tmp_path: Path) -> None:
    """A file with a byte order mark is what the mark says: the same command reads an output that had to be in UTF-8."""
    with sheet_of(tmp_path, TEXT.encode("utf-8-sig"), reading=Reading(encoding="cp1252")) as sheet:
        assert headers_of(sheet) == ["Größe", "Name"]


@pytest.mark.parametrize(
    ("content", "encoding", "said"),
    [
        (b"a,b\n\x81\xfe,2\n", None, "not in UTF-8 nor Windows-1252; name its encoding with --encoding"),
        (b"a,b\n\xff,2\n", "utf-8", "the text is not in utf-8"),
        (b"a,b\n1,2\n", "klingon", "no encoding is called 'klingon'"),
        (b"a,b\n1,2\n", "base64", "no encoding is called 'base64'"),
        (b"\xff\xfea\0,\0b\0\n", None, "the text is not in UTF-16-LE"),
        (b"a+AGI-,b\n1,2\n", "utf-7", "the text is not in utf-7"),
    ],
)
def test_a_wrong_encoding_is_refused(tmp_path: Path, content: bytes, encoding: str | None, said: str) -> None:
    """No text is better than wrong text: what the encoding can't be is refused, also deep in the file."""
    with pytest.raises(SheetError, match=said):
        sheet_of(tmp_path, content, reading=Reading(encoding=encoding))


@pytest.mark.parametrize(("delimiter", "label"), [(";", "semicolons"), ("\t", "tabs"), ("|", "pipes")])
def test_delimiters_are_found(tmp_path: Path, delimiter: str, label: str) -> None:
    """The delimiter under which records agree on their width is taken, and said where it isn't a comma."""
    content = f"Id{delimiter}Amount\n1{delimiter}1,50\n2{delimiter}2.000,75\n"
    with sheet_of(tmp_path, content) as sheet:
        assert texts_of(sheet) == [("1", "1,50"), ("2", "2.000,75")]
        assert sheet.notes == (f"list.csv: fields are separated by {label}",)


@pytest.mark.parametrize("word", ["semicolon", ";", "Semicolon"])
def test_a_delimiter_can_be_said(tmp_path: Path, word: str) -> None:
    """--delimiter takes the character or its word, and is not noted."""
    with sheet_of(tmp_path, "a,b;c\n1,2;3\n", reading=Reading(delimiter=word)) as sheet:
        assert (headers_of(sheet), sheet.notes) == (["a,b", "c"], ())


@pytest.mark.parametrize("word", ["tab", "\\t", "\t", "TAB"])
def test_a_tab_can_be_said(tmp_path: Path, word: str) -> None:
    """A shell makes it hard to type a TAB."""
    with sheet_of(tmp_path, "a,b\tc\n1,2\t3\n", reading=Reading(delimiter=word)) as sheet:
        assert headers_of(sheet) == ["a,b", "c"]


@pytest.mark.parametrize("word", ["", "::", '"', "\n", "x"])
def test_what_can_be_no_delimiter_is_refused(tmp_path: Path, word: str) -> None:
    """A delimiter is one character that is no letter, digit, quote or line end."""
    with pytest.raises(SheetError, match="can't be a delimiter"):
        sheet_of(tmp_path, "a,b\n", reading=Reading(delimiter=word))


def test_a_tsv_is_separated_by_tabs(tmp_path: Path) -> None:
    """The ending .tsv says it, whatever looks likelier; one without any TAB is called so by mistake, which is said."""
    with sheet_of(tmp_path, "a,b,c\td\n1,2,3\t4\n", "list.tsv") as sheet:
        assert (headers_of(sheet), sheet.notes) == (["a,b,c", "d"], ())
    with sheet_of(tmp_path, "a,b,c\nx,2,3\n", "list.tsv") as sheet:
        assert headers_of(sheet) == ["a", "b", "c"]
        assert sheet.notes == ("list.tsv: fields are separated by commas",)


@pytest.mark.parametrize(
    "content", ["sep=;\r\na,b;c\n1,2;3\n", "\ufeffSEP=;\na,b;c\n1,2;3\n", '"sep=;"\na,b;c\n1,2;3\n']
)
def test_a_first_line_can_name_the_delimiter(tmp_path: Path, content: str) -> None:
    """`sep=;` is Excel's word for the delimiter; it is no row, and doesn't count as one."""
    with sheet_of(tmp_path, content) as sheet:
        assert (headers_of(sheet), sheet.header_row) == (["a,b", "c"], 1)


def test_one_column_is_a_table(tmp_path: Path) -> None:
    """A file without any delimiter is one column."""
    with sheet_of(tmp_path, "File Name\na.pdf\nb.pdf\n") as sheet:
        assert (texts_of(sheet), sheet.notes) == ([("a.pdf",), ("b.pdf",)], ())


@pytest.mark.parametrize(("word", "note"), [(",", True), ("tab", True), (";", False)])
def test_a_delimiter_that_divides_nothing_is_noted(tmp_path: Path, word: str, note: bool) -> None:
    """A delimiter that was said is obeyed; where it makes one column and another would make more, a note says so."""
    with sheet_of(tmp_path, b"a;b;c\n1;2;3\n", reading=Reading(delimiter=word)) as sheet:
        assert any("semicolons would divide the headers" in sentence for sentence in sheet.notes) is note


def test_one_column_that_was_said_to_be_one_needs_no_note(tmp_path: Path) -> None:
    """Where no delimiter would divide the headers there is nothing to say."""
    with sheet_of(tmp_path, b"Name\nBauer; Moreau\n", reading=Reading(delimiter=",")) as sheet:
        assert not sheet.notes
