//! `!upgrade verify <id>`: has the worker try the to-dos of a finished upgrade again, and tick off
//! those that are done.

use super::{Call, Desk, HandleError};
use crate::job::{Entry, Phase};
use crate::message::{answer, emoji};
use crate::model::JobId;
use crate::store::Write;

pub(super) fn run(desk: &Desk, call: &Call<'_>, id: JobId) -> Result<Vec<Write>, HandleError> {
    let Some((job, state)) = desk.job(call, id)? else {
        return Ok(call.refuse(answer::no_such_job(id)));
    };
    if state.phase != Phase::Done {
        return Ok(call.refuse(answer::wrong_moment(id, state.phase)));
    }
    let entry = Entry::Rechecked {
        by: call.sender().to_owned(),
        at: desk.clock.now(),
    };
    let mut writes = desk.advance(&job, entry)?;
    writes.push(call.react(emoji::YES));
    Ok(writes)
}
