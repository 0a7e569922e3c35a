//! The steps of an upgrade, one file each, and what they share.
//!
//! A step looks first and then acts: it reads its part of the rooms, takes the difference to the
//! target and sends only that, so that running it again does nothing. It never writes to the log
//! (but for the marks of `create` and `switch`) and posts nothing into admin rooms; the executor
//! does both.

mod access;
mod aliases;
mod close;
mod complete;
mod create;
mod directory;
mod invite;
mod lock;
mod mark;
mod notice;
mod orphan;
mod pins;
mod plan;
mod populate;
mod review;
mod snapshot;
mod spaces;
mod switch;
mod verify;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use ruma::OwnedRoomId;
use tracing::warn;

use self::close::Stage;
use super::{Means, SURROUNDINGS_MAX, TRAITS_MAX};
use crate::homeserver::{HomeserverError, RateLimit, ensure_reachable};
use crate::job::log::{Kept, Progress};
use crate::job::{Job, Output, Plan, State, Step};
use crate::message::member::TemplateError;
use crate::message::plan::Occasion;
use crate::room::diff::{Observed, Part};
use crate::room::state::Snapshot;
use crate::room::target::Target;
use crate::store::{StoreError, Write};
use crate::survey::{ServerTraits, Surroundings};
use crate::telemetry::chain;

/// How long the server is given to finish a request whose answer was lost, counted from the loss, before it
/// is asked again. Servers continue after the connection is cut. Proxies give up after 60 s (nginx's
/// default), and a server that is still at it then has most often done it twice that time later. Nothing can
/// exclude that it takes longer: `verify` looks for a second room.
pub(super) const SETTLE: Duration = Duration::from_secs(150);

/// How long it is believed that nobody but the bot changed a room since it was read: what others set
/// meanwhile would be overwritten. Steps that begin later read it again.
const JUST_READ_MAX: Duration = Duration::from_secs(10);

/// How often a request that gets no certain answer is tried while the server answers others.
const REQUEST_TRIES_MAX: u32 = 3;

/// Longest pause between two looks while the server settles.
pub(super) const SETTLE_POLL_MAX: Duration = Duration::from_secs(15);

/// What a step that went well leaves.
pub(super) enum Done {
    /// Its output, and what is to be stored with it.
    Output {
        /// For the log.
        output: Output,
        /// Beside the log.
        writes: Vec<Write>,
    },
    /// A plan to be shown, and why.
    Planned(Box<Plan>, Occasion),
    /// What the step made is taken back.
    Undone,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self::Output {
            output,
            writes: Vec::new(),
        }
    }
}

/// Why a step did not finish.
#[derive(Debug)]
pub(super) enum StepError {
    /// The homeserver asked for a pause.
    RateLimited {
        /// Which limit, and how long.
        limit: RateLimit,
        /// How far the step got.
        progress: Option<Progress>,
    },
    /// The homeserver does not answer, or not to this account.
    Unreachable(HomeserverError),
    /// The server may still be working on what it was asked.
    Settling,
    /// The bot is not in the admin room: nothing begins.
    NotInAdminRoom,
    /// It may work later.
    Retry {
        /// For people.
        problem: String,
        /// For the log.
        source: Option<HomeserverError>,
    },
    /// It will not work by itself.
    Fail {
        /// For people.
        problem: String,
    },
    /// It will never work this way; something else has to be asked for.
    Hopeless {
        /// For people, with what to ask for.
        problem: String,
    },
    /// Somebody else upgraded the room meanwhile.
    Overtaken {
        /// For people: who, where it leads, and what to ask for.
        problem: String,
    },
    /// The database failed.
    Store(StoreError),
}

impl From<StoreError> for StepError {
    fn from(error: StoreError) -> Self {
        match error {
            error @ StoreError::Corrupt { .. } => Self::Fail {
                problem: format!("What I stored of it cannot be read: {}.", chain(&error)),
            },
            error => Self::Store(error),
        }
    }
}

impl From<TemplateError> for StepError {
    fn from(error: TemplateError) -> Self {
        Self::Fail {
            problem: chain(&error),
        }
    }
}

