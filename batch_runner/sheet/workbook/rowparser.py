"""The rows of a sheet's part by a full XML parser: for parts that `scan` can't divide by a regex."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_runner.sheet.workbook.markup import MarkupError, Parser
from batch_runner.sheet.workbook.rawrow import RawRow
from batch_runner.sheet.workbook.strings import ItemText

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from batch_runner.sheet.workbook.package import Package


class RowParser:
    """Collects, chunk by chunk, the rows that have something in them, and what stands beside them in the part."""

    def __init__(self) -> None:
        self.autofilter: str | None = None
        """The range of the sheet's own autofilter, such as `A3:F90`."""
        self.merges: list[str] = []
        """The ranges of merged cells."""
        self._rows: list[RawRow] = []
        self._row = RawRow(0, False, [], [], [], [])
        self._depth = 0
        self._value: ItemText | None = None
        self._parser = Parser(self._start, self._end, self._characters)

    def feed(self, chunk: bytes, *, last: bool = False) -> list[RawRow]:
        """The rows that end within the next bytes. Raises `MarkupError`."""
        self._parser.feed(chunk, last=last)
        rows, self._rows = self._rows, []
        return rows

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._value is not None:
            self._value.start(name)
        elif name == "c":
            self._begin_cell(attributes)
        elif name == "row":
            self._begin_row(attributes)
        elif name == "f":
            self._row.formulas[-1] = b"<f"
        elif name in {"v", "is"}:
            self._value = ItemText(name)
        elif name == "autoFilter" and self._depth == 2:
            self.autofilter = attributes.get("ref")
        elif name == "mergeCell":
            self.merges.append(attributes.get("ref", ""))

    def _begin_row(self, attributes: dict[str, str]) -> None:
        number = attributes.get("r", "")
        self._row = RawRow(
            int(number) if number.isdigit() else self._row.number + 1, is_true(attributes.get("hidden")), [], [], [], []
        )

    def _begin_cell(self, attributes: dict[str, str]) -> None:
        letters = attributes.get("r", "").upper().rstrip("0123456789")
        if len(letters) > 3:
            raise MarkupError(f"has a cell in column {letters[:9]}, and XFD is the last")
        mark = "".join(f' {key}="{attributes[key]}"' for key in ("s", "t", "vm") if key in attributes)
        self._row.letters.append(letters.encode() if letters.isalpha() and letters.isascii() else None)
        self._row.marks.append(mark.encode())
        self._row.formulas.append(None)
        self._row.values.append(None)

    def _characters(self, text: str) -> None:
        if self._value is not None:
            self._value.characters(text)

    def _end(self, name: str) -> None:
        self._depth -= 1
        if self._value is not None:
            text = self._value.end()
            if text is not None:
                self._row.values[-1] = text
                self._value = None
        elif name == "row" and not self._row.is_blank:
            self._rows.append(self._row)


def is_true(value: str | None) -> bool:
    """Whether an attribute says yes (XML Schema part 2, 3.2.2: boolean)."""
    return value in {"1", "true", "on"}


def parse_rows(package: Package, part: str, parser: RowParser) -> Iterator[RawRow]:
    """Stream the rows of a part. Raises `SheetError` where it is damaged."""
    yield from parse_chunks(package, part, parser, package.open_part(part))


def parse_chunks(package: Package, part: str, parser: RowParser, chunks: Iterable[bytes]) -> Iterator[RawRow]:
    """The same for some chunks that are well-formed as a whole."""
    try:
        for chunk in chunks:
            yield from parser.feed(chunk)
        yield from parser.feed(b"", last=True)
    except MarkupError as error:
        raise package.damaged(part, str(error)) from error
