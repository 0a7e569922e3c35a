//! The log of a job, its fold to a state, and what that state calls for.
//!
//! Every entry is an intent or an outcome, written before or after the effect; `started` stands in
//! the log before the first effect of a step. An entry that cannot follow is an error, not a guess.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use ruma::{OwnedEventId, OwnedRoomId, OwnedServerName, OwnedUserId};
use serde::{Deserialize, Serialize};

use super::{Asks, FollowUp, FollowUpEvent, Output, Plan, Refusal, Request, Step};
use crate::model::{Bucket, JobId, RateLimit, Text};
use crate::work::{self, IllegalEntry};

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
    called: BTreeMap<Step, Called>,
    /// How the job ends once what it made is taken back.
    ending: Option<Phase>,
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

impl work::State for State {
    type Id = JobId;
    type Request = Request;
    type Entry = Entry;

    #[expect(
        clippy::too_many_lines,
        reason = "an arm for each entry that can follow"
    )]
    fn after(mut self, entry: &Entry) -> Result<Self, IllegalEntry> {
        let phase = self.phase.name();
        let illegal = || IllegalEntry::new(phase, entry);
        match (self.phase, entry) {
            (Phase::Planning, Entry::Planned { plan }) => self.planned(plan),
            (Phase::Running, Entry::Planned { plan })
                if self.can_roll_back() && !self.may_have_made_a_room() =>
            {
                self.planned(plan);
            }
            (Phase::Planned | Phase::InReview, Entry::Confirmed { by, hash, .. }) => {
                if self.plan.as_ref().is_none_or(|plan| plan.hash != *hash) {
                    return Err(illegal());
                }
                if self.phase == Phase::InReview {
                    // The old room went on while the new one was looked at.
                    self.outputs.remove(&Step::Snapshot);
                    self.outputs.remove(&Step::Populate);
                }
                self.phase = Phase::Running;
                self.confirmed_by = Some(by.clone());
            }
            (
                Phase::Planning | Phase::Planned | Phase::Running | Phase::InReview,
                Entry::Cancelled { .. },
            ) if self.can_roll_back() => self.roll_back(Phase::Cancelled),
            (Phase::Planned | Phase::InReview, Entry::Expired)
            | (Phase::Planning | Phase::Planned, Entry::Superseded) => {
                self.roll_back(Phase::Expired);
            }
            (Phase::Planned, Entry::Closed) => self.end(Phase::Closed),
            (Phase::Stuck, Entry::Retried { .. }) => {
                self.phase = Phase::Running;
                self.attempts = 0;
                self.waits = 0;
                self.problem = None;
            }
            (Phase::Running, Entry::Paused { .. }) if self.hold == Hold::Free => {
                self.hold = Hold::Paused;
            }
            // A pause during the review's step outlasts it.
            (Phase::Running | Phase::InReview, Entry::Resumed { .. })
                if self.hold == Hold::Paused =>
            {
                self.hold = Hold::Free;
            }
            (
                Phase::Running,
                Entry::Announced {
                    next,
                    if_called_off,
                },
            ) if matches!(self.waiting, Some((_, WaitReason::Scheduled))) => {
                self.waiting = Some((*next, WaitReason::Scheduled));
                self.announced = Some(if_called_off.clone());
            }
            // Its campaign tells its members as well, and wakes it in the end.
            (Phase::Planned, Entry::Announced { if_called_off, .. })
                if self
                    .plan
                    .as_ref()
                    .is_some_and(|plan| plan.asks == Asks::Campaign) =>
            {
                self.announced = Some(if_called_off.clone());
            }
            (Phase::Done, Entry::Rechecked { at, .. }) => self.recheck = Some(*at),
            (Phase::Planning | Phase::Running, Entry::Step { step, event })
                if self.current() == Some(*step) =>
            {
                if self.step(*step, event).is_err() {
                    return Err(illegal());
                }
            }
            (Phase::RollingBack, Entry::Step { step, event }) if self.current() == Some(*step) => {
                if self.rolled_back(*step, event).is_err() {
                    return Err(illegal());
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
                StepEvent::Waiting {
                    until,
                    reason,
                    kept,
                    ..
                } => {
                    self.attempts += u32::from(matches!(reason, WaitReason::Problem { .. }));
                    self.waits += 1;
                    self.kept.clone_from(kept);
                    self.recheck = Some(*until);
                }
                StepEvent::Succeeded { output } => {
                    self.rest();
                    self.verified(output);
                    self.checked();
                }
                StepEvent::Failed { .. } => {
                    self.rest();
                    self.recheck = None;
                    self.checked();
                }
                StepEvent::Called { .. } | StepEvent::AnswerLost { .. } | StepEvent::Undone => {
                    return Err(illegal());
                }
            },
            (Phase::Done, Entry::FollowUp { event }) => {
                let Some(follow_up) = FollowUp::after(self.follow_up.take(), event) else {
                    return Err(illegal());
                };
                if let FollowUpEvent::Ending { at, .. } = event {
                    self.recheck = Some(*at);
                }
                self.follow_up = Some(follow_up);
            }
            _ => return Err(illegal()),
        }
        Ok(self)
    }
}

