"""What cells hold that are `#VALUE!` only to programs that know no better: pictures, cards, new kinds of errors."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_runner.sheet.workbook.package import Package

PICTURES = frozenset({"_localImage", "_webimage"})
SPILL = "8"


class _Rich:
    """Collects the chain from a cell's `vm` to its rich value's structure ([MS-XLSX] 2.2.4.11 and 2.3.6)."""

    def __init__(self) -> None:
        self.cells: list[int] = []
        self.future: list[int] = []
        self.values: list[tuple[int, list[str]]] = []
        self.structures: list[tuple[str, list[str]]] = []
        self._within = ""
        self._text: list[str] = []

    def metadata(self, name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(" ")[2]
        if local in {"valueMetadata", "cellMetadata", "futureMetadata"}:
            self._within = attributes.get("name", local)
        elif local == "rc" and self._within == "valueMetadata":
            self.cells.append(_number(attributes.get("v")))
        elif local == "rvb" and self._within == "XLRICHVALUE":
            self.future.append(_number(attributes.get("i")))

    def value(self, name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(" ")[2]
        if local == "rv":
            self.values.append((_number(attributes.get("s")), []))
        self._text = []

    def value_end(self, name: str) -> None:
        if name.rpartition(" ")[2] == "v" and self.values:
            self.values[-1][1].append("".join(self._text))

    def text(self, text: str) -> None:
        self._text.append(text)

    def structure(self, name: str, attributes: dict[str, str]) -> None:
        local = name.rpartition(" ")[2]
        if local == "s":
            self.structures.append((attributes.get("t", ""), []))
        elif local == "k" and self.structures:
            self.structures[-1][1].append(attributes.get("n", ""))

    def meaning(self, metadata: int) -> str | None:
        """What the cell with this `vm` (from 1) holds; None where it can't be told."""
        if not 0 < metadata <= len(self.cells):
            return None
        try:
            place, contents = self.values[self.future[self.cells[metadata - 1]]]
            kind, keys = self.structures[place]
        except IndexError:
            return None
        if kind in PICTURES:
            return "a picture in the cell"
        if kind == "_error":
            known = dict(zip(keys, contents, strict=False))
            return "#SPILL!" if known.get("errorType") == SPILL else None
        return "a data type card in the cell, no text"


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0


def read_rich_values(package: Package) -> Callable[[int], str | None]:
    """A function from a cell's `vm` to what the cell holds. Nothing is read before it is first asked."""
    known: list[_Rich] = []

    def meaning(metadata: int) -> str | None:
        if not metadata:
            return None
        if not known:
            known.append(_read(package))
        return known[0].meaning(metadata)

    return meaning


def _read(package: Package) -> _Rich:
    rich = _Rich()
    for relation in package.relations(package.main):
        if relation.kind == "sheetMetadata":
            package.parse(relation.part, rich.metadata)
        elif relation.kind == "rdRichValue":
            package.parse(relation.part, rich.value, rich.value_end, rich.text)
        elif relation.kind == "rdRichValueStructure":
            package.parse(relation.part, rich.structure)
    return rich
