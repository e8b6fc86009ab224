"""How a batch's sheet differs from that of the night before; which rows were held back, or left at a shutdown."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from batch_runner.sheet.model import TEXT_ENDINGS
from batch_runner.units import local_day

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

    from batch_runner.journal.batches import BatchInfo


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
    " WHERE outcome.batch = ? AND outcome.changed = 1 AND sent.input <> batch.input AND place.refusal IS NULL"
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


_ORIGINS = (
    "SELECT earlier.id, earlier.started, earlier.input, attempt.origin IS NOT NULL, count(*) FROM outcome"
    " JOIN attempt ON attempt.id = outcome.attempt JOIN batch AS earlier ON earlier.id = attempt.batch"
    " WHERE outcome.batch = :batch AND (earlier.id < :batch OR attempt.origin IS NOT NULL)"
    " AND (:number IS NULL OR number = :number) GROUP BY 1, 4 ORDER BY 1 DESC, 4"
)


class Origin(msgspec.Struct, frozen=True):
    """The batch that sent what rows of a later one show, its sheet, when it began (UTC), and how many rows those are.

    `elsewhere`: they ran in another journal, and it was this batch that took them over.
    """

    batch: int
    started: str
    sheet: str
    elsewhere: bool
    rows: int

    @property
    def words(self) -> str:
        """The night and the sheet."""
        where = "another journal, taken over on " if self.elsewhere else ""
        return f"{where}{local_day(self.started)}, {Path(self.sheet).name}, batch {self.batch}"


def origins(connection: sqlite3.Connection, batch: int, number: int | None = None) -> tuple[Origin, ...]:
    """Where the outcomes come from that a batch, or one row of it, has carried over; the latest batch first."""
    found = connection.execute(_ORIGINS, {"batch": batch, "number": number}).fetchall()
    return tuple(Origin(one, began, sheet, bool(elsewhere), rows) for one, began, sheet, elsewhere, rows in found)


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


def describe_shared_keys(rows: int) -> str | None:
    """A warning where so many rows of a sheet share their key with others."""
    if not rows:
        return None
    return (
        f"{rows} rows share their key with another: one that stays as it was keeps its outcome wherever it stands, "
        "but those that are edited are told apart by their order only; choose a --key that is each row's own"
    )


def describe_unclaimed(here: int, there: Mapping[Path, int]) -> tuple[str, ...]:
    """A sentence for each journal with rows of which no sheet has told so far what makes them unique."""
    told = (
        f"{path}: rows that ran in this journal, and of which it isn't known what makes them unique: {rows}; "
        "--unique can't know them until their own sheet runs with it once"
        for path, rows in there.items()
    )
    if not here:
        return tuple(told)
    ran = f"rows that ran before, but are not in the sheet as they were then: {here}; --unique can't know them"
    return (ran, *told)


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


_LAST_PLACED = "SELECT coalesce(max(number), 0) FROM place WHERE batch = ?"
_REST = (
    " FROM ahead LEFT JOIN twin USING (number) WHERE number > :placed AND number <= (SELECT max(number) FROM chosen)"
    " AND (twin.number IS NULL OR twin.row IS NOT NULL)"
    " AND number NOT IN (SELECT number FROM renamed WHERE :is_text OR is_doubtful)"
)
"""Whose row is certain: not that of a new twin, nor of one in doubt, or with another form of its key in a text file."""
_ADD_ROWS = f"INSERT OR IGNORE INTO row (key, nth) SELECT key, 1{_REST} AND twin.number IS NULL"
_LAST_PARAMS = "(SELECT params FROM sent WHERE sent.row = found.row ORDER BY id DESC LIMIT 1)"
_PLACE_REST = (
    "INSERT INTO place (batch, number, row, params, takes_part, refusal)"  # noqa: S608  no values stand in it
    " SELECT :batch, number, row, params, takes_part,"
    f" iif(takes_part AND refusal IS NOT NULL AND {_LAST_PARAMS} IS NULL, refusal, NULL) FROM (SELECT number,"
    " coalesce(twin.row, (SELECT id FROM row WHERE row.key = ahead.key AND nth = 1)) AS row, params, refusal, bare,"
    f" number IN (SELECT number FROM chosen) AS takes_part{_REST}) AS found"
    f" WHERE NOT (coalesce({_LAST_PARAMS}, params) <> params AND (:is_strict OR bare IS NOT NULL"
    " OR EXISTS (SELECT 1 FROM sent WHERE sent.row = found.row AND length(sent.sent) > 16)"
    " OR EXISTS (SELECT 1 FROM sent WHERE sent.row = found.row AND sent.params = found.params)))"
    " AND NOT (:first < :batch AND EXISTS (SELECT 1 FROM place AS other WHERE other.row = found.row"
    " AND other.batch >= :first AND other.batch < :batch AND other.params <> found.params))"
)
"""Without those that ran with other values or currencies, or that another sheet of this night has with others."""
_COUNT_CARRIED = (
    "SELECT count(*) FROM outcome JOIN attempt ON attempt.id = outcome.attempt"
    " WHERE outcome.batch = :batch AND number > :placed AND ended_at IS NOT NULL"
)
_UNPLACED = (
    "SELECT number FROM chosen WHERE NOT EXISTS"
    " (SELECT 1 FROM place WHERE place.batch = :batch AND place.number = chosen.number)"
)


def place_rest(
    connection: sqlite3.Connection, batch: int, first: int, numbers: Iterable[int], *, is_text: bool, is_strict: bool
) -> tuple[int, list[int]]:
    """Place all rows at once that were seen and have no place yet, with no plan for them: none of them is started.

    The night's batches are those from `first` on, `numbers` those of the rows that take part. `is_text` says that the
    sheet is a text file and `is_strict` that an edited row may come to another outcome than its last. Gives how many
    had ended before, and the numbers of those left over, which only `Registration.register` can place.
    """
    (placed,) = connection.execute(_LAST_PLACED, (batch,)).fetchone()
    named = {"batch": batch, "first": first, "placed": placed, "is_text": is_text, "is_strict": is_strict}
    connection.executemany("INSERT OR IGNORE INTO chosen VALUES (?)", ((number,) for number in numbers))
    connection.execute(_ADD_ROWS, named)
    connection.execute(_PLACE_REST, named)
    (carried,) = connection.execute(_COUNT_CARRIED, named).fetchone()
    return carried, [number for (number,) in connection.execute(_UNPLACED, named)]


def register_rest(
    connection: sqlite3.Connection, batch: int, first: int, info: BatchInfo, numbers: Iterable[int]
) -> tuple[int, list[int]]:
    """As `place_rest`, for what the batch asks of its rows."""
    policy, (is_said,) = info.policy, connection.execute("SELECT EXISTS (SELECT 1 FROM same)").fetchone()
    is_strict = bool(policy.watched or policy.ignore or is_said)
    is_text = info.input.lower().endswith(TEXT_ENDINGS)
    return place_rest(connection, batch, first, numbers, is_text=is_text, is_strict=is_strict)