impl From<HomeserverError> for StepError {
    fn from(error: HomeserverError) -> Self {
        match error {
            HomeserverError::RateLimited { limit, .. } => Self::RateLimited {
                limit,
                progress: None,
            },
            HomeserverError::Uncertain { .. } | HomeserverError::AccountBlocked { .. } => {
                Self::Unreachable(error)
            }
            HomeserverError::Refused {
                ref message,
                ref code,
                ..
            } => Self::Retry {
                problem: format!("The server refused: {message} ({code})."),
                source: Some(error),
            },
            HomeserverError::Unusable { .. } => Self::Retry {
                problem: "The server gave an answer that I do not understand.".to_owned(),
                source: Some(error),
            },
        }
    }
}

/// What the steps of one job share while it is driven. Nothing in here must survive a kill: it is
/// read again.
pub(super) struct Drive {
    means: Arc<Means>,
    /// The step that the log says is begun, and that was not run yet.
    pub(super) started: Option<Step>,
    /// The old room as this drive read it, and when.
    before: Option<(Timestamp, Snapshot)>,
    /// What was read of both rooms, kept up with the changes made since.
    pub(super) seen: Option<Seen>,
    /// The same, read after the last change that `verify` looks for.
    look: Option<Seen>,
    /// Answers that the step at hand has received, also before it waited.
    pub(super) kept: Kept,
}

/// Both rooms as they were read, and what they should be.
pub(super) struct Seen {
    /// When the older of them was read.
    pub(super) read: Timestamp,
    /// The part whose changes were made last.
    pub(super) part: Option<Part>,
    pub(super) stage: Stage,
    pub(super) before: Snapshot,
    pub(super) target: Target,
    pub(super) now: Observed,
}

impl std::ops::Deref for Drive {
    type Target = Means;

    fn deref(&self) -> &Means {
        &self.means
    }
}

impl Drive {
    pub(super) fn new(means: Arc<Means>) -> Self {
        Self {
            means,
            started: None,
            before: None,
            seen: None,
            look: None,
            kept: Kept::default(),
        }
    }

    /// The old room was read; `since` is when that began, as the answer may be that old.
    pub(super) fn has_read(&mut self, since: Timestamp, before: Snapshot) {
        self.before = Some((since, before));
    }

    /// The old room and when it was read, if that is just now.
    pub(super) fn just_read(&self) -> Option<(Timestamp, &Snapshot)> {
        let (read, before) = self.before.as_ref()?;
        self.is_just_now(*read).then_some((*read, before))
    }

    /// Whether what was read then is as good as new.
    pub(super) fn is_just_now(&self, read: Timestamp) -> bool {
        self.is_younger(read, JUST_READ_MAX)
    }

    /// Whether something was read at most so long ago.
    fn is_younger(&self, read: Timestamp, age_max: Duration) -> bool {
        let age = Duration::try_from(self.clock.now().duration_since(read));
        age.is_ok_and(|age| age <= age_max)
    }

    /// What surrounds the room of a job. The jobs of a campaign share what one of them read just
    /// now: the campaign itself compares everything once more in the end.
    pub(super) async fn surroundings(&self, job: &Job) -> Result<Arc<Surroundings>, StepError> {
        let now = self.clock.now();
        let shares = job.request.campaign.is_some();
        let kept = &self.means.surroundings;
        if shares && let Some(known) = kept.fresh(now, SURROUNDINGS_MAX) {
            return Ok(known);
        }
        // What would be in the way is asked for anew: the server may have been updated just for this.
        let version = job.request.options.version.as_ref();
        let version = version.unwrap_or(&self.setup.upgrade.version);
        let is_enough = |known: &Arc<ServerTraits>| {
            known.software.is_some()
                && known.encrypts.is_empty()
                && known.versions.available.contains(version)
        };
        let known = self.means.server.fresh(now, TRAITS_MAX);
        let server = if let Some(known) = known.filter(is_enough) {
            known
        } else {
            let read = Arc::new(ServerTraits::read(&*self.port).await?);
            self.means.server.keep(now, &read);
            read
        };
        let read = Arc::new(Surroundings::read(&*self.port, server).await?);
        if shares {
            kept.keep(now, &read);
        }
        Ok(read)
    }

