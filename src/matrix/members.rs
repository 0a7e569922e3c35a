//! Member events: read from JSON that may be anything, and picked out of what sync tells.
//!
//! Sync is asked to leave out members that clients need not know (`lazy_load_members`): it tells every
//! change that is in a timeline, and none of a gap. Left out: what they mean (`room::moves`).

use std::collections::BTreeSet;

use jiff::Timestamp;
use ruma::OwnedRoomId;
use ruma::events::room::member::MembershipState;
use serde_json::Value;

use super::source::{Gap, SyncAnswer};
use crate::room::moves::MemberEvent;

/// The member that an event is about; `None` for any other event.
pub(super) fn member(event: &Value) -> Option<MemberEvent> {
    let text = |key: &str| event.get(key).and_then(Value::as_str);
    if text("type") != Some("m.room.member") {
        return None;
    }
    let membership = |at: &str| -> Option<MembershipState> {
        event.pointer(at).and_then(Value::as_str).map(Into::into)
    };
    let sent_at = event.get("origin_server_ts").and_then(Value::as_i64);
    Some(MemberEvent {
        user: text("state_key")?.parse().ok()?,
        sender: text("sender")?.parse().ok()?,
        membership: membership("/content/membership")?,
        before: membership("/unsigned/prev_content/membership"),
        at: sent_at
            .and_then(|millis| Timestamp::from_millisecond(millis).ok())
            .unwrap_or(Timestamp::MIN),
    })
}

/// What a sync answer tells of the members of some rooms, and where it leaves something out.
pub(super) fn told(
    answer: &SyncAnswer,
    rooms: &BTreeSet<OwnedRoomId>,
) -> (Vec<(OwnedRoomId, MemberEvent)>, BTreeSet<OwnedRoomId>) {
    let (mut events, mut gaps) = (Vec::new(), BTreeSet::new());
    for (room, update) in answer
        .joined
        .iter()
        .filter(|(room, _)| rooms.contains(*room))
    {
        if update.gap == Gap::Before {
            gaps.insert(room.clone());
        }
        let timeline = update.timeline.iter().map(|event| &event.json);
        let all = update.state.iter().chain(timeline);
        let members = all
            .filter_map(|json| serde_json::from_str(json.get()).ok())
            .filter_map(|event: Value| member(&event));
        events.extend(members.map(|event| (room.clone(), event)));
    }
    (events, gaps)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn members_are_read_and_junk_is_none() {
        let sound = json!({
            "type": "m.room.member", "state_key": "@a:x", "sender": "@mod:x",
            "content": {"membership": "leave", "reason": 7},
            "unsigned": {"prev_content": {"membership": "invite"}},
            "origin_server_ts": 1_000,
        });
        let read = member(&sound).unwrap();
        assert_eq!(read.user, "@a:x");
        assert_eq!(read.membership, MembershipState::Leave);
        assert_eq!(read.before, Some(MembershipState::Invite));
        assert_eq!(read.at, Timestamp::from_second(1).unwrap());
        for (at, junk) in [
            ("/type", json!("m.room.message")),
            ("/state_key", json!("nobody")),
            ("/state_key", json!(null)),
            ("/sender", json!({})),
            ("/content", json!([])),
            ("/content/membership", json!(1)),
        ] {
            let mut event = sound.clone();
            *event.pointer_mut(at).unwrap() = junk;
            assert_eq!(member(&event), None, "{event}");
        }
        let mut odd = sound;
        odd["origin_server_ts"] = json!("yesterday");
        assert_eq!(member(&odd).unwrap().at, Timestamp::MIN);
    }
}
