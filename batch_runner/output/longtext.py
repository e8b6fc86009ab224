"""Texts too long for a cell of a workbook: cut there, whole in a `.jsonl` beside the output."""

from __future__ import annotations

import shutil
import tempfile
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from batch_runner.job.job import stem_of
from batch_runner.output.target import Target

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType
    from typing import Self

CELL_UNITS = 32_767
"""What one cell of a workbook holds, in UTF-16 units (Excel specifications and limits)."""


class LongText(msgspec.Struct, frozen=True):
    """One line of the file: the row's number, the header of the column, the whole text."""

    row: int
    column: str
    text: str


class LongTexts:
    """The long texts of one output, gathered while it is written, put beside it by `put`, and let go on leaving."""

    def __init__(self, output: Target) -> None:
        beside = output.real.with_name(f"{stem_of(output.real)}.long.jsonl")
        self._target = Target(beside, beside, output.mode)
        self._is_elsewhere = output.real != output.path
        self._spool: BinaryIO | None = None
        self._count = 0

    def fitted(self, number: int, headers: tuple[str, ...], texts: tuple[str, ...]) -> tuple[str, ...]:
        """The texts of one row as cells can hold them; what is too long is kept whole."""
        if all(len(text) <= CELL_UNITS // 2 for text in texts):
            return texts
        return tuple(self._fit(number, header, text) for header, text in zip(headers, texts, strict=True))

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
        encoded = text.encode("utf-16-le", "surrogatepass")
        if len(encoded) <= 2 * CELL_UNITS:
            return text
        if self._spool is None:
            self._spool = tempfile.TemporaryFile(dir=self._target.path.parent)  # noqa: SIM115  closed on leaving
        self._count += 1
        whole = text.encode("utf-8", "replace").decode()
        self._spool.write(msgspec.json.encode(LongText(number, header, whole)) + b"\n")
        mark = f" … [cut: the whole text is in {self._target.path.name}]"
        room = CELL_UNITS - len(mark.encode("utf-16-le")) // 2
        return encoded[: 2 * room].decode("utf-16-le", "ignore") + mark


def _unchecked(draft: Path) -> None:
    """The spool is the one copy there is: nothing to compare it with."""
