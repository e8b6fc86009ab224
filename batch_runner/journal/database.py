"""The journal's file and its tables: made whole or not at all, and checked before it is trusted."""

from __future__ import annotations

import os
import sqlite3
import time
import uuid
from contextlib import closing, suppress
from typing import TYPE_CHECKING

from batch_runner.errors import DAMAGED, FIX_THAT, NEXT_STEP, JournalError, cant_be_read, cant_be_written, half_journal
from batch_runner.fs import replace_file, sync_folder
from batch_runner.journal.group_commit import WAL_HEADER, is_put_in, kept_wal, mark_whole
from batch_runner.journal.same_key import make_temporary

if TYPE_CHECKING:
    from pathlib import Path, PurePath


APPLICATION_ID = 0x62724A31
"""`brJ1`, in the file's header (SQLite file format, section 1.3.15): says whose file this is."""

VERSION = 4
"""The schema's own, in the header's `user_version`. A lower one is brought up to it, a higher one is refused."""

TABLES = """\
-- The journal of batch-runner: what was sent for each row of a sheet, and what came back, over all nights.
-- Times are UTC (ISO 8601). Params and keys stand here as hashes only. Try: SELECT * FROM outcome;

CREATE TABLE about (              -- one row: this journal
    uuid TEXT NOT NULL,           -- of it and an attempt's number earlier versions made the key of a start
    under_way INTEGER NOT NULL DEFAULT 0, -- a batch writes to it: the inode of its WAL, or 1 where nobody kept that
    told INTEGER NOT NULL DEFAULT 0 -- 1: somebody was told that no index knows this journal
);

CREATE TABLE batch (              -- one execution of batch-runner over a sheet
    id           INTEGER PRIMARY KEY,
    continues    INTEGER NOT NULL,-- the batch that was interrupted first and goes on here; itself if none was
    started      TEXT NOT NULL,
    ended        TEXT,            -- empty: it is running, or was killed
    exit_code    INTEGER,         -- 0, 3 and 4: it got through the whole sheet
    input        TEXT NOT NULL,
    input_sha256 TEXT NOT NULL,
    output       TEXT NOT NULL,
    task         TEXT NOT NULL,
    service      TEXT NOT NULL,
    key_columns  TEXT NOT NULL,   -- a JSON list; empty: all params are the key
    retry        TEXT NOT NULL,   -- which outcomes were to be run again, separated by commas
    on_unknown   TEXT NOT NULL,   -- report, or resend
    version      TEXT NOT NULL,   -- of batch-runner
    pid          INTEGER NOT NULL,
    series       TEXT NOT NULL DEFAULT '',   -- what its input is one night's of; empty: the input itself
    memory       TEXT,            -- whose service knew the starts of this batch by their keys; empty: none did
    command      TEXT NOT NULL DEFAULT '',   -- the same for all sheets of one command; empty: it had but this one
    sheets_left  TEXT NOT NULL DEFAULT '[]', -- a JSON list: of its command, what had not begun when it ended
    whole_sheet  INTEGER NOT NULL DEFAULT 1, -- 0: only some rows of the sheet have a place in it
    unique_columns   TEXT NOT NULL DEFAULT '[]', -- a JSON list: two rows that are alike in these are duplicates
    conflict_columns TEXT NOT NULL DEFAULT '[]', -- a JSON list: what a duplicate may not differ in either
    start_key    TEXT             -- random: with an attempt's number it makes the Idempotency-Key of its start
);

CREATE TABLE row (                -- a row of the sheet, known by its key wherever it stands tonight
    id  INTEGER PRIMARY KEY,
    key BLOB NOT NULL,            -- hash of its key columns (or of all its params)
    nth INTEGER NOT NULL,         -- tells rows with the same key apart, in the order in which they came
    UNIQUE (key, nth)
);

CREATE TABLE alias (              -- other forms of a row's key, as other sheets have it; after `? ` what may be one
    key BLOB NOT NULL,
    row INTEGER NOT NULL REFERENCES row,
    PRIMARY KEY (key, row)
) WITHOUT ROWID;

CREATE TABLE place (              -- where a row stood in the sheet of one batch
    batch   INTEGER NOT NULL REFERENCES batch,
    number  INTEGER NOT NULL,     -- as Excel shows it
    row     INTEGER REFERENCES row, -- empty: a cell of its key could not be read
    params  BLOB NOT NULL,        -- hash of the values of what would be sent for it
    takes_part INTEGER NOT NULL,  -- 0: left out of this batch; it only holds its place among equal keys
    refusal TEXT,                 -- why nothing can be sent for it
    held    TEXT,                 -- parked: retried often enough; else what it is ran already: the kind of hold
    attempt INTEGER,              -- what it ran as before with these values; empty: what was sent last for the row
    PRIMARY KEY (batch, number)
) WITHOUT ROWID;
CREATE INDEX place_row ON place (row, batch);

CREATE TABLE attempt (            -- one try to start a run for a row
    id          INTEGER PRIMARY KEY,
    row         INTEGER NOT NULL REFERENCES row,
    batch       INTEGER NOT NULL REFERENCES batch, -- the one that sent it; a later one may have seen its end
    params      BLOB NOT NULL,    -- hash of the values of what was sent
    posts       INTEGER NOT NULL, -- how often it was sent; again only after a certain "no run was started"
    intended_at TEXT NOT NULL,    -- on disk before the first byte was sent
    status      TEXT NOT NULL,    -- starting, the service's word, error, unknown; not_started: certainly no run
    run_id      TEXT,             -- with starting, empty: the answer is awaited, or was lost
    started_at  TEXT,             -- when the run id was known
    ended_at    TEXT,             -- empty: its end is not known yet
    error       TEXT,
    claim       BLOB,             -- hash of its unique columns; empty: they are empty; NULL: not known
    conflict    BLOB,             -- hash of its conflict columns
    cells       BLOB,             -- for each column a hash of its name and one of its text, to tell what differs
    sent        BLOB,             -- hash of the very texts that were sent; empty: params is that, too; then, where
                                  -- amounts named currencies, the hash of the values without these
    origin      TEXT,             -- of a run that another journal has: which sheet, night and row it was
    session_id  TEXT              -- in which session the run is, as the service told it
);
CREATE INDEX attempt_row ON attempt (row);
CREATE INDEX attempt_run ON attempt (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX attempt_claim ON attempt (claim) WHERE claim IS NOT NULL;

CREATE TABLE result (             -- what a run gave back: JSON, to the letter
    attempt INTEGER PRIMARY KEY REFERENCES attempt,
    json    TEXT NOT NULL        -- a long one as bytes (UTF-8), which can be written and read in pieces
);

CREATE TABLE same (               -- the row, with these params or under this `key `, is what ran: as --same said
    row    INTEGER NOT NULL REFERENCES row,
    params BLOB NOT NULL,
    batch  INTEGER NOT NULL REFERENCES batch,
    PRIMARY KEY (row, params)
) WITHOUT ROWID;

CREATE TABLE resolution (         -- what a person found out about an attempt that was unknown
    attempt INTEGER NOT NULL REFERENCES attempt,
    was     TEXT NOT NULL,        -- the status before
    status  TEXT NOT NULL,        -- the one that the person gave it
    note    TEXT NOT NULL,
    who     TEXT NOT NULL,
    at      TEXT NOT NULL
);

CREATE TABLE output (             -- an output as it was written, noted just before it took its place
    batch  INTEGER NOT NULL REFERENCES batch,
    path   TEXT NOT NULL,         -- where it was to go
    sha256 TEXT NOT NULL,         -- of its bytes
    cells  BLOB NOT NULL,         -- hash of all cells of ours in it, in whatever order
    own    TEXT NOT NULL,         -- JSON lists of its headers: those of the sheet,
    ours   TEXT NOT NULL,         -- our four and those of --expand,
    hers   TEXT NOT NULL          -- and those that a person had added to the output before
);

CREATE TABLE told (batch INTEGER PRIMARY KEY REFERENCES batch, json TEXT NOT NULL -- said at its end
);
"""

