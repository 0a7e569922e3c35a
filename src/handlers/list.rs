//! `!upgrade list [--all]`: upgrades asked for in this room, newest first.

use super::{Call, Desk, HandleError, folded};
use crate::command::ListScope;
use crate::message::answer;
use crate::store::{Filter, Write};

/// Jobs of `list`.
const RECENT: usize = 10;

/// Jobs of `list --all`; more would not fit into a message.
const ALL_MAX: usize = 100;

pub(super) fn run(
    desk: &Desk,
    call: &Call<'_>,
    scope: ListScope,
) -> Result<Vec<Write>, HandleError> {
    let limit = match scope {
        ListScope::Recent => RECENT,
        ListScope::All => ALL_MAX,
    };
    let jobs = desk.store.jobs(&call.office.room_id, Filter::All, limit)?;
    let jobs = jobs
        .into_iter()
        .map(folded)
        .collect::<Result<Vec<_>, _>>()?;
    let nothing = "No upgrade was asked for in this room yet. `!upgrade help` shows how.";
    Ok(call.answer(answer::list(&jobs, desk.clock.now(), nothing)))
}
