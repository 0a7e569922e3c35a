//! The log of a job, its fold to a state, and what that state calls for.
//!
//! Every entry is an intent or an outcome, written before or after the effect; `started` stands in
//! the log before the first effect of a step. An entry that cannot follow is an error, not a guess.

use std::collections::BTreeMap;

use jiff::Timestamp;
use ruma::{OwnedRoomId, OwnedUserId};
use serde::{Deserialize, Serialize};

use super::{Output, Plan, Step};
use crate::model::Bucket;

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
    /// Somebody wants the to-dos of a finished upgrade checked again now.
    Rechecked {
        /// Who.
        by: OwnedUserId,
        /// When.
        at: Timestamp,
    },
    /// Something happened to a step.
    Step {
        /// Which.
        step: Step,
        /// What.
        event: StepEvent,
    },
}

/// What happens to a step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum StepEvent {
    /// It is about to act.
    Started,
    /// The one request of `switch` that must not be repeated blindly is about to leave.
    Called {
        /// When.
        at: Timestamp,
    },
    /// That request was refused, and the rooms show that it changed nothing.
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
    },
    /// It cannot go on by itself.
    Failed {
        /// Why, in words for people.
        problem: String,
    },
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
    /// The homeserver may still be working on it.
    Settling,
    /// It failed in a way that may pass.
    Problem {
        /// What happened, in words for people.
        problem: String,
    },
}

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The plan is being made.
    Planning,
    /// The plan is shown and can be confirmed.
    Planned,
    /// At work.
    Running,
    /// After the switch, and cannot go on by itself.
    Stuck,
    /// Finished; there may be to-dos.
    Done,
    /// The plan has a blocker, or was only asked for.
    Closed,
    /// Taken back by somebody.
    Cancelled,
    /// Not confirmed in time, or replaced by a newer plan.
    Expired,
    /// Ended before the switch; the old room is as it was.
    Failed,
}

impl Phase {
    /// The name in the database and in lists.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Planning => "planning",
            Self::Planned => "planned",
            Self::Running => "running",
            Self::Stuck => "stuck",
            Self::Done => "done",
            Self::Closed => "closed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Failed => "failed",
        }
    }

    /// Whether nothing more will happen.
    #[must_use]
    pub fn is_end(self) -> bool {
        !matches!(
            self,
            Self::Planning | Self::Planned | Self::Running | Self::Stuck
        )
    }
}

/// What a job's log amounts to.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Where it stands.
    pub phase: Phase,
    /// The plan in force.
    pub plan: Option<Plan>,
    /// Who confirmed it.
    pub confirmed_by: Option<OwnedUserId>,
    /// Outputs of finished steps.
    pub outputs: BTreeMap<Step, Output>,
    /// The step begun and not finished.
    pub started: Option<Step>,
    /// Whether the request that must not be repeated may have left.
    pub called: Called,
    /// Until when the current step waits, and why.
    pub waiting: Option<(Timestamp, WaitReason)>,
    /// Tries of the current step that failed in a way that may pass.
    pub attempts: u32,
    /// Waits of the current step, for whatever reason.
    pub waits: u32,
    /// When a finished upgrade with open to-dos is compared again.
    pub recheck: Option<Timestamp>,
    /// Why it failed or is stuck.
    pub problem: Option<String>,
}

/// Whether `/upgrade` was, or may have been, called by this job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Called {
    /// Certainly not.
    Never,
    /// Perhaps, at this time: the entry is written before the request leaves.
    Perhaps(Timestamp),
}

/// What a state calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Run this step now.
    Run(Step),
    /// Run this step at that time.
    Wait(Step, Timestamp),
    /// Somebody has to confirm by that time.
    AwaitConfirmation(Timestamp),
    /// Somebody has to ask for it to go on.
    AwaitRetry,
    /// Nothing, ever.
    Finished,
}

/// An entry that cannot follow what stands before it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("a job that is {} cannot take the entry {entry:?}", phase.name())]
pub struct IllegalEntry {
    /// Where the job stood.
    pub phase: Phase,
    /// What was to follow.
    pub entry: Box<Entry>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            phase: Phase::Planning,
            plan: None,
            confirmed_by: None,
            outputs: BTreeMap::new(),
            started: None,
            called: Called::Never,
            waiting: None,
            attempts: 0,
            waits: 0,
            recheck: None,
            problem: None,
        }
    }
}

impl State {
    /// The state after all entries.
    ///
    /// # Errors
    /// When an entry cannot follow those before it.
    pub fn fold<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Result<Self, IllegalEntry> {
        entries.into_iter().try_fold(Self::default(), Self::after)
    }

