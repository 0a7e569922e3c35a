//! What is stored of jobs and campaigns alike: a row, and a log behind it. The columns `state` and `due_at` of
//! the row are an index on the log, made anew each time the log grows; nothing decides by them alone.
//!
//! Left out: what only one of them has (`jobs`, `campaigns`).

use jiff::Timestamp;
use ruma::OwnedRoomId;
use rusqlite::{Connection, OptionalExtension, Row, ToSql, Transaction, params};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Result, Store, StoreError, column, from_millis};
use crate::model::{CampaignId, JobId, WorkId};
use crate::telemetry::chain;
use crate::work::{Append, Logged, Request as _, State};

/// Which work to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// What may still do something.
    Active,
    /// All.
    All,
}

/// Where one kind of work is stored. `T` and its log `T_log`, whose rows have a column `T_id`.
pub(super) trait Stored:
    State<Request: Serialize + DeserializeOwned, Entry: Serialize + DeserializeOwned>
{
    /// Name of the table.
    const TABLE: &'static str;

    /// The number of a row.
    fn id(number: i64) -> Self::Id;

    /// The row of a number.
    fn number(id: Self::Id) -> i64;

    /// What stands for a row of the log that this version cannot read.
    fn unreadable(row: String) -> Self::Entry;

    /// Makes the index on a log that has grown. A log that makes no sense is an error.
    fn index(
        tx: &Transaction<'_>,
        now: Timestamp,
        id: Self::Id,
        log: &[(Timestamp, Self::Entry)],
    ) -> Result<()>;
}

/// Adds entries to a log, provided that nobody else did since it was read.
pub(super) fn append<S: Stored>(
    tx: &Transaction<'_>,
    now: Timestamp,
    append: &Append<S>,
) -> Result<()> {
    let mut log = log::<S>(tx, append.id)?;
    if log.len() != append.expected {
        return Err(StoreError::Conflict {
            work: append.id.into(),
        });
    }
    log.extend(append.entries.iter().map(|entry| (now, entry.clone())));
    let table = S::TABLE;
    let mut insert = tx.prepare_cached(&format!(
        "INSERT INTO {table}_log ({table}_id, seq, at, entry) VALUES (?1, ?2, ?3, ?4)"
    ))?;
    for (seq, entry) in (append.expected..).zip(&append.entries) {
        let entry = super::json(entry)?;
        insert.execute(params![
            S::number(append.id),
            seq,
            now.as_millisecond(),
            entry
        ])?;
    }
    S::index(tx, now, append.id, &log)
}

/// Work whose rows a query finds: `tail` is what follows the name of the table. A row that cannot be read is
/// left out.
pub(super) fn many<S: Stored>(
    db: &Connection,
    tail: &str,
    values: &[&dyn ToSql],
) -> Result<Vec<Logged<S>>> {
    let table = S::TABLE;
    let mut query = db.prepare_cached(&format!(
        "SELECT id, request, created_at, admin_room FROM {table} {tail}"
    ))?;
    let rows = query.query_map(values, |row| Ok(head::<S>(row)))?;
    let mut found = Vec::new();
    for row in rows {
        match row? {
            Ok(work) => found.push(Logged {
                log: log::<S>(db, work.id)?,
                ..work
            }),
            Err(error) => tracing::error!(
                error = chain(&error),
                "a row cannot be read, and is left out"
            ),
        }
    }
    Ok(found)
}

/// The first that a query finds.
pub(super) fn one<S: Stored>(
    db: &Connection,
    tail: &str,
    values: &[&dyn ToSql],
) -> Result<Option<Logged<S>>> {
    Ok(many(db, &format!("{tail} LIMIT 1"), values)?.pop())
}

/// A row without its log.
fn head<S: Stored>(row: &Row<'_>) -> Result<Logged<S>> {
    let mut request: S::Request = super::unjson("request", &column::<String>(row, 1)?)?;
    let now: OwnedRoomId = super::parsed("admin_room", &column::<String>(row, 3)?)?;
    Ok(Logged {
        id: S::id(column(row, 0)?),
        asked_in: std::mem::replace(request.admin_room_mut(), now),
        request,
        created_at: from_millis("created_at", column(row, 2)?)?,
        log: Vec::new(),
    })
}

fn log<S: Stored>(db: &Connection, id: S::Id) -> Result<Vec<(Timestamp, S::Entry)>> {
    let table = S::TABLE;
    let mut query = db.prepare_cached(&format!(
        "SELECT at, entry FROM {table}_log WHERE {table}_id = ?1 ORDER BY seq"
    ))?;
    let rows = query.query_map([S::number(id)], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
    })?;
    rows.map(|row| {
        let (at, entry) = row?;
        let entry = serde_json::from_str(&entry).unwrap_or_else(|_| S::unreadable(entry));
        Ok((from_millis("log.at", at)?, entry))
    })
    .collect()
}

impl Store {
    /// What calls for something now, campaigns first: they decide which jobs begin. If the clock was set back,
    /// also jobs that wait: nobody knows any more how long they have waited.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn due_work(&self, now: Timestamp) -> Result<Vec<WorkId>> {
        self.read("read due work", |db| {
            let mut campaigns = db.prepare_cached(
                "SELECT id FROM campaign INDEXED BY campaign_due WHERE due_at <= ?1 ORDER BY id",
            )?;
            let mut jobs = db.prepare_cached(
                "SELECT id FROM job INDEXED BY job_due WHERE due_at <= ?1
                 UNION SELECT id FROM job INDEXED BY job_waiting_since
                       WHERE due_at IS NOT NULL AND touched_at > ?1 ORDER BY id",
            )?;
            let campaigns = campaigns.query_map([now.as_millisecond()], |row| {
                row.get(0).map(|id| WorkId::Campaign(CampaignId(id)))
            })?;
            let jobs = jobs.query_map([now.as_millisecond()], |row| {
                row.get(0).map(|id| WorkId::Job(JobId(id)))
            })?;
            Ok(campaigns.chain(jobs).collect::<rusqlite::Result<_>>()?)
        })
    }

    /// When the next job or campaign calls for something after `now`, if any does by itself.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn next_work_due(&self, now: Timestamp) -> Result<Option<Timestamp>> {
        self.read("read due work", |db| {
            let at: Option<i64> = db.query_row(
                "SELECT min(at) FROM (SELECT min(due_at) AS at FROM job WHERE due_at > ?1
                                      UNION ALL SELECT min(due_at) FROM campaign WHERE due_at > ?1)",
                [now.as_millisecond()],
                |row| row.get(0),
            )?;
            at.map(|at| from_millis("due_at", at)).transpose()
        })
    }

    /// Lets work rest until a time, whatever its log says; returns the admin room that is told of it.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn set_aside(&self, id: WorkId, until: Timestamp) -> Result<Option<OwnedRoomId>> {
        let (table, number) = match id {
            WorkId::Job(id) => ("job", id.0),
            WorkId::Campaign(id) => ("campaign", id.0),
        };
        self.write("set work aside", |tx| {
            let room: Option<String> = tx
                .query_row(
                    &format!("UPDATE {table} SET due_at = ?2 WHERE id = ?1 RETURNING admin_room"),
                    params![number, super::due_millis(until)],
                    |row| row.get(0),
                )
                .optional()?;
            room.map(|room| super::parsed("admin_room", &room))
                .transpose()
        })
    }
}