OUTCOME_VIEW = """\
CREATE VIEW outcome AS            -- what each row of each batch came to: the last attempt that may have started a run
SELECT place.batch, place.number,
       CASE WHEN attempt.id IS NULL THEN iif(place.refusal IS NULL, 'not_started', 'error')
            WHEN is_held THEN 'error'
            WHEN attempt.run_id IS NULL AND attempt.ended_at IS NULL THEN 'unknown'
            ELSE attempt.status END AS status,
       iif(is_held, NULL, attempt.run_id) AS run_id,
       iif(is_held, NULL, CAST(result.json AS TEXT)) AS result,
       CASE WHEN attempt.id IS NULL OR is_held THEN place.refusal
            WHEN attempt.run_id IS NULL AND attempt.ended_at IS NULL
            THEN 'a start was sent and its answer was lost: a run may exist'
            ELSE attempt.error END AS error,
       (attempt.params <> place.params) * (1 + is_same) AS changed, -- 1: the row was edited after it was sent;
                                  -- 2: it ran with other values, and a person said that it is the same (--same)
       attempt.id AS attempt,
       place.row
FROM (SELECT *, refusal IS NOT NULL AND held IS NOT NULL AND held <> 'duplicate' AS is_held,
             EXISTS (SELECT 1 FROM same WHERE same.row = place.row AND same.params = place.params) AS is_same
      FROM place) AS place
LEFT JOIN attempt ON attempt.id = (
    SELECT max(id) FROM attempt AS sent
    WHERE sent.row = place.row AND sent.batch <= place.batch AND NOT (status = 'not_started' AND run_id IS NULL)
    AND (place.attempt IS NULL OR sent.id = place.attempt OR sent.batch = place.batch))
LEFT JOIN result ON result.attempt = attempt.id
WHERE place.takes_part;
"""
SCHEMA = TABLES + OUTCOME_VIEW

