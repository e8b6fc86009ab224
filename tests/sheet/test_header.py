"""Which row is the header: tables below titles, notes and address blocks, and sheets that are all numbers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_runner.sheet.header import FirstRow, find_header, header_doubt, kind_of, repeats_header


def rows(*texts: str) -> list[FirstRow]:
    """Rows from 1 on, their cells divided by `|`; what looks like a number is typed as one."""
    cells = [tuple(text.split("|")) for text in texts]
    return [FirstRow.of_texts(number, row) for number, row in enumerate(cells, 1)]


@pytest.mark.parametrize(
    ("texts", "number"),
    [
        (("File|Net", "a|1", "b|2"), 1),
        (("File|Net",), 1),
        (("Invoices 2026", "", "File|Net", "a|1"), 3),
        (("Acme Ltd", "1 Main Street", "Springfield", "File|Net|Tax", "a|1|2"), 4),
        (("Acme Ltd|12345", "File|Net|Tax", "a|1|2", "b|1|2"), 2),
        (("Net|2025|2026", "a|1|2", "b|3|4"), 1),
        (("File|Net|Note", "a|1", "b|2", "c|3|late"), 1),
        (("File|Net", "a|1", "b|2", "c|3||see below"), 1),
        (("A|B", "x|y", "1|2|3"), 1),
        (("A", "x", "y"), 1),
        (("A|B|C", "x|y|z", "x|y|z"), 1),
        (("", ""), None),
    ],
)
def test_the_header_is_found_below_titles(texts: tuple[str, ...], number: int | None) -> None:
    """It is the first row of texts only that is as wide as most rows under it; else the first that is so wide."""
    assert find_header(rows(*texts)) == number


@pytest.mark.parametrize(
    ("texts", "number"),
    [
        (("Id|Amount|Vendor", "a|1.5|ACME|urgent", "b|2|Z|late", "c|3|Y|ok"), 1),
        (("Id|Amount|Vendor", "a|1.5|ACME|urgent"), 1),
        (("Id|Amount| ", "a|1|z", "b|2|y"), 1),
        (("Id|Name", "a|zz|extra", "b|y|extra"), 1),
        (("Invoices 2026", "Id|Amount|Vendor", "a|1.5|ACME|urgent", "b|2|Z|late"), 2),
        (("Acme Ltd|Berlin", "File|Net|Tax", "a|1|2", "b|3|4"), 2),
        (("Acme Ltd|Berlin", "", "File|Name|City", "a|b|c", "d|e|f"), 3),
        (("Acme Ltd|Berlin", "File|Name|City|Street|Zip", "a|b|c|d|e", "f|g|h|i|j"), 2),
        (("Customer||Amounts", "Id|Name|Net|Tax", "a|b|c|d", "e|f|g|h"), 2),
    ],
)
def test_a_header_row_that_lacks_its_last_headers(texts: tuple[str, ...], number: int) -> None:
    """It is the header all the same: the first row of data, taken for it, would be passed over and name the others'
    values. An address block is none."""
    found = [FirstRow(row.number, tuple(map(str.strip, row.texts)), row.typed) for row in rows(*texts)]
    assert find_header(found) == number


def test_what_is_known_better_counts_more() -> None:
    """A table's or autofilter's header row is taken as it is."""
    assert find_header(rows("A|B", "1|2", "3|4"), 2) == 2


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (("A-1|10.50|2026-01-01", "A-2|20.00|2026-01-02"), "'10.50' looks like data"),
        (("A-1|x|2026-01-01", "A-2|y|2026-01-02"), "'2026-01-01' looks like data"),
        (("Region|2024|2025", "North|10|11", "South|9|8"), "'2024' looks like data"),
        (("17|10,50 €", "18|20,00 €"), "'17' looks like data"),
        (("A-1|10.50",), "'10.50' looks like data"),
        (("No|Amount 2026|3", "A-1|5|7", "A-2|6|8", "see|notes|below"), "row 1 or row 4"),
        (("A-1|10.50", "A-2|20.00", "open|n/a"), "row 1 or row 3"),
        (("No|Net|2026", "A|1|x", "B|2|y", "||see overleaf"), "row 1 or row 4"),
        (("Printed by|ACME", "File|Amount", "a.pdf|5", "b.pdf|6"), "row 1 or row 2"),
        (("Customer|Customer|Amount|Amount", "Id|Name|Net|Tax", "a|b|1|2", "c|d|3|4"), "row 1 or row 2"),
        (("Item|Weight|Price", "|kg|EUR", "a|1|2", "b|3|4"), "row 1 or row 2"),
    ],
)
def test_a_header_row_in_doubt(texts: tuple[str, ...], said: str) -> None:
    """Data in the header row, as many cells above it as in it, words on top of numbers below it: a person says which
    row it is; both are named, and --no-header where there may be none.
    """
    found = [FirstRow(row.number, row.texts, row.typed) for row in rows(*texts)]
    number = find_header(found)
    assert number is not None
    doubt = header_doubt(found, number)
    assert doubt is not None
    assert said in doubt
    assert "--header-row" in doubt
    assert ("--no-header" in doubt) is ("looks like data" in said)


@pytest.mark.parametrize(
    "texts",
    [
        ("File|Net", "a|1", "b|2"),
        ("File|Net",),
        ("Acme Ltd|12345", "File|Net|Tax", "a|1|2", "b|1|2"),
        ("Invoices 2026", "", "File|Net", "a|1"),
        ("No|2026-01|2026-02", "A|1|2", "B|3|4"),
        ("No|Amount", "A-1|pending", "A-2|10", "A-3|20"),
        ("No|Amount", "x|n/a", "y|10", "z|20"),
        ("Id|Name|City", "a|b|c", "d|e|f"),
        ("A", "x", "y"),
        ("Customer||Amounts", "Id|Name|Net|Tax", "a|b|c|d", "e|f|g|h"),
        ("No|Note 1|Note 2", "1|a|b", "2|c|d"),
        ("No|Paid", "a|true", "b|false", "c|1", "d|0"),
        ("File|Net", "File|Net", "a|1", "b|2"),
    ],
)
def test_a_plain_header_row_is_in_no_doubt(texts: tuple[str, ...]) -> None:
    """Titles, group headers, months over amounts, an amount that isn't known yet."""
    found = rows(*texts)
    number = find_header(found)
    assert number is not None
    assert header_doubt(found, number) is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("17", "number"), ("-1,234.50", "number"), ("1.234,50 €", "number"), ("EUR 5", "number"), ("(5.00)", "number"),
        ("1'234.50", "number"), ("19 %", "number"), ("1E5", "number"), ("5-", "number"), (".5", "number"),
        ("2026-01-31", "date"), ("31.01.2026", "date"), ("1/31/26", "date"), ("2026-01-31T10:00:00Z", "date"),
        ("10:30", "date"), ("31-Jan-2026", "date"), ("A-17", None), ("Net", None), ("", None), ("Q1", None),
        ("2 items", None), ("€", None), ("RE 2026", None), ("17 a", None), ("Net (EUR)", None),
    ],
)  # fmt: skip
def test_what_a_person_takes_a_text_for(text: str, kind: str | None) -> None:
    """Numbers with their signs and currencies, dates and times; all else is words."""
    assert kind_of(text) == kind


