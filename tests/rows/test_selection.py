"""Which rows take part: numbers and ranges, the first so many."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from csvfiles import csv_sheet
from hypothesis import given
from hypothesis import strategies as st

from batch_runner.rows.selection import CHUNK, select
from batch_runner.units import RowRanges

if TYPE_CHECKING:
    from pathlib import Path

HIGHEST = 60

parts = st.one_of(
    st.integers(1, HIGHEST).map(lambda number: (number, number, f"{number}")),
    st.tuples(st.integers(1, HIGHEST), st.integers(0, 20)).map(lambda t: (t[0], t[0] + t[1], f"{t[0]}-{t[0] + t[1]}")),
    st.integers(1, HIGHEST).map(lambda number: (number, HIGHEST + 99, f"{number}-")),
)
spaces = st.sampled_from(["", " ", "  ", "\t"])


@given(st.lists(parts, min_size=1), spaces)
def test_ranges_hold_what_any_of_their_parts_holds(chosen: list[tuple[int, int, str]], space: str) -> None:
    """However ranges overlap, touch or repeat, a row is in if some part names it, and out if none does."""
    text = f"{space},{space}".join(part.replace("-", f"{space}-{space}") for _, _, part in chosen)
    ranges = RowRanges.parse(text)
    for number in range(HIGHEST + 90):
        assert (number in ranges) == any(first <= number <= last for first, last, _ in chosen)


@given(st.lists(parts, min_size=1))
def test_ranges_are_sorted_and_apart(chosen: list[tuple[int, int, str]]) -> None:
    """What is kept is as small as can be: sorted, and with a gap between any two."""
    ranges = RowRanges.parse(",".join(part for _, _, part in chosen))
    for last, first in zip(ranges.lasts, ranges.firsts[1:], strict=False):
        assert last + 1 < first


@pytest.mark.parametrize(
    "junk", ["", " ", ",", "2,", "-5", "--", "2--5", "a", "2 5", "1_0", "+5", "2.5", "٣", "1e3", "2–5"]
)
def test_junk_is_no_range(junk: str) -> None:
    """What isn't plainly a number or a range is refused; Python's own freedoms with numbers are none of a person's."""
    with pytest.raises(ValueError, match="is not a row or a range of rows"):
        RowRanges.parse(junk)


@pytest.mark.parametrize("backward", ["0", "0-5", "5-2", "3,9-8"])
def test_ranges_go_forward_from_1(backward: str) -> None:
    """Row 0 doesn't exist, and a backward range is a slip."""
    with pytest.raises(ValueError, match="rows count from 1, and the first comes first"):
        RowRanges.parse(backward)


@given(st.text())
def test_any_text_is_ranges_or_a_sentence(text: str) -> None:
    """No text makes the reading fail in another way than with a `ValueError`."""
    try:
        RowRanges.parse(text)
    except ValueError as error:
        assert str(error)  # noqa: PT017  whether it comes is not the claim


def test_ranges_and_limit_choose_rows(tmp_path: Path) -> None:
    """`--rows` goes by the numbers that Excel shows, `--limit` takes the first of what is left, empty rows never."""
    with csv_sheet(tmp_path, ["N"], ["two"], [""], ["four"], ["five"], ["six"]) as sheet:
        every = select(sheet, None, None, None)
        assert [row.number for row in every.rows(sheet)] == [2, 4, 5, 6]
        assert every.count(sheet) == 4
        some = select(sheet, RowRanges.parse("3-5,99"), None, None)
        assert [row.number for row in some.rows(sheet)] == [4, 5]
        assert some.count(sheet) == 2
        first = select(sheet, RowRanges.parse("4-"), None, 2)
        assert [row.number for row in first.rows(sheet)] == [4, 5]
        assert first.count(sheet) == 2
        assert select(sheet, None, None, 99).count(sheet) == 4


def test_where_then_limit(tmp_path: Path) -> None:
    """All three together: the limit counts rows that are in the ranges and meet the condition."""
    with csv_sheet(tmp_path, ["N"], *([str(number)] for number in range(2, 3 * CHUNK))) as sheet:
        selection = select(sheet, RowRanges.parse("10-"), "N % 2 = 0", CHUNK)
        numbers = [row.number for row in selection.rows(sheet)]
        assert numbers == list(range(10, 10 + 2 * CHUNK, 2))
        assert selection.count(sheet) == CHUNK
