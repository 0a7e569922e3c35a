//! How each entry of the log changes the state of a job. An entry that cannot follow is an error, not a guess.

use jiff::Timestamp;

use super::log::{Again, Entry, Hold, Kept, Progress, StepEvent, WaitReason};
use super::state::{Called, Phase, State};
use super::{Asks, FollowUp, FollowUpEvent, Output, Plan, Request, Step};
use crate::model::JobId;
use crate::work::{self, IllegalEntry};

impl work::State for State {
    type Id = JobId;
    type Request = Request;
    type Entry = Entry;

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
                self.step(*step, event).map_err(|()| illegal())?;
            }
            (Phase::RollingBack, Entry::Step { step, event }) if self.current() == Some(*step) => {
                self.rolled_back(*step, event).map_err(|()| illegal())?;
            }
            (
                Phase::Done,
                Entry::Step {
                    step: Step::Verify,
                    event,
                },
            ) => self.verify_again(event).map_err(|()| illegal())?,
            (Phase::Done, Entry::FollowUp { event }) => {
                self.followed_up(event).map_err(|()| illegal())?;
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

    /// A finished upgrade can be compared again as often as anybody likes; it stays finished.
    fn verify_again(&mut self, event: &StepEvent) -> Result<(), ()> {
        match event {
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
                return Err(());
            }
        }
        Ok(())
    }

    fn followed_up(&mut self, event: &FollowUpEvent) -> Result<(), ()> {
        let follow_up = FollowUp::after(self.follow_up.take(), event).ok_or(())?;
        if let FollowUpEvent::Ending { at, .. } = event {
            self.recheck = Some(*at);
        }
        self.follow_up = Some(follow_up);
        Ok(())
    }
}
