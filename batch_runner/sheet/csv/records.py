"""A text file as records: how it is divided into fields, and each record as it stands, line end included."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Literal

import msgspec

from batch_runner.errors import SheetError
from batch_runner.sheet.csv.encoding import Encoding, open_text, read_bytes
from batch_runner.sheet.header import FirstRow, find_header, kind_of, looks_like_below
from batch_runner.sheet.snapshot import Snapshot  # noqa: TC001  msgspec reads the annotation

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


DELIMITERS = {".csv": ",", ".tsv": "\t"}
"""What each ending stands for; a .csv is written so, and read as what is found in it."""
CANDIDATES = ",;\t|"
OF_ONE_COLUMN = (",", ";", "\t", "|", "^", "~", "\x1f")
"""What may divide our columns from one column of texts: the first of these that none of its texts holds."""
WORDS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "pipe": "|", "space": " ", "colon": ":"}
LABELS = {"\t": "tabs", ";": "semicolons", "|": "pipes", ",": "commas"}
NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
NONE = "none"
"""What a person says as --delimiter where each line is one field."""
LONGEST_FIELD = 2**31 - 1
"""In characters: all that the stdlib's reader can be told on every platform."""
LONGEST = 1 << 24
"""Characters after which a quote counts as open; without a limit it would pull the whole file into memory."""
RECORDS = 500
"""How many records of the sample are judged at most."""
CLOSE = 0.7
"""From this share of the best one's score on the runner-up may be meant as well."""
MOST_FOREIGN = 0.4
"""From so many cells with another delimiter in them on the best one is no better than the runner-up."""
STEADY = 0.8
"""From this agreement on the records of a sample are a table."""
_NAMED = re.compile(r'"?sep=(.)"?\r?\n?\ufeff*', re.IGNORECASE)
_OURS = re.compile(r'([,;\t|^~\x1f])"?(?:batch_)?run_id"?\1"?(?:batch_)?status"?(?:\1|\r|\n|\Z)')
"""Where an earlier output says itself what divides its columns."""
_DECIMAL = re.compile(r"\W*\d[\d.' ]*,\d\d?\W*")
_LONE_CR = re.compile(r"\r(?!\n|\Z)")
_STAND_INS = "\ue000\ue001\ue002\ufdd0\ufdd1"
_QUOTED = re.compile(r'"(?:[^"]|""){0,5000}+"')


class Dialect(msgspec.Struct, frozen=True):
    """The delimiter, and the text of a first line that names it (or ""); that line is no row."""

    delimiter: str
    preface: str = ""

    @property
    def label(self) -> str:
        """The delimiter in words."""
        return LABELS.get(self.delimiter, repr(self.delimiter))

    def one(self, text: str) -> list[str]:
        """The fields of a single record, its line end included or not. A CR inside it is text."""
        if '"' not in text:
            bare = text.removesuffix(line_end(text))
            return bare.split(self.delimiter) if bare else []
        if _LONE_CR.search(text):
            mark = next(sign for sign in _STAND_INS if sign not in text)
            hidden = _LONE_CR.sub(mark, text)
            return [field.replace(mark, "\r") for field in self.one(hidden)]
        return next(iter(self.fields(io.StringIO(text, newline=""))))

    def fields(self, lines: Iterable[str]) -> Iterable[list[str]]:
        """The records of some lines, as the stdlib's reader divides them; an empty list for a blank line."""
        csv.field_size_limit(LONGEST_FIELD)
        return csv.reader(lines, delimiter=self.delimiter)


class TextFile(msgspec.Struct, frozen=True):
    """A text file as it was when it was opened: its bytes, the encoding that makes them text, the dialect of that text.

    `end` is where the text ends, in bytes. `newline` is "\\n" where a CR alone is text, "" where it ends a line.
    """

    snapshot: Snapshot
    encoding: Encoding
    dialect: Dialect
    end: int
    newline: Literal["", "\n"] = ""

    def lines(self) -> io.TextIOWrapper:
        """Its lines from the first row on, each with its own line end; close it when done."""
        stream = open_text(self.snapshot, self.encoding, self.end, self.newline)
        stream.read(len(self.dialect.preface))
        return stream

    def records(self) -> Records:
        """Its records from the first on, as text."""
        return Records(self.lines(), self.dialect)

    def tail(self) -> bytes:
        """What stands behind the text."""
        return read_bytes(self.snapshot, self.end, self.snapshot.size)

    def lost_end(self) -> str:
        """The Ctrl-Z behind a last record without a line end: former releases took it for a part of its last cell."""
        codec = self.encoding.codec
        tail = self.tail().decode(codec, "replace").rstrip("\r\n") if self.end else ""
        if "\x1a" not in tail or "\n" in tail or "\r" in tail:
            return ""
        before = max(self.end - len("\n".encode(codec)), 0)
        is_ended = read_bytes(self.snapshot, before, self.end).decode(codec, "replace") in {"\r", "\n"}
        return "" if is_ended else tail


