//! What a job's log amounts to: the questions that the rest asks of it, and what it calls for next.
//! How an entry changes it is in `fold`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use ruma::{OwnedRoomId, OwnedServerName, OwnedUserId};
use serde::{Deserialize, Serialize};

use super::log::{Again, Hold, Kept, Progress, WaitReason};
use super::{Asks, FollowUp, Output, Plan, Refusal, Step};
use crate::model::Text;

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
    /// The new room is shown to the moderators; nothing leads there yet.
    InReview,
    /// What was made is being taken back; the old room is as it was.
    #[serde(rename = "unwinding")]
    RollingBack,
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
            Self::InReview => "in_review",
            Self::RollingBack => "unwinding",
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
            Self::Planning
                | Self::Planned
                | Self::Running
                | Self::InReview
                | Self::RollingBack
                | Self::Stuck
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
    /// The requests that must not be repeated blindly and were about to leave, by their step.
    pub(super) called: BTreeMap<Step, Called>,
    /// How the job ends once what it made is taken back.
    pub(super) ending: Option<Phase>,
    /// Until when the current step waits, and why.
    pub waiting: Option<(Timestamp, WaitReason)>,
    /// How far the current step got when it began to wait.
    pub progress: Option<Progress>,
    /// Answers that the current step received before it began to wait.
    pub kept: Kept,
    /// Tries of the current step that failed in a way that may pass.
    pub attempts: u32,
    /// Waits of the current step, for whatever reason.
    pub waits: u32,
    /// When a finished upgrade with open to-dos is compared again.
    pub recheck: Option<Timestamp>,
    /// Why it failed or is stuck.
    pub problem: Option<String>,
    /// Whether the same once more may help.
    pub again: Again,
    /// What follows a finished upgrade, if anything does.
    pub follow_up: Option<FollowUp>,
    /// Whether somebody holds it.
    pub hold: Hold,
    /// Members were told of it: what they are told if nothing comes of it.
    pub announced: Option<Text>,
}

/// Whether a job does its steps or takes back what they made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// It does them.
    Forward,
    /// It takes back.
    Back,
}

/// Whether a step sent, or may have sent, its one request that must not be repeated blindly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Called {
    /// Certainly not.
    Never,
    /// Perhaps: the entry is written before the request leaves.
    Perhaps,
    /// Perhaps, and its answer was lost by this time.
    AnswerLost(Timestamp),
}

/// What a state calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Run this step now.
    Run(Step),
    /// Take back what this step made, now.
    RollBack(Step),
    /// Run this step, or take it back, at that time.
    Wait(Step, Timestamp),
    /// Somebody has to confirm by that time.
    AwaitConfirmation(Timestamp),
    /// Look after the follow-up at that time.
    FollowUp(Timestamp),
    /// The campaign that it is part of decides when it begins.
    AwaitCampaign,
    /// Somebody has to let it go on.
    AwaitResume,
    /// Somebody has to ask for it to go on.
    AwaitRetry,
    /// Nothing, ever.
    Finished,
}

impl Default for State {
    fn default() -> Self {
        Self {
            phase: Phase::Planning,
            plan: None,
            confirmed_by: None,
            outputs: BTreeMap::new(),
            started: None,
            called: BTreeMap::new(),
            ending: None,
            waiting: None,
            progress: None,
            kept: Kept::default(),
            attempts: 0,
            waits: 0,
            recheck: None,
            problem: None,
            again: Again::MayHelp,
            follow_up: None,
            hold: Hold::Free,
            announced: None,
        }
    }
}

impl State {
    /// Whether the old room is still as it was: nothing was asked of the server that cannot be
    /// taken back. Once the server was asked to switch, only a look at the rooms
    /// ([`StepEvent::Undone`]) can tell that nothing happened.
    #[must_use]
    pub fn can_roll_back(&self) -> bool {
        !self.outputs.contains_key(&Step::Switch) && self.called(Step::Switch) == Called::Never
    }

