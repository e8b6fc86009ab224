"""Control totals: both sides of the equation, to the cent, and what was not added by its address."""

from __future__ import annotations

import csv
import json
import re
import zipfile
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl import Workbook
from program import run_program

from batch_runner.errors import UsageError
from batch_runner.job.job import Job
from batch_runner.journal.view import Placed
from batch_runner.outcomes import STATUSES
from batch_runner.report.totals import ColumnTotals, Unread, control_totals, differing, marked
from batch_runner.rows.source import Source

if TYPE_CHECKING:
    from pathlib import Path

TASKS = """
async def pay(params):
    if params["End"] != "success":
        raise ValueError("no")
"""


def sheet_of(folder: Path, rows: list[list[str]]) -> Path:
    """A CSV file; the first row is the header."""
    path = folder / "in.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def placed(number: int, status: str) -> Placed:
    return Placed(number, status, "", "", "", changed=False)


def totals(path: Path, statuses: list[str], *columns: str, **options: object) -> tuple[ColumnTotals, ...]:
    """The totals of a sheet whose rows, from row 2 on, came to these."""
    with Source(Job(input=str(path), total=columns, **options), path.parent) as source:  # type: ignore[arg-type]
        return control_totals(source, [placed(number, status) for number, status in enumerate(statuses, 2)])


def test_each_status_has_its_side(tmp_path: Path) -> None:
    """Succeeded, failed, unsettled and not started; each exact, all with as many decimals as the input."""
    path = sheet_of(tmp_path, [["Amount"], *([f"{2**place}.1"] for place in range(9)), ["1000.25"]])
    (column,) = totals(path, [*STATUSES, "a new word"], "Amount")
    (found,) = column.sums
    assert (found.currency, found.rows, found.input) == ("", 10, Decimal("1512.15"))
    assert found.succeeded == Decimal("1.10")
    assert found.failed == Decimal(2 + 4 + 8 + 16) + Decimal("0.4")
    assert found.unsettled == Decimal(32 + 64 + 128) + Decimal("1000.25") + Decimal("0.3")
    assert found.not_started == Decimal("256.10")
    assert found.difference == 0
    assert str(found.succeeded) == "1.10"


@given(
    st.lists(st.tuples(st.integers(-(10**11), 10**11), st.sampled_from(STATUSES), st.sampled_from(["EUR", "USD", ""])))
)
def test_the_equation_holds_to_the_cent(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, str, str]]
) -> None:
    """For any amounts, outcomes and currencies each side is what whole cents add up to."""
    cells = [[f"{Decimal(cents) / 100:.2f}", currency, "x"] for cents, _, currency in rows]
    path = sheet_of(tmp_path_factory.mktemp("sheet"), [["Amount", "Currency", "x"], *cells])
    (column,) = totals(path, [status for _, status, _ in rows], "Amount")
    assert sum(found.rows for found in column.sums) == len(rows)
    for found in column.sums:
        mine = [(cents, status) for cents, status, currency in rows if currency == found.currency]
        assert found.input * 100 == sum(cents for cents, _ in mine)
        assert found.succeeded * 100 == sum(cents for cents, status in mine if status == "success")
        assert found.not_started * 100 == sum(cents for cents, status in mine if status == "not_started")
        assert found.input == found.succeeded + found.failed + found.unsettled + found.not_started
        assert found.difference == 0


def test_an_edited_amount_is_on_a_line_of_its_own(tmp_path: Path) -> None:
    """Whatever its row came to: 900.00 stands in the sheet, and nobody knows from there what ran."""
    path = sheet_of(tmp_path, [["Amount"], ["900.00"], ["5.00"], ["1.00"]])
    outcomes = [
        Placed(2, "success", "", "", "", changed=True),
        Placed(3, "failure", "", "", "", changed=True),
        Placed(4, "success", "", "", "", changed=False),
    ]
    with Source(Job(input=str(path), total=("Amount",)), path.parent) as source:
        (column,) = control_totals(source, outcomes)
    (found,) = column.sums
    assert (found.succeeded, found.failed, found.edited) == (Decimal("1.00"), Decimal("0.00"), Decimal("905.00"))
    assert found.difference == 0
    assert next(column.lines()) == (
        "total Amount: 906.00 (no currency) = 1.00 succeeded + 0.00 failed + 905.00 edited since they ran"
        " + 0.00 not started"
    )


