//! What is stored of campaigns alone: their space, where their jobs stand, and what wakes them.

use jiff::Timestamp;
use ruma::{EventId, RoomId};
use rusqlite::{Row, Transaction, params};

use super::work::{Filter, Stored, many, one};
use super::{Result, Store, column};
use crate::campaign::{Campaign, Child, Entry, Phase, Request, State};
use crate::job::{Job, Summary};
use crate::model::{CampaignId, JobId};
use crate::work::{IllegalLog, State as _};

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

impl Stored for State {
    const TABLE: &'static str = "campaign";

    fn id(number: i64) -> CampaignId {
        CampaignId(number)
    }

    fn number(id: CampaignId) -> i64 {
        id.0
    }

    fn unreadable(row: String) -> Entry {
        Entry::Unreadable { row }
    }

    fn index(
        tx: &Transaction<'_>,
        now: Timestamp,
        id: CampaignId,
        log: &[(Timestamp, Entry)],
    ) -> Result<()> {
        let state =
            State::fold(log.iter().map(|(_, entry)| entry)).map_err(|source| IllegalLog {
                work: id.into(),
                source,
            })?;
        // What follows depends on the jobs as well: the worker looks at once.
        tx.execute(
        "UPDATE campaign SET state = ?2, due_at = ?3, touched_at = ?3, woken = woken + 1 WHERE id = ?1",
        params![id.0, state.phase.name(), now.as_millisecond()],
    )?;
        Ok(())
    }
}

impl Store {
    /// A campaign by its number.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn campaign(&self, id: CampaignId) -> Result<Option<Campaign>> {
        self.read("read a campaign", |db| {
            one(db, "WHERE id = ?1", params![id.0])
        })
    }

    /// The campaign that a command made.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn campaign_of_command(&self, event: &EventId) -> Result<Option<Campaign>> {
        self.read("read a campaign", |db| {
            one(db, "WHERE command_event = ?1", params![event.as_str()])
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
                "WHERE admin_room = ?1 AND state IN ('finding', 'planning', 'planned', 'running')"
            }
            Filter::All => "WHERE admin_room = ?1",
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
                "WHERE space = ?1 AND state IN ('finding', 'planning', 'planned') ORDER BY id",
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
