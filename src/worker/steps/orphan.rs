//! Rooms that were made to replace an old one and do not: an answer that was lost, a server that was late,
//! or a job that ended before it could look. Finds them, and takes them back (P2, P6).
//!
//! Left out: the room of the job at hand, which `create` and `switch` find by themselves.

use std::collections::BTreeSet;

use ruma::{OwnedRoomId, RoomId};
use serde_json::json;
use tracing::warn;

use super::mark::may_come_late;
use super::{JobRun, StepError};
use crate::homeserver::{Homeserver, HomeserverError, ensure_reachable};
use crate::job::Job;
use crate::room::join_rules::JOIN_RULES;
use crate::room::state::{Membership, RoomState, content};
use crate::survey::surroundings::told;

/// What people read who are removed from a room that is given up.
const GIVEN_UP: &str = "This room was prepared for an upgrade that was called off.";

/// Takes back what earlier jobs for the same room may have left, as far as sync has told of it.
pub(super) async fn take_back(job_run: &JobRun, job: &Job) -> Result<(), StepError> {
    for room in of_earlier_jobs(job_run, job).await? {
        warn!(%room, "an earlier upgrade left this room behind; it is taken back");
        remove(&*job_run.port, &room).await?;
    }
    Ok(())
}

/// Rooms that earlier jobs for the same old room left when they ended before the old room led anywhere.
pub(super) async fn of_earlier_jobs(
    job_run: &JobRun,
    job: &Job,
) -> Result<Vec<OwnedRoomId>, StepError> {
    let old_room = &job.request.old_room;
    let earlier = job_run.store.jobs_for_room(old_room)?;
    let mut others = earlier.iter().filter(|earlier| earlier.id != job.id);
    if !others.any(Job::ended_in_doubt) {
        return Ok(Vec::new());
    }
    let kept: BTreeSet<_> = earlier.iter().filter_map(leads_to).collect();
    let rooms = job_run.port.told_rooms().await?.into_iter();
    let left = rooms.filter(|room| is_ours(&room.state, old_room, &*job_run.port));
    // Where people are, somebody is to decide.
    let left = left.filter(|room| room.members <= 1 && !kept.contains(&room.state.room_id));
    Ok(left.map(|room| room.state.room_id).collect())
}

/// Second rooms of a finished job: the server carried out a request whose answer was lost, after it was asked
/// again.
pub(super) async fn late(
    job_run: &JobRun,
    job: &Job,
    new_room: &RoomId,
) -> Result<Vec<OwnedRoomId>, StepError> {
    if !may_come_late(job) {
        return Ok(Vec::new());
    }
    let port = &*job_run.port;
    let mut known = job_run.snapshot(job)?.known_successors;
    known.insert(new_room.to_owned());
    let is_it = |room: &RoomState| is_ours(room, &job.request.old_room, port);
    Ok(made_since(port, &known, is_it).await?)
}

/// Rooms of a kind that the account is in, without those that were known before. What a room was made as
/// never changes: only rooms of which sync has not told anything else are asked for.
pub(super) async fn made_since(
    port: &dyn Homeserver,
    known: &BTreeSet<OwnedRoomId>,
    is_it: impl Fn(&RoomState) -> bool + Send + Sync,
) -> Result<Vec<OwnedRoomId>, HomeserverError> {
    let told = told(port).await?;
    let is_another = |room: &OwnedRoomId| {
        let made = told.get(room);
        let made = made.filter(|room| room.event("m.room.create", "").is_some());
        made.is_some_and(|room| !is_it(room))
    };
    let mut found = Vec::new();
    for room in port.joined_rooms().await?.difference(known) {
        if is_another(room) {
            continue;
        }
        match port.state(room).await {
            Ok(state) if is_it(&state) => found.push(room.clone()),
            Ok(_) | Err(HomeserverError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// The room that a job leads to, or has made and not given up.
fn leads_to(job: &Job) -> Option<OwnedRoomId> {
    let state = job.state().ok()?;
    let made = state.staged_room().filter(|_| !state.phase.is_end());
    state.new_room().or(made).cloned()
}

/// Whether this account made a room to replace the old one.
pub(super) fn is_ours(room: &RoomState, old_room: &RoomId, port: &dyn Homeserver) -> bool {
    room.create().predecessor.as_deref() == Some(old_room)
        && room
            .event("m.room.create", "")
            .is_some_and(|event| event.sender == port.account())
}

/// Removes everybody and leaves. A room that nobody is in cannot be entered any more.
pub(super) async fn remove(port: &dyn Homeserver, room: &RoomId) -> Result<(), StepError> {
    let now = match port.state(room).await {
        Ok(now) => now,
        Err(HomeserverError::Refused { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let closed = content(json!({"join_rule": "invite"}));
    if now.content(JOIN_RULES, "") != Some(&closed) {
        accepted(port, port.put_state(room, JOIN_RULES, "", &closed).await).await?;
    }
    let others = now
        .members(Membership::Join)
        .chain(now.members(Membership::Invite));
    for user in others.filter(|user| user != port.account()) {
        accepted(port, port.kick(room, &user, Some(GIVEN_UP)).await).await?;
    }
    port.leave(room).await?;
    if let Some(admin) = port.admin() {
        // Nobody is in it any more; without an admin's help it stays, empty and closed.
        accepted(port, admin.delete_room(room).await).await?;
    }
    Ok(())
}

/// What is refused while a room is given up does not matter, nor what the server fails at while it answers
/// other requests.
async fn accepted<T: Send>(
    port: &dyn Homeserver,
    answer: Result<T, HomeserverError>,
) -> Result<(), HomeserverError> {
    match answer {
        Ok(_) | Err(HomeserverError::Refused { .. }) => Ok(()),
        Err(error @ HomeserverError::Uncertain { .. }) => {
            ensure_reachable(port).await.map_err(|_| error)
        }
        Err(error) => Err(error),
    }
}
