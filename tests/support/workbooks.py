"""Workbooks for reading tests: sheets of raw XML, shared strings, cell formats, as small as a reader needs them."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

import msgspec
from packages import MAIN, PKG, REL, relations

from batch_runner.sheet.export import open_sheet
from batch_runner.sheet.model import Reading
from batch_runner.sheet.xlsx.workbook import Workbook

if TYPE_CHECKING:
    from pathlib import Path

    from batch_runner.sheet.model import Row

_TYPES = "application/vnd.openxmlformats-officedocument.spreadsheetml."


class Tab(msgspec.Struct, frozen=True, kw_only=True):
    """A sheet: the children of its `sheetData`, what follows it, its tables; or its whole part as bytes."""

    rows: str = ""
    after: str = ""
    tables: tuple[str, ...] = ()
    state: str = "visible"
    whole: bytes | None = None

    @property
    def part(self) -> bytes:
        """The sheet's part."""
        text = f'<worksheet xmlns="{MAIN}" xmlns:r="{REL}"><sheetData>{self.rows}</sheetData>{self.after}</worksheet>'
        return text.encode() if self.whole is None else self.whole


def write_workbook(
    path: Path,
    tabs: dict[str, Tab],
    *,
    strings: str = "",
    formats: tuple[str, ...] = (),
    is_1904: bool = False,
    calculation: str | None = None,
    has_chain: bool = False,
) -> Path:
    """Write a workbook. `strings` are the children of `sst`; a cell with `s="1"` has the first of `formats`.

    `calculation` are the attributes of `calcPr`; `has_chain` adds the part that Excel keeps of what it has calculated.
    """
    parts = _parts(tabs, strings, formats, is_1904)
    if calculation is not None:
        parts["xl/workbook.xml"] = str(parts["xl/workbook.xml"]).replace(
            "</workbook>", f"<calcPr {calculation}/></workbook>"
        )
    if has_chain:
        chain = '<Relationship Id="c" Type="t/calcChain" Target="calcChain.xml"/></Relationships>'
        parts["xl/_rels/workbook.xml.rels"] = str(parts["xl/_rels/workbook.xml.rels"]).replace(
            "</Relationships>", chain
        )
        parts["xl/calcChain.xml"] = f'<calcChain xmlns="{MAIN}"/>'
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        for name, content in parts.items():
            package.writestr(name, content)
    return path


def _parts(tabs: dict[str, Tab], strings: str, formats: tuple[str, ...], is_1904: bool) -> dict[str, str | bytes]:
    links = '<Relationship Id="x" Type="t/styles" Target="styles.xml"/>'
    links += '<Relationship Id="y" Type="t/sharedStrings" Target="sharedStrings.xml"/>'
    sheets = ""
    parts: dict[str, str | bytes] = {}
    for number, (name, tab) in enumerate(tabs.items(), 1):
        links += f'<Relationship Id="s{number}" Type="t/worksheet" Target="worksheets/sheet{number}.xml"/>'
        sheets += f'<sheet name="{name}" sheetId="{number}" state="{tab.state}" r:id="s{number}"/>'
        parts[f"xl/worksheets/sheet{number}.xml"] = tab.part
        tables = ""
        for place, table in enumerate(tab.tables):
            tables += f'<Relationship Id="t{place}" Type="t/table" Target="/xl/table{number}{place}.xml"/>'
            parts[f"xl/table{number}{place}.xml"] = table
        parts[f"xl/worksheets/_rels/sheet{number}.xml.rels"] = relations(tables)
    codes = "".join(
        f'<numFmt numFmtId="{200 + place}" formatCode="{_attribute(code)}"/>' for place, code in enumerate(formats)
    )
    cells = "".join(f'<xf numFmtId="{200 + place}"/>' for place in range(len(formats)))
    return {
        "[Content_Types].xml": f'<Types xmlns="{PKG}/content-types"><Default Extension="xml" '
        f'ContentType="{_TYPES}sheet.main+xml"/></Types>',
        "_rels/.rels": relations('<Relationship Id="r1" Type="t/officeDocument" Target="xl/workbook.xml"/>'),
        "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{REL}"><workbookPr date1904="{int(is_1904)}"/>'
        f"<sheets>{sheets}</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": relations(links),
        "xl/styles.xml": f'<styleSheet xmlns="{MAIN}"><numFmts>{codes}</numFmts>'
        f'<cellXfs><xf numFmtId="0"/>{cells}</cellXfs></styleSheet>',
        "xl/sharedStrings.xml": f'<sst xmlns="{MAIN}">{strings}</sst>',
        **parts,
    }


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")


def text_cell(address: str, text: str) -> str:
    """A cell with a text of its own, which is XML."""
    return f'<c r="{address}" t="inlineStr"><is><t xml:space="preserve">{text}</t></is></c>'


def text_row(number: int, *texts: str, attributes: str = "") -> str:
    """A row of texts from column A on, "" for no cell."""
    cells = "".join(text_cell(f"{chr(65 + place)}{number}", text) for place, text in enumerate(texts) if text)
    return f'<row r="{number}"{attributes}>{cells}</row>'


def opened(path: Path, reading: Reading | None = None) -> Workbook:
    """A workbook opened as the program does it."""
    sheet = open_sheet(path, reading or Reading(), path.parent)
    assert isinstance(sheet, Workbook)
    return sheet


def read_rows(path: Path, reading: Reading | None = None) -> list[Row]:
    """All rows of the sheet that is found."""
    with opened(path, reading) as sheet:
        return list(sheet.rows())


def read_cells(
    path: Path,
    cells: str,
    *,
    strings: str = "",
    formats: tuple[str, ...] = (),
    shown: bool = False,
    is_1904: bool = False,
) -> Row:
    """The row that some cells of row 2 make, below a header of six texts."""
    rows = text_row(1, "a", "b", "c", "d", "e", "f") + f'<row r="2">{cells}</row>'
    write_workbook(path, {"Sheet1": Tab(rows=rows)}, strings=strings, formats=formats, is_1904=is_1904)
    return read_rows(path, Reading(header_row=1, as_shown=shown))[1]
