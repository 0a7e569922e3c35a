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
    let pause =
        |tries: u32, least: Duration| backoff(Duration::from_secs(1), longest, tries).max(least);
    let after = |wait: Duration| later(now, wait);
    let waiting = |until: Timestamp, reason: WaitReason| StepEvent::Waiting {
        until,
        reason,
        progress: None,
        kept: Kept::default(),
    };
    let ended = |problem: Problem, again| StepEvent::Failed {
        problem: problem.to_string(),
        again,
    };
    match failed {
        StepError::RateLimited { limit, progress } => {
            // Waits that bring no progress grow where the limit is known (`homeserver::pace`).
            let wait = limit.retry_after.max(LIMIT_WAIT_MIN);
            info!(step = step.name(), bucket = %limit.bucket, wait_ms = wait.as_millis(), "rate limited");
            StepEvent::Waiting {
                until: after(wait),
                reason: limit.into(),
                progress,
                kept: Kept::default(),
            }
        }
        StepError::Unreachable(error) => {
            warn!(
                step = step.name(),
                error = chain(&error),
                "nothing can be asked of the homeserver now"
            );
            waiting(after(pause(state.waits, Duration::ZERO)), away(&error))
        }
        StepError::Settling => {
            info!(step = step.name(), "waiting for the server to finish");
            let pause = pause(state.waits, Duration::ZERO).min(SETTLE_POLL_MAX);
            waiting(after(pause), WaitReason::Settling)
        }
        StepError::NotInAdminRoom => {
            warn!(
                step = step.name(),
                "not in the admin room, where I could see who may: waiting until I am"
            );
            waiting(after(absence(state.waits)), WaitReason::NotInAdminRoom)
        }
        StepError::Remembered { problem } if state.waits < REMEMBERED_WAITS_MAX => {
            info!(step = step.name(), "the server remembers: {problem}");
            let problem = problem.to_string();
            let reason = WaitReason::Problem { problem };
            waiting(after(pause(state.waits, Duration::ZERO)), reason)
        }
        StepError::Retry { problem, source } if state.attempts + 1 < tries_max => {
            warn!(
                step = step.name(),
                error = source.as_deref().map(|e| chain(e)),
                "{problem}"
            );
            waiting(
                after(pause(state.attempts, Duration::from_secs(1))),
                WaitReason::Problem {
                    problem: problem.to_string(),
                },
            )
        }
        StepError::Retry { problem, source } => {
            error!(
                step = step.name(),
                attempts = state.attempts + 1,
                error = source.as_deref().map(|e| chain(e)),
                "given up: {problem}"
            );
            ended(problem, Again::MayHelp)
        }
        StepError::Fail { problem } | StepError::Remembered { problem } => {
            error!(step = step.name(), "cannot go on: {problem}");
            ended(problem, Again::MayHelp)
        }
        StepError::Hopeless { problem } => {
            error!(step = step.name(), "cannot go on this way: {problem}");
            ended(problem, Again::Useless)
        }
        StepError::Overtaken { problem } => {
            warn!(step = step.name(), "overtaken: {problem}");
            ended(problem, Again::Overtaken)
        }
        // Handled by the caller: the database itself is broken.
        StepError::Store(error) => ended(Problem::Stored(error.to_string()), Again::MayHelp),
    }
}
