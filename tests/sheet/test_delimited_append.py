"""Writing CSV and TSV files back with new columns. Each test's docstring is its claim."""

from __future__ import annotations

import tracemalloc
from typing import TYPE_CHECKING

import pytest
from csvfiles import OURS, appended, headers_of, records_of, sheet_of, texts_of

from batch_runner.sheet.csv.reader import open_csv
from batch_runner.sheet.export import append_columns, open_written
from batch_runner.sheet.model import NewColumns, Reading

if TYPE_CHECKING:
    from pathlib import Path

DONE = ("r1", "success", "{}", "")


def test_new_fields_follow_each_record(tmp_path: Path) -> None:
    """Each record keeps its bytes, quotes that it doesn't need included, and gets the new fields at its end."""
    with sheet_of(tmp_path, '"a",b \n"1", "x"\n"2\r\n",3\n') as sheet:
        written, notes = appended(sheet, {2: DONE, 3: ("r2", "failure", "", "no, not")})
    assert written.decode() == (
        '"a",b ,run_id,status,result,error\n"1", "x",r1,success,{},\n"2\r\n",3,r2,failure,,"no, not"\n'
    )
    assert notes == ()


def test_rows_that_are_not_named_get_empty_fields(tmp_path: Path) -> None:
    """A data row that took no part gets four empty fields; blank lines and title rows stay as they are."""
    with sheet_of(tmp_path, "Title\na,b\n1,2\n\n,\n3,4\n\n") as sheet:
        written, _notes = appended(sheet, {6: DONE})
    assert written.decode() == "Title\na,b,run_id,status,result,error\n1,2,,,,\n\n,\n3,4,r1,success,{},\n\n"


def test_short_records_are_padded(tmp_path: Path) -> None:
    """The new fields stand under their headers: short records are padded up to there."""
    with sheet_of(tmp_path, "a,b,c\n1\n1,2\n1,2,3,,\n") as sheet:
        written, _notes = appended(sheet, {2: DONE, 3: DONE, 4: DONE})
    lines = written.decode().splitlines()
    assert lines[0] == "a,b,c,,,run_id,status,result,error"
    assert lines[1:] == ["1,,,,,r1,success,{},", "1,2,,,,r1,success,{},", "1,2,3,,,r1,success,{},"]


def test_each_record_keeps_its_line_end(tmp_path: Path) -> None:
    """Mixed line ends stay mixed, and a last record without one stays without."""
    with sheet_of(tmp_path, "a,b\r\n1,2\n3,4\r\n5,6") as sheet:
        written, _notes = appended(sheet, {2: ("x", "", "", ""), 4: ("y", "", "", "")})
    assert written.decode() == "a,b,run_id,status,result,error\r\n1,2,x,,,\n3,4,,,,\r\n5,6,y,,,"


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("=1+1", "'=1+1"),
        ("+49 30 1234", "'+49 30 1234"),
        ("-x", "'-x"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\tx", "'\tx"),
        ("\r=x", '"\'\r=x"'),
        ("-5", "-5"),
        ("+1.50", "+1.50"),
        ("-1,5", '"-1,5"'),
        ("-1E5", "-1E5"),
        ("-5-5", "'-5-5"),
        ("x=1", "x=1"),
        ("'quoted'", "'quoted'"),
    ],
)
def test_formulas_are_made_harmless(tmp_path: Path, text: str, field: str) -> None:
    """New text that a spreadsheet would run gets a leading `'`; plain numbers don't."""
    with sheet_of(tmp_path, "a\n1\n") as sheet:
        written, _notes = appended(sheet, {2: (text,)}, ("result",))
    assert written.decode() == f"a,result\n1,{field}\n"


def test_the_persons_own_formulas_stay(tmp_path: Path) -> None:
    """Only what is new is made harmless: the person's own bytes are never altered."""
    with sheet_of(tmp_path, "=a,b\n=1+1,-x\n") as sheet:
        written, _notes = appended(sheet, {2: ("=1",)}, ("result",))
    assert written.decode() == "=a,b,result\n=1+1,-x,'=1\n"


def test_fields_are_quoted_by_the_files_own_dialect(tmp_path: Path) -> None:
    """A comma needs no quotes where the delimiter is a semicolon, and the other way round."""
    with sheet_of(tmp_path, "a;b\n1;2\n") as sheet:
        written, _notes = appended(sheet, {2: ("1,5", 'x;"y"')}, ("p", "q"))
    assert written.decode() == 'a;b;p;q\n1;2;1,5;"x;""y"""\n'


def test_a_first_line_that_names_the_delimiter_stays(tmp_path: Path) -> None:
    """`sep=` stays first, mark included, and doesn't shift the rows."""
    with sheet_of(tmp_path, "\ufeffsep=|\r\na|b\r\n1|2\r\n") as sheet:
        written, _notes = appended(sheet, {2: ("x",)}, ("run_id",))
    assert written.decode() == "\ufeffsep=|\r\na|b|run_id\r\n1|2|x\r\n"


