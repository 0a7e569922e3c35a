//! `!upgrade list [--all]`: upgrades asked for in this room, newest first.

use super::{Call, Desk, HandleError, folded, folded_campaign};
use crate::command::ListScope;
use crate::message::answer;
use crate::message::campaign::line;
use crate::message::doc::Span;
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
    let campaigns = campaigns(desk, call, Filter::All, limit)?;
    Ok(call.answer(answer::list(&campaigns, &jobs, desk.clock.now(), nothing)))
}

/// Campaigns of the caller's admin room, as lines of a list.
pub(super) fn campaigns(
    desk: &Desk,
    call: &Call<'_>,
    filter: Filter,
    limit: usize,
) -> Result<Vec<Vec<Span>>, HandleError> {
    let found = desk.store.campaigns(&call.office.room_id, filter, limit)?;
    found
        .into_iter()
        .map(|campaign| {
            let (campaign, state) = folded_campaign(campaign)?;
            let children = desk.store.children(campaign.id)?;
            Ok(line(&campaign, &state, &children, desk.clock.now()))
        })
        .collect()
}
