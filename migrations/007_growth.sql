-- What is finished costs nothing: each question has an index that holds only what may be an answer.

CREATE INDEX inbox_seq ON inbox (seq);
DROP INDEX inbox_open;
CREATE INDEX inbox_open_command ON inbox (seq)
    WHERE handled_at IS NULL AND json_extract(kind, '$.type') IS NOT 'invitation';
CREATE INDEX inbox_open_invitation ON inbox (seq)
    WHERE handled_at IS NULL AND json_extract(kind, '$.type') IS 'invitation';
CREATE INDEX inbox_invitation ON inbox (room_id, sender)
    WHERE json_extract(kind, '$.type') = 'invitation';

CREATE INDEX job_room ON job (old_room);
CREATE INDEX job_new_room ON job (json_extract(summary, '$.new_room'));
CREATE INDEX job_waiting_since ON job (touched_at) WHERE due_at IS NOT NULL;
CREATE INDEX job_listed ON job (admin_room, campaign_id);
CREATE INDEX job_open ON job (admin_room) WHERE campaign_id IS NULL
    AND state IN ('planning', 'planned', 'running', 'in_review', 'unwinding', 'stuck');

CREATE INDEX campaign_listed ON campaign (admin_room);
CREATE INDEX campaign_open ON campaign (admin_room)
    WHERE state IN ('finding', 'planning', 'planned', 'running');
CREATE INDEX campaign_unconfirmed ON campaign (space)
    WHERE state IN ('finding', 'planning', 'planned');

CREATE INDEX admin_room_came ON admin_room_moved (new_room);

-- What is to be sent in a room, in its order; what of it is due; and new posts that were tried in vain,
-- which hold up those behind them: see HOLDS_UP_TRIES.
CREATE INDEX outbox_room ON outbox (room_id, id) WHERE due_at IS NOT NULL;
CREATE INDEX outbox_room_due ON outbox (room_id, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX outbox_in_the_way ON outbox (room_id, id)
    WHERE due_at IS NOT NULL AND event_id IS NULL AND attempts BETWEEN 1 AND 5;

-- Counts for those who watch over the bot, kept up by the triggers below.
CREATE TABLE tally (
    what TEXT PRIMARY KEY NOT NULL,    -- the state of jobs; 'unsent' posts
    count INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO tally SELECT state, count(*) FROM job GROUP BY state;
INSERT INTO tally SELECT 'unsent', count(*) FROM outbox WHERE due_at IS NOT NULL;

CREATE TRIGGER job_comes AFTER INSERT ON job BEGIN
    INSERT INTO tally VALUES (NEW.state, 1) ON CONFLICT (what) DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER job_changes AFTER UPDATE OF state ON job WHEN OLD.state <> NEW.state BEGIN
    UPDATE tally SET count = count - 1 WHERE what = OLD.state;
    INSERT INTO tally VALUES (NEW.state, 1) ON CONFLICT (what) DO UPDATE SET count = count + 1;
END;
CREATE TRIGGER job_goes AFTER DELETE ON job BEGIN
    UPDATE tally SET count = count - 1 WHERE what = OLD.state;
END;
CREATE TRIGGER post_comes AFTER INSERT ON outbox WHEN NEW.due_at IS NOT NULL BEGIN
    UPDATE tally SET count = count + 1 WHERE what = 'unsent';
END;
CREATE TRIGGER post_changes AFTER UPDATE OF due_at ON outbox
    WHEN (OLD.due_at IS NULL) <> (NEW.due_at IS NULL) BEGIN
    UPDATE tally SET count = count + iif(NEW.due_at IS NULL, -1, 1) WHERE what = 'unsent';
END;
CREATE TRIGGER post_goes AFTER DELETE ON outbox WHEN OLD.due_at IS NOT NULL BEGIN
    UPDATE tally SET count = count - 1 WHERE what = 'unsent';
END;

-- Whether members changed since a follow-up was last looked at; it replaces the counting in `looked`.
ALTER TABLE follow_up ADD COLUMN restless INTEGER NOT NULL DEFAULT 1;
ALTER TABLE follow_up DROP COLUMN looked;
CREATE INDEX follow_up_restless ON follow_up (job_id) WHERE restless;
CREATE INDEX follow_up_old ON follow_up (old_room);
CREATE INDEX follow_up_new ON follow_up (new_room);

-- Moments from which sync may have told of no room all: counted once, not in each room.
CREATE TABLE gap_everywhere (
    count INTEGER NOT NULL
) STRICT;
INSERT INTO gap_everywhere VALUES (0);

-- What is over goes after a while: when each last changed, and what has gone.
UPDATE job SET touched_at = coalesce((SELECT max(at) FROM job_log WHERE job_id = id), created_at)
    WHERE touched_at = 0;
CREATE INDEX job_over ON job (touched_at) WHERE due_at IS NULL AND campaign_id IS NULL
    AND state IN ('done', 'closed', 'cancelled', 'expired', 'failed');

ALTER TABLE campaign ADD COLUMN touched_at INTEGER NOT NULL DEFAULT 0;
UPDATE campaign SET touched_at =
    coalesce((SELECT max(at) FROM campaign_log WHERE campaign_id = id), created_at);
CREATE INDEX campaign_over ON campaign (touched_at) WHERE due_at IS NULL
    AND state IN ('done', 'closed', 'cancelled', 'expired');

-- When nothing was left to send. Of older rows: not later than the last thing that happened.
ALTER TABLE outbox ADD COLUMN settled_at INTEGER;
UPDATE outbox SET settled_at = (SELECT coalesce(max(at), 0) FROM job_log) WHERE due_at IS NULL;
CREATE INDEX outbox_settled ON outbox (settled_at) WHERE due_at IS NULL;

-- Tombstones stay: each start tells of them again.
CREATE INDEX inbox_over ON inbox (handled_at, seq)
    WHERE handled_at IS NOT NULL AND json_extract(kind, '$.type') <> 'tombstone';

CREATE TABLE pruned (
    -- Jobs and campaigns of which nothing else is left.
    kind TEXT NOT NULL,                -- job or campaign
    id INTEGER NOT NULL,
    admin_room TEXT NOT NULL,
    at INTEGER NOT NULL,               -- when they were removed
    PRIMARY KEY (kind, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX pruned_of_room ON pruned (admin_room, at);

CREATE TABLE inbox_pruned (
    -- One row. What was sent up to here was handled and may be gone: it is not accepted again.
    up_to INTEGER NOT NULL
) STRICT;
INSERT INTO inbox_pruned VALUES (-9223372036854775808);
