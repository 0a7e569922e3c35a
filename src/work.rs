//! What jobs and campaigns have in common: a request that is stored once, a log that only grows, and a
//! state that is a fold over that log.
//!
//! Left out: what can happen to either, and what comes next (`job`, `campaign`); how it is stored (`store`).

use std::fmt::Debug;

use jiff::Timestamp;
use ruma::{OwnedEventId, OwnedRoomId};

use crate::model::WorkId;

/// What the log of one kind of work amounts to.
pub trait State: Debug + Clone + PartialEq + Default {
    /// The number of such work.
    type Id: Debug + Copy + PartialEq + Into<WorkId>;
    /// What was asked for.
    type Request: Request;
    /// One thing that happens to it.
    type Entry: Debug + Clone + PartialEq;

    /// The state after one more entry.
    ///
    /// # Errors
    /// When the entry cannot follow.
    fn after(self, entry: &Self::Entry) -> Result<Self, IllegalEntry>;

    /// The state after all entries.
    ///
    /// # Errors
    /// When an entry cannot follow those before it.
    fn fold<'a>(entries: impl IntoIterator<Item = &'a Self::Entry>) -> Result<Self, IllegalEntry>
    where
        Self::Entry: 'a,
    {
        entries.into_iter().try_fold(Self::default(), Self::after)
    }
}

/// What was asked for, and where.
pub trait Request: Debug + Clone + PartialEq {
    /// The command.
    fn command(&self) -> &OwnedEventId;

    /// The room that is told about the work.
    fn admin_room(&self) -> &OwnedRoomId;

    /// The same, to be changed once that room was upgraded.
    fn admin_room_mut(&mut self) -> &mut OwnedRoomId;
}

/// A job or a campaign as it is stored.
#[derive(Debug, Clone, PartialEq)]
pub struct Logged<S: State> {
    /// Its number.
    pub id: S::Id,
    /// What was asked for. Its admin room is the one that is told about the work now.
    pub request: S::Request,
    /// The admin room in which the command stands.
    pub asked_in: OwnedRoomId,
    /// When.
    pub created_at: Timestamp,
    /// What happened so far, oldest first.
    pub log: Vec<(Timestamp, S::Entry)>,
}

/// Entries that follow a log as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Append<S: State> {
    /// Whose log it is.
    pub id: S::Id,
    /// How many entries the writer has seen.
    pub expected: usize,
    /// What follows them.
    pub entries: Vec<S::Entry>,
}

/// An entry that cannot follow what stands before it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("work that is {phase} cannot take the entry {entry}")]
pub struct IllegalEntry {
    /// Where the work stood.
    pub phase: &'static str,
    /// What was to follow.
    pub entry: String,
}

/// A log that makes no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{} {work}", work.kind())]
pub struct IllegalLog {
    /// Whose log it is.
    pub work: WorkId,
    /// What does not fit.
    #[source]
    pub source: IllegalEntry,
}

impl IllegalEntry {
    /// For an entry that was to follow in a phase.
    pub(crate) fn new(phase: &'static str, entry: &impl Debug) -> Self {
        Self {
            phase,
            entry: format!("{entry:?}"),
        }
    }
}

impl<S: State> Logged<S> {
    /// The command, as something to reply to: only in the room in which it stands.
    #[must_use]
    pub fn reply_to(&self) -> Option<OwnedEventId> {
        let is_here = *self.request.admin_room() == self.asked_in;
        is_here.then(|| self.request.command().clone())
    }

    /// The state that the log amounts to.
    ///
    /// # Errors
    /// When the log holds something that cannot follow what stands before it.
    pub fn state(&self) -> Result<S, IllegalLog> {
        S::fold(self.log.iter().map(|(_, entry)| entry)).map_err(|source| IllegalLog {
            work: self.id.into(),
            source,
        })
    }

    /// What makes the log longer, provided that it is as it was read.
    #[must_use]
    pub fn append(&self, entries: Vec<S::Entry>) -> Append<S> {
        Append {
            id: self.id,
            expected: self.log.len(),
            entries,
        }
    }
}
