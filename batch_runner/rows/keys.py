"""What makes a row the same row tomorrow, and what makes two rows duplicates: forms of texts, and their hashes.

Two texts are alike if they differ only in case, in spaces and what can't be seen at all, in the Unicode form of the
same characters (full-width digits, ligatures, accents; NFKC, Unicode Standard Annex #15), in how a letter is written
(`ä` and `ae`), in the word between two names (`&`, `und`, `and`, `et`), in signs, or in zeros that a number begins
with: `RE-0042`, `re / 42` and `RE0042`. Signs between two digits keep them apart (`42-1` is not `421`), a decimal mark
keeps its zeros (`1.05` is not `1.5`), and a minus before a number stays.
"""

from __future__ import annotations

import re
from array import array
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from hashlib import sha256
from itertools import islice
from typing import TYPE_CHECKING
from unicodedata import category, digit, normalize

import msgspec

from batch_runner.errors import quote_words
from batch_runner.rows.amounts import EITHER, SIGNS, currency_of, read_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from batch_runner.sheet.model import Column


CLAIM_BYTES = 16
NO_CLAIM = b""
"""The claim of a row that has no values to be unique by."""

_LEADING_ZEROS = re.compile(r"(?<![0-9])(?<![0-9][.,])0+(?=[0-9])")
_AND = re.compile(r"(?<=[^\W\d_])(?:\s*[&+]\s*|\W+(?:und|and|et)\W+)(?=[^\W\d_])")
_SIGNS = re.compile(r"[-!\"#'()*,./:;<=>?\[\\\]^_`{|}~+]+")
_NEGATIVE = re.compile(r"-[0-9.,]+|[0-9.,]+-|\([0-9.,]+\)")
_WRITTEN = {"ä": "ae", "ö": "oe", "ü": "ue", "æ": "ae", "œ": "oe", "ø": "oe", "å": "aa"}


def plain(text: str) -> str:
    """The form in which a text is compared."""
    folded = text.lower()
    if not text.isascii():
        folded = "".join(map(_like, normalize("NFKC", normalize("NFKC", text).casefold())))
    while (joined := _AND.sub("&", folded)) != folded:
        folded = joined
    whole = normalize("NFKC", "".join(folded.split()))
    minus = "-" if _NEGATIVE.fullmatch(whole) else ""
    return _LEADING_ZEROS.sub("", minus + _SIGNS.sub(_kept_sign, whole))


def _kept_sign(signs: re.Match[str]) -> str:
    """What stays of signs: a decimal mark, or one dash, between two digits; elsewhere nothing."""
    before, after = signs.string[: signs.start()][-1:], signs.string[signs.end() :][:1]
    if not (before.isdecimal() and after.isdecimal()):
        return ""
    return signs[0] if signs[0] in {".", ","} else "-"


def _like(letter: str) -> str:
    """What stands for a letter and all that look like it: 0 to 9 for digits, a dash for other signs than currencies."""
    kind = category(letter)
    if kind == "Nd":
        return str(digit(letter))
    if kind == "Cf" or "\u0300" <= letter <= "\u036f":
        return ""
    if letter in _WRITTEN:
        return _WRITTEN[letter]
    if not letter.isascii() and (kind[0] == "P" or kind in {"Sm", "Sk"}):
        return "-"
    base = normalize("NFD", letter)[0]
    return base if base.isascii() and base.isalpha() else letter


def former_plain(text: str) -> str:
    """The form in which releases compared texts that knew less of how they are written; their journals hold it."""
    if text.isascii():
        return _LEADING_ZEROS.sub("", "".join(text.lower().split()))
    folded = "".join(map(_formerly_like, normalize("NFKC", normalize("NFKC", text).casefold())))
    return _LEADING_ZEROS.sub("", normalize("NFKC", "".join(folded.split())))


def _formerly_like(letter: str) -> str:
    kind = category(letter)
    if kind == "Nd":
        return str(digit(letter))
    return "" if kind == "Cf" else "-" if kind == "Pd" or letter == "\N{MINUS SIGN}" else letter


