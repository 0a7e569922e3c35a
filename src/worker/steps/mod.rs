//! The steps of an upgrade, one file each, and what they share.
//!
//! A step looks first and then acts: it reads its part of the rooms, takes the difference to the
//! target and sends only that, so that running it again does nothing. It never writes to the log
//! (but for the marks of `create` and `switch`) and posts nothing into admin rooms; `worker::job`
//! does both.

mod access;
mod address;
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
mod prepare;
mod review;
mod snapshot;
mod spaces;
mod switch;
mod verify;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ruma::OwnedRoomId;
use tracing::warn;

use self::close::Stage;
use super::{SURROUNDINGS_MAX, WorkerContext};
use crate::homeserver::pace::Priority;
use crate::homeserver::paced::Paced;
use crate::homeserver::{Homeserver, HomeserverError, RateLimit, ensure_reachable};
use crate::job::log::{Kept, Progress};
use crate::job::{Job, Output, Phase, Plan, State, Step};
use crate::message::member::TemplateError;
use crate::message::plan::PlanReason;
use crate::message::problem::{Problem, Said};
use crate::room::change::{Observed, Part};
use crate::room::state::Snapshot;
use crate::room::target::Target;
use crate::store::{StoreError, Write};
use crate::survey::Surroundings;
use crate::telemetry::chain;

/// How long the server is given to finish a request whose answer was lost, counted from the loss, before it
/// is asked again. Servers continue after the connection is cut. Proxies give up after 60 s (nginx's
/// default), and a server that is still at it then has most often done it twice that time later. Nothing can
/// exclude that it takes longer: `verify` looks for a second room.
pub(super) const SETTLE: Duration = Duration::from_secs(150);

/// How often a request that gets no certain answer is tried while the server answers others.
const REQUEST_TRIES_MAX: u32 = 3;

/// HTTP status of a request that is too large, which is no smaller the next time.
const TOO_LARGE: u16 = 413;

/// Longest pause between two looks while the server settles.
pub(super) const SETTLE_POLL_MAX: Duration = Duration::from_secs(15);

/// What a step that went well leaves.
pub(super) enum Done {
    /// Its output, and what is to be stored with it.
    Output { output: Output, writes: Vec<Write> },
    /// A plan to be shown, and why.
    Planned(Box<Plan>, PlanReason),
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
    /// The server goes by an upgrade of the room that it was asked for before, which it forgets after a while.
    Remembered {
        /// For people: what it answers, and how long it does so.
        problem: Problem,
    },
    /// It may work later.
    Retry {
        problem: Problem,
        source: Option<Box<HomeserverError>>,
    },
    /// It will not work by itself.
    Fail {
        problem: Problem,
    },
    /// It will never work this way; something else has to be asked for.
    Hopeless {
        /// For people, with what to ask for.
        problem: Problem,
    },
    /// Somebody else upgraded the room meanwhile.
    Overtaken {
        /// For people: who, where it leads, and what to ask for.
        problem: Problem,
    },
    Store(StoreError),
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RateLimited { limit, .. } => write!(f, "rate limited: {}", limit.bucket),
            Self::Unreachable(error) => f.write_str(&chain(error)),
            Self::Settling => f.write_str("the server may still be working"),
            Self::NotInAdminRoom => f.write_str("not in the admin room"),
            Self::Remembered { problem }
            | Self::Retry { problem, .. }
            | Self::Fail { problem }
            | Self::Hopeless { problem }
            | Self::Overtaken { problem } => problem.fmt(f),
            Self::Store(error) => f.write_str(&chain(error)),
        }
    }
}

impl From<StoreError> for StepError {
    fn from(error: StoreError) -> Self {
        match error {
            error @ StoreError::Corrupt { .. } => Self::Fail {
                problem: Problem::Stored(chain(&error)),
            },
            error => Self::Store(error),
        }
    }
}

impl From<TemplateError> for StepError {
    fn from(error: TemplateError) -> Self {
        Self::Fail {
            problem: Problem::Template(chain(&error)),
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
                ref request,
                ref message,
                ref code,
                ..
            } => Self::Retry {
                problem: Problem::Refused {
                    request: request.clone(),
                    said: Said {
                        message: message.clone(),
                        code: code.clone(),
                    },
                },
                source: Some(Box::new(error)),
            },
            HomeserverError::Unusable { .. } => Self::Retry {
                problem: Problem::UnknownAnswer,
                source: Some(Box::new(error)),
            },
        }
    }
}

/// What the steps of one job share while it runs. Nothing in here must survive a kill: it is
/// read again.
pub(super) struct JobRun {
    context: Arc<WorkerContext>,
    paced: Paced,
    /// The homeserver, asked with the priority of the step at hand.
    pub(super) port: Arc<dyn Homeserver>,
    /// The step that the log says is begun, and that was not run yet.
    pub(super) started: Option<Step>,
    /// The old room as this run read it.
    before: Option<(Read, Snapshot)>,
    /// What was read of both rooms, kept up with the changes made since.
    pub(super) seen: Option<Seen>,
    /// The same, read after the last change that `verify` looks for.
    look: Option<Seen>,
    /// Answers that the step at hand has received, also before it waited.
    pub(super) kept: Kept,
}

/// A place in the waits of a run. What was read holds until the next one: it is handed from step to step,
/// and after a wait it is read again, as others may have changed it (P12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Read(u64);

/// Both rooms as they were read, and what they should be.
pub(super) struct Seen {
    /// When the older of them was read.
    pub(super) read: Read,
    pub(super) stage: Stage,
    pub(super) before: Snapshot,
    pub(super) target: Target,
    pub(super) now: Observed,
}

impl std::ops::Deref for JobRun {
    type Target = WorkerContext;

