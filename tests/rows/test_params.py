"""What a row sends: its columns, under which names, and the texts that are put together from cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from csvfiles import csv_sheet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch_runner.errors import UsageError
from batch_runner.job.job import Job
from batch_runner.rows.columns import find_our_columns
from batch_runner.rows.params import Template
from batch_runner.sheet.model import RowKind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batch_runner.rows.params import RowParams
    from batch_runner.sheet.model import Sheet

HEADERS = ["Invoice Number", "Amount", "Note", "Who"]


@pytest.fixture
def sheet(tmp_path: Path) -> Iterator[Sheet]:
    rows = [["007", "1.10", "", "ann"], ["8", "", "two\nlines ", ""]]
    with csv_sheet(tmp_path, HEADERS, *rows) as opened:
        yield opened


def template(sheet: Sheet, **options: Any) -> Template:
    return Template(Job(input="invoices.csv", **options), sheet, find_our_columns(sheet.columns).own)


def filled(sheet: Sheet, **options: Any) -> list[RowParams]:
    made = template(sheet, **options)
    return [made.fill(row) for row in sheet.rows() if row.kind is RowKind.DATA]


def params(sheet: Sheet, **options: Any) -> list[dict[str, str]]:
    return [row.params for row in filled(sheet, **options)]


def refusal(sheet: Sheet, **options: Any) -> str:
    with pytest.raises(UsageError) as caught:
        template(sheet, **options)
    return str(caught.value)


def test_all_columns_are_sent_under_their_headers(sheet: Sheet) -> None:
    """Without a word every column is sent, to the letter, and an empty cell is left out."""
    assert params(sheet) == [
        {"Invoice Number": "007", "Amount": "1.10", "Who": "ann"},
        {"Invoice Number": "8", "Note": "two\nlines "},
    ]


def test_empty_cells_are_sent_when_asked(sheet: Sheet) -> None:
    """With `--send-empty` each row sends every column, and a text made of empty cells, too."""
    rows = params(sheet, send_empty=True, param={"Hello": "{Note}"})
    assert rows[0] == {"Invoice Number": "007", "Amount": "1.10", "Note": "", "Who": "ann", "Hello": ""}
    assert rows[1]["Amount"] == ""


def test_columns_and_exclude(sheet: Sheet) -> None:
    """Only some columns, in the order in which they were said; or all but some."""
    assert list(params(sheet, columns=("Amount", "Invoice Number"))[0]) == ["Amount", "Invoice Number"]
    assert list(params(sheet, columns=("Amount", "Amount"))[0]) == ["Amount"]
    assert list(params(sheet, exclude=("Amount", "Who"))[0]) == ["Invoice Number"]


def test_rename(sheet: Sheet) -> None:
    """A column is sent under another name, which may be that of a column that isn't sent."""
    assert params(sheet, columns=("Amount",), rename={"Amount": "Note"}) == [{"Note": "1.10"}, {}]
    swapped = params(sheet, columns=("Amount", "Who"), rename={"Amount": "Who", "Who": "Amount"})[0]
    assert swapped == {"Who": "1.10", "Amount": "ann"}


def test_two_columns_under_one_name_are_refused(sheet: Sheet) -> None:
    """One would be lost without a word."""
    assert "two columns would both be sent as 'Note'" in refusal(sheet, rename={"Amount": "Note"})
    assert "both be sent as 'x'" in refusal(sheet, rename={"Amount": "x", "Who": "x"})


def test_a_param_is_put_together_from_cells(sheet: Sheet) -> None:
    """`{Column}` is the row's cell, doubled braces are braces, all else stands as it is."""
    rows = params(sheet, columns=("Amount",), param={"Text": "{{No}} {Invoice Number}/{Who}{Who}!", "Fixed": "x"})
    assert rows[0] == {"Amount": "1.10", "Text": "{No} 007/annann!", "Fixed": "x"}
    assert rows[1] == {"Text": "{No} 8/!", "Fixed": "x"}


def test_a_param_stands_for_the_column_of_its_name(sheet: Sheet) -> None:
    """A param that is said beats a column of that name, and may be made of it."""
    assert params(sheet, columns=("Who",), param={"Who": "Ms {Who}"})[0] == {"Who": "Ms ann"}


