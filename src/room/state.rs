//! A room's state as it was read, and the questions the rest asks of it.
//!
//! State is kept as plain JSON: rooms carry events no type knows, and they must arrive unchanged.
//! Lenient on purpose: content of a wrong shape reads as absent, and becomes a finding elsewhere.

use std::collections::{BTreeMap, BTreeSet};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ruma::{
    OwnedEventId, OwnedRoomAliasId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomId,
    RoomVersionId, ServerName, UserId,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Content of an event.
pub type Content = Map<String, Value>;

/// Type and state key: what makes a state event unique in a room.
pub type Slot = (String, String);

/// How many servers a link names at most; the specification recommends three.
/// Source: Matrix specification, appendices, "Routing".
pub const VIA_SERVERS_MAX: usize = 3;

/// What is encoded in a part of a URL: all that means something there to anyone, but for what ids are
/// made of.
const ENCODED_IN_URL: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'@')
    .remove(b':')
    .remove(b'=');

/// How long closing a room may take: the server copies the whole room in between. Synapse takes
/// 27 s for 1,000 bans (measured). What somebody changes later is another matter.
const CLOSING_MAX_MILLIS: u64 = 60_000;

/// One state event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StateEvent {
    /// Event type.
    #[serde(rename = "type")]
    pub kind: String,
    /// State key.
    pub state_key: String,
    /// Who sent it.
    pub sender: OwnedUserId,
    /// Its content.
    pub content: Content,
    /// Its id; absent where the event was not read from a server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<OwnedEventId>,
    /// Milliseconds since the epoch, by the sender's server.
    #[serde(default)]
    pub origin_server_ts: u64,
    /// The event that stood in its slot before it, where the server tells. Not stored.
    #[serde(skip)]
    pub replaces: Option<OwnedEventId>,
}

/// One event of a room's timeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoomEvent {
    /// Who sent it; plain text, as it may be no user id.
    pub sender: String,
    /// Event type; `m.room.encrypted` where the event could not be decrypted.
    #[serde(rename = "type")]
    pub kind: String,
    /// Milliseconds since the epoch, by the sender's server.
    pub origin_server_ts: u64,
    /// Its content; empty where it was redacted.
    pub content: Content,
    /// For state: the event that stood in its slot before it, where the server tells.
    #[serde(skip)]
    pub replaces: Option<OwnedEventId>,
}

/// The current state of one room.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "StoredState", into = "StoredState")]
pub struct RoomState {
    /// The room.
    pub room_id: OwnedRoomId,
    /// Every state event by type and state key.
    pub events: BTreeMap<Slot, StateEvent>,
}

/// JSON has no maps with pairs as keys: stored as a list.
#[derive(Serialize, Deserialize)]
struct StoredState {
    room_id: OwnedRoomId,
    events: Vec<StateEvent>,
}

impl From<StoredState> for RoomState {
    fn from(stored: StoredState) -> Self {
        Self::new(stored.room_id, stored.events)
    }
}

impl From<RoomState> for StoredState {
    fn from(state: RoomState) -> Self {
        Self {
            room_id: state.room_id,
            events: state.events.into_values().collect(),
        }
    }
}

/// What the create event says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Create {
    /// Room version; "1" where the event names none.
    pub version: RoomVersionId,
    /// Room type, such as `m.space`.
    pub room_type: Option<String>,
    /// Who created the room, and from version 12 on the additional creators as well.
    pub creators: BTreeSet<OwnedUserId>,
    /// The room this one replaces.
    pub predecessor: Option<OwnedRoomId>,
}

/// What the tombstone says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// The room to go to; absent where the tombstone names none, or no valid id.
    pub replacement: Option<OwnedRoomId>,
    /// Who sent it.
    pub sender: OwnedUserId,
}

/// A member's relation to the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    /// Is in the room.
    Join,
    /// Was invited and has not answered.
    Invite,
    /// Asked to be let in, and has no answer.
    Knock,
    /// Must not enter.
    Ban,
}

impl Membership {
    fn as_str(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Invite => "invite",
            Self::Knock => "knock",
            Self::Ban => "ban",
        }
    }
}

impl RoomState {
    /// State of `room_id` from a list of events; a later one replaces an earlier one in its slot.
    #[must_use]
    pub fn new(room_id: OwnedRoomId, events: impl IntoIterator<Item = StateEvent>) -> Self {
        let events = events
            .into_iter()
            .map(|event| ((event.kind.clone(), event.state_key.clone()), event))
            .collect();
        Self { room_id, events }
    }

    /// The event in a slot.
    #[must_use]
    pub fn event(&self, kind: &str, state_key: &str) -> Option<&StateEvent> {
        self.events.get(&(kind.to_owned(), state_key.to_owned()))
    }

    /// Content of the event in a slot.
    #[must_use]
    pub fn content(&self, kind: &str, state_key: &str) -> Option<&Content> {
        self.event(kind, state_key).map(|event| &event.content)
    }

