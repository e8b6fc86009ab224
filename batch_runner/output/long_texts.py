"""Texts too long for their cells: cut there, and whole in a file beside the output."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
import tempfile
from typing import IO, TYPE_CHECKING, BinaryIO

import msgspec

from batch_runner.fs import AtomicFile
from batch_runner.job.job import stem_of
from batch_runner.sheet.csv.writer import write_json_text
from batch_runner.sheet.xlsx_append.xml_tokens import CELL_UNITS, SURELY_FITS

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self


MOST_IN_A_RECORD = 12 << 20
"""Characters of ours in one record of a text file; our reader takes records of 16 Mi characters."""


_CUT = re.compile(r" … \[cut: the whole text is in ([^/\\\]]+\.long\.jsonl)\]\Z")
"""How a cell ends that holds a part of a text."""


def fit_in_cells(texts: tuple[str, ...]) -> bool:
    """Whether each of these texts fits into a cell of a workbook."""
    return max(map(len, texts), default=0) <= SURELY_FITS


def fit_in_a_line(texts: tuple[str, ...]) -> bool:
    """Whether these texts fit into one record of a text file, with their quotes, and leave room for the row's own."""
    size = sum(map(len, texts))
    return 2 * size <= MOST_IN_A_RECORD or (size <= MOST_IN_A_RECORD and sum(map(_quoted, texts)) <= MOST_IN_A_RECORD)


def fits_anywhere(_texts: tuple[str, ...]) -> bool:
    """Other formats hold texts of any length."""
    return True


def _quoted(text: str) -> int:
    return len(text) + text.count('"')


ROOMS = {".xlsx": fit_in_cells, ".xlsm": fit_in_cells, ".csv": fit_in_a_line, ".tsv": fit_in_a_line}
"""Whether the texts of one row fit, by the ending of the file."""


class LongText(msgspec.Struct, frozen=True):
    """One line of the file: the row's number, the header of the column, the whole text."""

    row: int
    column: str
    text: str


class LongTexts:
    """The long texts of one output, gathered while it is written, put beside it by `put`, and let go on leaving."""

    def __init__(self, output: AtomicFile) -> None:
        self._room = ROOMS.get(output.path.suffix.lower(), fits_anywhere)
        beside = output.real.with_name(f"{stem_of(output.real)}.long.jsonl")
        self._target = AtomicFile(beside, beside, output.mode, is_alone=output.is_alone)
        self._is_elsewhere = output.real != output.path
        self._spool: IO[bytes] | None = None
        self._count = 0

    def fitted(self, number: int, headers: tuple[str, ...], texts: tuple[str, ...]) -> tuple[str, ...]:
        """The texts of one row as cells can hold them; what is too long is kept whole."""
        if self._room(texts):
            return texts
        return tuple(self._fit(number, header, text) for header, text in zip(headers, texts, strict=True))

    def cut(self, texts: tuple[str, ...]) -> tuple[str, ...]:
        """What `fitted` gives, without keeping anything."""
        return texts if self._room(texts) else tuple(cut_text(text, self._target.path.name) for text in texts)

    def put(self) -> tuple[str, ...]:
        """Put the file beside the output, if there was anything too long; says so in a sentence."""
        spool = self._spool
        if spool is None:
            return ()
        spool.seek(0)
        path = self._target.put(lambda file: shutil.copyfileobj(spool, file), _unchecked)
        texts = "1 text was" if self._count == 1 else f"{self._count} texts were"
        return (f"{texts} too long for a cell and cut; {path if self._is_elsewhere else path.name} has the whole",)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._spool is not None:
            self._spool.close()

    def _fit(self, number: int, header: str, text: str) -> str:
        cut = cut_text(text, self._target.path.name)
        if cut == text:
            return text
        if self._spool is None:
            self._spool = tempfile.TemporaryFile(dir=self._target.path.parent)  # noqa: SIM115  closed on leaving
        self._count += 1
        self._spool.write(msgspec.json.encode(LongText(number, header, "")).removesuffix(b'""}'))
        write_json_text(self._spool, text)
        self._spool.write(b"}\n")
        return cut


def cut_text(text: str, name: str) -> str:
    """A text as a cell can hold it; where it is cut, it says in which file the whole is."""
    encoded = text[: CELL_UNITS + 1].encode("utf-16-le", "surrogatepass")  # of a long text no copy is made
    if len(encoded) <= 2 * CELL_UNITS:
        return text
    mark = f" … [cut: the whole text is in {name}]"
    room = CELL_UNITS - len(mark.encode("utf-16-le")) // 2
    return encoded[: 2 * room].decode("utf-16-le", "ignore") + mark


class WholeTexts:
    """The long texts of earlier outputs in one folder, found by what a cell has of them. Holds only where they stand.

    A file is opened when a cell first names it, and kept open: ours replaces it in the end.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[str, tuple[IO[bytes], dict[bytes, list[tuple[int, int]]]] | None] = {}

    def whole(self, row: int, text: str) -> str:
        """The whole of a text that may be cut; as it is where no file has it, or several texts begin like it."""
        named = _CUT.search(text) if len(text) > SURELY_FITS else None
        opened = self._opened(named[1]) if named is not None else None
        if opened is None:
            return text
        file, places = opened
        found = places.get(_digest(text), [])
        here = [place for number, place in found if number == row] or [place for _number, place in found]
        texts = {_long_text(file, place).text for place in here}
        return texts.pop() if len(texts) == 1 else text

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for opened in self._files.values():
            if opened is not None:
                opened[0].close()

    def _opened(self, name: str) -> tuple[IO[bytes], dict[bytes, list[tuple[int, int]]]] | None:
        if name not in self._files:
            try:
                file = (self._folder / name).open("rb")
            except OSError:  # moved or deleted: the cell keeps what it has
                self._files[name] = None
            else:
                held = _replaceable(file)
                self._files[name] = held, _places(held, name)
        return self._files[name]


def _replaceable(file: BinaryIO) -> IO[bytes]:
    """What stands in a file that ours may take the place of: on Windows a copy, since no open one may go there."""
    if sys.platform != "win32":
        return file
    copy = tempfile.TemporaryFile()  # noqa: SIM115  closed on leaving
    with file:
        shutil.copyfileobj(file, copy)
    copy.seek(0)
    return copy


def _places(file: IO[bytes], name: str) -> dict[bytes, list[tuple[int, int]]]:
    """Row number and offset of each text, by a digest of what a cell has of it."""
    places: dict[bytes, list[tuple[int, int]]] = {}
    offset = 0
    for line in file:
        try:
            long = msgspec.json.decode(line, type=LongText)
        except msgspec.DecodeError:  # not a line of ours
            pass
        else:
            places.setdefault(_digest(cut_text(long.text, name)), []).append((long.row, offset))
        offset += len(line)
    return places


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _long_text(file: IO[bytes], place: int) -> LongText:
    file.seek(place)
    return msgspec.json.decode(file.readline(), type=LongText)


def _unchecked(draft: Path) -> None:
    """The spool is the one copy there is: nothing to compare it with."""
