"""The number formats of a workbook's cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_runner.sheet.numfmt.formatter import NumberFormat
from batch_runner.sheet.numfmt.parser import BUILT_IN

if TYPE_CHECKING:
    from batch_runner.sheet.workbook.package import Package


class _Styles:
    """Collects number formats and cell formats from the styles part."""

    def __init__(self) -> None:
        self.codes: dict[int, str] = {}
        self.ids: list[int] = []
        self._path: list[str] = []

    def start(self, name: str, attributes: dict[str, str]) -> None:
        parent = self._path[-1] if self._path else ""
        self._path.append(name)
        if name == "numFmt" and parent == "numFmts":
            self.codes[_number(attributes.get("numFmtId"))] = attributes.get("formatCode", "General")
        elif name == "xf" and parent == "cellXfs":
            self.ids.append(_number(attributes.get("numFmtId")))

    def end(self, _name: str) -> None:
        self._path.pop()


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0


def read_formats(package: Package, *, is_1904: bool) -> tuple[NumberFormat, ...]:
    """The number format of each cell format, by its place (a cell's `s`): at least one. Raises `SheetError`."""
    styles = _Styles()
    for part in package.related(package.main, "styles")[:1]:
        package.parse(part, styles.start, styles.end)
    told = {place: code for place, code in styles.codes.items() if code or place not in BUILT_IN}
    codes = {**BUILT_IN, **told}  # an empty code says nothing of an id that has one of its own (ClosedXML writes it)
    made: dict[str, NumberFormat] = {}
    return tuple(_made(codes.get(place, "General"), made, is_1904=is_1904) for place in styles.ids or [0])


def _made(code: str, made: dict[str, NumberFormat], *, is_1904: bool) -> NumberFormat:
    """The format of a code; many styles share one."""
    if code not in made:
        made[code] = NumberFormat(code, is_1904=is_1904)
    return made[code]
