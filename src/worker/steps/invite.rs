//! Invites bots, creators, and members who cannot enter by themselves. Goes on where it was
//! interrupted: who was invited already is seen in the room.

use super::{Done, JobRun, StepError, close};
use crate::job::{Job, State};
use crate::room::change::Part;

pub(super) async fn run(job_run: &mut JobRun, job: &Job, state: &State) -> Result<Done, StepError> {
    close::step(job_run, job, state, Part::Invite).await
}
