//! `!upgrade verify <id|room>`: has the worker try the to-dos of a finished upgrade again, and tick
//! off those that are done.

use super::{Call, Desk, HandleError};
use crate::job::{Entry, Phase};
use crate::message::{answer, emoji};
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
    if state.phase != Phase::Done {
        return Ok(call.refuse(answer::wrong_moment(job.id, state.phase)));
    }
    let entry = Entry::Rechecked {
        by: call.sender().to_owned(),
        at: desk.clock.now(),
    };
    let mut writes = desk.advance(&job, entry)?;
    writes.push(call.react(emoji::YES));
    Ok(writes)
}