FROM_1_TO_2 = """\
CREATE TABLE about (uuid TEXT NOT NULL);
ALTER TABLE batch ADD COLUMN series TEXT NOT NULL DEFAULT '';
ALTER TABLE batch ADD COLUMN memory TEXT;
ALTER TABLE batch ADD COLUMN command TEXT NOT NULL DEFAULT '';
ALTER TABLE batch ADD COLUMN whole_sheet INTEGER NOT NULL DEFAULT 1;
ALTER TABLE batch ADD COLUMN unique_columns TEXT NOT NULL DEFAULT '[]';
ALTER TABLE batch ADD COLUMN conflict_columns TEXT NOT NULL DEFAULT '[]';
ALTER TABLE place ADD COLUMN held TEXT;
ALTER TABLE attempt ADD COLUMN claim BLOB;
ALTER TABLE attempt ADD COLUMN conflict BLOB;
CREATE INDEX attempt_claim ON attempt (claim) WHERE claim IS NOT NULL;
CREATE TABLE resolution (attempt INTEGER NOT NULL REFERENCES attempt, was TEXT NOT NULL, status TEXT NOT NULL,
    note TEXT NOT NULL, who TEXT NOT NULL, at TEXT NOT NULL);
"""
FROM_2_TO_3 = """\
ALTER TABLE about ADD COLUMN under_way INTEGER NOT NULL DEFAULT 0;
ALTER TABLE about ADD COLUMN told INTEGER NOT NULL DEFAULT 0;
ALTER TABLE attempt ADD COLUMN cells BLOB;
ALTER TABLE batch ADD COLUMN sheets_left TEXT NOT NULL DEFAULT '[]';
ALTER TABLE attempt ADD COLUMN sent BLOB;
ALTER TABLE attempt ADD COLUMN origin TEXT;
ALTER TABLE attempt ADD COLUMN session_id TEXT;
ALTER TABLE batch ADD COLUMN start_key TEXT;
CREATE INDEX attempt_run ON attempt (run_id) WHERE run_id IS NOT NULL;
CREATE TABLE alias (key BLOB NOT NULL, row INTEGER NOT NULL REFERENCES row, PRIMARY KEY (key, row)) WITHOUT ROWID;
CREATE TABLE same (row INTEGER NOT NULL REFERENCES row, params BLOB NOT NULL,
    batch INTEGER NOT NULL REFERENCES batch, PRIMARY KEY (row, params)) WITHOUT ROWID;
CREATE TABLE output (batch INTEGER NOT NULL REFERENCES batch, path TEXT NOT NULL, sha256 TEXT NOT NULL,
    cells BLOB NOT NULL, own TEXT NOT NULL, ours TEXT NOT NULL, hers TEXT NOT NULL);
"""
FROM_3_TO_4 = f"""\
CREATE TABLE told (batch INTEGER PRIMARY KEY REFERENCES batch, json TEXT NOT NULL);
ALTER TABLE place ADD COLUMN attempt INTEGER;
DROP VIEW outcome;
{OUTCOME_VIEW}"""


