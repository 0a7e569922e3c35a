//! The log of a campaign, its fold to a state, and what that state calls for.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use serde::{Deserialize, Serialize};

use super::rooms::LeftOut;
use super::{Child, Found, Plan, Request};
use crate::clock::later;
use crate::job::schedule::Wake;
use crate::job::{Phase as JobPhase, Refusal, Todo, WaitReason};
use crate::model::{Bucket, CampaignId, JobId};
use crate::work::{self, IllegalEntry};

/// Longest wait of a campaign for anything but its time. One that is longer was written by a clock
/// that was wrong, and is over.
pub(crate) const WAIT_MAX: Duration = Duration::from_mins(10);

/// One thing that happened to a campaign.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "snake_case")]
pub enum Entry {
    /// The bot tried to join a room of the space, to look at it.
    Joined {
        /// The room.
        room: OwnedRoomId,
        /// Whether it could.
        joining: Joining,
    },
    /// The rooms were found. Their jobs are made with this entry.
    Found {
        /// What is to be done, and what is left out.
        found: Found,
    },
    /// All rooms are planned, and the plan was shown.
    Planned {
        /// The plan.
        plan: Plan,
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
    /// Somebody stopped it. Rooms that lead to their new one already are finished.
    Cancelled {
        /// Who.
        by: OwnedUserId,
    },
    /// Nobody confirmed in time.
    Expired,
    /// A newer plan for the same space takes its place.
    Superseded,
    /// Only the plan was asked for, or there is nothing to do.
    Closed,
    /// A row that this version cannot read. It can follow nothing, and is never written.
    #[serde(skip)]
    Unreadable {
        /// What stands there.
        row: String,
    },
    /// Nothing new is begun.
    Paused {
        /// By whom.
        by: OwnedUserId,
    },
    /// It goes on.
    Resumed {
        /// By whom.
        by: OwnedUserId,
    },
    /// Somebody wants the rooms that failed tried again.
    Retried {
        /// Who.
        by: OwnedUserId,
    },
    /// The agreed time has come.
    Begun,
    /// The campaign itself goes on later.
    Waiting {
        /// When.
        until: Timestamp,
        /// Why.
        reason: WaitReason,
        /// Links that were refused so far, and are not tried again when it continues.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        refused: Vec<Refusal>,
    },
    /// Links and join rules between its rooms were compared once more, after these jobs.
    Linked {
        /// Jobs that are done.
        jobs: BTreeSet<JobId>,
        /// How many links had to be changed.
        made: usize,
        /// Links that the server refused.
        todos: Vec<Todo>,
        /// Rooms that came into the space meanwhile.
        added: Vec<LeftOut>,
    },
}

/// Whether the bot could join a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Joining {
    /// It is in the room now.
    Done,
    Refused,
}

/// Where a campaign stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Its rooms are being looked for.
    Finding,
    /// Its rooms are being planned.
    Planning,
    /// The plan is shown and can be confirmed.
    Planned,
    /// Its jobs are at work, one after the other.
    Running,
    /// Nothing is left to be done.
    Done,
    /// Only the plan was asked for, or there was nothing to do.
    Closed,
    /// Taken back before anything began.
    Cancelled,
    /// Not confirmed in time, or replaced by a newer plan.
    Expired,
}

impl Phase {
    /// The name in the database and in lists.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Finding => "finding",
            Self::Planning => "planning",
            Self::Planned => "planned",
            Self::Running => "running",
            Self::Done => "done",
            Self::Closed => "closed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// Whether nothing more will happen by itself.
    #[must_use]
    pub fn is_end(self) -> bool {
        matches!(
            self,
            Self::Done | Self::Closed | Self::Cancelled | Self::Expired
        )
    }
}

/// How a confirmed campaign goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Course {
    /// One room after the other.
    #[default]
    On,
    /// What is begun is finished; nothing new begins.
    Paused,
    /// The same, for good.
    Stopped,
}

