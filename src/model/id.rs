//! Ids of jobs and campaigns, as they are stored and as people write them.

use std::fmt;
use std::str::FromStr;

use ruma::{OwnedEventId, OwnedRoomId};
use serde::{Deserialize, Serialize};

/// Number of a job as people type it. Counts up from 1 within one database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobId(pub i64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Number of a campaign. People type it as `C1`; counts up from 1 within one database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CampaignId(pub i64);

impl fmt::Display for CampaignId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "C{}", self.0)
    }
}

/// What people say yes to, pause or drop: one job or a campaign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkId {
    /// `7`.
    Job(JobId),
    /// `C7`.
    Campaign(CampaignId),
}

impl WorkId {
    /// What it is, in errors.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Job(_) => "job",
            Self::Campaign(_) => "campaign",
        }
    }
}

impl From<JobId> for WorkId {
    fn from(id: JobId) -> Self {
        Self::Job(id)
    }
}

impl From<CampaignId> for WorkId {
    fn from(id: CampaignId) -> Self {
        Self::Campaign(id)
    }
}

impl fmt::Display for WorkId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Job(id) => id.fmt(f),
            Self::Campaign(id) => id.fmt(f),
        }
    }
}

/// What belongs to one job or campaign and to no other: its command, and of a job of a campaign, whose
/// command makes many jobs, its room as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkKey {
    /// The command.
    pub command: OwnedEventId,
    /// The old room of a job of a campaign.
    pub room: Option<OwnedRoomId>,
}

impl fmt::Display for WorkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.command.fmt(f)?;
        match &self.room {
            None => Ok(()),
            Some(room) => write!(f, ".{room}"),
        }
    }
}

impl FromStr for WorkKey {
    type Err = ruma::IdParseError;

    fn from_str(key: &str) -> Result<Self, Self::Err> {
        let room = key.find(".!");
        Ok(Self {
            command: key[..room.unwrap_or(key.len())].try_into()?,
            room: room.map(|at| key[at + 1..].try_into()).transpose()?,
        })
    }
}
