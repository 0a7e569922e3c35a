-- What must survive a kill. Times are milliseconds since the epoch. No secret is ever stored here.

CREATE TABLE instance (
    -- One row. Makes transaction ids differ between databases that share an account.
    id TEXT NOT NULL
) STRICT;
INSERT INTO instance (id) VALUES (lower(hex(randomblob(8))));

CREATE TABLE marker (
    -- The newest event of an admin room that reached the inbox: catching up reads back to it.
    room_id TEXT PRIMARY KEY NOT NULL,
    event_id TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE inbox (
    -- Events that may ask something of the bot. The event id is the key: accepted once.
    event_id TEXT PRIMARY KEY NOT NULL,
    seq INTEGER NOT NULL,
    room_id TEXT NOT NULL,
    sender TEXT NOT NULL,
    sent_at INTEGER NOT NULL,          -- by the sender's server
    kind TEXT NOT NULL,                -- JSON: message, reaction or invitation
    handled_at INTEGER                 -- NULL: still to be handled
) STRICT, WITHOUT ROWID;
CREATE INDEX inbox_open ON inbox (seq) WHERE handled_at IS NULL;

CREATE TABLE job (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    command_event TEXT NOT NULL UNIQUE, -- one command makes one job
    admin_room TEXT NOT NULL,
    old_room TEXT NOT NULL,
    request TEXT NOT NULL,             -- JSON: who asked for what
    state TEXT NOT NULL,               -- an index on the fold of the log, not the truth
    due_at INTEGER,                    -- when the worker is to look at it; NULL: not by itself
    created_at INTEGER NOT NULL
) STRICT;
-- Never two at work on one room.
CREATE UNIQUE INDEX job_active_room ON job (old_room) WHERE state IN ('running', 'stuck');
CREATE INDEX job_due ON job (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE job_log (
    -- Append-only; the state of a job is a fold over its rows.
    job_id INTEGER NOT NULL REFERENCES job (id),
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    entry TEXT NOT NULL,               -- JSON
    PRIMARY KEY (job_id, seq)
) STRICT, WITHOUT ROWID;

CREATE TABLE snapshot (
    -- The old room as it was when its job began.
    job_id INTEGER PRIMARY KEY REFERENCES job (id),
    body TEXT NOT NULL                 -- JSON
) STRICT;

CREATE TABLE outbox (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,          -- what the message is for: posted once
    room_id TEXT NOT NULL,
    post TEXT NOT NULL,                -- JSON: what is to be in the room
    txn TEXT NOT NULL,                 -- stored before the first try, so that a repeat is harmless
    revision INTEGER NOT NULL DEFAULT 0,
    sent_revision INTEGER,             -- NULL: not sent yet
    event_id TEXT,
    attempts INTEGER NOT NULL DEFAULT 0,
    due_at INTEGER                     -- NULL: nothing to send
) STRICT;
CREATE INDEX outbox_due ON outbox (due_at, id) WHERE due_at IS NOT NULL;
CREATE INDEX outbox_event ON outbox (event_id) WHERE event_id IS NOT NULL;
