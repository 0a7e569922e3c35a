//! The marks that a step writes itself, around the one request that must not be repeated blindly.
//!
//! `Called` is in the log before the request leaves, so that after a kill nobody has to guess.

use super::{Drive, StepError};
use crate::job::log::Direction;
use crate::job::{Entry, Job, State, Step, StepEvent};
use crate::store::{StoreError, Write};

/// Writes a mark.
pub(super) fn mark(
    drive: &Drive,
    job: &Job,
    step: Step,
    event: StepEvent,
) -> Result<(), StepError> {
    let job = reread(drive, job)?;
    let state = fold(&job)?;
    if !state.is_at(step) || state.direction() != Direction::Forward {
        // Cancelled before anything was asked of the server.
        return Err(StoreError::Conflict(job.id).into());
    }
    let append = Write::Append {
        job: job.id,
        expected: job.log.len(),
        entries: vec![Entry::Step { step, event }],
    };
    Ok(drive.store.commit(drive.clock.now(), &[append])?)
}

/// Whether a step ever was about to send its request: before that there is nothing to look for.
pub(super) fn may_have_left(job: &Job, step: Step) -> bool {
    job.log.iter().any(|(_, entry)| {
        matches!(
            entry,
            Entry::Step {
                step: of,
                event: StepEvent::Called { .. },
            } if *of == step
        )
    })
}

/// The job with the marks that were written since.
pub(super) fn reread(drive: &Drive, job: &Job) -> Result<Job, StepError> {
    drive.store.job(job.id)?.ok_or_else(|| StepError::Fail {
        problem: "The job is gone from the database.".to_owned(),
    })
}

/// Its state.
pub(super) fn fold(job: &Job) -> Result<State, StepError> {
    job.state().map_err(|error| StepError::Fail {
        problem: error.to_string(),
    })
}
