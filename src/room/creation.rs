//! The request that makes the new room when the bot does it itself, and what that room should be
//! until the old one points to it. Pure.
//!
//! Nobody can enter before the switch: the room is by invitation until then. Left out: sending it,
//! and what did not fit (`diff` finds that).
//!
//! Sources: Matrix specification, `POST /createRoom`; Synapse 1.163.2, measured: the time grows
//! with the square of the number of events; `power_level_content_override` replaces whole keys.

use ruma::OwnedRoomId;
use serde_json::{Value, json};

use super::join_rules::JOIN_RULES;
use super::power::{self, POWER_LEVELS};
use super::state::{Content, RoomState, Slot, Snapshot, content};
use super::target::{Intent, Target, slot};
use super::versions::has_creators;

/// Key of the create event that names the command a room was made for: a room whose making was
/// not answered is found again by it.
pub const MARK: &str = "io.roomlift.command";

/// Events that are sent along; Synapse takes 4 s for so many and over 90 s for 2,000.
pub const INITIAL_STATE_MAX: usize = 300;

/// Their size together. Reverse proxies commonly refuse requests above 1 MB.
pub const INITIAL_STATE_BYTES_MAX: usize = 500_000;

/// What the create event of the old room says about that room alone.
const OF_OLD_ROOM: [&str; 5] = [
    "creator",
    "room_version",
    "predecessor",
    "additional_creators",
    MARK,
];

/// What the server's own upgrade keeps of the old room's create event.
/// Source: Synapse 1.163.2, `_calculate_upgraded_room_creation_content`.
const KEPT_BY_SERVER: [&str; 2] = ["type", "m.federate"];

/// Keys of the create event that the server's own upgrade forgets. Nothing can add them later.
#[must_use]
pub fn forgotten_by_server(old: &RoomState) -> Vec<String> {
    let create = old.content("m.room.create", "");
    let keys = create.into_iter().flat_map(Content::keys);
    keys.filter(|key| {
        !OF_OLD_ROOM.contains(&key.as_str()) && !KEPT_BY_SERVER.contains(&key.as_str())
    })
    .cloned()
    .collect()
}

/// What the new room should be until the old one points to it: as it will be, but closed, and with
/// enough power for the bot to complete it.
#[must_use]
pub fn staged(target: &Target, intent: &Intent) -> Target {
    let mut staged = target.clone();
    let closed = content(json!({"join_rule": "invite"}));
    staged.new_state.insert(slot(JOIN_RULES, ""), closed);
    if !has_creators(&intent.version)
        && let Some(levels) = staged.new_state.get_mut(&slot(POWER_LEVELS, ""))
    {
        power::empower(levels, &intent.bot);
    }
    staged
}

/// The body of the request. `mark` is the command's event id.
#[must_use]
pub fn request(before: &Snapshot, staged: &Target, intent: &Intent, mark: &str) -> Content {
    let old = &before.room;
    let mut create: Content = old
        .content("m.room.create", "")
        .cloned()
        .unwrap_or_default()
        .into_iter()
        .filter(|(key, _)| !OF_OLD_ROOM.contains(&key.as_str()))
        .collect();
    create.insert("predecessor".to_owned(), predecessor(old, intent));
    create.insert(MARK.to_owned(), json!(mark));
    if has_creators(&intent.version) && !intent.creators.is_empty() {
        create.insert("additional_creators".to_owned(), json!(intent.creators));
    }
    let levels = staged.new_state.get(&slot(POWER_LEVELS, ""));
    content(json!({
        "room_version": intent.version,
        "preset": "private_chat",
        "visibility": "private",
        "creation_content": create,
        "power_level_content_override": levels,
        "initial_state": initial_state(staged),
    }))
}

/// The room a create event stands for, if it carries this mark and was made by the bot.
#[must_use]
pub fn is_marked(room: &RoomState, intent: &Intent, mark: &str) -> bool {
    room.event("m.room.create", "").is_some_and(|event| {
        event.sender == intent.bot && event.content.get(MARK).and_then(Value::as_str) == Some(mark)
    })
}

/// The last known event is named only where versions want one.
/// Source: Matrix specification, room version 12: `event_id` is deprecated.
fn predecessor(old: &RoomState, intent: &Intent) -> Value {
    let room_id: &OwnedRoomId = &old.room_id;
    let last = old
        .events
        .values()
        .filter(|event| event.event_id.is_some())
        .max_by_key(|event| event.origin_server_ts)
        .and_then(|event| event.event_id.as_ref());
    match last {
        Some(event_id) if !has_creators(&intent.version) => {
            json!({"room_id": room_id, "event_id": event_id})
        }
        _ => json!({"room_id": room_id}),
    }
}

/// What is sent along: the specification's own types first, then the rest, then bans.
fn initial_state(staged: &Target) -> Vec<Value> {
    let mut slots: Vec<(&Slot, &Content)> = staged
        .new_state
        .iter()
        .filter(|(slot, _)| slot.0 != POWER_LEVELS)
        .collect();
    slots.sort_by_key(|(slot, _)| !slot.0.starts_with("m.room."));
    let state = slots
        .into_iter()
        .map(|(slot, content)| json!({"type": slot.0, "state_key": slot.1, "content": content}));
    let bans = staged.bans.iter().map(|(user, reason)| {
        let mut ban = content(json!({"membership": "ban"}));
        if let Some(reason) = reason {
            ban.insert("reason".to_owned(), json!(reason));
        }
        json!({"type": "m.room.member", "state_key": user, "content": ban})
    });
    let mut bytes = 0;
    state
        .chain(bans)
        .take(INITIAL_STATE_MAX)
        .take_while(|event| {
            bytes += event.to_string().len();
            bytes <= INITIAL_STATE_BYTES_MAX
        })
        .collect()
}
