"""Rows of a plain list that look like totals, headings or notes, and other rows that aren't started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openpyxl
import pytest
from csvfiles import csv_text
from hypothesis import given
from hypothesis import strategies as st
from program import run_program
from workbooks import Tab, text_row, write_workbook

from batch_runner.job.job import Job
from batch_runner.rows.source import Source
from batch_runner.sheet.header import ListShape, is_total_word
from batch_runner.sheet.model import RowKind

if TYPE_CHECKING:
    from pathlib import Path

LIST = [["No", "Vendor", "Net"], *([f"A-{n}", f"V{n}", str(n)] for n in range(1, 9))]


def source(folder: Path, content: list[list[str]], **options: Any) -> Source:
    (folder / "a.csv").write_text(csv_text(*content), encoding="utf-8", newline="")
    return Source(Job(input=str(folder / "a.csv"), task="t", **options), folder)


def refused(folder: Path, content: list[list[str]], **options: Any) -> dict[int, str]:
    with source(folder, content, **options) as opened:
        return {row.row_number: row.refusal for row in opened.rows() if row.refusal}


@pytest.mark.parametrize(
    ("row", "why"),
    [
        (["Total", "", "36"], "A10: 'Total' stands there"),
        (["", "Zwischensumme:", "36"], "B10: 'Zwischensumme:' stands there"),
        (["Acme Total", "", ""], "A10: 'Acme Total' stands there"),
        (["Summe netto", "", "36"], "A10: 'Summe netto' stands there"),
        (["Übertrag", "", "36"], "A10: 'Übertrag' stands there"),
        (["Mean", "", "4.5"], "A10: words stand there where other rows have a number"),
        (["Made by:", "Ann", ""], "A10: words stand there where other rows have a number"),
        (["pending", "V9", "9"], None),
        (["n/a", "V9", ""], None),
        (["Amounts in EUR", "", ""], "A10: no other cell of the row is filled"),
        (["", "", "36"], "C10: a number stands there alone"),
        (["Total", "V9", "9"], None),
        (["A-9", "Total", "9"], None),
        (["Total", "8", "36"], "A10: 'Total' stands there in place of a row's own text"),
        (["Total", "2026-01-05", "36"], None),
        (["A-17", "", ""], None),
        (["A-9", "", "9"], None),
    ],
)
def test_what_looks_like_no_row_of_the_list_is_refused_alone(tmp_path: Path, row: list[str], why: str | None) -> None:
    """A total's word where other rows fill more, or a lone cell unlike those above; a whole row is data, unless it has
    but numbers beside such a word."""
    found = refused(tmp_path, [*LIST, row])
    assert list(found) == ([10] if why else [])
    both = "--suspect-rows skip leaves such rows out, --suspect-rows run sends them"
    assert why is None or (why in found[10] and both in found[10])


def test_a_person_says_what_suspect_rows_are(tmp_path: Path) -> None:
    """`run` starts them, `skip` leaves them out, and so do --rows and --where."""
    rows = [*LIST, ["Total", "", "36"]]
    assert not refused(tmp_path, rows, suspect_rows="run")
    for options in ({"suspect_rows": "skip"}, {"rows": "2-9"}, {"where": "Vendor IS NOT NULL"}):
        with source(tmp_path, rows, **options) as opened:
            taking_part = [row.row_number for row in opened.rows()]
            assert (taking_part, opened.total) == ([*range(2, 10)], 8)
    with source(tmp_path, rows, suspect_rows="skip") as opened:
        assert [row.number for row in opened.sheet.rows() if row.kind is RowKind.SUSPECT] == [10]


def test_an_earlier_outputs_columns_make_no_row_whole(tmp_path: Path) -> None:
    """A suspect row whose error stands beside it is as suspect on the next night."""
    rows = [[*row, "", "", "", ""] for row in LIST]
    rows[0][3:] = ["run_id", "status", "result", "error"]
    assert list(refused(tmp_path, [*rows, ["Note", "", "", "", "error", "", "it looks like a note"]])) == [10]


def test_a_list_of_lone_cells_has_no_notes(tmp_path: Path) -> None:
    """Where many rows fill one cell, a lone one says nothing."""
    rows = [["No", "Vendor", "Net"], *([f"A-{n}", "", ""] for n in range(6)), ["A-7", "V", "1"]]
    assert not refused(tmp_path, rows)


def test_a_list_of_one_column_has_no_suspects(tmp_path: Path) -> None:
    """Nothing there tells a note from a value."""
    assert not refused(tmp_path, [["Word"], ["a"], ["Total"]])


@given(st.lists(st.lists(st.sampled_from(["x 2", "y 1", "7"]), min_size=3, max_size=3), min_size=1, max_size=8))
def test_a_whole_row_with_digits_is_never_suspect(rows: list[list[str]]) -> None:
    """Whatever the others are like."""
    shape = ListShape.of(range(3), [*rows, ["", "", "z"]])
    assert all(shape.doubt(row) is None for row in [*rows, ["Total", "Summe 3", "1"]])


def test_another_list_below_is_refused_to_its_end(tmp_path: Path) -> None:
    """Its headers follow an empty row; a header row of ours once more begins our list again."""
    below = [["", "", ""], ["Account", "Name", "Balance"], ["4711", "Office", "1"], ["4712", "Fees", "2"]]
    found = refused(tmp_path, [*LIST, *below, LIST[0], ["A-9", "V", "9"]])
    assert list(found) == [11, 12, 13]
    assert "it looks like the headers of another list" in found[11]
    assert "it stands below row 11, which looks like the headers of another list" in found[13]


def test_subtotals_and_headings_of_groups_are_suspect(tmp_path: Path) -> None:
    """However many of them there are among the rows."""
    rows = [["No", "Client", "Net"], ["January", "", ""], ["1", "A", "10"], ["2", "B", "20"], ["Sum January", "", "30"]]
    found = refused(tmp_path, [*rows, ["February", "", ""], ["3", "C", "5"], ["Sum February", "", "5"]])
    assert list(found) == [2, 5, 6, 8]


@pytest.mark.parametrize(
    "text",
    ["Total", "TOTAL:", "Grand Total", "Subtotal", "Sub-total", "Summe", "Gesamtsumme", "Zwischensumme", "Gesamt",
     "Somme", "Total général", "Sous-total", "Totale", "Totaal", "Razem", "Celkem", "Итого", "合計", "Total 2025"],
)  # fmt: skip
def test_totals_have_words_in_many_languages(text: str) -> None:
    """What people write beside a sum."""
    assert is_total_word(text)


@pytest.mark.parametrize("text", ["TotalEnergies", "Total SA Paris", "Sumitomo", "Summer", "Sum Up Ltd", ""])
def test_names_are_no_words_for_totals(text: str) -> None:
    """A vendor may begin like one."""
    assert not is_total_word(text)


def test_a_row_that_would_send_nothing_is_not_started(tmp_path: Path) -> None:
    """All of its sent cells are empty, though others have text."""
    found = refused(
        tmp_path, [["No", "Net", "Note"], ["1", "2", "x"], ["", "", "y"]], columns=("No", "Net"), suspect_rows="run"
    )
    assert list(found) == [3]
    assert "A3: all cells of the row that would be sent are empty" in found[3]


def test_a_header_with_braces_has_them_doubled(tmp_path: Path) -> None:
    """So it can be named in a template, and braces beside a place stay braces."""
    rows = [["No", "Net {EUR}"], ["1", "2"]]
    with source(tmp_path, rows, param={"x": "{Net {{EUR}}}", "y": '{{"no": {No}}}'}) as opened:
        assert next(opened.rows()).params == {"No": "1", "Net {EUR}": "2", "x": "2", "y": '{"no": 1}'}


def merged(folder: Path, **options: Any) -> Source:
    book = openpyxl.Workbook()
    page = book["Sheet"]
    for row in (["Vendor", "No", "Net"], ["Acme", "1", 5], [None, "2", 6], ["Beta", "3", 7]):
        page.append(row)
    page.merge_cells("A2:A3")
    page.column_dimensions["C"].hidden = True
    book.save(folder / "a.xlsx")
    return Source(Job(input=str(folder / "a.xlsx"), task="t", **options), folder)


def test_a_row_below_a_merged_cell_lacks_its_value(tmp_path: Path) -> None:
    """A person sees it there: refused until somebody says what counts, unless the column isn't sent."""
    with merged(tmp_path) as opened:
        refusals = {row.row_number: row.refusal for row in opened.rows() if row.refusal}
    assert list(refusals) == [3]
    assert "Sheet!A3: it is one cell with A2 above, 'Acme'; say --merged fill or --merged first" in refusals[3]
    with merged(tmp_path, merged="fill") as opened:
        assert [row.params["Vendor"] for row in opened.rows()] == ["Acme", "Acme", "Beta"]
    for options in ({"merged": "first"}, {"exclude": ("Vendor",)}):
        with merged(tmp_path, **options) as opened:
            assert [row.refusal for row in opened.rows()] == [None] * 3