    /// What it means that a request got no certain answer: where the server answers others, the request is
    /// at fault, and is given up after some tries, so that it does not hold up the rest (P13).
    pub(super) async fn failed(
        &mut self,
        error: HomeserverError,
    ) -> Result<RequestFailure, HomeserverError> {
        let HomeserverError::Uncertain {
            request, status, ..
        } = &error
        else {
            return Err(error);
        };
        if ensure_reachable(&*self.port).await.is_err() {
            return Err(error);
        }
        let tries = self.kept.failed.entry(request.clone()).or_default();
        *tries += 1;
        warn!(
            tries,
            error = chain(&error),
            "no certain answer to one request"
        );
        if *tries < REQUEST_TRIES_MAX {
            return Ok(RequestFailure::TryAgain(error));
        }
        let message = match status {
            Some(status) => format!("error {status}, {tries} times"),
            None => format!("no answer, {tries} times"),
        };
        Ok(RequestFailure::GivenUp(message))
    }

    /// The snapshot that an earlier step stored.
    pub(super) fn snapshot(&self, job: &Job) -> Result<Snapshot, StepError> {
        self.store.snapshot(job.id)?.ok_or_else(|| StepError::Fail {
            problem: "The stored picture of the old room is missing.".to_owned(),
        })
    }
}

/// The new room; steps after the switch have it.
fn new_room(state: &State) -> Result<OwnedRoomId, StepError> {
    state.new_room().cloned().ok_or_else(|| StepError::Fail {
        problem: "The new room is not known.".to_owned(),
    })
}

/// The room that nothing leads to yet; steps between its making and the switch have it.
fn staged_room(state: &State) -> Result<OwnedRoomId, StepError> {
    state.staged_room().cloned().ok_or_else(|| StepError::Fail {
        problem: "The new room is not known.".to_owned(),
    })
}

/// The plan; steps after the confirmation have it.
fn plan_of(state: &State) -> Result<&Plan, StepError> {
    state.plan.as_ref().ok_or_else(|| StepError::Fail {
        problem: "There is no plan.".to_owned(),
    })
}

/// What a request without a certain answer means.
pub(super) enum RequestFailure {
    /// It is tried again later.
    TryAgain(HomeserverError),
    /// It was tried often enough; what the server answered, for people.
    GivenUp(String),
}

/// Runs a step.
pub(super) async fn run(
    drive: &mut Drive,
    job: &Job,
    state: &State,
    step: Step,
) -> Result<Done, StepError> {
    match step {
        Step::Plan => plan::run(drive, job).await,
        Step::Snapshot => snapshot::run(drive, job, state).await,
        Step::Create => create::run(drive, job, state).await,
        Step::Populate => populate::run(drive, job, state).await,
        Step::Review => review::run(drive, job, state).await,
        Step::Switch => switch::run(drive, job, state).await,
        Step::Complete => complete::run(drive, job, state).await,
        Step::Pins => pins::run(drive, job, state).await,
        Step::Aliases => aliases::run(drive, job, state).await,
        Step::Directory => directory::run(drive, job, state).await,
        Step::Spaces => spaces::run(drive, job, state).await,
        Step::Access => access::run(drive, job, state).await,
        Step::Lock => lock::run(drive, job, state).await,
        Step::Invite => invite::run(drive, job, state).await,
        Step::Notice => notice::run(drive, job, state).await,
        Step::Verify => verify::run(drive, job, state).await,
    }
}

/// What a step leaves that has nothing to do, as far as that is known without asking the server. Such steps
/// are written down together with the one before.
pub(super) fn idle(drive: &mut Drive, job: &Job, state: &State, step: Step) -> Option<Output> {
    let part = match step {
        Step::Pins => return pins::idle(drive),
        Step::Complete => Part::Complete,
        Step::Aliases => Part::Aliases,
        Step::Directory => Part::Directory,
        Step::Spaces => Part::Spaces,
        Step::Access => Part::Access,
        Step::Lock => Part::Lock,
        Step::Invite => Part::Invite,
        Step::Plan
        | Step::Snapshot
        | Step::Create
        | Step::Populate
        | Step::Review
        | Step::Switch
        | Step::Notice
        | Step::Verify => return None,
    };
    close::idle(drive, job, state, part)
}

/// Takes back what a step made.
pub(super) async fn undo(
    drive: &mut Drive,
    job: &Job,
    state: &State,
    step: Step,
) -> Result<Done, StepError> {
    match step {
        Step::Create => create::undo(drive, job, state).await,
        // Only making the room leaves something behind.
        _ => Ok(Done::Undone),
    }
}