class OpenQuote(Exception):  # noqa: N818  it is the state of a file; whoever knows the file's name makes a sentence of it
    """A quote opens in the physical line `line` (from 1) and never closes."""

    def __init__(self, line: int) -> None:
        super().__init__(line)
        self.line = line


class Records:
    """Iterates over (text, number of fields) of each record, in order; a blank line is a record of 0 fields.

    Only lines with a quote go through the stdlib's reader, which says where their record ends; all others are one
    record each, with a field more than they have delimiters. Raises `OpenQuote`.
    """

    def __init__(self, lines: Iterator[str], dialect: Dialect) -> None:
        self._lines = lines
        self._dialect = dialect
        self._first: str | None = None
        self._taken: list[str] = []
        self._size = 0

    def __iter__(self) -> Iterator[tuple[str, int]]:
        delimiter = self._dialect.delimiter
        reader = iter(self._dialect.fields(self._pull()))
        done = 1 if self._dialect.preface else 0
        for line in self._lines:
            if '"' not in line:
                done += 1
                yield line, line.count(delimiter) + 1 if line.strip("\r\n") else 0
                continue
            self._first = line
            self._taken = []
            self._size = 0
            try:
                fields = next(reader)
            except OpenQuote:
                raise OpenQuote(done + self._opening_line()) from None
            done += len(self._taken)
            yield "".join(self._taken), len(fields)

    def _pull(self) -> Iterator[str]:
        """The lines of quoted records: the reader asks for more than the first only while a quote is open."""
        while True:
            line, self._first = self._first or next(self._lines, None), None
            if line is None or self._size > LONGEST:
                raise OpenQuote(0)
            self._taken.append(line)
            self._size += len(line)
            yield _LONE_CR.sub("x", line) if "\r" in line else line  # only how many fields there are is asked

    def _opening_line(self) -> int:
        """In which line of those taken, from 1, the open quote stands."""
        text = "".join(self._taken)
        opening = whole_fields(self._dialect.delimiter).match(text)
        return len(re.findall(r"\r\n|\r|\n", text[: opening.end() if opening else 0])) + 1


def whole_fields(delimiter: str, count: int | None = None) -> re.Pattern[str]:
    """Matches a record's first `count` fields (all closed ones, without it), each with the delimiter after it.

    A field is what the stdlib's reader takes for one: quoted text and what trails its closing quote, or text that
    doesn't begin with a quote. A CR or LF that doesn't end the record belongs to its field.
    """
    mark = re.escape(delimiter)
    rest = rf"(?:[^{mark}\r\n]|\r(?!\n|\Z))*+"
    one = rf'(?:"(?:[^"]++|"")*+"{rest}|(?!"){rest}){mark}'
    return re.compile(rf"(?:{one}){{{count}}}" if count is not None else rf"(?:{one})*+")


def line_end(text: str) -> str:
    """How a record ends: CR LF, LF, CR, or nothing at the end of the file."""
    if text.endswith("\r\n"):
        return "\r\n"
    return text[-1:] if text.endswith(("\n", "\r")) else ""


def line_ends(sample: str) -> Literal["", "\n"]:
    """Which line ends a text has, by its beginning: as `TextFile.newline`. A CR alone ends lines only where most do."""
    bare = _QUOTED.sub("", sample)
    return "" if bare.count("\r") - bare.count("\r\n") > bare.count("\n") else "\n"


def is_blank(fields: Sequence[str]) -> bool:
    """Whether a record is an empty row: nothing in it that a person could see."""
    return not "".join(fields).strip()


def has_text(text: str, dialect: Dialect) -> bool:
    """Whether a record, as it stands in the file, is more than an empty row; parses it only where it must."""
    return (
        text[0].isalnum()
        or text[1:2].isalnum()
        or bool(text.replace(dialect.delimiter, "").replace('"', "").strip())
        or not is_blank(dialect.one(text))
    )


