"""What a workbook's cells become as text, and what is wrong with them."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import pytest
from workbooks import Tab, opened, read_cells, read_rows, text_cell, text_row, write_workbook

from batch_runner.sheet.model import Reading, TypedCell

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ('<c r="A2"><v>7</v></c>', "7"),
        ('<c r="A2"><v>0.30000000000000004</v></c>', "0.3"),
        ('<c r="A2"><v>1E-7</v></c>', "0.0000001"),
        ('<c r="A2"><v>1.5e3</v></c>', "1500"),
        ('<c r="A2"><v>-0</v></c>', "0"),
        ('<c r="A2" t="b"><v>1</v></c>', "TRUE"),
        ('<c r="A2" t="b"><v>0</v></c>', "FALSE"),
        ('<c r="A2" t="str"><f>"x"</f><v> x &amp; y </v></c>', " x & y "),
        ('<c r="A2" t="inlineStr"><is><t>a_x000A_b_x005F_x0041_</t></is></c>', "a\nb_x0041_"),
        ('<c r="A2" t="inlineStr"><is><r><t>rich </t></r><r><t>text</t></r></is></c>', "rich text"),
        ('<c r="A2" t="inlineStr"><is><t>base</t><rPh sb="0" eb="1"><t>hint</t></rPh></is></c>', "base"),
        ('<c r="A2" t="inlineStr"><is><t>&#x20AC;&#10;1</t></is></c>', "€\n1"),
        ('<c r="A2" t="d"><v>2026-02-28T14:05:00</v></c>', "2026-02-28T14:05:00"),
        ('<c r="A2" t="d" s="1"><v>2026-02-28T14:05:00</v></c>', "2026-02-28"),
        ('<c r="A2" s="1"><v>46081.99</v></c>', "2026-02-28"),
        ("<c><v>12</v></c>", "12"),
        ('<c t="n" s="0" r="A2"><v>12</v></c>', "12"),
        ('<c r="A2"><f t="shared" ref="A2:A9" si="0">B2*2</f><v>12</v></c>', "12"),
        ('<c r="A2" s=""><v>12</v></c>', "12"),
        ("<c r='A2'><v>12</v></c>", "12"),
        ('<c r="A2"><v><![CDATA[12]]></v></c>', "12"),
        ('<c r="A2"><!-- twelve --><v>12</v></c>', "12"),
    ],
)
def test_a_cell_is_sent_as_its_person_sees_it(tmp_path: Path, cell: str, text: str) -> None:
    """Every way in which a value stands in a sheet's XML gives the text that README's rules name, without problems."""
    row = read_cells(tmp_path / "a.xlsx", cell, formats=("yyyy-mm-dd",))
    assert (row.texts[0], row.problems) == (text, ())


@pytest.mark.parametrize(
    ("cell", "text", "what"),
    [
        ('<c r="C2" t="e"><v>#N/A</v></c>', "#N/A", "the error #N/A"),
        ('<c r="C2" t="e"><f>1/0</f><v>#DIV/0!</v></c>', "#DIV/0!", "the error #DIV/0!"),
        ('<c r="C2"><f>1+1</f></c>', "", "a formula without a calculated value"),
        ('<c r="C2"><f>1+1</f><v></v></c>', "", "a formula without a calculated value"),
        ('<c r="C2" t="b"><f>1=1</f><v/></c>', "", "a formula without a calculated value"),
        ('<c r="C2" t="str"><f>"x"</f></c>', "", "a formula without a calculated value"),
        ('<c r="C2" t="str"><f>"x"</f><!-- so that the parser reads it --></c>', "", "a formula without a calculated"),
        ('<c r="C2" s="1"><v>-5</v></c>', "-5", "shows ####"),
        ('<c r="C2" t="s"><v>9</v></c>', "", "missing from the workbook's shared strings"),
        ('<c r="C2"><v>twelve</v></c>', "twelve", "no number"),
    ],
)
def test_a_cell_without_a_text_that_could_be_sent_refuses(tmp_path: Path, cell: str, text: str, what: str) -> None:
    """Errors, formulas without a value and damaged cells are problems that refuse, named by their address."""
    row = read_cells(tmp_path / "a.xlsx", cell, formats=("yyyy-mm-dd",))
    (problem,) = row.problems
    assert (row.texts[2], problem.index, problem.address, problem.refuses) == (text, 2, "C2", True)
    assert what in problem.what


def test_a_formula_with_an_empty_text_is_an_empty_cell(tmp_path: Path) -> None:
    """`=""` has been calculated: nothing stands there, and nothing is wrong."""
    for value in ("<v></v>", "<v/>", "<v />", "<v/><!-- so that the parser reads it -->"):
        row = read_cells(tmp_path / "a.xlsx", f'<c r="A2" t="str"><f>""</f>{value}</c><c r="B2"><v>1</v></c>')
        assert (row.texts[:2], row.problems) == (("", "1"), ())


def test_sixteen_digits_are_sent_with_a_warning(tmp_path: Path) -> None:
    """A card number kept as a number has lost its last digit; it is sent, and said so."""
    row = read_cells(tmp_path / "a.xlsx", '<c r="B2"><v>4111111111111110</v></c>')
    assert row.texts[1] == "4111111111111110"
    assert [(problem.address, problem.refuses) for problem in row.problems] == [("B2", False)]


def test_a_number_is_also_known_as_it_is_stored_and_shown(tmp_path: Path) -> None:
    """Only the cells that are asked for and are no texts, formulas included; the rows are the same as ever."""
    cells = '<c r="A2" s="1"><v>1234.5</v></c><c r="B2" s="1"><v>7</v></c>' + text_cell("C2", "8")
    cells += '<c r="D2" s="1"><f>A2*2</f><v>2469</v></c><c r="E2" t="e"><v>#N/A</v></c>'
    rows = text_row(1, *"ABCDE") + f'<row r="2">{cells}</row>' + text_row(4, "9")
    write_workbook(tmp_path / "a.xlsx", {"S": Tab(rows=rows)}, formats=('#,##0.00 "€"',))
    with opened(tmp_path / "a.xlsx") as sheet:
        found, plain = list(sheet.typed_rows([0, 2, 3, 4])), list(sheet.rows())
    assert [row.typed for row in found] == [
        {},
        {0: TypedCell("1234.5", "1,234.50 €"), 3: TypedCell("2469", "2,469.00 €"), 4: TypedCell("#N/A", "#N/A")},
        {},
        {},
    ]
    assert [(row.number, row.kind, row.texts, row.problems) for row in found] == [
        (row.number, row.kind, row.texts, row.problems) for row in plain
    ]


def test_shared_strings_are_run_together_without_phonetic_hints(tmp_path: Path) -> None:
    """Simple, rich, empty and phonetic strings keep their places, whichever of two ways each is read."""
    strings = (
        "<si><t>one</t></si><si><r><rPr><b/></rPr><t>t</t></r><r><t xml:space='preserve'>wo </t></r></si><si><t/></si>"
        "<si><t>東京</t><rPh sb='0' eb='2'><t>トウキョウ</t></rPh><phoneticPr fontId='1'/></si><si/>"
        '<si><t xml:space="preserve"> &lt;last&gt; </t></si>'
    )
    cells = "".join(f'<c r="{letter}2" t="s"><v>{place}</v></c>' for place, letter in enumerate("ABCDEF"))
    row = read_cells(tmp_path / "a.xlsx", cells, strings=strings)
    assert row.texts == ("one", "two ", "", "東京", "", " <last> ")


def test_as_shown_sends_separators_and_symbols(tmp_path: Path) -> None:
    """`--as-shown` sends what is on the screen, blanks at the ends left out."""
    cells = '<c r="A2" s="1"><v>1234.5</v></c><c r="B2" s="2"><v>46081</v></c>' + (
        '<c r="C2" s="3" t="inlineStr"><is><t>12</t></is></c>'
    )
    formats = ('_-* #,##0.00\\ "€"_-', "dd/mm/yyyy", '0;0;0;@" kg"')
    row = read_cells(tmp_path / "a.xlsx", cells, formats=formats, shown=True)
    assert row.texts[:3] == ("1,234.50 €", "28/02/2026", "12 kg")


def test_the_1904_date_system_is_minded(tmp_path: Path) -> None:
    """The same number is a date four years and a day later where the workbook counts from 1904."""
    rows = text_row(1, "Date") + '<row r="2"><c r="A2" s="1"><v>44619</v></c></row>'
    write_workbook(tmp_path / "a.xlsx", {"S": Tab(rows=rows)}, formats=("d/m/yy",), is_1904=True)
    assert read_rows(tmp_path / "a.xlsx")[1].texts == ("2026-02-28",)


def test_only_the_first_of_merged_cells_has_a_value(tmp_path: Path) -> None:
    """What a merge covers is empty, even where a value was left under it."""
    rows = text_row(1, "a", "b") + text_row(2, "x", "hidden") + text_row(3, "hidden", "hidden") + text_row(4, "y", "z")
    after = '<mergeCells count="1"><mergeCell ref="A2:B3"/></mergeCells>'
    write_workbook(tmp_path / "a.xlsx", {"S": Tab(rows=rows, after=after)})
    assert [row.texts for row in read_rows(tmp_path / "a.xlsx")[1:]] == [("x", ""), ("", ""), ("y", "z")]


def test_an_empty_style_is_none(tmp_path: Path) -> None:
    """Some programs write `s=""`: such a cell has the first format, and its text is read."""
    assert read_cells(tmp_path / "a.xlsx", '<c r="A2" s=""><v>7</v></c><c r="B2" s="" t="str"><v>x</v></c>').texts[
        :2
    ] == ("7", "x")


def test_a_formula_among_plain_cells_changes_none_of_them(tmp_path: Path) -> None:
    """Beside a formula without a value, which is refused, all other cells of the row keep their texts."""
    row = read_cells(tmp_path / "a.xlsx", '<c r="A2"><v>7</v></c><c r="B2"><f>A2</f></c><c r="C2" t="str"><v>x</v></c>')
    assert row.texts[:3] == ("7", "", "x")
    assert [(problem.address, problem.refuses) for problem in row.problems] == [("B2", True)]


@pytest.mark.parametrize(
    ("value", "style", "is_1904", "text"),
    [
        ("2026-02-28", 1, True, "2026-02-28"),
        ("2026-02-28T14:05:00", 2, True, "2026-02-28T14:05:00"),
        ("2026-02-28T14:05:00+01:00", 1, False, "2026-02-28"),
        ("2026-02-28T23:05:00-05:00", 2, False, "2026-02-28T23:05:00"),
        ("2026-02-28T14:05:00Z", 0, False, "2026-02-28T14:05:00"),
        ("2026-02-28T14:05:00+01:00", 0, False, "2026-02-28T14:05:00"),
        ("1900-01-15", 1, False, "1900-01-15"),
        ("1900-02-28", 1, False, "1900-02-28"),
        ("1900-03-01", 1, False, "1900-03-01"),
        ("1904-01-01", 1, True, "1904-01-01"),
        ("14:05:00", 3, False, "14:05:00"),
        ("14:05:00", 0, False, "14:05:00"),
        ("2026-02-28", 4, False, "46081.00"),
    ],
)
def test_a_date_in_words_is_that_date(tmp_path: Path, value: str, style: int, is_1904: bool, text: str) -> None:
    """In both date systems, with any offset from UTC: the clock that was written, as far as the format shows it."""
    formats = ("dd/mm/yyyy", "dd/mm/yyyy hh:mm", "h:mm AM/PM", "0.00")
    cell = f'<c r="A2" t="d" s="{style}"><v>{value}</v></c>'
    row = read_cells(tmp_path / "a.xlsx", cell, formats=formats, is_1904=is_1904)
    assert (row.texts[0], row.problems) == (text, ())


@pytest.mark.parametrize(("style", "text"), [(1, "28/02/2026"), (2, "Saturday"), (0, "2026-02-28")])
def test_a_date_in_words_obeys_its_format_as_shown(tmp_path: Path, style: int, text: str) -> None:
    """`--as-shown` sends what the sheet shows of it, as of any other date."""
    cell = f'<c r="A2" t="d" s="{style}"><v>2026-02-28</v></c>'
    assert read_cells(tmp_path / "a.xlsx", cell, formats=("dd/mm/yyyy", "dddd"), shown=True).texts[0] == text


@pytest.mark.parametrize("value", ["soon", "2026-02-30", "1850-05-01"])
def test_a_date_in_words_that_is_none_refuses(tmp_path: Path, value: str) -> None:
    """By its address, never silently something else."""
    row = read_cells(tmp_path / "a.xlsx", f'<c r="A2" t="d" s="1"><v>{value}</v></c>', formats=("yyyy-mm-dd",))
    assert [(problem.address, problem.refuses) for problem in row.problems] == [("A2", True)]


def test_a_number_that_nobody_can_be_sure_of_is_sent_with_a_warning_or_refused(tmp_path: Path) -> None:
    """A plain number is the cell's value; what may be an identifier is refused; both are named."""
    cells = '<c r="A2" s="1"><v>5.25</v></c><c r="B2" s="2"><v>5</v></c><c r="C2"><v>7</v></c>'
    row = read_cells(tmp_path / "a.xlsx", cells, formats=("[foo]0.0", "[foo]00000"))
    assert row.texts[:3] == ("5.25", "5", "7")
    assert [(problem.address, problem.refuses) for problem in row.problems] == [("A2", False), ("B2", True)]
    assert all("'[foo]' stands in it" in problem.what for problem in row.problems)


