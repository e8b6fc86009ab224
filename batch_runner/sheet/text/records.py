"""The records of a CSV file as they stand in it: each one's own text, line ends included."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_runner.sheet.text.dialect import Dialect


LONGEST = 1 << 24
"""Characters after which a quote counts as open; without a limit it would pull the whole file into memory."""


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
            yield line

    def _opening_line(self) -> int:
        """In which line of those taken, from 1, the open quote stands."""
        text = "".join(self._taken)
        opening = whole_fields(self._dialect.delimiter).match(text)
        return len(re.findall(r"\r\n|\r|\n", text[: opening.end() if opening else 0])) + 1


def whole_fields(delimiter: str, count: int | None = None) -> re.Pattern[str]:
    """Matches a record's first `count` fields (all closed ones, without it), each with the delimiter after it.

    A field is what the stdlib's reader takes for one: quoted text and what trails its closing quote, or text that
    doesn't begin with a quote.
    """
    mark = re.escape(delimiter)
    one = rf'(?:"(?:[^"]++|"")*+"[^{mark}\r\n]*+|[^"{mark}\r\n][^{mark}\r\n]*+|){mark}'
    return re.compile(rf"(?:{one}){{{count}}}" if count is not None else rf"(?:{one})*+")


def line_end(text: str) -> str:
    """How a record ends: CR LF, LF, CR, or nothing at the end of the file."""
    if text.endswith("\r\n"):
        return "\r\n"
    return text[-1:] if text.endswith(("\n", "\r")) else ""