def test_amounts_of_any_size_are_never_rounded(tmp_path: Path) -> None:
    """Thirty digits and one cent: a float, and a decimal of the usual precision, would lose the cent."""
    path = sheet_of(tmp_path, [["Amount"], ["9" * 28 + ".99"], ["0.01"], ["0.01"]])
    (column,) = totals(path, ["success"] * 3, "Amount")
    assert str(column.sums[0].input) == "1" + "0" * 28 + ".01"


def test_a_row_that_nobody_accounts_for_is_a_bug_that_is_said(tmp_path: Path) -> None:
    """The sides are added up apart: a row without an outcome makes them differ, and the line says so."""
    path = sheet_of(tmp_path, [["Amount"], ["10.00"], ["5.50"]])
    (column,) = totals(path, ["success"], "Amount")
    assert column.sums[0].difference == Decimal("5.50")
    assert "WHICH DIFFERS BY 5.50: a bug of ours" in next(column.lines())


def test_what_is_not_sure_is_named_and_not_added(tmp_path: Path) -> None:
    """Ambiguous, empty, contradicted and foreign amounts are counted, with their cells, and are no zero."""
    rows = [["Amount", "Whg"], ["1.234", ""], ["", "EUR"], ["5 EUR", "USD"], ["5.00", "Taler"], ["7.00", "eur"]]
    path = sheet_of(tmp_path, rows)
    (column,) = totals(path, ["success"] * 5, "Amount")
    assert [(found.currency, found.input) for found in column.sums] == [("EUR", Decimal("7.00"))]
    assert column.not_added == 4
    assert column.unread == (
        Unread(2, "in.csv, A2", "its one comma or point may mark thousands or decimals"),
        Unread(3, "in.csv, A3", "empty"),
        Unread(4, "in.csv, A4", "its row names another currency"),
        Unread(5, "in.csv, A5", "its row names a currency that is not known"),
    )
    assert list(column.lines())[-1].startswith("total Amount: 4 not added (row 2: its one comma")


def test_rows_that_take_no_part_are_outside(tmp_path: Path) -> None:
    """What --rows leaves out is not in the input."""
    path = sheet_of(tmp_path, [["Amount"], ["1.00"], ["2.00"], ["4.00"]])
    with Source(Job(input=str(path), total=("Amount",), rows="3-"), tmp_path) as source:
        (column,) = control_totals(source, [placed(3, "success"), placed(4, "failure")])
    assert (column.sums[0].input, column.sums[0].succeeded) == (Decimal("6.00"), Decimal("2.00"))


def test_a_workbooks_formats_name_the_currency(tmp_path: Path) -> None:
    """Numbers are sure whatever their decimals, and those with other signs are never added together."""
    book = Workbook()
    page = book.active
    assert page is not None
    page.append(["Amount"])
    for value, code in ((1.234, "General"), (1000.5, "#,##0.00 [$€-407]"), (2, "#,##0.00\\ [$€-1]"), (3, "$#,##0.00")):
        page.append([value])
        page.cell(page.max_row, 1).number_format = code
    page.append(["1.234"])
    page.append(["=1/0"])
    book.save(tmp_path / "in.xlsx")
    (column,) = totals(tmp_path / "in.xlsx", ["success"] * 6, "Amount")
    sums = {found.currency: str(found.input) for found in column.sums}
    assert sums == {"": "1.234", "$": "3.00", "EUR": "1002.50"}
    assert [cell.row for cell in column.unread] == [6, 7]


def test_what_the_cells_hold_is_added(tmp_path: Path) -> None:
    """As Excel's SUM adds it, whatever a format shows of it; the rows are named where the shown number is another."""
    book = Workbook()
    page = book.active
    assert page is not None
    page.append(["Amount"])
    thousands, rounded, red, dash = "#,##0,", "#,##0.0", "#,##0.00;[Red]#,##0.00", '0;-0;"-"'
    for value, code in (
        (1234567, thousands), (1234.56, rounded), (-5, red), (0.1 + 0.2, "General"), (7, '"CHF" 0.0'), (0, dash),
        (123456, "0.0E+00"),
    ):  # fmt: skip
        page.append([value])
        page.cell(page.max_row, 1).number_format = code
    book.save(tmp_path / "in.xlsx")
    held = Decimal("1234567") + Decimal("1234.56") - 5 + Decimal("0.3") + 123456
    for options, other in (({}, (3, 8)), ({"as_shown": True}, (2, 3, 7, 8))):
        (column,) = totals(tmp_path / "in.xlsx", ["success"] * 7, "Amount", **options)
        assert column.sums[0].input == held
        assert (column.not_added, column.differing_rows) == (0, other)
        numbers = ", ".join(map(str, other))
        assert f"cells show another number than what is held and added here (rows {numbers})" in [*column.lines()][-1]