def dedup_key_of(texts: Sequence[str], form: Callable[[str], str] = plain) -> bytes:
    """The same for rows that are alike in these texts, which come in the same order for all rows."""
    plains = [form(text) for text in texts]
    return sha256(msgspec.json.encode(plains)).digest()[:CLAIM_BYTES] if any(plains) else NO_CLAIM


_PLAIN_NUMBER = re.compile(r"(-?(?:0|[1-9][0-9]*))(?:\.([0-9]*))?(%?)")
_MIDNIGHT = "T00:00:00"
_MAY_HAVE_FORM = re.compile(r"-?[0-9][^.,/%':’\u00a0\u202f]*[.,/%':’\u00a0\u202f].*|-0", re.DOTALL).fullmatch
"""What is looked at more closely: most texts are no number that can be written in two ways."""


_MAY_BE_EITHER = re.compile(r"-?[0-9]{1,3}[.,][0-9]{3}|[0-9]{1,2}/.+", re.DOTALL).fullmatch
"""The texts with two readings are among these."""
_LOCAL_NUMBER = re.compile("-?(?:0(?=[.,])|[1-9])[0-9.,'\u2019\u00a0\u202f]*[0-9]")
_LOCAL_DATE = re.compile(
    r"([0-9]{1,2})([./])([0-9]{1,2})\2((?:19|20)?[0-9]{2})(?:,?[ T]([0-9]{1,2}:[0-9]{2}(?::[0-9]{2})?))?"
)


def number_form(text: str) -> str:
    """The form that all ways to write a number or a date have in common: `10` for `10.00`, `0.195` for `19.50%`.

    So a list that was exported in another language has the same values: `1234.5` for `1.234,50`, `2026-02-28` for
    `28.02.2026`. A text with zeros in front is no number, and a midnight is a day. What may be read in two ways stays
    as it is. `1.10` in a text file may be a number or not: a row with it is looked up under both forms.
    """
    if not _MAY_HAVE_FORM(text):
        return text
    match = _PLAIN_NUMBER.fullmatch(text)
    if match is None:
        found = readings(text)
        return found[0] if len(found) == 1 else text
    if match[3]:
        text = f"{Decimal(text[:-1]).scaleb(-2):f}"
    return _trimmed(text)


def _trimmed(number: str) -> str:
    if "." in number:
        number = number.rstrip("0").rstrip(".")
    return "0" if number == "-0" else number


@lru_cache(maxsize=4096)  # the same days stand in many rows
def readings(text: str) -> tuple[str, ...]:
    """The values that a text may have in lists of other languages; several where nobody can tell: `1,234`, `3/4/2026`.

    None for what is neither a number nor a date.
    """
    if text[4:5] == "-" and len(text) == len("2026-02-28T00:00:00"):
        return (text.removesuffix(_MIDNIGHT),)
    if date := _LOCAL_DATE.fullmatch(text):
        return tuple(dict.fromkeys(_days(date)))
    if not _LOCAL_NUMBER.fullmatch(text):
        return ()
    sign, digits = ("-", text[1:]) if text[0] == "-" else ("", text)
    value = read_number(digits)
    if value is EITHER:
        return (sign + re.sub("[.,]", "", digits), _trimmed(sign + digits.replace(",", ".")))
    return (_trimmed(f"{sign}{value:f}"),) if isinstance(value, Decimal) else ()


def _days(date: re.Match[str]) -> Iterator[str]:
    """The day comes first between points (DIN 5008); between slashes it may, or the month does."""
    first, second, year = int(date[1]), int(date[3]), int(date[4]) + (2000 if len(date[4]) == len("26") else 0)
    clock = f"{date[5]}:00"[: len("14:05:00")].zfill(len("14:05:00")) if date[5] else "00:00:00"
    for day, month in ((first, second), (second, first))[: 1 if date[2] == "." else 2]:
        with suppress(ValueError):  # there is no such day
            yield datetime.fromisoformat(f"{year}-{month:02}-{day:02}T{clock}").isoformat().removesuffix(_MIDNIGHT)


