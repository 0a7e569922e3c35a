//! Looks at both rooms again, mends what can still be mended, and lists what only people can do (P7).
//!
//! A finished upgrade that is looked at again is another matter: the list gets shorter, and what
//! is on it is tried once more, but nothing else is touched.

use std::time::Duration;

use ruma::{OwnedRoomId, RoomId};
use serde_json::Value;

use super::close::{Stage, is_open};
use super::{
    Done, JobRun, Seen, StepError, close, mark, new_room, notice, orphan, plan_of, switch,
};
use crate::clock::later;
use crate::homeserver::{Bucket, HomeserverError};
use crate::job::{
    Encryption, Entry, Job, Output, Plan, Refusal, State, Step, StepEvent, Todo, why_missing,
};
use crate::room::addresses::{left_in_old, showable};
use crate::room::authority;
use crate::room::change::{Change, Part, Side};
use crate::room::creation::came_encrypted;
use crate::room::diff::diff;
use crate::room::state::Content;
use crate::{announce, survey};

/// Type of the event that closes a room.
const TOMBSTONE: &str = "m.room.tombstone";

/// How long after each look the next one follows; the last is repeated.
const RECHECK_AFTER: [Duration; 4] = [
    Duration::from_mins(10),
    Duration::from_hours(1),
    Duration::from_hours(6),
    Duration::from_hours(24),
];

/// How often a finished upgrade is looked at again by itself; about a month.
const RECHECKS_MAX: usize = 33;

pub(super) async fn run(job_run: &mut JobRun, job: &Job, state: &State) -> Result<Done, StepError> {
    let plan = plan_of(state)?;
    let new = new_room(state)?;
    job_run.seen = None;
    let open = match state.outputs.get(&Step::Verify) {
        Some(Output::Verified { todos, .. }) => Some(todos.as_slice()),
        _ => None,
    };
    let redirected = redirected(job_run, job, plan, &new).await?;
    let mut writes = Vec::new();
    for room in orphan::late(job_run, job, &new).await? {
        orphan::remove(&*job_run.port, &room).await?;
        writes.push(announce::second_room(job, state, &room));
    }
    let mut refused = Vec::new();
    match open {
        None => {
            let look = job_run.look.take();
            job_run.seen = look.filter(|look| job_run.holds(look.read));
            let mut changed = 0;
            for part in Part::ALL {
                let (made, not_made) =
                    close::close(job_run, job, plan, &new, part, Stage::Final).await?;
                changed += made;
                refused.extend(not_made);
            }
            if changed > 0 {
                job_run.seen = None;
            }
        }
        // A finished upgrade belongs to its people: what they changed since is their decision, and
        // only what was still open is tried again.
        Some(todos) => refused = close::again(job_run, job, plan, &new, todos).await?,
    }
    // Only what was changed just now has to be read once more.
    let seen = match job_run.seen.take() {
        Some(seen) => seen,
        None => close::read(job_run, job, plan, &new, Stage::Final).await?,
    };
    let elsewhere = survey::listed_on(&*job_run.port, &seen.before)
        .await
        .into_iter()
        .map(|server| Change::RemoteListing { server });
    let left = diff(&seen.target, &seen.now).into_iter();
    let left = left.chain(elsewhere).chain(redirected);
    let mut todos = as_todos(job_run, &seen, left, open, &refused);
    // No part of the difference: whether people were told is not seen in the rooms.
    let unnoticed = match (open, state.outputs.get(&Step::Notice)) {
        (Some(todos), _) => notice::again(job_run, job, plan, &new, todos).await?,
        (None, Some(Output::Noticed { refused, .. })) => refused.clone(),
        (None, _) => Vec::new(),
    };
    todos.extend(unnoticed.into_iter().map(Todo::from));
    let looks = looks(job);
    // A request whose answer was lost may still be carried out: one more look, where nothing else asks for it.
    let in_doubt = looks == 0 && mark::may_come_late(job);
    let recheck_at = ((!todos.is_empty() && looks < RECHECKS_MAX) || in_doubt)
        .then(|| RECHECK_AFTER[looks.min(RECHECK_AFTER.len() - 1)])
        .map(|after| later(job_run.clock.now(), after));
    Ok(Done::Output {
        output: Output::Verified {
            todos,
            recheck_at,
            encryption: if came_encrypted(&seen.before.room, &seen.now.new) {
                Encryption::New
            } else {
                Encryption::AsBefore
            },
        },
        writes,
    })
}

