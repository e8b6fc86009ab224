"""Columns that aren't sent are in nobody's way, and columns can be named by letter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from csvfiles import sheet_of

from batch_runner.errors import SheetError, UsageError
from batch_runner.job.job import Job
from batch_runner.rows.columns import find_our_columns
from batch_runner.rows.params import RowParams, Template
from batch_runner.sheet.model import RowKind

if TYPE_CHECKING:
    from pathlib import Path

TWICE = "No,Note,Net,Note\n1,x,10,y\n"
NAMELESS = "No,,Net\n1,x,10\n"
LONGER = "No,Net\n1,10\n2,20,30\n"


def rows_of(folder: Path, content: str, **options: Any) -> list[RowParams]:
    with sheet_of(folder, content) as sheet:
        made = Template(Job(input="list.csv", **options), sheet, find_our_columns(sheet.columns).own)
        return [made.fill(row) for row in sheet.rows() if row.kind is RowKind.DATA]


@pytest.mark.parametrize(
    ("content", "options"),
    [
        (TWICE, {"columns": ("No", "Net")}),
        (TWICE, {"exclude": ("Note",)}),
        (TWICE, {"exclude": ("B", "D")}),
        (TWICE, {"columns": ("A", "C")}),
        (NAMELESS, {"columns": ("No", "Net")}),
        (NAMELESS, {"exclude": ("B",)}),
    ],
)
def test_what_is_left_out_refuses_nothing(tmp_path: Path, content: str, options: dict[str, Any]) -> None:
    """Equal headers and text under none are in nobody's way among the columns that aren't sent."""
    assert [row.params for row in rows_of(tmp_path, content, **options)] == [{"No": "1", "Net": "10"}]


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (TWICE, {}, "B1 and D1: two headers are 'Note'"),
        (TWICE, {"columns": ("No", "Note")}, "B1 and D1: two headers"),
        (TWICE, {"columns": ("No",), "key": ("Note",)}, "B1 and D1: two headers"),
        (TWICE, {"columns": ("No",), "param": {"x": "{Note}"}}, "B1 and D1: two headers"),
        (TWICE, {"exclude": ("B",), "total": ("Note",)}, "B1 and D1: two headers"),
        (TWICE, {"columns": ("B", "D")}, "B1 and D1: two headers"),
        (NAMELESS, {}, "B1 and B2: there is text under an empty header"),
        (NAMELESS, {"columns": ("A", "B")}, "B1 and B2: there is text under an empty header"),
        (NAMELESS, {"columns": ("A",), "key": ("B",)}, "B1 and B2: there is text under an empty header"),
        (LONGER, {}, "C1 and C3: there is text under an empty header"),
    ],
)
def test_what_is_wanted_and_unclear_is_refused(
    tmp_path: Path, content: str, options: dict[str, Any], message: str
) -> None:
    """As soon as such a column is sent, is the key, or is named in any other way, both cells are named."""
    with pytest.raises(SheetError, match=message):
        rows_of(tmp_path, content, **options)


def test_one_of_two_equal_headers_can_be_named_by_letter(tmp_path: Path) -> None:
    """The letter says which is meant; it is sent under its header, or as it is renamed."""
    assert rows_of(tmp_path, TWICE, columns=("No", "D"))[0].params == {"No": "1", "Note": "y"}
    assert rows_of(tmp_path, TWICE, columns=("D",), rename={"D": "Remark"})[0].params == {"Remark": "y"}
    assert rows_of(tmp_path, TWICE, columns=("A",), param={"x": "{C}"})[0].params == {"No": "1", "x": "10"}


def test_a_headers_text_wins_over_a_letter(tmp_path: Path) -> None:
    """A column called B is meant by B, wherever it stands."""
    assert rows_of(tmp_path, "B,A,No\n1,2,3\n", columns=("B",))[0].params == {"B": "1"}


@pytest.mark.parametrize("name", ["D", "b", "AAAA"])
def test_a_letter_without_a_column_is_refused(tmp_path: Path, name: str) -> None:
    """As any name that the sheet doesn't have; letters are capitals, as Excel shows them."""
    with pytest.raises(UsageError, match=f"no column '{name}'"):
        rows_of(tmp_path, "No,Net\n1,2\n", columns=(name,))


def test_a_key_by_letter_is_the_key_by_name(tmp_path: Path) -> None:
    """Otherwise every row would count as new on the next night."""
    by_name = rows_of(tmp_path, TWICE, columns=("No",), key=("No", "Net"))
    by_letter = rows_of(tmp_path, TWICE, columns=("A",), key=("C", "A"))
    assert [(row.keys, row.digest) for row in by_name] == [(row.keys, row.digest) for row in by_letter]


def test_a_longer_record_is_refused_alone(tmp_path: Path) -> None:
    """A delimiter in a text without quotes shifts the cells: no guess, though the column beyond isn't sent."""
    first, second = rows_of(tmp_path, LONGER, columns=("No", "Net"))
    assert first.refusal is None
    assert second.refusal is not None
    assert second.refusal.startswith("list.csv, row 3: it has more fields than there are headers")


def test_equal_headers_have_one_sentence_of_their_own(tmp_path: Path) -> None:
    """Nobody hears of --rename who said none."""
    with pytest.raises(SheetError) as refused:
        rows_of(tmp_path, TWICE)
    assert "rename" not in str(refused.value)
