//! The executor: asks a job's state what is next, does it, and writes down what became of it.
//!
//! It decides nothing by itself: [`State::next_action`] does, from the log alone, so that going on
//! after a crash is the same path as the first run. Jobs run side by side, each one step at a time;
//! one job's wait holds up no other. Left out: what a step does (`steps`).

mod campaign;
mod failure;
mod follow_up;
mod link;
mod records;
mod steps;

use std::any::Any;
use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use jiff::Timestamp;
use ruma::RoomId;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, error, info, info_span, warn};

use self::records::Pruning;
use self::steps::{JobRun, StepError};
use crate::announce;
use crate::clock::{Clock, later};
use crate::config::{FollowUpSettings, Messages, ScheduleSettings, UpgradeSettings};
use crate::homeserver::paced::Paced;
use crate::job::log::{Again, Direction, Kept};
use crate::job::schedule::{self, Sleep, Wake};
use crate::job::{Action, Asks, Entry, Job, Phase, Plan, State, Step, StepEvent, WaitReason};
use crate::message::plan;
use crate::message::plan::PlanReason;
use crate::message::problem::Problem;
use crate::message::report;
use crate::metrics;
use crate::model::{Confirmation, JobId, Text, WorkId};
use crate::permissions::AdminRoom;
use crate::store::post_key::{Asked, SetAside};
use crate::store::{Outgoing, Post, PostKey, Store, StoreError, Write};
use crate::survey::{self, Surroundings};
use crate::telemetry::chain;
use crate::work::State as _;

/// How long the jobs of a campaign share what one of them read of their surroundings.
const SURROUNDINGS_MAX: Duration = Duration::from_secs(10);

/// How long work rests that cannot be done: its log cannot be read, or it ran into a bug outside its steps.
const SET_ASIDE: Duration = Duration::from_hours(1);

/// How often the worker looks for work when nothing wakes it.
const POLL: Duration = Duration::from_secs(30);

/// What the worker needs to know of the configuration.
#[derive(Debug)]
pub struct Setup {
    /// How rooms are upgraded.
    pub upgrade: UpgradeSettings,
    /// How people who did not come are followed up.
    pub follow_up: FollowUpSettings,
    /// When they are.
    pub schedule: ScheduleSettings,
    /// Texts for members.
    pub messages: Messages,
    /// Where commands come from.
    pub admin_rooms: Vec<AdminRoom>,
    /// How long what is over is kept; `None`: for ever.
    pub keep: Option<Duration>,
}

/// What the worker and its steps work with.
pub struct WorkerContext {
    /// The database.
    pub store: Arc<Store>,
    /// The homeserver.
    pub port: Paced,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The configuration.
    pub setup: Setup,
    /// What the jobs of campaigns share.
    pub surroundings: Shared<Surroundings>,
}

/// What was read for one job and serves others a while.
#[derive(Debug)]
pub struct Shared<T>(Mutex<Option<(Timestamp, Arc<T>)>>);

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Shared<T> {
    /// What was read at most so long ago.
    fn fresh(&self, now: Timestamp, longest: Duration) -> Option<Arc<T>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let age = |read: Timestamp| Duration::try_from(now.duration_since(read)).ok();
        kept.take_if(|(read, _)| age(*read).is_none_or(|age| age > longest));
        kept.as_ref().map(|(_, read)| Arc::clone(read))
    }

    fn keep(&self, now: Timestamp, read: &Arc<T>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = Some((now, Arc::clone(read)));
    }
}

/// The worker.
pub struct Worker {
    context: Arc<WorkerContext>,
    busy: Mutex<HashSet<WorkId>>,
    /// Held while a job of a campaign looks after its follow-up.
    pinging: tokio::sync::Mutex<()>,
}

impl Worker {
    /// A worker that has not begun.
    #[must_use]
    pub fn new(context: WorkerContext) -> Self {
        Self {
            context: Arc::new(context),
            busy: Mutex::default(),
            pinging: tokio::sync::Mutex::default(),
        }
    }

