//! Addresses: the local ones lead to the new room, which shows them.

use super::{Done, Drive, StepError, close};
use crate::job::{Job, State};
use crate::room::diff::Part;

pub(super) async fn run(drive: &mut Drive, job: &Job, state: &State) -> Result<Done, StepError> {
    close::step(drive, job, state, Part::Aliases).await
}
