"""New cells in a sheet's rows: each rule of the splice, by the quick way and by the parser."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from batch_runner.errors import SheetError
from batch_runner.sheet.model import NewCells, column_letter
from batch_runner.sheet.xlsx_append.rows import _letters_before
from batch_runner.sheet.xlsx_append.sheet_xml import with_columns
from batch_runner.sheet.xlsx_append.xml_tokens import Place, are_plain, inline_string

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
STRICT = "http://purl.oclc.org/ooxml/spreadsheetml/main"
HEADER = '<row r="1"><c r="A1" s="7" t="str"><v>File</v></c></row>'
PLACE = Place(start=1, headers=("run_id",), replaced=0, header_row=1, last_row=9, adjacent=1)


@pytest.fixture(params=["quick", "parsed"])
def quick(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "quick")


def sheet(rows: str, *, namespace: str = MAIN, after: str = "") -> bytes:
    return f'<worksheet xmlns="{namespace}"><sheetData>{rows}</sheetData>{after}</worksheet>'.encode()


def rows_of(part: bytes) -> str:
    return part.decode().partition("<sheetData>")[2].partition("</sheetData>")[0]


def spliced(
    part: bytes,
    cells: Iterable[tuple[int, tuple[str, ...]]],
    quick: bool,
    place: Place = PLACE,
    steps: Sequence[int] = (),
) -> bytes:
    """The part with new cells; `steps` are the sizes of the chunks in which it comes."""
    chunks, at = [], 0
    for step in steps:
        chunks.append(part[at : at + step])
        at += step
    return b"".join(with_columns([*chunks, part[at:]], "a.xlsx, Sheet1", place, cells, quick=quick))


def test_a_new_cell_is_an_inline_string_after_the_last_cell(quick: bool) -> None:
    """Shared strings stay as they are: the text stands in the cell itself."""
    part = sheet(HEADER + '<row r="2" ht="20"><c r="A2"><v>1</v></c></row>')
    assert rows_of(spliced(part, [(2, ("x",))], quick)).endswith(
        '<row r="2" ht="20"><c r="A2"><v>1</v></c><c r="B2" t="inlineStr"><is><t>x</t></is></c></row>'
    )


def test_the_header_takes_the_style_of_its_left_neighbour(quick: bool) -> None:
    """Styles stay as they are: the header cells look like the one left of them."""
    rows = rows_of(spliced(sheet(HEADER), [], quick))
    assert '<c r="B1" s="7" t="inlineStr"><is><t>run_id</t></is></c></row>' in rows


def test_a_styled_blank_is_replaced_and_keeps_its_style(quick: bool) -> None:
    """A blank cell with a format, where a new one belongs, lends it its `s`; an empty text leaves the blank."""
    blank = '<row r="{0}"><c r="A{0}"><v>1</v></c><c r="B{0}" s="3"/></row>'
    part = sheet(HEADER + blank.format(2) + blank.format(3))
    rows = rows_of(spliced(part, [(2, ("x",)), (3, ("",))], quick))
    assert '<c r="B2" s="3" t="inlineStr"><is><t>x</t></is></c></row>' in rows
    assert '<c r="A3"><v>1</v></c><c r="B3" s="3"/></row>' in rows


def test_cells_further_right_stay_right(quick: bool) -> None:
    """A styled blank beyond the new columns stays after them, to the letter."""
    part = sheet(HEADER + '<row r="2"><c r="A2"><v>1</v></c><c r="C2" s="3"/><c r="XFD2" s="4" /></row>')
    rows = rows_of(spliced(part, [(2, ("x",))], quick))
    assert rows.endswith('<t>x</t></is></c><c r="C2" s="3"/><c r="XFD2" s="4" /></row>')


def test_a_row_that_is_not_named_stays_to_the_letter(quick: bool) -> None:
    """Rows that take no part, totals rows among them, aren't touched."""
    odd = '<row r="3"   spans="1:1" ><c r="A3"><v>1</v></c><c r="B3" s="9"/></row>'
    part = sheet(HEADER + odd + '<row r="4"/>')
    assert rows_of(spliced(part, [], quick)).endswith(odd + '<row r="4"/>')


