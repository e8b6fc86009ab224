"""Which row is the header: a pure look at a sheet's first rows, the same for workbooks and text files."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence


LOOK = 100
"""How many rows that aren't empty are looked at; more need not be given."""


class FirstRow(msgspec.Struct, frozen=True):
    """One of a sheet's first rows: its number, its cells' texts from column A, and which of them are typed.

    `typed` holds the places of numbers, dates, booleans and errors: what no header is. A text file has no types; there
    `is_number` says which texts a person takes for numbers.
    """

    number: int
    texts: tuple[str, ...]
    typed: frozenset[int] = frozenset()

    @property
    def width(self) -> int:
        """Up to which place there is text."""
        return max((place + 1 for place, text in enumerate(self.texts) if text), default=0)


def find_header(rows: Sequence[FirstRow], hint: int | None = None) -> int | None:
    """The header row's number; None where all rows are empty.

    `hint` is what is known better: the header row of the sheet's table or autofilter. Otherwise it is the first row
    whose cells are all text and which is as wide as the data under it (as most rows there, for a stray note makes no
    wider table); where no row is all text, the first that is so wide. But where the row right above that one is the
    header, and only lacks the last ones, it is that: data under an empty header is for a person to see.
    """
    if hint is not None:
        return hint
    filled = [row for row in rows if any(row.texts)][:LOOK]
    wide = [row for place, row in enumerate(filled) if row.width >= _usual_width(filled, place)]
    best = next((row for row in wide if _is_all_text(row)), next(iter(wide), None))
    return _or_above(filled, best).number if best else None


def is_number(text: str) -> bool:
    """Whether a text of a text file is what a person takes for a number."""
    digits = text.strip().lstrip("+-").replace(",", "").replace(".", "").replace(" ", "")
    return digits.isdigit()


def _or_above(filled: Sequence[FirstRow], best: FirstRow) -> FirstRow:
    """The row right above, if it is all text, no title of one cell, and more like a header than the best one is.

    That is so above a row with numbers; above one of text, where it lacks but the last header, and the rows under that
    one hold nothing but texts either: nothing tells then that they aren't all data.
    """
    place = filled.index(best)
    above = filled[place - 1] if place else best
    named = sum(map(bool, above.texts))
    if above.number != best.number - 1 or named < 2 or above.width >= best.width or not _is_all_text(above):
        return best
    if not _is_all_text(best):
        return above
    is_whole = named == above.width == best.width - 1
    return above if is_whole and not _heads(best, filled[place + 1 :]) else best


def _heads(row: FirstRow, below: Sequence[FirstRow]) -> bool:
    """Whether it is a text above numbers in any column."""
    columns = [place for place, text in enumerate(row.texts) if text]
    return any(2 * sum(place in other.typed for other in below) > len(below) for place in columns)


def _is_all_text(row: FirstRow) -> bool:
    return all(place not in row.typed for place, text in enumerate(row.texts) if text)


def _usual_width(filled: Sequence[FirstRow], place: int) -> int:
    """How wide most rows under a place are, lone cells left aside; with nothing under it, the widest row of all.

    Of two widths that are as frequent the smaller counts: a header row that is too narrow is refused for the text
    beside it, while one found too far down would pass over rows that nobody misses.
    """
    widths = [row.width for row in filled[place + 1 :]]
    if not widths:
        return max(row.width for row in filled)
    below = Counter([width for width in widths if width > 1] or widths)
    return max(below, key=lambda width: (below[width], -width))
