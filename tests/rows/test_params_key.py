"""What makes a row the same row tomorrow, and what is refused."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from csvfiles import csv_sheet
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_runner.job.job import Job
from batch_runner.rows.columns import find_our_columns
from batch_runner.rows.params import Template
from batch_runner.sheet.model import CellProblem, Row, RowKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_runner.rows.params import RowParams
    from batch_runner.sheet.model import Sheet

HEADERS = ["A", "B", "C"]
TEXT = st.text(st.sampled_from("ab\"',:[]{}\\ é"), max_size=4)
TEXTS = st.tuples(TEXT, TEXT, TEXT)


@pytest.fixture
def sheet(tmp_path: Path) -> Iterator[Sheet]:
    with csv_sheet(tmp_path, HEADERS, ["1", "2", "3"]) as opened:
        yield opened


def fill(sheet: Sheet, texts: tuple[str, ...], *problems: CellProblem, **options: Any) -> RowParams:
    template = Template(Job(input="invoices.csv", **options), sheet, find_our_columns(sheet.columns).own)
    return template.fill(Row(2, RowKind.DATA, texts, problems))


def error_in(index: int) -> CellProblem:
    return CellProblem(index, f"{HEADERS[index]}2", "#N/A", refuses=True)


@settings(deadline=None)
@given(TEXTS, TEXTS, st.booleans(), st.sampled_from([(), ("A",), ("B", "A")]))
def test_equal_keys_for_equal_and_different_for_different(
    one: tuple[str, ...], other: tuple[str, ...], send_empty: bool, key: tuple[str, ...]
) -> None:
    """Two rows have one key just when the params (or the key's cells) are the same, whatever stands in the cells."""
    with tempfile.TemporaryDirectory() as folder, csv_sheet(Path(folder), HEADERS) as sheet:
        first, second = (fill(sheet, texts, send_empty=send_empty, key=key) for texts in (one, other))
    compared = (one[0], one[1]) == (other[0], other[1]) if len(key) == 2 else one[0] == other[0]
    same = compared if key else first.params == second.params
    assert (first.key == second.key) == same
    assert (first.digest == second.digest) == (first.params == second.params)


def test_a_key_does_not_depend_on_order(sheet: Sheet, tmp_path: Path) -> None:
    """The sheet's columns may be moved, and the options said in another order: it is the same row."""
    with csv_sheet(tmp_path, ["C", "A", "B"], name="moved.csv") as moved:
        assert fill(sheet, ("1", "2", "3")).key == fill(moved, ("3", "1", "2")).key
        assert fill(sheet, ("1", "2", "3"), key=("A", "B")).key == fill(moved, ("3", "1", "2"), key=("B", "A", "B")).key


def test_a_key_of_columns_ignores_the_others(sheet: Sheet) -> None:
    """With `--key` an edit elsewhere keeps the row, and its digest tells that it was edited."""
    before, after = (fill(sheet, ("1", text, "3"), key=("A",)) for text in ("2", "two"))
    assert before.key == after.key
    assert before.digest != after.digest


def test_the_identity_of_a_row_is_part_of_it(sheet: Sheet) -> None:
    """Rows that send the same as somebody else are other rows; for all alike, who it is changes nothing."""
    ann, bob = (fill(sheet, ("1", "", who), columns=("A",), identity_id="{C}") for who in ("ann", "bob"))
    assert ann.key != bob.key
    one, other = (fill(sheet, ("1", "2", "3"), identity_id=who) for who in ("ann", "bob"))
    assert one.key == other.key == fill(sheet, ("1", "2", "3")).key


def test_params_are_not_in_the_key(sheet: Sheet) -> None:
    """What the journal holds of a row's params is 16 bytes of a hash."""
    row = fill(sheet, ("secret", "2", "3"))
    assert row.key is not None
    assert len(row.key) == len(row.digest) == 16
    assert b"secret" not in row.key + row.digest


@pytest.mark.parametrize(
    "options",
    [{}, {"columns": ("B",)}, {"columns": ("A",), "key": ("B",)}, {"columns": ("A",), "param": {"x": "{B}"}},
     {"columns": ("A",), "identity_id": "{B}"}, {"columns": ("A",), "session_id": "{B}"}],
)  # fmt: skip
def test_a_refused_cell_refuses_the_row_that_uses_it(sheet: Sheet, options: dict[str, Any]) -> None:
    """A cell without a text to rely on refuses its row wherever the row takes it from, and is named."""
    row = fill(sheet, ("1", "", "3"), error_in(1), **options)
    assert row.refusal == "invoices.csv, B2: #N/A"


@pytest.mark.parametrize("options", [{"columns": ("A",)}, {"exclude": ("B",)}, {"param": {"B": "fixed"}}])
def test_a_refused_cell_that_is_not_used_matters_to_nobody(sheet: Sheet, options: dict[str, Any]) -> None:
    """An error in a column of remarks keeps no invoice from being paid."""
    row = fill(sheet, ("1", "", "3"), error_in(1), **options)
    assert row.refusal is None
    assert row.key is not None


def test_the_key_is_none_where_its_cells_can_not_be_relied_on(sheet: Sheet) -> None:
    """A row whose key cell is refused isn't known; one whose other cells are refused is."""
    assert fill(sheet, ("1", "", "3"), error_in(1)).key is None
    assert fill(sheet, ("1", "", "3"), error_in(1), key=("B",)).key is None
    assert fill(sheet, ("1", "", "3"), error_in(1), key=("A",)).key == fill(sheet, ("1", "2", "3"), key=("A",)).key


def test_two_refused_cells_are_both_named(sheet: Sheet) -> None:
    """A person mends both in one go."""
    row = fill(sheet, ("", "", "3"), error_in(0), error_in(1))
    assert row.refusal == "invoices.csv, A2: #N/A; invoices.csv, B2: #N/A"


def test_a_row_without_its_key_is_refused(sheet: Sheet) -> None:
    """Rows whose key is empty would all be the same row tomorrow; one empty cell of two is fine."""
    row = fill(sheet, ("", "", "3"), key=("A", "B"))
    assert row.refusal is not None
    assert row.refusal.startswith("invoices.csv, A2, invoices.csv, B2: the key is empty")
    assert fill(sheet, ("1", "", "3"), key=("A", "B")).refusal is None


def test_warnings_are_about_what_is_sent(sheet: Sheet) -> None:
    """A cell worth a look is sent all the same, and spoken of only where it is sent."""
    row = Row(2, RowKind.DATA, ("1", "2", "3"), (CellProblem(1, "B2", "16 digits", refuses=False),))
    for columns, sentences in (((), ["invoices.csv, B2: 16 digits"]), (("A",), [])):
        template = Template(Job(input="invoices.csv", columns=columns), sheet, find_our_columns(sheet.columns).own)
        assert template.fill(row).refusal is None
        assert list(template.warnings(row)) == sentences
