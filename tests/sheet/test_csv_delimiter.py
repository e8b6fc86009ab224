"""What divides a CSV file's fields: found by the table that it makes, refused where another would make one as well."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from csvfiles import OURS, appended, headers_of, sheet_of, texts_of
from hypothesis import given
from hypothesis import strategies as st

from batch_runner.errors import SheetError
from batch_runner.sheet.csv.records import CANDIDATES, find_dialect
from batch_runner.sheet.model import Reading

if TYPE_CHECKING:
    from pathlib import Path

BANK = """;
"Umsätze Girokonto";"Zeitraum: 30 Tage";
"Neuer Kontostand";"1.234,56 EUR";

"Buchungstag";"Vorgang";"Buchungstext";"Umsatz in EUR";
"17.08.2026";"Lastschrift";" Buchungstext: RE-1, RE-2";"-10,00";
"16.08.2026";"Lastschrift";" Buchungstext: RE-3";"-20,00";
"""


@pytest.mark.parametrize(
    ("content", "headers", "rows"),
    [
        ("Vendor, City;Amount\nACME;1,50\nBETA;2,30\n", ["Vendor, City", "Amount"], 2),
        ("Nr;Netto;Brutto\n1;10,00;11,90\n2;20,00;23,80\n3;30,00;35,70;\n", ["Nr", "Netto", "Brutto"], 3),
        ("Nr;Netto;Brutto;\n1;10,00;11,90;\n2;20,00;23,80;\n", ["Nr", "Netto", "Brutto"], 2),
        (BANK, ["Buchungstag", "Vorgang", "Buchungstext", "Umsatz in EUR"], 2),
        ("Report, May\nA;B\nx;1\ny;2\n", ["A", "B"], 2),
        ("Name;Tags\nx;a,b,c\ny;d,e,f\nz;g,h,i\n", ["Name", "Tags"], 3),
        ("Id,Tags,Note\n1,a|b|c,x\n2,d|e|f,y\n", ["Id", "Tags", "Note"], 2),
        ('Id,Text\n1,"a;b;c;d"\n2,"e;f;g;h"\n', ["Id", "Text"], 2),
        ('"Id";"Text"\n"1";"a, b"\n"2";"c, d"\n', ["Id", "Text"], 2),
        ("Id\tText, or so\n1\ta, b\n2\tc; d\n", ["Id", "Text, or so"], 2),
        ("Invoices 2026\nFile,Amount\na.pdf,5\nb.pdf,6\n", ["File", "Amount"], 2),
        ("Invoices 2026,,\n,,\nFile,Vendor,Note\na,b,c\nd,e,f\n", ["File", "Vendor", "Note"], 2),
        ("Datum;Betrag\n01.02.2026;1.234,50\n02.02.2026;17,00\n", ["Datum", "Betrag"], 2),
        ("A;B\n1,5;2,5\n", ["A", "B"], 1),
    ],
)
def test_the_delimiter_divides_header_and_rows(tmp_path: Path, content: str, headers: list[str], rows: int) -> None:
    """Commas in headers, decimals, lists and texts are none; preambles and delimiters at the end don't mislead."""
    with sheet_of(tmp_path, content) as sheet:
        assert (headers_of(sheet), sheet.row_count) == (headers, rows)


@pytest.mark.parametrize(
    "content",
    [
        "File Name\ninvoice, 1.pdf\ninvoice, 2.pdf\ninvoice, 3.pdf\n",
        "Amount\n1,50\n2,30\n17,00\n",
        "Note\nred, green\nblue\nwhite, black, grey\n",
        "Address\n1 Main St, Springfield, IL\n2 Oak St, Shelbyville, IL\n3 Elm St, Capital City, IL\n",
        "Name\nBauer\nMoreau; Cie\nWeber\nSmith\n",
        "File Name\na.pdf\nb.pdf\n",
        '"File Name"\n"a, b.pdf"\n',
    ],
)
def test_one_column_is_a_candidate(tmp_path: Path, content: str) -> None:
    """A delimiter in some texts of a column whose header doesn't hold it divides nothing; no row is lost."""
    with sheet_of(tmp_path, content) as sheet:
        assert len(headers_of(sheet)) == 1
        assert [texts[0] for texts in texts_of(sheet)] == [line.strip('"') for line in content.splitlines()[1:]]


