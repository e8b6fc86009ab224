"""Our columns beside a person's own: names that never collide, and an earlier output that is known again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_runner.errors import UsageError
from batch_runner.journal.outputs import WrittenHeaders
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
        (("A", *reversed(OURS)), 1, 4, OURS),
        (("A", *OURS, "Comment"), 1, 4, OURS),
        (("A", "run_id", "Note", "status", "result", "Error"), 1, 4, OURS),
        (("A", "result.net"), 2, 0, OURS),
        (("A", "batch_status"), 2, 0, OURS),
        (OURS, 0, 4, OURS),
    ],
)
def test_own_columns_and_ours(names: tuple[str, ...], own: int, replaced: int, headers: tuple[str, ...]) -> None:
    """Without a journal ours are known by all four names, in any case and order, and what `--expand` added to them."""
    layout = find_our_columns(columns(*names))
    assert (len(layout.own), len(layout.earlier), layout.headers) == (own, replaced, headers)


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
        find_our_columns(columns("Status", *PREFIXED[:3]))


def test_what_was_written_is_known_again() -> None:
    """An output is the input of the next night: its own columns are the same and all of ours are replaced."""
    first = find_our_columns(columns("A", "Status"))
    headers = [field.header for field in first.fields(["net", "Net", "a b"])]
    again = find_our_columns(columns("A", "Status", *headers))
    assert again.own == first.own
    assert len(again.earlier) == len(headers)
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


def test_a_column_right_of_an_earlier_output_is_kept_and_not_sent() -> None:
    """A person put it there: sent as a param, it would make every row a new one."""
    layout = find_our_columns(columns("Id", *OURS, "Note"))
    assert [column.name for column in layout.own] == ["Id"]
    assert [column.name for column in layout.beside] == ["Note"]
    assert layout.note is not None
    assert "kept as they are and not sent: 'Note' (F)" in layout.note
    assert find_our_columns(columns("Id", "Status", *PREFIXED)).note is None


WROTE = WrittenHeaders(("Id", "Amount"), (*OURS, "result.net"))


@pytest.mark.parametrize(
    ("names", "own", "four", "expanded", "beside"),
    [
        (("Id", "Amount", "Run_ID", "STATUS", "Result", "error", "result.net"), 2, 4, 1, []),
        (("Id", "Amount", "status", "result", "error"), 2, 3, 0, []),
        (("Id", "Amount", *OURS, "result.net", "result.checked by"), 2, 4, 1, ["result.checked by"]),
        (("Id", "Amount", "run_id", "Seen", "status", "Ok", "result", "error"), 2, 4, 0, ["Seen", "Ok"]),
        (("run_id", "Id", "Amount", "status"), 2, 2, 0, []),
        (("Id", "Amount"), 2, 0, 0, []),
    ],
)
def test_ours_are_known_by_what_the_journal_wrote(
    names: tuple[str, ...], own: int, four: int, expanded: int, beside: list[str]
) -> None:
    """In any case, in part, in any order, with columns of hers between or behind them."""
    layout = find_our_columns(columns(*names), [WROTE])
    assert (len(layout.own), sum(column is not None for column in layout.four)) == (own, four)
    assert (len(layout.expanded), [column.name for column in layout.beside]) == (expanded, beside)


def test_two_columns_that_could_be_ours_are_refused() -> None:
    """Which one is ours can't be told: both are named."""
    with pytest.raises(UsageError, match="columns C and D: both are called 'run_id'"):
        find_our_columns(columns("Id", "Amount", "run_id", "RUN_ID", "status"), [WROTE])
