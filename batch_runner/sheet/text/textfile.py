"""A text file as it was when it was opened, and how to read it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from batch_runner.sheet.snapshot import Snapshot  # noqa: TC001  msgspec reads the annotation
from batch_runner.sheet.text.dialect import Dialect  # noqa: TC001  msgspec reads the annotation
from batch_runner.sheet.text.encoding import Encoding, open_text
from batch_runner.sheet.text.records import Records

if TYPE_CHECKING:
    from io import TextIOWrapper


class TextFile(msgspec.Struct, frozen=True):
    """The bytes, the encoding that makes them text, and the dialect that makes the text fields."""

    snapshot: Snapshot
    encoding: Encoding
    dialect: Dialect

    def lines(self) -> TextIOWrapper:
        """Its lines from the first row on, each with its own line end; close it when done."""
        stream = open_text(self.snapshot, self.encoding)
        if self.dialect.preface:
            stream.readline()
        return stream

    def records(self) -> Records:
        """Its records from the first on, as text."""
        return Records(self.lines(), self.dialect)