    /// All events of a type.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a StateEvent> {
        self.events
            .range((kind.to_owned(), String::new())..)
            .take_while(move |((of, _), _)| of == kind)
            .map(|(_, event)| event)
    }

    /// Puts content into a slot, as a server does after accepting an event by `sender`.
    pub fn put(&mut self, slot: Slot, sender: &UserId, content: Content) {
        let event = StateEvent {
            kind: slot.0.clone(),
            state_key: slot.1.clone(),
            sender: sender.to_owned(),
            content,
            event_id: None,
            origin_server_ts: 0,
            replaces: None,
        };
        self.events.insert(slot, event);
    }

    fn text(&self, kind: &str, key: &str) -> Option<String> {
        let text = self.content(kind, "")?.get(key)?.as_str()?;
        (!text.trim().is_empty()).then(|| text.to_owned())
    }

    /// The room's name, if it has one.
    #[must_use]
    pub fn name(&self) -> Option<String> {
        self.text("m.room.name", "name")
    }

    /// The main address, if it has a valid one.
    #[must_use]
    pub fn canonical_alias(&self) -> Option<OwnedRoomAliasId> {
        self.text("m.room.canonical_alias", "alias")?.parse().ok()
    }

    /// Main and alternative addresses; invalid ones are skipped.
    #[must_use]
    pub fn published_aliases(&self) -> Vec<OwnedRoomAliasId> {
        let alternatives = self
            .content("m.room.canonical_alias", "")
            .and_then(|content| content.get("alt_aliases"))
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|alias| alias.as_str()?.parse().ok());
        let mut aliases: Vec<_> = self
            .canonical_alias()
            .into_iter()
            .chain(alternatives)
            .collect();
        let mut seen = BTreeSet::new();
        aliases.retain(|alias| seen.insert(alias.clone()));
        aliases
    }

    /// What people call the room: its name, else its address, else its id.
    #[must_use]
    pub fn label(&self) -> String {
        self.name()
            .or_else(|| self.canonical_alias().map(|alias| alias.to_string()))
            .unwrap_or_else(|| self.room_id.to_string())
    }

    /// The create event. A room without one (a partial read) reads as version 1 by nobody.
    #[must_use]
    pub fn create(&self) -> Create {
        let event = self.event("m.room.create", "");
        let content = event.map(|event| &event.content);
        let text = |key: &str| {
            content
                .and_then(|content| content.get(key))
                .and_then(Value::as_str)
        };
        let version = text("room_version")
            .and_then(|version| RoomVersionId::try_from(version).ok())
            .unwrap_or(RoomVersionId::V1);
        let additional = content
            .and_then(|content| content.get("additional_creators"))
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|user| user.as_str()?.parse().ok());
        // Additional creators mean something only where creators do (version 12, MSC4289).
        let creators = super::versions::properties(&version)
            .is_some_and(|known| known.creators == super::versions::Feature::Present);
        Create {
            room_type: text("type").map(ToOwned::to_owned),
            creators: event
                .map(|event| event.sender.clone())
                .into_iter()
                .chain(additional.filter(|_| creators))
                .collect(),
            predecessor: content
                .and_then(|content| content.get("predecessor"))
                .and_then(|predecessor| predecessor.get("room_id"))
                .and_then(Value::as_str)
                .and_then(|room| room.parse().ok()),
            version,
        }
    }

    /// Whether the room is a space.
    #[must_use]
    pub fn is_space(&self) -> bool {
        self.create().room_type.as_deref() == Some("m.space")
    }

    /// The tombstone. One with empty content was taken back and counts as none.
    #[must_use]
    pub fn tombstone(&self) -> Option<Tombstone> {
        let event = self.event("m.room.tombstone", "")?;
        if event.content.is_empty() {
            return None;
        }
        Some(Tombstone {
            replacement: event
                .content
                .get("replacement_room")
                .and_then(Value::as_str)
                .and_then(|room| room.parse().ok()),
            sender: event.sender.clone(),
        })
    }

    /// The tombstone, if it leads to another room. One that names none or the room itself leads nowhere, and
    /// closed nothing.
    #[must_use]
    pub fn replaced(&self) -> Option<Tombstone> {
        let leads_away = |room: &OwnedRoomId| *room != self.room_id;
        self.tombstone()
            .filter(|tombstone| tombstone.replacement.as_ref().is_some_and(leads_away))
    }

    /// When whoever closed the room was done with it; milliseconds since the epoch, 0 where it is
    /// open. A server's own upgrade writes the tombstone first and raises the power levels last.
    #[must_use]
    pub fn closed_at(&self) -> u64 {
        let Some(tombstone) = self.event("m.room.tombstone", "") else {
            return 0;
        };
        let begun = tombstone.origin_server_ts;
        self.event("m.room.power_levels", "")
            .filter(|levels| levels.sender == tombstone.sender)
            .map(|levels| levels.origin_server_ts)
            .filter(|ended| ended.saturating_sub(begun) <= CLOSING_MAX_MILLIS)
            .map_or(begun, |ended| ended.max(begun))
    }

    /// Pinned messages, in their order.
    #[must_use]
    pub fn pins(&self) -> Vec<OwnedEventId> {
        self.content("m.room.pinned_events", "")
            .and_then(|content| content.get("pinned"))
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|event| event.as_str()?.parse().ok())
            .collect()
    }

    /// Members with a membership.
    pub fn members(&self, membership: Membership) -> impl Iterator<Item = OwnedUserId> {
        self.memberships(membership)
            .filter_map(|event| event.state_key.parse().ok())
    }

    /// Whether somebody is in the room.
    #[must_use]
    pub fn has_joined(&self, user: &UserId) -> bool {
        let member = self.content("m.room.member", user.as_str());
        let membership = member.and_then(|member| member.get("membership")?.as_str());
        membership == Some(Membership::Join.as_str())
    }

    fn memberships(&self, membership: Membership) -> impl Iterator<Item = &StateEvent> {
        self.of_kind("m.room.member").filter(move |event| {
            event.content.get("membership").and_then(Value::as_str) == Some(membership.as_str())
        })
    }

    /// Who is banned and the reason that was given. Plain text: servers let people ban what is no
    /// user id.
    #[must_use]
    pub fn bans(&self) -> BTreeMap<String, Option<String>> {
        self.memberships(Membership::Ban)
            .map(|event| {
                let reason = event.content.get("reason").and_then(Value::as_str);
                (event.state_key.clone(), reason.map(ToOwned::to_owned))
            })
            .collect()
    }

    /// Servers to reach the room by: `own` first, then those with most members.
    #[must_use]
    pub fn via(&self, own: &ServerName) -> Vec<OwnedServerName> {
        let mut members: BTreeMap<OwnedServerName, usize> = BTreeMap::new();
        for user in self.members(Membership::Join) {
            *members.entry(user.server_name().to_owned()).or_default() += 1;
        }
        members.remove(own);
        let mut others: Vec<_> = members.into_iter().collect();
        others.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        std::iter::once(own.to_owned())
            .chain(others.into_iter().map(|(server, _)| server))
            .take(VIA_SERVERS_MAX)
            .collect()
    }
}