def test_a_date_or_a_percentage_is_no_amount(tmp_path: Path) -> None:
    """Excel holds them as numbers, too: a total of money has none of them."""
    book = Workbook()
    page = book.active
    assert page is not None
    page.append(["Amount"])
    for code in ("yyyy-mm-dd", "0%", "hh:mm"):
        page.append([0.5 if code != "yyyy-mm-dd" else 46000])
        page.cell(page.max_row, 1).number_format = code
    book.save(tmp_path / "in.xlsx")
    (column,) = totals(tmp_path / "in.xlsx", ["success"] * 3, "Amount")
    assert (column.sums, column.not_added, column.differing) == ((), 3, 0)


def test_amounts_as_shown_have_their_sign_beside_them(tmp_path: Path) -> None:
    """With --as-shown the text is `1,234 €`; the cell is still a number, so nothing is guessed."""
    book = Workbook()
    page = book.active
    assert page is not None
    page.append(["Amount"])
    page.append([1234])
    page.cell(2, 1).number_format = "#,##0 [$€-407]"
    book.save(tmp_path / "in.xlsx")
    (column,) = totals(tmp_path / "in.xlsx", ["success"], "Amount", as_shown=True)
    assert [(found.currency, found.input) for found in column.sums] == [("EUR", Decimal(1234))]


def test_a_column_that_is_not_there_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    """With the nearest name that is there."""
    path = sheet_of(tmp_path, [["Amount", "B"], ["1", "2"]])
    with pytest.raises(UsageError, match=r"total: in\.csv has no column 'Amuont'; did you mean 'Amount'\?"):
        Source(Job(input=str(path), total=("Amuont",)), tmp_path)


def test_the_program_says_the_totals(tmp_path: Path) -> None:
    """A line in the summary, exact decimals as texts in --json, several columns, carried rows included."""
    rows = [["No", "Net", "Tax", "Currency", "End"], ["1", "100.00", "19.00", "EUR", "success"]]
    sheet_of(tmp_path, [*rows, ["2", "50.10", "9.52", "EUR", "failure"]])
    (tmp_path / "tasks.py").write_text(TASKS)
    command = ("run", "in.csv", "--task", "tasks.py:pay", "--total", "Net,Tax")
    told = run_program(*command, cwd=tmp_path)
    assert told.returncode == 3, told.stderr
    assert "  total Net: 150.10 EUR = 100.00 succeeded + 50.10 failed + 0.00 not started\n" in told.stdout
    again = json.loads(run_program(*command, "--json", cwd=tmp_path).stdout)
    assert [column["column"] for column in again["totals"]] == ["Net", "Tax"]
    assert again["totals"][1]["sums"] == [
        {
            "currency": "EUR",
            "rows": 2,
            "input": "28.52",
            "succeeded": "19.00",
            "failed": "9.52",
            "unsettled": "0.00",
            "edited": "0.00",
            "not_started": "0.00",
            "difference": "0.00",
        }
    ]
    assert msgspec.convert(again["totals"][0], ColumnTotals, strict=False).not_added == 0


@pytest.mark.long
def test_amounts_are_written_as_the_locale_has_it(tmp_path: Path) -> None:
    """With --locale all amounts that the terminal and the report tell of; JSON and the output stay as they are."""
    sheet_of(tmp_path, [["No", "Net", "IBAN"], ["1", "1.234,50 €", "DE02"], ["2", "20,00 €", "DE03"], ["Summe", "9"]])
    (tmp_path / "tasks.py").write_text("async def pay(params):\n    return {'total': '1234.00'}\n")
    words = ("in.csv", "--task", "tasks.py:pay", "--key", "No", "--total", "Net", "--compare", "Net=result.total")
    german = ("--suspect-rows", "skip", "--locale", "de")
    told = run_program("check", *words, *german, cwd=tmp_path).stdout
    assert "  total:   Net: 1.254,50 of 1.254,50 EUR to start\n" in told
    assert "  total:   Net: your row 4 says 9: NOT EQUAL, the rows come to 1.254,50, which" in told
    told = run_program("run", *words, *german, "--report", "r.html", cwd=tmp_path).stdout
    assert "  total Net: 1.254,50 EUR = 1.254,50 succeeded + 0,00 failed + 0,00 not started\n" in told
    assert "  row 2: Net 1.234,50 EUR in the sheet, 1.234,00 in result.total\n" in told
    assert "Net 1.234,50 EUR in the sheet, 1.234,00 in result.total" in (tmp_path / "r.html").read_text("utf-8")
    output = (tmp_path / "in.results.csv").read_text("utf-8-sig")
    assert "Net 1.234,50 € in the sheet, 1234.00 in result.total" in output
    fields = json.loads(run_program("run", *words, *german, "--json", cwd=tmp_path).stdout)
    assert fields["totals"][0]["sums"][0]["input"] == "1254.50"


