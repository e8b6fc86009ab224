"""A key is made of values, not of how they look: what ran is found again whatever the format of cells and file."""

from __future__ import annotations

import csv
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from journals import batch_info, run_row, steps_of
from openpyxl import Workbook
from workbooks import Tab, text_cell, text_row, write_workbook

from batch_runner.job.job import Job
from batch_runner.journal.journal import Journal
from batch_runner.plan.plan import Keep, Refuse, Send
from batch_runner.rows.keys import number_form
from batch_runner.rows.source import Source, look_ahead, plan_rows
from batch_runner.sheet.numfmt.formatter import NumberFormat

if TYPE_CHECKING:
    from collections.abc import Sequence

AMOUNTS = ("General", "0", "0.00", "#,##0.00", '#,##0.00 "€"', "0.0##", "0%", "0.0%", "0.00E+00", "# ?/?", "#,##0,")
"""Formats that show a number, each in its own way."""
DATES = ("yyyy-mm-dd", "dd/mm/yy", "d. mmmm yyyy", "dd/mm/yyyy hh:mm", "hh:mm:ss", "mmm-yy")
NUMBERS = st.decimals(-1_000_000, 1_000_000, places=4, allow_nan=False).map(float)


def workbook(path: Path, rows: Sequence[Sequence[Any]], code: str = "General") -> Path:
    """A sheet whose columns are called A, B, …; its numbers have this format."""
    book = Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append([chr(65 + place) for place in range(len(rows[0]))])
    for row in rows:
        sheet.append(list(row))
        for cell in sheet[sheet.max_row]:
            if isinstance(cell.value, int | float):
                cell.number_format = code
    book.save(path)
    return path


def text_file(path: Path, rows: Sequence[Sequence[str]]) -> Path:
    """The same as text."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([[chr(65 + place) for place in range(len(rows[0]))], *rows])
    return path


def keys(path: Path) -> list[bytes | None]:
    with Source(Job(input=str(path)), path.parent) as source:
        return [row.key for row in source.rows()]


def run_night(journal: Path, sheet: Path, **options: Any) -> None:
    """All rows of the sheet succeed."""

    async def night() -> None:
        info = msgspec.structs.replace(batch_info(key=options.get("key", ())), input=str(sheet))
        async with Journal.open(journal, info) as opened:
            with Source(Job(input=str(sheet), **options), sheet.parent) as source:
                await look_ahead(source, opened)
                async for chunk in plan_rows(source, opened):
                    for step, row in chunk:
                        await run_row(opened, step, f"run-{row.row_number}")
            await opened.finish(0)

    anyio.run(night)


def starts(journal: Path, sheet: Path, **options: Any) -> int:
    """How many rows of the sheet would be started."""
    info = msgspec.structs.replace(batch_info("changed", key=options.get("key", ())), input=str(sheet))
    steps = steps_of(journal, sheet, info, **options)
    assert all(isinstance(step, Send | Keep) for step in steps), steps
    return sum(isinstance(step, Send) for step in steps)


@given(NUMBERS, st.sampled_from(AMOUNTS), st.sampled_from(AMOUNTS))
def test_a_number_has_one_form_under_all_formats(number: float, one: str, other: str) -> None:
    """Two cells with one value have one form, and it is the value."""
    assert NumberFormat(one).value(number) == NumberFormat(other).value(number)
    assert Decimal(NumberFormat(one).value(number)) == Decimal(f"{number:.15g}")


@given(st.integers(0, 4_000_000_000), st.sampled_from(DATES), st.sampled_from(DATES))
def test_a_moment_has_one_form_under_all_formats(tenths: int, one: str, other: str) -> None:
    """A date and its time of day are one value, whatever the format shows of them."""
    number = tenths / 864_000
    assert NumberFormat(one).value(number) == NumberFormat(other).value(number)


@given(NUMBERS, NUMBERS, st.sampled_from(AMOUNTS), st.sampled_from(AMOUNTS))
def test_different_numbers_never_have_one_form(first: float, second: float, one: str, other: str) -> None:
    """Not even where both show the same."""
    assert (NumberFormat(one).value(first) == NumberFormat(other).value(second)) == (first == second)


@given(st.integers(0, 4_000_000_000), st.integers(0, 4_000_000_000), st.sampled_from(DATES))
def test_different_moments_never_have_one_form(first: int, second: int, code: str) -> None:
    """A tenth of a second apart, below one date."""
    forms = [NumberFormat(code).value(tenths / 864_000) for tenths in (first, second)]
    assert (forms[0] == forms[1]) == (first == second)


@pytest.mark.parametrize(
    ("code", "number", "form"), [("00000", 123, "00123"), ("000-00-0000", 123456789, "123-45-6789")]
)
def test_masks_keep_their_zeros(code: str, number: int, form: str) -> None:
    """What a mask fills up is part of a name."""
    assert NumberFormat(code).value(number) == form


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**9), max_value=10**9))
def test_a_text_of_a_number_has_its_form(number: Decimal) -> None:
    """However many zeros it ends with; one that begins with zeros is none, and stays."""
    plain = number_form(f"{number:f}")
    assert number_form(plain) == plain == number_form(f"{number:.6f}")
    assert Decimal(plain) == number
    assert number_form(f"00{abs(number):f}") == f"00{abs(number):f}"


def test_rows_of_a_workbook_have_one_key_under_all_formats(tmp_path: Path) -> None:
    """The same list in each format: the same keys; 10 and 10.004 are two, though both may show 10.00."""
    rows = [("a", 10), ("b", 10.004), ("c", 0.195), ("d", -1234.5)]
    found = [keys(workbook(tmp_path / f"{place}.xlsx", rows, code)) for place, code in enumerate(AMOUNTS)]
    assert all(each == found[0] for each in found)
    assert len(set(keys(workbook(tmp_path / "two.xlsx", [("a", 10), ("a", 10.004)], "0.00")))) == 2


def test_ten_shown_as_ten_point_zero_zero_runs_nothing_again(tmp_path: Path) -> None:
    """A format that is changed between two nights starts no row, not even with --retry changed."""
    journal, rows = tmp_path / "a.journal.db", [("a", 10), ("b", 1234.5)]
    run_night(journal, workbook(tmp_path / "in.xlsx", rows))
    assert starts(journal, workbook(tmp_path / "in.xlsx", rows, "0.00")) == 0
    assert starts(journal, workbook(tmp_path / "in.xlsx", rows, "#,##0.000")) == 0
    assert starts(journal, workbook(tmp_path / "in.xlsx", [("a", 10), ("b", 1234.51)], "0.00")) == 1


@pytest.mark.long
@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), NUMBERS, st.integers(0, 99)), min_size=1, max_size=4, unique=True),
    st.sampled_from(("General", "0.00", "0.0000", "#,##0.00", "0.0%")),
    st.booleans(),
    st.sampled_from([(), ("B",), ("A", "C")]),
)
def test_the_same_list_as_a_workbook_and_as_text(
    rows: list[tuple[str, float, int]], code: str, is_text_first: bool, key: tuple[str, ...]
) -> None:
    """What ran from one runs from the other no more, whichever came first."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        book = workbook(folder / "in.xlsx", rows, code)
        with Source(Job(input=str(book)), folder) as source:
            shown = text_file(folder / "in.csv", [list(row.params.values()) for row in source.rows()])
        first, second = (shown, book) if is_text_first else (book, shown)
        run_night(folder / "a.journal.db", first, key=key)
        assert starts(folder / "a.journal.db", second, key=key) == 0
        assert starts(folder / "a.journal.db", first, key=key) == 0