/// What is left as to-dos, each with what is in the way; once an upgrade is finished only what was open.
fn as_todos(
    job_run: &JobRun,
    seen: &Seen,
    left: impl Iterator<Item = Change>,
    open: Option<&[Todo]>,
    refused: &[Refusal],
) -> Vec<Todo> {
    let (referrers, bot) = (&seen.before.referrers, job_run.port.account());
    left.filter(|change| {
        let is_new = matches!(change, Change::Tombstone { .. });
        is_new || open.is_none_or(|todos| is_open(change, todos))
    })
    .filter(|change| !is_shown_rightly(change, seen))
    .map(|change| {
        let obstacle = authority::obstacle(&change, &seen.now, referrers, bot);
        let obstacle = obstacle.unwrap_or_else(|| why_missing(&change, refused));
        Todo { change, obstacle }
    })
    .collect()
}

/// How often the rooms of an upgrade were compared in the end.
fn looks(job: &Job) -> usize {
    let is_look = |entry: &Entry| {
        matches!(
            entry,
            Entry::Step {
                step: Step::Verify,
                event: StepEvent::Succeeded { .. }
            }
        )
    };
    let looks = job.log.iter().filter(|(_, entry)| is_look(entry));
    looks.count()
}

/// Whether a room shows all addresses that it can, as the others lead elsewhere: moving those is what is left to do.
fn is_shown_rightly(change: &Change, seen: &Seen) -> bool {
    let Change::ShowAliases { side, .. } = change else {
        return false;
    };
    match side {
        Side::Old => left_in_old(&seen.target, &seen.now).is_none(),
        Side::New => {
            let shown = seen.now.new.content("m.room.canonical_alias", "");
            shown.cloned().unwrap_or_default() == showable(&seen.target, &seen.now)
        }
    }
}

/// Whether the old room leads anywhere else by now. Our own tombstone to another room comes from a request
/// that was carried out late, and is put right.
async fn redirected(
    job_run: &JobRun,
    job: &Job,
    plan: &Plan,
    new_room: &RoomId,
) -> Result<Option<Change>, StepError> {
    let port = &*job_run.port;
    let old_room = &job.request.old_room;
    let leads_to = |content: &Content| {
        let to = content.get("replacement_room").and_then(Value::as_str);
        to.and_then(|to| OwnedRoomId::try_from(to).ok())
    };
    let just_seen = job_run
        .look
        .as_ref()
        .filter(|look| job_run.holds(look.read));
    let just_seen = just_seen.and_then(|look| look.now.old.content(TOMBSTONE, ""));
    if just_seen.and_then(leads_to).as_deref() == Some(new_room) {
        return Ok(None);
    }
    let now = match port.state_event(old_room, TOMBSTONE, "").await {
        Ok(now) => now.as_ref().and_then(leads_to),
        // The bot is not in the old room any more.
        Err(HomeserverError::Refused { .. }) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    if now.as_deref() == Some(new_room) {
        return Ok(None);
    }
    port.reserve(Bucket::Everything).await?;
    let state = port.state(old_room).await?;
    let by = state
        .event(TOMBSTONE, "")
        .map(|tombstone| tombstone.sender.clone());
    let is_own = by.as_deref() == Some(port.account());
    if is_own && now.is_some() && mark::may_come_late(job) {
        let tombstone = switch::tombstone(job_run, plan, new_room)?;
        match port.put_state(old_room, TOMBSTONE, "", &tombstone).await {
            Ok(_) => return Ok(None),
            Err(HomeserverError::Refused { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(Change::Tombstone { now, by }))
}
