//! Completes the new room while nobody is in it: what did not fit into its making, what the server
//! changed on the way, and bans.

use super::close::{self, Stage};
use super::{Done, Drive, StepError, plan_of};
use crate::job::{Job, Output, State};
use crate::room::diff::Part;

pub(super) async fn run(drive: &mut Drive, job: &Job, state: &State) -> Result<Done, StepError> {
    let new_room = super::staged_room(state)?;
    let plan = plan_of(state)?;
    let (made, refused) =
        close::close(drive, job, plan, &new_room, Part::Complete, Stage::Staged).await?;
    Ok(Output::Closed { made, refused }.into())
}