    /// Whether it has passed the step that asks whether it may begin, and is not over.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        match self.phase {
            Phase::Running => self.outputs.contains_key(&Step::Snapshot),
            Phase::RollingBack => true,
            _ => false,
        }
    }

    /// Whether there may be a room of this job that nothing leads to.
    pub(super) fn may_have_made_a_room(&self) -> bool {
        self.outputs.contains_key(&Step::Create) || self.called(Step::Create) != Called::Never
    }

    /// Whether a step may have sent its one request.
    #[must_use]
    pub fn called(&self, step: Step) -> Called {
        self.called.get(&step).copied().unwrap_or(Called::Never)
    }

    /// The steps of this job, in order.
    #[must_use]
    pub fn steps(&self) -> &'static [Step] {
        self.plan
            .as_ref()
            .map_or(&[], |plan| Step::of(plan.intent.method, plan.intent.review))
    }

    /// Whether it does or takes back.
    #[must_use]
    pub fn direction(&self) -> Direction {
        if self.phase == Phase::RollingBack {
            Direction::Back
        } else {
            Direction::Forward
        }
    }

    /// The step that is to be done now, or taken back.
    #[must_use]
    pub fn current(&self) -> Option<Step> {
        match self.phase {
            Phase::Planning => Some(Step::Plan),
            Phase::Running | Phase::Stuck => self
                .steps()
                .iter()
                .copied()
                .find(|step| !self.outputs.contains_key(step)),
            Phase::RollingBack => Some(Step::Create),
            _ => None,
        }
    }

    /// Whether the log can take an outcome of this step: nobody ended the job meanwhile.
    #[must_use]
    pub fn is_at(&self, step: Step) -> bool {
        match self.phase {
            Phase::Planning | Phase::Running | Phase::RollingBack => self.current() == Some(step),
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

    /// The room that was made and that nothing leads to yet.
    #[must_use]
    pub fn staged_room(&self) -> Option<&OwnedRoomId> {
        match self.outputs.get(&Step::Create) {
            Some(Output::Created { new_room }) => Some(new_room),
            _ => None,
        }
    }

    /// Servers that were found not to know the version of the new room, when somebody of them was
    /// invited.
    #[must_use]
    pub fn incompatible_servers(&self) -> BTreeSet<OwnedServerName> {
        let at_first = match self.outputs.get(&Step::Invite) {
            Some(Output::Closed { refused, .. }) => refused.as_slice(),
            _ => &[],
        };
        let later = self.follow_up.iter().flat_map(|one| &one.incompatible);
        at_first
            .iter()
            .filter_map(Refusal::incompatible_server)
            .chain(later.cloned())
            .collect()
    }

    /// What is to be done next. Total: there is an answer to every state.
    #[must_use]
    pub fn next_action(&self) -> Action {
        match (self.phase, self.current(), &self.waiting, &self.plan) {
            (Phase::Planned, _, _, Some(plan)) => match plan.asks {
                Asks::Itself => Action::AwaitConfirmation(plan.expires_at),
                Asks::Campaign => Action::AwaitCampaign,
            },
            (Phase::Running, ..) if self.hold == Hold::Paused => Action::AwaitResume,
            (Phase::InReview, ..) => match self.outputs.get(&Step::Review) {
                Some(Output::Reviewed { until }) => Action::AwaitConfirmation(*until),
                _ => Action::AwaitConfirmation(Timestamp::MIN),
            },
            (Phase::Stuck, ..) => Action::AwaitRetry,
            (Phase::Done, ..) => {
                let due = self.follow_up.as_ref().and_then(FollowUp::due);
                match (self.recheck, due) {
                    (Some(at), due) if due.is_none_or(|due| at <= due) => {
                        Action::Wait(Step::Verify, at)
                    }
                    (_, Some(due)) => Action::FollowUp(due),
                    (_, None) => Action::Finished,
                }
            }
            (_, Some(step), Some((until, _)), _) => Action::Wait(step, *until),
            (Phase::RollingBack, Some(step), None, _) => Action::RollBack(step),
            (_, Some(step), None, _) => Action::Run(step),
            (_, None, ..) => Action::Finished,
        }
    }
}