def test_an_empty_code_for_an_id_that_has_one_says_nothing(tmp_path: Path) -> None:
    """ClosedXML writes one for General: such numbers are General, as shown, too."""
    write_workbook(tmp_path / "a.xlsx", {"S": Tab(rows=text_row(1, "a") + '<row r="2"><c r="A2"><v>7.5</v></c></row>')})
    with zipfile.ZipFile(tmp_path / "a.xlsx") as package:
        parts = {name: package.read(name) for name in package.namelist()}
    empty = b'<numFmt numFmtId="0" formatCode=""/></numFmts>'
    parts["xl/styles.xml"] = parts["xl/styles.xml"].replace(b"</numFmts>", empty)
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w") as package:
        for name, content in parts.items():
            package.writestr(name, content)
    for as_shown in (False, True):
        assert read_rows(tmp_path / "a.xlsx", Reading(header_row=1, as_shown=as_shown))[1].texts == ("7.5",)


UNKNOWN = '<foo xmlns="urn:x"><t>leak</t>leak</foo><ext><t>leak</t>leak</ext><rPh sb="0" eb="1"><t>leak</t></rPh>'


@pytest.mark.parametrize(
    "item", ["<t>seen{}</t>", "{}<t>seen</t>{}", "<r>{}<t>se{}</t></r><r><rPr>{}</rPr><t>en</t>{}</r>"]
)
def test_unknown_elements_are_no_text(tmp_path: Path, item: str) -> None:
    """What nobody knows doesn't leak into a text, be it shared or the cell's own, nor into a number."""
    whole = item.format(*[UNKNOWN] * 4)
    cells = f'<c r="A2" t="s"><v>0</v></c><c r="B2" t="inlineStr"><is>{whole}</is></c><c r="C2"><v>12{UNKNOWN}</v></c>'
    row = read_cells(tmp_path / "a.xlsx", cells, strings=f"<si>{whole}</si>")
    assert row.texts[:3] == ("seen", "seen", "12")


def test_what_formats_are_taken_for_is_told_by_column(tmp_path: Path) -> None:
    """Units that are left out, identifiers and masks, each with an example; currencies go without saying."""
    cells = "".join(f'<c r="{letter}2" s="{place}"><v>5</v></c>' for place, letter in enumerate("ABCDE", 1))
    formats = ('"INV-"0', '0.0" kg"', "000-00", '"EUR "0', "0.00")
    rows = text_row(1, *"ABCDE") + f'<row r="2">{cells}</row>'
    write_workbook(tmp_path / "a.xlsx", {"S": Tab(rows=rows)}, formats=formats)
    with opened(tmp_path / "a.xlsx") as sheet:
        assert sheet.describe_formats() == ()
        list(sheet.rows())
        assert sheet.describe_formats() == (
            "A, format \"INV-\"0: 'INV-' is part of an identifier, sent as INV-5",
            "B, format 0.0\" kg\": ' kg' is a unit and left out: 5.0 kg is sent as 5.0",
            "C, format 000-00: a mask, sent as shown: 000-05",
        )
