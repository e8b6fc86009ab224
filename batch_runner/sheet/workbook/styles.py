"""The number formats of a workbook's cells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_runner.sheet.format.formatcode import BUILT_IN
from batch_runner.sheet.format.numfmt import NumberFormat

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
    codes = {**BUILT_IN, **styles.codes}
    made: dict[str, NumberFormat] = {}
    for place in styles.ids or [0]:
        code = codes.get(place, "General")
        made.setdefault(code, NumberFormat(code, is_1904=is_1904))
    return tuple(made[codes.get(place, "General")] for place in styles.ids or [0])
