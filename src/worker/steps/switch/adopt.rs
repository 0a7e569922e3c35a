//! The switch that somebody else made: looks whether the old room leads to a room that replaces it.
//!
//! A tombstone alone proves nothing: only the new room's create event can say whom it replaces.

use super::super::{Done, JobRun, StepError};
use crate::job::{Job, Output, State};
use crate::message::problem::Problem;
use crate::survey;

pub(super) async fn run(
    job_run: &mut JobRun,
    job: &Job,
    _state: &State,
) -> Result<Done, StepError> {
    let before = job_run.snapshot(job)?;
    match survey::open_successor(&*job_run.port, &before.room).await? {
        Ok(new) => Ok(Output::Switched {
            new_room: new.room_id,
        }
        .into()),
        Err(_) => Err(StepError::Fail {
            problem: Problem::NotReplaced,
        }),
    }
}
