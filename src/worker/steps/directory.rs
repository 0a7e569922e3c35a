//! The published listing: the new room takes the old one's place.

use super::{Done, Drive, StepError, close};
use crate::job::{Job, State};
use crate::room::diff::Part;

pub(super) async fn run(drive: &mut Drive, job: &Job, state: &State) -> Result<Done, StepError> {
    close::step(drive, job, state, Part::Directory).await
}