def find_dialect(sample: str, name: str, asked: str | None, *, is_whole: bool = True) -> Dialect | None:
    """The dialect of a file whose text begins with `sample`, or is it; None where each line is one field.

    A person's word (`asked`: a character or a word for one) comes first, then a first line `sep=`, then the header of
    an earlier output, then the ending .tsv (of a file with any TAB), then what the sample looks like. Raises
    `SheetError` for a delimiter that can be none, and where two could be meant.
    """
    first = sample[: sample.find("\n") + 1] or sample
    named = _NAMED.match(sample) if _NAMED.fullmatch(first) else None
    preface = named[0] if named else ""
    ours = _OURS.search(sample)
    if asked is not None and asked.lower() != NONE:
        return Dialect(_asked(asked, name), preface)
    if named and asked is None:
        return Dialect(named[1], preface)
    if ours:
        return Dialect(ours[1], preface)
    if asked is not None:
        return None
    is_tsv = name.lower().endswith(".tsv") and ("\t" in sample or not any(sign in sample for sign in CANDIDATES))
    return Dialect("\t") if is_tsv else _likeliest(sample, name, is_whole=is_whole)


def _asked(asked: str, name: str) -> str:
    delimiter = WORDS.get(asked.lower(), asked)
    if len(delimiter) != 1 or delimiter.isalnum() or delimiter in '"\r\n\0':
        raise SheetError(
            f"{name}: {asked!r} can't be a delimiter; name one character, or comma, semicolon, tab, pipe or none"
        )
    return delimiter


def dialect_of_one_column(texts: Iterable[str], name: str) -> Dialect:
    """A dialect that leaves each line of a file whole; its delimiter divides it from our columns."""
    free = dict.fromkeys(OF_ONE_COLUMN)
    for text in texts:
        free = {sign: None for sign in free if sign not in text}
    if not free:
        raise SheetError(f"{name}: no delimiter is left for more columns; name another character with --delimiter")
    return Dialect(next(iter(free)))


def dividing(header: str) -> Dialect | None:
    """The dialect that would make most fields of this, None where all leave it whole."""
    width, delimiter = max((len(Dialect(delimiter).one(header)), delimiter) for delimiter in CANDIDATES)
    return Dialect(delimiter) if width > 1 else None


class Candidate(msgspec.Struct, frozen=True):
    """What a sample looks like, divided by a delimiter.

    `above` are its records before the header row, `header` and `below` the others; blank ones are left aside.
    """

    delimiter: str
    above: tuple[FirstRow, ...]
    header: FirstRow
    below: tuple[FirstRow, ...]
    sizes: tuple[int, ...]
    """How many fields each record has, empty ones at the end included."""
    is_spaced: bool
    """Whether a space follows nearly each delimiter, as in prose."""
    quoting: float
    """The share of quotes that stand where quotes belong."""

    @property
    def divides(self) -> bool:
        """Whether any record has two fields with text."""
        return any(row.width > 1 for row in (*self.above, self.header, *self.below))

    @property
    def rows(self) -> tuple[FirstRow, ...]:
        """From the header row on."""
        return (self.header, *self.below)

    @property
    def agreement(self) -> float:
        """The share of records from the header row on that are as wide as most; lone cells (notes) count half."""
        sizes = self.sizes[len(self.above) :]
        lone = sum(row.width == 1 for row in self.rows) if self.header.width > 2 else 0
        widths = Counter(row.width for row in self.rows if row.width > 1)
        whole = Counter(size for size in sizes if size > 1)
        most = max(max(count.values(), default=0) for count in (widths, whole))
        return min(most / max(len(self.rows) - lone / 2, 1), 1.0)

    @property
    def foreign(self) -> float:
        """How much its cells look as if another delimiter should divide them, from 0 to 1."""
        heads = [text for text in self.header.texts if text]
        cells = [text for row in self.below for text in row.texts if text] or heads
        return sum(sum(map(self._is_foreign, texts)) / len(texts) for texts in (heads, cells)) / 2

    @property
    def score(self) -> float:
        """How good a table it makes, from 0 to 1."""
        score = (0.2 + 0.8 * self.agreement) * self.quoting * (1 - self.foreign)
        if self.above:
            score *= 0.45
        if self.header.width < 2:
            score *= 0.3  # it must divide the header row as well as the rows
        return score

    @property
    def may_be_title_and_table(self) -> bool:
        """Whether it is a table for certain: its first line is divided, or is a title above what must be a table."""
        if not self.above or self.sizes[0] > 1 or self.header.number > self.above[-1].number + 1:
            return True
        if not self.below or self.agreement < 0.5:  # not even most lines are divided
            return False
        is_of_prose = self.delimiter == "," or self.is_spaced
        if is_of_prose and not any(row.typed for row in self.below):
            return False
        if self.header.width > 2 and self.agreement >= STEADY and not self.is_spaced:
            return True
        return self.header.is_all_text and not looks_like_below(self.header, self.below)

    @property
    def is_surely_prose(self) -> bool:
        """Whether the delimiter belongs to the texts of one column, under a header that doesn't hold it."""
        if self.delimiter == "," and all(_DECIMAL.fullmatch(",".join(row.texts)) for row in self.rows if row.width > 1):
            return True
        lines = (*self.above[1:], *self.rows)
        is_steady = sum(row.width == self.header.width for row in lines) >= STEADY * len(lines)
        return self.is_spaced and (not is_steady or looks_like_below(self.header, self.below))

    def _is_foreign(self, text: str) -> float:
        found = 0.0
        for other in CANDIDATES:
            count = text.count(other) if other != self.delimiter else 0
            if not count:
                continue
            tight = count - text.count(f"{other} ")
            if other == "\t":
                found = max(found, 1.0 if "\t" in text.strip() else 0.5)
            elif other == ",":
                few, many = (0.2, 0.9) if tight else (0.1, 0.6)
                found = max(found, 0.0 if kind_of(text) else many if count >= 3 else few)
            else:
                found = max(found, 0.7 if tight else 0.3)
        return found


