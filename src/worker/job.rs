//! Runs a job: asks its state what is next, does it, and writes down what became of it.
//!
//! Nothing is decided here: [`State::next_action`] does, from the log alone, so that continuing after a crash is
//! the same path as the first run. Left out: what a step does (`steps`).

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{error, info, warn};

use super::steps::{self, JobRun, StepError};
use super::{Worker, failure, follow_up, look_again};
use crate::job::log::Kept;
use crate::job::schedule::{self, Sleep, Wake};
use crate::job::state::Direction;
use crate::job::{Action, Asks, Entry, Job, Phase, Plan, State, Step, StepEvent, WaitReason};
use crate::message::plan;
use crate::message::plan::PlanReason;
use crate::model::{Confirmation, JobId};
use crate::store::post_key::Asked;
use crate::store::{StoreError, Write};
use crate::telemetry::chain;
use crate::work::State as _;
use crate::{announce, metrics};

impl Worker {
    /// Takes a job as far as it goes now.
    pub(super) async fn run_job(&self, id: JobId) -> Result<(), StoreError> {
        let mut job_run = JobRun::new(Arc::clone(&self.context));
        let mut first = true;
        loop {
            let Some(job) = self.context.store.job(id)? else {
                return Ok(());
            };
            let state = job.state()?;
            if self.context.store.replaced().is_some() && !state.has_begun() {
                return Ok(());
            }
            let now = self.context.clock.now();
            let turned_back = job.log.last().is_some_and(|(at, _)| *at > now);
            if turned_back {
                self.context.store.clock_turned_back(id, now)?;
            }
            // Nobody knows how long it has waited: it looks once, and waits anew if it must. An agreed
            // time is another matter: it comes when it comes.
            let looks = turned_back && schedule::sleeping(&state).is_none();
            let first_look = std::mem::take(&mut first);
            let result = match state.next_action() {
                // A look that finds nothing to do writes nothing, so that there is one of them.
                Action::FollowUp(at) if at <= now || (looks && first_look) => {
                    self.follow_up(&job, &state).await
                }
                Action::FollowUp(_) | Action::Wait(Step::Verify, _) | Action::Finished
                    if self.context.store.is_restless(id)? =>
                {
                    self.follow_up(&job, &state).await
                }
                Action::Run(step) | Action::RollBack(step) => {
                    self.step(&mut job_run, &job, step).await
                }
                Action::Wait(step, at) if at <= now || looks => match woken(&state, now) {
                    Some((sleep, Wake::Tell { next })) => self.tell(&job, sleep, next).await,
                    Some((_, Wake::Begin)) | None => self.step(&mut job_run, &job, step).await,
                },
                Action::AwaitConfirmation(at) if at <= now => {
                    self.record(&job, vec![Entry::Expired], vec![])
                }
                Action::Wait(..)
                | Action::AwaitConfirmation(_)
                | Action::FollowUp(_)
                | Action::AwaitCampaign
                | Action::AwaitResume
                | Action::AwaitRetry
                | Action::Finished => {
                    return Ok(());
                }
            };
            match result {
                // Somebody cancelled or retried in between: decide again on what is there now.
                Ok(()) | Err(StoreError::Conflict { .. }) => {}
                Err(StoreError::ActiveJob) => {
                    warn!("another job is at work on the room; this one is dropped");
                    self.record(&job, vec![Entry::Superseded], vec![])?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Looks after the follow-up of a finished job.
    async fn follow_up(&self, job: &Job, state: &State) -> Result<(), StoreError> {
        // Jobs of a campaign look at one another, so that nobody is mentioned by two of them.
        let _one_by_one = match &job.request.campaign {
            Some(_) => Some(self.pinging.lock().await),
            None => None,
        };
        self.context.store.look_at_members(job.id)?;
        let doing = match follow_up::run(&self.context, job, state).await {
            Ok(doing) => doing,
            Err(StepError::Store(error)) => return Err(error),
            Err(error) => {
                warn!(%error, "the follow-up goes on later");
                let now = self.context.clock.now();
                let event = state
                    .follow_up
                    .as_ref()
                    .map(|it| follow_up::wait(it, &error, now));
                follow_up::Doing {
                    events: event.into_iter().collect(),
                    writes: vec![],
                }
            }
        };
        if doing.events.is_empty() {
            return Ok(());
        }
        self.record(job, follow_up::entries(doing.events), doing.writes)
    }

    async fn step(&self, job_run: &mut JobRun, job: &Job, step: Step) -> Result<(), StoreError> {
        let mut job = job.clone();
        if job_run.started.take() != Some(step) {
            let started = started(step);
            self.record(&job, vec![started.clone()], vec![])?;
            job.log.push((self.context.clock.now(), started));
        }
        let state = job.state()?;

        let direction = state.direction();
        job_run.kept.clone_from(&state.kept);
        job_run.prioritise(&state, step);
        let begun = Instant::now();
        let outcome = match direction {
            Direction::Forward => steps::run(job_run, &job, &state, step).await,
            Direction::Back => steps::roll_back(job_run, &job, &state, step).await,
        };
        metrics::step(step.name(), begun.elapsed());
        // The step may have added to the log itself (`create` and `switch` do).
        let Some(job) = self.context.store.job(job.id)? else {
            return Ok(());
        };
        let state = job.state()?;
        if !state.is_at(step) || state.direction() != direction {
            info!(
                step = step.name(),
                "cancelled or replaced meanwhile; the result is dropped"
            );
            return Ok(());
        }
        match outcome {
            Ok(steps::Done::Output { output, mut writes }) => {
                info!(step = step.name(), "step done");
                let mut entries = vec![Entry::Step {
                    step,
                    event: StepEvent::Succeeded { output },
                }];
                if step == Step::Verify && state.phase == Phase::Running {
                    let begun = follow_up::begin(&self.context, &job, &state)?;
                    entries.extend(follow_up::entries(begun.events));
                    writes.extend(begun.writes);
                }
                let (more, next) = following(job_run, &job, state, &entries);
                entries.extend(more);
                self.record(&job, entries, writes)?;
                job_run.started = next;
                Ok(())
            }
            Ok(steps::Done::Undone) => {
                info!(step = step.name(), "taken back");
                let event = StepEvent::Undone;
                self.record(&job, vec![Entry::Step { step, event }], vec![])
            }
            Ok(steps::Done::Planned(plan, occasion)) => self.planned(&job, step, plan, occasion),
            Err(StepError::Store(error)) => Err(error),
            Err(error) => {
                let now = self.context.clock.now();
                let mut entry = failure::meaning(&state, step, error, now);
                if let StepEvent::Waiting { reason, kept, .. } = &mut entry {
                    kept.clone_from(&job_run.kept);
                    metrics::wait(reason.name());
                }
                self.record(&job, vec![Entry::Step { step, event: entry }], vec![])
            }
        }
    }

    /// Shows a plan, and begins what was confirmed beforehand.
    fn planned(
        &self,
        job: &Job,
        step: Step,
        mut plan: Box<Plan>,
        occasion: PlanReason,
    ) -> Result<(), StoreError> {
        let turn = job.request.campaign.as_ref();
        if let Some(turn) = turn.filter(|_| step == Step::Plan) {
            plan.asks = turn.asks(&plan.hash);
        }
        let mut entries = vec![];
        let now = self.context.clock.now();
        let confirmation = match occasion {
            // The yes was to another time, even where it was given beforehand.
            PlanReason::StartMissed => Confirmation::Ask,
            PlanReason::Asked | PlanReason::RoomChanged => job.request.confirmation,
        };
        let text = plan::plan(job.id, &plan, confirmation, occasion, now);
        let blocked = plan.is_blocked();
        let asked = Asked::Plan {
            shown_before: announce::times_shown(job, &plan.hash),
        };
        let mut writes = announce::asking(job, asked, &plan.hash, text);
        if blocked || confirmation != Confirmation::Ask {
            // Nothing to say yes to: only the message.
            writes.truncate(1);
        }
        if plan.asks == Asks::Campaign || (blocked && job.request.campaign.is_some()) {
            // Its campaign tells.
            writes.clear();
        }
        writes.extend(self.superseded(job, &plan, confirmation)?);
        entries.push(Entry::Planned { plan: plan.clone() });
        match confirmation {
            Confirmation::Given if !blocked => {
                let by = job.request.sender.clone();
                entries.extend(schedule::confirmed(Phase::Planned, &plan, by, None, now));
            }
            Confirmation::PlanOnly if !blocked => {
                entries.push(Entry::Closed);
            }
            _ => {}
        }
        info!(blocked, "plan made");
        self.record(job, entries, writes)
    }

    /// Tells the old room when the upgrade begins, and has the job sleep on (P3: at once, or not).
    async fn tell(&self, job: &Job, sleep: Sleep<'_>, next: Timestamp) -> Result<(), StoreError> {
        let is_away = self.is_away_from(&job.request.admin_room).await;
        let now = self.context.clock.now();
        let asleep = |until| Entry::Step {
            step: Step::Snapshot,
            event: StepEvent::Waiting {
                until,
                reason: WaitReason::Scheduled,
                progress: None,
                kept: Kept::default(),
            },
        };
        if is_away {
            return self.record(job, vec![asleep(next.min(look_again(now)))], vec![]);
        }
        let messages = &self.context.setup.messages;
        match announce::announcement(job, sleep, messages, next, now) {
            Ok((entry, write)) => {
                info!("members are told when it begins");
                self.record(job, vec![entry], vec![write])
            }
            Err(error) => {
                // The configuration was checked: a bug, which must not keep the upgrade from its time.
                error!(error = chain(&error), "cannot announce");
                self.record(job, vec![asleep(next)], vec![])
            }
        }
    }

    /// The end of the plans for a job's room that were asked for before it. A plan that nobody can say yes to
    /// takes no other plan's place.
    fn superseded(
        &self,
        job: &Job,
        plan: &Plan,
        confirmation: Confirmation,
    ) -> Result<Vec<Write>, StoreError> {
        let mut writes = Vec::new();
        if plan.is_blocked()
            || plan.asks == Asks::Campaign
            || confirmation == Confirmation::PlanOnly
        {
            return Ok(writes);
        }
        let now = self.context.clock.now();
        for before in self.context.store.open_plans(&job.request.old_room)? {
            if before.id < job.id {
                writes.extend(announce::advance(&before, vec![Entry::Superseded], now)?);
            }
        }
        Ok(writes)
    }

    /// Writes entries and everything that people are to see of them, at once.
    pub(super) fn record(
        &self,
        job: &Job,
        entries: Vec<Entry>,
        mut writes: Vec<Write>,
    ) -> Result<(), StoreError> {
        let now = self.context.clock.now();
        writes.extend(announce::advance(job, entries, now)?);
        self.context.store.commit(now, &writes)
    }
}

/// What goes into the same transaction as the end of a step, which saves most of them: the steps that have
/// nothing to do, and the beginning of the next one, which it returns.
fn following(
    job_run: &mut JobRun,
    job: &Job,
    state: State,
    ended: &[Entry],
) -> (Vec<Entry>, Option<Step>) {
    let mut entries = Vec::new();
    let mut after = ended.iter().try_fold(state, State::after);
    while let Ok(state) = after {
        let Action::Run(step) = state.next_action() else {
            break;
        };
        let begun = started(step);
        let Some(output) = steps::idle(job_run, job, &state, step) else {
            entries.push(begun);
            return (entries, Some(step));
        };
        info!(step = step.name(), "nothing to do");
        metrics::step(step.name(), Duration::ZERO);
        let event = StepEvent::Succeeded { output };
        let done = Entry::Step { step, event };
        after = state.after(&begun).and_then(|state| state.after(&done));
        entries.extend([begun, done]);
    }
    (entries, None)
}

fn started(step: Step) -> Entry {
    let event = StepEvent::Started;
    Entry::Step { step, event }
}

/// What a job does that slept until its time, or until an announcement.
fn woken(state: &State, now: Timestamp) -> Option<(Sleep<'_>, Wake)> {
    let sleep = schedule::sleeping(state)?;
    Some((sleep, sleep.schedule.wake(sleep.until, now)))
}
