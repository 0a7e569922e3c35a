//! Spaces list the new room, and the rooms of a space name the new one. Left out: join rules of
//! other rooms (`access`).

use super::{Done, Drive, StepError, close};
use crate::job::{Job, State};
use crate::room::diff::Part;

pub(super) async fn run(drive: &mut Drive, job: &Job, state: &State) -> Result<Done, StepError> {
    close::step(drive, job, state, Part::Spaces).await
}
