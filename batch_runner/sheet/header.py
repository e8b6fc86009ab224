"""Which row is the header: a pure look at a sheet's first rows, the same for workbooks and text files."""

from __future__ import annotations

import re
from collections import Counter
from itertools import zip_longest
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


LOOK = 100
"""How many rows that aren't empty are looked at; more need not be given."""
_SIGNS = r"[€$£¥₹%‰°]|EUR|USD|GBP|CHF|JPY|CNY|INR|AUD|CAD|NZD|SEK|NOK|DKK|PLN|CZK|HUF|RON|TRY|BRL|MXN|ZAR|kr|zł|Kč|Ft"
_NUMBER = re.compile(
    rf"\(?(?:{_SIGNS})?\s?[-+−]?\s?(?:{_SIGNS})?\s?(?:\d[\d.,'’\s]*|[.,]\d+)(?:[eE][-+]?\d+)?\s?(?:{_SIGNS})?[-)]?"
)
_DATE = re.compile(
    r"\d{1,4}([-/.])(?:\d{1,2}|[A-Za-z]{3})\1\d{1,4}(?:[T\s]+\d{1,2}:\d\d(?::\d\d(?:[.,]\d+)?)?\s?(?:[AaPp][Mm]|Z|[+-]\d\d:?\d\d)?)?"
    r"|\d{1,2}:\d\d(?::\d\d)?"
)
_NO_HEADERS = frozenset({
    "true", "false", "yes", "ja", "nein", "oui", "n/a", "na", "nan", "none", "null",
    "nil", "tbd", "tba", "k.a.", "s.o.", "n.v.t.", "n.d.",
})  # fmt: skip
"""What is no header although it is a word: what people write in place of a number that they don't have, and answers."""
_AROUND = " \t\r\n\ufeff\xa0"
LONGEST_LABEL = 60
"""Characters of a text that may label a total."""
LOOK_BELOW = 5
"""How far below the header row a second one is looked for."""


def kind_of(text: str) -> str | None:
    """What a person takes a text for: a `number` (also of money), a `date` (also a time), None for words."""
    bare = text.strip()
    if not bare or bare.isalpha():
        return None
    if _DATE.fullmatch(bare):
        return "date"
    return "number" if _NUMBER.fullmatch(bare) else None


class FirstRow(msgspec.Struct, frozen=True):
    """One of a sheet's first rows: its number, its cells' texts from column A, and which of them are typed.

    `typed` holds the places of numbers, dates, booleans and errors: what no header is. A text file has no types; there
    `kind_of` says which texts a person takes for numbers and dates.
    """

    number: int
    texts: tuple[str, ...]
    typed: frozenset[int] = frozenset()

    @classmethod
    def of_texts(cls, number: int, fields: Sequence[str]) -> FirstRow:
        """A row of a text file."""
        texts = tuple(text if text.strip() else "" for text in fields)
        return cls(number, texts, frozenset(place for place, text in enumerate(texts) if kind_of(text)))

    @property
    def width(self) -> int:
        """Up to which place there is text."""
        return max((place + 1 for place, text in enumerate(self.texts) if text), default=0)

    @property
    def filled(self) -> list[int]:
        """The places of its cells with text."""
        return [place for place, text in enumerate(self.texts) if text]

    @property
    def is_all_text(self) -> bool:
        """Whether none of its cells is typed."""
        return not any(place in self.typed for place in self.filled)

    def kind(self, place: int) -> str | None:
        """Of which kind the typed cell at a place is; None for text, and where there is none."""
        if place not in self.typed or not self.text(place):
            return None
        return kind_of(self.texts[place]) or "other"

    def text(self, place: int) -> str:
        """The text at a place; "" beyond the last one."""
        return self.texts[place] if place < len(self.texts) else ""


def find_header(rows: Sequence[FirstRow], hint: int | None = None) -> int | None:
    """The header row's number; None where all rows are empty.

    `hint` is what is known better: the header row of the sheet's table or autofilter. Otherwise it is the first row
    whose cells are all text and which is as wide as the data under it (as most rows there, for a stray note makes no
    wider table); where no row is all text, the first that is so wide. But where the row right above that one is the
    header, and only lacks the last ones, it is that: data under an empty header is for a person to see.
    """
    if hint is not None:
        return hint
    filled = _filled(rows)
    wide = [row for place, row in enumerate(filled) if row.width >= _usual_width(filled, place)]
    best = next((row for row in wide if row.is_all_text), next(iter(wide), None))
    return _or_above(filled, best).number if best else None


