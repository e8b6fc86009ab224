"""The output: the sheet's rows with our columns right of them, whatever came back."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING, Any

import pytest
from csvfiles import csv_sheet
from msgspec import structs
from openpyxl import Workbook, load_workbook

from batch_runner.errors import OutputFailed, SheetError
from batch_runner.fs import AtomicFile
from batch_runner.job.job import Job
from batch_runner.journal.view import Placed
from batch_runner.output.long_texts import WholeTexts
from batch_runner.output.output import Output
from batch_runner.output.previous_output import with_earlier
from batch_runner.rows.columns import find_our_columns
from batch_runner.rows.source import Source
from batch_runner.sheet.export import open_sheet
from batch_runner.sheet.model import Reading, RowKind

if TYPE_CHECKING:
    from pathlib import Path

    from batch_runner.output.output import Written
    from batch_runner.sheet.model import Sheet

ROWS = [["Number", "Note"], ["007", "=1+1"], ["", ""], ["1.10", 'two "lines"\nof, text'], ["9", "ä€😀"]]
ENDINGS = [".csv", ".tsv", ".xlsx", ".jsonl", ".parquet"]


def placed(number: int, result: str = "", run_id: str = "", status: str = "success", error: str = "") -> Placed:
    return Placed(number, status, run_id or f"run-{number}", result, error, changed=False)


def write(sheet: Sheet, ending: str, *outcomes: Placed, **options: Any) -> Written:
    target = AtomicFile.prepare(sheet.path.with_name(f"out{ending}"), sheet.path)
    layout = find_our_columns(sheet.columns)
    output = Output(sheet, layout, target, options.pop("expand", False))
    with WholeTexts(sheet.path.parent) as long:
        return output.write(lambda: with_earlier(sheet, layout, iter(outcomes), long), options.pop("may_replace", None))


def read(path: Path) -> list[dict[str, str]]:
    """The data rows of what was written, by header; empty cells left out."""
    if path.suffix == ".jsonl":
        lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        return [{name: value for name, value in line.items() if value} for line in lines]
    if path.suffix == ".parquet":
        import polars as pl

        return [{name: value for name, value in row.items() if value} for row in pl.read_parquet(path).to_dicts()]
    with open_sheet(path, Reading(header_row=1), path.parent) as sheet:
        return [
            {column.name: row.texts[column.index] for column in sheet.columns if row.texts[column.index]}
            for row in sheet.rows()
            if row.kind is RowKind.DATA
        ]


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_row_stands_in_its_place_with_its_own_run(tmp_path: Path, ending: str) -> None:
    """In every format: the rows in order, their own cells as they were, and beside each what came of it."""
    with csv_sheet(tmp_path, *ROWS) as sheet:
        written = write(sheet, ending, placed(2, '{"a":1}'), placed(5, status="error", error="no"))
    assert written.path == tmp_path / f"out{ending}"
    rows = read(written.path)
    assert [row["Number"] for row in rows] == ["007", "1.10", "9"]
    assert [row["Note"] for row in rows] == ["=1+1", 'two "lines"\nof, text', "ä€😀"]
    assert (rows[0]["run_id"], rows[0]["status"], rows[0]["result"]) == ("run-2", "success", '{"a":1}')
    assert {"run_id", "status", "result", "error"}.isdisjoint(rows[1])
    assert (rows[2]["status"], rows[2]["error"]) == ("error", "no")


@pytest.mark.parametrize("ending", ENDINGS)
def test_expanded_results(tmp_path: Path, ending: str) -> None:
    """`--expand`: one column for each top-level key of any result; texts bare, null empty, all else as it came."""
    with csv_sheet(tmp_path, ["N"], ["1"], ["2"], ["3"]) as sheet:
        first = placed(2, '{"net": 1.10, "who":"a\\nb", "none":null}')
        written = write(sheet, ending, first, placed(3, '{"list":[1, 2],"net":"x"}'), placed(4, '"text"'), expand=True)
    rows = read(written.path)
    assert [row.get("result.net") for row in rows] == ["1.10", "x", None]
    assert rows[0]["result.who"] == "a\nb"
    assert rows[1]["result.list"] == "[1, 2]"
    assert rows[2]["result"] == '"text"'


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    "result",
    [
        '{"a":"\\ud800"}',
        '{"\\ud800":1}',
        '{"a":' + "[" * 3000 + "]" * 3000 + "}",
        '{"a":"\\u0000\\u0001\\ufffe"}',
        '{"":1,"A":2,"a":3,"a ":4}',
        "[1]",
        '"=cmd()"',
        "{}",
        '{"a":1e999}',
        '{"net":"x","result.net":1,"Number":2}',
    ],
)
def test_no_result_keeps_the_output_from_being_written(tmp_path: Path, ending: str, result: str) -> None:
    """Whatever JSON a service answers, the rows that it didn't spoil are in the output with theirs."""
    with csv_sheet(tmp_path, ["N"], ["1"], ["2"]) as sheet:
        written = write(sheet, ending, placed(2, result), placed(3, '{"net":"5"}'), expand=True)
    assert read(written.path)[1]["result.net"] == "5"