def test_spans_grow(quick: bool) -> None:
    """A row's `spans` takes in the new columns, and never gets narrower."""
    spans = ("1:1", "1:8", "1:1 7:9")
    part = sheet(
        HEADER + "".join(f'<row r="{at}" spans="{span}"><c r="A{at}"/></row>' for at, span in enumerate(spans, 2))
    )
    rows = rows_of(spliced(part, [(number, ("x",)) for number in (2, 3, 4)], quick))
    assert [f'<row r="{number}" spans="{span}">' in rows for number, span in ((2, "1:2"), (3, "1:8"), (4, "1:9"))]


def test_a_closed_row_is_opened(quick: bool) -> None:
    """`<row/>` becomes `<row>…</row>` where it gets a cell."""
    part = sheet(HEADER + '<row r="2" ht="20" /><row r="3"><c r="A3"/></row>')
    rows = rows_of(spliced(part, [(2, ("x",))], quick))
    assert '<row r="2" ht="20"><c r="B2" t="inlineStr"><is><t>x</t></is></c></row><row r="3">' in rows


def test_rows_and_cells_without_r_count_on(quick: bool) -> None:
    """A row or cell without `r` follows the one before it; the new cell carries one."""
    part = sheet("<row><c><v>1</v></c></row><row><c><v>2</v></c><c s='5'/><c s='6'/></row>")
    rows = rows_of(spliced(part, [(2, ("x",))], quick))
    assert rows.endswith('<row><c><v>2</v></c><c r="B2" s="5" t="inlineStr"><is><t>x</t></is></c><c s=\'6\'/></row>')


def test_prefixed_names_keep_their_prefix(quick: bool) -> None:
    """`x:row` gets `x:c` with `x:is` and `x:t`, and everything else keeps its own prefix."""
    part = (
        f'<x:worksheet xmlns:x="{MAIN}"><x:sheetData><x:row r="1"><x:c r="A1"/></x:row><x:row r="2"/>'
        "</x:sheetData></x:worksheet>"
    ).encode()
    text = spliced(part, [(2, ("a",))], quick).decode()
    assert '<x:row r="2"><x:c r="B2" t="inlineStr"><x:is><x:t>a</x:t></x:is></x:c></x:row></x:sheetData>' in text
    assert '<x:cols><x:col min="2" max="2" width="12" customWidth="1"/></x:cols><x:sheetData>' in text


def test_strict_sheets_are_the_same(quick: bool) -> None:
    """Strict Open XML has another namespace and nothing else that matters here."""
    rows = rows_of(spliced(sheet(HEADER + '<row r="2"/>', namespace=STRICT), [(2, ("a",))], quick))
    assert "<t>a</t>" in rows


@pytest.mark.parametrize(
    ("codec", "named"), [("utf-16", "UTF-16"), ("utf-16-be", "utf-16"), ("iso-8859-1", "ISO-8859-1")]
)
def test_a_part_in_another_encoding_becomes_utf8(codec: str, named: str, quick: bool) -> None:
    """A UTF-16 or Latin-1 part is written in UTF-8, and its declaration says so."""
    text = f'<?xml version="1.0" encoding="{named}"?>'
    body = sheet('<row r="1"><c t="str"><v>Größe</v></c></row><row r="2"/>').decode()
    out = spliced((text + body).encode(codec), [(2, ("é",))], quick).decode("utf-8").lstrip("\ufeff")
    assert out.startswith('<?xml version="1.0" encoding="UTF-8"?>')
    assert "<v>Größe</v>" in out
    assert "<t>é</t>" in out


def test_what_only_looks_like_a_row_is_left_alone(quick: bool) -> None:
    """Comments and CDATA that hold tags, and attributes that hold `>`, fool nobody."""
    odd = '<!-- </row><row r="9"> --><row r="2" x="a>b"><c r="A2" t="str"><v><![CDATA[</c></row>]]></v></c></row>'
    rows = rows_of(spliced(sheet(HEADER + odd), [(2, ("x",))], quick))
    assert rows.endswith(odd.removesuffix("</row>") + '<c r="B2" t="inlineStr"><is><t>x</t></is></c></row>')