def test_cells_are_not_read_for_braces(tmp_path: Path) -> None:
    """Braces in a cell are text: what stands in a sheet commands nothing."""
    with csv_sheet(tmp_path, ["A", "B"], ["{B}", "secret"]) as sheet:
        assert params(sheet, columns=("A",), param={"C": "<{A}>"}) == [{"A": "{B}", "C": "<{B}>"}]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.sampled_from("{}a \n"), min_size=1))
def test_any_text_can_be_said_with_doubled_braces(sheet: Sheet, text: str) -> None:
    """Whatever braces a text has, doubled they come out as they were."""
    doubled = text.replace("{", "{{").replace("}", "}}")
    assert params(sheet, param={"x": doubled})[0]["x"] == text


@pytest.mark.parametrize("text", ["{", "}", "a { b", "{Who", "Who}", "{{Who}", "{Wh{Who}"])
def test_a_single_brace_is_refused(sheet: Sheet, text: str) -> None:
    """A place with a brace forgotten would be sent as it is, to every row."""
    assert "single brace" in refusal(sheet, param={"x": text})


@pytest.mark.parametrize(
    ("options", "label"),
    [
        ({"columns": ("Amont",)}, "columns: invoices.csv has no column 'Amont'; did you mean 'Amount'?"),
        ({"exclude": ("Amont",)}, "exclude: invoices.csv has no column"),
        ({"rename": {"Amont": "x"}}, "rename: invoices.csv has no column"),
        ({"param": {"x": "{Amont}"}}, "param x: invoices.csv has no column"),
        ({"param": {"x": "{}"}}, "param x: invoices.csv has no column ''"),
        ({"identity_id": "{Amont}"}, "identity_id: invoices.csv has no column"),
        ({"session_id": "{Amont}"}, "session_id: invoices.csv has no column"),
        ({"key": ("Amont",)}, "key: invoices.csv has no column"),
        ({"key": ("amount",)}, "did you mean 'Amount'?"),
        ({"key": ("xyz",)}, "it has 'Invoice Number', 'Amount', 'Note', 'Who'"),
    ],
)
def test_an_unknown_column_is_named_with_its_option(sheet: Sheet, options: dict[str, Any], label: str) -> None:
    """A slip in a column's name is one sentence, wherever it stands."""
    assert label in refusal(sheet, **options)


def test_all_unknown_columns_are_named_at_once(sheet: Sheet) -> None:
    """Every option that names columns is looked at, and all slips are told, each with what was meant."""
    told = refusal(
        sheet,
        columns=("Amont", "Who"),
        key=("Nr",),
        unique=("Who", "Wo"),
        unique_conflict=("Amout",),
        total=("Amounts",),
        rename={"Nte": "x"},
        param={"x": "{Amnt} {", "y": "{Who}{Woh}"},
        identity_id="{Whoo}",
    )
    assert [line.partition(": ")[0] for line in told.splitlines()] == [
        "param x",
        "columns",
        "rename",
        "key",
        "unique",
        "unique_conflict",
        "total",
        "param x",
        "param y",
        "identity_id",
    ]
    assert told.count("did you mean") == 8


def test_an_earlier_output_is_never_sent(tmp_path: Path) -> None:
    """The columns that we wrote last night are no params, and no option can name them."""
    headers = ["A", "run_id", "status", "result", "error"]
    with csv_sheet(tmp_path, headers, ["1", "r", "success", "{}", ""]) as sheet:
        assert params(sheet) == [{"A": "1"}]
        said = refusal(sheet, columns=("status",))
    assert said.startswith("columns: ")
    assert said.endswith("the column 'status' is an earlier output's, which is written anew and never sent")


def test_identity_and_session_come_from_cells(sheet: Sheet) -> None:
    """Both may be the row's own; an empty cell means none."""
    rows = filled(sheet, identity_id="{Who}", session_id="s-{Invoice Number}")
    assert [(row.identity_id, row.session_id) for row in rows] == [("ann", "s-007"), (None, "s-8")]
    assert filled(sheet)[0].identity_id is None


def test_names_of_all_params(sheet: Sheet) -> None:
    """`check` can say what may be sent, each name once."""
    assert template(sheet, columns=("Who", "Amount"), param={"Who": "x", "y": "z"}).names == ("Amount", "Who", "y")
