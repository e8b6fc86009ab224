"""`--where`: a condition in SQL over the columns of a sheet."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from csvfiles import csv_sheet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from openpyxl import Workbook

from batch_runner.errors import UsageError
from batch_runner.rows.selection import CHUNK, select
from batch_runner.sheet.export import open_sheet
from batch_runner.sheet.model import Reading, RowKind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batch_runner.sheet.model import Sheet

HEADERS = ["Amount", "Country", "Empty", "Id", "Invoice Number", "Größe", 'so "called"', "a.b", "Zip", "status"]
ROWS = [
    ["100", "DE", "", "12345678901234567", "a", "1.5", "x", "1", "01234", "open"],
    ["-20.50", "FR", "", "12345678901234568", "b", "", "y", "2", "99999", "paid"],
    ["", "DE", "", "1", "it's", "3", "", "3", "10115", "open"],
    ["1000", "", "", "2", "d", "4", "z", "4", "80331", ""],
]


@pytest.fixture
def sheet(tmp_path: Path) -> Iterator[Sheet]:
    with csv_sheet(tmp_path, HEADERS, *ROWS) as opened:
        yield opened


def chosen(sheet: Sheet, where: str) -> list[int]:
    selection = select(sheet, None, where, None)
    numbers = [row.number for row in selection.rows(sheet)]
    assert selection.count(sheet) == len(numbers)
    return numbers


def refusal(sheet: Sheet, where: str) -> str:
    """What is said against it, before a row is sent: when it is made, or when its rows are counted."""
    with pytest.raises(UsageError) as caught:
        select(sheet, None, where, None).count(sheet)
    assert str(caught.value).startswith("where: ")
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.parametrize(
    ("where", "numbers"),
    [
        ("Amount > 99", [2, 5]),
        ("Amount > 100 AND Country = 'DE'", []),
        ("Amount = -20.5", [3]),
        ("Country = 'DE'", [2, 4]),
        ("Country <> 'DE'", [3]),
        ("Country IS NULL", [5]),
        ("Amount IS NULL", [4]),
        ("Amount IS NOT NULL AND Country IS NOT NULL", [2, 3]),
        ("NOT (Amount > 99)", [3]),
        ("Country IN ('FR', 'IT')", [3]),
        ("Country LIKE 'D%'", [2, 4]),
        ("Amount BETWEEN -50 AND 100", [2, 3]),
        ("\"Invoice Number\" = 'it''s'", [4]),
        ("Größe >= 3", [4, 5]),
        ('"so ""called""" = \'y\'', [3]),
        ('"a.b" > 2', [4, 5]),
        ("Zip = '01234'", [2]),
        ("status = 'paid'", [3]),
        ("Id = '12345678901234568'", [3]),
        ("CASE WHEN Country = 'DE' THEN Amount > 0 ELSE TRUE END", [2, 3, 5]),
        ("1 = 1", [2, 3, 4, 5]),
        ("FALSE", []),
        ("Amount > 99 -- the big ones", [2, 5]),
    ],
)
def test_rows_for_which_it_holds(sheet: Sheet, where: str, numbers: list[int]) -> None:
    """Plain numbers compare as numbers, all else as text; an empty cell is NULL and decides nothing."""
    assert chosen(sheet, where) == numbers


@pytest.mark.parametrize(
    "where", ["Empty = 'x'", "Empty > 5", "Empty LIKE 'x%'", "ABS(Empty) > 1", "Empty IN ('a', 'b')"]
)
def test_an_empty_column_is_of_any_type(sheet: Sheet, where: str) -> None:
    """A column that nobody has filled in yet suits conditions for texts and for numbers: it decides nothing."""
    assert chosen(sheet, where) == []


@pytest.mark.parametrize(
    "where", ["Amount > 5", "Country = 'DE'", "Country LIKE 'D%'", "Amount > 5 AND Country = 'DE'"]
)
def test_a_sheet_of_zero_rows_is_fine(tmp_path: Path, where: str) -> None:
    """On a night without rows the condition of every night still makes sense."""
    with csv_sheet(tmp_path, ["Amount", "Country"]) as sheet:
        assert chosen(sheet, where) == []


def test_an_unknown_column_is_named(sheet: Sheet) -> None:
    """A slip in a column's name is told with the nearest name; case counts."""
    assert "has no column 'Amont'; did you mean 'Amount'?" in refusal(sheet, "Amont > 5")
    assert "has no column 'AMOUNT'" in refusal(sheet, "AMOUNT > 5")