def test_extensions_of_a_row_stay_behind_its_cells(quick: bool) -> None:
    """An `extLst` ends a row (ECMA-376 part 1, 18.3.1.73): new cells stand before it."""
    part = sheet(HEADER + '<row r="2"><c r="A2"/><extLst><ext uri="u"/></extLst></row>')
    rows = rows_of(spliced(part, [(2, ("x",))], quick))
    assert rows.endswith('<t>x</t></is></c><extLst><ext uri="u"/></extLst></row>')


def test_what_follows_the_rows_stays(quick: bool) -> None:
    """Extensions after the rows may hold rows of their own; nothing of it changes."""
    after = '<extLst><ext xmlns:q="urn:q"><q:row r="2"/><row r="2"></row></ext></extLst><!-- end -->'
    part = sheet(HEADER + '<row r="2"><c r="A2"/></row>\n', after=after)
    assert spliced(part, [(2, ("x",))], quick).endswith(b"\n</sheetData>" + after.encode() + b"</worksheet>")


def test_an_earlier_output_is_refreshed_in_place(quick: bool) -> None:
    """Replaced cells go, also in rows that take no part now; their styles stay, and so do the headers'."""
    place = Place(start=1, headers=("run_id", "status"), replaced=2, header_row=1, last_row=3, adjacent=1)
    old = '<row r="{0}"><c r="A{0}" s="1"/><c r="B{0}" s="4" t="str"><v>o</v></c><c r="C{0}"><v>1</v></c></row>'
    part = sheet("".join(old.format(number) for number in (1, 2, 3, 4)))
    rows = rows_of(spliced(part, [(2, ("new", "success"))], quick, place))
    assert '<c r="A1" s="1"/><c r="B1" s="4" t="inlineStr"><is><t>run_id</t></is></c><c r="C1" t="inlineStr">' in rows
    assert '<c r="B2" s="4" t="inlineStr"><is><t>new</t></is></c><c r="C2" t="inlineStr"><is><t>success' in rows
    assert '<row r="3"><c r="A3" s="1"/><c r="B3" s="4"/></row>' in rows
    assert old.format(4) in rows


def test_a_row_that_gets_and_loses_nothing_stays_to_the_letter(quick: bool) -> None:
    """Refreshing touches no row that had no result and gets none: blank rows keep their tags and spans."""
    place = Place(start=1, headers=("run_id",), replaced=1, header_row=1, last_row=4, adjacent=1)
    odd = '<row r="2" /><row r="3" spans="1:1"><c r="A3" s="1" /></row><row r="4" ></row>'
    assert rows_of(spliced(sheet(HEADER + odd), [], quick, place)).endswith("</row>" + odd)


@pytest.mark.parametrize(("replaced", "headers"), [(1, ("run_id", "status", "result.a")), (3, ("run_id",))])
def test_more_or_fewer_columns_than_before(replaced: int, headers: tuple[str, ...], quick: bool) -> None:
    """The new ones begin where the old ones began; what is left of the old ones goes."""
    place = Place(start=1, headers=headers, replaced=replaced, header_row=1, last_row=2, adjacent=1)
    old = "".join(f'<c r="{letter}{{0}}" s="2" t="str"><v>o</v></c>' for letter in "ABCD"[: replaced + 1])
    part = sheet("".join(f'<row r="{number}">{old.format(number)}</row>' for number in (1, 2)))
    rows = rows_of(spliced(part, [(2, ("n",) * len(headers))], quick, place))
    assert rows.count("<v>o</v>") == 2
    assert rows.count("<t>n</t>") == len(headers)
    assert all(f's="2" t="inlineStr"><is><t>{header}</t>' in rows for header in headers)


