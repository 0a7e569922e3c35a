//! Other rooms that let in members of the old room let in those of the new one.

use super::{Done, Drive, StepError, close};
use crate::job::{Job, State};
use crate::room::diff::Part;

pub(super) async fn run(drive: &mut Drive, job: &Job, state: &State) -> Result<Done, StepError> {
    close::step(drive, job, state, Part::Access).await
}
