"""Which row is the header: tables below titles, notes and address blocks, and sheets that are all numbers."""

from __future__ import annotations

import pytest

from batch_runner.sheet.header import FirstRow, find_header, is_number


def rows(*texts: str) -> list[FirstRow]:
    """Rows from 1 on, their cells divided by `|`; what looks like a number is typed as one."""
    cells = [tuple(text.split("|")) for text in texts]
    typed = [frozenset(place for place, cell in enumerate(row) if is_number(cell)) for row in cells]
    return [FirstRow(number, row, kinds) for number, (row, kinds) in enumerate(zip(cells, typed, strict=True), 1)]


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
