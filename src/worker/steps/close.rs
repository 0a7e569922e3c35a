//! Closes one part of the difference between what is and what should be: the work of most steps.
//!
//! What the server refuses is written down and does not stop the rest: after the switch there is
//! only forward, and `verify` makes a to-do of it.

use ruma::RoomId;

use super::{Done, Drive, Seen, StepError, new_room, plan_of};
use crate::homeserver::{Homeserver, HomeserverError};
use crate::job::{Job, Output, Plan, Refusal, State};
use crate::room::diff::{Change, Part, Side, diff};
use crate::room::state::Listing;
use crate::room::target::target;
use crate::survey;

/// A step that does nothing but close its part.
pub(super) async fn step(
    drive: &mut Drive,
    job: &Job,
    state: &State,
    part: Part,
) -> Result<Done, StepError> {
    let (made, refused) = close(drive, job, plan_of(state)?, &new_room(state)?, part).await?;
    Ok(Output::Closed { made, refused }.into())
}

/// Makes the changes of one part; says how many were made and which were refused.
pub(super) async fn close(
    drive: &mut Drive,
    job: &Job,
    plan: &Plan,
    new_room: &RoomId,
    part: Part,
) -> Result<(usize, Vec<Refusal>), StepError> {
    let mut seen = match drive.seen.take() {
        Some(seen) if seen.now.new.room_id == new_room => seen,
        _ => read(drive, job, plan, new_room).await?,
    };
    let mut made = 0;
    let mut refused = Vec::new();
    let changes = diff(&seen.target, &seen.now);
    for change in changes
        .into_iter()
        .filter(|change| change.part() == part && !change.is_remote())
    {
        match apply(&*drive.port, &change, job, new_room).await {
            Ok(()) => {
                seen.now.apply(&change, drive.port.account());
                made += 1;
            }
            Err(HomeserverError::Refused { code, message, .. }) => {
                refused.push(Refusal {
                    change,
                    code,
                    message,
                });
            }
            // What was seen is dropped: after a doubtful answer the rooms are read again.
            Err(error) => return Err(error.into()),
        }
    }
    drive.seen = Some(seen);
    Ok((made, refused))
}

/// Reads both rooms.
pub(super) async fn read(
    drive: &Drive,
    job: &Job,
    plan: &Plan,
    new_room: &RoomId,
) -> Result<Seen, StepError> {
    let before = drive.snapshot(job)?;
    let target = target(&before, &plan.intent, new_room);
    let now = survey::observe(&*drive.port, &before, &target, new_room).await?;
    Ok(Seen {
        before,
        target,
        now,
    })
}

async fn apply(
    port: &dyn Homeserver,
    change: &Change,
    job: &Job,
    new_room: &RoomId,
) -> Result<(), HomeserverError> {
    let old_room = &job.request.old_room;
    let room = |side: &Side| match side {
        Side::Old => &**old_room,
        Side::New => new_room,
    };
    match change {
        Change::NewState { slot, content } => {
            port.put_state(new_room, &slot.0, &slot.1, content).await?;
        }
        Change::Ban { user, reason } => port.ban(new_room, user, reason.as_deref()).await?,
        Change::MoveAlias { alias, now } => {
            if now.is_some() {
                port.delete_alias(alias).await?;
            }
            port.create_alias(alias, new_room).await?;
        }
        Change::RemoteAlias { .. } => {}
        Change::ShowAliases { side, content } => {
            port.put_state(room(side), "m.room.canonical_alias", "", content)
                .await?;
        }
        Change::List { side, listing } => {
            let listing: Listing = *listing;
            port.set_listing(room(side), listing).await?;
        }
        Change::OtherState {
            room,
            slot,
            content,
        } => {
            port.put_state(room, &slot.0, &slot.1, content).await?;
        }
        Change::Lock { content } => {
            port.put_state(old_room, "m.room.power_levels", "", content)
                .await?;
        }
    }
    Ok(())
}
