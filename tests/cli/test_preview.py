"""`check`: how the sheet is understood, its problems, and what the first rows would send."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import openpyxl
import pytest
from csvfiles import csv_text

from batch_runner.errors import SheetError, UsageError
from batch_runner.job.job import Job
from batch_runner.rows.source import MOST_WARNINGS, Source
from batch_runner.runner.check import FIRST_ROWS, MOST_SENTENCES, preview
from batch_runner.runner.memory import info_of, rehearse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from batch_runner.runner.check import Preview

HEADERS = ["Id", "Amount", "Note"]


def workbook(folder: Path, *rows: list[Any]) -> Path:
    """A workbook of these rows under the headers; a text such as `#N/A` is an error cell, as in Excel."""
    book = openpyxl.Workbook()
    assert book.active is not None
    book.active.title = "May"
    book.active.append(HEADERS)
    for row in rows:
        book.active.append(row)
    book.save(folder / "invoices.xlsx")
    return folder / "invoices.xlsx"


def csv_file(folder: Path, *rows: Sequence[str]) -> Path:
    path = folder / "invoices.csv"
    path.write_text(csv_text(*rows), "utf-8", newline="")
    return path


def seen(path: Path, **options: Any) -> Preview:
    return anyio.run(_seen, Job(input=str(path), **options), path)


async def _seen(job: Job, path: Path) -> Preview:
    """The page of a first night, which is the same whether its rows are placed in a journal or not."""
    with Source(job, path.parent) as source:
        async with rehearse(None) as file:
            journal = await file.begin(info_of(job, source, None, str(path)))
            quick = await preview(job, source, journal, is_first=True)
            told = await preview(job, source, journal)
            assert quick == told
            return told


def test_a_sheet_without_problems(tmp_path: Path) -> None:
    """Where the headers are, what would be sent, and where everything goes; 0, and nothing is written."""
    path = csv_file(tmp_path, HEADERS, *([str(number), "1.10", ""] for number in range(9)))
    told = seen(path, task="invoice", key=("Id",), exclude=("Note",))
    assert told.exit_code == 0
    assert (told.header_row, told.rows, told.refused_rows, told.earlier_output) == (1, 9, 0, False)
    assert (told.columns, told.params) == (tuple(HEADERS), ("Id", "Amount"))
    assert len(told.first) == FIRST_ROWS
    assert (told.first[0].row, told.first[0].params) == (2, {"Id": "0", "Amount": "1.10"})
    assert [file.name for file in tmp_path.iterdir()] == ["invoices.csv"]
    text = told.to_text()
    assert "rows that take part: 9" in text
    assert f"output:  {tmp_path / 'invoices.results.csv'}" in text
    assert 'row 2: {"Id":"0","Amount":"1.10"}' in text


def test_cells_without_a_text_to_rely_on_are_named(tmp_path: Path) -> None:
    """An error cell and a formula without a value refuse their rows, by sheet and cell, and the code is 3."""
    path = workbook(tmp_path, [1, 5, "a"], [2, "#N/A", "b"], [3, "=1+1", "c"], [4, 6, "#REF!"])
    told = seen(path)
    assert told.exit_code == 3
    assert told.refused_rows == 3
    assert [sentence.partition(":")[0] for sentence in told.refused] == [
        "invoices.xlsx, May!B3",
        "invoices.xlsx, May!B4",
        "invoices.xlsx, May!C5",
    ]
    assert [sample.row for sample in told.first] == [2]
    assert seen(path, columns=("Id",)).exit_code == 0
    assert seen(path, rows="2,5", exclude=("Note",)).refused_rows == 0


def test_only_so_many_sentences(tmp_path: Path) -> None:
    """A sheet full of problems is not a wall of text: the first of each are shown, and all are counted."""
    path = workbook(tmp_path, *([1234567890123456, 1, "#N/A"] for _ in range(50)))
    told = seen(path)
    assert told.refused_rows == 50
    assert len(told.refused) == MOST_SENTENCES
    assert len(told.warnings) == MOST_WARNINGS + 1
    assert told.warnings[-1] == f"and {50 - MOST_WARNINGS} more such cells"


def test_json_is_one_object_on_one_line(tmp_path: Path) -> None:
    """A program gets the same."""
    told = seen(workbook(tmp_path, [1, 5, "two\nlines"])).to_json()
    assert "\n" not in told
    told = json.loads(told)
    assert (told["sheet"], told["rows"], told["refused_rows"]) == ("May", 1, 0)
    assert told["first"] == [{"row": 2, "params": {"Id": "1", "Amount": "5", "Note": "two\nlines"}}]


def test_an_earlier_output_is_known(tmp_path: Path) -> None:
    """Last night's columns are spoken of, and are neither columns nor params."""
    headers = ["Id", "run_id", "status", "result", "error"]
    told = seen(csv_file(tmp_path, headers, ["1", "r", "success", "{}", ""]))
    assert told.earlier_output
    assert (told.columns, told.params) == (("Id",), ("Id",))
    assert "an earlier output's columns" in told.to_text()


def test_a_condition_over_a_workbook(tmp_path: Path) -> None:
    """`--where` sees the texts that are sent: amounts are numbers, ids with leading zeros are text."""
    path = workbook(tmp_path, ["007", 99.5, "a"], ["008", 100.5, "b"], ["009", None, "c"])
    assert [sample.row for sample in seen(path, where="Amount > 100 OR Id = '007'").first] == [2, 3]


@pytest.mark.parametrize(
    "options",
    [{"where": "Nope > 1"}, {"columns": ("Nope",)}, {"where": "CAST(Note AS INT) = 1"}, {"param": {"x": "{"}}],
)
def test_what_the_sheet_can_not_do_is_a_sentence(tmp_path: Path, options: dict[str, Any]) -> None:
    """Options that name what the sheet hasn't are refused, and the private copy of the sheet is let go."""
    path = csv_file(tmp_path, HEADERS, ["1", "2", "three"])
    with pytest.raises(UsageError):
        seen(path, **options)


def test_a_sheet_that_can_not_be_used(tmp_path: Path) -> None:
    """Two equal headers are refused, naming both cells."""
    with pytest.raises(SheetError, match=r"A1 and C1: two headers are 'Id'"):
        seen(csv_file(tmp_path, ["Id", "Amount", "Id"], ["1", "2", "3"]))


def test_a_sheet_of_zero_rows(tmp_path: Path) -> None:
    """No rows are no problem."""
    told = seen(csv_file(tmp_path, HEADERS), header_row=1)
    assert (told.rows, told.exit_code, told.first) == (0, 0, ())
    assert "rows that take part: 0" in told.to_text()


def test_the_rows_are_counted_by_kind(tmp_path: Path) -> None:
    """The numbers add up to the sheet's last row, suspect rows are listed, and the last row to start is shown."""
    rows = [*([str(n), str(n), "x"] for n in range(1, 7)), [], HEADERS, ["7", "7", "x"], ["Total", "", "28"]]
    told = seen(csv_file(tmp_path, HEADERS, *rows))
    assert told.kinds == {"header": 1, "data": 7, "empty": 1, "repeated": 1, "suspect": 1}
    assert sum(told.kinds.values()) == told.last_row == 11
    assert (told.suspects, told.last and told.last.row) == ((11,), 10)
    text = told.to_text()
    assert "rows:    1 header, 7 data, 1 empty, 1 repeated, 1 suspect: 11 in all" in text
    assert "suspect: row 11" in text