def test_a_text_file_that_excel_has_saved(tmp_path: Path) -> None:
    """10.00 in the export is 10 in the workbook that was made of it."""
    run_night(tmp_path / "a.journal.db", text_file(tmp_path / "in.csv", [("a", "10.00"), ("b", "1.10")]))
    assert starts(tmp_path / "a.journal.db", workbook(tmp_path / "in.xlsx", [("a", 10), ("b", 1.1)])) == 0


def test_a_text_that_may_be_either(tmp_path: Path) -> None:
    """1.10 and 1.1 in a text file are two rows; the one that is new beside the other is sent, and no other."""
    journal = tmp_path / "a.journal.db"
    run_night(journal, text_file(tmp_path / "in.csv", [("1.1",), ("2",)]))
    assert starts(journal, text_file(tmp_path / "in.csv", [("1.10",), ("1.1",), ("2",)])) == 1
    assert starts(journal, text_file(tmp_path / "in.csv", [("1.10",), ("2",)])) == 0


NO = ("A",)


@pytest.mark.parametrize(("ran", "tonight"), [("7.1", "7.10"), ("7.10", "7.1"), ("10", "10.0"), ("5%", "0.05")])
def test_two_texts_of_one_number_are_held_where_they_are_the_key(tmp_path: Path, ran: str, tonight: str) -> None:
    """In text files 7.1 and 7.10 may be two invoices: neither is started unasked, nor has the other's outcome."""
    journal, first, second = tmp_path / "a.journal.db", tmp_path / "1.csv", tmp_path / "2.csv"
    run_night(journal, text_file(first, [(ran, "30")]), key=NO)
    for amount in ("30", "50"):
        info = msgspec.structs.replace(batch_info(key=NO), input=str(second))
        (step,) = steps_of(journal, text_file(second, [(tonight, amount)]), info, key=NO)
        assert isinstance(step, Refuse)
        assert "but for the zeros of a number" in step.why
    assert starts(journal, text_file(second, [(tonight, "50"), (ran, "30")]), key=NO) == 1
    assert starts(journal, text_file(second, [(ran, "30")]), key=NO) == 0


def test_a_volatile_column_is_no_part_of_the_default_key(tmp_path: Path) -> None:
    """Days overdue differ at each save: the row is the same, and doesn't count as edited; `check` names the column."""
    book, journal = tmp_path / "in.xlsx", tmp_path / "a.journal.db"
    set_formula(book, "=TODAY()-46000", 300)
    run_night(journal, book)
    set_formula(book, "=TODAY()-46000", 301)
    assert starts(journal, book) == 0
    with Source(Job(input=str(book)), tmp_path) as source:
        assert any("'B'" in note and "TODAY()" in note for note in source.first_notes), source.first_notes
        assert next(source.rows()).params == {"A": "a", "B": "301"}
    set_formula(book, "=B1-46000", 302)
    assert starts(journal, book) == 1


def set_formula(book: Path, formula: str, value: int) -> None:
    """Put a formula with its value into B2."""
    rows = f'<row r="2">{text_cell("A2", "a")}<c r="B2"><f>{formula}</f><v>{value}</v></c></row>'
    write_workbook(book, {"S": Tab(rows=text_row(1, "A", "B") + rows)})
