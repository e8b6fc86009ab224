"""Any layout of a sheet, any texts: the quick way and the parser agree, and another reader finds what was written."""

from __future__ import annotations

import re
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openpyxl import load_workbook
from packages import HandMade

from batch_runner.sheet.export import append_columns, open_sheet, open_written
from batch_runner.sheet.model import NewColumns, Reading, column_letter
from batch_runner.sheet.xlsx_append.sheet_xml import with_columns
from batch_runner.sheet.xlsx_append.xml_tokens import Place, escaped

if TYPE_CHECKING:
    from collections.abc import Sequence

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
TEXTS = st.text(st.one_of(st.characters(), st.sampled_from("_xX005Fd\r\n\t \0&<>")), max_size=30)
_NO_CHARACTER = re.compile("[\ud800-\udfff\ufffe\uffff]")
_ESCAPE = re.compile("_x([0-9A-Fa-f]{4})_")


class Drawn(msgspec.Struct, frozen=True):
    """A row as it is drawn: the styles of its cells by column ("" for none), and how it is written."""

    cells: dict[int, str]
    number: bool
    spans: bool
    space: str
    odd: str


ODDITIES = ("", "", "", "<!-- </row> -->", "<extLst/>")
ROWS = st.lists(
    st.builds(
        Drawn,
        st.dictionaries(st.integers(0, 7), st.sampled_from(["", "1", "23"]), max_size=6),
        st.booleans(),
        st.booleans(),
        st.sampled_from(["", "\n  "]),
        st.sampled_from(ODDITIES),
    ),
    min_size=1,
    max_size=8,
)


def written(rows: Sequence[Drawn], with_r: bool) -> bytes:
    """The part of a sheet with these rows; `with_r` writes `r` everywhere, as nearly all programs do."""
    pieces = []
    for number, row in enumerate(rows, 1):
        cells = []
        for column in range(max(row.cells, default=-1) + 1):
            if column in row.cells or not with_r:
                style = f' s="{row.cells[column]}"' if row.cells.get(column) else ""
                place = f' r="{column_letter(column)}{number}"' if with_r else ""
                cells.append(f"<c{place}{style}/>" if column % 2 else f"<c{place}{style}></c>")
        marks = (f' r="{number}"' if with_r or row.number else "") + (' spans="1:3"' if row.spans else "")
        inside = row.space.join(["", *cells, row.odd])
        pieces.append(f"<row{marks}>{inside}</row>" if inside else f"<row{marks}/>")
    return f'<worksheet xmlns="{MAIN}"><sheetData>{"".join(pieces)}</sheetData><other/></worksheet>'.encode()


@pytest.mark.long
@given(
    rows=ROWS,
    with_r=st.booleans(),
    start=st.integers(0, 6),
    new=st.integers(1, 3),
    replaced=st.integers(0, 3),
    step=st.integers(1, 200),
    data=st.data(),
)
def test_both_ways_agree(
    rows: list[Drawn], with_r: bool, start: int, new: int, replaced: int, step: int, data: st.DataObject
) -> None:
    """However rows and cells are written and cut into chunks, both ways give the same bytes."""
    place = Place(start, tuple("abc"[:new]), replaced, 1, len(rows), start)
    texts = st.tuples(*[st.sampled_from(["", "x", "<"])] * new)
    named = data.draw(st.lists(st.integers(1, len(rows)), unique=True).map(sorted))
    cells = [(number, data.draw(texts)) for number in named]
    part = written(rows, with_r)
    chunks = [part[at : at + step] for at in range(0, len(part), step)]
    quick = b"".join(with_columns(chunks, "a", place, cells))
    assert quick == b"".join(with_columns([part], "a", place, cells, quick=False))


@pytest.mark.long
@settings(deadline=None, max_examples=60)
@given(
    own=st.lists(st.lists(TEXTS.filter(str.strip), min_size=1, max_size=4), min_size=1, max_size=6),
    new=st.lists(st.tuples(TEXTS, TEXTS), min_size=6, max_size=6),
)
def test_any_text_is_read_back(own: list[list[str]], new: list[tuple[str, str]]) -> None:
    """Whatever stands in the cells, old and new: openpyxl and our own reader find each text in its row and column."""
    rows = "".join(_row(number, texts) for number, texts in enumerate(([f"h{i}" for i in range(4)], *own), 1))
    cells = [(number, new[number - 2]) for number in range(2, len(own) + 2)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path, out = HandMade(rows=rows).write(folder / "in.xlsx"), folder / "out.xlsx"
        with open_sheet(path, Reading(), folder) as sheet:
            before = [row.texts for row in sheet.rows()]
            with out.open("wb") as target:
                append_columns(sheet, target, NewColumns(("run_id", "status")), cells)
            with open_written(out, sheet) as written_sheet:
                after = [row.texts for row in written_sheet.rows()]
        with warnings.catch_warnings(action="ignore"):
            values = list(load_workbook(out)["Sheet1"].iter_rows(max_col=6, values_only=True))
    expected = [("run_id", "status"), *(tuple(map(_as_read, texts)) for _number, texts in cells)]
    assert [row[:4] for row in after] == before
    assert [row[4:6] for row in after] == expected
    assert [tuple(_unescaped(str(text or "")) for text in row[4:]) for row in values] == expected


def _row(number: int, texts: Sequence[str]) -> str:
    cells = (
        f'<c r="{column_letter(column)}{number}" t="inlineStr"><is><t xml:space="preserve">{escaped(text)}</t></is></c>'
        for column, text in enumerate(texts)
    )
    return f'<row r="{number}">{"".join(cells)}</row>'


def _as_read(text: str) -> str:
    return _NO_CHARACTER.sub("\ufffd", text)


def _unescaped(text: str) -> str:
    """openpyxl leaves the escapes of ST_Xstring as they stand."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text)
