//! Words shared by all modules: ids, references to rooms, the options of an upgrade, text for people.
//!
//! Everything here is plain data that may be stored; it knows no other module. What a room *is*
//! lives in `room`, what a job *does* in `job`. Ids of rooms, users and events are ruma's own.

use std::fmt;

use ruma::{OwnedRoomAliasId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomVersionId};
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

/// A room as somebody named it, with the servers that were given to reach it by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRef {
    /// The id or the alias.
    pub name: RoomName,
    /// Servers from a link's `via`; empty for a bare id or alias.
    pub via: Vec<OwnedServerName>,
}

/// The id or the alias of a room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoomName {
    /// `!opaque:server`, or `!opaque` from room version 12 on.
    Id(OwnedRoomId),
    /// `#name:server`.
    Alias(OwnedRoomAliasId),
}

impl fmt::Display for RoomName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Alias(alias) => alias.fmt(f),
        }
    }
}

/// What a job refers to when a command names one: its number or its room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobRef {
    /// By number.
    Id(JobId),
    /// By old (or new) room.
    Room(RoomRef),
}

/// How the new room comes to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The homeserver's own `/upgrade`, mended afterwards.
    Server,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Server => "server",
        })
    }
}

/// What somebody asked for, beside the room itself. Absent means: as configured.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpgradeOptions {
    /// Wanted room version.
    pub version: Option<RoomVersionId>,
    /// Wanted method.
    pub method: Option<Method>,
    /// Further creators, beside the configured ones.
    pub creators: Vec<OwnedUserId>,
    /// Why; shown to members.
    pub reason: Option<String>,
}

/// Whether an upgrade waits for somebody's yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confirmation {
    /// The plan is shown and waits.
    Ask,
    /// `--yes`: begun at once when the plan has no blocker.
    Given,
    /// `plan`: shown only; cannot be confirmed.
    PlanOnly,
}

/// Text for people in both of the forms that a Matrix message carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Text {
    /// The fall-back body: complete by itself.
    pub plain: String,
    /// The same as HTML; everything that came from outside is escaped.
    pub html: String,
}

/// Rate limits that homeservers count apart from one another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bucket {
    /// `/createRoom` and `/upgrade`.
    RoomCreation,
    /// Joins by the bot itself.
    Joins,
    /// Invitations of others.
    Invitations,
    /// Messages, state events, bans and the rest.
    Everything,
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RoomCreation => "creating rooms",
            Self::Joins => "joining rooms",
            Self::Invitations => "inviting people",
            Self::Everything => "sending",
        })
    }
}
