"""How a text file is divided into fields: its delimiter, and a first line `sep=;` that names it."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from batch_runner.errors import SheetError

if TYPE_CHECKING:
    from collections.abc import Iterable


DELIMITERS = {".csv": ",", ".tsv": "\t"}
"""What each ending stands for; a .csv is written so, and read as what is found in it."""
CANDIDATES = ",;\t|"
WORDS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " ", "colon": ":"}
LABELS = {"\t": "tabs", ";": "semicolons", "|": "pipes", ",": "commas"}
LONGEST_FIELD = 2**31 - 1
"""In characters: all that the stdlib's reader can be told on every platform."""
_NAMED = re.compile(r'"?sep=(.)"?\r?\n?', re.IGNORECASE)


class Dialect(msgspec.Struct, frozen=True):
    """The delimiter, and the text of a first line that names it (or ""); that line is no row."""

    delimiter: str
    preface: str = ""

    @property
    def label(self) -> str:
        """The delimiter in words."""
        return LABELS.get(self.delimiter, repr(self.delimiter))

    def one(self, text: str) -> list[str]:
        """The fields of a single record, its line end included or not."""
        if '"' not in text:
            bare = text.rstrip("\r\n")
            return bare.split(self.delimiter) if bare else []
        return next(iter(self.fields(io.StringIO(text, newline=""))))

    def fields(self, lines: Iterable[str]) -> Iterable[list[str]]:
        """The records of some lines, as the stdlib's reader divides them; an empty list for a blank line."""
        csv.field_size_limit(LONGEST_FIELD)
        return csv.reader(lines, delimiter=self.delimiter)


def find_dialect(sample: str, name: str, asked: str | None) -> Dialect:
    """The dialect of a file whose text begins with `sample`.

    A person's word (`asked`: a character or a word for one) comes first, then a first line `sep=`, then the ending of
    the file's name, then what the sample looks like. Raises `SheetError` for a delimiter that can be none.
    """
    first = sample[: sample.find("\n") + 1] or sample
    named = _NAMED.fullmatch(first)
    preface = first if named else ""
    if asked is not None:
        return Dialect(_asked(asked, name), preface)
    if named:
        return Dialect(named[1], preface)
    return Dialect("\t" if name.lower().endswith(".tsv") else most_likely(sample))


def _asked(asked: str, name: str) -> str:
    delimiter = WORDS.get(asked.lower(), asked)
    if len(delimiter) != 1 or delimiter.isalnum() or delimiter in '"\r\n\0':
        raise SheetError(
            f"{name}: {asked!r} can't be a delimiter; name one character, or comma, semicolon, tab or pipe"
        )
    return delimiter


def dividing(header: str) -> Dialect | None:
    """The dialect that would make most fields of this, None where all leave it whole."""
    width, delimiter = max((len(Dialect(delimiter).one(header)), delimiter) for delimiter in CANDIDATES)
    return Dialect(delimiter) if width > 1 else None


def most_likely(sample: str) -> str:
    """The delimiter under which the sample's records agree best on their width; a comma where there is none."""
    return max(CANDIDATES, key=lambda delimiter: _agreement(sample, delimiter))


def _agreement(sample: str, delimiter: str) -> tuple[float, int]:
    """The share of records that have the most frequent width, and that width."""
    records = list(Dialect(delimiter).fields(io.StringIO(sample, newline="")))
    widths = Counter(len(record) for record in records if record)
    del records[:]
    width, count = max(widths.items(), key=lambda item: (item[1], item[0]), default=(1, 0))
    return (count / widths.total(), width) if width > 1 else (0.0, width)
