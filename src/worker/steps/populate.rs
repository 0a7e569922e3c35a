//! Completes the new room while nobody is in it: what did not fit into its making, what the server
//! changed on the way, and bans.

use super::close::{self, Stage};
use super::{Done, JobRun, StepError, plan_of};
use crate::job::{Job, Output, State};
use crate::message::problem::Problem;
use crate::room::change::Part;
use crate::room::state::is_encrypted;

pub(super) async fn run(job_run: &mut JobRun, job: &Job, state: &State) -> Result<Done, StepError> {
    let new_room = super::staged_room(state)?;
    let plan = plan_of(state)?;
    let (made, refused) =
        close::close(job_run, job, plan, &new_room, Part::Complete, Stage::Staged).await?;
    let encrypts = job_run
        .seen
        .as_ref()
        .is_some_and(|seen| is_encrypted(&seen.now.new) && !is_encrypted(&seen.before.room));
    if encrypts {
        return Err(StepError::Fail {
            problem: Problem::EncryptsEveryRoom,
        });
    }
    Ok(Output::Closed { made, refused }.into())
}
