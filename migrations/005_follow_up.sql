-- Who has moved: the members of rooms whose upgrade has a follow-up, kept up by sync.
CREATE TABLE follow_up (
    job_id INTEGER PRIMARY KEY REFERENCES job (id),
    old_room TEXT NOT NULL,
    new_room TEXT NOT NULL,
    looked INTEGER NOT NULL DEFAULT -1 -- changes of both rooms when it was last looked at
) STRICT;

CREATE TABLE followed_room (
    room_id TEXT PRIMARY KEY NOT NULL,
    changes INTEGER NOT NULL DEFAULT 0, -- counts what sync told of its members
    gaps INTEGER NOT NULL DEFAULT 1,    -- counts moments from which sync may not have told all
    gaps_read INTEGER NOT NULL DEFAULT 0 -- as many were closed by reading the whole list
) STRICT, WITHOUT ROWID;

CREATE TABLE member (
    room_id TEXT NOT NULL REFERENCES followed_room (room_id) ON DELETE CASCADE,
    user_id TEXT NOT NULL,
    presence TEXT NOT NULL,            -- JSON: joined, invited, left and so on
    joined_at INTEGER,                 -- when they came last; NULL: never seen there
    change INTEGER NOT NULL,           -- the change of the room that told this
    PRIMARY KEY (room_id, user_id)
) STRICT, WITHOUT ROWID;
