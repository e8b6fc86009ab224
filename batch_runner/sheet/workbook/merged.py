"""Merged cells: the value belongs to the first cell, and whatever stands in the others is seen by nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_runner.sheet.row import CellProblem


class MergedCells:
    """The merged ranges of a sheet, (left, top, right, bottom) from 1, asked about rows in ascending order."""

    def __init__(self, ranges: Iterable[tuple[int, int, int, int]]) -> None:
        self._coming = sorted(ranges, key=lambda one: one[1], reverse=True)
        self._here: list[tuple[int, int, int, int]] = []

    def reaches(self, number: int) -> bool:
        """Whether a row has merged cells in it."""
        while self._coming and self._coming[-1][1] <= number:
            self._here.append(self._coming.pop())
        if self._here:
            self._here = [one for one in self._here if one[3] >= number]
        return bool(self._here)

    def cleared(
        self, number: int, texts: list[str], problems: tuple[CellProblem, ...]
    ) -> tuple[list[str], tuple[CellProblem, ...]]:
        """A row's texts and problems without those of covered cells."""
        covered: set[int] = set()
        for left, top, right, _bottom in self._here:
            covered.update(range(left if number == top else left - 1, min(right, len(texts))))
        kept = ["" if place in covered else text for place, text in enumerate(texts)]
        return kept, tuple(problem for problem in problems if problem.index not in covered)
