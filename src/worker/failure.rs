//! What a step that did not finish means for its job: wait, try again, or ask people. Logs it, too.

use std::time::Duration;

use jiff::Timestamp;
use tracing::{error, info, warn};

use super::steps::{SETTLE_POLL_MAX, StepError};
use crate::clock::{backoff, later};
use crate::homeserver::HomeserverError;
use crate::job::log::{Again, Kept};
use crate::job::{Phase, State, Step, StepEvent, WaitReason};
use crate::message::problem::Problem;
use crate::telemetry::chain;

/// Tries of one step that may fail in a way that may pass, before people are asked.
const ATTEMPTS_MAX: u32 = 6;

/// Shortest wait for a rate limit.
const LIMIT_WAIT_MIN: Duration = Duration::from_millis(100);

/// Waits until an upgrade is given up that the server holds to be under way. Together they are six minutes.
const REMEMBERED_WAITS_MAX: u32 = 9;

/// Longest pause between two tries.
pub(super) const BACKOFF_MAX: Duration = Duration::from_mins(2);

/// The same of a finished upgrade that is looked at again: nobody waits for it, and it must not be dropped
/// because the server was away for a minute. These tries take about five hours.
const LOOKS_MAX: u32 = 16;
const LOOKS_BACKOFF_MAX: Duration = Duration::from_hours(1);

/// Why nothing can be asked of the homeserver now.
pub(super) fn away(error: &HomeserverError) -> WaitReason {
    match error {
        HomeserverError::AccountBlocked { code, .. } => {
            let code = code.clone();
            WaitReason::AccountBlocked { code }
        }
        HomeserverError::Uncertain {
            status: Some(status),
            ..
        } => WaitReason::ServerError { status: *status },
        _ => WaitReason::Unreachable,
    }
}

/// First and longest pause until it is looked again whether the bot is in the admin room.
const ABSENCE_FIRST: Duration = Duration::from_secs(10);
pub(super) const ABSENCE_MAX: Duration = Duration::from_mins(10);

/// How long to wait until it is looked again whether the bot is in the admin room, after so many waits.
fn absence(waits: u32) -> Duration {
    backoff(ABSENCE_FIRST, ABSENCE_MAX, waits)
}

/// What a failing step means for the job. The failure is logged here and nowhere else.
pub(super) fn meaning(state: &State, step: Step, failed: StepError, now: Timestamp) -> StepEvent {
    let (tries_max, longest) = match state.phase {
        Phase::Done => (LOOKS_MAX, LOOKS_BACKOFF_MAX),
        // A room that was made is not left behind.
        Phase::RollingBack => (u32::MAX, BACKOFF_MAX),
        _ => (ATTEMPTS_MAX, BACKOFF_MAX),
    };
    let pause = |tries: u32| backoff(Duration::from_secs(1), longest, tries);
    let waiting = |wait: Duration, reason: WaitReason, progress| StepEvent::Waiting {
        until: later(now, wait),
        reason,
        progress,
        kept: Kept::default(),
    };
    let may_try = match &failed {
        StepError::Retry { .. } => state.attempts + 1 < tries_max,
        StepError::Remembered { .. } => state.waits < REMEMBERED_WAITS_MAX,
        _ => true,
    };
    log(state, step, &failed, may_try);
    match failed {
        // Waits that bring no progress grow where the limit is known (`homeserver::pace`).
        StepError::RateLimited { limit, progress } => {
            let wait = limit.retry_after.max(LIMIT_WAIT_MIN);
            waiting(wait, limit.into(), progress)
        }
        StepError::Unreachable(error) => waiting(pause(state.waits), away(&error), None),
        StepError::Settling => {
            let wait = pause(state.waits).min(SETTLE_POLL_MAX);
            waiting(wait, WaitReason::Settling, None)
        }
        StepError::NotInAdminRoom => {
            waiting(absence(state.waits), WaitReason::NotInAdminRoom, None)
        }
        StepError::Remembered { problem } if may_try => {
            let problem = problem.to_string();
            waiting(pause(state.waits), WaitReason::Problem { problem }, None)
        }
        StepError::Retry { problem, .. } if may_try => {
            let wait = pause(state.attempts).max(Duration::from_secs(1));
            let problem = problem.to_string();
            waiting(wait, WaitReason::Problem { problem }, None)
        }
        StepError::Retry { problem, .. }
        | StepError::Fail { problem }
        | StepError::Remembered { problem } => ended(&problem, Again::MayHelp),
        StepError::Hopeless { problem } => ended(&problem, Again::Useless),
        StepError::Overtaken { problem } => ended(&problem, Again::Overtaken),
        // Handled by the caller: the database itself is broken.
        StepError::Store(error) => ended(&Problem::Stored(error.to_string()), Again::MayHelp),
    }
}

fn ended(problem: &Problem, again: Again) -> StepEvent {
    StepEvent::Failed {
        problem: problem.to_string(),
        again,
    }
}

fn log(state: &State, step: Step, failed: &StepError, may_try: bool) {
    let step = step.name();
    match failed {
        StepError::RateLimited { limit, .. } => {
            let wait = limit.retry_after.max(LIMIT_WAIT_MIN);
            info!(step, bucket = %limit.bucket, wait_ms = wait.as_millis(), "rate limited");
        }
        StepError::Unreachable(error) => {
            let error = chain(error);
            warn!(step, error, "nothing can be asked of the homeserver now");
        }
        StepError::Settling => info!(step, "waiting for the server to finish"),
        StepError::NotInAdminRoom => warn!(
            step,
            "not in the admin room, where I could see who may: waiting until I am"
        ),
        StepError::Remembered { problem } if may_try => {
            info!(step, "the server remembers: {problem}");
        }
        StepError::Retry { problem, source } => {
            let error = source.as_deref().map(|error| chain(error));
            if may_try {
                warn!(step, error, "{problem}");
            } else {
                let attempts = state.attempts + 1;
                error!(step, attempts, error, "given up: {problem}");
            }
        }
        StepError::Fail { problem } | StepError::Remembered { problem } => {
            error!(step, "cannot continue: {problem}");
        }
        StepError::Hopeless { problem } => error!(step, "cannot continue this way: {problem}"),
        StepError::Overtaken { problem } => warn!(step, "overtaken: {problem}"),
        StepError::Store(_) => {}
    }
}
