"""A cell that is mended: it says what was typed, and no other byte of the file that matters changes."""

from __future__ import annotations

import io
import re
import zipfile
from typing import TYPE_CHECKING

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl.styles import Font

from batch_runner.errors import SheetError
from batch_runner.sheet.export import open_sheet, replace_cells
from batch_runner.sheet.model import Reading

if TYPE_CHECKING:
    from pathlib import Path


def replaced(path: Path, cells: dict[tuple[int, int], str]) -> Path:
    """The file with other texts in these cells, beside it."""
    out = path.with_name(f"mended{path.suffix}")
    with open_sheet(path, Reading(), path.parent) as sheet, out.open("w+b") as file:
        replace_cells(sheet, file, cells)
    return out


def texts_of(path: Path) -> dict[int, tuple[str, ...]]:
    """The cells of each row."""
    with open_sheet(path, Reading(), path.parent) as sheet:
        return {row.number: row.texts for row in sheet.rows()}


def workbook(folder: Path) -> Path:
    """A workbook with styles, an empty cell, a formula and a total."""
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for row in (
        ["No", "PDF", "Amount", "Double"],
        [1, "a.pdf", 10.5, "=C2*2"],
        [2, None, 20.25, "=C3*2"],
        [3, "c.pdf", 1.5, "x"],
    ):
        sheet.append(row)
    sheet["C3"].number_format = "#,##0.00"
    sheet["A4"].font = Font(bold=True)
    book.create_sheet("Other")["A1"] = "stays"
    path = folder / "list.xlsx"
    book.save(path)
    return path


def test_a_cell_of_a_workbook_says_what_was_typed(tmp_path: Path) -> None:
    """Texts and numbers are replaced, an empty cell is filled in its place, one is emptied; styles stay."""
    path = workbook(tmp_path)
    out = replaced(path, {(2, 1): "  b & <c>.pdf", (3, 1): "neu.pdf", (3, 2): "007", (4, 0): ""})
    sheet = openpyxl.load_workbook(out)["Sheet"]
    assert [cell.value for cell in sheet["B"]] == ["PDF", "  b & <c>.pdf", "neu.pdf", "c.pdf"]
    assert sheet["C3"].value == "007"
    assert sheet["C3"].number_format == "#,##0.00"
    assert sheet["A4"].value is None
    assert sheet["A4"].font.bold
    assert sheet["C2"].value == 10.5
    assert sheet["D2"].value == "=C2*2"


def test_all_other_parts_stay_byte_for_byte(tmp_path: Path) -> None:
    """Only the sheet's own part changes, and in that only the cell."""
    path = workbook(tmp_path)
    out = replaced(path, {(2, 1): "b.pdf"})
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(out) as after:
        assert before.namelist() == after.namelist()
        changed = [name for name in before.namelist() if before.read(name) != after.read(name)]
        assert changed == ["xl/worksheets/sheet1.xml"]  # openpyxl has said already that Excel is to calculate
        old, new = before.read(changed[0]), after.read(changed[0])
    assert re.sub(rb'<c r="B2".*?</c>', b"", old) == re.sub(rb'<c r="B2".*?</c>', b"", new)


def with_parts(path: Path, **parts: str) -> Path:
    """The workbook with some parts of it written anew."""
    names = {
        "sheet": "xl/worksheets/sheet1.xml",
        "book": "xl/workbook.xml",
        "chain": "xl/calcChain.xml",
        "types": "[Content_Types].xml",
        "rels": "xl/_rels/workbook.xml.rels",
    }
    out = io.BytesIO()
    with zipfile.ZipFile(path) as before, zipfile.ZipFile(out, "w") as after:
        anew = {names[name]: text for name, text in parts.items()}
        for name in dict.fromkeys((*before.namelist(), *anew)):
            after.writestr(name, anew.get(name) or before.read(name))
    path.write_bytes(out.getvalue())
    return path


def part_of(path: Path, name: str) -> str:
    with zipfile.ZipFile(path) as package:
        return package.read(name).decode()


def with_chain(path: Path, *cells: str) -> Path:
    """The workbook with the order in which Excel calculates."""
    types = part_of(path, "[Content_Types].xml").replace(
        "</Types>",
        '<Override PartName="/xl/calcChain.xml" ContentType="application/vnd.openxmlformats-officedocument.'
        'spreadsheetml.calcChain+xml"/></Types>',
    )
    rels = part_of(path, "xl/_rels/workbook.xml.rels").replace(
        "</Relationships>",
        '<Relationship Id="rId99" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/calcChain" '
        'Target="calcChain.xml"/></Relationships>',
    )
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    return with_parts(path, types=types, rels=rels, chain=f'<calcChain xmlns="{main}">{"".join(cells)}</calcChain>')