def header_doubt(rows: Sequence[FirstRow], number: int) -> str | None:
    """Why a person has to say whether the row that was found is the header row; None where it surely is.

    It is in doubt where it holds numbers or dates over cells of the same kind (a sheet without headers), where a row
    above it fills as many cells, which would be dropped, and where a row of words below it stands on top of the
    numbers.
    """
    filled = _filled(rows)
    place = next(place for place, row in enumerate(filled) if row.number == number)
    best, above, below = filled[place], filled[:place], filled[place + 1 :]
    fuller = [row for row in above if len(row.filled) >= len(best.filled)]
    other = next((row for row in fuller if row.is_all_text), next(iter(fuller), None)) or _second_header(best, below)
    if other is not None:
        first, second = sorted((best.number, other.number))
        return (
            f"row {first} or row {second} could be the header row; say which: --header-row {first} or "
            f"--header-row {second}"
        )
    looks = (_is_like_below, _differs_by_digits)
    data_like = next((at for is_like in looks for at in best.filled if is_like(best, at, below)), None)
    if data_like is None:
        return None
    return (
        f"row {number} is taken for the header row, but its {best.text(data_like)!r} looks like data; say --header-row "
        f"{number} if it is the header row, or --no-header if there is none (the columns are then A, B, C)"
    )


_TOTAL_WORDS = re.compile(
    r"(?:(?:grand|sub|net|overall|running|invoice|report|page)[\s-]*)*totals?|total\s(?:g[ée]n[ée]ral|generale|geral|amount|net"
    r"|due|ht|ttc|\d{2,4})|totaux|sous[\s-]*total|subtot\.?|tot\.|(?:(?:gesamt|zwischen|end|teil|netto|brutto)[\s-]*)?summe"
    r"|gesamt(?:betrag|ergebnis)?|teilergebnis|insgesamt|[üu]bertrag|somme|totale|subtotale|totaal|subtotaal|suma"
    r"|razem|ogółem|celkem|součet|mezisoučet"
    r"|összesen|summa|delsumma|i\s?alt|sum(?!\s+of\b)|yhteensä|toplam|ara toplam|genel toplam|итого|всего|合計|小計"
    r"|総計|总计|合计|小计",
    re.IGNORECASE,
)


def is_total_word(text: str) -> bool:
    """Whether a text is what people write beside a total or a subtotal, and nothing else."""
    if _has_digit(text) and "total" not in text.casefold():  # a year is the one number in such words
        return False
    return _TOTAL_WORDS.fullmatch(text.strip().rstrip(":").strip(" *=-")) is not None


_DIGITS = re.compile("[0-9]+")
_TOTAL_START = re.compile(rf"(?:{_TOTAL_WORDS.pattern})\b|.*\s(?:total|ergebnis|summe)\Z", re.IGNORECASE)
"""Such as `Total for Acme` and `Acme Total`, as Excel's own subtotals have it."""
ALONE = 3
"""So many cells does a row of the list have where a lone one is a heading or a note."""


_TOTAL = re.compile(
    rb"(?:<f[^>]*>|=)\s*(?:ROUND\()?(SUM|SUBTOTAL|(?:_xlfn\.)?AGGREGATE)\(([^()]*)\)(?:[,;]-?[0-9]+\))?\s*(?:</f>)?"
)
_SUMS = (b"9", b"109")
"""The numbers of `SUBTOTAL` and `AGGREGATE` that stand for a sum; others are an average, a count and the like."""
_CELLS = re.compile(rb"\s*\$?([A-Z]{1,3})\$?([0-9]{1,7})(?::\$?([A-Z]{1,3})\$?([0-9]{1,7}))?\s*")
_TABLE_COLUMN = re.compile(rb"[^\[\],;]*\[[^\[\]]+\]")
"""A column of a table by its name: `Invoices[Net]`; in the table's own totals row its name may be left out."""


