//! Members of rooms that are followed up: a list that was read once, kept up with what sync tells.
//!
//! Sync does not tell all of it (there are gaps, and the bot is not always there): each moment from
//! which something may be missing is counted, and the list is to be read again before it is used. What
//! sync told while a list was being read is newer than the list. Left out: what the members mean
//! (`room::moves`).

use std::collections::BTreeSet;

use jiff::Timestamp;
use ruma::{OwnedRoomId, OwnedUserId, RoomId};
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{Result, Store, column, from_millis, parsed};
use crate::model::JobId;
use crate::room::moves::{MemberEvent, MemberRecord, Seats};

/// A member list that has to be read, and up to where sync had told when that began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unread {
    changes: i64,
    gaps: i64,
}

/// Begins to follow the rooms of a job, with those who were in the old one when it began.
pub(super) fn follow(
    tx: &Transaction<'_>,
    now: Timestamp,
    job: JobId,
    rooms: [&RoomId; 2],
    members: &[OwnedUserId],
) -> Result<()> {
    let [old, new] = rooms;
    tx.execute(
        "INSERT INTO follow_up (job_id, old_room, new_room) VALUES (?1, ?2, ?3)
         ON CONFLICT (job_id) DO NOTHING",
        params![job.0, old.as_str(), new.as_str()],
    )?;
    for room in rooms {
        tx.execute(
            "INSERT INTO followed_room (room_id) VALUES (?1) ON CONFLICT (room_id) DO NOTHING",
            [room.as_str()],
        )?;
    }
    let mut seed = tx.prepare_cached(
        "INSERT INTO member (room_id, user_id, presence, joined_at, change)
         VALUES (?1, ?2, ?3, ?4, 0) ON CONFLICT DO NOTHING",
    )?;
    let presence = super::json(&MemberRecord::joined(now).presence)?;
    for user in members {
        seed.execute(params![
            old.as_str(),
            user.as_str(),
            presence,
            now.as_millisecond()
        ])?;
    }
    Ok(())
}

/// Forgets the rooms of a job, unless another one follows them.
pub(super) fn unfollow(tx: &Transaction<'_>, job: JobId) -> Result<()> {
    let rooms: Option<[String; 2]> = tx
        .query_row(
            "DELETE FROM follow_up WHERE job_id = ?1 RETURNING old_room, new_room",
            [job.0],
            |row| Ok([row.get(0)?, row.get(1)?]),
        )
        .optional()?;
    for room in rooms.iter().flatten() {
        tx.execute(
            "DELETE FROM followed_room WHERE room_id = ?1
             AND NOT EXISTS (SELECT 1 FROM follow_up WHERE old_room = ?1)
             AND NOT EXISTS (SELECT 1 FROM follow_up WHERE new_room = ?1)",
            [room],
        )?;
    }
    Ok(())
}