/// What a campaign's log amounts to.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Where it stands.
    pub phase: Phase,
    /// Rooms that the bot tried to join.
    pub tried: BTreeSet<OwnedRoomId>,
    /// What was found in the space.
    pub found: Option<Found>,
    /// The plan in force.
    pub plan: Option<Plan>,
    /// Who confirmed it.
    pub confirmed_by: Option<OwnedUserId>,
    /// How it goes.
    pub course: Course,
    /// What it waits for itself, and until when.
    pub waiting: Option<(Timestamp, WaitReason)>,
    /// Links that were refused before it began to wait.
    pub refused: Vec<Refusal>,
    /// Waits in a row.
    pub waits: u32,
    /// Jobs after which links were compared.
    pub linked: BTreeSet<JobId>,
    /// Links that the server refused when they were compared last.
    pub todos: Vec<Todo>,
    /// Rooms that came into the space while it was at work.
    pub added: Vec<LeftOut>,
}

/// What a state calls for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Look for the rooms of the space.
    Find,
    /// The jobs make their plans.
    AwaitPlans,
    /// All rooms are planned: show it.
    Show,
    /// Somebody has to confirm by that time.
    AwaitConfirmation(Timestamp),
    /// Tell the old rooms when it begins, and sleep until that time.
    Announce(Timestamp),
    /// The agreed time has come.
    Begin,
    /// These jobs may begin.
    Release(Vec<JobId>),
    /// Jobs are at work.
    AwaitJobs,
    /// Somebody has to let it go on.
    AwaitResume,
    /// Compare links and join rules between the rooms once more.
    Link,
    /// Look again at that time.
    Wait(Timestamp),
    /// Nothing, ever.
    Finished,
}

impl Default for State {
    fn default() -> Self {
        Self {
            phase: Phase::Finding,
            tried: BTreeSet::new(),
            found: None,
            plan: None,
            confirmed_by: None,
            course: Course::On,
            waiting: None,
            refused: Vec::new(),
            waits: 0,
            linked: BTreeSet::new(),
            todos: Vec::new(),
            added: Vec::new(),
        }
    }
}

impl work::State for State {
    type Id = CampaignId;
    type Request = Request;
    type Entry = Entry;

    fn after(mut self, entry: &Entry) -> Result<Self, IllegalEntry> {
        if !matches!(entry, Entry::Waiting { .. } | Entry::Joined { .. }) {
            self.waits = 0;
        }
        match (self.phase, entry) {
            (Phase::Finding, Entry::Joined { room, .. }) => {
                self.tried.insert(room.clone());
                self.waiting = None;
            }
            (Phase::Finding, Entry::Found { found }) => {
                self.found = Some(found.clone());
                self.phase = Phase::Planning;
                self.waiting = None;
            }
            // Asked again, where the agreed time passed while the bot was away.
            (Phase::Planning | Phase::Running, Entry::Planned { plan }) => {
                self.plan = Some(plan.clone());
                self.phase = Phase::Planned;
                self.confirmed_by = None;
                self.waiting = None;
            }
            (Phase::Planned, Entry::Confirmed { by, hash, .. })
                if self.plan.as_ref().is_some_and(|plan| plan.hash == *hash) =>
            {
                self.confirmed_by = Some(by.clone());
                self.phase = Phase::Running;
            }
            (Phase::Finding | Phase::Planning | Phase::Planned, Entry::Cancelled { .. }) => {
                self.phase = Phase::Cancelled;
                self.waiting = None;
            }
            (Phase::Planned, Entry::Expired)
            | (Phase::Finding | Phase::Planning | Phase::Planned, Entry::Superseded) => {
                self.phase = Phase::Expired;
                self.waiting = None;
            }
            (Phase::Planned, Entry::Closed) => self.phase = Phase::Closed,
            (Phase::Running, Entry::Cancelled { .. })
                if matches!(self.waiting, Some((_, WaitReason::Scheduled))) =>
            {
                self.phase = Phase::Cancelled;
                self.waiting = None;
            }
            (Phase::Running, Entry::Cancelled { .. }) => {
                self.course = Course::Stopped;
                self.waiting = None;
            }
            (Phase::Running, Entry::Begun) => self.waiting = None,
            (Phase::Running, Entry::Paused { .. }) if self.course == Course::On => {
                self.course = Course::Paused;
            }
            (Phase::Running, Entry::Resumed { .. }) if self.course == Course::Paused => {
                self.course = Course::On;
            }
            (Phase::Running | Phase::Done, Entry::Retried { .. }) => {
                self.phase = Phase::Running;
                self.course = Course::On;
                self.waiting = None;
            }
            (
                Phase::Finding | Phase::Running | Phase::Done,
                Entry::Waiting {
                    until,
                    reason,
                    refused,
                },
            ) => {
                self.waiting = Some((*until, reason.clone()));
                self.refused.clone_from(refused);
                self.waits += 1;
            }
            (
                Phase::Running | Phase::Done,
                Entry::Linked {
                    jobs, todos, added, ..
                },
            ) => {
                self.linked.clone_from(jobs);
                self.todos.clone_from(todos);
                self.added.clone_from(added);
                self.phase = Phase::Done;
                self.waiting = None;
                self.refused.clear();
            }
            _ => return Err(IllegalEntry::new(self.phase.name(), entry)),
        }
        Ok(self)
    }
}

