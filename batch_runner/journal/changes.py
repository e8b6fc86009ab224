"""How the sheet of a batch differs from that of the night before; and which rows were held back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import sqlite3


_SAMPLES = 5
_BEFORE = (
    "SELECT before.id, before.started FROM batch AS now JOIN batch AS before"
    " ON before.series = now.series AND before.id < now.continues AND before.whole_sheet"
    " WHERE now.id = ? AND now.whole_sheet AND before.exit_code IN (0, 3, 4, 5) ORDER BY before.id DESC LIMIT 1"
)
"""The last batch over this sheet that has placed all its rows, whatever became of them."""
_ONLY_IN = (
    "SELECT count(*) FROM place AS here WHERE batch = ? AND row IS NOT NULL"
    " AND NOT EXISTS (SELECT 1 FROM place WHERE row = here.row AND batch = ?)"
)
_CHANGED = (
    "SELECT count(*) FROM place AS here CROSS JOIN place AS there INDEXED BY place_row"
    " ON there.row = here.row AND there.batch = ? WHERE here.batch = ? AND here.params <> there.params"
)
"""With that index: SQLite by itself would look through the whole other batch for each row."""
_CARRIED = (
    "SELECT count(*) FROM outcome JOIN attempt ON attempt.id = outcome.attempt JOIN batch ON batch.id = outcome.batch"
    " WHERE outcome.batch = ? AND attempt.batch < batch.continues AND outcome.status NOT IN ('queued', 'running')"
)
_UNSETTLED = (
    "SELECT before.input, count(outcome.number) FROM batch AS now"
    " JOIN batch AS before ON before.series = now.series AND before.input <> now.input"
    " LEFT JOIN outcome ON outcome.batch = before.id"
    " AND outcome.status IN ('not_started', 'unknown', 'queued', 'running')"
    " AND NOT EXISTS (SELECT 1 FROM place WHERE place.row = outcome.row AND place.batch > before.id)"
    " WHERE now.id = ? AND before.id < now.id AND before.id = (SELECT max(id) FROM batch WHERE input = before.input)"
    " AND (before.exit_code IS NULL OR before.exit_code <> 0)"
    " GROUP BY before.id HAVING before.exit_code IS NULL OR count(outcome.number) ORDER BY before.id"
)
"""Of the other sheets of this series, those that were left before their end: tonight's sheet knows nothing of that."""
_TAKEN = (
    "SELECT outcome.number FROM outcome JOIN batch ON batch.id = outcome.batch"
    " JOIN attempt ON attempt.id = outcome.attempt JOIN batch AS sent ON sent.id = attempt.batch"
    " JOIN place ON place.batch = outcome.batch AND place.number = outcome.number"
    " WHERE outcome.batch = ? AND outcome.changed AND sent.input <> batch.input AND place.refusal IS NULL"
    " ORDER BY outcome.number"
)
"""A row that is held says so itself, and `--retry changed` starts none."""
_HELD = "SELECT number FROM place WHERE batch = ? AND held = ? ORDER BY number"


class Since(msgspec.Struct, frozen=True):
    """How the rows of a batch's sheet differ from those of the batch before, over the same sheet.

    `batch` and `started` (UTC) are that batch's. `new` rows came since, `carried` ended before and were carried over,
    `changed` were edited since, `left` are in the sheet no more.
    """

    batch: int
    started: str
    new: int
    carried: int
    changed: int
    left: int


class Unsettled(msgspec.Struct, frozen=True):
    """A sheet of another day with so many rows that were not started, are still going or unknown, as far as known."""

    input: str
    rows: int


class HeldRows(msgspec.Struct, frozen=True):
    """Rows that were not sent for some reason; `numbers` are the first few of them."""

    rows: int
    numbers: tuple[int, ...]