    /// Works until told to stop. Jobs in the middle of a request are left there: they go on after
    /// the next start as after any other end.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) -> Result<(), StoreError> {
        let slots = Arc::new(Semaphore::new(usize::from(
            self.context.setup.upgrade.concurrency,
        )));
        let tasks = TaskTracker::new();
        let broken: Arc<Mutex<Option<StoreError>>> = Arc::default();
        let mut looked: Option<Timestamp> = None;
        let mut pruning = Pruning::default();
        loop {
            // Register before looking, so that a signal in between is not missed.
            let woken = self.context.store.wakes.work.notified();
            if let Some(error) = broken.lock().unwrap_or_else(PoisonError::into_inner).take() {
                return Err(error);
            }
            let now = self.context.clock.now();
            // At the start, and when the clock was set back.
            if looked.is_none_or(|looked| looked > now) {
                self.context.store.wake_campaigns(now)?;
            }
            looked = Some(now);
            let restless = self.context.store.restless_jobs()?;
            let due = self.context.store.due_work(now)?.into_iter();
            for id in due.chain(restless.into_iter().map(WorkId::Job)) {
                if self.is_held_back(id)? {
                    continue;
                }
                if !self
                    .busy
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(id)
                {
                    continue;
                }
                let (worker, slots, stop) = (Arc::clone(&self), Arc::clone(&slots), stop.clone());
                let broken = Arc::clone(&broken);
                let work = async move {
                    let work = async {
                        match id {
                            // A campaign only decides which jobs may begin: it takes no place of theirs.
                            WorkId::Campaign(id) => worker.look(id).await,
                            WorkId::Job(id) => match slots.acquire().await {
                                Ok(_slot) => worker.run_job(id).await,
                                Err(_) => Ok(()),
                            },
                        }
                    };
                    let work = AssertUnwindSafe(work).catch_unwind();
                    let result = tokio::select! {
                        biased;
                        () = stop.cancelled() => Ok(Ok(())),
                        result = work => result,
                    };
                    // One unit's trouble stays its own (P13).
                    let result = match result {
                        Ok(Err(error)) if error.is_about_one_row() => worker.unreadable(id, &error),
                        Ok(result) => result,
                        Err(panic) => worker.panicked(id, &*panic),
                    };
                    worker
                        .busy
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .remove(&id);
                    if let Err(error) = result {
                        *broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                    }
                    // Whatever came due while this job was busy is looked for again.
                    worker.context.store.wakes.work.notify_one();
                };
                tasks.spawn(work.instrument(info_span!("job", job.id = %id)));
            }
            let pause = self.prune(now, &mut pruning)?.min(self.pause(now)?);
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = woken => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        tasks.close();
        tasks.wait().await;
        Ok(())
    }

    /// Sets a unit of work aside whose log cannot be read, and says so once.
    fn unreadable(&self, id: WorkId, error: &StoreError) -> Result<(), StoreError> {
        error!(error = chain(error), "cannot be read; set aside");
        self.set_aside(id, SetAside::Unreadable, report::unreadable(id))
    }

    /// What a panic means: its job fails at the step at hand, or is set aside where there is none.
    fn panicked(&self, id: WorkId, panic: &(dyn Any + Send)) -> Result<(), StoreError> {
        let told = panic.downcast_ref::<&str>().copied();
        let told = told.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        let told = told.unwrap_or("a panic without words");
        error!(panic = told, "a bug; the work it happened in is stopped");
        if let WorkId::Job(id) = id
            && let Some(job) = self.context.store.job(id)?
            && let Ok(state) = job.state()
            && let (Phase::Planning | Phase::Running | Phase::RollingBack, Some(step)) =
                (state.phase, state.current())
        {
            let problem = Problem::Bug(told.to_owned()).to_string();
            let event = StepEvent::Failed {
                problem,
                again: Again::MayHelp,
            };
            return match self.record(&job, vec![Entry::Step { step, event }], vec![]) {
                Err(StoreError::Conflict { .. }) => Ok(()),
                recorded => recorded,
            };
        }
        self.set_aside(id, SetAside::Panicked, report::panicked(id, told))
    }

    fn set_aside(&self, id: WorkId, why: SetAside, text: Text) -> Result<(), StoreError> {
        let now = self.context.clock.now();
        let until = later(now, SET_ASIDE);
        let Some(room_id) = self.context.store.set_aside(id, until)? else {
            return Ok(());
        };
        let said = Write::Enqueue(Outgoing {
            key: PostKey::SetAside(why, id),
            room_id,
            post: Post::Message {
                text,
                reply_to: None,
            },
        });
        self.context.store.commit(now, &[said])
    }

    /// Whether something does not go on because another database has taken over the account: all but the
    /// upgrades that have begun.
    fn is_held_back(&self, id: WorkId) -> Result<bool, StoreError> {
        let store = &self.context.store;
        if store.replaced().is_none() {
            return Ok(false);
        }
        let job = match id {
            WorkId::Campaign(_) => None,
            WorkId::Job(id) => store.job(id)?,
        };
        Ok(match job {
            None => true,
            Some(job) => !job.state()?.has_begun(),
        })
    }

    /// How long there is nothing to begin. What is due by now is at work, and wakes the worker when it
    /// rests.
    fn pause(&self, now: Timestamp) -> Result<Duration, StoreError> {
        let due = self.context.store.next_work_due(now)?;
        Ok(due.map_or(POLL, |due| {
            Duration::try_from(due.duration_since(self.context.clock.now()))
                .unwrap_or(Duration::ZERO)
                .min(POLL)
        }))
    }

    /// Takes a job as far as it goes now.
    async fn run_job(&self, id: JobId) -> Result<(), StoreError> {
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
                warn!(?error, "the follow-up goes on later");
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

    /// Whether the bot is not in an admin room. Where the server does not say, what is only told goes on.
    async fn is_away_from(&self, admin_room: &RoomId) -> bool {
        let is_here = survey::is_here(&self.context.port, admin_room).await;
        let is_away = matches!(is_here, Ok(false));
        if is_away {
            warn!("not in the admin room: members are not told yet");
        }
        is_away
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
    fn record(
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

/// When it is looked again whether the bot is in the admin room, so that members can be told.
fn look_again(now: Timestamp) -> Timestamp {
    later(now, failure::ABSENCE_MAX)
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

/// The state of a job that something else looks at; nothing where its log cannot be read.
fn readable(job: &Job) -> Option<State> {
    job.state()
        .inspect_err(|error| {
            error!(job.id = %job.id, error = chain(error), "a job cannot be read, and is left out");
        })
        .ok()
}
