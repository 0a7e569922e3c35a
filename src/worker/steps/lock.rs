//! Closes the old room: levels for messages and invitations are raised, never lowered.

use super::{Done, JobRun, StepError, close};
use crate::job::{Job, State};
use crate::room::change::Part;

pub(super) async fn run(job_run: &mut JobRun, job: &Job, state: &State) -> Result<Done, StepError> {
    close::step(job_run, job, state, Part::Lock).await
}
