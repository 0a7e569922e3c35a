//! The entries of a job's log, as they are stored.
//!
//! Every entry is an intent or an outcome, written before or after the effect; `started` is in the log before
//! the first effect of a step. What a log amounts to is in `state`, how an entry changes that in `fold`.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ruma::{OwnedEventId, OwnedUserId};
use serde::{Deserialize, Serialize};

use super::{FollowUpEvent, Output, Plan, Refusal, Step};
use crate::model::{Bucket, RateLimit, Text};

/// One thing that happened to a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum Entry {
    /// A plan was made and shown. Follows the request, or the confirmation of a plan that no
    /// longer fits the room.
    Planned {
        /// The plan.
        plan: Box<Plan>,
    },
    /// Somebody said yes to the plan with this hash.
    Confirmed {
        /// Who.
        by: OwnedUserId,
        /// The plan they saw.
        hash: String,
        /// Their command or reaction; absent where the command itself said yes, and in old rows.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        event: Option<OwnedEventId>,
    },
    /// Somebody took it back before the switch.
    Cancelled {
        /// Who.
        by: OwnedUserId,
    },
    /// Nobody confirmed in time.
    Expired,
    /// A newer plan for the same room takes its place.
    Superseded,
    /// Only the plan was asked for.
    Closed,
    /// Somebody asked a stuck job to go on.
    Retried {
        /// Who.
        by: OwnedUserId,
    },
    /// Somebody stops it between two steps for a while.
    Paused {
        /// Who.
        by: OwnedUserId,
    },
    /// Somebody lets it go on.
    Resumed {
        /// Who.
        by: OwnedUserId,
    },
    /// Somebody wants the to-dos of a finished upgrade checked again now.
    Rechecked {
        /// Who.
        by: OwnedUserId,
        /// When.
        at: Timestamp,
    },
    /// The old room was told when the upgrade begins; the job sleeps on.
    Announced {
        /// Until when.
        next: Timestamp,
        /// What the old room is told if nothing comes of it.
        if_called_off: Text,
    },
    /// Something happened to a step.
    Step {
        /// Which.
        step: Step,
        /// What.
        event: StepEvent,
    },
    /// Something happened to the follow-up of a finished upgrade.
    FollowUp {
        /// What.
        event: FollowUpEvent,
    },
    /// A row that this version cannot read. It can follow nothing, and is never written.
    #[serde(skip)]
    Unreadable {
        /// What stands there.
        row: String,
    },
}

/// What happens to a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum StepEvent {
    /// It is about to act.
    Started,
    /// The one request of `create` or `switch` that must not be repeated blindly is about to leave.
    Called {
        /// When.
        at: Timestamp,
    },
    /// No answer to that request has come by now, and none will: the connection is gone, or the bot was
    /// started again. The server may still carry it out.
    AnswerLost {
        /// When.
        at: Timestamp,
    },
    /// That request changed nothing, as the rooms show; or what it made was taken back.
    Undone,
    /// It is done.
    Succeeded {
        /// What it leaves behind.
        output: Output,
    },
    /// It goes on later.
    Waiting {
        /// When.
        until: Timestamp,
        /// Why.
        reason: WaitReason,
        /// How far it got.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        progress: Option<Progress>,
        /// Answers that the step has received.
        #[serde(default, skip_serializing_if = "Kept::is_empty")]
        kept: Kept,
    },
    /// It cannot go on by itself.
    Failed {
        /// Why, in words for people.
        problem: String,
        /// Whether the same once more may help.
        #[serde(default)]
        again: Again,
    },
}

/// Answers that a step keeps across a wait. Under a tight limit, asking again would use up what the
/// rest of the step needs, so that it would never end.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    /// Changes that were refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub refused: Vec<Refusal>,
    /// What became of messages, by transaction id; `None` for one that cannot be posted.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub posted: BTreeMap<String, Option<OwnedEventId>>,
    /// How often requests got no certain answer while the server answered others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub failed: BTreeMap<String, u32>,
}

impl Kept {
    /// Whether there is nothing to keep.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.refused.is_empty() && self.posted.is_empty() && self.failed.is_empty()
    }
}

/// Whether it helps to try the same once more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Again {
    /// It may, once the cause is gone.
    #[default]
    MayHelp,
    /// Something else has to be asked for.
    Useless,
    /// Somebody else upgraded the room meanwhile.
    Overtaken,
}

/// Whether somebody holds a job.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// It goes as it can.
    #[default]
    Free,
    /// The step at hand is the last until somebody lets it go on.
    Paused,
}

/// How much of a step is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Changes made.
    pub done: usize,
    /// Changes to make, those made included.
    pub all: usize,
}

impl From<RateLimit> for WaitReason {
    fn from(limit: RateLimit) -> Self {
        Self::RateLimit {
            bucket: limit.bucket,
        }
    }
}

/// Why a step waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum WaitReason {
    /// The homeserver asked for a pause. Never counts against the job (P8).
    RateLimit {
        /// Which limit.
        bucket: Bucket,
    },
    /// The homeserver cannot be reached. Never counts against the job either.
    Unreachable,
    /// It answers only with errors, or something in front of it does. Neither does that.
    ServerError {
        /// HTTP status.
        status: u16,
    },
    /// It does not let the account do anything now.
    AccountBlocked {
        /// Matrix error code, such as `M_USER_SUSPENDED`.
        code: String,
    },
    /// The homeserver may still be working on it.
    Settling,
    /// The bot is not in the admin room, and cannot see who may command there now.
    NotInAdminRoom,
    /// It is not time yet: the next announcement, or the start. In the plan's schedule.
    Scheduled,
    /// It failed in a way that may pass.
    Problem {
        /// What happened, in words for people.
        problem: String,
    },
}

impl WaitReason {
    /// The name in metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::RateLimit { .. } => "rate_limit",
            Self::Unreachable => "unreachable",
            Self::ServerError { .. } => "server_error",
            Self::AccountBlocked { .. } => "account_blocked",
            Self::Settling => "settling",
            Self::NotInAdminRoom => "not_in_admin_room",
            Self::Scheduled => "scheduled",
            Self::Problem { .. } => "problem",
        }
    }
}
