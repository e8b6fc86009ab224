"""The new cells of a sheet, handed out row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class NewCells:
    """Goes along a sheet's rows with a stream of (row number, texts) in ascending order of number."""

    def __init__(self, cells: Iterable[tuple[int, tuple[str, ...]]]) -> None:
        self._cells = iter(cells)
        self._next = next(self._cells, None)

    def of(self, number: int) -> tuple[str, ...] | None:
        """The new texts of a row, None if it has none; asked for in ascending order.

        Raises `ValueError` where a row was passed over that has some: that would lose a result.
        """
        if self._next is None or self._next[0] > number:
            return None
        if self._next[0] < number:
            raise ValueError(f"new cells for row {self._next[0]} came after row {number - 1} was written")
        texts = self._next[1]
        self._next = next(self._cells, None)
        return texts

    def finish(self) -> None:
        """Raises `ValueError` where cells are left for a row that the sheet doesn't have."""
        if self._next is not None:
            raise ValueError(f"new cells for row {self._next[0]}, which the sheet doesn't have")
