"""The tables of kept runs, written for a person with the sqlite3 shell (`.schema`, `SELECT * FROM run`)."""

from __future__ import annotations

APPLICATION_ID = 0x62725231
"""`brR1`, in the file's header (SQLite file format, section 1.3.15): says whose file this is."""

VERSION = 1
"""The schema's own, in the header's `user_version`."""

SCHEMA = """\
-- The runs of batch-runner serve: each run that was started, and what it came to.
-- Times are UTC (ISO 8601). Params are not kept: what was asked for stands here as a hash only.

CREATE TABLE memory (             -- one row: what this file knows
    id      TEXT NOT NULL,        -- its name; a new file has another, so that a client sees that keys were forgotten
    since   TEXT NOT NULL,        -- every run that was started since then is in here
    version TEXT NOT NULL,        -- of the batch-runner that holds it, or held it last
    pid     INTEGER NOT NULL,     -- its process
    opened  TEXT NOT NULL         -- since when
);

CREATE TABLE run (
    number  INTEGER PRIMARY KEY,
    run_id  TEXT NOT NULL UNIQUE,
    key     TEXT UNIQUE,          -- the Idempotency-Key of its start, if it had one
    asked   BLOB NOT NULL,        -- hash of the task's id and the start's body
    task    TEXT NOT NULL,
    session_id TEXT,
    status  TEXT NOT NULL,        -- queued, running: until its end is known
    started TEXT NOT NULL,        -- on disk before the start was answered
    began   TEXT,                 -- on disk before its task began; empty: it has not
    ended   TEXT,
    error   TEXT
);
CREATE INDEX run_ended ON run (ended);

CREATE TABLE result (             -- what a run gave back: JSON, to the letter
    run  INTEGER PRIMARY KEY REFERENCES run,
    json TEXT NOT NULL
);
"""
