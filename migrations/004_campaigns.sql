-- A campaign: the upgrades of one space's rooms, asked for and confirmed as one.
CREATE TABLE campaign (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    command_event TEXT NOT NULL UNIQUE, -- one command makes one campaign
    admin_room TEXT NOT NULL,
    space TEXT NOT NULL,
    request TEXT NOT NULL,             -- JSON: who asked for what
    state TEXT NOT NULL,               -- an index on the fold of the log, not the truth
    due_at INTEGER,                    -- when the worker is to look at it; NULL: not by itself
    woken INTEGER NOT NULL DEFAULT 0,  -- counts reasons to look, so that none gets lost during a look
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX campaign_due ON campaign (due_at) WHERE due_at IS NOT NULL;

CREATE TABLE campaign_log (
    campaign_id INTEGER NOT NULL REFERENCES campaign (id),
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    entry TEXT NOT NULL,               -- JSON
    PRIMARY KEY (campaign_id, seq)
) STRICT, WITHOUT ROWID;

-- The campaign that a job is part of.
ALTER TABLE job ADD COLUMN campaign_id INTEGER REFERENCES campaign (id);
CREATE INDEX job_campaign ON job (campaign_id) WHERE campaign_id IS NOT NULL;
-- JSON: what lists show of the job, as `state` an index on the log. NULL: no entry since 003.
ALTER TABLE job ADD COLUMN summary TEXT;
-- When the log last grew: later than now means that the clock was set back.
ALTER TABLE job ADD COLUMN touched_at INTEGER NOT NULL DEFAULT 0;
