-- An admin room that was upgraded: the bot listens in the new one.
CREATE TABLE admin_room_moved (
    old_room TEXT PRIMARY KEY NOT NULL,
    new_room TEXT NOT NULL
) STRICT, WITHOUT ROWID;
