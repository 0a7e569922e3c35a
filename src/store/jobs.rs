//! What is stored of jobs alone: their rooms, their campaign, what lists show of them, the old room as it was.

use jiff::Timestamp;
use ruma::{OwnedRoomId, RoomId};
use rusqlite::{ErrorCode, OptionalExtension, Transaction, params};

use super::work::{Filter, Stored, many, one};
use super::{Result, Store, StoreError};
use crate::job::{Action, Entry, Job, Phase, Request, State, Summary};
use crate::model::{JobId, WorkKey};
use crate::room::state::Snapshot;
use crate::work::IllegalLog;

/// How often an admin room is followed in a row; more is a circle.
const ADMIN_ROOM_MOVES_MAX: usize = 50;

pub(super) fn create(tx: &Transaction<'_>, now: Timestamp, request: &Request) -> Result<()> {
    tx.execute(
        "INSERT INTO job (command_event, admin_room, old_room, request, state, due_at, created_at,
                          campaign_id, touched_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?6) ON CONFLICT (command_event) DO NOTHING",
        params![
            request.key().to_string(),
            request.admin_room.as_str(),
            request.old_room.as_str(),
            super::json(request)?,
            Phase::Planning.name(),
            now.as_millisecond(),
            request.campaign.as_ref().map(|turn| turn.campaign.0),
        ],
    )?;
    Ok(())
}

impl Stored for State {
    const TABLE: &'static str = "job";

    fn id(number: i64) -> JobId {
        JobId(number)
    }

    fn number(id: JobId) -> i64 {
        id.0
    }

    fn unreadable(row: String) -> Entry {
        Entry::Unreadable { row }
    }

    fn index(
        tx: &Transaction<'_>,
        now: Timestamp,
        id: JobId,
        log: &[(Timestamp, Entry)],
    ) -> Result<()> {
        let folded = Summary::fold(log.iter().map(|(at, entry)| (*at, entry)));
        let (state, summary) = folded.map_err(|source| IllegalLog {
            work: id.into(),
            source,
        })?;
        let due = match state.next_action() {
            Action::Run(_) | Action::RollBack(_) => Some(now),
            Action::Wait(_, at) | Action::AwaitConfirmation(at) | Action::FollowUp(at) => Some(at),
            Action::AwaitCampaign | Action::AwaitResume | Action::AwaitRetry | Action::Finished => {
                None
            }
        };
        // A campaign looks at its jobs when one of them begins, ends, has to wait, or is followed up no more.
        tx.execute(
            "UPDATE campaign SET due_at = ?2, woken = woken + 1
         WHERE id = (SELECT campaign_id FROM job WHERE id = ?1 AND
                     (state <> ?3 OR summary IS NULL
                      OR json_extract(summary, '$.waiting') IS NOT json_extract(?4, '$.waiting')
                      OR json_extract(summary, '$.todos') IS NOT json_extract(?4, '$.todos')
                      OR json_extract(summary, '$.following')
                         IS NOT json_extract(?4, '$.following')))",
            params![
                id.0,
                now.as_millisecond(),
                state.phase.name(),
                super::json(&summary)?
            ],
        )?;
        tx.execute(
            "UPDATE job SET state = ?2, due_at = ?3, summary = ?4, touched_at = ?5 WHERE id = ?1",
            params![
                id.0,
                state.phase.name(),
                due.map(super::due_millis),
                super::json(&summary)?,
                now.as_millisecond(),
            ],
        )
        .map_err(|error| match error.sqlite_error_code() {
            Some(ErrorCode::ConstraintViolation) => StoreError::ActiveJob,
            _ => error.into(),
        })?;
        Ok(())
    }
}

pub(super) fn put_snapshot(tx: &Transaction<'_>, id: JobId, snapshot: &Snapshot) -> Result<()> {
    tx.execute(
        "INSERT INTO snapshot (job_id, body) VALUES (?1, ?2)
         ON CONFLICT (job_id) DO UPDATE SET body = excluded.body",
        params![id.0, super::json(snapshot)?],
    )?;
    Ok(())
}

pub(super) fn move_admin_room(tx: &Transaction<'_>, from: &RoomId, to: &RoomId) -> Result<()> {
    let rooms = params![from.as_str(), to.as_str()];
    tx.execute(
        "INSERT INTO admin_room_moved (old_room, new_room) VALUES (?1, ?2)
         ON CONFLICT (old_room) DO UPDATE SET new_room = excluded.new_room",
        rooms,
    )?;
    tx.execute(
        "UPDATE job SET admin_room = ?2 WHERE admin_room = ?1",
        rooms,
    )?;
    tx.execute(
        "UPDATE campaign SET admin_room = ?2 WHERE admin_room = ?1",
        rooms,
    )?;
    tx.execute(
        "UPDATE pruned SET admin_room = ?2 WHERE admin_room = ?1",
        rooms,
    )?;
    // What stands in the old room stays there, and is edited there.
    tx.execute(
        "UPDATE outbox SET room_id = ?2 WHERE room_id = ?1 AND event_id IS NULL
         AND due_at IS NOT NULL AND json_extract(post, '$.type') = 'message'",
        rooms,
    )?;
    Ok(())
}

