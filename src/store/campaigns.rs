//! Campaigns, their logs, and where their jobs stand. As with jobs, `state` is an index on the log.

use jiff::Timestamp;
use ruma::{EventId, RoomId};
use rusqlite::{Connection, Row, Transaction, params};

use super::{Filter, Result, Store, StoreError, column, from_millis};
use crate::campaign::{Campaign, Child, Entry, Phase, Request, State};
use crate::job::{Job, Summary};
use crate::model::{CampaignId, JobId};
use crate::telemetry::chain;

/// How often a campaign was woken: what a look saw, and what a rest must find unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Woken(i64);

pub(super) fn create(tx: &Transaction<'_>, now: Timestamp, request: &Request) -> Result<()> {
    tx.execute(
        "INSERT INTO campaign (command_event, admin_room, space, request, state, due_at, created_at,
                               touched_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?6) ON CONFLICT (command_event) DO NOTHING",
        params![
            request.command_event.as_str(),
            request.admin_room.as_str(),
            request.space.as_str(),
            super::json(request)?,
            Phase::Finding.name(),
            now.as_millisecond(),
        ],
    )?;
    Ok(())
}

pub(super) fn append(
    tx: &Transaction<'_>,
    now: Timestamp,
    id: CampaignId,
    expected: usize,
    entries: &[Entry],
) -> Result<()> {
    let log = log(tx, id)?;
    if log.len() != expected {
        return Err(StoreError::CampaignConflict(id));
    }
    let state =
        State::fold(log.iter().map(|(_, entry)| entry).chain(entries)).map_err(|source| {
            StoreError::IllegalCampaign {
                campaign: id,
                source,
            }
        })?;
    for (offset, entry) in entries.iter().enumerate() {
        tx.execute(
            "INSERT INTO campaign_log (campaign_id, seq, at, entry) VALUES (?1, ?2, ?3, ?4)",
            params![
                id.0,
                expected + offset,
                now.as_millisecond(),
                super::json(entry)?
            ],
        )?;
    }
    // What follows depends on the jobs as well: the worker looks at once.
    tx.execute(
        "UPDATE campaign SET state = ?2, due_at = ?3, touched_at = ?3, woken = woken + 1 WHERE id = ?1",
        params![id.0, state.phase.name(), now.as_millisecond()],
    )?;
    Ok(())
}

impl Store {
    /// A campaign by its number.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn campaign(&self, id: CampaignId) -> Result<Option<Campaign>> {
        self.read("read a campaign", |db| {
            Ok(many(db, "id = ?1 LIMIT 1", params![id.0])?.pop())
        })
    }

    /// The campaign that a command made.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn campaign_of_command(&self, event: &EventId) -> Result<Option<Campaign>> {
        self.read("read a campaign", |db| {
            Ok(many(db, "command_event = ?1 LIMIT 1", params![event.as_str()])?.pop())
        })
    }

    /// Campaigns of an admin room, newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn campaigns(
        &self,
        admin_room: &RoomId,
        filter: Filter,
        limit: usize,
    ) -> Result<Vec<Campaign>> {
        let filter = match filter {
            Filter::Active => {
                "admin_room = ?1 AND state IN ('finding', 'planning', 'planned', 'running')"
            }
            Filter::All => "admin_room = ?1",
        };
        self.read("list campaigns", |db| {
            many(
                db,
                &format!("{filter} ORDER BY id DESC LIMIT {limit}"),
                params![admin_room.as_str()],
            )
        })
    }

    /// Campaigns for a space that nobody confirmed yet.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn open_campaigns(&self, space: &RoomId) -> Result<Vec<Campaign>> {
        self.read("list campaigns", |db| {
            many(
                db,
                "space = ?1 AND state IN ('finding', 'planning', 'planned') ORDER BY id",
                params![space.as_str()],
            )
        })
    }

    /// The jobs of a campaign, those that go first in front; of several for one room the newest.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn children(&self, id: CampaignId) -> Result<Vec<Child>> {
        self.read("list the jobs of a campaign", |db| {
            let mut query = db.prepare_cached(
                "SELECT id, old_room, json_extract(request, '$.campaign.rank') AS rank, state, summary
                 FROM job WHERE id IN (SELECT max(id) FROM job WHERE campaign_id = ?1
                                       GROUP BY old_room)
                 ORDER BY rank, id",
            )?;
            let rows = query.query_map([id.0], |row| Ok(child(row)))?;
            rows.map(|row| row?).collect()
        })
    }

    /// The jobs of a campaign that have not ended, whole.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn open_jobs_of(&self, id: CampaignId) -> Result<Vec<Job>> {
        let open = self.children(id)?;
        open.iter()
            .filter(|child| !child.phase.is_end())
            .filter_map(|child| self.job(child.id).transpose())
            .collect()
    }

    /// Campaigns that call for a look now.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn due_campaigns(&self, now: Timestamp) -> Result<Vec<CampaignId>> {
        self.read("read due campaigns", |db| {
            let mut query = db.prepare_cached(
                "SELECT id FROM campaign INDEXED BY campaign_due WHERE due_at <= ?1 ORDER BY id",
            )?;
            let rows = query.query_map([now.as_millisecond()], |row| row.get(0).map(CampaignId))?;
            Ok(rows.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Has every campaign that waits looked at now: nobody knows how long it has waited.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn wake_campaigns(&self, now: Timestamp) -> Result<()> {
        self.write("wake the campaigns", |tx| {
            tx.execute(
                "UPDATE campaign SET due_at = ?1, woken = woken + 1 WHERE due_at IS NOT NULL",
                [now.as_millisecond()],
            )?;
            Ok(())
        })
    }

    /// How often a campaign was woken so far. To be read before everything else of a look.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn campaign_woken(&self, id: CampaignId) -> Result<Woken> {
        self.read("read a campaign", |db| {
            let woken =
                db.query_row("SELECT woken FROM campaign WHERE id = ?1", [id.0], |row| {
                    row.get(0)
                })?;
            Ok(Woken(woken))
        })
    }

    /// Lets a campaign rest until `due`, or until something wakes it; nothing if something did since
    /// `seen`.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn campaign_rests(
        &self,
        id: CampaignId,
        seen: Woken,
        due: Option<Timestamp>,
    ) -> Result<()> {
        self.write("let a campaign rest", |tx| {
            tx.execute(
                "UPDATE campaign SET due_at = ?3 WHERE id = ?1 AND woken = ?2",
                params![id.0, seen.0, due.map(super::due_millis)],
            )?;
            Ok(())
        })
    }
}

