//! `!upgrade list [--all]`: upgrades asked for in this room, newest first.

use super::{Call, HandleError, HandlerContext};
use crate::command::ListScope;
use crate::job::{Job, State};
use crate::message::answer;
use crate::message::campaign::line;
use crate::message::doc::Span;
use crate::model::WorkId;
use crate::store::{Filter, Write};

/// Jobs of `list`.
const RECENT: usize = 10;

/// Jobs of `list --all`; more would not fit into a message.
const ALL_MAX: usize = 100;

pub(super) fn run(
    context: &HandlerContext,
    call: &Call<'_>,
    scope: ListScope,
) -> Result<Vec<Write>, HandleError> {
    let limit = match scope {
        ListScope::Recent => RECENT,
        ListScope::All => ALL_MAX,
    };
    let jobs = context
        .store
        .jobs(&call.admin_room.room_id, Filter::All, limit)?;
    let nothing = "No upgrade was asked for in this room yet. `!upgrade help` shows how.";
    let is_all = jobs.len() < limit;
    let (jobs, mut others) = readable(jobs);
    others.extend(campaigns(context, call, Filter::All, limit)?);
    let removed = context.store.last_pruned(&call.admin_room.room_id)?;
    let removed = removed.filter(|_| is_all);
    let now = context.clock.now();
    Ok(call.answer(answer::list(&others, &jobs, removed, now, nothing)))
}

/// Jobs with their states; for those whose log cannot be read, a line that says so.
pub(super) fn readable(jobs: Vec<Job>) -> (Vec<(Job, State)>, Vec<Vec<Span>>) {
    let mut found = Vec::new();
    let mut lines = Vec::new();
    for job in jobs {
        match job.state() {
            Ok(state) => found.push((job, state)),
            Err(_) => lines.push(answer::unreadable_line(WorkId::Job(job.id))),
        }
    }
    (found, lines)
}

/// Campaigns of the caller's admin room, as lines of a list.
pub(super) fn campaigns(
    context: &HandlerContext,
    call: &Call<'_>,
    filter: Filter,
    limit: usize,
) -> Result<Vec<Vec<Span>>, HandleError> {
    let found = context
        .store
        .campaigns(&call.admin_room.room_id, filter, limit)?;
    found
        .into_iter()
        .map(|campaign| {
            let Ok(state) = campaign.state() else {
                return Ok(answer::unreadable_line(WorkId::Campaign(campaign.id)));
            };
            let children = context.store.children(campaign.id)?;
            Ok(line(&campaign, &state, &children, context.clock.now()))
        })
        .collect()
}