impl Store {
    /// Of some rooms, those whose members are of interest.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn followed_of<'a>(
        &self,
        rooms: impl Iterator<Item = &'a OwnedRoomId>,
    ) -> Result<BTreeSet<OwnedRoomId>> {
        self.read("read which rooms are followed", |db| {
            let mut query = db.prepare_cached("SELECT 1 FROM followed_room WHERE room_id = ?1")?;
            let mut followed = BTreeSet::new();
            for room in rooms {
                if query.exists([room.as_str()])? {
                    followed.insert(room.clone());
                }
            }
            Ok(followed)
        })
    }

    /// Whether the rooms of a job are followed.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn is_followed(&self, job: JobId) -> Result<bool> {
        self.read("read whether a job is followed", |db| {
            let mut query = db.prepare_cached("SELECT 1 FROM follow_up WHERE job_id = ?1")?;
            Ok(query.exists([job.0])?)
        })
    }

    /// Notes what sync told of members, in its order, and the rooms of which it may not have told
    /// all. Rooms that nobody follows change nothing.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn note_members(
        &self,
        now: Timestamp,
        events: &[(OwnedRoomId, MemberEvent)],
        gaps: &BTreeSet<OwnedRoomId>,
    ) -> Result<()> {
        if events.is_empty() && gaps.is_empty() {
            return Ok(());
        }
        self.write("note members", |tx| {
            for room in gaps {
                tx.execute(
                    "UPDATE followed_room SET gaps = gaps + 1 WHERE room_id = ?1",
                    [room.as_str()],
                )?;
            }
            for (room, event) in events {
                let change: Option<i64> = tx
                    .query_row(
                        "UPDATE followed_room SET changes = changes + 1 WHERE room_id = ?1
                         RETURNING changes",
                        [room.as_str()],
                        |row| row.get(0),
                    )
                    .optional()?;
                if let Some(change) = change {
                    for followed in [
                        "UPDATE follow_up SET restless = 1 WHERE old_room = ?1",
                        "UPDATE follow_up SET restless = 1 WHERE new_room = ?1",
                    ] {
                        tx.prepare_cached(followed)?.execute([room.as_str()])?;
                    }
                    let known = seat(tx, room, &event.user)?.map(|(seat, _)| seat);
                    put(
                        tx,
                        room,
                        event,
                        MemberRecord::after(known, event, now),
                        change,
                    )?;
                }
            }
            Ok(())
        })?;
        self.wakes.work.notify_one();
        Ok(())
    }

    /// Notes that sync may not have told all of any room, as after a stop.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn members_may_be_missing(&self) -> Result<()> {
        self.write("note a gap", |tx| {
            tx.execute("UPDATE gap_everywhere SET count = count + 1", [])?;
            Ok(())
        })
    }

    /// Whether the member list of a room has to be read before it can be used.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn unread_members(&self, room: &RoomId) -> Result<Option<Unread>> {
        self.read("read what is known of members", |db| {
            Ok(db
                .query_row(
                    "SELECT changes, gaps + count AS gaps FROM followed_room, gap_everywhere
                     WHERE room_id = ?1 AND gaps + count > gaps_read",
                    [room.as_str()],
                    |row| {
                        Ok(Unread {
                            changes: row.get(0)?,
                            gaps: row.get(1)?,
                        })
                    },
                )
                .optional()?)
        })
    }

    /// Stores the member list of a room, which was read after `unread` was. What sync told meanwhile
    /// stays.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn put_members(
        &self,
        now: Timestamp,
        room: &RoomId,
        unread: Unread,
        members: &[MemberEvent],
    ) -> Result<()> {
        self.write("store members", |tx| {
            let read = tx.execute(
                "UPDATE followed_room SET gaps_read = max(gaps_read, ?2) WHERE room_id = ?1",
                params![room.as_str(), unread.gaps],
            )?;
            if read == 0 {
                return Ok(());
            }
            for event in members {
                let known = seat(tx, room, &event.user)?;
                if known.is_none_or(|(_, change)| change <= unread.changes) {
                    let after = MemberRecord::after(known.map(|(seat, _)| seat), event, now);
                    put(tx, room, event, after, unread.changes)?;
                }
            }
            Ok(())
        })
    }

    /// Everybody that is known of in a room.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn seats(&self, room: &RoomId) -> Result<Seats> {
        self.read("read members", |db| {
            let mut query = db.prepare_cached(
                "SELECT presence, joined_at, user_id FROM member WHERE room_id = ?1",
            )?;
            let mut rows = query.query([room.as_str()])?;
            let mut seats = Seats::new();
            while let Some(row) = rows.next()? {
                let user = parsed("member.user_id", &column::<String>(row, 2)?)?;
                seats.insert(user, seat_of(row)?);
            }
            Ok(seats)
        })
    }

    /// Jobs with members that changed since they were last looked at.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn restless_jobs(&self) -> Result<Vec<JobId>> {
        self.read("read whose members changed", |db| {
            let mut query = db.prepare_cached("SELECT job_id FROM follow_up WHERE restless")?;
            let rows = query.query_map([], |row| row.get(0).map(JobId))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Whether members of a job's rooms changed since it was last looked at.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn is_restless(&self, job: JobId) -> Result<bool> {
        self.read("read whether members changed", |db| {
            let mut query =
                db.prepare_cached("SELECT 1 FROM follow_up WHERE job_id = ?1 AND restless")?;
            Ok(query.exists([job.0])?)
        })
    }

    /// Notes that a job is looked at now: only what changes from here on is news.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn look_at_members(&self, job: JobId) -> Result<()> {
        self.write("note a look", |tx| {
            tx.execute(
                "UPDATE follow_up SET restless = 0 WHERE job_id = ?1",
                [job.0],
            )?;
            Ok(())
        })
    }
}

/// What is known of somebody, and since which change.
fn seat(db: &Connection, room: &RoomId, user: &OwnedUserId) -> Result<Option<(MemberRecord, i64)>> {
    let mut query = db.prepare_cached(
        "SELECT presence, joined_at, change FROM member WHERE room_id = ?1 AND user_id = ?2",
    )?;
    let mut rows = query.query(params![room.as_str(), user.as_str()])?;
    rows.next()?
        .map(|row| Ok((seat_of(row)?, column(row, 2)?)))
        .transpose()
}

fn seat_of(row: &rusqlite::Row<'_>) -> Result<MemberRecord> {
    Ok(MemberRecord {
        presence: super::unjson("member.presence", &column::<String>(row, 0)?)?,
        joined_at: column::<Option<i64>>(row, 1)?
            .map(|at| from_millis("member.joined_at", at))
            .transpose()?,
    })
}

fn put(
    db: &Connection,
    room: &RoomId,
    event: &MemberEvent,
    seat: MemberRecord,
    change: i64,
) -> Result<()> {
    let mut query = db.prepare_cached(
        "INSERT INTO member (room_id, user_id, presence, joined_at, change)
         VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (room_id, user_id) DO UPDATE
         SET presence = excluded.presence, joined_at = excluded.joined_at, change = excluded.change",
    )?;
    query.execute(params![
        room.as_str(),
        event.user.as_str(),
        super::json(&seat.presence)?,
        seat.joined_at.map(Timestamp::as_millisecond),
        change
    ])?;
    Ok(())
}

#[cfg(test)]
mod tests;