impl Store {
    /// Where an admin room moved to, in the end; itself where it did not.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn admin_room_now(&self, room: &RoomId) -> Result<OwnedRoomId> {
        self.read("read where an admin room moved", |db| {
            let mut now = room.to_owned();
            for _ in 0..ADMIN_ROOM_MOVES_MAX {
                let next: Option<String> = db
                    .query_row(
                        "SELECT new_room FROM admin_room_moved WHERE old_room = ?1",
                        [now.as_str()],
                        |row| row.get(0),
                    )
                    .optional()?;
                match next {
                    Some(next) => now = super::parsed("admin_room_moved.new_room", &next)?,
                    None => break,
                }
            }
            Ok(now)
        })
    }

    /// Whether the bot takes commands in a room because another one was closed in favour of it.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn has_come_to(&self, room: &RoomId) -> Result<bool> {
        self.read("read where admin rooms moved", |db| {
            let mut query =
                db.prepare_cached("SELECT 1 FROM admin_room_moved WHERE new_room = ?1")?;
            Ok(query.exists([room.as_str()])?)
        })
    }

    /// A job by its number.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn job(&self, id: JobId) -> Result<Option<Job>> {
        self.read("read a job", |db| one(db, "WHERE id = ?1", params![id.0]))
    }

    /// The job with a key ([`Request::key`]).
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn job_of_key(&self, key: &WorkKey) -> Result<Option<Job>> {
        self.read("read a job", |db| {
            one(db, "WHERE command_event = ?1", params![key.to_string()])
        })
    }

    /// All jobs for a room, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn jobs_for_room(&self, old_room: &RoomId) -> Result<Vec<Job>> {
        self.read("read jobs", |db| {
            many(
                db,
                "WHERE old_room = ?1 ORDER BY id",
                params![old_room.as_str()],
            )
        })
    }

    /// The job at work on a room, if there is one.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn active_job(&self, old_room: &RoomId) -> Result<Option<Job>> {
        self.read("read a job", |db| {
            one(
                db,
                "WHERE old_room = ?1 AND state IN ('running', 'in_review', 'unwinding', 'stuck')",
                params![old_room.as_str()],
            )
        })
    }

    /// Plans for a room that wait for a yes, newest first. Those that a campaign decides about are
    /// none.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn open_plans(&self, old_room: &RoomId) -> Result<Vec<Job>> {
        self.read("read plans", |db| {
            many(
                db,
                "WHERE old_room = ?1 AND state IN ('planning', 'planned') AND campaign_id IS NULL
                 ORDER BY id DESC",
                params![old_room.as_str()],
            )
        })
    }

    /// The newest job of an admin room for a room, which may be the old one or the new one. One that came
    /// to something is meant rather than one that did not.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn latest_job_for(&self, admin_room: &RoomId, room: &RoomId) -> Result<Option<Job>> {
        self.read("read a job", |db| {
            one(
                db,
                "WHERE +admin_room = ?1 AND id IN (SELECT id FROM job WHERE old_room = ?2 UNION ALL
                     SELECT id FROM job WHERE json_extract(summary, '$.new_room') = ?2)
                 ORDER BY state IN ('closed', 'cancelled', 'expired', 'failed'), id DESC",
                params![admin_room.as_str(), room.as_str()],
            )
        })
    }

    /// Jobs of an admin room, newest first. Those of campaigns are listed with their campaign.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn jobs(&self, admin_room: &RoomId, filter: Filter, limit: usize) -> Result<Vec<Job>> {
        let filter = match filter {
            Filter::Active => {
                "INDEXED BY job_open WHERE admin_room = ?1 AND campaign_id IS NULL
                 AND state IN ('planning', 'planned', 'running', 'in_review', 'unwinding', 'stuck')"
            }
            Filter::All => "WHERE admin_room = ?1 AND campaign_id IS NULL",
        };
        self.read("list jobs", |db| {
            many(
                db,
                &format!("{filter} ORDER BY id DESC LIMIT {limit}"),
                params![admin_room.as_str()],
            )
        })
    }

    /// Notes that a job was looked at after the clock was set back.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn clock_turned_back(&self, id: JobId, now: Timestamp) -> Result<()> {
        self.write("note that the clock was set back", |tx| {
            tx.execute(
                "UPDATE job SET touched_at = ?2 WHERE id = ?1",
                params![id.0, now.as_millisecond()],
            )?;
            Ok(())
        })
    }

    /// The old room as it was when its job began.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn snapshot(&self, id: JobId) -> Result<Option<Snapshot>> {
        self.read("read a snapshot", |db| {
            let body: Option<String> = db
                .query_row(
                    "SELECT body FROM snapshot WHERE job_id = ?1",
                    [id.0],
                    |row| row.get(0),
                )
                .optional()?;
            body.map(|body| super::unjson("snapshot.body", &body))
                .transpose()
        })
    }
}