/// Whether the directory of the homeserver lists a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Listing {
    /// Anybody finds it in the directory.
    Public,
    /// It is not in the directory.
    Private,
}

/// The old room and all that refers to it, read at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The old room, whole.
    pub room: RoomState,
    /// Addresses on the bot's own server that lead to the room, listed in the room or not.
    pub aliases: BTreeSet<OwnedRoomAliasId>,
    /// Whether the bot's server lists it.
    pub listing: Listing,
    /// Rooms the bot is in that name this one: spaces with it as a child, rooms that let its
    /// members in; and spaces that this one names. Only the state that matters is in them: create,
    /// name, power, the reference.
    pub referrers: Vec<RoomState>,
    /// Rooms named in the join rules, and spaces that the room says it is in, that were upgraded before,
    /// and what replaced them in the end.
    #[serde(default)]
    pub replaced: BTreeMap<OwnedRoomId, OwnedRoomId>,
    /// Rooms that the account was in and that say they replace this one; a room created later is not
    /// among them. Older rows have every room that the account was in.
    #[serde(alias = "joined_rooms")]
    pub known_successors: BTreeSet<OwnedRoomId>,
}

/// Makes JSON content from literal JSON; content that is no object is empty.
#[must_use]
pub fn content(value: Value) -> Content {
    match value {
        Value::Object(map) => map,
        _ => Content::new(),
    }
}

/// A part of a URL: whatever could mean something else there is encoded. ruma leaves `%` and `\` as they are.
#[must_use]
pub fn in_url(part: &str) -> String {
    utf8_percent_encode(part, ENCODED_IN_URL).to_string()
}

/// The link to a room that works in every client.
#[must_use]
pub fn matrix_to(room: &RoomId, via: &[OwnedServerName]) -> String {
    link_to(&[room.as_str()], via)
}

/// The same to a room, a user, or an event after its room.
/// Source: Matrix specification, appendices, "matrix.to navigation".
#[must_use]
pub fn link_to(ids: &[&str], via: &[OwnedServerName]) -> String {
    let ids: Vec<String> = ids.iter().map(|id| in_url(id)).collect();
    let via: Vec<String> = via.iter().map(|server| format!("via={server}")).collect();
    let query = if via.is_empty() { "" } else { "?" };
    format!(
        "https://matrix.to/#/{}{query}{}",
        ids.join("/"),
        via.join("&")
    )
}

/// A slot from literals.
#[must_use]
pub fn slot(kind: &str, key: &str) -> Slot {
    (kind.to_owned(), key.to_owned())
}

/// Whether messages in a room are encrypted.
#[must_use]
pub fn is_encrypted(room: &RoomState) -> bool {
    room.content("m.room.encryption", "")
        .is_some_and(|content| !content.is_empty())
}

#[cfg(test)]
pub(crate) mod tests;