impl State {
    /// What is to be done next, given where the jobs stand. Total: there is an answer to every
    /// state.
    #[must_use]
    pub fn next_action(&self, children: &[Child], concurrency: u8, now: Timestamp) -> Action {
        if let Some((until, reason)) = &self.waiting
            && *until > now
            && (*reason == WaitReason::Scheduled || *until <= later(now, WAIT_MAX))
        {
            return Action::Wait(*until);
        }
        if let (Phase::Running, Some((due, WaitReason::Scheduled)), Some(plan)) =
            (self.phase, &self.waiting, &self.plan)
        {
            let wake = plan
                .schedule
                .as_ref()
                .map(|schedule| schedule.wake(*due, now));
            return match wake {
                Some(Wake::Tell { next }) => Action::Announce(next),
                Some(Wake::Begin) | None => Action::Begin,
            };
        }
        match (self.phase, &self.plan) {
            (Phase::Finding, _) => Action::Find,
            (Phase::Planning, _) => {
                if children
                    .iter()
                    .any(|child| child.phase == JobPhase::Planning)
                {
                    Action::AwaitPlans
                } else {
                    Action::Show
                }
            }
            (Phase::Planned, Some(plan)) => Action::AwaitConfirmation(plan.expires_at),
            (Phase::Running, _) => self.next_of(children, concurrency),
            (Phase::Done, _) if children.iter().any(|child| self.is_unlinked(child)) => {
                Action::Link
            }
            _ => Action::Finished,
        }
    }

    fn next_of(&self, children: &[Child], concurrency: u8) -> Action {
        let open = || children.iter().filter(|child| !child.is_settled());
        let Some(rank) = open().map(|child| child.rank).min() else {
            return Action::Link;
        };
        match self.course {
            Course::Paused => return Action::AwaitResume,
            Course::Stopped => return Action::AwaitJobs,
            Course::On => {}
        }
        let busy = open().filter(|child| is_busy(child)).count();
        let next: Vec<_> = open()
            .filter(|child| child.rank == rank && child.is_waiting_for_its_turn())
            .map(|child| child.id)
            .take(usize::from(concurrency).saturating_sub(busy))
            .collect();
        if next.is_empty() {
            Action::AwaitJobs
        } else {
            Action::Release(next)
        }
    }

    /// Whether links were not compared since a job was done.
    fn is_unlinked(&self, child: &Child) -> bool {
        child.phase == JobPhase::Done && !self.linked.contains(&child.id)
    }
}

/// What a yes puts into the log: also that the campaign sleeps until its time, if that is still to
/// come.
pub(crate) fn confirmed(
    plan: &Plan,
    by: OwnedUserId,
    event: Option<OwnedEventId>,
    now: Timestamp,
) -> Vec<Entry> {
    let yes = Entry::Confirmed {
        by,
        hash: plan.hash.clone(),
        event,
    };
    let wake = plan
        .schedule
        .as_ref()
        .and_then(|schedule| schedule.first_wake(now));
    let sleep = wake.map(|until| Entry::Waiting {
        until,
        reason: WaitReason::Scheduled,
        refused: Vec::new(),
    });
    [yes].into_iter().chain(sleep).collect()
}

/// Whether a job takes the place of another. One that only waits until it may invite more people
/// does not: its room is made.
fn is_busy(child: &Child) -> bool {
    let invites = matches!(
        child.summary.waiting,
        Some((
            _,
            WaitReason::RateLimit {
                bucket: Bucket::Invitations
            }
        ))
    );
    !child.is_waiting_for_its_turn() && !invites
}
