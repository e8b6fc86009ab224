"""A sheet in another format than its own. Each test's docstring is its claim."""

from __future__ import annotations

import csv
import io
import json
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import polars
import pytest
from csvfiles import OURS, csv_sheet, records_of, sheet_of
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import load_workbook

from batch_runner.errors import SheetError
from batch_runner.sheet.csv.reader import open_csv
from batch_runner.sheet.csv.writer import harmless
from batch_runner.sheet.export import Grid, open_written, refuse_unwritable, write_table
from batch_runner.sheet.model import NewColumns, Reading

if TYPE_CHECKING:
    from batch_runner.sheet.model import Sheet

CONTENT = "Invoices\nFile,Amount\na.pdf,007\n\nb.pdf,=1+1\n"
CELLS = {3: ("r1", "success", '{"a": "x, y"}', ""), 5: ("r2", "failure", "", "=no")}


def written(sheet: Sheet, ending: str, new: NewColumns | None = None) -> bytes:
    target = io.BytesIO()
    assert write_table(target, ending, sheet, new or NewColumns(OURS), iter(CELLS.items())) == ()
    return target.getvalue()


@pytest.mark.parametrize(("ending", "delimiter"), [(".csv", ","), (".tsv", "\t")])
def test_text_has_every_row_in_its_place(tmp_path: Path, ending: str, delimiter: str) -> None:
    """.csv and .tsv are UTF-8 with a mark and CR LF, each row of the sheet in its place, new formulas made harmless."""
    with sheet_of(tmp_path, CONTENT.replace(",", ";")) as sheet:
        text = written(sheet, ending).decode("utf-8-sig")
    assert records_of(text, delimiter) == [
        ["Invoices", "", "", "", "", ""],
        ["File", "Amount", *OURS],
        ["a.pdf", "007", *CELLS[3]],
        [""] * 6,
        ["b.pdf", "=1+1", "r2", "failure", "", "'=no"],
    ]
    assert text.count("\r\n") == 5


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".xlsx"])
def test_what_was_written_reads_back(tmp_path: Path, ending: str) -> None:
    """What was written in another format reads back row by row, with `again`."""
    with sheet_of(tmp_path, CONTENT.replace(",", "|"), "list.csv" if ending == ".tsv" else "list.tsv") as sheet:
        (tmp_path / f"out{ending}").write_bytes(written(sheet, ending))
        with open_written(tmp_path / f"out{ending}", sheet) as back:
            for row, again in zip(sheet.rows(), back.rows(), strict=True):
                assert (row.number, row.kind, row.texts) == (again.number, again.kind, again.texts[: len(row.texts)])


def test_a_workbook_holds_texts_only(tmp_path: Path) -> None:
    """.xlsx has every row in its place and every cell as text: no number, formula, date or error is made of any."""
    odd = ["=1+1", "#N/A", "007", "TRUE", "2026-02-28", " x ", "1E5", "a_x0041_b", "l\nm", "c\r\nd", "\x01", "{=1}"]
    content = "".join(f'{index},"{text}"\n' for index, text in enumerate(odd))
    with sheet_of(tmp_path, f"Id,Text\n{content}") as sheet:
        target = io.BytesIO()
        cells = ((index + 2, (text,)) for index, text in enumerate(odd))
        write_table(target, ".xlsx", sheet, NewColumns(("result",)), cells)
    page = load_workbook(target).active
    assert page is not None
    assert [cell.value for cell in next(page.iter_rows())] == ["Id", "Text", "result"]
    for index, row in enumerate(page.iter_rows(min_row=2)):
        assert {cell.data_type for cell in row} <= {"s", "inlineStr"}
        assert str(row[0].value) == str(index)
        assert row[1].value == row[2].value
    parts = zipfile.ZipFile(target).read("xl/worksheets/sheet1.xml").decode().replace("\r\n", "\n")
    assert "<f>" not in parts
    assert "a_x005F_x0041_b" in parts
    assert "c_x000D_\nd" in parts
    assert "_x0001_" in parts


