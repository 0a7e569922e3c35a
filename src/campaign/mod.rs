//! What a campaign is: the upgrades of all rooms of a space, asked for and confirmed as one.
//!
//! A campaign plans nothing and moves no room by itself: each of its rooms is an ordinary job, and
//! the campaign decides which of them may begin when. Its state is a fold over its log, and
//! [`State::next_action`] alone decides what comes next, from that and from where its jobs stand.
//! Pure: no clock, no database. Left out: finding the rooms in a space (`rooms`), doing it
//! (`worker`), telling about it (`message`).

pub(crate) mod log;
pub(crate) mod rooms;

pub use log::{Action, Course, Entry, Phase, State};

use std::collections::BTreeSet;

use jiff::Timestamp;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomVersionId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use self::rooms::LeftOut;
use crate::job::plan::fingerprint;
use crate::job::{Phase as JobPhase, Schedule, Summary};
use crate::model::{Confirmation, JobId, RoomRef, UpgradeOptions, WorkKey};
use crate::work::{self, Logged};

/// What was asked for, and where. Stored with the campaign, never changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The space as it was named.
    pub named: RoomRef,
    /// The space.
    pub space: OwnedRoomId,
    /// Version, creators and so on, for each of the rooms.
    pub options: UpgradeOptions,
    /// Which of its rooms are meant.
    pub narrow: Narrow,
    /// Whether a yes is needed.
    pub confirmation: Confirmation,
    /// Who asked.
    pub sender: OwnedUserId,
    /// Where they asked; the only room that is told about the campaign.
    pub admin_room: OwnedRoomId,
    /// The command.
    pub command_event: OwnedEventId,
}

/// Which rooms of a space are meant. Empty: all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Narrow {
    /// These only, if there are any.
    #[serde(default)]
    pub only: BTreeSet<OwnedRoomId>,
    /// Not these.
    #[serde(default)]
    pub skip: BTreeSet<OwnedRoomId>,
    /// Those of this version only.
    #[serde(default)]
    pub from: Option<RoomVersionId>,
}

/// A campaign as it is stored.
pub type Campaign = Logged<State>;

impl Request {
    /// What belongs to this campaign and to no job.
    #[must_use]
    pub fn key(&self) -> WorkKey {
        WorkKey {
            command: self.command_event.clone(),
            room: None,
        }
    }
}

impl work::Request for Request {
    fn command(&self) -> &OwnedEventId {
        &self.command_event
    }

    fn admin_room(&self) -> &OwnedRoomId {
        &self.admin_room
    }

    fn admin_room_mut(&mut self) -> &mut OwnedRoomId {
        &mut self.admin_room
    }
}

/// What a yes is given to. What it says of each room stands in that room's job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// What people call the space.
    pub label: String,
    /// Fingerprint of the plans of all rooms that are to be upgraded.
    pub hash: String,
    /// Those rooms.
    pub rooms: usize,
    /// Requests that all of it takes.
    pub requests: usize,
    /// How long that will take, in seconds, with the rate limits that were known.
    pub seconds: u64,
    /// Until when it can be confirmed.
    pub expires_at: Timestamp,
    /// When it begins, unless it does so at once.
    #[serde(default)]
    pub schedule: Option<Schedule>,
}

/// A job of a campaign, as far as the campaign has to know it.
#[derive(Debug, Clone, PartialEq)]
pub struct Child {
    /// Its number.
    pub id: JobId,
    /// The room to be upgraded.
    pub old_room: OwnedRoomId,
    /// When it goes: after all jobs of lower ranks. Rooms are 0, spaces more than what is in them.
    pub rank: u32,
    /// Where it stands.
    pub phase: JobPhase,
    /// What lists show of it.
    pub summary: Summary,
}

impl Child {
    /// Whether nothing more happens before somebody does something about it.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.phase.is_end() || self.phase == JobPhase::Stuck || self.asks_itself()
    }

    /// Whether the yes was to this room too, or somebody asked for it once more: not where something was in
    /// the way from the beginning.
    #[must_use]
    pub fn was_meant_to_go(&self) -> bool {
        self.phase != JobPhase::Closed
            || self.summary.begun_at.is_some()
            || self.summary.asks == crate::job::plan::Asks::Itself
    }

    /// Whether its room no longer fits what was confirmed, so that it waits for a yes of its own.
    #[must_use]
    pub fn asks_itself(&self) -> bool {
        self.phase == JobPhase::Planned && self.summary.asks == crate::job::plan::Asks::Itself
    }

    /// Whether it is planned and waits for its turn.
    #[must_use]
    pub fn is_waiting_for_its_turn(&self) -> bool {
        self.phase == JobPhase::Planned && self.summary.asks == crate::job::plan::Asks::Campaign
    }

    /// Whether the old room leads to the new one.
    #[must_use]
    pub fn is_moved(&self) -> bool {
        self.summary.new_room.is_some()
    }
}

/// The plan for those children that can be upgraded.
#[must_use]
pub fn plan(label: String, children: &[Child], concurrency: u8, expires_at: Timestamp) -> Plan {
    let going: Vec<_> = children
        .iter()
        .filter(|child| child.is_waiting_for_its_turn())
        .collect();
    let mut digest = Sha256::new();
    for child in &going {
        digest.update(child.old_room.as_bytes());
        digest.update(child.summary.hash.as_deref().unwrap_or_default().as_bytes());
    }
    let seconds: u64 = going.iter().map(|child| child.summary.seconds).sum();
    let longest = going.iter().map(|child| child.summary.seconds).max();
    let limited: u64 = going
        .iter()
        .map(|child| child.summary.limited_seconds)
        .sum();
    Plan {
        label,
        hash: fingerprint(digest),
        rooms: going.len(),
        requests: going.iter().map(|child| child.summary.requests).sum(),
        seconds: (seconds / u64::from(concurrency.max(1)))
            .max(longest.unwrap_or(0))
            .max(limited),
        expires_at,
        schedule: None,
    }
}

/// Rooms whose ends the pace is told from: the latest.
const PACE_WINDOW: usize = 10;

/// How long the rest takes, in seconds: at the pace of the rooms that ended last, and before there are
/// any, as their plans say. `None` where nothing is left.
#[must_use]
pub fn pace(children: &[Child]) -> Option<u64> {
    let open: Vec<_> = children
        .iter()
        .filter(|child| !child.is_settled())
        .collect();
    if open.is_empty() {
        return None;
    }
    let mut ends: Vec<_> = children
        .iter()
        .filter(|child| child.is_moved())
        .filter_map(|child| child.summary.ended_at)
        .collect();
    ends.sort_unstable();
    let window = ends
        .get(ends.len().saturating_sub(PACE_WINDOW)..)
        .unwrap_or_default();
    if let (Some(first), Some(last)) = (window.first(), window.last())
        && window.len() > 1
    {
        let took = u64::try_from(last.duration_since(*first).as_millis()).unwrap_or(0);
        let each = took / (window.len() as u64 - 1);
        return Some((each * open.len() as u64).div_ceil(1000));
    }
    Some(open.iter().map(|child| child.summary.seconds).sum())
}

/// What was found in the space.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// What people call the space.
    pub label: String,
    /// How many rooms are to be planned.
    pub rooms: usize,
    /// Rooms that are not to be upgraded, and why.
    pub left_out: Vec<LeftOut>,
}

#[cfg(test)]
mod tests;