@pytest.mark.parametrize("replaced", [0, 1])
def test_a_formula_is_never_dropped(replaced: int, quick: bool) -> None:
    """The chain of calculation would name a cell that has none: refused, naming the cell."""
    place = Place(start=1, headers=("run_id",), replaced=replaced, header_row=1, last_row=2, adjacent=1)
    part = sheet(HEADER + '<row r="2"><c r="A2"/><c r="B2" t="str"><f>A2&amp;""</f><v></v></c></row>')
    with pytest.raises(SheetError, match="Sheet1!B2 holds a formula"):
        spliced(part, [(2, ("x",))], quick, place)


def test_a_text_longer_than_a_cell_is_refused(quick: bool) -> None:
    """32,767 UTF-16 units go in; one more is an error that names the cell, for whoever didn't cut it."""
    part = sheet(HEADER + '<row r="2"/>')
    assert "😀" * 16_383 + "x" in spliced(part, [(2, ("😀" * 16_383 + "x",))], quick).decode()
    with pytest.raises(SheetError, match="Sheet1!B2"):
        spliced(part, [(2, ("😀" * 16_384,))], quick)


def test_a_result_is_never_lost_in_silence(quick: bool) -> None:
    """New cells for a row that the sheet doesn't have are a mistake of the caller's."""
    with pytest.raises(ValueError, match="row 3"):
        spliced(sheet(HEADER + '<row r="2"/>'), [(3, ("x",))], quick)


def test_a_million_closed_rows_cost_no_memory(quick: bool) -> None:
    """Formatting down to the last row comes as closed rows without end tags: they are passed on as they come."""
    closed = "".join(f'<row r="{number}" s="1" customFormat="1"/>' for number in range(3, 20_000))
    part = sheet(HEADER + '<row r="2"><c r="A2"/></row>' + closed)
    out = list(with_columns([part[at : at + 4096] for at in range(0, len(part), 4096)], "a", PLACE, [], quick=quick))
    assert max(map(len, out)) < 3 * 4096
    assert rows_of(b"".join(out)).endswith(closed)


def test_many_short_rows_with_long_cells_come_in_pieces() -> None:
    """Thousands of rows stand in one chunk of a sheet, and each gets a text of 32 kB: they aren't gathered."""
    rows = "".join(f'<row r="{number}"><c r="A{number}"/></row>' for number in range(2, 302))
    cells = ((number, ("x" * 32_000,)) for number in range(2, 302))
    pieces = list(with_columns([sheet(HEADER + rows)], "a.xlsx, Sheet1", PLACE, cells))
    assert sum(map(len, pieces)) > 300 * 32_000
    assert max(map(len, pieces)) < 2_000_000


@pytest.mark.parametrize("number", [2, 4])
def test_no_more_texts_are_taken_than_rows_are_written(number: int) -> None:
    """The texts of a row are asked for when it is its turn: those of two rows may be too much for memory."""
    taken = 0

    def cells() -> Iterator[tuple[int, tuple[str, ...]]]:
        nonlocal taken
        for row in range(2, 9):
            taken += 1
            yield row, ("text",)

    new = NewCells(cells())
    assert [new.of(row) for row in range(2, number + 1)] == [("text",)] * (number - 1)
    assert taken == number - 1


@pytest.mark.parametrize("text", ["_x0041_", " a", "a ", "a  b", "a|", "| a", "a |b", "a<b", "é ", "a\tb", "|"])
def test_a_text_that_needs_care_among_plain_ones_gets_it(text: str) -> None:
    """Whether all texts of a row stand as they are is asked at once: that is what is found for each of them alone."""
    bare = f"<is><t>{text}</t></is>"
    assert are_plain(("x", text, "")) <= (inline_string(text) == bare)
    assert not are_plain(("x", "a" * 20_000, ""))
    assert are_plain(("7f0c-1", "not_started", '{"n": "a, b"}', ""))


def test_a_column_left_of_the_new_ones_is_told_from_one_that_is_not() -> None:
    """For every first new column, by its letters alone."""
    letters = [column_letter(place).encode() for place in range(800)]
    for start in (0, 1, 2, 25, 26, 27, 52, 53, 701, 702, 703, 729):
        left = re.compile(_letters_before(start))
        assert [bool(left.fullmatch(one)) for one in letters] == [place < start for place in range(800)]
