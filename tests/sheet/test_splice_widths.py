"""The head of a sheet's part: widths for new columns among the ranges that `cols` has."""

from __future__ import annotations

import re

import pytest

from batch_runner.sheet.xlsx_append.sheet_xml import grown_head, measure, take_head
from batch_runner.sheet.xlsx_append.xml_tokens import Place

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
PLACE = Place(start=2, headers=("run_id", "status"), replaced=0, header_row=1, last_row=9, adjacent=2)


def cols(before: str, *, replaced: int = 0) -> str:
    """The `cols` that come of what stood before the rows, C and D being new and 12 and 13 wide."""
    head = f'<worksheet xmlns="{MAIN}">{before}<sheetData>'.encode()
    place = Place(2, PLACE.headers, replaced, 1, 9, 2)
    return grown_head(head, place, (12, 13)).decode().partition(">")[2].removesuffix("<sheetData>")


def new(letter: int, width: int, style: str = "") -> str:
    return f'<col min="{letter}" max="{letter}" width="{width}"{style} customWidth="1"/>'


BOTH = new(3, 12) + new(4, 13)


def test_widths_stand_directly_before_the_rows() -> None:
    """Where there is no `cols`, it is put behind everything else that comes before the rows (CT_Worksheet)."""
    assert cols("<sheetViews/><sheetFormatPr/>") == f"<sheetViews/><sheetFormatPr/><cols>{BOTH}</cols>"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('<col min="1" max="2" width="9"/>', '<col min="1" max="2" width="9"/>' + BOTH),
        ('<col min="7" max="8" width="9"/>', BOTH + '<col min="7" max="8" width="9"/>'),
        (
            '<col min="1" max="1" width="9"/><col min="7" max="8" width="9"/>',
            '<col min="1" max="1" width="9"/>' + BOTH + '<col min="7" max="8" width="9"/>',
        ),
        (
            '<col min="2" max="3" width="9"/>',
            '<col min="2" max="2" width="9"/>' + BOTH,
        ),
        (
            '<col min="1" max="16384" style="5" width="9" bestFit="1"/>',
            '<col min="1" max="2" style="5" width="9" bestFit="1"/>'
            + new(3, 12, ' style="5"') + new(4, 13, ' style="5"')
            + '<col min="5" max="16384" style="5" width="9" bestFit="1"/>',
        ),
        (
            '<col min="3" max="16384" width="0" hidden="1" outlineLevel="1" collapsed="1"/>',
            BOTH + '<col min="5" max="16384" width="0" hidden="1" outlineLevel="1" collapsed="1"/>',
        ),
        ('<col min="3" max="3" width="40"></col>', new(3, 40) + new(4, 13)),
        ('<col min="4" max="4" hidden="true" width="50"/>', BOTH),
    ],
)  # fmt: skip
def test_ranges_never_overlap(before: str, after: str) -> None:
    """New columns are cut out of the ranges that cover them: shown, in their style, and never narrower."""
    assert cols(f"<cols>{before}</cols>") == f"<cols>{after}</cols>"


def test_an_earlier_outputs_widths_are_the_persons() -> None:
    """A refreshed column keeps the width it has now, hidden or not; one without any gets ours."""
    before = '<cols><col min="3" max="3" width="77" hidden="1"/></cols>'
    assert cols(before, replaced=2) == f'<cols><col min="3" max="3" width="77" hidden="1"/>{new(4, 13)}</cols>'


def test_all_else_before_the_rows_stays() -> None:
    """Foreign namespaces, `mc:Ignorable` and the declaration stay to the letter."""
    start = (
        f'<?xml version="1.0" standalone="yes"?>\r\n<worksheet xmlns="{MAIN}" xmlns:mc="urn:mc" xmlns:x14="urn:x14" '
        "mc:Ignorable='x14'><sheetPr  codeName='A'/><x14:cols/>"
    )
    grown = grown_head(f"{start}<sheetData>".encode(), PLACE, (12, 13)).decode()
    assert grown == f"{start}<cols>{BOTH}</cols><sheetData>"


def test_prefixes_are_kept() -> None:
    """`x:cols` gets `x:col`."""
    head = f'<x:worksheet xmlns:x="{MAIN}"><x:cols><x:col min="3" max="4"/></x:cols><x:sheetData>'.encode()
    text = grown_head(head, PLACE, (12, 13)).decode()
    assert "<x:cols>" + re.sub("<col", "<x:col", BOTH) + "</x:cols>" in text


@pytest.mark.parametrize(
    ("text", "width"),
    [("", 10), ("x" * 20, 22), ("x" * 999, 60), ("ab\n" + "x" * 30, 32), ("発注書番号", 12), ("東" * 9, 20)],
)
def test_widths_show_the_content(text: str, width: int) -> None:
    """A column is as wide as its longest line, within limits; East Asian characters are two wide."""
    widths, cells = measure(("id",), [(2, (text,)), (3, ("y",))])
    assert widths == (max(width, 12),)
    assert list(cells) == [(2, (text,)), (3, ("y",))]


def test_a_header_can_be_the_longest() -> None:
    """Without texts, the header decides."""
    assert measure(("result.a_rather_long_name", "id"), [])[0] == (27, 12)


@pytest.mark.parametrize("step", [1, 7, 100])
def test_the_head_ends_with_the_tag_that_begins_the_rows(step: int) -> None:
    """However the part is cut into chunks, and whatever a comment says."""
    head = f'<worksheet xmlns="{MAIN}"><!-- <sheetData> --><sheetData a=">" >'.encode()
    part = head + b"<row/></sheetData>"
    chunks = (part[at : at + step] for at in range(0, len(part), step))
    found, rest = take_head(chunks)
    assert found == head
    assert found + rest + b"".join(chunks) == part
