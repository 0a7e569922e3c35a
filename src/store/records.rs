//! What is over, and has been for long, is removed: jobs, campaigns, what was said about them, and what was
//! heard.
//!
//! In batches, so that nobody waits for it. A batch is one transaction that decides by what is there at that
//! moment, so that a kill in between leaves a database like any other. Kept is whatever may still be asked for:
//! work that is not over, a room of which an upgrade ended in doubt (P2), and the events up to which nothing is
//! accepted again (P1). Left out: when this happens, and how old is old.

use jiff::Timestamp;
use ruma::RoomId;
use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::post_key::PostKey;
use super::{Result, Store, from_millis, work};
use crate::job::Job;
use crate::model::{JobId, WorkId};

/// Jobs in a batch; each has some fifty rows and a picture of its room.
const JOBS_AT_ONCE: usize = 20;

/// Posts or events in a batch.
const ROWS_AT_ONCE: usize = 200;

/// When a row was over, and its number.
type Place = (i64, i64);

/// An event that may go.
struct OldEvent {
    place: Place,
    sent_at: i64,
    id: String,
}

/// How far a round through all that is over has come.
#[derive(Debug, Default)]
pub struct Round {
    stage: Stage,
    /// The row that was looked at last.
    after: Place,
}

#[derive(Debug, Default, Clone, Copy)]
enum Stage {
    #[default]
    Campaigns,
    Jobs,
    /// After the jobs, as their posts are kept as long as they are.
    Posts,
    /// The same of their commands.
    Events,
    Over,
}

impl Round {
    fn next(&mut self, stage: Stage) {
        *self = Self {
            stage,
            after: (i64::MIN, 0),
        };
    }

    /// Whether everything was looked at.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Over)
    }
}

impl Store {
    /// Takes a round one batch further: removes what was over before a moment.
    ///
    /// # Errors
    /// When the database cannot be written; the batch is as it was then.
    pub fn prune(&self, now: Timestamp, before: Timestamp, round: &mut Round) -> Result<()> {
        let before = before.as_millisecond();
        let after = round.after;
        match round.stage {
            Stage::Campaigns => {
                match self.read("look for old campaigns", |db| campaigns(db, before, after))? {
                    None => round.next(Stage::Jobs),
                    Some(next @ (_, id)) => {
                        let is_gone = self.write("remove an old campaign", |tx| {
                            prune_campaign(tx, now, before, id)
                        })?;
                        if is_gone != Gone::InPart {
                            round.after = next;
                        }
                    }
                }
            }
            Stage::Jobs => {
                let found = self.read("look for old jobs", |db| jobs_over(db, before, after))?;
                match found.last() {
                    None => round.next(Stage::Posts),
                    Some(last) => {
                        self.write("remove old jobs", |tx| {
                            for (_, id) in &found {
                                prune_job(tx, now, JobId(*id))?;
                            }
                            Ok(())
                        })?;
                        round.after = *last;
                    }
                }
            }
            Stage::Posts => {
                let found = self.read("look for old posts", |db| posts(db, before, after))?;
                match found.last() {
                    None => round.next(Stage::Events),
                    Some((last, _)) => {
                        self.write("remove old posts", |tx| {
                            for ((_, id), key) in &found {
                                if !is_of_work(tx, key)? {
                                    let sql = "DELETE FROM outbox WHERE id = ?1 AND due_at IS NULL";
                                    tx.prepare_cached(sql)?.execute([id])?;
                                }
                            }
                            Ok(())
                        })?;
                        round.after = *last;
                    }
                }
            }
            Stage::Events => {
                let found = self.read("look for old events", |db| events(db, before, after))?;
                match found.last() {
                    None => round.next(Stage::Over),
                    Some(last) => {
                        let last = last.place;
                        self.write("remove old events", |tx| prune_events(tx, &found))?;
                        round.after = last;
                    }
                }
            }
            Stage::Over => {}
        }
        Ok(())
    }

    /// When a job or campaign of an admin room was removed.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn pruned(&self, id: WorkId, admin_room: &RoomId) -> Result<Option<Timestamp>> {
        let (kind, id) = name(id);
        self.read("read what was removed", |db| {
            let mut query = db.prepare_cached(
                "SELECT at FROM pruned WHERE kind = ?1 AND id = ?2 AND admin_room = ?3",
            )?;
            let at = query.query_row(params![kind, id, admin_room.as_str()], |row| row.get(0));
            at.optional()?
                .map(|at| from_millis("pruned.at", at))
                .transpose()
        })
    }

    /// When something of an admin room was removed last.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn last_pruned(&self, admin_room: &RoomId) -> Result<Option<Timestamp>> {
        self.read("read what was removed", |db| {
            let mut query =
                db.prepare_cached("SELECT max(at) FROM pruned WHERE admin_room = ?1")?;
            let at: Option<i64> = query.query_row([admin_room.as_str()], |row| row.get(0))?;
            at.map(|at| from_millis("pruned.at", at)).transpose()
        })
    }
}

