"""What stands before the fields of an invoice, and what a label says of an amount: the words of labels.toml."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from functools import lru_cache
from importlib.resources import files
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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
