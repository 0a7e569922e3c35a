//! Who of a job's old room has come to the new one, now.
//!
//! Reads what sync told, and the member lists themselves where sync may have left something out.
//! Handlers and the worker both ask. Left out: what the answer is good for.

use ruma::RoomId;
use tracing::warn;

use crate::clock::Clock;
use crate::homeserver::{Homeserver, HomeserverError};
use crate::job::{Job, State};
use crate::room::moves::{MemberEvent, MemberRecord, Moves, Seats, moves};
use crate::room::state::Membership;
use crate::store::{Store, StoreError};

/// Why it cannot be told now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CensusError {
    /// The homeserver could not be asked.
    #[error("cannot read the members of the rooms")]
    Homeserver(#[from] HomeserverError),
    #[error("cannot read who moved")]
    Store(#[from] StoreError),
}

/// Who moved. `None`: the job has no new room yet.
///
/// # Errors
/// When the homeserver does not answer, or the database fails.
pub(crate) async fn take(
    store: &Store,
    port: &dyn Homeserver,
    clock: &dyn Clock,
    job: &Job,
    state: &State,
) -> Result<Option<Moves>, CensusError> {
    let (Some(plan), Some(new_room)) = (&state.plan, state.new_room()) else {
        return Ok(None);
    };
    let old_room = &job.request.old_room;
    let (old, new) = if store.is_followed(job.id)? {
        for room in [old_room, new_room] {
            catch_up(store, port, clock, room).await?;
        }
        (store.seats(old_room)?, store.seats(new_room)?)
    } else {
        // Nobody kept it up: who was there is known from the beginning, who is there is asked.
        let now = clock.now();
        let mut old = Seats::new();
        if let Some(before) = store.snapshot(job.id)? {
            let members = before.room.members(Membership::Join);
            old.extend(members.map(|user| (user, MemberRecord::joined(now))));
        }
        let mut new = Seats::new();
        for (room, seats) in [(old_room, &mut old), (new_room, &mut new)] {
            for event in members(port, room).await?.unwrap_or_default() {
                let known = seats.get(&event.user).copied();
                seats.insert(event.user.clone(), MemberRecord::after(known, &event, now));
            }
        }
        (old, new)
    };
    let incompatible = state.incompatible_servers();
    Ok(Some(moves(
        &old,
        &new,
        &plan.intent.bot,
        &plan.intent.bots,
        &incompatible,
    )))
}

/// Reads the member list of a room, if sync may have left something out.
async fn catch_up(
    store: &Store,
    port: &dyn Homeserver,
    clock: &dyn Clock,
    room: &RoomId,
) -> Result<(), CensusError> {
    let Some(unread) = store.unread_members(room)? else {
        return Ok(());
    };
    let members = members(port, room).await?.unwrap_or_default();
    store.put_members(clock.now(), room, unread, &members)?;
    Ok(())
}

/// The member list; `None` where the bot may not read it any more: what is known stays.
async fn members(
    port: &dyn Homeserver,
    room: &RoomId,
) -> Result<Option<Vec<MemberEvent>>, HomeserverError> {
    match port.members(room).await {
        Ok(members) => Ok(Some(members)),
        Err(error @ HomeserverError::Refused { .. }) => {
            warn!(
                %room,
                error = &error as &dyn std::error::Error,
                "cannot read who is in the room"
            );
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
