//! The plan: what is shown before anybody says yes, and what the yes is bound to.
//!
//! Pure data. It is made from a snapshot by `survey` and the rules in `room`; how it reads is for
//! `message`.

use std::fmt::Write as _;

use jiff::Timestamp;
use ruma::{OwnedRoomId, RoomVersionId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Schedule;
use crate::room::finding::{Finding, Weight};
use crate::room::intent::Intent;

/// Bytes of a digest that make a fingerprint.
const FINGERPRINT_BYTES: usize = 8;

/// A fingerprint of what went into a digest: what a yes is bound to, short enough for a key.
#[must_use]
pub fn fingerprint(of: Sha256) -> String {
    let mut hash = String::with_capacity(2 * FINGERPRINT_BYTES);
    for byte in of.finalize().iter().take(FINGERPRINT_BYTES) {
        // Writing to a String cannot fail.
        let _ = write!(hash, "{byte:02x}");
    }
    hash
}

/// What would happen to one room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The room to be upgraded.
    pub old_room: OwnedRoomId,
    /// What people call it.
    pub label: String,
    /// Its version now. Absent where the room could not be read.
    pub from: Option<RoomVersionId>,
    /// The room that somebody else made, where their upgrade is finished.
    #[serde(default)]
    pub successor: Option<OwnedRoomId>,
    /// What is wanted.
    pub intent: Intent,
    /// What stands in the way, gets lost, or should be known.
    pub findings: Vec<Finding>,
    /// How much there is.
    pub counts: Counts,
    /// Requests the upgrade will take.
    pub requests: usize,
    /// How long that will take at the pace seen while planning, in seconds.
    pub seconds: u64,
    /// How much of it the server's rate limits take, as far as they were known; what is done side by side does
    /// not shorten that.
    #[serde(default)]
    pub limited_seconds: u64,
    /// Fingerprint of all that a yes is given to. Members coming and going do not change it.
    pub hash: String,
    /// Until when it can be confirmed.
    pub expires_at: Timestamp,
    /// Who says yes to it.
    #[serde(default)]
    pub asks: Asks,
    /// When it begins, unless it does so at once. No part of the hash: a job has one start, and
    /// whoever says yes to a later plan of it has been told.
    #[serde(default)]
    pub schedule: Option<Schedule>,
}

impl Plan {
    /// Findings of a weight, in their order.
    pub fn of_weight(&self, weight: Weight) -> impl Iterator<Item = &Finding> {
        self.findings
            .iter()
            .filter(move |finding| finding.weight() == weight)
    }

    /// Whether something forbids the upgrade.
    #[must_use]
    pub fn is_blocked(&self) -> bool {
        self.of_weight(Weight::Blocker).next().is_some()
    }
}

/// Who says yes to a plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asks {
    /// The plan was shown, and is answered by itself.
    #[default]
    Itself,
    /// The campaign it is part of was shown; that also decides when it begins.
    Campaign,
}

/// How much there is in a room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Who is in the room, without the bot itself.
    pub members: usize,
    /// Their servers.
    pub servers: usize,
    /// Banned users.
    pub bans: usize,
    /// Settings and other state that is carried over.
    pub state: usize,
    /// Addresses on the bot's server.
    pub aliases: usize,
    /// Pinned messages.
    #[serde(default)]
    pub pins: usize,
    /// Spaces with the room in it.
    pub spaces: usize,
}