class AddedUp(msgspec.Struct, frozen=True):
    """What a formula looks at that adds up its own column: the rows from `first` to `last`; 0 for a table's column.

    One that takes their average or counts them `is_sum` not.
    """

    first: int
    last: int
    is_sum: bool


def added_up(formula: bytes, letter: bytes, number: int) -> AddedUp | None:
    """What a formula adds up, if that is cells of its own column which all stand above it, or all below.

    It is one of a workbook's part (`<f>SUM(C2:C9)</f>`), or as a person writes it (`=SUM(C2:C9)`).
    """
    found = _TOTAL.fullmatch(formula)
    if found is None:
        return None
    function, cells = found[1], re.split(b"[,;]", found[2])
    is_sum = function == b"SUM" or cells[0].strip() in _SUMS
    if function != b"SUM":
        cells = cells[1 if function == b"SUBTOTAL" else 2 :]
    if len(cells) == 1 and _TABLE_COLUMN.fullmatch(cells[0].strip()):
        return AddedUp(0, 0, is_sum)
    rows: list[int] = []
    for one in map(_CELLS.fullmatch, cells):
        if one is None or one[1] != letter or (one[3] or letter) != letter:
            return None
        rows += (int(one[2]), int(one[4] or one[2]))
    if len(rows) < 2 or min(rows) <= number <= max(rows) or rows == rows[:1] * 2:
        return None
    return AddedUp(min(rows), max(rows), is_sum)


class Suspicion(msgspec.Struct, frozen=True):
    """Why a row looks like none of the list: the place of the cell that says so, and a phrase.

    With `begins_another` it looks like the header row of another list.
    """

    place: int
    why: str
    is_total: bool = False
    begins_another: bool = False


