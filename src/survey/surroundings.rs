//! What is read once for all rooms: those that the bot is in, how they refer to each other, and what
//! the server offers.
//!
//! The rooms are as sync told them, which costs no request; a plan for five hundred rooms asks the
//! rest once. Left out: the rooms themselves, whole.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::{try_join, try_join3};
use ruma::{OwnedRoomId, RoomId};

use crate::homeserver::{Homeserver, HomeserverError, Result, RoomVersions};
use crate::room::creation::Preset;
use crate::room::state::RoomState;
use crate::room::target::names;

/// What surrounds a room.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Rooms that the bot is in, each with its create event, names, power levels, join rules,
    /// tombstone and links with spaces.
    pub rooms: BTreeMap<OwnedRoomId, RoomState>,
    /// What the server is.
    pub server: ServerTraits,
}

/// What a server is, which changes when somebody updates it.
#[derive(Debug, Clone)]
pub struct ServerTraits {
    /// Room versions that it offers.
    pub versions: RoomVersions,
    /// What it calls its software.
    pub software: Option<String>,
    /// The presets whose rooms it encrypts unasked.
    pub encrypts: BTreeSet<Preset>,
}

impl ServerTraits {
    /// Asks the server.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn read(port: &dyn Homeserver) -> Result<Self> {
        let (versions, software, encrypts) = try_join3(
            port.room_versions(),
            software(port),
            port.encrypted_presets(),
        )
        .await?;
        Ok(Self {
            versions,
            software,
            encrypts,
        })
    }
}

/// What the server calls its software, where it says so. The name is no condition for anything: where the server is
/// away, its other answers fail as well.
async fn software(port: &dyn Homeserver) -> Result<Option<String>> {
    match port.server_software().await {
        Err(
            HomeserverError::Refused { .. }
            | HomeserverError::Unusable { .. }
            | HomeserverError::Uncertain { .. },
        ) => Ok(None),
        answer => answer,
    }
}

impl Surroundings {
    /// Reads them.
    ///
    /// # Errors
    /// When the server does not answer, or what sync told cannot be read.
    pub async fn read(port: &dyn Homeserver) -> Result<Self> {
        let (rooms, server) = try_join(told(port), ServerTraits::read(port)).await?;
        Ok(Self { rooms, server })
    }

    /// Rooms that name another one as a child, as their parent or in their join rules. Each holds
    /// of such names only those of that room.
    #[must_use]
    pub fn referrers(&self, room: &RoomId) -> Vec<RoomState> {
        self.rooms
            .values()
            .filter(|other| other.room_id != *room && names(other, room))
            .map(|other| naming(other, room))
            .collect()
    }

    /// Rooms that say they replace another one, whoever made them.
    #[must_use]
    pub fn successors(&self, room: &RoomId) -> BTreeSet<OwnedRoomId> {
        self.rooms
            .values()
            .filter(|other| other.create().predecessor.as_deref() == Some(room))
            .map(|other| other.room_id.clone())
            .collect()
    }

    /// The room that replaces another; see [`replacement`].
    #[must_use]
    pub fn replacement(&self, room: &RoomId) -> Option<OwnedRoomId> {
        replacement(&self.rooms, room)
    }
}

/// The room that people are in after another was replaced, perhaps more than once: the end of the chain of
/// tombstones, as far as the bot can see. `None` where there is none that people could be in: the rooms lead
/// round in a circle, or the last one is closed as well.
pub(crate) fn replacement(
    rooms: &BTreeMap<OwnedRoomId, RoomState>,
    room: &RoomId,
) -> Option<OwnedRoomId> {
    let mut seen = BTreeSet::from([room.to_owned()]);
    let mut last = next(rooms, room)?;
    while let Some(next) = next(rooms, &last) {
        if !seen.insert(last) {
            return None;
        }
        last = next;
    }
    let is_closed = rooms.get(&last).and_then(RoomState::tombstone).is_some();
    (!is_closed).then_some(last)
}

/// The room that a tombstone names. `None` also where the bot is in that one and it names another
/// predecessor.
pub(crate) fn next(rooms: &BTreeMap<OwnedRoomId, RoomState>, room: &RoomId) -> Option<OwnedRoomId> {
    let replacement = rooms.get(room)?.tombstone()?.replacement?;
    match rooms.get(&replacement) {
        Some(new) if new.create().predecessor.as_deref() != Some(room) => None,
        _ => Some(replacement),
    }
}

/// Rooms that the bot is in, as sync told them.
///
/// # Errors
/// When what sync told cannot be read.
pub(crate) async fn told(port: &dyn Homeserver) -> Result<BTreeMap<OwnedRoomId, RoomState>> {
    let rooms = port.told_rooms().await?.into_iter();
    Ok(rooms
        .map(|told| (told.state.room_id.clone(), told.state))
        .collect())
}

/// A room with only those of its links that name another one.
pub(super) fn naming(room: &RoomState, other: &RoomId) -> RoomState {
    let events = room.events.iter().filter(|((kind, key), _)| {
        !matches!(kind.as_str(), "m.space.child" | "m.space.parent") || key == other.as_str()
    });
    RoomState::new(room.room_id.clone(), events.map(|(_, event)| event.clone()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::room::state::tests::room;

    #[test]
    fn a_chain_of_tombstones_is_followed_to_its_end() {
        let closed = |id: &str, before: &str, to: &str| {
            let create = json!({"predecessor": {"room_id": before}});
            let mut events = vec![("m.room.create", "", "@a:x", create)];
            if !to.is_empty() {
                let to = json!({"body": "moved", "replacement_room": to});
                events.push(("m.room.tombstone", "", "@a:x", to));
            }
            let state = room(id, &events);
            (state.room_id.clone(), state)
        };
        let rooms = BTreeMap::from([
            closed("!a:x", "!none:x", "!b:x"),
            closed("!b:x", "!a:x", "!c:x"),
            closed("!c:x", "!b:x", ""),
            // The bot is not in the last one.
            closed("!far:x", "!none:x", "!unseen:x"),
            closed("!round:x", "!about:x", "!about:x"),
            closed("!about:x", "!round:x", "!round:x"),
            closed("!into:x", "!none:x", "!shut:x"),
            closed("!shut:x", "!into:x", "nowhere"),
            closed("!false:x", "!none:x", "!c:x"),
            closed("!itself:x", "!itself:x", "!itself:x"),
        ]);
        for (from, to) in [
            ("!a:x", Some("!c:x")),
            ("!b:x", Some("!c:x")),
            ("!c:x", None),
            ("!far:x", Some("!unseen:x")),
            ("!round:x", None),
            ("!into:x", None),
            ("!shut:x", None),
            ("!false:x", None),
            ("!itself:x", None),
            ("!unknown:x", None),
        ] {
            let found = replacement(&rooms, from.try_into().unwrap());
            assert_eq!(found.as_deref().map(RoomId::as_str), to, "{from}");
        }
    }
}