def steps_from(version: int) -> str:
    """What brings a journal of an earlier version up to this one."""
    return " ".join((FROM_1_TO_2, FROM_2_TO_3, FROM_3_TO_4)[version - 1 :])


LOST = "a start was sent and its answer was lost: a run may exist"
"""The error of an attempt without an answer, as in the view `outcome`."""

_SENT = "CREATE TEMP VIEW sent AS SELECT * FROM attempt WHERE NOT (run_id IS NULL AND status = 'not_started')"
"""The attempts that count: one that was withdrawn certainly made no run. It is each connection's own, so that journals
of every version have it."""

_CHECKED = ("about", "batch", "row", "place", "attempt")
"""Tables that are checked before each batch, against their indexes too: a key that was altered on disk would make its
row a new one, and send it again. It takes 2 s for a million rows. `result` is only ever read for the output."""

ENDING_SECONDS = 0.5
"""How long a batch takes at most to put its WAL into its journal, at its end."""

_DAMAGE = (sqlite3.Error, MemoryError, UnicodeDecodeError)
"""What sqlite3 raises for a file whose bytes make no sense."""


def open_file(path: Path, mode: int = 0o600) -> sqlite3.Connection:
    """A connection that may write, to the journal at `path`, which is made with these permissions if there is none.

    The caller holds its lock. Raises `JournalError` for a file that is damaged, empty, newer or something else, and
    where it can't be made.
    """
    try:
        if not path.exists():
            _create(path, mode)
        connection = connect(uri_of(path))
    except (sqlite3.Error, OSError) as error:
        raise JournalError(f"{path}: the journal can't be opened: {error}; {FIX_THAT}") from error
    try:
        _check(path, connection)
        _set_up(path, connection)
        _bring_up(path, connection)
    except BaseException:
        connection.close()
        raise
    return connection


def open_memory() -> sqlite3.Connection:
    """A journal that is gone when it is closed."""
    connection = connect(":memory:")
    connection.executescript(SCHEMA + _SENT)
    _name(connection)
    make_temporary(connection)
    return connection


def copy_journal(path: Path) -> sqlite3.Connection:
    """What the journal at `path` holds, in a file of SQLite's own that is gone when it is closed."""
    connection = connect("")
    try:
        with closing(connect(reading_uri(path))) as original:
            check_header(path, original)
            refuse_half(path, original)
            original.backup(connection)
        _bring_up(path, connection)
        connection.execute(_SENT)
        make_temporary(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def reading_uri(path: Path) -> str:
    """For looking only. Without a WAL nothing is pending, and `immutable` keeps SQLite from creating one."""
    return uri_of(path.resolve(), "mode=ro" if path.with_name(f"{path.name}-wal").exists() else "immutable=1")


def uri_of(path: PurePath, mode: str = "mode=rw") -> str:
    """The URI of a database. SQLite takes no host in it, so the name of a Windows share is part of the path."""
    uri = path.as_uri()
    return f"{uri if uri.startswith('file:///') else uri.replace('file://', 'file:////', 1)}?{mode}"


def connect(uri: str) -> sqlite3.Connection:
    """A connection without Python's implicit transactions, for use by one thread at a time."""
    return sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=5)


def check_header(path: Path, connection: sqlite3.Connection) -> None:
    """Raise `JournalError` unless the file is a journal that this version can read."""
    try:
        ours = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
    except _DAMAGE as error:
        raise cant_be_read(path, error) from error
    if ours != APPLICATION_ID:
        raise JournalError(f"{path}: this file is no journal of batch-runner; give the path of a journal")
    if not 1 <= version <= VERSION:
        raise JournalError(
            f"{path}: this journal has version {version}, and this batch-runner knows version {VERSION}; "
            "use the batch-runner that wrote it, or a newer one"
        )


