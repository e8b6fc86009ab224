"""How the sheet of a batch differs from that of the night before; and which rows were held back in it."""

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
    "SELECT count(*) FROM place AS here JOIN place AS there ON there.row = here.row AND there.batch = ?"
    " WHERE here.batch = ? AND here.params <> there.params"
)
_CARRIED = (
    "SELECT count(*) FROM outcome JOIN attempt ON attempt.id = outcome.attempt JOIN batch ON batch.id = outcome.batch"
    " WHERE outcome.batch = ? AND attempt.batch < batch.continues AND outcome.status NOT IN ('queued', 'running')"
)
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


class Held(msgspec.Struct, frozen=True):
    """Rows that were held back; `numbers` are the first few of them."""

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


def held(connection: sqlite3.Connection, batch: int, why: str) -> Held:
    """The rows that were held back in a batch as `parked` or `duplicate`."""
    numbers = [number for (number,) in connection.execute(_HELD, (batch, why))]
    return Held(len(numbers), tuple(numbers[:_SAMPLES]))


def _number(connection: sqlite3.Connection, sql: str, *values: int) -> int:
    return int(connection.execute(sql, values).fetchone()[0])
