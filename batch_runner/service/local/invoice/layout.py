"""Lines and cells, as a reader sees them on a page; and what stands before the fields, the words of labels.toml."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from bisect import bisect_right
from functools import cached_property, lru_cache
from importlib.resources import files
from itertools import groupby, islice
from operator import itemgetter
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from batch_runner.service.local.invoice.pdf import PageText, Word

_CJK = "\u2e80"
"""From here on there are scripts without blanks between words."""

_TABLES = tomllib.loads(files(__package__).joinpath("labels.toml").read_text("utf-8"))


def entries(table: str, name: str) -> list[str]:
    """What labels.toml lists under a name."""
    text: str = _TABLES[table][name]
    return [entry for line in text.splitlines() for entry in line.split("|") if entry]


def without_accents(text: str) -> str:
    """A text as capitals are often written: `ECHEANCE` for `échéance`."""
    if text.isascii():
        return text
    return "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))


def pattern_of(table: str, name: str) -> str:
    """A pattern for any of the entries under a name, which are patterns themselves; accents may be missing."""
    lines = _TABLES[table][name].split("\n")
    forms = [*lines, *(without_accents(line) for line in lines if not line.isascii())]
    return f"(?:{'|'.join(filter(None, forms))})"


_WEAK = {"titled": "number", "date": "invoice_date"}
"""Lists of words that stand elsewhere, too, and the fields that they are labels of."""

_LIST_OF = {
    form: name
    for name in _TABLES["labels"]
    for label in entries("labels", name)
    for form in (label, without_accents(label))
}

_QUOTES = str.maketrans({"’": "'", "`": "'", "´": "'"})


def plain(text: str) -> str:
    """A text to look for labels in: one form of quotation mark, and as long as before."""
    return text.translate(_QUOTES)


def _rest_pattern(label: str) -> str:
    """All but the label's first character: one or more blanks for a blank, and no end inside a word."""
    after = r"(?!\w|-\S*\d)" if label[-1].isalnum() and label[-1] < _CJK else ""
    return re.escape(label[1:]).replace(r"\ ", r"\.?[ ]+") + after


def _any_of(labels: Iterable[str]) -> str:
    """A pattern for the longest of the labels; sorted by their first characters it is ten times as fast."""
    longest_first = sorted(labels, key=lambda label: (label[0], -len(label)))
    groups = groupby(longest_first, key=itemgetter(0))
    return "|".join(f"{re.escape(first)}(?:{'|'.join(map(_rest_pattern, group))})" for first, group in groups)


_WORDS = _any_of(label for label in _LIST_OF if label[0] < _CJK)
_SIGNS = _any_of(label for label in _LIST_OF if label[0] >= _CJK)
_LABEL = re.compile(rf"(?<!\w)(?<!\w[-/&'])(?:{_WORDS})|{_SIGNS}", re.IGNORECASE)


class Label(NamedTuple):
    """A label in a text. A weak one (`Date`, `Invoice`) is a word that also stands elsewhere."""

    field: str
    """`none` where it only keeps other labels from being seen in it."""
    start: int
    end: int
    is_weak: bool


def labels_in(text: str) -> Iterator[Label]:
    """All labels in a text, in order."""
    for match in _LABEL.finditer(plain(text)):
        label = match[0].casefold()
        name = _LIST_OF[label if label in _LIST_OF else re.sub(r"\.?[ ]+", " ", label)]
        yield Label(_WEAK.get(name, name), match.start(), match.end(), name in _WEAK)


Role = Literal["net", "tax", "total", "payable", "prepaid", "other", "gross or tax"]


_AMOUNT_WORDS = {
    name: re.compile(rf"(?<![^\W\d_]){pattern_of('amounts', name)}(?![^\W\d_])") for name in _TABLES["amounts"]
}
_ID_OF_TAX = re.compile(
    rf"(?<![^\W\d_]){pattern_of('amounts', 'tax')}[ .-]*(?:id|reg|nr|no|num|number|ident|intra|n°|nummer)(?![^\W\d_])"
    r"|steuern|ust-?id"
)
_RULES: tuple[tuple[set[str], Role | None], ...] = (
    ({"payable"}, "payable"),
    ({"other"}, "other"),
    ({"prepaid"}, "prepaid"),
    ({"contained", "tax"}, "tax"),
    ({"tax", "gross", "sum"}, "total"),
    ({"tax", "gross", "net"}, "total"),
    ({"tax", "gross"}, "gross or tax"),
    ({"net", "gross"}, None),
    ({"gross"}, "total"),
    ({"tax_total"}, "tax"),
    ({"net"}, "net"),
    ({"tax"}, "tax"),
    ({"sum"}, "total"),
)
"""The first rule of whose lists a label has a word each holds."""


@lru_cache(maxsize=4096)
def role_of(text: str) -> Role | None:
    """What an amount is that stands behind a label, or under it; None where the label says nothing of it.

    It goes by the words within: `Summe inkl. USt` is a total and no tax, `Total excl. VAT` is a net amount.
    """
    label = re.sub(r"[\s()*]+", " ", plain(text.casefold())).strip()
    if not label or _ID_OF_TAX.search(label):
        return None
    found = {name for name, pattern in _AMOUNT_WORDS.items() if pattern.search(label)}
    return next((role for needed, role in _RULES if needed <= found), None)


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