@pytest.mark.long
@pytest.mark.parametrize("ending", [".csv", ".xlsx"])
def test_more_keys_than_a_sheet_has_columns(tmp_path: Path, ending: str) -> None:
    """Results keyed by a number get columns for the first keys only, and a note; keys of any length are headers."""
    results = [json.dumps({f"k{row}-{number}": number for number in range(600)}) for row in range(40)]
    rows = [[str(number)] for number in range(41)]
    with csv_sheet(tmp_path, ["N"], *rows) as sheet:
        outcomes = [placed(number, result) for number, result in enumerate(results, 3)]
        written = write(sheet, ending, placed(2, json.dumps({"x" * 40_000: 1})), *outcomes, expand=True)
    assert written.notes[0] == "the results have more than 1000 keys: the first 1000 have columns of their own"
    first, second = read(written.path)[:2]
    assert first["result." + "x" * 193] == "1"
    assert second["result.k0-599"] == "599"


@pytest.mark.parametrize("ending", [".csv", ".tsv"])
@pytest.mark.parametrize("text", ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1"])
def test_what_we_write_is_no_formula(tmp_path: Path, ending: str, text: str) -> None:
    """Text of ours that a spreadsheet would run gets a leading `'`, whichever column it is in; theirs is left alone."""
    with csv_sheet(tmp_path, ["N"], [text.strip()]) as sheet:
        written = write(sheet, ending, placed(2, text, run_id=text, error=text))
    with written.path.open(encoding="utf-8-sig", newline="") as file:
        row = list(csv.reader(file, delimiter="," if ending == ".csv" else "\t"))[1]
    assert row == [text.strip(), f"'{text}", "success", f"'{text}", f"'{text}"]


def test_an_earlier_output_is_refreshed(tmp_path: Path) -> None:
    """Last night's columns are written anew, those of `--expand` included; a second time changes nothing."""
    headers = ["N", "run_id", "status", "result", "error", "result.old"]
    with csv_sheet(tmp_path, headers, ["1", "r", "error", "", "no", "x"]) as sheet:
        first = write(sheet, ".csv", placed(2, '{"new":"y"}'), expand=True)
        once = first.path.read_bytes()
        again = write(sheet, ".csv", placed(2, '{"new":"y"}'), expand=True)
    assert read(first.path) == [
        {"N": "1", "run_id": "run-2", "status": "success", "result": '{"new":"y"}', "result.new": "y"}
    ]
    assert again.path.read_bytes() == once


@pytest.mark.parametrize("run_id", ["run-2", "another"])
def test_a_result_workbook_can_be_written_in_place(tmp_path: Path, run_id: str) -> None:
    """A workbook that is its own output passes the check before the swap, whether its row changed or not."""
    with csv_sheet(tmp_path, ["N"], ["1"]) as sheet:
        path = write(sheet, ".xlsx", placed(2)).path
    with open_sheet(path, Reading(), tmp_path) as sheet:
        assert write(sheet, ".xlsx", placed(2, run_id=run_id)).path == path
    assert read(path) == [{"N": "1", "run_id": run_id, "status": "success"}]


def test_a_status_column_of_their_own_is_kept(tmp_path: Path) -> None:
    """A sheet's own `Status` stays what it is; ours are prefixed."""
    with csv_sheet(tmp_path, ["N", "Status"], ["1", "open"]) as sheet:
        assert read(write(sheet, ".csv", placed(2)).path) == [
            {"N": "1", "Status": "open", "batch_run_id": "run-2", "batch_status": "success"}
        ]


def test_texts_too_long_for_a_cell(tmp_path: Path) -> None:
    """In a workbook a text too long for a cell is cut and whole beside it; in a text file it is whole."""
    long = '"' + "x" * 40_000 + '"'
    with csv_sheet(tmp_path, ["N"], ["1"]) as sheet:
        written = write(sheet, ".xlsx", placed(2, long))
        assert "out.long.jsonl has the whole" in written.notes[-1]
        assert len(read(written.path)[0]["result"]) == 32_767
        assert json.loads((tmp_path / "out.long.jsonl").read_text())["text"] == long
        assert read(write(sheet, ".csv", placed(2, long)).path)[0]["result"] == long


def test_a_neighbour_is_named(tmp_path: Path) -> None:
    """Where the output can't be replaced, a note says which file it is."""
    (tmp_path / "out.csv").write_text("theirs")
    with csv_sheet(tmp_path, ["N"], ["1"]) as sheet:
        written = write(sheet, ".csv", placed(2), may_replace=lambda _path: False)
    assert written.path.name == "out-2.csv"
    assert written.notes == ("out.csv could not be replaced (open, read-only or edited): see out-2.csv",)
    assert (tmp_path / "out.csv").read_text() == "theirs"


def test_a_sheet_of_zero_rows(tmp_path: Path) -> None:
    """Nothing to do is an output with headers only."""
    with csv_sheet(tmp_path, ["N"]) as sheet:
        written = write(sheet, ".csv")
    assert written.path.read_text().strip() == "N,run_id,status,result,error"


def test_what_a_format_can_not_hold_is_no_refusal(tmp_path: Path) -> None:
    """Found only when it is written, a sheet that the format can't hold is an output that failed: runs were sent."""
    with csv_sheet(tmp_path, ["N"], ["1"]) as sheet, pytest.raises(OutputFailed, match="the journal has it all"):
        write(sheet, ".xlsm", placed(2))


def test_an_outcome_without_a_row_is_no_output(tmp_path: Path) -> None:
    """An outcome that has no row in the sheet, or rows out of order, never become a file."""
    with csv_sheet(tmp_path, ["N"], ["1"], ["2"]) as sheet:
        for outcomes in ([placed(9)], [placed(3), placed(2)]):
            with pytest.raises((OutputFailed, ValueError, AssertionError)):
                write(sheet, ".csv", *outcomes)
            assert not (tmp_path / "out.csv").exists()


def headers_of(path: Path) -> dict[str, str]:
    """The letter of each header."""
    with open_sheet(path, Reading(header_row=1), path.parent) as sheet:
        return {column.name: column.letter for column in sheet.columns}


@pytest.mark.parametrize("ending", [".csv", ".xlsx"])
@pytest.mark.parametrize("expand", [True, False])
def test_columns_of_an_earlier_output_keep_their_places(tmp_path: Path, ending: str, *, expand: bool) -> None:
    """Sorted, its first result has other keys: each key stays in its column all the same, a new one comes at the end.

    A key that no result has any more keeps its column, since a person's formulas and names may look at it.
    """
    first, second = '{"total":1,"Total":2,"gone":3}', '{"new":6,"note":4,"Total":5,"total":0}'
    with csv_sheet(tmp_path, ["N"], ["1"]) as sheet:
        path = write(sheet, ending, placed(2, first), expand=True).path
    before = headers_of(path)
    with open_sheet(path, Reading(header_row=1), tmp_path) as sheet:
        written = write(sheet, ending, placed(2, second), expand=expand)
    after = headers_of(written.path)
    assert list(before) == [
        "N",
        "run_id",
        "status",
        "result",
        "error",
        "result.total",
        "result.Total (2)",
        "result.gone",
    ]
    fresh = {"result.new": "I", "result.note": "J"} if expand else {}
    assert after == {**before, **fresh}
    (row,) = read(written.path)
    assert (row["result.total"], row["result.Total (2)"], row.get("result.gone")) == ("0", "5", None)
    assert row.get("result.new") == ("6" if expand else None)


@pytest.mark.parametrize("ending", [".csv", ".xlsx", ".jsonl", ".parquet"])
@pytest.mark.parametrize("gap", range(1, 6))
def test_a_blank_column_between_ours_stays(tmp_path: Path, ending: str, gap: int) -> None:
    """Somebody put a blank column between our columns: the next night refreshes them where they stand."""
    names = ["N", "run_id", "status", "result", "error", "result.a"]
    names.insert(1 + gap, "") if gap < 5 else names.append("")
    book = Workbook()
    page = book.active
    assert page is not None
    for texts in (names, ["1", *("old" if name else "" for name in names[1:])]):
        page.append([text or None for text in texts])
    book.save(tmp_path / "in.xlsx")
    with open_sheet(tmp_path / "in.xlsx", Reading(header_row=1), tmp_path) as sheet:
        written = write(sheet, ending, placed(2, '{"a":1}'))
    (row,) = read(written.path)
    assert row == {"N": "1", "run_id": "run-2", "status": "success", "result": '{"a":1}', "result.a": "1"}
    if ending in (".csv", ".xlsx"):
        assert list(headers_of(written.path).values()) == [
            letter for letter, name in zip("ABCDEFG", names, strict=False) if name
        ]


@pytest.mark.long
def test_the_room_for_expanded_columns_is_known_before_a_run(tmp_path: Path) -> None:
    """Four columns fit and no fifth: `--expand` is refused at once. Later keys beyond the last column are told of."""
    book = Workbook()
    page = book.active
    assert page is not None
    page.append(["N"])
    page.append(["1"])
    page.merge_cells(start_row=1, start_column=2, end_row=2, end_column=16_384 - 4)
    book.save(tmp_path / "in.xlsx")
    path = str(tmp_path / "in.xlsx")
    Source(Job(input=path, header_row=1), tmp_path).sheet.close()
    with pytest.raises(SheetError, match="no room for 5 columns"):
        Source(Job(input=path, header_row=1, expand=True), tmp_path)
    page.unmerge_cells(start_row=1, start_column=2, end_row=2, end_column=16_384 - 4)
    page.merge_cells(start_row=1, start_column=2, end_row=2, end_column=16_384 - 6)
    book.save(tmp_path / "in.xlsx")
    with open_sheet(tmp_path / "in.xlsx", Reading(header_row=1), tmp_path) as sheet:
        written = write(sheet, ".xlsx", placed(2, '{"a":1,"b":2,"c":3}'), expand=True)
    assert "the results have more keys than there is room for: the first 2 have columns of their own" in written.notes
    assert read(written.path)[0]["result.b"] == "2"


@pytest.mark.parametrize("ending", [".csv", ".tsv"])
def test_texts_of_a_workbook_are_no_formulas_in_a_text_file(tmp_path: Path, ending: str) -> None:
    """A text cell `=cmd|…` is only text in a workbook; in CSV it would run. A number keeps its sign bare."""
    book = Workbook()
    page = book.active
    assert page is not None
    for row in (["=Id", "Sum"], ["=cmd|x", -5], ["@a", -0.25], ["+1 (2)", 3], ["-7", 4], ["ok", 5]):
        page.append(row)
    for cells in page.iter_rows(max_col=1):
        cells[0].data_type = "s"
    page["B3"].number_format = "[h]:mm"
    page["B2"].number_format = "#,##0 €"
    book.save(tmp_path / "in.xlsx")
    with open_sheet(tmp_path / "in.xlsx", Reading(header_row=1, as_shown=True), tmp_path) as sheet:
        written = write(sheet, ending, placed(2))
    with written.path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file, delimiter="," if ending == ".csv" else "\t"))
    assert [row[0] for row in rows] == ["'=Id", "'=cmd|x", "'@a", "'+1 (2)", "-7", "ok"]
    assert [row[1] for row in rows[1:3]] == ["-5 €", "-6:00"]
    assert rows[1][2] == "run-2"


