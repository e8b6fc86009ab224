"""Lines and cells, as a reader sees them on a page."""

from __future__ import annotations

from bisect import bisect_right
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from batch_runner.service.local.invoice.labels import Label, labels_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from batch_runner.service.local.invoice.pdf import PageText, Word

CELL = "\t"
"""What stands between two cells in a line's text."""

_COLUMN_GAP = 0.87
"""Of the letters' height: a wider gap separates two cells. A blank has a quarter of it."""

_SAME_LINE = 0.5
_CELLS = 60


class Cell(NamedTuple):
    """Words of one line that stand together."""

    text: str
    left: float
    right: float
    start: int
    """Where it begins in the line's text."""


class TextLine:
    """The words that stand on one height, from the left to the right."""

    def __init__(self, page: int, words: Sequence[Word]) -> None:
        self.page = page
        self._words = sorted(words, key=lambda word: word.left)
        self.top = min(word.top for word in words)
        self.bottom = max(word.bottom for word in words)
        self.height = sorted(word.bottom - word.top for word in words)[len(words) // 2]
        parts: list[str] = []
        self._starts: list[int] = []
        position = 0
        for last, word in zip([None, *self._words], self._words, strict=False):
            if last:
                gap = word.left - last.right
                parts.append(CELL if gap > _COLUMN_GAP * min(last.bottom - last.top, word.bottom - word.top) else " ")
                position += 1
            self._starts.append(position)
            parts.append(word.text)
            position += len(word.text)
        self.text = "".join(parts)

    @cached_property
    def cells(self) -> list[Cell]:
        """Its cells, in order. No table of an invoice has more than the limit; what has is read by its text alone."""
        return list(islice(self._cells(), _CELLS))

    @cached_property
    def labels(self) -> list[Label]:
        """The labels in its text, in order."""
        return list(labels_in(self.text))

    def _cells(self) -> Iterator[Cell]:
        start = 0
        for text in self.text.split(CELL):
            left, right = self.span(start, start + len(text))
            yield Cell(text, left, right, start)
            start += len(text) + 1

    def span(self, start: int, end: int) -> tuple[float, float]:
        """How far to the left and right the words reach that a stretch of the text belongs to."""
        first = bisect_right(self._starts, start) - 1
        last = max(first, bisect_right(self._starts, max(start, end - 1)) - 1)
        return self._words[first].left, self._words[last].right

    def over(self, left: float, right: float) -> str:
        """The text of the words that stand between two places."""
        return " ".join(word.text for word in self._words if word.left < right and word.right > left)


def lines_of(pages: Sequence[PageText]) -> list[TextLine]:
    """All lines, page after page and downwards."""
    return [line for number, page in enumerate(pages) for line in _lines(number, page.words)]


def _lines(page: int, words: Sequence[Word]) -> Iterator[TextLine]:
    begun: list[Word] = []
    for word in sorted(words, key=lambda word: word.top + word.bottom):
        if begun and not _is_beside(begun[-1], word):
            yield TextLine(page, begun)
            begun = []
        begun.append(word)
    if begun:
        yield TextLine(page, begun)


def _is_beside(last: Word, word: Word) -> bool:
    apart = abs((word.top + word.bottom) - (last.top + last.bottom)) / 2
    return apart < _SAME_LINE * min(word.bottom - word.top, last.bottom - last.top)