def test_one_column_keeps_apart_from_ours(tmp_path: Path) -> None:
    """Our columns are set off by what none of its texts holds, and the output is read again by itself."""
    lines = "".join(f"invoice, {number}.pdf\n" for number in range(9000))
    with sheet_of(tmp_path, f"File Name\n{lines}a;b, c.pdf\n") as sheet:
        done = dict.fromkeys([row.number for row in sheet.rows()][1:], ("r1", "success", '{"a": 1, "b": "x;y"}', ""))
        written, _notes = appended(sheet, done)
    with sheet_of(tmp_path, written) as again:
        assert headers_of(again) == ["File Name", *OURS]
        assert texts_of(again)[-1] == ("a;b, c.pdf", "r1", "success", '{"a": 1, "b": "x;y"}', "")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("City\nParis,France\nRome,Italy\n", ("comma", "none")),
        ("Tags\nred,green,blue\nbig,small,tiny\n", ("comma", "none")),
        ("Tags\nred, green, blue\nbig, small, tiny\n", ("comma", "none")),
        ("a,b;c\nx,y;z\n", ("comma", "semicolon")),
        ("a|b;c\nx|y;z\n", ("pipe", "semicolon")),
    ],
)
def test_two_that_come_close_are_refused(tmp_path: Path, content: str, words: tuple[str, str]) -> None:
    """Both are named with what to say, and each of them, said, is obeyed."""
    with pytest.raises(SheetError) as refused:
        sheet_of(tmp_path, content)
    assert "it isn't certain what divides the fields" in str(refused.value)
    for word in words:
        assert f"--delimiter {word}" in str(refused.value)
        with sheet_of(tmp_path, content, reading=Reading(delimiter=word)) as sheet:
            assert (len(headers_of(sheet)) > 1) is (word != "none")


def test_none_can_be_said_and_an_output_be_read_all_the_same(tmp_path: Path) -> None:
    """--delimiter none leaves each line whole; an output of that, read again with it, has its columns."""
    reading = Reading(delimiter="none")
    with sheet_of(tmp_path, "City\nParis,France\nRome,Italy\n", reading=reading) as sheet:
        assert texts_of(sheet) == [("Paris,France",), ("Rome,Italy",)]
        written, _notes = appended(sheet, {2: ("r1", "success", "{}", "")})
    for again in (reading, None):
        with sheet_of(tmp_path, written, reading=again) as back:
            assert headers_of(back) == ["City", *OURS]


def test_a_word_of_a_person_counts_more(tmp_path: Path) -> None:
    """What was said is no candidate among others."""
    with sheet_of(tmp_path, "a,b;c\n1,2;3\n", reading=Reading(delimiter="comma")) as sheet:
        assert headers_of(sheet) == ["a", "b;c"]


@given(
    st.sampled_from(CANDIDATES),
    st.lists(st.sampled_from(["Id", "Vendor", "Net amount", "Paid on", "Note"]), min_size=2, max_size=5, unique=True),
    st.lists(st.sampled_from(["x", "a b", "1", "17.50", "1 234", "2026-01-31", "", "Müller"]), min_size=5, max_size=40),
)
def test_a_plain_table_is_never_misread(delimiter: str, headers: list[str], cells: list[str]) -> None:
    """Whatever its cells are, as long as they hold no delimiter: the one that divides is found."""
    width = len(headers)
    rows = [cells[place : place + width] for place in range(0, len(cells) - width + 1, width)]
    text = "".join(delimiter.join(row) + "\n" for row in [headers, *rows])
    found = find_dialect(text, "list.csv", None)
    assert found is not None
    assert found.delimiter == delimiter


@given(st.sampled_from(CANDIDATES), st.integers(1, 4), st.booleans())
def test_an_output_says_its_delimiter(delimiter: str, width: int, all_quoted: bool) -> None:
    """Our own headers tell what divides them, also once a spreadsheet has put all into quotes: no night misreads it."""
    names = [*(f"Column, {number}; or so" for number in range(width)), *OURS]
    header = delimiter.join(f'"{name}"' if all_quoted or delimiter in name else name for name in names)
    found = find_dialect(f"{header}\n", "list.csv", None)
    assert found is not None
    assert found.delimiter == delimiter