fn child(row: &Row<'_>) -> Result<Child> {
    let summary: Option<String> = column(row, 4)?;
    Ok(Child {
        id: JobId(column(row, 0)?),
        old_room: super::parsed("job.old_room", &column::<String>(row, 1)?)?,
        rank: column::<Option<u32>>(row, 2)?.unwrap_or(0),
        phase: super::unjson("job.state", &format!("\"{}\"", column::<String>(row, 3)?))?,
        summary: summary
            .map(|text| super::unjson("job.summary", &text))
            .transpose()?
            .unwrap_or_else(Summary::default),
    })
}

fn many(db: &Connection, filter: &str, values: &[&dyn rusqlite::ToSql]) -> Result<Vec<Campaign>> {
    let mut query = db.prepare_cached(&format!(
        "SELECT id, request, created_at, admin_room FROM campaign WHERE {filter}"
    ))?;
    let rows = query.query_map(values, |row| Ok(head(row)))?;
    let mut campaigns = Vec::new();
    for row in rows {
        let (id, mut request, created_at, admin_room) = match row? {
            Ok(head) => head,
            Err(error) => {
                tracing::error!(
                    error = chain(&error),
                    "a row cannot be read, and is left out"
                );
                continue;
            }
        };
        campaigns.push(Campaign {
            id,
            asked_in: std::mem::replace(&mut request.admin_room, admin_room),
            request,
            created_at,
            log: log(db, id)?,
        });
    }
    Ok(campaigns)
}

fn head(row: &Row<'_>) -> Result<(CampaignId, Request, Timestamp, ruma::OwnedRoomId)> {
    Ok((
        CampaignId(column(row, 0)?),
        super::unjson("campaign.request", &column::<String>(row, 1)?)?,
        from_millis("campaign.created_at", column(row, 2)?)?,
        super::parsed("campaign.admin_room", &column::<String>(row, 3)?)?,
    ))
}

fn log(db: &Connection, id: CampaignId) -> Result<Vec<(Timestamp, Entry)>> {
    let mut query = db
        .prepare_cached("SELECT at, entry FROM campaign_log WHERE campaign_id = ?1 ORDER BY seq")?;
    let rows = query.query_map([id.0], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?))
    })?;
    rows.map(|row| {
        let (at, entry) = row?;
        Ok((
            from_millis("campaign_log.at", at)?,
            serde_json::from_str(&entry).unwrap_or(Entry::Unreadable { row: entry }),
        ))
    })
    .collect()
}