@given(st.lists(st.text(st.sampled_from("aA1 ,.-€"), max_size=4), min_size=1, max_size=4), st.data())
def test_a_repeated_header_says_nothing_else(headers: list[str], data: st.DataObject) -> None:
    """However many of its cells are empty, at least one says what its header says, and none says another thing."""
    kept = [header if data.draw(st.booleans()) else "" for header in headers]
    assert repeats_header(headers, kept) is any(map(str.strip, kept))
    place = data.draw(st.integers(0, len(headers)))
    other = [*kept, ""]
    other[place] = f"{headers[place] if place < len(headers) else ''}x"
    assert not repeats_header(headers, other)


@pytest.mark.parametrize(
    ("first", "below", "is_data"),
    [
        ("RE-1", ("RE-2", "RE-3", "RE-17"), True),
        ("RE-1", ("RE-2", "X-3", "Y-17"), False),
        ("Invoice", ("RE-2", "RE-3"), False),
        ("Column1", ("a1", "a2"), False),
        ("Q1", ("open", "paid"), False),
    ],
)
def test_a_text_that_differs_by_digits_alone_is_data(first: str, below: tuple[str, ...], is_data: bool) -> None:
    """A list without headers whose cells are all words: its first row is none."""
    rows = [FirstRow(number, (text, "Acme")) for number, text in enumerate((first, *below), 1)]
    doubt = header_doubt(rows, 1)
    assert (doubt is not None and "looks like data" in doubt) is is_data