@pytest.mark.parametrize(
    "where",
    [
        "",
        "   ",
        "*",
        "Amount > 100 ADN Country = 'DE'",
        "Amount > 100 Country = 'DE'",
        "Amount > 5 AS x",
        "Amount >",
        "Amount > 5; DROP TABLE x",
        "SELECT 1",
        "(",
        "Amount IN ()",
    ],
)
def test_junk_is_no_condition(sheet: Sheet, where: str) -> None:
    """What isn't SQL is refused with a sentence that repeats it."""
    assert repr(where) in refusal(sheet, where)


@pytest.mark.parametrize("where", ["Amount", "'x'", "Amount + 1", "Country", "NULL"])
def test_a_value_is_no_condition(sheet: Sheet, where: str) -> None:
    """A condition says yes or no."""
    assert "it gives a value, not yes or no" in refusal(sheet, where)


@pytest.mark.parametrize(
    ("where", "hint"),
    [
        ("Country > 5", "Country is text, since invoices.csv, B2 is no plain number"),
        ("Zip > 5", "Zip is text, since invoices.csv, I2 is no plain number"),
        ("Amount = '100'", "Amount is a number"),
    ],
)
def test_a_wrong_type_is_explained(sheet: Sheet, where: str, hint: str) -> None:
    """Comparing a text with a number is refused, with the cell that makes the column text."""
    assert hint in refusal(sheet, where)


def test_one_cell_deep_in_the_sheet_makes_a_column_text(tmp_path: Path) -> None:
    """A column that is numeric but for one cell is text from its first row on, and that cell is named."""
    rows = [["1"]] * (2 * CHUNK) + [["n/a"]] + [["2"]] * 3
    with csv_sheet(tmp_path, ["Amount"], *rows) as sheet:
        assert f"Amount is text, since invoices.csv, A{2 * CHUNK + 2} is no plain number" in refusal(
            sheet, "Amount > 1"
        )


@pytest.mark.parametrize(
    "where",
    ["Amount > AVG(Amount)", "COUNT(*) > 1", "SUM(Amount) OVER (PARTITION BY Amount > 3) > 5", "Amount = MAX(Amount)"],
)
def test_a_condition_is_about_one_row(tmp_path: Path, where: str) -> None:
    """What needs several rows would be answered from those that happen to be read together: refused."""
    with csv_sheet(tmp_path, ["Amount"], *([str(number)] for number in range(40))) as sheet:
        assert re.search("is about several rows at once|can't be decided", refusal(sheet, where))


def test_a_cell_that_breaks_the_condition_is_a_sentence(sheet: Sheet) -> None:
    """What makes sense of the types and not of a cell is refused with the rows, before anything is sent."""
    assert "can't be decided for rows 2 to 5" in refusal(sheet, "CAST(Country AS INT) > 5")


NAMES = ["Amount", "Country", "Empty", '"a.b"', "'DE'", "''", "'x%'", "'('", "5", "-1", "1e400", "NULL", "*"]
SIGNS = [
    "=",
    "<>",
    ">",
    "+",
    "-",
    "/",
    "%",
    "||",
    "~",
    "::",
    ",",
    ".",
    "(",
    ")",
    "[",
    "]",
    "AND",
    "OR",
    "LIKE",
    "IN",
    "AS",
]
WORDS = ["NOT", "IS", "BETWEEN", "CASE", "WHEN", "THEN", "END", "CAST", "INT", "DATE", "OVER", "SUM", "UPPER", "SELECT"]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.lists(st.sampled_from(NAMES + SIGNS + WORDS), max_size=9).map(" ".join), st.text(max_size=20)))
def test_any_text_is_a_condition_or_a_sentence(sheet: Sheet, where: str) -> None:
    """Whatever a person writes, polars' own words and panics don't end the program: rows or one sentence."""
    data = [row.number for row in sheet.rows() if row.kind is RowKind.DATA]
    try:
        selection = select(sheet, None, where, None)
        assert selection.count(sheet) <= len(data)
    except UsageError as error:
        assert re.match(r"where: .", str(error))  # noqa: PT017  whether it comes is not the claim