@pytest.mark.parametrize("moved", [False, True])
def test_the_whole_of_a_long_text_is_kept_for_rows_that_are_left_out(tmp_path: Path, *, moved: bool) -> None:
    """`--limit` leaves a row out whose result was cut: its whole text stays in `.long.jsonl`, also if it was sorted."""
    long = [json.dumps({"n": number, "text": "x" * 40_000 + str(number)}) for number in (1, 2, 3)]
    with csv_sheet(tmp_path, ["N"], ["1"], ["2"], ["3"]) as sheet:
        path = write(sheet, ".xlsx", *(placed(2 + place, text) for place, text in enumerate(long)), expand=True).path
    if moved:
        book = load_workbook(path)
        page = book.active
        assert page is not None
        rows = [[cell.value for cell in cells] for cells in page.iter_rows(min_row=2)]
        for number, row in enumerate(reversed(rows), 2):
            for place, value in enumerate(row, 1):
                page.cell(number, place, value)
        book.save(path)
    expected = long[::-1] if moved else long
    for _night in range(2):
        with open_sheet(path, Reading(header_row=1), tmp_path) as sheet:
            write(sheet, ".xlsx", placed(2, expected[0], run_id="run-4" if moved else "run-2"))
        lines = [json.loads(line) for line in (tmp_path / "out.long.jsonl").read_text("utf-8").splitlines()]
        kept = [(line["row"], line["text"]) for line in lines if line["column"] == "result"]
        assert [text for _row, text in kept] == expected
        assert [row for row, _text in kept] == [2, 3, 4]
        assert [line["text"][-1] for line in lines if line["column"] == "result.text"] == (
            ["3", "2", "1"] if moved else ["1", "2", "3"]
        )


def test_a_cut_text_whose_file_is_gone_stays_as_it_is(tmp_path: Path) -> None:
    """There is nothing to take it from; the cell keeps what it has."""
    with csv_sheet(tmp_path, ["N"], ["1"]) as sheet:
        path = write(sheet, ".xlsx", placed(2, "x" * 40_000)).path
    before = read(path)
    (tmp_path / "out.long.jsonl").unlink()
    with open_sheet(path, Reading(header_row=1), tmp_path) as sheet:
        write(sheet, ".xlsx")
    assert read(path) == before


def test_a_hidden_draft_is_not_named(tmp_path: Path) -> None:
    """What is wrong with the draft is said of the output, which a person knows."""
    with csv_sheet(tmp_path, ["N"], ["1"]) as sheet:
        layout = structs.replace(find_our_columns(sheet.columns), headers=("N", "status", "result", "error"))
        output = Output(sheet, layout, AtomicFile.prepare(tmp_path / "out.csv", sheet.path), expand=False)
        with pytest.raises(OutputFailed) as caught:
            output.write(lambda: iter([placed(2)]))
    assert "out.csv" in str(caught.value)
    assert ".part" not in str(caught.value)
