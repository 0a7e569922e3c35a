//! What is made of events, and what sync has told already: no request leaves here.
//!
//! Only rooms that the account is in are looked at: of others the store may hold what is long past.

use std::collections::BTreeSet;

use futures_util::future::BoxFuture;
use matrix_sdk::Room;
use matrix_sdk::deserialized_responses::RawAnySyncOrStrippedState;
use ruma::events::StateEventType;
use ruma::{OwnedEventId, OwnedRoomId, RoomId};
use serde_json::Value;

use super::Port;
use crate::homeserver::{HomeserverError, Result, ToldRoom};
use crate::matrix::wire::joined;
use crate::room::state::{Content, RoomEvent, RoomState, StateEvent};

/// Stands for a sender whose id is none by the specification: nobody else has it.
const NO_SENDER: &str = "@:invalid";

/// State with an empty key that every room is told with.
const TOLD_STATE: [&str; 6] = [
    "m.room.create",
    "m.room.name",
    "m.room.canonical_alias",
    "m.room.power_levels",
    "m.room.join_rules",
    "m.room.tombstone",
];

/// Events that link a room with a space; the state key is the room at the other end.
const SPACE_LINKS: [&str; 2] = ["m.space.child", "m.space.parent"];

impl Port {
    pub(super) fn all_told(&self) -> BoxFuture<'_, Result<Vec<ToldRoom>>> {
        Box::pin(async move {
            let mut rooms = Vec::new();
            for room in self.client.joined_rooms() {
                // The SDK knows a room before it has stored what sync told of it.
                if !room.is_state_fully_synced() {
                    continue;
                }
                rooms.push(self.told(&room).await?);
            }
            rooms.sort_by(|a, b| a.state.room_id.cmp(&b.state.room_id));
            Ok(rooms)
        })
    }

    /// Whether sync has told of a room that the account is in.
    pub(super) fn is_told(&self, room: &RoomId) -> bool {
        joined(&self.client, room).is_some_and(|room| room.is_state_fully_synced())
    }

    async fn told(&self, room: &Room) -> Result<ToldRoom> {
        let mut events = Vec::new();
        for kind in TOLD_STATE {
            events.extend(self.stored(room, kind, "").await?);
        }
        let own = self.stored(room, "m.room.member", self.account.as_str());
        events.extend(own.await?);
        for kind in SPACE_LINKS {
            events.extend(links(room, kind).await?);
        }
        Ok(ToldRoom {
            state: RoomState::new(room.room_id().to_owned(), events),
            members: room.joined_members_count(),
        })
    }

    pub(super) fn told_state<'a>(
        &'a self,
        room: &'a RoomId,
    ) -> BoxFuture<'a, Result<Option<RoomState>>> {
        Box::pin(async move {
            let Some(known) = joined(&self.client, room) else {
                return Ok(None);
            };
            let mut events = Vec::new();
            for kind in TOLD_STATE {
                events.extend(self.stored(&known, kind, "").await?);
            }
            Ok(Some(RoomState::new(room.to_owned(), events)))
        })
    }

    pub(super) fn told_children<'a>(
        &'a self,
        space: &'a RoomId,
    ) -> BoxFuture<'a, Result<BTreeSet<OwnedRoomId>>> {
        Box::pin(async move {
            let Some(space) = joined(&self.client, space) else {
                return Ok(BTreeSet::new());
            };
            let links = links(&space, "m.space.child").await?;
            Ok(links
                .iter()
                .filter_map(|link| link.state_key.parse().ok())
                .collect())
        })
    }

    /// Reads what sync told about a room; `None` where it is not what it should be.
    async fn stored(&self, room: &Room, kind: &str, key: &str) -> Result<Option<StateEvent>> {
        let event = room.get_state_event(StateEventType::from(kind), key).await;
        let event = event.map_err(|source| unreadable(room.room_id(), source))?;
        Ok(event.as_ref().and_then(state_event))
    }
}

/// Links of one kind that hold.
async fn links(room: &Room, kind: &str) -> Result<Vec<StateEvent>> {
    let events = room.get_state_events(StateEventType::from(kind)).await;
    let events = events.map_err(|source| unreadable(room.room_id(), source))?;
    let mut links: Vec<_> = events.iter().filter_map(state_event).collect();
    links.retain(|link| names_servers(&link.content));
    Ok(links)
}

fn unreadable(room: &RoomId, source: matrix_sdk::Error) -> HomeserverError {
    let request = format!("read what sync told about {room}");
    HomeserverError::Unusable {
        request,
        source: source.into(),
    }
}

/// A state event that sync told, unless it is not what it should be.
fn state_event(event: &RawAnySyncOrStrippedState) -> Option<StateEvent> {
    lenient(match event {
        RawAnySyncOrStrippedState::Sync(raw) => raw.json().get(),
        RawAnySyncOrStrippedState::Stripped(raw) => raw.json().get(),
    })
}

/// Reads a state event for what it is. Only what makes it one must fit: the rest may be odd.
pub(in crate::matrix) fn lenient(json: &str) -> Option<StateEvent> {
    let Value::Object(mut event) = serde_json::from_str(json).ok()? else {
        return None;
    };
    let Some(Value::Object(content)) = event.remove("content") else {
        return None;
    };
    let text = |key: &str| event.get(key).and_then(Value::as_str);
    Some(StateEvent {
        kind: text("type")?.to_owned(),
        state_key: text("state_key")?.to_owned(),
        // What somebody set whose id is none today stands all the same.
        sender: text("sender")?
            .parse()
            .or_else(|_| NO_SENDER.parse())
            .ok()?,
        event_id: text("event_id").and_then(|id| id.parse().ok()),
        origin_server_ts: event
            .get("origin_server_ts")
            .and_then(Value::as_u64)
            .unwrap_or(0),
        replaces: replaces(&event),
        content,
    })
}

/// The event that stood in a state event's slot before it.
/// Source: Synapse, Continuwuity: `unsigned.replaces_state`, a name older than the specification.
fn replaces(event: &Content) -> Option<OwnedEventId> {
    let unsigned = event.get("unsigned")?;
    unsigned.get("replaces_state")?.as_str()?.parse().ok()
}

/// Reads an event, with the content that its sender gave it last.
/// Source: Matrix specification, "Event replacements": servers add the newest one to the event.
pub(in crate::matrix) fn as_last_edited(json: &str) -> serde_json::Result<RoomEvent> {
    let mut whole: Value = serde_json::from_str(json)?;
    let edit = whole.pointer_mut("/unsigned/m.relations/m.replace");
    let edit = edit.map(Value::take).unwrap_or_default();
    let before = whole.as_object().and_then(replaces);
    let mut event: RoomEvent = serde_json::from_value(whole)?;
    event.replaces = before;
    if let Some(Value::Object(content)) = edit.pointer("/content/m.new_content")
        && edit.get("sender").and_then(Value::as_str) == Some(event.sender.as_str())
        && !event.content.is_empty()
    {
        event.content.clone_from(content);
    }
    Ok(event)
}

/// Whether content of `m.space.child` or `m.space.parent` links two rooms.
/// Source: Matrix specification, "Spaces": without `via` both events count as removed.
fn names_servers(content: &Content) -> bool {
    content
        .get("via")
        .and_then(Value::as_array)
        .is_some_and(|via| !via.is_empty())
}
