//! What a server takes from clients at all, whoever sends it.
//!
//! Source: Synapse 1.163.2, `EventValidator`. Left out: retention, mentions, and lists of servers that
//! deny the server itself.

use roomlift::room::state::Content;
use serde_json::Value;

use super::{Answer, Room, refuse};

/// The largest event, and what an event has beside its content.
/// Source: Matrix specification, "Size limits".
const SIZE_MAX: usize = 65_536;
const ENVELOPE: usize = 1_000;

/// The largest integer in canonical JSON.
const INTEGER_MAX: i64 = (1 << 53) - 1;

const MEMBERSHIPS: [&str; 5] = ["invite", "join", "knock", "leave", "ban"];

/// Keys of power levels that are levels, and that are maps of levels.
const LEVELS: [&str; 7] = [
    "ban",
    "events_default",
    "invite",
    "kick",
    "redact",
    "state_default",
    "users_default",
];
const MAPS: [&str; 3] = ["events", "notifications", "users"];

/// Whether an event may be sent to a room, as far as it itself goes.
pub(super) fn validate(
    room: &Room,
    kind: &str,
    key: Option<&str>,
    content: &Content,
) -> Answer<()> {
    let text = |key: &str| content.get(key).is_some_and(Value::is_string);
    let is_valid = match kind {
        "m.room.message" => text("body") && text("msgtype"),
        "m.room.topic" => text("topic") && key.is_some(),
        "m.room.name" => text("name") && key.is_some(),
        "m.room.member" => {
            let membership = content.get("membership").and_then(Value::as_str);
            membership.is_some_and(|known| MEMBERSHIPS.contains(&known))
        }
        "m.room.tombstone" => content
            .get("replacement_room")
            .is_some_and(|to| to.as_str() != Some(room.id.as_str())),
        _ => true,
    };
    if !is_valid {
        return refuse(400, "M_UNKNOWN", format!("{kind} is not as it must be"));
    }
    if kind == "m.room.create" {
        return if key == Some("") {
            refuse(500, "M_UNKNOWN", "Internal server error")
        } else {
            refuse(400, "M_INVALID_PARAM", "Cannot send m.room.create")
        };
    }
    if !content.values().all(is_canonical) {
        return refuse(400, "M_BAD_JSON", "Bad JSON value: float");
    }
    if kind == "m.room.power_levels" && !are_levels(content) {
        return refuse(400, "M_BAD_JSON", "power levels must be integers");
    }
    let size = serde_json::to_string(content).map_or(0, |json| json.len());
    if size + ENVELOPE > SIZE_MAX {
        return refuse(413, "M_TOO_LARGE", "event too large");
    }
    Ok(())
}

fn is_canonical(value: &Value) -> bool {
    match value {
        Value::Number(number) => number
            .as_i64()
            .is_some_and(|number| (-INTEGER_MAX..=INTEGER_MAX).contains(&number)),
        Value::Array(values) => values.iter().all(is_canonical),
        Value::Object(values) => values.values().all(is_canonical),
        _ => true,
    }
}

fn are_levels(content: &Content) -> bool {
    let is_level = |key: &&str| content.get(*key).is_none_or(Value::is_i64);
    let is_map = |key: &&str| match content.get(*key) {
        None => true,
        Some(Value::Object(map)) => map.values().all(Value::is_i64),
        Some(_) => false,
    };
    LEVELS.iter().all(is_level) && MAPS.iter().all(is_map)
}
