//! `!upgrade cancel <id>`, and ❌ on a plan or a review: takes an upgrade back, as long as that is
//! possible.

use super::{Call, Desk, HandleError};
use crate::job::{Entry, Phase};
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
    let possible = match state.phase {
        Phase::Planning | Phase::Planned | Phase::InReview => true,
        Phase::Running => state.can_turn_back(),
        _ => false,
    };
    if !possible {
        return Ok(call.refuse(answer::wrong_moment(id, state.phase)));
    }
    let mut writes = desk.advance(
        &job,
        Entry::Cancelled {
            by: call.sender().to_owned(),
        },
    )?;
    if !matches!(
        call.received.kind,
        crate::store::ReceivedKind::Reaction { .. }
    ) {
        writes.push(call.react(emoji::YES));
    }
    Ok(writes)
}
