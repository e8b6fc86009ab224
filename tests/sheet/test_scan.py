"""A sheet's rows: the regex and the parser read the same, however the XML is written."""

from __future__ import annotations

import io
import zipfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packages import MAIN, PKG, relations

from batch_runner.errors import SheetError
from batch_runner.sheet.xlsx.package import Mark, Package, read_mark
from batch_runner.sheet.xlsx.row_reader import RowReader
from batch_runner.sheet.xlsx.values import AlikeRows, RawRow, column_places, plain_text


def seen(row: RawRow) -> tuple[int, bool, list[tuple[int, Mark, bool, str]]]:
    """What a raw row says, however it was read: its cells that have something in them."""
    places = column_places(row.letters, {})
    cells = zip(places, row.marks, row.formulas, row.values, strict=True)
    return (
        row.number,
        row.hidden,
        [
            (place, read_mark(mark or b""), bool(formula), plain_text(value or b""))
            for place, mark, formula, value in cells
            if formula or value
        ],
    )


def scans(part: bytes) -> tuple[RowReader, RowReader]:
    """A sheet's part, to be divided by the regex where that can be, and to be read by the parser only."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as package:
        package.writestr("[Content_Types].xml", f'<Types xmlns="{PKG}/content-types"/>')
        package.writestr("_rels/.rels", relations('<Relationship Id="r" Type="t/officeDocument" Target="book.xml"/>'))
        package.writestr("book.xml", "<x/>")
        package.writestr("sheet.xml", part)
    opened = Package(file, "a.xlsx")
    return RowReader(opened, "sheet.xml"), RowReader(opened, "sheet.xml", quick=False)


def sheet(rows: str) -> bytes:
    return f'<worksheet xmlns="{MAIN}"><sheetData>{rows}</sheetData><autoFilter ref="A1:B2"/></worksheet>'.encode()


CONTENTS = (
    "", "<v/>", "<v></v>", "<f>A1</f>", "<f>A1</f><v>1</v>", '<f t="shared" si="0"/><v>2</v>', "<v><![CDATA[<]]></v>",
    "<is><t>x</t></is>", "<is><t xml:space='preserve'> x</t></is>", "<is><r><t>x</t></r><r><t>y</t></r></is>",
    "<is><t>x</t><rPh sb='0' eb='1'><t>y</t></rPh></is>", "<!-- <v>1</v> --><v>2</v>", "<v>a\r\nb&#13;\r</v>",
    "<v>1</v><extLst><ext uri='x'/></extLst>", " <v>3</v> ", "<v xml:space='preserve'> 4</v>", "<v>&#x41;</v>",
)  # fmt: skip
VALUES = st.one_of(
    st.integers(-(10**17), 10**17).map(lambda value: f"<v>{value}</v>"),
    st.text("ab<&>é東 \t\n", max_size=6).map(lambda text: f"<v>{text.replace('&', '&amp;').replace('<', '&lt;')}</v>"),
    st.sampled_from(CONTENTS),
)
ATTRIBUTES = (' s="3"', ' t="s"', ' t="str"', ' cm="1"', ' vm="2"', " s='4'")
MARKS = st.lists(st.sampled_from(ATTRIBUTES), max_size=2, unique_by=lambda mark: mark[:3])
CELLS = st.tuples(st.booleans(), MARKS, VALUES)
ROWS = st.tuples(
    st.sampled_from(["", ' spans="1:3"', ' hidden="1"', ' ht="12.5" customHeight="1"', ' hidden="0" x="a/b"']),
    st.booleans(),
    st.lists(CELLS, max_size=4),
    st.sampled_from(["", "", "", "\n  ", "<!-- </row> -->", '<row spans="1:1"/>', "<row></row>"]),
)


def row_xml(number: int, attributes: str, numbered: bool, cells: list[tuple[bool, list[str], str]], before: str) -> str:
    own = f' r="{number}"' if numbered else ""
    inside = "".join(
        f"<c{f' r={chr(34)}{chr(65 + 2 * place)}{number}{chr(34)}' if named else ''}{''.join(marks)}>{value}</c>"
        for place, (named, marks, value) in enumerate(cells)
    )
    return f"{before}<row{own}{attributes}>{inside}</row>"


@pytest.mark.long
@settings(max_examples=300, deadline=None)
@given(st.lists(ROWS, max_size=6))
def test_both_ways_of_reading_agree(
    rows: list[tuple[str, bool, list[tuple[bool, list[str], str]], str]],
) -> None:
    """Whatever stands in a sheet, the regex reads what the parser reads, or leaves it to the parser."""
    text = "".join(
        row_xml(3 * number, attributes, numbered, cells, before)
        for number, (attributes, numbered, cells, before) in enumerate(rows, 1)
    )
    quick, slow = scans(sheet(text))
    assert [seen(row) for row in quick] == [seen(row) for row in slow]
    assert quick.beside.autofilter == slow.beside.autofilter == "A1:B2"


PLAIN = '<row r="1"><c r="A1" s="1" t="s"><v>0</v></c><c r="C1"><f>1</f><v>1</v></c></row><row r="2"/>'


def test_a_plain_part_is_divided_by_the_regex() -> None:
    """What Excel and its peers write needs no parser."""
    quick, _slow = scans(sheet(PLAIN))
    assert len(list(quick)) == 1
    assert quick.quick


@pytest.mark.parametrize(
    "part",
    [
        sheet(PLAIN).replace(b"<", b"<x:").replace(b"<x:/", b"</x:").replace(b"xmlns=", b"xmlns:x="),
        ('<?xml version="1.0" encoding="UTF-16"?>' + sheet(PLAIN).decode()).encode("utf-16"),
        b'<?xml version="1.0" encoding="iso-8859-1"?>' + sheet(PLAIN),
        sheet(PLAIN).replace(b' r="A1" s="1" t="s"', b" t='s' s='1' r='A1'"),
        sheet(PLAIN).replace(MAIN.encode(), b"http://purl.oclc.org/ooxml/spreadsheetml/main"),
        sheet(PLAIN.replace("><c", ">\n  <c").replace("><v", ">\n    <v").replace("></", ">\n</")),
    ],
    ids=["prefix", "utf-16", "latin-1", "quotes", "strict", "pretty"],
)
def test_odd_parts_say_the_same(part: bytes) -> None:
    """Prefixes, encodings, quotes, Strict namespaces and blanks between tags change nothing of what is read."""
    _quick, plain = scans(sheet(PLAIN))
    quick, slow = scans(part)
    assert [seen(row) for row in quick] == [seen(row) for row in slow] == [seen(row) for row in plain]


@pytest.mark.long
def test_something_odd_late_in_the_part_is_noticed() -> None:
    """After many plain rows one with a comment: no row is lost, and none comes twice."""
    rows = "".join(f'<row r="{number}"><c r="A{number}"><v>{number}</v></c></row>' for number in range(1, 20_000))
    odd = '<row r="20000"><!-- </row> --><c r="A20000"><v>7</v></c></row>'
    quick, slow = scans(sheet(rows + odd))
    assert [row.number for row in quick] == list(range(1, 20_001))
    assert not quick.quick
    assert sum(1 for _row in slow) == 20_000


MIXED = (
    '<c r="A{n}" t="s"><v>{n}</v></c><c r="B{n}" s="2"><v>{v}</v></c><c r="D{n}"><f>A{n}</f><v>{v}</v></c>',
    '<c r="A{n}" t="s"><v>{n}</v></c><c r="D{n}"><f t="shared" si="0"/><v>{v}</v></c>',
    '<c r="A{n}" t="s"><v>{n}</v></c><c r="B{n}" s="2"/><c r="D{n}"><v>{v}</v></c>',
    '<c r="A{n}" t="s"><v>{n}</v></c><c r="B{n}" s="2"><v></v></c><c r="D{n}"/>',
    '<c r="A{n}" t="s"><v>{n}</v></c><c r="B{n}" s="2"><v/></c><c r="C{n}"><v>{v}</v></c>',
    '<c r="A{n}" t="s"><v>{n}</v></c><c r="B{n}" s="2"><v>{v}</v></c><extLst/>',
    '<c r="A{n}" t="s"><v>{n}</v></c><c r="B{n}" s="3"><v>{v}</v></c>',
    '<c r="B{n}" s="2"><v>{v}</v></c>',
    '<c r="B{n}" s="2"/>',
    "",
)
"""The cells of rows that lack some of those that other rows have, or have others."""


@given(
    st.lists(st.integers(0, len(MIXED) - 1), max_size=40),
    st.lists(st.sampled_from(["", ' hidden="1"', "\n", '<row r="{n}"/>']), min_size=1, max_size=9),
    st.integers(0, 9),
)
def test_rows_that_lack_a_cell_are_read_as_any_others(kinds: list[int], around: list[str], plain: int) -> None:
    """Rows of one shape, among them such as lack a cell or have another, hidden ones, blanks and comments between."""
    rows = [MIXED[0].format(n=number, v=1) for number in range(1, plain + 1)]
    rows += [MIXED[kind].format(n=number, v=7 - kind) for number, kind in enumerate(kinds, plain + 1)]
    pieces = []
    for number, cells in enumerate(rows):
        odd = around[number % len(around)]
        hidden, before = (odd, "") if "hidden" in odd else ("", odd.format(n=2 * number + 1))
        pieces.append(f'{before}<row r="{2 * number + 2}" spans="1:4"{hidden}>{cells}</row>')
    quick, parsed = scans(sheet("".join(pieces)))
    assert [seen(row) for row in quick] == [seen(row) for row in parsed]


def test_rows_that_are_alike_come_together() -> None:
    """A long list of one shape is handed on many rows at a time, though some of its rows lack a cell."""
    rows = "".join(f'<row r="{n}">{MIXED[n % 3 == 2].format(n=n, v=n)}</row>' for n in range(1, 2_000))
    quick, _ = scans(sheet(rows))
    together = [found for found in quick.alike() if isinstance(found, AlikeRows)]
    assert sum(len(found.numbers) for found in together) > 1_900


LIKE = (
    '<c r="A{n}" t="s"><v>{n}</v></c><c r="B{n}" s="2"><v>{v}</v></c>',
    '<c r="A{n}" s="2"><v>{v}</v></c><c r="C{n}"><v></v></c>',
    '<c r="A{n}" t="str"><f>B{n}</f><v>{v}</v></c><c r="B{n}"><v>{v}</v></c>',
    '<c r="A{n}" t="inlineStr"><is><t>{v}</t></is></c><c r="B{n}" t="s"><v>1</v></c>',
    '<c r="A{n}" t="s" ><v>{v}</v></c><c r="B{n}"/>',
    '<c t="s"><v>{v}</v></c><c r="B{n}"><v>{v}</v></c>',
    "",
)
"""The cells of rows of which many are alike."""


@given(
    st.lists(st.tuples(st.integers(0, len(LIKE) - 1), st.integers(1, 4), st.integers(-99, 99)), max_size=12),
    st.sampled_from(["", ' hidden="1"', ' spans="1:3" ht="0"', " customHeight='1'"]),
    st.booleans(),
)
def test_rows_that_are_alike_are_read_as_any_others(
    runs: list[tuple[int, int, int]], attributes: str, ends_oddly: bool
) -> None:
    """Some rows of one shape, then some of another, and back: each is what the parser says, number and all."""
    rows, number = [], 0
    for kind, times, value in runs:
        for _ in range(times):
            number += 1 + (value == 7)
            cells = LIKE[kind].format(n=number, v=value)
            rows.append(f'<row r="{number}"{attributes}>{cells}</row>')
    rows.append("<!-- odd -->" * ends_oddly)
    quick, parsed = scans(sheet("".join(rows)))
    assert [seen(row) for row in quick] == [seen(row) for row in parsed]


@pytest.mark.parametrize(
    "part",
    [sheet('<row r="1"><c r="A1" t="str"><f t="array" ref="A1:A9">B1</f><v>1</v></c></row>').replace(b"<v>", b"<v >")]
    + [
        sheet(f'<row r="1"><c r="A1"><f t="{kind}" ref="A1:A9">B1</f><v>1</v></c></row>')
        for kind in ("array", "dataTable")
    ]
    + [sheet('<row r="1"><c r="A1"><f t="&#97;rray" ref="A1:A9">B1</f><v>1</v></c></row>')],
)
def test_a_formula_that_fills_other_cells_is_met_on_the_way(part: bytes) -> None:
    """Whoever has read all rows knows whether it is worth to look for such formulas, however they are written."""
    quick, _ = scans(part)
    assert list(quick)
    assert quick.may_have_computed


def test_most_sheets_need_no_second_look_for_formulas_that_fill_other_cells() -> None:
    quick, parsed = scans(sheet('<row r="1"><c r="A1"><f>SUM(B1:C1)</f><v>1</v></c></row>'))
    assert list(quick)
    assert list(parsed)
    assert (quick.may_have_computed, parsed.may_have_computed) == (False, True)


@pytest.mark.parametrize("odd", [6, 9])
def test_rows_out_of_order_are_refused_among_alike_ones(odd: int) -> None:
    """A number that comes twice, or too late, is refused wherever it stands: no reader knows which row is meant."""
    numbers = [*range(1, 10), odd, *range(11, 20)]
    rows = "".join(f'<row r="{n}"><c r="A{n}"><v>{n}</v></c></row>' for n in numbers)
    for reader in scans(sheet(rows)):
        with pytest.raises(SheetError, match=f"has row {odd} after row 9"):
            list(reader)