/// What became of a campaign.
#[derive(PartialEq, Eq)]
enum Gone {
    /// Nothing of it may go.
    No,
    /// It has more jobs than fit into a batch.
    InPart,
    Whole,
}

fn name(id: WorkId) -> (&'static str, i64) {
    match id {
        WorkId::Job(id) => ("job", id.0),
        WorkId::Campaign(id) => ("campaign", id.0),
    }
}

/// The next campaign that was over before.
fn campaigns(db: &Connection, before: i64, after: Place) -> Result<Option<Place>> {
    let mut query = db.prepare_cached(
        "SELECT touched_at, id FROM campaign INDEXED BY campaign_over
         WHERE due_at IS NULL AND state IN ('done', 'closed', 'cancelled', 'expired')
         AND touched_at < ?1 AND (touched_at, id) > (?2, ?3) ORDER BY touched_at, id LIMIT 1",
    )?;
    let next = query.query_row([before, after.0, after.1], |row| {
        Ok((row.get(0)?, row.get(1)?))
    });
    Ok(next.optional()?)
}

/// Jobs of a campaign go first, and only if all of them may.
fn prune_campaign(tx: &Transaction<'_>, now: Timestamp, before: i64, id: i64) -> Result<Gone> {
    let mut is_over = tx.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM campaign WHERE id = ?1 AND due_at IS NULL AND touched_at < ?2
                        AND state IN ('done', 'closed', 'cancelled', 'expired'))
         AND NOT EXISTS (SELECT 1 FROM job WHERE campaign_id = ?1 AND (due_at IS NOT NULL
             OR touched_at >= ?2 OR state NOT IN ('done', 'closed', 'cancelled', 'expired', 'failed')
             OR EXISTS (SELECT 1 FROM follow_up WHERE job_id = job.id)))",
    )?;
    if !is_over.query_row([id, before], |row| row.get(0))? {
        return Ok(Gone::No);
    }
    let mut of_campaign =
        tx.prepare_cached("SELECT id, old_room FROM job WHERE campaign_id = ?1 ORDER BY id")?;
    let children: Vec<(i64, String)> = of_campaign
        .query_map([id], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    for (_, room) in &children {
        if is_in_doubt(tx, room)? {
            return Ok(Gone::No);
        }
    }
    for (child, _) in children.iter().take(JOBS_AT_ONCE) {
        if !prune_job(tx, now, JobId(*child))? {
            return Ok(Gone::No);
        }
    }
    if children.len() > JOBS_AT_ONCE {
        return Ok(Gone::InPart);
    }
    remember(tx, now, "campaign", id)?;
    tx.execute("DELETE FROM campaign_log WHERE campaign_id = ?1", [id])?;
    tx.execute("DELETE FROM campaign WHERE id = ?1", [id])?;
    Ok(Gone::Whole)
}

