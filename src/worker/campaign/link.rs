//! Compares how the rooms of a campaign refer to each other once more, after all of them were moved.
//!
//! Rooms that are moved side by side do not see each other's new rooms while they look around. What
//! should be is said by the same rule as for a single upgrade (`room::target`), asked with what refers
//! to the old room now. Only what differs is sent, so that doing it again does nothing.

use std::collections::BTreeMap;

use ruma::{OwnedRoomId, RoomId};
use tracing::info;

use super::super::{Worker, WorkerContext, readable};
use super::{CampaignRun, SYNC_WAIT, SYNC_WAITS_MAX};
use crate::campaign::rooms::{LeftOut, Why};
use crate::campaign::{Child, Entry};
use crate::homeserver::{Bucket, Homeserver, HomeserverError};
use crate::job::{Phase as JobPhase, Refusal, Todo, WaitReason};
use crate::room::change::Change;
use crate::room::join_rules::JOIN_RULES;
use crate::room::state::{RoomState, Snapshot, slot};
use crate::room::target::{names, target};
use crate::store::StoreError;
use crate::survey::surroundings::told;

/// Why links could not be compared.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    /// The homeserver does not answer.
    #[error("cannot compare links between rooms")]
    Homeserver(#[from] HomeserverError),
    #[error("cannot read a job")]
    Store(#[from] StoreError),
}

enum Linking {
    Done {
        made: usize,
        todos: Vec<Todo>,
        added: Vec<LeftOut>,
    },
    Awaits,
}

impl Worker {
    /// All jobs are done: compares links and join rules between the rooms once more. Rooms that were
    /// moved side by side, or around a crash, may still name each other's old ones.
    pub(super) async fn link(&self, run: &CampaignRun) -> Result<(), StoreError> {
        let mut refused = run.state.refused.clone();
        match self.links(run, &mut refused).await {
            Ok(Linking::Awaits) => self.wait(run, SYNC_WAIT, WaitReason::Settling, refused),
            Ok(Linking::Done { made, todos, added }) => {
                let done = run
                    .children
                    .iter()
                    .filter(|child| child.phase == JobPhase::Done);
                let entry = Entry::Linked {
                    jobs: done.map(|child| child.id).collect(),
                    made,
                    todos,
                    added,
                };
                info!(campaign = %run.campaign.id, links = made, "campaign done");
                self.note(run, vec![entry], vec![])
            }
            Err(LinkError::Store(error)) => Err(error),
            Err(LinkError::Homeserver(error)) => self.trouble(run, &error, refused),
        }
    }

    async fn links(
        &self,
        run: &CampaignRun,
        refused: &mut Vec<Refusal>,
    ) -> Result<Linking, LinkError> {
        let moved: Vec<_> = run
            .children
            .iter()
            .filter_map(|child| Some((child, child.summary.new_room.as_ref()?)))
            .collect();
        // What the last jobs changed in their new rooms counts, too.
        self.context.port.until_now(SYNC_WAIT).await;
        let rooms = told(&self.context.port).await?;
        let is_told = |new: &OwnedRoomId| rooms.contains_key(new);
        if !moved.iter().all(|(_, new)| is_told(new)) && run.state.waits < SYNC_WAITS_MAX {
            return Ok(Linking::Awaits);
        }
        let mut made = 0;
        for (child, new_room) in &moved {
            made += close(&self.context, child, new_room, &rooms, refused).await?;
        }
        let todos = refused.iter().cloned().map(Todo::from).collect();
        let known = |room: &OwnedRoomId| run.children.iter().any(|child| child.old_room == *room);
        let added = self
            .walked(run, &rooms)
            .members
            .into_iter()
            .filter(|member| !known(&member.room))
            .map(|member| LeftOut {
                label: rooms
                    .get(&member.room)
                    .map_or_else(|| member.room.to_string(), RoomState::label),
                room: member.room,
                why: Why::NotMeant,
            })
            .collect();
        Ok(Linking::Done { made, todos, added })
    }
}

/// Points to the new room of a job what still points to its old one; says how much. What the server
/// refuses is added to `refused`, and what is in there is not tried again. Closed rooms stay as they are.
async fn close(
    context: &WorkerContext,
    child: &Child,
    new_room: &RoomId,
    rooms: &BTreeMap<OwnedRoomId, RoomState>,
    refused: &mut Vec<Refusal>,
) -> Result<usize, LinkError> {
    let old_room = &child.old_room;
    let port = &context.port.counting();
    let referring = rooms.values().filter(|room| {
        room.replaced().is_none() && room.room_id != *new_room && names(room, old_room)
    });
    let mut referrers = Vec::new();
    for room in referring {
        referrers.extend(read(port, room, old_room).await?);
    }
    let mut made = 0;
    if referrers.is_empty() {
        return Ok(made);
    }
    let (Some(job), Some(snapshot)) = (
        context.store.job(child.id)?,
        context.store.snapshot(child.id)?,
    ) else {
        return Ok(made);
    };
    let Some(plan) = readable(&job).and_then(|state| state.plan) else {
        return Ok(made);
    };
    let before = Snapshot {
        referrers,
        ..snapshot
    };
    for (room, slots) in target(&before, &plan.intent, new_room).others {
        // The new link before the old one goes; where the server refuses it, the old one stays (P11).
        let mut slots: Vec<_> = slots.into_iter().collect();
        slots.sort_by_key(|(_, content)| content.is_empty());
        for (slot, content) in slots {
            let is_refused = |known: &Refusal| {
                matches!(&known.change, Change::OtherState { room: at, slot: (kind, key), .. }
                    if *at == room && *kind == slot.0 && key.as_str() == new_room.as_str())
            };
            if content.is_empty() && refused.iter().any(is_refused) {
                continue;
            }
            let change = Change::OtherState {
                room: room.clone(),
                slot: slot.clone(),
                content: content.clone(),
            };
            let is_known = |known: &Refusal| known.change.is_about_the_same(&change);
            if refused.iter().any(is_known) {
                continue;
            }
            // Before it is read, so that nothing is older than the moment it is written (P12).
            port.reserve(Bucket::Everything).await?;
            let now = port.state_event(&room, &slot.0, &slot.1).await?;
            let now = now.unwrap_or_default();
            if now == content {
                continue;
            }
            let read = before.referrers.iter().find(|read| read.room_id == room);
            if slot.0 == JOIN_RULES && read.and_then(|read| read.content(&slot.0, "")) != Some(&now)
            {
                // Somebody changed them since they were read, and they are written whole.
                let more = Box::pin(close(context, child, new_room, rooms, refused));
                return Ok(made + more.await?);
            }
            match port.put_state(&room, &slot.0, &slot.1, &content).await {
                Ok(_) => made += 1,
                Err(HomeserverError::Refused { code, message, .. }) => refused.push(Refusal {
                    change,
                    code,
                    message,
                }),
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(made)
}

/// A room that referred to another when sync last told of it, with those references as they are
/// now. `None`: the bot cannot read it any more.
async fn read(
    port: &dyn Homeserver,
    room: &RoomState,
    named: &RoomId,
) -> Result<Option<RoomState>, HomeserverError> {
    let mut now = room.clone();
    for slot in [
        slot("m.space.child", named.as_str()),
        slot("m.space.parent", named.as_str()),
        slot(JOIN_RULES, ""),
    ] {
        if room.content(&slot.0, &slot.1).is_none() {
            continue;
        }
        match port.state_event(&room.room_id, &slot.0, &slot.1).await {
            Ok(content) => now.put(slot, port.account(), content.unwrap_or_default()),
            Err(HomeserverError::Refused { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(now))
}
