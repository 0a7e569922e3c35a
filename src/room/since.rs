//! The old room of an upgrade, brought up to date: what people changed there since it was stored. Pure.
//!
//! Up to the tombstone, all of it counts. After that the old room is what people leave behind: they may
//! rename it or take things out of it, which is no wish for the new one. Only what takes something away from
//! somebody still counts: lower levels and bans (P12).

use super::power::{POWER_LEVELS, reopened};
use super::state::{RoomState, Snapshot, StateEvent};

/// What the upgrade itself changes in the old room.
const CHANGED_BY_UPGRADE: [&str; 4] = [
    "m.room.tombstone",
    "m.room.canonical_alias",
    "m.room.pinned_events",
    "m.room.create",
];

impl Snapshot {
    /// The same with what others changed in the room since.
    #[must_use]
    pub fn brought_up_to(&self, now: &RoomState) -> Self {
        let closed = now
            .event("m.room.tombstone", "")
            .filter(|_| now.replaced().is_some())
            .map(|tombstone| tombstone.origin_server_ts);
        // A server's own upgrade may raise the levels within the millisecond of its tombstone.
        let is_earlier = |event: &StateEvent| {
            closed.is_none_or(|closed| match event.kind.as_str() {
                POWER_LEVELS => event.origin_server_ts < closed,
                _ => event.origin_server_ts <= closed,
            })
        };
        let mut room = self.room.clone();
        for (slot, event) in &now.events {
            let known = room.events.get(slot);
            if known.is_some_and(|known| known.content == event.content) {
                continue;
            }
            let kind = event.kind.as_str();
            if is_earlier(event) && (closed.is_none() || !CHANGED_BY_UPGRADE.contains(&kind)) {
                room.events.insert(slot.clone(), event.clone());
            } else if kind == POWER_LEVELS && slot.1.is_empty() {
                let open = known.map(|known| known.content.clone()).unwrap_or_default();
                let content = reopened(&event.content, &open);
                room.events.insert(
                    slot.clone(),
                    StateEvent {
                        content,
                        ..event.clone()
                    },
                );
            } else if kind == "m.room.member" && is_ban(event) {
                room.events.insert(slot.clone(), event.clone());
            }
        }
        Self {
            room,
            ..self.clone()
        }
    }
}

fn is_ban(event: &StateEvent) -> bool {
    event
        .content
        .get("membership")
        .and_then(serde_json::Value::as_str)
        == Some("ban")
}

#[cfg(test)]
mod tests {
    use ruma::UserId;
    use serde_json::json;

    use super::*;
    use crate::room::state::{Listing, content, slot};

    fn put(room: &mut RoomState, at: u64, kind: &str, key: &str, value: serde_json::Value) {
        let by = <&UserId>::try_from("@mod:x").unwrap();
        room.put(slot(kind, key), by, content(value));
        let event = room.events.get_mut(&slot(kind, key)).unwrap();
        event.origin_server_ts = at;
    }

    fn levels(deputy: i64, events_default: i64, ban: i64) -> serde_json::Value {
        json!({ "users": { "@deputy:x": deputy }, "events_default": events_default, "ban": ban })
    }

    #[test]
    fn what_was_changed_before_the_tombstone_counts_and_later_only_what_takes_away() {
        let mut before = RoomState::new("!old:x".try_into().unwrap(), []);
        put(
            &mut before,
            1,
            "m.room.name",
            "",
            json!({ "name": "Garden" }),
        );
        put(
            &mut before,
            1,
            "m.room.topic",
            "",
            json!({ "topic": "plants" }),
        );
        put(&mut before, 1, POWER_LEVELS, "", levels(50, 0, 50));
        let stored = Snapshot {
            room: before.clone(),
            replaced: [].into(),
            aliases: [].into(),
            listing: Listing::Private,
            referrers: Vec::new(),
            known_successors: [].into(),
        };
        let mut now = before;
        put(&mut now, 5, "m.room.name", "", json!({ "name": "Gardens" }));
        put(
            &mut now,
            10,
            "m.room.tombstone",
            "",
            json!({ "replacement_room": "!new:x" }),
        );
        put(
            &mut now,
            11,
            "m.room.topic",
            "",
            json!({ "topic": "moved" }),
        );
        put(&mut now, 10, POWER_LEVELS, "", levels(0, 50, 70));
        put(
            &mut now,
            13,
            "m.room.member",
            "@spam:x",
            json!({ "membership": "ban" }),
        );
        put(
            &mut now,
            13,
            "m.room.member",
            "@gone:x",
            json!({ "membership": "leave" }),
        );

        let found = stored.brought_up_to(&now).room;
        let content_of = |kind: &str| found.content(kind, "").cloned();
        assert_eq!(
            content_of("m.room.name"),
            Some(content(json!({ "name": "Gardens" })))
        );
        assert_eq!(
            content_of("m.room.topic"),
            Some(content(json!({ "topic": "plants" })))
        );
        assert_eq!(content_of("m.room.tombstone"), None);
        assert_eq!(content_of(POWER_LEVELS), Some(content(levels(0, 0, 70))));
        assert!(found.event("m.room.member", "@spam:x").is_some());
        assert!(found.event("m.room.member", "@gone:x").is_none());
    }
}
