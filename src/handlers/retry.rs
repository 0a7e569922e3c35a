//! `!upgrade retry <id>`: a stuck upgrade goes on; one that ended before the switch is planned anew.

use super::{Call, Desk, HandleError};
use crate::job::{Entry, Phase, Request};
use crate::message::{answer, emoji};
use crate::model::JobId;
use crate::store::Write;

pub(super) async fn run(
    desk: &Desk,
    call: &Call<'_>,
    id: JobId,
) -> Result<Vec<Write>, HandleError> {
    let (job, state) = match desk.job_to_change(call, id).await? {
        Ok(found) => found,
        Err(text) => return Ok(call.refuse(text)),
    };
    match state.phase {
        Phase::Stuck => {
            let mut writes = desk.advance(
                &job,
                Entry::Retried {
                    by: call.sender().to_owned(),
                },
            )?;
            writes.push(call.react(emoji::YES));
            Ok(writes)
        }
        Phase::Failed => {
            let mut writes = desk.supersede(&job.request.old_room)?;
            writes.push(call.react(emoji::WORKING));
            writes.push(Write::CreateJob(Box::new(Request {
                sender: call.sender().to_owned(),
                command_event: call.received.event_id.clone(),
                ..job.request
            })));
            Ok(writes)
        }
        phase => Ok(call.refuse(answer::wrong_moment(id, phase))),
    }
}
