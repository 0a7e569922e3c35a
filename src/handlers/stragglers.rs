//! `!upgrade stragglers <id|room>`: who has not come to the new room.

use super::{Call, Desk, HandleError};
use crate::message::follow_up;
use crate::model::JobRef;
use crate::store::Write;

pub(super) async fn run(
    desk: &Desk,
    call: &Call<'_>,
    of: &JobRef,
) -> Result<Vec<Write>, HandleError> {
    let (job, state) = match desk.named_job(call, of).await? {
        Ok(found) => found,
        Err(text) => return Ok(call.refuse(text)),
    };
    let moves = match desk.moves(&job, &state).await? {
        Ok(moves) => moves,
        Err(text) => return Ok(call.refuse(text)),
    };
    let label = state.plan.as_ref().map_or("", |plan| &plan.label);
    Ok(call.answer(follow_up::stragglers(job.id, label, &moves)))
}
