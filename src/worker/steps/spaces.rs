//! Spaces list the new room, and the rooms of a space name the new one. Left out: join rules of
//! other rooms (`access`).

use super::{Done, JobRun, StepError, close};
use crate::job::{Job, State};
use crate::room::change::Part;

pub(super) async fn run(job_run: &mut JobRun, job: &Job, state: &State) -> Result<Done, StepError> {
    close::step(job_run, job, state, Part::Spaces).await
}