def number_forms(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The texts with their numbers and dates in that form; the very same where none has another."""
    forms = tuple(map(number_form, texts))
    return texts if forms == texts else forms


def other_readings(texts: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The texts with what may be read in two ways read in the one, then in the other; nothing where all is clear."""
    found = {
        place: read for place, text in enumerate(texts) if _MAY_BE_EITHER(text) and len(read := readings(text)) > 1
    }
    for nth in (0, 1) if found else ():
        yield tuple(number_form(found[place][nth] if place in found else text) for place, text in enumerate(texts))


_SPACE = "[ \u00a0\u202f]?"
_WORD = r"([^\W\d_]{2,4}|[^\W\d_]{0,2}[^\w\s.,:;/%'’()+-])"
_NAMES_CURRENCY = re.compile(
    rf"(?:{_WORD}{_SPACE})?(-?[0-9](?:[0-9.,'\u2019\u00a0\u202f ]*[0-9])?)(?:{_SPACE}{_WORD})?"
)
_DIGITS = frozenset("0123456789")
_BEGIN = _DIGITS | {"-"}


def without_currencies(texts: tuple[str, ...]) -> tuple[str, ...]:
    """The texts, amounts without the currency that they name (`1,00` for `1,00 €`); the very same where none does."""
    # One end of such a text is a digit, and the other is none; in most rows there is no amount of this kind.
    named = {n: text for n, text in enumerate(texts) if text and (text[0] in _BEGIN) != (text[-1] in _DIGITS)}
    others = {place: bare for place, text in named.items() if (bare := _without_currency(text)) != text}
    return with_others(texts, others)


def _without_currency(text: str) -> str:
    found = _NAMES_CURRENCY.fullmatch(text)
    before, number, after = found.groups() if found else (None, text, None)
    word = after if before is None else before if after is None else None
    is_one = word is not None and word in (word.upper(), *SIGNS) and currency_of(word) is not None
    return number if is_one else text


def with_others(texts: tuple[str, ...], others: Mapping[int, str]) -> tuple[str, ...]:
    """The texts with these at their places."""
    return tuple(others.get(place, text) for place, text in enumerate(texts)) if others else texts


KEY_BYTES = 16


def key_of(texts: dict[str, str]) -> bytes:
    """The key of a row whose key columns hold these texts; or, where all params are the key, that sends these."""
    return digest_of(sorted(texts.items()))


def digest_of(pairs: list[tuple[str, str]], identity: str = "") -> bytes:
    """Different for whatever differs; an identity is told from a param of that name by its place."""
    return sha256(msgspec.json.encode((pairs, identity) if identity else pairs)).digest()[:KEY_BYTES]


_NUMBER_WORDS = re.compile(
    r"(?<![^\W_])(?:no|nr|num|number|nummer|numéro|numero|número|id|ref|reference|referenz|code|sku|key)(?![^\W_])|№|#"
    r"|(?:nummer|number|-?nr|_id|Id|ID|No|Nr)\.?\s*$",
)
_DATED = re.compile(r"[0-9]{1,4}[-./][0-9]{1,2}[-./][0-9]{2,4}.*")
_DECIMAL = re.compile(r"-?[0-9.,' ]*[.,][0-9]{1,2}")
_COUNTER = re.compile(r"(?:lfd\.?\s*)?(?:no|nr|num|number|nummer|#|№|id|pos|position|line|zeile|row|item)\.?")
LONGEST_NUMBER = 40
MOST_PAIRS = 12
SOON = 1_000
"""A column that is no number, and has no two equal texts in so many rows, is taken for one without any."""
LEAST_ROWS = 2


def said(names: Sequence[str]) -> str:
    """Names of columns as `--key` takes them in a shell."""
    texts = (f'"{name.replace(chr(34), chr(34) * 2)}"' if set(name) & set(',"\n') else name for name in names)
    return quote_words([",".join(texts)])


class _Seen:
    """Hashes that came: 12 to 24 bytes each, where a set of Python's takes about a hundred."""

    def __init__(self) -> None:
        self._table = array("q", bytes(8 << 8))
        self._count = 0

    def add(self, known: int) -> bool:
        """Add a hash; whether it is a new one."""
        table, last, known = self._table, len(self._table) - 1, known or 1
        at = known & last
        while found := table[at]:
            if found == known:
                return False
            at = (at + 1) & last
        table[at] = known
        self._count += 1
        if 3 * self._count > 2 * last:
            self._table, self._count = array("q", bytes(16 * len(table))), 0
            for each in filter(None, table):
                self.add(each)
        return True


_NOTHING = _Seen()
"""In the place of what nobody asks for any more."""


class _KeyColumn:
    """What the texts of one column have in common so far.

    A counter numbers the lines of any list from 1, so its numbers are those of other rows in the next one. One with
    zeros in front, or with gaps, may be a counter: a column that is called a number and is none goes before it.
    """

    def __init__(self, column: Column) -> None:
        self.column = column
        self.is_named = _NUMBER_WORDS.search(column.name.strip()) is not None
        self.is_filled = self.is_different = self.is_number = self.has_letters = True
        self.is_counter = _COUNTER.fullmatch(column.name.strip().lower()) is not None
        self.may_be_counter = self.is_counter
        self._counted = 0
        self._seen = _Seen()

    @property
    def may_be_key(self) -> bool:
        """Whether it looks like a number of its own so far."""
        return self.is_number and (self.is_named or self.has_letters)

    def add(self, text: str, nth: int) -> None:
        self.is_filled = self.is_filled and bool(text)
        self.has_letters = self.has_letters and " " not in text.strip() and any(map(str.isalpha, text))
        if self.may_be_key:  # else nobody asks whether it is one
            is_value = _DATED.fullmatch(text) or _DECIMAL.fullmatch(text)
            self.is_number = len(text) <= LONGEST_NUMBER and not is_value and any(map(str.isdecimal, text))
        self.is_counter = self.is_counter and text == str(nth)
        if self.may_be_counter:
            number = int(text) if text.isdecimal() and len(text) <= LONGEST_NUMBER else 0
            self.may_be_counter = number == 1 if nth == 1 else number > self._counted
            self._counted = number
        if self.is_different and (self.may_be_key or nth <= SOON):
            self.is_different = self._seen.add(hash(text))
        elif self._seen is not _NOTHING:
            self._seen = _NOTHING


class KeyFinder:
    """Finds, row by row, the column that is all different and looks like a number of its own; else such a pair.

    A number is short, has digits and is neither an amount nor a date; what it is called counts, or letters in all of
    it. Of a pair one column is such a number (the supplier and its invoice number). Pairs take the more memory, and
    are given up where a column alone will do: `lacks_pairs` says that this was too soon, and that another one that
    `keeps_pairs` has to look at the rows.
    """

    def __init__(self, columns: Sequence[Column], *, keeps_pairs: bool = False) -> None:
        self._columns = [_KeyColumn(column) for column in columns]
        self._pairs: dict[tuple[int, int], _Seen] = {}
        self._keeps_pairs = keeps_pairs
        self._gave_up = False
        self._rows = 0

    def add(self, texts: Sequence[str]) -> None:
        """Look at a row of the list."""
        self._rows += 1
        cells = [texts[each.column.index] for each in self._columns]
        for column, text in zip(self._columns, cells, strict=True):
            column.add(text, self._rows)
        if self._rows == 1:
            self._pairs = {pair: _Seen() for pair in islice(self._likely_pairs(), MOST_PAIRS)}
        if self._rows == SOON and self._single() and not self._keeps_pairs and self._pairs:
            self._pairs, self._gave_up = {}, True
        for (one, other), seen in [*self._pairs.items()]:
            if not seen.add(hash((cells[one], cells[other]))):
                del self._pairs[one, other]

    def _likely_pairs(self) -> Iterator[tuple[int, int]]:
        """Those whose first column may be a number by the first row; one that is called so comes first."""
        places = [place for place, column in enumerate(self._columns) if column.may_be_key]
        for one in sorted(places, key=lambda place: not self._columns[place].is_named):
            yield from ((one, other) for other in range(len(self._columns)) if other != one)

    def _numbers(self) -> list[_KeyColumn]:
        return [each for each in self._columns if each.is_filled and each.is_number and not each.is_counter]

    def _single(self) -> list[_KeyColumn]:
        return [each for each in self._numbers() if each.is_different and each.may_be_key]

    @property
    def lacks_pairs(self) -> bool:
        """Whether no column is left by which a row could be told, and pairs were given up before."""
        return self._gave_up and not self._single()

    @property
    def found(self) -> tuple[str, ...]:
        """The names of the column, or of the two; none where no row could be told by them."""
        if self._rows < LEAST_ROWS:
            return ()
        single = self._single()
        if single:
            best = max(single, key=lambda each: (each.is_named, not each.may_be_counter))
            return (best.column.name,)
        numbers = self._numbers()
        for one, other in self._pairs:
            first, second = self._columns[one], self._columns[other]
            if first in numbers and first.may_be_key and second.is_filled and not second.is_different:
                return tuple(each.column.name for each in sorted((first, second), key=lambda e: e.column.index))
        return ()


_IBAN = re.compile(r"[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,30}")
_IS_VALUE = re.compile("|".join(kind.pattern for kind in (_DECIMAL, _DATED, _IBAN))).fullmatch
ALIKE = 85
"""So many percent of two rows' texts are the same where they are almost duplicates."""
MOST_COMPARED = 50_000
"""Rows of a sheet that are looked at; they are kept in memory."""
MOST_IN_BLOCK = 8


class NearDuplicates:
    """Finds rows that are almost the same: equal in amounts, dates and IBANs and alike in the rest, or the other way.

    What `--unique` knows to be the same is none of them. They are hints for a person, and hold nothing.
    """

    def __init__(self, columns: Sequence[Column]) -> None:
        self._columns = columns
        self._blocks: dict[tuple[bool, tuple[str, ...]], list[tuple[int, tuple[str, ...], tuple[str, ...]]]] = {}
        self._rows = 0
        self.hints: list[str] = []

    def add(self, number: int, texts: Sequence[str]) -> None:
        """Compare a row with those above it."""
        self._rows += 1
        if self._rows > MOST_COMPARED:
            return
        cells = [texts[column.index].strip() for column in self._columns]
        is_value = [_IS_VALUE(text) is not None for text in cells]
        values = tuple(text if kind else "" for text, kind in zip(cells, is_value, strict=True))
        rest = tuple("" if kind else plain(text) for text, kind in zip(cells, is_value, strict=True))
        if not any(values) or not any(map(str.isdecimal, "".join(rest))):
            return
        for block, same, other in (((True, values), values, rest), ((False, rest), rest, values)):
            above = self._blocks.setdefault(block, [])
            self._compare(number, same, other, above)
            if len(above) < MOST_IN_BLOCK:
                above.append((number, same, other))

    def _compare(
        self,
        number: int,
        same: tuple[str, ...],
        other: tuple[str, ...],
        above: Sequence[tuple[int, tuple[str, ...], tuple[str, ...]]],
    ) -> None:
        from rapidfuzz import fuzz  # half a megabyte of compiled code, for `check` alone

        for earlier, _, others in above:
            differ = [place for place, (one, two) in enumerate(zip(other, others, strict=True)) if one != two]
            if len(differ) == 1 and fuzz.ratio(other[differ[0]], others[differ[0]]) >= ALIKE:
                names = " and ".join(repr(self._columns[place].name) for place, text in enumerate(same) if text)
                what = self._columns[differ[0]].name
                self.hints.append(f"rows {earlier} and {number} have the same {names}, and almost the same {what!r}")
