//! The worker: carries out jobs, campaigns and follow-ups.
//!
//! `executor` takes what is due and runs each unit of work by itself: `job` a job, one step after the other
//! (`steps`), and its `follow_up`; `campaign` a campaign. Nobody decides anything here: `next_action` of the
//! work's state does, from the log. Left out: who may command what (`handlers`).

mod campaign;
mod executor;
mod failure;
mod follow_up;
mod inviter;
mod job;
mod records;
mod steps;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use ruma::RoomId;
use tracing::{error, warn};

use crate::clock::{Clock, later};
use crate::config::{FollowUpSettings, Messages, ScheduleSettings, UpgradeSettings};
use crate::homeserver::paced::Paced;
use crate::job::{Job, State};
use crate::model::WorkId;
use crate::permissions::AdminRoom;
use crate::store::Store;
use crate::survey::{self, Surroundings};
use crate::telemetry::chain;

/// How long the jobs of a campaign share what one of them read of their surroundings.
const SURROUNDINGS_MAX: Duration = Duration::from_secs(10);

/// What the worker needs to know of the configuration.
#[derive(Debug)]
pub(crate) struct Setup {
    /// How rooms are upgraded.
    pub upgrade: UpgradeSettings,
    /// How people who did not come are followed up.
    pub follow_up: FollowUpSettings,
    pub schedule: ScheduleSettings,
    pub messages: Messages,
    /// Where commands come from.
    pub admin_rooms: Vec<AdminRoom>,
    /// How long what is over is kept; `None`: for ever.
    pub keep: Option<Duration>,
}

/// What the worker and its steps work with.
pub(crate) struct WorkerContext {
    pub store: Arc<Store>,
    pub port: Paced,
    pub clock: Arc<dyn Clock>,
    pub setup: Setup,
    /// What the jobs of campaigns share.
    pub surroundings: Shared<Surroundings>,
}

/// What was read for one job and serves others a while.
#[derive(Debug)]
pub(crate) struct Shared<T>(Mutex<Option<(Timestamp, Arc<T>)>>);

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

pub(crate) struct Worker {
    context: Arc<WorkerContext>,
    busy: Mutex<HashSet<WorkId>>,
    /// Held while a job of a campaign looks after its follow-up.
    pinging: tokio::sync::Mutex<()>,
}

impl Worker {
    /// A worker that has not begun.
    pub(crate) fn new(context: WorkerContext) -> Self {
        Self {
            context: Arc::new(context),
            busy: Mutex::default(),
            pinging: tokio::sync::Mutex::default(),
        }
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
}

/// When it is looked again whether the bot is in the admin room, so that members can be told.
fn look_again(now: Timestamp) -> Timestamp {
    later(now, failure::ABSENCE_MAX)
}

/// The state of a job that something else looks at; nothing where its log cannot be read.
fn readable(job: &Job) -> Option<State> {
    job.state()
        .inspect_err(|error| {
            error!(job.id = %job.id, error = chain(error), "a job cannot be read, and is left out");
        })
        .ok()
}
