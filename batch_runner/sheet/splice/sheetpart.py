"""A sheet's own part, streamed with new columns in it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_runner.sheet.splice.head import grown_head, measure, take_head
from batch_runner.sheet.splice.newrow import NewRows
from batch_runner.sheet.splice.parsedrows import ParsedRows
from batch_runner.sheet.splice.quickrows import QuickRows
from batch_runner.sheet.splice.tail import grown_tail
from batch_runner.sheet.splice.utf8 import as_utf8

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from batch_runner.sheet.splice.place import Place
    from batch_runner.sheet.splice.ranges import Range


def with_columns(
    chunks: Iterable[bytes],
    name: str,
    place: Place,
    cells: Iterable[tuple[int, tuple[str, ...]]],
    growth: tuple[Range, Range] | None = None,
    *,
    quick: bool = True,
) -> Iterator[bytes]:
    """Stream the part with the new columns; `name` is what messages call the sheet.

    `growth` is what the sheet's autofilter is over, and what it will be over.

    Rows are added to without a parser as long as they are plain, and by one from the first that isn't; `quick=False`
    leaves all of them to the parser. Raises `SheetError` where a cell can't be written, `expat.ExpatError` or
    `UnicodeError` where the part is damaged.
    """
    stream = as_utf8(chunks)
    head, rest = take_head(stream)
    widths, cells = measure(place.headers, cells)
    yield grown_head(head, place, widths)
    new = NewRows(name, place, cells)
    rows = QuickRows(new)
    if quick:
        yield from rows.stream(rest, stream)
    else:
        rows.rest = rest
    tail = yield from ParsedRows(head, rows.number, new).stream(rows.rest, stream)
    new.finish()
    if growth:
        yield from grown_tail(tail, stream, *growth)
    else:
        yield tail
        yield from stream