def _said(path: Path, **options: object) -> list[str]:
    """What the totals of Net say of the sheet's own total rows, all rows counted as not started."""
    with Source(Job(input=str(path), total=("Net",), **options), path.parent) as source:  # type: ignore[arg-type]
        (column,) = control_totals(source, [placed(row.row_number, "not_started") for row in source.rows()])
        assert all(not found.difference for found in column.sums)
        return list(column.compared())


def _book(folder: Path, *rows: list[object]) -> Path:
    book = Workbook()
    book.calculation.fullCalcOnLoad = False  # its values are those that the test gives it
    page = book.active
    assert page is not None
    for row in rows:
        page.append(row)
    book.save(folder / "in.xlsx")
    return folder / "in.xlsx"


def _calculated(path: Path, values: dict[str, str]) -> Path:
    """The workbook with values for its formulas, as Excel leaves them."""
    with zipfile.ZipFile(path) as before:
        files = {name: before.read(name) for name in before.namelist()}
    part = files["xl/worksheets/sheet1.xml"].decode()
    for address, value in values.items():
        head, _, tail = part.partition(f'<c r="{address}">')
        assert "<v />" in tail or "<v/>" in tail
        part = f'{head}<c r="{address}">' + re.sub("<v ?/>", f"<v>{value}</v>", tail, count=1)
    files["xl/worksheets/sheet1.xml"] = part.encode()
    with zipfile.ZipFile(path, "w") as after:
        for name, data in files.items():
            after.writestr(name, data)
    return path


LIST: list[list[object]] = [["No", "Net"], ["RE-1", 10.1], ["RE-2", 20.2], ["RE-3", 30.3]]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("60.6", "your row 5 says 60.60: equal"),
        ("60.599999999999994", "your row 5 says 60.60: equal"),
        ("70.7", "your row 5 says 70.70: NOT EQUAL, the rows come to 60.60, which differs by 10.10"),
    ],
)
def test_a_certain_total_row_is_compared(tmp_path: Path, value: str, says: str) -> None:
    """Its value is none of our amounts; whether both are equal is said."""
    path = _book(tmp_path, *LIST, ["Total", "=SUM(B2:B4)"])
    assert _said(_calculated(path, {"B5": value})) == [says]


def test_subtotals_are_compared_with_their_own_rows(tmp_path: Path) -> None:
    """And the last one with all."""
    path = _book(
        tmp_path, *LIST, ["Sum", "=SUM(B2:B4)"], ["RE-4", 5], ["RE-5", 6], ["Sum", "=SUM(B6:B7)"], ["", "=SUM(B5,B8)"]
    )
    said = _said(_calculated(path, {"B5": "60.6", "B8": "11", "B9": "71.6"}))
    assert said == ["your row 9 says 71.60: equal (and rows 5, 8)"]


def test_a_total_that_only_looks_like_one_is_never_added(tmp_path: Path) -> None:
    """It is refused as suspect, so that no total is doubled; its value is compared all the same."""
    path = sheet_of(tmp_path, [["No", "Net"], ["RE-1", "10,00"], ["RE-2", "20,50"], ["Gesamtsumme", "30,50"]])
    with Source(Job(input=str(path), total=("Net",)), path.parent) as source:
        (column,) = control_totals(source, [placed(2, "success"), placed(3, "success"), placed(4, "error")])
    assert (column.sums[0].rows, column.sums[0].input) == (2, Decimal("30.50"))
    assert list(column.lines())[1] == "total Net: your row 4 says 30.50: equal"


def test_rows_that_are_left_out_still_make_the_sheets_total(tmp_path: Path) -> None:
    """The sheet's total is of all its rows, whichever take part."""
    path = _book(tmp_path, *LIST, ["Total", "=SUM(B2:B4)"])
    _calculated(path, {"B5": "60.6"})
    for options in ({"limit": 1}, {"rows": "2-3"}, {"where": "Net > 15"}):
        assert _said(path, **options) == ["your row 5 says 60.60: equal"]