def test_hidden_columns_are_told_on_the_first_night(tmp_path: Path) -> None:
    """`check` names them each time, the summary on the first night alone."""
    (tmp_path / "t.py").write_text("async def t(params):\n    return params\n")
    book = openpyxl.Workbook()
    assert book.active is not None
    for row in LIST[:4]:
        book.active.append(row)
    book.active.column_dimensions["C"].hidden = True
    book.save(tmp_path / "a.xlsx")
    said = "hidden in the sheet, and sent like the others: 'Net' (C)"
    told = [run_program(verb, "a.xlsx", "--task", "t.py:t", cwd=tmp_path).stdout for verb in ("check", "run", "run")]
    assert [said in text for text in told] == [True, True, False]
    assert said in run_program("check", "a.xlsx", "--task", "t.py:t", cwd=tmp_path).stdout


def test_hidden_columns_that_are_sent_are_named(tmp_path: Path) -> None:
    """And only those."""
    with merged(tmp_path) as opened:
        assert any("hidden in the sheet, and sent like the others: 'Net' (C)" in note for note in opened.first_notes)
    with merged(tmp_path, exclude=("Net",)) as opened:
        assert not any("hidden in the sheet" in note for note in opened.first_notes)


def test_a_row_of_no_height_is_hidden(tmp_path: Path) -> None:
    """Nobody sees it, whatever hides it."""
    rows = (
        text_row(1, "No", "Net") + text_row(2, "1", "5") + text_row(3, "2", "6", attributes=' ht="0" customHeight="1"')
    )
    write_workbook(tmp_path / "a.xlsx", {"S": Tab(rows=rows)})
    with Source(Job(input=str(tmp_path / "a.xlsx"), task="t", hidden="skip"), tmp_path) as opened:
        assert [row.row_number for row in opened.rows()] == [2]