impl State {
    /// The to-dos of a finished upgrade were looked at, which its follow-up may have waited for.
    fn checked(&mut self) {
        if let Some(follow_up) = &mut self.follow_up {
            follow_up.checked();
        }
    }

    fn planned(&mut self, plan: &Plan) {
        *self = Self {
            phase: Phase::Planned,
            plan: Some(plan.clone()),
            announced: self.announced.take(),
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
        self.hold = Hold::Free;
        self.rest();
    }

    /// Nothing is begun and nothing waited for.
    fn rest(&mut self) {
        self.started = None;
        self.waiting = None;
        self.progress = None;
        self.kept = Kept::default();
        self.attempts = 0;
        self.waits = 0;
    }

    /// Ends, after what was made is taken back (P6).
    fn roll_back(&mut self, end: Phase) {
        if self.may_have_made_a_room() {
            self.ending = Some(end);
            self.end(Phase::RollingBack);
        } else {
            self.end(end);
        }
    }

    fn rolled_back(&mut self, step: Step, event: &StepEvent) -> Result<(), ()> {
        match event {
            StepEvent::Started => {
                self.started = Some(step);
                self.waiting = None;
            }
            StepEvent::Waiting { until, reason, .. } => self.wait(*until, reason, None),
            StepEvent::Undone => {
                self.outputs.remove(&step);
                self.called.remove(&step);
                self.end(self.ending.unwrap_or(Phase::Failed));
            }
            // What cannot be taken back is said, and the job ends all the same.
            StepEvent::Failed { problem, again } => {
                if *again == Again::Overtaken {
                    self.again = *again;
                }
                let before = self.problem.take().map(|before| before + " ");
                self.problem = Some(before.unwrap_or_default() + problem.as_str());
                self.end(self.ending.unwrap_or(Phase::Failed));
            }
            StepEvent::AnswerLost { at } => self.answer_lost(step, *at)?,
            StepEvent::Called { .. } | StepEvent::Succeeded { .. } => return Err(()),
        }
        Ok(())
    }

    fn answer_lost(&mut self, step: Step, at: Timestamp) -> Result<(), ()> {
        let called = self.called.get_mut(&step).ok_or(())?;
        *called = Called::AnswerLost(at);
        Ok(())
    }

    fn wait(&mut self, until: Timestamp, reason: &WaitReason, progress: Option<Progress>) {
        if matches!(reason, WaitReason::Problem { .. }) {
            self.attempts += 1;
        }
        // Sleeping until the agreed time is no sign of trouble, and begins no backoff.
        self.waits += u32::from(*reason != WaitReason::Scheduled);
        self.waiting = Some((until, reason.clone()));
        self.progress = progress;
    }

    fn step(&mut self, step: Step, event: &StepEvent) -> Result<(), ()> {
        match event {
            StepEvent::Started => {
                self.started = Some(step);
                self.waiting = None;
            }
            StepEvent::Called { .. }
                if matches!(step, Step::Create | Step::Switch) && self.started == Some(step) =>
            {
                self.called.insert(step, Called::Perhaps);
            }
            StepEvent::AnswerLost { at } => self.answer_lost(step, *at)?,
            StepEvent::Undone if self.called.contains_key(&step) => {
                self.called.remove(&step);
            }
            StepEvent::Called { .. } | StepEvent::Undone => return Err(()),
            StepEvent::Succeeded { output } => {
                if self.started != Some(step) || !output.is_of(step) {
                    return Err(());
                }
                self.outputs.insert(step, output.clone());
                self.rest();
                match step {
                    Step::Review => self.phase = Phase::InReview,
                    Step::Verify => {
                        self.verified(output);
                        self.end(Phase::Done);
                    }
                    _ => {}
                }
            }
            StepEvent::Waiting {
                until,
                reason,
                progress,
                kept,
            } => {
                self.wait(*until, reason, *progress);
                self.kept.clone_from(kept);
            }
            StepEvent::Failed { problem, again } => {
                self.problem = Some(problem.clone());
                self.again = *again;
                if self.can_roll_back() {
                    self.roll_back(Phase::Failed);
                } else {
                    self.end(Phase::Stuck);
                }
            }
        }
        Ok(())
    }

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
    fn may_have_made_a_room(&self) -> bool {
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
