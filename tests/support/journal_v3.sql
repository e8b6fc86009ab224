-- The journal of batch-runner: what was sent for each row of a sheet, and what came back, over all nights.
-- Times are UTC (ISO 8601). Params and keys stand here as hashes only. Try: SELECT * FROM outcome;

CREATE TABLE about (              -- one row: this journal
    uuid TEXT NOT NULL,           -- of it and an attempt's number earlier versions made the key of a start
    under_way INTEGER NOT NULL DEFAULT 0, -- 1: a batch writes to it, so without its WAL it is half a journal
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

CREATE TABLE alias (              -- other forms of a row's key, such as that of its texts where another sheet has them
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
    sent        BLOB,             -- hash of the very texts that were sent; empty: params is that, too
    origin      TEXT,             -- of a run that another journal has: which sheet, night and row it was
    session_id  TEXT              -- in which session the run is, as the service told it
);
CREATE INDEX attempt_row ON attempt (row);
CREATE INDEX attempt_run ON attempt (run_id) WHERE run_id IS NOT NULL;
CREATE INDEX attempt_claim ON attempt (claim) WHERE claim IS NOT NULL;

CREATE TABLE result (             -- what a run gave back: JSON, to the letter
    attempt INTEGER PRIMARY KEY REFERENCES attempt,
    json    TEXT NOT NULL
);

CREATE TABLE same (               -- a person said that the row, with these params, is what ran (--same)
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

CREATE VIEW outcome AS            -- what each row of each batch came to: the last attempt that may have started a run
SELECT place.batch, place.number,
       CASE WHEN attempt.id IS NULL THEN iif(place.refusal IS NULL, 'not_started', 'error')
            WHEN is_held THEN 'error'
            WHEN attempt.run_id IS NULL AND attempt.ended_at IS NULL THEN 'unknown'
            ELSE attempt.status END AS status,
       iif(is_held, NULL, attempt.run_id) AS run_id,
       iif(is_held, NULL, result.json) AS result,
       CASE WHEN attempt.id IS NULL OR is_held THEN place.refusal
            WHEN attempt.run_id IS NULL AND attempt.ended_at IS NULL
            THEN 'a start was sent and its answer was lost: a run may exist'
            ELSE attempt.error END AS error,
       attempt.params <> place.params AS changed, -- 1: the row was edited after it was sent
       attempt.id AS attempt,
       place.row
FROM (SELECT *, refusal IS NOT NULL AND held IS NOT NULL AND held <> 'duplicate' AS is_held FROM place) AS place
LEFT JOIN attempt ON attempt.id = (
    SELECT max(id) FROM attempt AS sent
    WHERE sent.row = place.row AND sent.batch <= place.batch AND NOT (status = 'not_started' AND run_id IS NULL))
LEFT JOIN result ON result.attempt = attempt.id
WHERE place.takes_part;
