"""Workbooks made by hand: raw XML parts in a zip package, as small as Excel would open."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
REL = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PKG = "http://schemas.openxmlformats.org/package/2006"
SHEET = "xl/worksheets/sheet1.xml"
TABLE = "xl/tables/table1.xml"
WORKBOOK = "xl/workbook.xml"
_TYPES = "application/vnd.openxmlformats-officedocument.spreadsheetml."


class HandMade(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in a workbook with one sheet, `Sheet1`.

    `rows` are the children of `sheetData`; `before` and `after` what surrounds it; `tables` whole table parts; `names`
    the children of `definedNames`; `pivot` the range of a pivot table.
    """

    rows: str
    before: str = ""
    after: str = ""
    tables: tuple[str, ...] = ()
    names: str = ""
    sheet: str = "Sheet1"
    pivot: str = ""

    def write(self, path: Path) -> Path:
        """Write the package; returns where."""
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
            for name, text in self._parts().items():
                package.writestr(name, text)
        return path

    def _parts(self) -> dict[str, str]:
        numbers = range(1, len(self.tables) + 1)
        types = "".join(
            f'<Override PartName="/xl/tables/table{number}.xml" ContentType="{_TYPES}table+xml"/>' for number in numbers
        )
        links = "".join(
            f'<Relationship Id="t{number}" Type="{REL}/table" Target="../tables/table{number}.xml"/>'
            for number in numbers
        )
        pivots = {}
        if self.pivot:
            links += f'<Relationship Id="p1" Type="{REL}/pivotTable" Target="../pivot.xml"/>'
            location = f'<location ref="{self.pivot}"/>'
            pivots = {"xl/pivot.xml": f'<pivotTableDefinition xmlns="{MAIN}">{location}</pivotTableDefinition>'}
        used = "".join(f'<tablePart r:id="t{number}"/>' for number in numbers)
        used = f'<tableParts count="{len(self.tables)}">{used}</tableParts>' if used else ""
        names = f"<definedNames>{self.names}</definedNames>" if self.names else ""
        return {
            "[Content_Types].xml": f'<Types xmlns="{PKG}/content-types"><Default Extension="rels" '
            'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            f'<Override PartName="/{WORKBOOK}" ContentType="{_TYPES}sheet.main+xml"/>'
            f'<Override PartName="/{SHEET}" ContentType="{_TYPES}worksheet+xml"/>{types}</Types>',
            "_rels/.rels": relations(f'<Relationship Id="r1" Type="{REL}/officeDocument" Target="{WORKBOOK}"/>'),
            WORKBOOK: f'<workbook xmlns="{MAIN}" xmlns:r="{REL}"><sheets>'
            f'<sheet name="{escape(self.sheet)}" sheetId="1" r:id="s1"/></sheets>{names}</workbook>',
            "xl/_rels/workbook.xml.rels": relations(
                f'<Relationship Id="s1" Type="{REL}/worksheet" Target="worksheets/sheet1.xml"/>'
            ),
            SHEET: f'<worksheet xmlns="{MAIN}" xmlns:r="{REL}">{self.before}<sheetData>{self.rows}</sheetData>'
            f"{self.after}{used}</worksheet>",
            "xl/worksheets/_rels/sheet1.xml.rels": relations(links),
            **pivots,
            **{f"xl/tables/table{number}.xml": table for number, table in enumerate(self.tables, 1)},
        }


def relations(inside: str) -> str:
    """A part of relationships."""
    return f'<Relationships xmlns="{PKG}/relationships">{inside}</Relationships>'


def row(number: int, *texts: str, style: str = "") -> str:
    """A row of inline strings from column A on."""
    mark = f' s="{style}"' if style else ""
    cells = (
        f'<c r="{letter}{number}"{mark} t="inlineStr"><is><t>{escape(text)}</t></is></c>' if text else ""
        for letter, text in zip("ABCDEFGHIJ", texts, strict=False)
    )
    return f'<row r="{number}">{"".join(cells)}</row>'


def table(ref: str, *columns: str, attributes: str = "", inside: str = "") -> str:
    """A table's part; `inside` stands before its columns."""
    named = "".join(f'<tableColumn id="{number}" name="{escape(name)}"/>' for number, name in enumerate(columns, 1))
    return (
        f'<table xmlns="{MAIN}" id="1" name="Table1" displayName="Table1" ref="{ref}"{attributes}>{inside}'
        f'<tableColumns count="{len(columns)}">{named}</tableColumns></table>'
    )


def parts(path: Path) -> dict[str, bytes]:
    """Every part of a package, unpacked, by its name."""
    with zipfile.ZipFile(path) as package:
        return {entry.filename: package.read(entry) for entry in package.infolist()}


def changed(path: Path, name: str, content: bytes) -> None:
    """Put another part into a package, in place of one of that name if there is one."""
    with zipfile.ZipFile(path) as package:
        parts = {entry.filename: package.read(entry) for entry in package.infolist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as package:
        for other, data in {**parts, name: content}.items():
            package.writestr(other, data)
