"""What follows a sheet's rows: its autofilter takes in the new columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_runner.sheet.splice.ranges import parse_range
from batch_runner.sheet.splice.tags import attribute, tag_of, with_attribute

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_runner.sheet.splice.ranges import Range

_FILTER = tag_of("autoFilter")
LONGEST_TAG = 4096


def grown_tail(rest: bytes, chunks: Iterator[bytes], old: Range, new: Range) -> Iterator[bytes]:
    """The part from `</sheetData>` on (`rest`, then `chunks`), its autofilter over `old` now over `new`.

    It stands soon after the rows (ECMA-376 part 1, 18.3.1.99), so it is the first one of that range.
    """
    data = rest
    while True:
        for found in _FILTER.finditer(data):
            if parse_range(attribute(found[0], "ref") or "") == old:
                yield data[: found.start()] + with_attribute(found[0], "ref", new.text)
                yield data[found.end() :]
                yield from chunks
                return
        yield data[:-LONGEST_TAG]
        chunk = next(chunks, b"")
        data = data[-LONGEST_TAG:] + chunk
        if not chunk:
            yield data
            return