class ListShape(msgspec.Struct, frozen=True):
    """What the rows of a list usually look like: the first of them, in the columns at `places`.

    `usual` are those that most of them fill, `typed` those whose texts are numbers or dates, `marked` those whose texts
    have digits (numbers of invoices, too), `lower` those whose words have no capitals. `shapes` has for each place the
    texts, and what texts look like, that stand there more than once in rows with more than one cell. A lone cell says
    something where `lone_is_odd`.
    """

    places: tuple[int, ...]
    usual: tuple[int, ...]
    typed: frozenset[int]
    marked: frozenset[int]
    lower: frozenset[int]
    shapes: dict[int, frozenset[str]]
    lone_is_odd: bool

    @classmethod
    def of(cls, places: Sequence[int], rows: Sequence[Sequence[str]]) -> ListShape:
        """The shape of these rows."""
        filled = [[place for place in places if row[place].strip()] for row in rows]
        sizes = sorted(map(len, filled)) or [0]
        lone, most = sizes.count(1), sizes[2 * len(sizes) // 3]
        fuller = [row for row in filled if 2 * len(row) > most]
        count = Counter(place for row in fuller for place in row)
        usual = tuple(place for place in places if 2 * count[place] >= len(fuller))
        is_odd = most >= ALONE and (lone <= 2 or 3 * lone <= len(rows))
        texts = {place: [row[place].strip() for row in rows if row[place].strip()] for place in places}
        typed = (at for at, found in texts.items() if 3 * sum(map(bool, map(kind_of, found))) > 2 * len(found))
        marked = (at for at, found in texts.items() if 3 * sum(map(_has_digit, found)) >= 2 * len(found) > 0)
        lower = (at for at, found in texts.items() if 2 * sum(map(str.islower, found)) > len(found))
        whole = [row for row, places in zip(rows, filled, strict=True) if len(places) > 1]
        shapes = {at: frozenset(_often([row[at].strip() for row in whole])) for at in places}
        return cls(tuple(places), usual, frozenset(typed), frozenset(marked), frozenset(lower), shapes, is_odd)

    def doubt(self, texts: Sequence[str]) -> Suspicion | None:
        """Why a row looks like none of the list; None for a row like the others."""
        lacking = [] if all(texts) else [place for place in self.usual if not texts[place]]
        first = texts[self.places[0]] if self.places else ""
        if not lacking and not is_total_word(first) and (self.places[0] not in self.marked or _has_digit(first)):
            return None
        filled = [place for place in self.places if texts[place].strip()]
        return (self._total(texts, filled, lacking) or self._words(texts, filled, lacking)) if filled else None

    def _total(self, texts: Sequence[str], filled: Sequence[int], lacking: Sequence[int]) -> Suspicion | None:
        """A total's word, alone or beside numbers; or an amount that stands all by itself."""
        kinds = [kind_of(texts[place].strip()) for place in filled]
        has_but_numbers = all(kind == "number" for kind in kinds[1:])
        many = 2 * len(lacking) >= len(self.usual)
        for order, place in enumerate(filled):
            text = texts[place].strip()
            begins = len(text) <= LONGEST_LABEL and bool(_TOTAL_START.match(text))
            is_said = order == 0 and begins and (many or has_but_numbers)
            if lacking and (is_said or is_total_word(text)):
                what = "stands there, and cells that other rows fill are empty: it looks like a total"
                return Suspicion(place, f"{text!r} {what}", is_total=True)
        if not lacking and is_total_word(texts[filled[0]]) and has_but_numbers:
            what = "stands there in place of a row's own text: it looks like a total"
            return Suspicion(filled[0], f"{texts[filled[0]].strip()!r} {what}", is_total=True)
        if kinds == ["number"] and filled[0] in self.typed and self.lone_is_odd and many:
            what = "a number stands there alone, and all other cells of the row are empty: it looks like a total"
            return Suspicion(filled[0], what, is_total=True)
        return None

    def _words(self, texts: Sequence[str], filled: Sequence[int], lacking: Sequence[int]) -> Suspicion | None:
        """Words in place of a row's numbers or dates, or one text alone."""
        first = filled[0]
        if not self._is_prose(texts, first):
            return None
        if len(filled) == 1 and self.lone_is_odd:
            return Suspicion(first, "no other cell of the row is filled: it looks like a heading or a note")
        if first not in self.marked or _has_digit(texts[first]):
            return None
        has_typed = any(kind_of(texts[place].strip()) for place in filled)
        begins_another = not has_typed and len(filled) > 1 and not any(texts[at].strip().endswith(":") for at in filled)
        if lacking and (not has_typed or 3 * len(lacking) >= len(self.usual)):
            what = "words stand there where other rows have a number or a date, and cells that others fill are empty"
            return Suspicion(first, f"{what}: it looks like a heading or a note", begins_another=begins_another)
        if begins_another and self.typed.intersection(filled):
            what = "the row has words where others have numbers or dates: it looks like the headers of another list"
            return Suspicion(first, what, begins_another=True)
        return None

    def _is_prose(self, texts: Sequence[str], place: int) -> bool:
        """Whether a text is words, and none like those of other rows in its column.

        A lone number, date, sign or `Value 4` below `Value 3` is rather a row that somebody didn't finish.
        """
        text = texts[place].strip()
        return (
            kind_of(text) is None
            and any(map(str.isalpha, text))
            and text.lower() not in _NO_HEADERS
            and not (place in self.lower and text.islower())
            and text not in self.shapes[place]
            and _shape_of(text) not in self.shapes[place]
        )


def _has_digit(text: str) -> bool:
    return any(map(str.isdigit, text))


def _often(texts: Sequence[str]) -> Iterator[str]:
    """What texts of a column look like, and texts themselves, that stand there more than once."""
    shapes = Counter(shape for text in texts if (shape := _shape_of(text)))
    yield from (one for one, times in (*shapes.items(), *Counter(texts).items()) if one and times > 1)


def repeats_header(headers: Sequence[str], texts: Iterable[str]) -> bool:
    """Whether a row is the header row once more, as on each page of a printed list: all that it holds are headers.

    A second byte order mark (where files were joined) and blanks around a text don't count.
    """
    filled = [(header, text) for header, text in zip_longest(headers, texts, fillvalue="") if text.strip()]
    return bool(filled) and all(text.strip(_AROUND) == header.strip(_AROUND) for header, text in filled)


def _filled(rows: Sequence[FirstRow]) -> list[FirstRow]:
    return [row for row in rows if any(row.texts)][:LOOK]


def _is_like_below(best: FirstRow, place: int, below: Sequence[FirstRow]) -> bool:
    """Whether a number or date of the header row stands over such ones, or over nothing that would tell.

    In a workbook they may be texts, if those below are texts as well; a text over true numbers is a header (`2026`).
    """
    looks = (kind_of(best.text(place)), place in best.typed)
    if looks[0] is None:
        return False
    cells = [(kind_of(row.text(place)), place in row.typed) for row in below if row.text(place)]
    return 2 * cells.count(looks) > len(cells) if cells else not below


def _differs_by_digits(best: FirstRow, place: int, below: Sequence[FirstRow]) -> bool:
    """Whether a text of the header row differs from most below it by its digits alone: `RE-1` over `RE-2`, `RE-3`."""
    own = _DIGITS.sub("9", best.text(place))
    texts = [row.text(place) for row in below if row.text(place)]
    alike = sum(_DIGITS.sub("9", text) == own for text in texts) if _has_digit(own) else 0
    return alike > 1 and 2 * alike > len(texts)


def _second_header(best: FirstRow, below: Sequence[FirstRow]) -> FirstRow | None:
    """A row of words below the header row, right on top of numbers or dates that no row above it has.

    A first row of data whose amount isn't known ("n/a", "pending") is none: some other cell of it is like those below.
    """
    for place, row in enumerate(below[:LOOK_BELOW]):
        under = below[place + 1 :]
        if not row.is_all_text:
            return None
        if repeats_header(best.texts, row.texts):
            continue
        words = [at for at in row.filled if any(map(str.isalpha, row.text(at)))]
        over = [
            at for at in words if _is_column_of_numbers(at, under) and row.text(at).strip().lower() not in _NO_HEADERS
        ]
        fills = 2 * len(row.filled) >= len(best.filled) and not any(
            row.text(at).strip()[:1].isdigit() for at in row.filled
        )
        if over and fills and not any(_shape(row, at) in _shapes(under, at) for at in row.filled if at not in over):
            return row
    return None


def _is_column_of_numbers(place: int, rows: Sequence[FirstRow]) -> bool:
    cells = [row for row in rows if row.text(place)]
    return bool(cells) and all(row.kind(place) in ("number", "date") for row in cells)


def looks_like_below(row: FirstRow, below: Sequence[FirstRow]) -> bool:
    """Whether any cell of a row says the same, or has the same digits and signs among its letters, as one below it."""
    return any(
        _shape(row, place) in _shapes(below, place) or row.text(place) in {other.text(place) for other in below}
        for place in row.filled
    )


def _shape(row: FirstRow, place: int) -> str | None:
    """What a cell looks like."""
    return _shape_of(row.text(place))


def _shape_of(text: str) -> str | None:
    """What a text looks like, letters and digits aside (`A-17` → `a-9`); None for mere words, which all look alike."""
    shape = re.sub(r"\d+", "9", re.sub(r"[^\W\d_]+", "a", text.strip()))
    return None if set(shape) <= {"a", " "} else shape


def _shapes(rows: Sequence[FirstRow], place: int) -> set[str]:
    return {shape for row in rows if (shape := _shape(row, place))}


def _or_above(filled: Sequence[FirstRow], best: FirstRow) -> FirstRow:
    """The row right above, if it is all text, no title of one cell, and more like a header than the best one is.

    That is so above a row with numbers; above one of text, where it lacks but the last header, and the rows under that
    one hold nothing but texts either: nothing tells then that they aren't all data.
    """
    place = filled.index(best)
    above = filled[place - 1] if place else best
    named = len(above.filled)
    if above.number != best.number - 1 or named < 2 or above.width >= best.width or not above.is_all_text:
        return best
    if not best.is_all_text:
        return above
    is_whole = named == above.width == best.width - 1
    return above if is_whole and not _stands_over_numbers(best, filled[place + 1 :]) else best


def _stands_over_numbers(row: FirstRow, below: Sequence[FirstRow]) -> bool:
    """Whether any cell of a row stands over a column most of whose cells are typed."""
    return any(2 * sum(place in other.typed for other in below) > len(below) for place in row.filled)


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