    /// The state after one more entry.
    ///
    /// # Errors
    /// When the entry cannot follow.
    pub fn after(mut self, entry: &Entry) -> Result<Self, IllegalEntry> {
        let illegal = Err(IllegalEntry {
            phase: self.phase,
            entry: Box::new(entry.clone()),
        });
        match (self.phase, entry) {
            (Phase::Planning, Entry::Planned { plan }) => self.planned(plan),
            (Phase::Running, Entry::Planned { plan }) if self.can_turn_back() => self.planned(plan),
            (Phase::Planned, Entry::Confirmed { by, hash }) => {
                if self.plan.as_ref().is_none_or(|plan| plan.hash != *hash) {
                    return illegal;
                }
                self.phase = Phase::Running;
                self.confirmed_by = Some(by.clone());
            }
            (Phase::Planning | Phase::Planned, Entry::Cancelled { .. }) => {
                self.end(Phase::Cancelled);
            }
            (Phase::Running, Entry::Cancelled { .. }) if self.can_turn_back() => {
                self.end(Phase::Cancelled);
            }
            (Phase::Planned, Entry::Expired)
            | (Phase::Planning | Phase::Planned, Entry::Superseded) => {
                self.end(Phase::Expired);
            }
            (Phase::Planned, Entry::Closed) => self.end(Phase::Closed),
            (Phase::Stuck, Entry::Retried { .. }) => {
                self.phase = Phase::Running;
                self.attempts = 0;
                self.waits = 0;
                self.problem = None;
            }
            (Phase::Done, Entry::Rechecked { at, .. }) => self.recheck = Some(*at),
            (Phase::Planning | Phase::Running, Entry::Step { step, event })
                if self.current() == Some(*step) =>
            {
                if self.step(*step, event).is_err() {
                    return illegal;
                }
            }
            // A finished upgrade can be compared again as often as anybody likes; it stays finished.
            (
                Phase::Done,
                Entry::Step {
                    step: Step::Verify,
                    event,
                },
            ) => match event {
                StepEvent::Started => self.waiting = None,
                StepEvent::Waiting { until, .. } => self.recheck = Some(*until),
                StepEvent::Succeeded { output } => self.verified(output),
                StepEvent::Failed { .. } => self.recheck = None,
                StepEvent::Called { .. } | StepEvent::Undone => return illegal,
            },
            _ => return illegal,
        }
        Ok(self)
    }

    fn planned(&mut self, plan: &Plan) {
        *self = Self {
            phase: Phase::Planned,
            plan: Some(plan.clone()),
            ..Self::default()
        };
        if plan.is_blocked() {
            self.end(Phase::Closed);
        }
    }

    fn verified(&mut self, output: &Output) {
        self.recheck = match output {
            Output::Verified { recheck_at, .. } => *recheck_at,
            _ => None,
        };
        self.outputs.insert(Step::Verify, output.clone());
    }

    fn end(&mut self, phase: Phase) {
        self.phase = phase;
        self.started = None;
        self.waiting = None;
    }

    fn step(&mut self, step: Step, event: &StepEvent) -> Result<(), ()> {
        match event {
            StepEvent::Started => {
                self.started = Some(step);
                self.waiting = None;
            }
            StepEvent::Called { at } if step == Step::Switch && self.started == Some(step) => {
                self.called = Called::Perhaps(*at);
            }
            StepEvent::Undone if self.called != Called::Never && step == Step::Switch => {
                self.called = Called::Never;
            }
            StepEvent::Called { .. } | StepEvent::Undone => return Err(()),
            StepEvent::Succeeded { output } => {
                if self.started != Some(step) || step == Step::Plan {
                    return Err(());
                }
                self.outputs.insert(step, output.clone());
                self.started = None;
                self.waiting = None;
                self.attempts = 0;
                self.waits = 0;
                if step == Step::Verify {
                    self.verified(output);
                    self.end(Phase::Done);
                }
            }
            StepEvent::Waiting { until, reason } => {
                if matches!(reason, WaitReason::Problem { .. }) {
                    self.attempts += 1;
                }
                self.waits += 1;
                self.waiting = Some((*until, reason.clone()));
            }
            StepEvent::Failed { problem } => {
                self.problem = Some(problem.clone());
                let end = if self.can_turn_back() {
                    Phase::Failed
                } else {
                    Phase::Stuck
                };
                self.end(end);
            }
        }
        Ok(())
    }

    /// Whether the old room is still as it was: nothing was asked of the server that cannot be
    /// taken back. Once the server was asked to switch, only a look at the rooms
    /// ([`StepEvent::Undone`]) can tell that nothing happened.
    #[must_use]
    pub fn can_turn_back(&self) -> bool {
        !self.outputs.contains_key(&Step::Switch) && self.called == Called::Never
    }

    /// The step that is to be done now.
    #[must_use]
    pub fn current(&self) -> Option<Step> {
        match self.phase {
            Phase::Planning => Some(Step::Plan),
            Phase::Running | Phase::Stuck => Step::UPGRADE
                .into_iter()
                .find(|step| !self.outputs.contains_key(step)),
            _ => None,
        }
    }

    /// Whether the log can take an outcome of this step: nobody ended the job meanwhile.
    #[must_use]
    pub fn is_at(&self, step: Step) -> bool {
        match self.phase {
            Phase::Planning | Phase::Running => self.current() == Some(step),
            Phase::Done => step == Step::Verify,
            _ => false,
        }
    }

    /// The new room, once it is known.
    #[must_use]
    pub fn new_room(&self) -> Option<&OwnedRoomId> {
        match self.outputs.get(&Step::Switch) {
            Some(Output::Switched { new_room }) => Some(new_room),
            _ => None,
        }
    }

    /// What is to be done next. Total: there is an answer to every state.
    #[must_use]
    pub fn next_action(&self) -> Action {
        match (self.phase, self.current(), &self.waiting, &self.plan) {
            (Phase::Planned, _, _, Some(plan)) => Action::AwaitConfirmation(plan.expires_at),
            (Phase::Stuck, ..) => Action::AwaitRetry,
            (Phase::Done, ..) => match self.recheck {
                Some(at) => Action::Wait(Step::Verify, at),
                None => Action::Finished,
            },
            (_, Some(step), Some((until, _)), _) => Action::Wait(step, *until),
            (_, Some(step), None, _) => Action::Run(step),
            (_, None, ..) => Action::Finished,
        }
    }
}
