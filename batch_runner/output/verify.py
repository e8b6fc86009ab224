"""The check before the swap: every input row once, in order, each with its own run."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING

from batch_runner.errors import OutputFailed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_runner.journal.view import Placed
    from batch_runner.rows.columns import OurColumns
    from batch_runner.sheet.model import Row, Sheet


def check_alignment(sheet: Sheet, written: Sheet, layout: OurColumns, outcomes: Iterator[Placed]) -> None:
    """Compare what was written, read back, with the sheet and the outcomes. Raises `OutputFailed` naming the row."""
    run_column = next((column.index for column in written.columns if column.name == layout.headers[0]), None)
    if run_column is None and sheet.header_row:
        raise _wrong(written, None)
    own = tuple(column.index for column in layout.own)
    placed = next(outcomes, None)
    for row, back in zip_longest(sheet.rows(), written.rows()):
        if row is None or back is None or not _same_cells(row, back, own):
            raise _wrong(written, row or back)
        run_id = ""
        if placed is not None and placed.number == row.number:
            run_id = placed.run_id or ""
            placed = next(outcomes, None)
        if run_column is None and run_id:  # without headers the first run shows where they stand
            run_column = next(
                (place for place in range(sheet.width, written.width) if back.texts[place] == run_id), None
            )
            if run_column is None:
                raise _wrong(written, row)
        if run_column is not None and row.number > sheet.header_row and not _same_text(run_id, back.texts[run_column]):
            raise _wrong(written, row)
    if placed is not None:
        raise _without_place(written.path.name, placed)


def check_appended(
    written: str, header_row: int, run_column: str, rows: Iterator[tuple[int, str]], outcomes: Iterator[Placed]
) -> None:
    """The same where each row's own cells were compared already: `rows` are (number, text in our first column).

    `written` is what a message calls the file. Raises `OutputFailed`, and `Unlike` as `Sheet.appended`.
    """
    placed = next(outcomes, None)
    for number, text in rows:
        expected = run_column if number == header_row else ""
        if placed is not None and placed.number == number:
            expected = placed.run_id or ""
            placed = next(outcomes, None)
        if text != expected:
            raise OutputFailed(_came_out_wrong(written, f"row {number}"))
    if placed is not None:
        raise _without_place(written, placed)


def _same_cells(row: Row, back: Row, own: tuple[int, ...]) -> bool:
    if row.number != back.number:
        return False
    if row.texts == back.texts[: len(row.texts)]:
        return True
    pairs = ((row.texts[index], back.texts[index]) for index in own if index < len(back.texts))
    return len(back.texts) > max(own, default=-1) and all(_same_text(*pair) for pair in pairs)


def _same_text(text: str, back: str) -> bool:
    """A leading `'` is what makes text harmless in CSV; it is no part of the text."""
    return back in (text, f"'{text}")


def _wrong(written: Sheet, row: Row | None) -> OutputFailed:
    what = f"row {row.number}" if row is not None else "the header row"
    return OutputFailed(_came_out_wrong(written.path.name, what))


def _came_out_wrong(written: str, what: str) -> str:
    return f"{written}: {what} came out wrong, so nothing was replaced; please report this"


def _without_place(written: str, placed: Placed) -> OutputFailed:
    return OutputFailed(f"{written}: row {placed.number} has an outcome but no place in the output")
