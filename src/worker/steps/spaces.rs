//! Spaces list the new room, and other rooms let in its members instead of the old one's.

use super::{Done, Drive, StepError, close};
use crate::job::{Job, State};
use crate::room::diff::Part;

pub(super) async fn run(drive: &mut Drive, job: &Job, state: &State) -> Result<Done, StepError> {
    close::step(drive, job, state, Part::Spaces).await
}