def _likeliest(sample: str, name: str, *, is_whole: bool) -> Dialect | None:
    """The delimiter that makes the best table of a sample. Raises `SheetError` where the runner-up may be meant."""
    judged = [_candidate(sample, delimiter, is_whole=is_whole) for delimiter in CANDIDATES if delimiter in sample]
    candidates = [candidate for candidate in judged if candidate is not None]
    ranked = sorted(((one.score, one) for one in candidates if one.divides), key=lambda pair: pair[0], reverse=True)
    if not ranked:  # a delimiter at the ends of lines is one all the same
        ending = max(candidates, key=lambda one: sum(size > 1 for size in one.sizes), default=None)
        return Dialect(ending.delimiter if ending else ",")
    score, best = ranked[0]
    if best.header.width < 2:
        return None
    is_odd = best.foreign > MOST_FOREIGN
    runner_up = next((one for other, one in ranked[1:] if is_odd or other > CLOSE * score), None)
    if runner_up is not None:
        raise _unclear(name, best.delimiter, runner_up.delimiter)
    if best.may_be_title_and_table:
        return Dialect(best.delimiter)
    if not best.is_surely_prose:
        raise _unclear(name, best.delimiter, None)
    return None


def _unclear(name: str, one: str, other: str | None) -> SheetError:
    what, say = (LABELS[other], NAMES[other]) if other else ("nothing, each line being one field", NONE)
    return SheetError(
        f"{name}: it isn't certain what divides the fields, {LABELS[one]} or {what}; "
        f"say --delimiter {NAMES[one]} or --delimiter {say}"
    )


def _candidate(sample: str, delimiter: str, *, is_whole: bool) -> Candidate | None:
    """What a sample looks like, divided by a delimiter; None for a sample that is blank then."""
    lines = (_LONE_CR.sub(" ", line) for line in io.StringIO(sample, newline=line_ends(sample)))
    records = list(islice(Dialect(delimiter).fields(lines), RECORDS + 1))
    if len(records) > 1 and (not is_whole or len(records) > RECORDS):
        records.pop()  # it may be cut
    rows = [FirstRow.of_texts(number, fields) for number, fields in enumerate(records, 1) if not is_blank(fields)]
    header = find_header(rows)
    if header is None:
        return None
    place = next(place for place, row in enumerate(rows) if row.number == header)
    sizes = tuple(len(records[row.number - 1]) for row in rows)
    spaced = sample.count(f"{delimiter} ") > 0.9 * sample.count(delimiter)
    above, below = tuple(rows[:place]), tuple(rows[place + 1 :])
    return Candidate(delimiter, above, rows[place], below, sizes, spaced, _quoting(sample, delimiter))


def _quoting(sample: str, delimiter: str) -> float:
    """The share of quotes that stand where quotes belong, from a delimiter to a delimiter."""
    if '"' not in sample:
        return 1.0
    mark, others = re.escape(delimiter), re.escape(CANDIDATES.replace(delimiter, ""))
    whole = re.compile(rf'(?m)(?:^|(?<={mark})) *"(?:[^"]|""){{0,5000}}+" *(?={mark}|\r?$)')
    rest, good = whole.subn("", sample)
    bad = len(re.findall(rf'(?m)(?:^|(?<={mark}))"(?:[^"]|""){{0,5000}}+"(?=[^{mark}\r\n])', rest))
    bad += len(re.findall(rf'(?m)[{others}]"(?=[^\s"])|^"', rest))
    return (good + 1) / (good + bad + 1)


_AS_TEXT = re.compile(r'="((?:[^"]|"")*)"')
"""How programs write a text that Excel must not take for a number: `="00123"`."""


def unwrapped(field: str) -> str:
    """The text of a field `="00123"`; any other field as it is."""
    if not field.startswith('="'):
        return field
    found = _AS_TEXT.fullmatch(field)
    return found[1].replace('""', '"') if found else field