def test_a_total_row_is_compared_without_being_asked(tmp_path: Path) -> None:
    """`check` and the summary say it, and nothing else of that column."""
    path = _calculated(_book(tmp_path, *LIST, ["Total", "=SUM(B2:B4)"]), {"B5": "60.6"})
    (tmp_path / "tasks.py").write_text("async def echo(params):\n    return params\n")
    for verb in ("check", "run"):
        done = run_program(verb, str(path), "--task", f"{tmp_path / 'tasks.py'}:echo", cwd=tmp_path)
        assert "Net: your row 5 says 60.60: equal" in done.stdout


def test_an_unsure_amount_makes_no_verdict(tmp_path: Path) -> None:
    """Neither equal nor not."""
    path = sheet_of(tmp_path, [["No", "Net"], ["RE-1", "1.234"], ["RE-2", "20.50"], ["Total", "1254.50"]])
    assert _said(path) == ["your row 4 says 1,254.50, which can't be compared: some cells hold no amount that is sure"]


@pytest.mark.parametrize(
    ("cell", "total", "differs"),
    [
        ("1190.00", '"1190.00"', None),
        ("1190", "1190.0", None),
        ("1.190,00 €", '"1190.00"', None),
        ("1190.00", '"1.190"', None),
        ("1190.00", '"EUR 1,190.00"', None),
        ("$1190.00", '"EUR 1,190.00"', "Gross $1190.00 in the sheet, EUR 1,190.00 in result.total"),
        ("1190.00", '"1199.00"', "Gross 1190.00 in the sheet, 1199.00 in result.total"),
        ("1190.00", "null", "Gross 1190.00 in the sheet, no result.total"),
        ("", '"5"', "Gross (empty) in the sheet, 5 in result.total"),
        ("2026-02-28", '"2026-02-28"', None),
        ("Acme ", '"ACME"', None),
    ],
)
def test_a_result_is_compared_with_its_row(tmp_path: Path, cell: str, total: str, differs: str | None) -> None:
    """As amounts where both can be read so, else as texts; the row is marked, and counted."""
    path = sheet_of(tmp_path, [["No", "Gross"], ["RE-1", cell], ["RE-2", "7"]])
    outcomes = [
        Placed(2, "success", "r1", f'{{"total": {total}}}', "", changed=False),
        Placed(3, "failure", "r2", "", "no", changed=False),
    ]
    with Source(Job(input=str(path), compare={"Gross": "result.total"}), path.parent) as source:
        (found,) = differing(source, outcomes)
        errors = [one.error for one in marked(source, outcomes)]
    assert (found.compared, found.rows) == (1, int(differs is not None))
    assert found.first == (((2, differs),) if differs else ())
    assert errors == [f"differs: {differs}" if differs else "", "no"]


def test_what_differs_is_told_however_quiet(tmp_path: Path) -> None:
    """In the output beside a success, in the summary also with --quiet, and in the report; the exit code is 0."""
    sheet_of(tmp_path, [["No", "Net"], ["RE-1", "10.00"], ["RE-2", "20.00"]])
    (tmp_path / "t.py").write_text("async def t(params):\n    return {'sum': {'net': '10.00'}}\n")
    words = ("--task", "t.py:t", "--compare", "Net=result.sum.net", "--report", "r.html", "--quiet")
    done = run_program("run", "in.csv", *words, cwd=tmp_path)
    assert done.returncode == 0
    assert "Net and result.sum.net differ in 1 of 2 rows that succeeded" in done.stdout
    said = "Net 20.00 in the sheet, 10.00 in result.sum.net"
    assert f"row 3: {said}" in done.stdout
    with (tmp_path / "in.results.csv").open(encoding="utf-8-sig", newline="") as file:
        assert [row["error"] for row in csv.DictReader(file)] == ["", f"differs: {said}"]
    assert said in (tmp_path / "r.html").read_text("utf-8")
    again = run_program("run", "in.csv", *words, cwd=tmp_path)
    assert f"row 3: {said}" in again.stdout
    assert json.loads(run_program("run", "in.csv", *words, "--json", cwd=tmp_path).stdout)["differing"][0]["rows"] == 1


@pytest.mark.parametrize("path", ["total", "result.", "result"])
def test_a_column_is_compared_with_a_part_of_the_result(path: str) -> None:
    """Anything else is a mistake."""
    with pytest.raises(UsageError, match="name a part of the result, such as"):
        Job(input="a.csv", compare={"Net": path})


def test_a_column_that_is_compared_must_be_there(tmp_path: Path) -> None:
    """As in every option that names one."""
    path = sheet_of(tmp_path, [["No", "Net"], ["RE-1", "10.00"]])
    with pytest.raises(UsageError, match=r"compare: in\.csv has no column 'Nett'; did you mean 'Net'"):
        Source(Job(input=str(path), compare={"Nett": "result.total"}), tmp_path)
