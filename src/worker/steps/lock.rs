//! Closes the old room: levels for messages and invitations are raised, never lowered.

use super::{Done, Drive, StepError, close};
use crate::job::{Job, State};
use crate::room::diff::Part;

pub(super) async fn run(drive: &mut Drive, job: &Job, state: &State) -> Result<Done, StepError> {
    close::step(drive, job, state, Part::Lock).await
}