def test_a_workbook_keeps_rows_in_their_place(tmp_path: Path) -> None:
    """Title and empty rows are rows of the workbook too."""
    with sheet_of(tmp_path, CONTENT) as sheet:
        page = load_workbook(io.BytesIO(written(sheet, ".xlsx"))).active
    assert page is not None
    assert [[cell.value for cell in row] for row in page.iter_rows(max_col=3)] == [
        ["Invoices", None, None],
        ["File", "Amount", "run_id"],
        ["a.pdf", "007", "r1"],
        [None, None, None],
        ["b.pdf", "=1+1", "r2"],
    ]


def test_what_a_workbook_can_not_hold_is_named(tmp_path: Path) -> None:
    """A text over 32,767 UTF-16 units is refused with its cell, not cut in silence."""
    long = "\U0001f600" * 16_384
    refused = pytest.raises(SheetError, match=r"list\.csv, B3: a workbook holds at most 32,767 characters")
    with sheet_of(tmp_path, f"a,b\n1,2\n3,{long}\n") as sheet, refused:
        write_table(io.BytesIO(), ".xlsx", sheet, NewColumns(OURS), ())
    with sheet_of(tmp_path, f"a,b\n1,2\n3,{long[:-1]}\n") as sheet:
        write_table(io.BytesIO(), ".xlsx", sheet, NewColumns(OURS), ())


def test_lines_of_json_have_the_data_rows(tmp_path: Path) -> None:
    """.jsonl has an object for each data row: headers to texts in their order, then the new ones, nothing guarded."""
    with sheet_of(tmp_path, CONTENT) as sheet:
        lines = written(sheet, ".jsonl").decode().splitlines()
    assert [list(json.loads(line).items()) for line in lines] == [
        [("File", "a.pdf"), ("Amount", "007"), *zip(OURS, CELLS[3], strict=True)],
        [("File", "b.pdf"), ("Amount", "=1+1"), *zip(OURS, CELLS[5], strict=True)],
    ]


def test_parquet_has_the_data_rows_as_text(tmp_path: Path) -> None:
    """.parquet has a string column for each header and a row for each data row."""
    with sheet_of(tmp_path, CONTENT) as sheet:
        frame = polars.read_parquet(io.BytesIO(written(sheet, ".parquet")))
    assert frame.columns == ["File", "Amount", *OURS]
    assert set(frame.dtypes) == {polars.String}
    assert frame.rows() == [("a.pdf", "007", *CELLS[3]), ("b.pdf", "=1+1", *CELLS[5])]


@pytest.mark.long
@pytest.mark.parametrize("rows", [0, 1, 10_000, 25_001])
def test_parquet_of_any_length(tmp_path: Path, rows: int) -> None:
    """No row is lost between batches, and a sheet of no rows is a file of no rows."""
    with sheet_of(tmp_path, "a,b\n" + "".join(f"{number},x\n" for number in range(rows))) as sheet:
        target = io.BytesIO()
        write_table(target, ".parquet", sheet, NewColumns(("run_id",)), ((n + 2, (f"r{n}",)) for n in range(rows)))
    frame = polars.read_parquet(target.getvalue())
    assert frame.rows() == [(str(number), "x", f"r{number}") for number in range(rows)]


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl", ".parquet", ".xlsx"])
def test_columns_of_an_earlier_output_give_way(tmp_path: Path, ending: str) -> None:
    """The last columns of an earlier output are dropped and written anew, in every format."""
    with sheet_of(tmp_path, "a,,run_id,status\n1,,old,old\n2,,old,\n") as sheet:
        target = io.BytesIO()
        write_table(target, ending, sheet, NewColumns(("run_id", "status"), 2), iter([(2, ("x", "success"))]))
    data = target.getvalue()
    assert b"old" not in data
    if ending == ".csv":
        assert data.decode("utf-8-sig") == "a,,run_id,status\r\n1,,x,success\r\n2,,,\r\n"
    if ending == ".jsonl":
        assert data.decode().splitlines()[1] == '{"a":"2","run_id":"","status":""}'
    if ending == ".parquet":
        assert polars.read_parquet(data).rows() == [("1", "x", "success"), ("2", "", "")]


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet", ".xlsx"])
def test_a_result_without_a_row_is_a_bug_that_shows(tmp_path: Path, ending: str) -> None:
    """Cells for a row that the sheet doesn't have raise, whatever the format, and leave the target open."""
    target = io.BytesIO()
    with sheet_of(tmp_path, "a\n1\n") as sheet, pytest.raises(ValueError, match="row 9"):
        write_table(target, ending, sheet, NewColumns(("x",)), iter([(9, ("y",))]))
    assert not target.closed


