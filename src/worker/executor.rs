//! The executor: takes what is due, runs each unit of work by itself, and keeps the trouble of one from the
//! others.
//!
//! Work runs side by side, each unit one step at a time; the wait of one holds up no other. Left out: what is
//! done for a job (`job`) or a campaign (`campaign`).

use std::any::Any;
use std::collections::HashSet;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, error, info_span};

use super::Worker;
use super::records::Pruning;
use crate::clock::later;
use crate::job::log::Again;
use crate::job::{Entry, Phase, StepEvent};
use crate::message::problem::Problem;
use crate::message::report;
use crate::model::{Text, WorkId};
use crate::store::post_key::SetAside;
use crate::store::{Outgoing, Post, PostKey, StoreError, Write};
use crate::telemetry::chain;

/// How long work rests that cannot be done: its log cannot be read, or it ran into a bug outside its steps.
const SET_ASIDE: Duration = Duration::from_hours(1);

/// How often the worker looks for work when nothing wakes it.
const POLL: Duration = Duration::from_secs(30);

/// What all that runs has in common.
#[derive(Clone)]
struct Running {
    /// Jobs that may be at work at a time.
    slots: Arc<Semaphore>,
    tasks: TaskTracker,
    /// Why the database cannot be used any more.
    broken: Arc<Mutex<Option<StoreError>>>,
    stop: CancellationToken,
}

impl Worker {
    /// Works until told to stop. Jobs in the middle of a request are left there: they continue after
    /// the next start as after any other end.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub(crate) async fn run(self: Arc<Self>, stop: CancellationToken) -> Result<(), StoreError> {
        let store = &self.context.store;
        let concurrency = usize::from(self.context.setup.upgrade.concurrency);
        let running = Running {
            slots: Arc::new(Semaphore::new(concurrency)),
            tasks: TaskTracker::new(),
            broken: Arc::default(),
            stop,
        };
        let mut looked: Option<Timestamp> = None;
        let mut pruning = Pruning::default();
        loop {
            // Register before looking, so that a signal in between is not missed.
            let woken = store.wakes.work.notified();
            let broken = running
                .broken
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some(error) = broken {
                return Err(error);
            }
            let now = self.context.clock.now();
            // At the start, and when the clock was set back.
            if looked.is_none_or(|looked| looked > now) {
                store.wake_campaigns(now)?;
            }
            looked = Some(now);
            let restless = store.restless_jobs()?.into_iter().map(WorkId::Job);
            for id in store.due_work(now)?.into_iter().chain(restless) {
                if !self.is_held_back(id)? && self.busy().insert(id) {
                    self.begin(id, &running);
                }
            }
            let pause = self.prune(now, &mut pruning)?.min(self.pause(now)?);
            tokio::select! {
                biased;
                () = running.stop.cancelled() => break,
                () = woken => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        running.tasks.close();
        running.tasks.wait().await;
        Ok(())
    }

    fn busy(&self) -> MutexGuard<'_, HashSet<WorkId>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one unit of work in a task of its own. Its trouble stays its own (P13).
    fn begin(self: &Arc<Self>, id: WorkId, running: &Running) {
        let (worker, running) = (Arc::clone(self), running.clone());
        let tasks = running.tasks.clone();
        let task = async move {
            let work = async {
                match id {
                    // A campaign only decides which jobs may begin: it takes no place of theirs.
                    WorkId::Campaign(id) => worker.run_campaign(id).await,
                    WorkId::Job(id) => match running.slots.acquire().await {
                        Ok(_slot) => worker.run_job(id).await,
                        Err(_) => Ok(()),
                    },
                }
            };
            let result = tokio::select! {
                biased;
                () = running.stop.cancelled() => Ok(Ok(())),
                result = AssertUnwindSafe(work).catch_unwind() => result,
            };
            let result = match result {
                Ok(Err(error)) if error.is_about_one_row() => worker.unreadable(id, &error),
                Ok(result) => result,
                Err(panic) => worker.panicked(id, &*panic),
            };
            worker.busy().remove(&id);
            if let Err(error) = result {
                let mut broken = running
                    .broken
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                *broken = Some(error);
            }
            // Whatever came due while this was busy is looked for again.
            worker.context.store.wakes.work.notify_one();
        };
        tasks.spawn(task.instrument(info_span!("job", job.id = %id)));
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
    pub(super) fn is_held_back(&self, id: WorkId) -> Result<bool, StoreError> {
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
}
