//! Makes the new room, which nobody can find yet; and takes it back.
//!
//! A second call makes a second room, so this step looks before it calls, writes down that it
//! calls, and afterwards believes only the rooms (P2): the create event carries the command.

use jiff::Timestamp;
use ruma::OwnedRoomId;
use serde_json::json;
use tracing::warn;

use super::mark::{mark, may_have_left};
use super::{Done, Drive, SETTLE, StepError, plan_of};
use crate::homeserver::{Homeserver, HomeserverError};
use crate::job::log::Called;
use crate::job::{Job, Output, Plan, State, Step, StepEvent};
use crate::room::creation::{is_marked, request, staged};
use crate::room::join_rules::JOIN_RULES;
use crate::room::state::{Membership, Snapshot, content};
use crate::room::target::{room_to_be, target};
use crate::telemetry::chain;

/// What people read who are shown out of a room that is given up.
const GIVEN_UP: &str = "This room was prepared for an upgrade that was called off.";

pub(super) async fn run(drive: &mut Drive, job: &Job, state: &State) -> Result<Done, StepError> {
    let before = drive.snapshot(job)?;
    let plan = plan_of(state)?;
    if let Some(new_room) = find(drive, job, plan, &before).await? {
        return Ok(Output::Created { new_room }.into());
    }
    match state.called(Step::Create) {
        Called::Never => call(drive, job, plan, &before).await,
        Called::Perhaps(at) if is_settled(at, drive.clock.now()) => {
            mark(drive, job, Step::Create, StepEvent::Undone)?;
            Err(StepError::Retry {
                problem: "The server did not make the new room.".to_owned(),
                source: None,
            })
        }
        Called::Perhaps(_) => Err(StepError::Settling),
    }
}

async fn call(drive: &Drive, job: &Job, plan: &Plan, before: &Snapshot) -> Result<Done, StepError> {
    let target = staged(&target(before, &plan.intent, &room_to_be()), &plan.intent);
    let body = request(before, &target, &plan.intent, &job.request.key());
    let at = drive.clock.now();
    mark(drive, job, Step::Create, StepEvent::Called { at })?;
    match drive.port.create_room(&body).await {
        Ok(new_room) => Ok(Output::Created { new_room }.into()),
        // The limit is checked before anything is done.
        Err(error @ HomeserverError::RateLimited { .. }) => {
            mark(drive, job, Step::Create, StepEvent::Undone)?;
            Err(error.into())
        }
        Err(HomeserverError::Refused { code, message, .. }) => {
            // Synapse makes the room and then refuses one event of it: the room serves, and the
            // next step finds out which event it was.
            if let Some(new_room) = find(drive, job, plan, before).await? {
                warn!(%new_room, code, message, "the server left the new room half made");
                return Ok(Output::Created { new_room }.into());
            }
            mark(drive, job, Step::Create, StepEvent::Undone)?;
            Err(StepError::Fail {
                problem: format!("The server refused to make the new room: {message} ({code})."),
            })
        }
        Err(error @ (HomeserverError::Uncertain { .. } | HomeserverError::Unusable { .. })) => {
            warn!(error = chain(&error), "no certain answer to /createRoom");
            Err(StepError::Settling)
        }
    }
}

/// Takes back what was made (P6): shows everybody out and leaves. A room that nobody is in cannot
/// be entered any more.
pub(super) async fn undo(drive: &Drive, job: &Job, state: &State) -> Result<Done, StepError> {
    let port = &*drive.port;
    let made = match state.staged_room() {
        Some(room) => Some(room.clone()),
        None => find(drive, job, plan_of(state)?, &drive.snapshot(job)?).await?,
    };
    let Some(room) = made else {
        return match state.called(Step::Create) {
            Called::Perhaps(at) if !is_settled(at, drive.clock.now()) => Err(StepError::Settling),
            Called::Perhaps(_) | Called::Never => Ok(Done::Undone),
        };
    };
    let now = match port.state(&room).await {
        Ok(now) => now,
        Err(HomeserverError::Refused { .. }) => return Ok(Done::Undone),
        Err(error) => return Err(error.into()),
    };
    let closed = content(json!({"join_rule": "invite"}));
    if now.content(JOIN_RULES, "") != Some(&closed) {
        accepted(port.put_state(&room, JOIN_RULES, "", &closed).await)?;
    }
    let others = now
        .members(Membership::Join)
        .chain(now.members(Membership::Invite));
    for user in others.filter(|user| user != port.account()) {
        accepted(port.kick(&room, &user, Some(GIVEN_UP)).await)?;
    }
    port.leave(&room).await?;
    if let Some(admin) = port.admin() {
        // Nobody is in it any more; without an admin's help it stays, empty and closed.
        accepted(admin.delete_room(&room).await)?;
    }
    Ok(Done::Undone)
}

/// What is refused while a room is given up does not matter.
fn accepted<T>(answer: Result<T, HomeserverError>) -> Result<(), HomeserverError> {
    match answer {
        Ok(_) | Err(HomeserverError::Refused { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The room that an earlier call made.
async fn find(
    drive: &Drive,
    job: &Job,
    plan: &Plan,
    before: &Snapshot,
) -> Result<Option<OwnedRoomId>, StepError> {
    // Before the first call there can be none, and looking would cost requests.
    if !may_have_left(&super::mark::reread(drive, job)?, Step::Create) {
        return Ok(None);
    }
    let port: &dyn Homeserver = &*drive.port;
    for room in port.joined_rooms().await?.difference(&before.joined_rooms) {
        match port.state(room).await {
            Ok(state) if is_marked(&state, &plan.intent, &job.request.key()) => {
                return Ok(Some(room.clone()));
            }
            Ok(_) | Err(HomeserverError::Refused { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

fn is_settled(called: Timestamp, now: Timestamp) -> bool {
    now.duration_since(called).as_secs() >= SETTLE.as_secs().cast_signed()
}