@pytest.mark.parametrize("ending", ["", ".ods", ".xlsm", ".txt"])
def test_other_endings_are_refused(tmp_path: Path, ending: str) -> None:
    """Another ending gets a sentence with those there are."""
    refused = pytest.raises(SheetError, match=r"use one of \.csv \.tsv \.xlsx \.jsonl \.parquet")
    with sheet_of(tmp_path, "a\n1\n") as sheet, refused:
        write_table(io.BytesIO(), ending, sheet, NewColumns(("x",)), ())


@given(
    st.lists(st.tuples(*[st.text(st.characters(exclude_categories=["Cs"]), max_size=8)] * 3), max_size=6),
    st.sampled_from([".tsv", ".xlsx"]),
)
def test_any_text_comes_back_in_any_format(table: list[tuple[str, str, str]], ending: str) -> None:
    """Every text of a sheet, and every new one, reads back equal; but U+FFFE and U+FFFF, which XML can't hold."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with (folder / "list.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("a", "b"), *((f"x{one}", two) for one, two, _new in table)])
        cells = ((number, (new,)) for number, (_one, _two, new) in enumerate(table, 2))
        with open_csv(folder / "list.csv", Reading(encoding="utf-8"), folder) as sheet:
            with (folder / f"out{ending}").open("w+b") as target:
                write_table(target, ending, sheet, NewColumns(("result",)), cells)
            with open_written(folder / f"out{ending}", sheet) as back:
                texts = [row.texts for row in back.rows()]
    held = str if ending == ".tsv" else without_noncharacters
    guarded = harmless if ending == ".tsv" else str
    expected = [(f"x{held(one)}", held(two), guarded(held(new))) for one, two, new in table]
    assert texts == [("a", "b", "result"), *expected]


def without_noncharacters(text: str) -> str:
    return text.replace("\ufffe", "\ufffd").replace("\uffff", "\ufffd")


def test_surrogates_are_stored_in_every_format(tmp_path: Path) -> None:
    """Half a character in a result is U+FFFD in every format."""
    for ending in (".csv", ".jsonl", ".parquet", ".xlsx"):
        with sheet_of(tmp_path, "a\n1\n") as sheet:
            target = io.BytesIO()
            write_table(target, ending, sheet, NewColumns(("x",)), iter([(2, ("<\ud800>",))]))
        data = target.getvalue()
        if ending == ".xlsx":
            data = zipfile.ZipFile(target).read("xl/worksheets/sheet1.xml")
        assert "\ufffd" in data.decode("utf-8", "ignore"), ending


@pytest.mark.parametrize(("length", "fits"), [(32_767, True), (32_768, False)])
def test_a_text_too_long_for_a_workbook_is_named_before_a_run(tmp_path: Path, length: int, *, fits: bool) -> None:
    """Where the output is a workbook and the input isn't, the first cell that it can't hold is named; text has room."""
    new = NewColumns(OURS)
    with sheet_of(tmp_path, f"File,Amount\na.pdf,{'x' * length}\n") as sheet:
        refuse_unwritable(sheet, ".csv", new)
        refuse_unwritable(sheet, ".tsv", new)
        if fits:
            refuse_unwritable(sheet, ".xlsx", new)
            return
        with pytest.raises(SheetError, match="B2: a workbook holds at most 32,767 characters in a cell"):
            refuse_unwritable(sheet, ".xlsx", new)


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
def test_equal_headers_are_told_apart_by_letter(tmp_path: Path, ending: str) -> None:
    """In the formats that have each name once; so is text under no header. Nothing is lost or refused."""
    with csv_sheet(tmp_path, ["No", "Cur", "", "Cur", "C"], ["1", "EUR", "x", "USD", "y"], name="twice.csv") as sheet:
        refuse_unwritable(sheet, ending, NewColumns(OURS))
        grid = Grid(sheet, NewColumns(OURS), [])
        assert grid.headers[:5] == ("No", "Cur", "C'", "Cur (D)", "C")
        assert next(grid.data())[:5] == ("1", "EUR", "x", "USD", "y")