def refuse_half(path: Path, connection: sqlite3.Connection) -> None:
    """Raise `JournalError` where a batch was under way, and its last events are in a WAL that isn't beside the file."""
    if connection.execute("PRAGMA user_version").fetchone()[0] < 3:
        return
    if _is_half(path, connection):
        time.sleep(ENDING_SECONDS)  # a batch may begin or end just now
        with closing(connect(reading_uri(path))) as again:
            if _is_half(path, again):
                is_certain = kept_wal(path, _under_way(again)) is not None
                raise half_journal(path, path.with_name(f"{path.name}-wal"), is_certain=is_certain)


def _is_half(path: Path, connection: sqlite3.Connection) -> bool:
    """Whoever opens the file makes an empty WAL; without a frame behind its header it says nothing."""
    under_way, wal = _under_way(connection), path.with_name(f"{path.name}-wal")
    if not under_way or (wal.exists() and wal.stat().st_size > WAL_HEADER):
        return False
    kept = kept_wal(path, under_way)
    return kept is None or not is_put_in(kept, path)


def _under_way(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT under_way FROM about").fetchone()[0])


def make_readable(connection: sqlite3.Connection) -> None:
    """Let a journal, opened for looking only, be read like one of this version, though it may be older."""
    connection.execute(_SENT)
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 1:
        connection.execute("CREATE TEMP TABLE resolution (attempt, was, status, note, who, at)")
    if version in (1, 2):
        connection.execute("CREATE TEMP TABLE alias (key, row)")
    if version < 3:
        connection.execute("CREATE TEMP VIEW attempt AS SELECT *, NULL AS session_id FROM main.attempt")


def _create(path: Path, mode: int) -> None:
    """Make it under another name first, so that a kill leaves either no journal or a whole one."""
    wal = path.with_name(f"{path.name}-wal")
    if wal.exists() and wal.stat().st_size > WAL_HEADER:
        raise JournalError(f"{path}: the journal is gone, but {wal.name} holds a part of it; {NEXT_STEP}")
    new = path.with_name(f"{path.name}-new")
    new.unlink(missing_ok=True)
    os.close(os.open(new, os.O_CREAT | os.O_WRONLY, 0o600))  # results are nobody else's to read, not for a moment
    with closing(connect(uri_of(new, "mode=rwc"))) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        connection.executescript(f"BEGIN; {SCHEMA} COMMIT")
        _name(connection)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")
        connection.execute("PRAGMA journal_mode = WAL")
    with suppress(OSError):  # as of an output: some mounts know no permissions
        new.chmod(mode)
    replace_file(new, path)
    sync_folder(path.parent)


def _check(path: Path, connection: sqlite3.Connection) -> None:
    if path.stat().st_size == 0:
        raise JournalError(f"{path}: the journal is empty, so what was sent is not known; {NEXT_STEP}")
    check_header(path, connection)
    try:
        refuse_half(path, connection)
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        found = [
            problem
            for table in _CHECKED
            if version > 1 or table != "about"
            for (problem,) in connection.execute(f"PRAGMA integrity_check({table})")
            if problem != "ok"
        ]
    except _DAMAGE as error:
        if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF not in DAMAGED:
            raise cant_be_read(path, error) from error
        found = [str(error)]
    if found:
        raise JournalError(f"{path}: the journal is damaged ({found[0]}); {NEXT_STEP}")


def _set_up(path: Path, connection: sqlite3.Connection) -> None:
    try:
        mode = connection.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 4000")  # pages of 4 KiB: seldom enough to cost little
        connection.execute("PRAGMA journal_size_limit = 67108864")  # 64 MiB of WAL at most stay on disk
        connection.execute("PRAGMA cache_size = -32768")  # 32 MiB: negative means KiB
        connection.execute(_SENT)
        make_temporary(connection)
    except sqlite3.Error as error:
        raise JournalError(f"{path}: the journal can't be used: {error}; {FIX_THAT}") from error
    if mode != "wal":
        raise JournalError(f"{path}: the file system has no shared memory for a journal; name one on a local disk")


def _bring_up(path: Path, connection: sqlite3.Connection) -> None:
    """Bring an older journal up to this version: whole, or not at all."""
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    try:
        if version == VERSION:
            mark_whole(connection)
            return
        connection.executescript(f"BEGIN IMMEDIATE; {steps_from(version)} PRAGMA user_version = {VERSION};")
        if version == 1:
            _name(connection)
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise cant_be_written(path, error) from error


def _name(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO about (uuid) VALUES (?)", (uuid.uuid4().hex,))
