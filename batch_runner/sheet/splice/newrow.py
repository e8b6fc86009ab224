"""What a row gets: its new cells as XML, and its own tag with room for them."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from batch_runner.sheet.errors import SheetError
from batch_runner.sheet.newcells import NewCells
from batch_runner.sheet.sheet import column_letter
from batch_runner.sheet.splice.inline import CELL_UNITS, SURELY_FITS, fits, inline_string

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from batch_runner.sheet.splice.place import Place

_SPANS = re.compile(rb"\sspans\s*=\s*(?:\"[0-9: ]+\"|'[0-9: ]+')")


class Cut(NamedTuple):
    """Where a row is cut: new cells go between `data[:first]` and `data[after:]`.

    `styles` has the `s` of the cells that go, by their place, "" for none; `left` that of the cell left of them;
    `formula` is the place of a cell among them that holds a formula.
    """

    first: int
    after: int
    styles: Mapping[int, str] = MappingProxyType({})
    left: str = ""
    formula: int | None = None

    def spares(self, texts: tuple[str, ...]) -> bool:
        """Whether the row stays to the letter: no cell goes, and none comes."""
        return self.first == self.after and not any(texts)


class NewRows:
    """The new cells of all rows, handed out in ascending order of the rows' numbers."""

    def __init__(self, name: str, place: Place, cells: Iterable[tuple[int, tuple[str, ...]]]) -> None:
        self.name = name
        self.place = place
        self._cells = NewCells(cells)
        self._nothing = ("",) * len(place.headers)
        self._letters = [column_letter(index) for index in range(place.start, place.end)]
        self._spans: dict[bytes, bytes] = {}

    def texts_of(self, number: int) -> tuple[str, ...] | None:
        """The texts of a row's new cells; None for a row that stays as it is."""
        place = self.place
        texts = self._cells.of(number)
        if number == place.header_row:
            return place.headers
        if texts is None and place.replaced and place.header_row < number <= place.last_row:
            return self._nothing
        return texts

    def finish(self) -> None:
        """Raises `ValueError` where cells are left for a row that the sheet doesn't have."""
        self._cells.finish()

    def cells(self, number: int, texts: tuple[str, ...], cut: Cut, prefix: str = "") -> bytes:
        """The new cells of a row, as XML. Raises `SheetError` where one can't be written."""
        if cut.formula is not None:
            raise formula_in_the_way(self.name, number, cut.formula)
        styles = self._header_styles(cut) if number == self.place.header_row else cut.styles
        written = []
        for order, text in enumerate(texts):
            style = styles.get(self.place.start + order) if styles else None
            if not text and not style:
                continue
            address = f"{self._letters[order]}{number}"
            mark = f' s="{style}"' if style else ""
            if not text:
                written.append(f'<{prefix}c r="{address}"{mark}/>')
                continue
            if len(text) > SURELY_FITS and not fits(text):
                raise SheetError(f"{self.name}!{address}: a cell holds {CELL_UNITS:,} characters, not more")
            inside = inline_string(text, prefix)
            written.append(f'<{prefix}c r="{address}"{mark} t="inlineStr">{inside}</{prefix}c>')
        return "".join(written).encode()

    def opened(self, tag: bytes) -> bytes:
        """A row's start tag, opened if it was closed, its `spans` grown (18.3.1.73: first and last column, from 1)."""
        if tag.endswith(b"/>"):
            tag = tag[:-2].rstrip() + b">"
        spans = _SPANS.search(tag) if b"spans" in tag else None
        if spans is None:
            return tag
        grown = self._spans.get(spans[0])
        if grown is None:
            grown = self._spans[spans[0]] = self._grown(spans[0])
        return tag[: spans.start()] + grown + tag[spans.end() :]

    def _header_styles(self, cut: Cut) -> dict[int, str]:
        """An earlier output's headers keep their style, a new one takes that of its left neighbour."""
        place, left, styles = self.place, cut.left, {}
        for index in range(place.start, place.end):
            if index < place.start + place.replaced:
                left = cut.styles.get(index, left)
            styles[index] = left
        return styles

    def _grown(self, spans: bytes) -> bytes:
        """One span over all that there were, and the new columns."""
        ends = [int(number) for number in re.findall(rb"[0-9]+", spans)]
        return f' spans="{min(*ends, self.place.start + 1)}:{max(*ends, self.place.end)}"'.encode()


def formula_in_the_way(name: str, number: int, index: int) -> SheetError:
    """The error for a formula in a row's cell where a new one belongs; `name` is what messages call the sheet."""
    return SheetError(
        f"{name}!{column_letter(index)}{number} holds a formula where a result belongs; "
        "delete it or move it to another column, then try again"
    )
