//! Completes the new room: state, power levels, join rule and bans that are still missing in it
//! after the switch.

use super::{Done, JobRun, StepError, close};
use crate::job::{Job, State};
use crate::room::change::Part;

pub(super) async fn run(job_run: &mut JobRun, job: &Job, state: &State) -> Result<Done, StepError> {
    close::step(job_run, job, state, Part::Complete).await
}