@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "cp1252", "gb18030"])
def test_the_encoding_is_kept(tmp_path: Path, codec: str) -> None:
    """The output is in the input's encoding, with its byte order mark if it had one, where that holds the new text."""
    text = "Größe,b\nä,2\n"
    reading = Reading(encoding=codec) if codec == "gb18030" else None
    with sheet_of(tmp_path, text.encode(codec), reading=reading) as sheet:
        written, notes = appended(sheet, {2: ("é",)}, ("result",))
    assert written == "Größe,b,result\nä,2,é\n".encode(codec)
    assert notes == ()


def test_what_the_encoding_can_not_hold_makes_it_utf_8(tmp_path: Path) -> None:
    """One result that Windows-1252 can't hold makes the whole output UTF-8 with a byte order mark, and is said."""
    rows = "".join(f"ä{number},2\r\n" for number in range(9000))
    with sheet_of(tmp_path, f"Größe,b\r\n{rows}".encode("cp1252")) as sheet:
        written, notes = appended(sheet, {8500: ("日本",)}, ("result",))
    assert written.startswith(b"\xef\xbb\xbfGr\xc3\xb6")
    assert records_of(written.decode("utf-8-sig"))[8499] == ["ä8498", "2", "日本"]
    assert notes == (
        "list.csv is in Windows-1252, which can't hold all of the new text: "
        "the output is in UTF-8 with a byte order mark",
    )


def test_a_lone_surrogate_becomes_a_replacement_character(tmp_path: Path) -> None:
    """JSON can carry half a character; no file can."""
    with sheet_of(tmp_path, "a\n1\n") as sheet:
        written, _notes = appended(sheet, {2: ("x\ud83dy\U0001f600",)}, ("result",))
    assert written.decode("utf-8-sig") == "a,result\n1,x\ufffdy\U0001f600\n"


def test_an_earlier_output_is_refreshed_in_place(tmp_path: Path) -> None:
    """The last columns of an earlier output give way to the new ones; the person's bytes before them stay."""
    content = '"a",b,run_id,status,result,error\r\n" 1, ""x""",2,r1,queued,"{""a"": 1}",\r\n3,4\r\n5,"6",,,,\r\n'
    with sheet_of(tmp_path, content) as sheet:
        cells = {2: ("r1", "success", '{"b": 2}', ""), 3: ("r2", "failure", "", "no")}
        written, _notes = appended(sheet, cells, OURS, 4)
    assert written.decode().split("\r\n") == [
        '"a",b,run_id,status,result,error',
        '" 1, ""x""",2,r1,success,"{""b"": 2}",',
        "3,4,r2,failure,,no",
        '5,"6",,,,',
        "",
    ]


def test_a_refresh_can_have_more_columns_than_before(tmp_path: Path) -> None:
    """`--expand` may add columns on a later night; they begin where the earlier ones began."""
    with sheet_of(tmp_path, "a,,run_id\n1,,x\n2\n") as sheet:
        written, _notes = appended(sheet, {2: ("y", "z"), 3: ("v", "w")}, ("run_id", "status"), 1)
    assert written.decode() == "a,,run_id,status\n1,,y,z\n2,,v,w\n"


def test_an_output_reads_back(tmp_path: Path) -> None:
    """`again` reads what was written the same way: header row, delimiter and encoding included."""
    content = "Rechnungen\nGröße;b,c\nä;2,5\n".encode("cp1252")
    with sheet_of(tmp_path, content, reading=Reading(header_row=2, delimiter=";", encoding="cp1252")) as sheet:
        for result in ("é", "日本"):
            written, _notes = appended(sheet, {3: (result,)}, ("result",))
            (tmp_path / "out.csv").write_bytes(written)
            with open_written(tmp_path / "out.csv", sheet) as back:
                assert headers_of(back) == ["Größe", "b,c", "result"]
                assert texts_of(back) == [("ä", "2,5", result)]


def test_a_result_without_a_row_is_a_bug_that_shows(tmp_path: Path) -> None:
    """Cells for a row that the file doesn't have, or out of order, raise: a result is never lost in silence."""
    with sheet_of(tmp_path, "a\n1\n") as sheet, pytest.raises(ValueError, match="row 9"):
        appended(sheet, {9: DONE})


@pytest.mark.long
def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    """Reading and writing back hold a few chunks, however many rows there are."""
    assert peak_of(tmp_path, 80_000) < 1.2 * peak_of(tmp_path, 20_000)


def peak_of(folder: Path, rows: int) -> int:
    """Bytes of Python objects at the peak of opening a sheet of so many rows and writing it back."""
    content = "a,b\n" + f"{'x' * 40},{'y' * 40}\n" * rows
    (folder / "list.csv").write_text(content)
    cells = ((number + 2, DONE) for number in range(rows))
    tracemalloc.start()
    try:
        with (
            open_csv(folder / "list.csv", Reading(), folder) as sheet,
            (folder / "out.csv").open("wb") as target,
        ):
            append_columns(sheet, target, NewColumns(OURS), cells)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
