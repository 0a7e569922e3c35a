//! What lists and campaigns show of a job: a digest of its log, stored beside it, so that hundreds of
//! jobs can be listed without reading hundreds of logs.
//!
//! Like the state's name in the database it is an index, made anew each time the log grows; nothing
//! decides about a job by it alone.

use jiff::Timestamp;
use ruma::{OwnedRoomId, RoomVersionId};
use serde::{Deserialize, Serialize};

use super::follow_up::{End, FollowUp, Stage};
use super::log::{Again, Hold, Progress};
use super::plan::Asks;
use super::{Encryption, Entry, Output, State, Step, WaitReason};
use crate::room::finding::{Finding, Weight};
use crate::work::{IllegalEntry, State as _};

/// A job in short.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// What people call the room; empty while there is no plan.
    pub label: String,
    /// Its version before.
    pub from: Option<RoomVersionId>,
    /// The wanted version.
    pub to: Option<RoomVersionId>,
    /// The new room, once the old one leads there.
    pub new_room: Option<OwnedRoomId>,
    /// The step it is at.
    pub step: Option<Step>,
    /// What it waits for, and until when.
    pub waiting: Option<(Timestamp, WaitReason)>,
    /// How much of the step is done.
    pub progress: Option<Progress>,
    /// Whether somebody holds it.
    #[serde(default)]
    pub hold: Hold,
    /// Why it failed or is stuck.
    pub problem: Option<String>,
    /// What forbids it; the first, if there are several.
    pub blocker: Option<Finding>,
    /// What is left to do for people.
    pub todos: usize,
    /// Whether it encrypted the room.
    #[serde(default)]
    pub encryption: Encryption,
    /// Whether it helps to try it again.
    #[serde(default)]
    pub again: Again,
    /// Requests it takes.
    pub requests: usize,
    /// How long that takes, in seconds.
    pub seconds: u64,
    /// How many of those the server's rate limits take.
    #[serde(default)]
    pub limited_seconds: u64,
    /// Fingerprint of its plan.
    pub hash: Option<String>,
    /// Who says yes to it.
    #[serde(default)]
    pub asks: Asks,
    /// When it was begun, after a yes.
    pub begun_at: Option<Timestamp>,
    /// When it ended first.
    pub ended_at: Option<Timestamp>,
    /// What follows it.
    #[serde(default)]
    pub following: Following,
}

/// A follow-up in short.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Following {
    /// None.
    #[default]
    Nothing,
    /// It is not over.
    Open,
    /// It is.
    Over {
        /// How often it ended.
        ends: u32,
        /// How it ended last, where that was written down.
        end: Option<End>,
    },
}

impl From<&FollowUp> for Following {
    fn from(follow_up: &FollowUp) -> Self {
        match follow_up.stage {
            Stage::Over => Self::Over {
                ends: follow_up.ends,
                end: follow_up.end.clone(),
            },
            Stage::Open | Stage::Checking(_) | Stage::Closing(_) => Self::Open,
        }
    }
}

impl Summary {
    /// The state that a log amounts to, and the summary of both.
    ///
    /// # Errors
    /// When the log holds something that cannot follow what stands before it.
    pub fn fold<'a>(
        log: impl IntoIterator<Item = (Timestamp, &'a Entry)>,
    ) -> Result<(State, Self), IllegalEntry> {
        let mut state = State::default();
        let (mut begun_at, mut ended_at) = (None, None);
        for (at, entry) in log {
            state = state.after(entry)?;
            if matches!(entry, Entry::Confirmed { .. }) {
                begun_at.get_or_insert(at);
            }
            if state.phase.is_end() {
                ended_at.get_or_insert(at);
            } else {
                ended_at = None;
            }
        }
        let plan = state.plan.as_ref();
        let summary = Self {
            label: plan.map(|plan| plan.label.clone()).unwrap_or_default(),
            from: plan.and_then(|plan| plan.from.clone()),
            to: plan.map(|plan| plan.intent.version.clone()),
            new_room: state.new_room().cloned(),
            step: state.current(),
            waiting: state.waiting.clone(),
            progress: state.progress,
            hold: state.hold,
            problem: state.problem.clone(),
            blocker: plan.and_then(|plan| plan.of_weight(Weight::Blocker).next().cloned()),
            todos: match state.outputs.get(&Step::Verify) {
                Some(Output::Verified { todos, .. }) => todos.len(),
                _ => 0,
            },
            encryption: match state.outputs.get(&Step::Verify) {
                Some(Output::Verified { encryption, .. }) => *encryption,
                _ => Encryption::AsBefore,
            },
            again: state.again,
            requests: plan.map_or(0, |plan| plan.requests),
            seconds: plan.map_or(0, |plan| plan.seconds),
            limited_seconds: plan.map_or(0, |plan| plan.limited_seconds),
            hash: plan.map(|plan| plan.hash.clone()),
            asks: plan.map(|plan| plan.asks).unwrap_or_default(),
            begun_at,
            ended_at,
            following: state
                .follow_up
                .as_ref()
                .map(Following::from)
                .unwrap_or_default(),
        };
        Ok((state, summary))
    }
}