    fn deref(&self) -> &WorkerContext {
        &self.context
    }
}

impl JobRun {
    pub(super) fn new(context: Arc<WorkerContext>) -> Self {
        let paced = context.port.counting();
        Self {
            port: Arc::new(paced.clone()),
            paced,
            context,
            started: None,
            before: None,
            seen: None,
            look: None,
            kept: Kept::default(),
        }
    }

    /// From here on requests are made for a step.
    pub(super) fn prioritise(&mut self, state: &State, step: Step) {
        let is_switched = state.outputs.contains_key(&Step::Switch);
        let priority = match step {
            Step::Switch => Priority::Switch,
            // The room is made: the old one is to point to it soon.
            Step::Populate => Priority::Switched,
            _ if is_switched && state.phase == Phase::Running => Priority::Switched,
            _ => Priority::Upgrade,
        };
        self.port = Arc::new(self.paced.at(priority));
        self.port.release();
    }

    pub(super) fn reading(&self) -> Read {
        Read(self.paced.waits())
    }

    /// Whether what was read then still holds.
    pub(super) fn holds(&self, read: Read) -> bool {
        read == self.reading()
    }

    /// The old room was read; `since` is when that began.
    pub(super) fn has_read(&mut self, since: Read, before: Snapshot) {
        self.before = Some((since, before));
    }

    /// The old room as it was read, if that still holds.
    pub(super) fn just_read(&self) -> Option<&Snapshot> {
        let (read, before) = self.before.as_ref()?;
        self.holds(*read).then_some(before)
    }

    /// What surrounds the room of a job. The jobs of a campaign share what one of them read just
    /// now: the campaign itself compares everything once more in the end.
    pub(super) async fn surroundings(&self, job: &Job) -> Result<Arc<Surroundings>, StepError> {
        let now = self.clock.now();
        let shares = job.request.campaign.is_some();
        let kept = &self.context.surroundings;
        if shares && let Some(known) = kept.fresh(now, SURROUNDINGS_MAX) {
            return Ok(known);
        }
        let read = Arc::new(Surroundings::read(&*self.port).await?);
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
        if *tries < REQUEST_TRIES_MAX && *status != Some(TOO_LARGE) {
            return Ok(RequestFailure::TryAgain(error));
        }
        let message = match status {
            Some(TOO_LARGE) => {
                "it is too large for the server, or for what is in front of it (error 413)"
                    .to_owned()
            }
            Some(status) => format!("error {status}, {tries} times"),
            None => format!("no answer, {tries} times"),
        };
        Ok(RequestFailure::GivenUp(message))
    }

    /// The snapshot that an earlier step stored.
    pub(super) fn snapshot(&self, job: &Job) -> Result<Snapshot, StepError> {
        self.store.snapshot(job.id)?.ok_or_else(|| StepError::Fail {
            problem: Problem::Stored("the old room is missing".to_owned()),
        })
    }
}

/// The new room; steps after the switch have it.
fn new_room(state: &State) -> Result<OwnedRoomId, StepError> {
    state.new_room().cloned().ok_or_else(|| StepError::Fail {
        problem: Problem::Stored("the new room is missing".to_owned()),
    })
}

/// The room that nothing leads to yet; steps between its making and the switch have it.
fn staged_room(state: &State) -> Result<OwnedRoomId, StepError> {
    state.staged_room().cloned().ok_or_else(|| StepError::Fail {
        problem: Problem::Stored("the new room is missing".to_owned()),
    })
}

/// The plan; steps after the confirmation have it.
fn plan_of(state: &State) -> Result<&Plan, StepError> {
    state.plan.as_ref().ok_or_else(|| StepError::Fail {
        problem: Problem::Stored("the plan is missing".to_owned()),
    })
}

/// What a request without a certain answer means.
pub(super) enum RequestFailure {
    /// It is tried again later.
    TryAgain(HomeserverError),
    /// It was tried often enough; what the server answered, for people.
    GivenUp(String),
}

pub(super) async fn run(
    job_run: &mut JobRun,
    job: &Job,
    state: &State,
    step: Step,
) -> Result<Done, StepError> {
    match step {
        Step::Plan => plan::run(job_run, job).await,
        Step::Snapshot => snapshot::run(job_run, job, state).await,
        Step::Create => create::run(job_run, job, state).await,
        Step::Populate => populate::run(job_run, job, state).await,
        Step::Review => review::run(job_run, job, state).await,
        Step::Switch => switch::run(job_run, job, state).await,
        Step::Complete => complete::run(job_run, job, state).await,
        Step::Pins => pins::run(job_run, job, state).await,
        Step::Aliases => aliases::run(job_run, job, state).await,
        Step::Directory => directory::run(job_run, job, state).await,
        Step::Spaces => spaces::run(job_run, job, state).await,
        Step::Access => access::run(job_run, job, state).await,
        Step::Lock => lock::run(job_run, job, state).await,
        Step::Invite => invite::run(job_run, job, state).await,
        Step::Notice => notice::run(job_run, job, state).await,
        Step::Verify => verify::run(job_run, job, state).await,
    }
}

/// What a step leaves that has nothing to do, as far as that is known without asking the server. Such steps
/// are written down together with the one before.
pub(super) fn idle(job_run: &mut JobRun, job: &Job, state: &State, step: Step) -> Option<Output> {
    let part = match step {
        Step::Pins => return pins::idle(job_run),
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
    close::idle(job_run, job, state, part)
}

/// Takes back what a step made.
pub(super) async fn roll_back(
    job_run: &mut JobRun,
    job: &Job,
    state: &State,
    step: Step,
) -> Result<Done, StepError> {
    match step {
        Step::Create => create::roll_back(job_run, job, state).await,
        // Only making the room leaves something behind.
        _ => Ok(Done::Undone),
    }
}