@pytest.mark.parametrize("calc", ['<calcPr calcId="191029"/>', ""])
def test_values_of_formulas_are_none_until_excel_has_calculated_them(tmp_path: Path, calc: str) -> None:
    """One of them may be made of the mended cell: it isn't sent any more, and Excel calculates it when it opens."""
    path = workbook(tmp_path)
    book = re.sub(r"<calcPr[^>]*/>", calc, part_of(path, "xl/workbook.xml"))
    sheet = re.sub(r"<f>C2\*2</f><v ?/>", "<f>C2*2</f><v>21</v>", part_of(path, "xl/worksheets/sheet1.xml"))
    path = with_parts(path, book=book, sheet=sheet)
    assert texts_of(path)[2][3] == "21"
    with open_sheet(replaced(path, {(2, 2): "7.50"}), Reading(), tmp_path) as mended:
        row = next(row for row in mended.rows() if row.number == 2)
    assert [problem.address for problem in row.problems if problem.refuses] == ["D2"]


def test_a_formula_that_goes_leaves_the_order_of_calculation(tmp_path: Path) -> None:
    """An entry without a formula would have Excel repair the file; those behind it keep their sheet."""
    path = with_chain(workbook(tmp_path), '<c r="D2" i="1"/>', '<c r="D3"/>', '<c r="A9" i="2"/>')
    out = replaced(path, {(2, 3): "21"})
    assert "<f>" not in re.findall(r'<c r="D2".*?</c>', part_of(out, "xl/worksheets/sheet1.xml"))[0]
    assert re.findall(r"<c [^>]*>", part_of(out, "xl/calcChain.xml")) == ['<c r="D3" i="1"/>', '<c r="A9" i="2"/>']


def test_the_last_formula_of_a_workbook_is_left_to_excel(tmp_path: Path) -> None:
    """An empty order of calculation is no valid one."""
    path = with_chain(workbook(tmp_path), '<c r="D2" i="1"/>')
    with pytest.raises(SheetError, match="D2 holds the last formula"):
        replaced(path, {(2, 3): "21"})


def test_a_formula_that_fills_others_is_left_to_excel(tmp_path: Path) -> None:
    """The first of a shared formula, and an array's, can't go alone."""
    path = workbook(tmp_path)
    sheet = part_of(path, "xl/worksheets/sheet1.xml").replace(
        "<f>C2*2</f>", '<f t="shared" ref="D2:D3" si="0">C2*2</f>'
    )
    with pytest.raises(SheetError, match="D2 holds a formula that fills other cells"):
        replaced(with_parts(path, sheet=sheet), {(2, 3): "21"})


def test_prefixed_names_stay_prefixed(tmp_path: Path) -> None:
    """Where all elements are written as `x:row`, the new cell is, too."""
    path = workbook(tmp_path)
    sheet = part_of(path, "xl/worksheets/sheet1.xml")
    sheet = re.sub(r"<(/?)(\w)", r"<\1x:\2", sheet).replace("xmlns=", "xmlns:x=").replace("<?x:xml", "<?xml")
    out = replaced(with_parts(path, sheet=sheet), {(2, 1): "b.pdf", (3, 1): "c.pdf"})
    assert texts_of(out)[2][1] == "b.pdf"
    assert texts_of(out)[3][1] == "c.pdf"
    assert '<x:c r="B3" t="inlineStr"><x:is><x:t>c.pdf</x:t></x:is></x:c>' in part_of(out, "xl/worksheets/sheet1.xml")


TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(
    str.strip
)


@pytest.mark.long
@given(text=TEXTS, place=st.tuples(st.integers(2, 4), st.integers(0, 2)))
def test_a_text_comes_back_as_it_was_typed(
    tmp_path_factory: pytest.TempPathFactory, text: str, place: tuple[int, int]
) -> None:
    """Whatever is typed, markup and escapes too, is read back to the letter; the rest is as before."""
    path = workbook(tmp_path_factory.mktemp("mend"))
    before, after = texts_of(path), texts_of(replaced(path, {place: text}))
    assert after[place[0]][place[1]] == text
    before[place[0]] = after[place[0]] = ()
    assert before == after


@pytest.mark.long
def test_a_text_file_keeps_the_bytes_of_all_other_records(tmp_path: Path) -> None:
    """Line ends, quotes and an encoding of its own stay; of the mended record only what must be quoted is."""
    path = tmp_path / "list.csv"
    lines = ["Nr;Käufer;Betrag\r\n", '1;"Müller; Söhne";1,50\r\n', "2;Ö;2,50\r\n", '3;"x ""y""";3,50']
    path.write_bytes("".join(lines).encode("cp1252"))
    out = replaced(path, {(3, 2): "7;50", (4, 1): 'Ü "z"'})
    assert out.read_bytes().decode("cp1252") == "".join([*lines[:2], '2;Ö;"7;50"\r\n', '3;"Ü ""z""";3,50'])


def test_a_short_record_is_filled_up(tmp_path: Path) -> None:
    """A cell that the record doesn't have is reached by empty ones."""
    path = tmp_path / "list.csv"
    path.write_text("a,b,c\n1\n2,x,y\n", "utf-8")
    assert replaced(path, {(2, 2): "z"}).read_text("utf-8") == "a,b,c\n1,,z\n2,x,y\n"