/// Jobs without a campaign that were over before.
fn jobs_over(db: &Connection, before: i64, after: Place) -> Result<Vec<Place>> {
    let mut query = db.prepare_cached(
        "SELECT touched_at, id FROM job INDEXED BY job_over
         WHERE due_at IS NULL AND campaign_id IS NULL
         AND state IN ('done', 'closed', 'cancelled', 'expired', 'failed')
         AND touched_at < ?1 AND (touched_at, id) > (?2, ?3) ORDER BY touched_at, id LIMIT ?4",
    )?;
    let limit = i64::try_from(JOBS_AT_ONCE).unwrap_or(i64::MAX);
    let rows = query.query_map([before, after.0, after.1, limit], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Removes a job, if it is over by its log; says whether it went.
fn prune_job(tx: &Transaction<'_>, now: Timestamp, id: JobId) -> Result<bool> {
    let job = work::one(
        tx,
        "WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM follow_up WHERE job_id = job.id)",
        params![id.0],
    );
    let job = match job {
        // What cannot be read stays (P13).
        Err(error) if error.is_about_one_row() => None,
        job => job?.filter(Job::is_over),
    };
    let Some(job) = job else {
        return Ok(false);
    };
    if is_in_doubt(tx, job.request.old_room.as_str())? {
        return Ok(false);
    }
    remember(tx, now, "job", id.0)?;
    for sql in [
        "DELETE FROM job_log WHERE job_id = ?1",
        "DELETE FROM snapshot WHERE job_id = ?1",
        "DELETE FROM job WHERE id = ?1",
    ] {
        tx.prepare_cached(sql)?.execute([id.0])?;
    }
    Ok(true)
}

/// Whether an upgrade of a room ended in doubt: then the next one looks for what it left, and for what
/// the others led to.
fn is_in_doubt(tx: &Transaction<'_>, room: &str) -> Result<bool> {
    let ended = work::many(
        tx,
        "WHERE old_room = ?1 AND state IN ('failed', 'cancelled', 'expired')",
        params![room],
    );
    match ended {
        Err(error) if error.is_about_one_row() => Ok(true),
        ended => Ok(ended?
            .iter()
            .any(|job| job.state().is_err() || job.ended_in_doubt())),
    }
}

fn remember(tx: &Transaction<'_>, now: Timestamp, table: &'static str, id: i64) -> Result<()> {
    tx.execute(
        &format!(
            "INSERT INTO pruned (kind, id, admin_room, at)
             SELECT '{table}', id, admin_room, ?2 FROM {table} WHERE id = ?1"
        ),
        params![id, now.as_millisecond()],
    )?;
    Ok(())
}

/// Posts that were settled before, with their keys.
fn posts(db: &Connection, before: i64, after: Place) -> Result<Vec<(Place, String)>> {
    let mut query = db.prepare_cached(
        "SELECT settled_at, id, key FROM outbox INDEXED BY outbox_settled
         WHERE due_at IS NULL AND settled_at < ?1 AND (settled_at, id) > (?2, ?3)
         ORDER BY settled_at, id LIMIT ?4",
    )?;
    let limit = i64::try_from(ROWS_AT_ONCE).unwrap_or(i64::MAX);
    let rows = query.query_map([before, after.0, after.1, limit], |row| {
        Ok(((row.get(0)?, row.get(1)?), row.get(2)?))
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Whether a post belongs to a command of work that is still there.
fn is_of_work(tx: &Transaction<'_>, key: &str) -> Result<bool> {
    let key = key.parse::<PostKey>().ok();
    match key.as_ref().and_then(PostKey::command) {
        Some(command) => is_command(tx, command.as_str()),
        None => Ok(false),
    }
}

/// Whether a job or campaign comes from a command, or a job has this key.
fn is_command(tx: &Transaction<'_>, command: &str) -> Result<bool> {
    let mut query = tx.prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM job WHERE command_event = ?1)
             OR EXISTS (SELECT 1 FROM campaign WHERE command_event = ?1)
             OR EXISTS (SELECT 1 FROM job WHERE command_event >= ?1 || '.' AND command_event < ?1 || '/')",
    )?;
    Ok(query.query_row([command], |row| row.get(0))?)
}

/// Events that were sent and handled before.
fn events(db: &Connection, before: i64, after: Place) -> Result<Vec<OldEvent>> {
    let mut query = db.prepare_cached(
        "SELECT handled_at, seq, sent_at, event_id FROM inbox INDEXED BY inbox_over
         WHERE handled_at IS NOT NULL AND json_extract(kind, '$.type') <> 'tombstone'
         AND handled_at < ?1 AND (handled_at, seq) > (?2, ?3) AND sent_at < ?1
         ORDER BY handled_at, seq LIMIT ?4",
    )?;
    let limit = i64::try_from(ROWS_AT_ONCE).unwrap_or(i64::MAX);
    let rows = query.query_map([before, after.0, after.1, limit], |row| {
        Ok(OldEvent {
            place: (row.get(0)?, row.get(1)?),
            sent_at: row.get(2)?,
            id: row.get(3)?,
        })
    })?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

fn prune_events(tx: &Transaction<'_>, found: &[OldEvent]) -> Result<()> {
    for event in found {
        if is_command(tx, &event.id)? {
            continue;
        }
        tx.prepare_cached("UPDATE inbox_pruned SET up_to = max(up_to, ?1)")?
            .execute([event.sent_at])?;
        tx.prepare_cached("DELETE FROM inbox WHERE event_id = ?1")?
            .execute([&event.id])?;
    }
    Ok(())
}
