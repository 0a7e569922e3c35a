//! The marks that a step writes itself, around the one request that must not be repeated blindly.
//!
//! `Called` is in the log before the request leaves, so that after a kill nobody has to guess.

use jiff::Timestamp;

use super::{JobRun, SETTLE, StepError};
use crate::job::state::Direction;
use crate::job::{Entry, Job, State, Step, StepEvent};
use crate::message::problem::Problem;
use crate::store::StoreError;

pub(super) fn mark(
    job_run: &JobRun,
    job: &Job,
    step: Step,
    event: StepEvent,
) -> Result<(), StepError> {
    let job = reread(job_run, job)?;
    let state = fold(&job)?;
    let is_about_the_past = matches!(event, StepEvent::AnswerLost { .. });
    if !state.is_at(step) || (state.direction() != Direction::Forward && !is_about_the_past) {
        // Cancelled before anything was asked of the server.
        return Err(StoreError::Conflict {
            work: job.id.into(),
        }
        .into());
    }
    let append = job.append(vec![Entry::Step { step, event }]);
    Ok(job_run
        .store
        .commit(job_run.clock.now(), &[append.into()])?)
}

/// Notes that no answer will come any more. From now on the rooms are watched.
pub(super) fn answer_lost<T>(job_run: &JobRun, job: &Job, step: Step) -> Result<T, StepError> {
    let at = job_run.clock.now();
    mark(job_run, job, step, StepEvent::AnswerLost { at })?;
    Err(StepError::Settling)
}

/// Whether a request whose answer was lost at a time is carried out by now, if it ever is.
pub(super) fn is_settled(lost: Timestamp, now: Timestamp) -> bool {
    now.duration_since(lost).as_secs() >= SETTLE.as_secs().cast_signed()
}

/// Whether the server may still carry out a request of this job without the job knowing: an answer was
/// lost.
pub(super) fn may_come_late(job: &Job) -> bool {
    job.log.iter().any(|(_, entry)| {
        matches!(
            entry,
            Entry::Step {
                event: StepEvent::AnswerLost { .. },
                ..
            }
        )
    })
}

/// The job with the marks that were written since.
pub(super) fn reread(job_run: &JobRun, job: &Job) -> Result<Job, StepError> {
    job_run.store.job(job.id)?.ok_or_else(|| StepError::Fail {
        problem: Problem::Stored("the job is gone".to_owned()),
    })
}

pub(super) fn fold(job: &Job) -> Result<State, StepError> {
    job.state().map_err(|error| StepError::Fail {
        problem: Problem::Stored(error.to_string()),
    })
}