@pytest.mark.parametrize(
    "where",
    ["Country = ''", "Country <> ''", "Country IN ('DE', '')", "'' = Country", "NOT Country = '' -- none", "Empty=''"],
)
def test_an_empty_cell_is_null_and_equal_to_nothing(sheet: Sheet, where: str) -> None:
    """`= ''` would never hold, `<> ''` not for what is empty: refused with what to write."""
    assert "an empty cell is NULL; write IS NULL or IS NOT NULL" in refusal(sheet, where)
    assert chosen(sheet, "COALESCE(Country, '') = ''") == [5]
    assert chosen(sheet, "Country LIKE '%' AND Country <> 'it''s'") == [2, 3, 4]


@pytest.mark.parametrize(
    "where",
    ["Zip > '100'", "'100' <= Zip", "Zip BETWEEN '1' AND '1,000.00'", "Country = 'DE' AND Zip < '5 €'", "Zip>='-1'"],
)
def test_texts_that_look_like_amounts_are_not_compared(sheet: Sheet, where: str) -> None:
    """As texts `'9'` is more than `'100'`: refused, and what to write. Dates and words keep their order."""
    assert "compares '" in refusal(sheet, where)
    assert "write the number without quotes" in refusal(sheet, where)
    assert chosen(sheet, "status >= 'open' AND Zip IN ('01234') AND Id = '12345678901234567'") == [2]
    assert chosen(sheet, "Country > '2026-01-31'") == [2, 3, 4]


def test_amounts_compare_as_amounts_however_they_are_written(tmp_path: Path) -> None:
    """One cell with a separator or a symbol makes the column no text."""
    rows = [["1234.50"], ["1,234.50"], ["99"], ["€ 7"], [""], ["-8"]]
    with csv_sheet(tmp_path, ["Amount"], *rows) as sheet:
        assert chosen(sheet, "Amount > 100") == [2, 3]
        assert chosen(sheet, "Amount < 8") == [5, 7]
        assert "Amount is a number" in refusal(sheet, "Amount = '99'")


@pytest.mark.parametrize(
    "rows", [["1.234", "5,50"], ["5,50", "1.234"], ["1.234,00", "1.234"], ["5 €", "5 $"], ["1,234", "1"], ["5%", "1"]]
)
def test_amounts_that_are_not_sure_are_text(tmp_path: Path, rows: list[str]) -> None:
    """What may be thousands or decimals, and amounts in two currencies, can't be compared: refused, never guessed."""
    with csv_sheet(tmp_path, ["Amount"], *([text] for text in rows)) as sheet:
        assert "Amount is text, since invoices.csv, A" in refusal(sheet, "Amount > 2")


@pytest.mark.parametrize("as_shown", [False, True])
def test_amounts_of_a_workbook_compare_whatever_their_formats(tmp_path: Path, *, as_shown: bool) -> None:
    """Each cell of a column has a format of its own: it is its number that counts."""
    book = Workbook()
    page = book.active
    assert page is not None
    page.append(["Amount", "Date"])
    codes = ["General", "#,##0.00", '#,##0.00\\ "€"', "0.00E+00", "#,##0,", '0;-0;"-"']
    for value, code in zip([150, 1234.5, 1500, 123456, 2000000, 0], codes, strict=True):
        page.append([value, 46000 + page.max_row])
        page.cell(page.max_row, 1).number_format = code
        page.cell(page.max_row, 2).number_format = "yyyy-mm-dd"
    book.save(tmp_path / "in.xlsx")
    with open_sheet(tmp_path / "in.xlsx", Reading(as_shown=as_shown), tmp_path) as sheet:
        assert chosen(sheet, "Amount > 1000") == [3, 4, 5, 6]
        assert chosen(sheet, "Amount < 151") == [2, 7]
        assert chosen(sheet, "Amount >= 2000000") == [6]


def test_a_column_goes_by_its_letter_too(sheet: Sheet) -> None:
    """Unless a header has that text."""
    assert chosen(sheet, "A > 99") == chosen(sheet, "Amount > 99")
    assert chosen(sheet, "B = 'DE' AND Amount > 0") == [2]
    assert "no column 'ZZ'" in refusal(sheet, "ZZ > 1")


def test_a_header_wins_over_a_letter_in_a_condition(tmp_path: Path) -> None:
    """As it does in the other options."""
    with csv_sheet(tmp_path, ["B", "Net"], ["1", "20"], ["2", "10"]) as sheet:
        assert chosen(sheet, "B > 1") == [3]
        assert chosen(sheet, "A > 1") == [3]
