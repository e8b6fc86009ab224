"""Our columns beside a person's own: names that never collide, and an earlier output that is known again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_runner.errors import UsageError
from batch_runner.rows.columns import OURS, PREFIXED, find_our_columns
from batch_runner.sheet.model import Column, column_letter


def columns(*names: str) -> tuple[Column, ...]:
    return tuple(Column(name, index, column_letter(index)) for index, name in enumerate(names))


@pytest.mark.parametrize(
    ("names", "own", "replaced", "headers"),
    [
        (("A", "B"), 2, 0, OURS),
        ((), 0, 0, OURS),
        (("A", *OURS), 1, 4, OURS),
        (("A", *OURS, "result.net", "result.tax"), 1, 6, OURS),
        (("A", *PREFIXED), 1, 4, OURS),
        (("Status", *PREFIXED), 1, 4, PREFIXED),
        (("Status", *PREFIXED, "batch_result.net"), 1, 5, PREFIXED),
        (("A", *OURS[:3]), 4, 0, PREFIXED),
        (("A", *reversed(OURS)), 5, 0, PREFIXED),
        (("A", *OURS, "Comment"), 6, 0, PREFIXED),
        (("A", "run_id", "status", "result", "Error"), 5, 0, PREFIXED),
        (("A", "result.net"), 2, 0, OURS),
        (("A", "batch_status"), 2, 0, OURS),
        (OURS, 0, 4, OURS),
    ],
)
def test_own_columns_and_ours(names: tuple[str, ...], own: int, replaced: int, headers: tuple[str, ...]) -> None:
    """Only an input that ends in exactly our four (and what `--expand` added) is an earlier output."""
    layout = find_our_columns(columns(*names))
    assert (len(layout.own), layout.replaced, layout.headers) == (own, replaced, headers)


@pytest.mark.parametrize("name", ["status", "Status", "STATUS", "Run_ID", "error", "Result"])
def test_a_column_of_their_own_moves_all_four_of_ours(name: str) -> None:
    """One column of a person's own by one of our names, in whatever case, and it is kept and all ours are prefixed."""
    layout = find_our_columns(columns("A", name, "B"))
    assert [column.name for column in layout.own] == ["A", name, "B"]
    assert layout.headers == PREFIXED


def test_no_name_is_left() -> None:
    """A sheet that has both of our names as its own is refused before anything is sent, naming the column."""
    with pytest.raises(UsageError, match=r"column C: the output needs the name 'Batch_Status'"):
        find_our_columns(columns("A", "Status", "Batch_Status"))
    with pytest.raises(UsageError, match="column B: the output needs the name 'batch_run_id'"):
        find_our_columns(columns("Status", *PREFIXED, "Comment"))


def test_what_was_written_is_known_again() -> None:
    """An output is the input of the next night: its own columns are the same and all of ours are replaced."""
    first = find_our_columns(columns("A", "Status"))
    headers = [field.header for field in first.fields(["net", "Net", "a b"])]
    again = find_our_columns(columns("A", "Status", *headers))
    assert again.own == first.own
    assert again.replaced == len(headers)
    assert again.headers == first.headers


@given(
    st.lists(st.sampled_from(["A", "b", "result.net", "Result.Net (2)", "status"]), unique_by=str.casefold),
    st.lists(st.sampled_from(["net", "NET", "net (2)", "run_id", "", "ß", "SS"]), unique=True),
)
def test_expanded_headers_are_unique_whatever_their_case(names: list[str], keys: list[str]) -> None:
    """Excel's tables and other programs take names that differ only in case for the same: none of ours do."""
    layout = find_our_columns(columns(*names))
    headers = [field.header for field in layout.fields(keys)]
    folded = [name.casefold() for name in (*names, *headers)]
    assert len(headers) == 4 + len(keys)
    assert len(set(folded)) == len(folded)


def test_a_column_right_of_an_earlier_output_is_spoken_of() -> None:
    """Sent as params, our old columns make every row a new one: a person hears of it, and what to do."""
    note = find_our_columns(columns("Id", *OURS, "Note")).note
    assert note is not None
    assert "'Note' (F) stands right of" in note
    assert "move it left of 'run_id' (B)" in note
    assert find_our_columns(columns("Id", "Status", *PREFIXED)).note is None
