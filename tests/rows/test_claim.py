"""What makes a row unique, however it was typed."""

from __future__ import annotations

import csv
import io
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_runner.rows.keys import NO_CLAIM, dedup_key_of, plain

texts = st.text(max_size=20)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("ACME", "acme "),
        ("Straße", "STRASSE"),
        ("RE-0042", "re-42"),
        ("0042", "42"),
        ("INV 2026/007", "inv2026/7"),
        ("Ａ１２", "a12"),
        ("Müller", normalize("NFD", "MÜLLER")),
        ("A\u00a0B", "A B"),
        ("000", "0"),
        ("RE-1", "RE-1\u200b"),
        ("RE-1", "RE\u20131"),
        ("RE-1", "re\u00ad\u22121"),
        ("42", "٤٢"),
        ("A-1", "A1"),
        ("RE/0042", "RE 0042."),
        ("2026/007", "2026 - 7"),
        ("Müller und Söhne", "MUELLER & SOEHNE"),
        ("Café et Bar", "Cafe and Bar"),
        ("-5", "(5)"),
        ("-5", "5-"),
        ("-5", "\u22125"),
    ],
)
def test_typed_differently_it_is_the_same(one: str, other: str) -> None:
    """Signs, spaces, case, Unicode, ä and ae, & and its words, and leading zeros make no difference."""
    assert dedup_key_of([one, "x"]) == dedup_key_of([other, "x"])


@pytest.mark.parametrize(
    ("one", "other"),
    [("1.05", "1.5"), ("1,05", "1,5"), ("10", "1"), ("RE-42", "RE-43"), ("A-1-1", "A11"), ("0", ""),
     ("5", "-5"), ("(1.50)", "1.50"), ("ET 42", "42"), ("€5", "$5"), ("19%", "19"), ("й", "и")],
)  # fmt: skip
def test_other_values_are_others(one: str, other: str) -> None:
    """Zeros behind a decimal mark or at the end of a number, signs between two, and a minus do count."""
    assert dedup_key_of([one, "x"]) != dedup_key_of([other, "x"])


SPELLINGS = """\
Vendor,Invoice No,Same
Müller & Söhne,re - 42,yes
Müller & Söhne,RE\u20130042,yes
Müller & Söhne,RE 0042,yes
Müller & Söhne,RE/0042,yes
Müller & Söhne,RE-0042.,yes
Müller & Söhne,RE0042,yes
Mueller & Soehne,RE-0042,yes
MÜLLER UND SÖHNE,RE-0042,yes
Müller & Söhne,RE-0042,yes
Müller & Söhne,RE-0420,no
Müller & Söhne,RE-42-1,no
Müller & Söhne,GU-0042,no
Miller & Sohn,RE-0042,no
"""


def test_nine_spellings_of_one_invoice() -> None:
    """Each is held beside `Müller & Söhne`, `RE-0042`; four that only look alike are not."""
    first = dedup_key_of(["Müller & Söhne", "RE-0042"])
    rows = [*csv.DictReader(io.StringIO(SPELLINGS))]
    found = [dedup_key_of([row["Vendor"], row["Invoice No"]]) == first for row in rows]
    assert found == [row["Same"] == "yes" for row in rows]
    assert sum(found) == 9


@given(texts)
def test_the_plain_form_is_final(text: str) -> None:
    """Bringing a text to its form once more, or one that was typed in another way, changes nothing."""
    assert plain(plain(text)) == plain(text)
    assert plain(f" {text}\t") == plain(text)
    assert plain(normalize("NFD", text)) == plain(text)


@given(st.integers(0, 10**12), st.integers(0, 6), st.sampled_from(["", "RE-", "№ "]))
def test_zeros_before_a_number_never_count(number: int, zeros: int, before: str) -> None:
    """However many there are, and whatever stands before them."""
    assert plain(f"{before}{'0' * zeros}{number}") == plain(f"{before}{number}")


@given(st.lists(texts, min_size=2, max_size=3), st.integers(0, 5))
def test_each_column_counts_by_itself(values: list[str], shift: int) -> None:
    """Text that moves from one column to the next makes another row: `AB`, `C` isn't `A`, `BC`."""
    whole = "".join(map(plain, values))
    cut = min(shift, len(whole))
    moved = [whole[:cut], whole[cut:], *[""] * (len(values) - 2)]
    assert (dedup_key_of(values) == dedup_key_of(moved)) == ([*map(plain, values)] == [*map(plain, moved)])


@given(st.lists(st.sampled_from(["", " ", "\t\n", "\u00a0"]), max_size=3))
def test_nothing_is_no_claim(blanks: list[str]) -> None:
    """A row whose columns are all blank is unique by nothing."""
    assert dedup_key_of(blanks) == NO_CLAIM
