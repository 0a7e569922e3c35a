//! Addresses: the local ones lead to the new room, which shows them.

use super::{Done, JobRun, StepError, close};
use crate::job::{Job, State};
use crate::room::change::Part;

pub(super) async fn run(job_run: &mut JobRun, job: &Job, state: &State) -> Result<Done, StepError> {
    close::step(job_run, job, state, Part::Aliases).await
}
