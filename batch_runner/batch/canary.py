"""The first few rows go alone: the rest only if they all succeed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batch_runner.params import RowParams

WINDOW = 1_000
"""So many rows are looked at to find some of different shapes."""


class Canary:
    """Waits for some rows to end, and knows whether they all succeeded."""

    def __init__(self, numbers: Sequence[int]) -> None:
        self._waiting = set(numbers)
        self._failed = 0
        self._over = anyio.Event()
        if not self._waiting:
            self._over.set()

    def row_ended(self, number: int, status: str) -> None:
        """Hear of any row's end; what isn't ours is passed over."""
        if number in self._waiting:
            self._waiting.discard(number)
            self._failed += status != "success"
            if not self._waiting:
                self._over.set()

    async def failures(self) -> int:
        """Wait for the last of them, then say how many did not succeed."""
        await self._over.wait()
        return self._failed


def different_shapes(rows: Sequence[RowParams], number: int) -> tuple[int, ...]:
    """The places of up to `number` rows: first one of each shape (which params are filled), then the first others."""
    first_of_shape: dict[frozenset[str], int] = {}
    for place, row in enumerate(rows):
        first_of_shape.setdefault(frozenset(row.params), place)
    chosen = list(first_of_shape.values())[:number]
    others = (place for place in range(len(rows)) if place not in chosen)
    while len(chosen) < min(number, len(rows)):
        chosen.append(next(others))
    return tuple(sorted(chosen))