def since(connection: sqlite3.Connection, batch: int) -> Since | None:
    """The difference; None for a first night, and where one of the two batches looked at a part of its sheet only."""
    before = connection.execute(_BEFORE, (batch,)).fetchone()
    if before is None:
        return None
    earlier, started = before
    return Since(
        batch=earlier,
        started=started,
        new=_number(connection, _ONLY_IN, batch, earlier),
        carried=_number(connection, _CARRIED, batch),
        changed=_number(connection, _CHANGED, earlier, batch),
        left=_number(connection, _ONLY_IN, earlier, batch),
    )


def describe_waiting(rows: HeldRows) -> str | None:
    """A sentence where rows are to be started again, but not yet."""
    if not rows.rows:
        return None
    numbers = ", ".join([*map(str, rows.numbers), *(["…"] if rows.rows > len(rows.numbers) else [])])
    return (
        f"waiting for their retry: {rows.rows} (rows {numbers}); a row is started again once it is edited, or when "
        "its last attempt ended --retry-wait ago (1h, if nothing is said); --retry-wait 0 starts them at once"
    )


def held(connection: sqlite3.Connection, batch: int, why: str) -> HeldRows:
    """The rows that were held back in a batch as `parked` or `duplicate`."""
    return _held(connection, _HELD, batch, why)


def taken(connection: sqlite3.Connection, batch: int) -> HeldRows:
    """The rows whose key is that of a row of another sheet, which ran with other params: this one was not sent."""
    return _held(connection, _TAKEN, batch)


def unsettled(connection: sqlite3.Connection, batch: int) -> tuple[Unsettled, ...]:
    """The sheets of this series that earlier nights did not come to the end of."""
    return tuple(Unsettled(*found) for found in connection.execute(_UNSETTLED, (batch,)))


def _held(connection: sqlite3.Connection, sql: str, *values: object) -> HeldRows:
    numbers = [number for (number,) in connection.execute(sql, values)]
    return HeldRows(len(numbers), tuple(numbers[:_SAMPLES]))


def _number(connection: sqlite3.Connection, sql: str, *values: int) -> int:
    return int(connection.execute(sql, values).fetchone()[0])


_MET = (
    "SELECT NOT EXISTS (SELECT 1 FROM place WHERE batch = :batch AND held IS NULL) OR EXISTS (SELECT 1 FROM place"
    " JOIN attempt ON attempt.row = place.row WHERE place.batch = :batch AND attempt.batch < :batch)"
)
_SENT_BEFORE = (
    "SELECT count(DISTINCT attempt.row) FROM attempt JOIN batch ON batch.id = attempt.batch"
    " WHERE batch.id < :batch AND batch.series IN ('', :series)"
)
_IS_REPEATING = (
    "SELECT EXISTS (SELECT 1 FROM batch JOIN place ON place.batch = batch.id JOIN attempt ON attempt.row = place.row"
    " WHERE batch.series = :series AND batch.id < :batch AND attempt.batch < batch.id)"
)


def all_new(connection: sqlite3.Connection, batch: int) -> str | None:
    """A warning where earlier batches over this sheet sent rows and this batch has met none of them so far.

    A sheet for each day may well hold that day's rows only: it is no news unless such sheets did hold earlier rows.
    """
    series, sheet = connection.execute("SELECT series, input FROM batch WHERE id = ?", (batch,)).fetchone()
    here = {"batch": batch, "series": series}
    if batch == 1 or connection.execute(_MET, here).fetchone()[0]:
        return None
    if series != sheet and not connection.execute(_IS_REPEATING, here).fetchone()[0]:
        return None
    sent = connection.execute(_SENT_BEFORE, here).fetchone()[0]
    if not sent:
        return None
    return (
        f"no row of this sheet is known to the journal, which has {sent} from earlier batches: each counts as new and "
        "is sent; if they are the same rows, they run again: undo the change to the columns or params first"
    )


def has_other_attempts(connection: sqlite3.Connection, batch: int) -> bool:
    """Whether any other batch has sent something."""
    return bool(connection.execute("SELECT EXISTS (SELECT 1 FROM attempt WHERE batch <> ?)", (batch,)).fetchone()[0])
