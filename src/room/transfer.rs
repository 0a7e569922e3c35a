//! Which state comes along to the new room, event by event.
//!
//! Left out on purpose: events with a rule of their own (power levels, join rules, addresses,
//! members, pins, guest access), and whether the server accepts what is carried.
//!
//! Sources: Matrix specification, "Room upgrades" and the authorization rules; MSC4321 (policy
//! rooms).

use ruma::{RoomVersionId, UserId};
use serde_json::Value;

use super::finding::{LeftBehind, Unreadable};
use super::level::LEVEL_MAX;
use super::state::{Content, RoomState, StateEvent, is_encrypted};
use super::versions::{Feature, properties};

/// The largest content that is carried. An event may have 65,536 bytes with all that the server
/// adds. Source: Matrix specification, "Size limits".
pub(crate) const STATE_EVENT_BYTES_MAX: usize = 60_000;

/// Type of the guest access event.
pub(crate) const GUEST_ACCESS: &str = "m.room.guest_access";

/// Events with a rule of their own, in the slot that means something.
const OWN_RULE: [&str; 5] = [
    "m.room.power_levels",
    "m.room.join_rules",
    "m.room.canonical_alias",
    GUEST_ACCESS,
    "m.room.pinned_events",
];

/// Events that are about the old room itself. `m.room.aliases` has meant nothing since version 6
/// (MSC2432).
const OF_OLD_ROOM: [&str; 3] = ["m.room.create", "m.room.tombstone", "m.room.aliases"];

/// Records that bridges keep about themselves (MSC2346).
pub(crate) const BRIDGE_RECORDS: [&str; 2] = ["m.bridge", "uk.half-shot.bridge"];

const LOCATIONS: [&str; 2] = ["m.beacon_info", "org.matrix.msc3672.beacon_info"];

/// Where policy rules begin: as specified, before that, and Mjolnir's own.
const POLICY_RULES: [&str; 3] = ["m.policy.rule.", "m.room.rule.", "org.matrix.mjolnir.rule."];

/// Types of the event that names a policy server: as specified, and before that.
const POLICY_SERVERS: [&str; 2] = ["m.room.policy", "org.matrix.msc4284.policy"];

/// Who made a policy rule first (MSC4321).
const ORIGINAL_SENDER: &str = "org.matrix.msc4321.original_sender";
const ORIGINAL_TIMESTAMP: &str = "org.matrix.msc4321.original_timestamp";
/// By which event (MSC4321).
const ORIGINAL_EVENT_ID: &str = "org.matrix.msc4321.original_event_id";

/// What becomes of a state event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Fate {
    /// It is sent to the new room with this content.
    Carry(Content),
    OwnRule,
    /// It stays, and why; `None`: it belongs to the old room and is not worth a word.
    LeaveBehind(Option<LeftBehind>),
}

/// What becomes of a state event when `bot` upgrades its room to version `to`.
pub(crate) fn fate(event: &StateEvent, bot: &UserId, to: &RoomVersionId) -> Fate {
    let kind = event.kind.as_str();
    if kind == "m.room.member" || event.state_key.is_empty() && OWN_RULE.contains(&kind) {
        return Fate::OwnRule;
    }
    if OF_OLD_ROOM.contains(&kind) || event.content.is_empty() {
        return Fate::LeaveBehind(None);
    }
    if let Some(why) = reason_of_slot(event, bot) {
        return Fate::LeaveBehind(Some(why));
    }
    let content = if is_policy(kind) {
        moved_policy(event)
    } else {
        event.content.clone()
    };
    // A version this program does not know is taken for a recent one.
    let canonical = properties(to).is_none_or(|known| known.canonical_json == Feature::Present);
    if canonical && content.values().any(has_refused_number) {
        return Fate::LeaveBehind(Some(LeftBehind::Fraction));
    }
    match serde_json::to_vec(&content) {
        Ok(json) if json.len() > STATE_EVENT_BYTES_MAX => {
            Fate::LeaveBehind(Some(LeftBehind::TooLarge { bytes: json.len() }))
        }
        _ => Fate::Carry(content),
    }
}

/// Guest access of the new room. Where the old room says nothing, guests must stay out (the
/// specification's default); Synapse would let them in.
pub(crate) fn guest_access(old: &RoomState) -> Content {
    let mut content = old.content(GUEST_ACCESS, "").cloned().unwrap_or_default();
    if !content.get("guest_access").is_some_and(Value::is_string) {
        content.insert("guest_access".to_owned(), "forbidden".into());
    }
    content
}

/// Why nobody who joins the new room could read copies of pinned messages, which are posted before them; `None`
/// where everybody can.
/// Source: Matrix specification, "Room history visibility"; keys are sent to who is there then (Megolm).
pub(crate) fn unreadable_pins(old: &RoomState) -> Option<Unreadable> {
    let visibility = old.content("m.room.history_visibility", "");
    let visibility = visibility.and_then(|content| content.get("history_visibility")?.as_str());
    if is_encrypted(old) {
        Some(Unreadable::Encrypted)
    } else if matches!(visibility, Some("invited" | "joined")) {
        Some(Unreadable::History)
    } else {
        None
    }
}

/// The policy server that a room names, which checks what is sent there (MSC4284). It only does so in rooms
/// that it is in.
pub(crate) fn policy_server(room: &RoomState) -> Option<String> {
    let mut named = POLICY_SERVERS
        .iter()
        .filter_map(|kind| room.content(kind, "")?.get("via")?.as_str());
    named.next().map(ToOwned::to_owned)
}

/// Whether a type is one of a policy list's rules.
pub(crate) fn is_policy(kind: &str) -> bool {
    POLICY_RULES.iter().any(|start| kind.starts_with(start))
}

/// Why an event stays, going by its type and state key.
fn reason_of_slot(event: &StateEvent, bot: &UserId) -> Option<LeftBehind> {
    let kind = event.kind.as_str();
    let call = kind == "m.call"
        || ["m.call.", "org.matrix.msc3401."]
            .iter()
            .any(|start| kind.starts_with(start));
    if kind == "m.room.third_party_invite" {
        Some(LeftBehind::ThirdPartyInvite)
    } else if call || LOCATIONS.contains(&kind) {
        Some(LeftBehind::CallOrLocation)
    } else if BRIDGE_RECORDS.contains(&kind) {
        Some(LeftBehind::BridgeRecord)
    } else {
        let key = event.state_key.as_str();
        let is_dots = |part: &str| matches!(part, "." | "..");
        if key.starts_with('@') && key != bot.as_str() {
            Some(LeftBehind::PersonsOwn)
        } else {
            (is_dots(kind) || is_dots(key)).then_some(LeftBehind::NoPath)
        }
    }
}

/// A policy rule with the marks of where it comes from. One that was moved before keeps its marks.
fn moved_policy(event: &StateEvent) -> Content {
    let mut content = event.content.clone();
    let marks = [ORIGINAL_SENDER, ORIGINAL_TIMESTAMP, ORIGINAL_EVENT_ID];
    if marks.iter().any(|mark| content.contains_key(*mark)) {
        return content;
    }
    content.insert(ORIGINAL_SENDER.to_owned(), event.sender.as_str().into());
    // Zero stands for a time that was not read.
    if let Some(time) = i64::try_from(event.origin_server_ts)
        .ok()
        .filter(|time| (1..=LEVEL_MAX).contains(time))
    {
        content.insert(ORIGINAL_TIMESTAMP.to_owned(), time.into());
    }
    if let Some(id) = &event.event_id {
        content.insert(ORIGINAL_EVENT_ID.to_owned(), id.as_str().into());
    }
    content
}

/// Whether a value has a number that canonical JSON forbids.
/// Source: Matrix specification, appendices, "Canonical JSON".
fn has_refused_number(value: &Value) -> bool {
    match value {
        Value::Number(number) => number
            .as_i64()
            .is_none_or(|number| !(-LEVEL_MAX..=LEVEL_MAX).contains(&number)),
        Value::Array(items) => items.iter().any(has_refused_number),
        Value::Object(entries) => entries.values().any(has_refused_number),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::power::tests::any_content;
    use super::super::state::content;
    use super::super::state::tests::room;
    use super::*;

    fn event(kind: &str, key: &str, value: Value) -> StateEvent {
        StateEvent {
            kind: kind.to_owned(),
            state_key: key.to_owned(),
            sender: "@s:x".parse().unwrap(),
            content: content(value),
            event_id: Some("$e".parse().unwrap()),
            origin_server_ts: 17,
            replaces: None,
        }
    }

    fn fate_of(event: &StateEvent, to: &str) -> Fate {
        fate(
            event,
            <&UserId>::try_from("@bot:x").unwrap(),
            &to.try_into().unwrap(),
        )
    }

    #[test]
    fn fates() {
        use LeftBehind::{
            BridgeRecord, CallOrLocation, Fraction, NoPath, PersonsOwn, ThirdPartyInvite,
        };
        let some = || json!({"k": 1});
        let carry = || Fate::Carry(content(some()));
        let stay = |why| Fate::LeaveBehind(Some(why));
        let silent = || Fate::LeaveBehind(None);
        for (kind, key, value, expected) in [
            ("m.room.name", "", some(), carry()),
            ("m.room.encryption", "", some(), carry()),
            ("m.space.child", "!a:x", some(), carry()),
            ("m.room.power_levels", "", json!({}), Fate::OwnRule),
            ("m.room.join_rules", "", some(), Fate::OwnRule),
            ("m.room.join_rules", "other", some(), carry()),
            ("m.room.canonical_alias", "", some(), Fate::OwnRule),
            ("m.room.guest_access", "", some(), Fate::OwnRule),
            ("m.room.pinned_events", "", some(), Fate::OwnRule),
            ("m.room.member", "@a:x", some(), Fate::OwnRule),
            ("m.room.create", "", some(), silent()),
            ("m.room.tombstone", "", some(), silent()),
            ("m.room.aliases", "x", some(), silent()),
            ("org.example", "", json!({}), silent()),
            ("m.call.member", "@a:x", json!({}), silent()),
            (
                "m.room.third_party_invite",
                "t",
                some(),
                stay(ThirdPartyInvite),
            ),
            ("m.call", "c", some(), stay(CallOrLocation)),
            ("m.call.member", "_@a:x_D", some(), stay(CallOrLocation)),
            ("m.caller", "", some(), carry()),
            (
                "org.matrix.msc3401.call.member",
                "@a:x",
                some(),
                stay(CallOrLocation),
            ),
            ("m.beacon_info", "@a:x", some(), stay(CallOrLocation)),
            (
                "org.matrix.msc3672.beacon_info",
                "@bot:x",
                some(),
                stay(CallOrLocation),
            ),
            ("m.bridge", "b", some(), stay(BridgeRecord)),
            ("uk.half-shot.bridge", "b", some(), stay(BridgeRecord)),
            ("org.example", "@a:x", some(), stay(PersonsOwn)),
            ("org.example", "@", some(), stay(PersonsOwn)),
            ("org.example", "@bot:x_D", some(), stay(PersonsOwn)),
            ("org.example", "_@a:x_D", some(), carry()),
            ("m.room.bot.options", "_@bot:x", some(), carry()),
            ("im.vector.modular.widgets", "_@a:x_17", some(), carry()),
            ("org.example", "@bot:x", some(), carry()),
            ("org.example", "100%25 ä/", some(), carry()),
            ("org.example", "...", some(), carry()),
            ("org.example", "..", some(), stay(NoPath)),
            (".", "", some(), stay(NoPath)),
            ("m.policy.rule.user", "@a:x", some(), stay(PersonsOwn)),
            (
                "org.example",
                "",
                json!({"a": [{"b": 1.5}]}),
                stay(Fraction),
            ),
            ("org.example", "", json!({"a": u64::MAX}), stay(Fraction)),
        ] {
            assert_eq!(
                fate_of(&event(kind, key, value), "11"),
                expected,
                "{kind} {key:?}"
            );
        }
    }

    #[test]
    fn fractions_by_version() {
        let odd = event("org.example", "", json!({"a": 1.5}));
        for (to, carried) in [("5", true), ("6", false), ("12", false), ("unknown", false)] {
            assert_eq!(
                matches!(fate_of(&odd, to), Fate::Carry(_)),
                carried,
                "version {to}"
            );
        }
    }

    #[test]
    fn size_has_a_limit() {
        // Beside the text, `{"k":""}` is eight bytes.
        let sized = |bytes: usize| event("org.example", "", json!({"k": "x".repeat(bytes - 8)}));
        let limit = STATE_EVENT_BYTES_MAX;
        assert!(matches!(fate_of(&sized(limit), "12"), Fate::Carry(_)));
        assert_eq!(
            fate_of(&sized(limit + 1), "12"),
            Fate::LeaveBehind(Some(LeftBehind::TooLarge { bytes: limit + 1 }))
        );
    }

    #[test]
    fn policies_say_where_they_come_from() {
        for kind in [
            "m.policy.rule.user",
            "m.room.rule.server",
            "org.matrix.mjolnir.rule.room",
        ] {
            assert_eq!(
                fate_of(&event(kind, "rule:@a:x", json!({"entity": "@a:x"})), "12"),
                Fate::Carry(content(json!({
                    "entity": "@a:x",
                    ORIGINAL_SENDER: "@s:x",
                    ORIGINAL_TIMESTAMP: 17,
                    ORIGINAL_EVENT_ID: "$e",
                }))),
                "{kind}"
            );
        }
        let moved = json!({"entity": "@a:x", ORIGINAL_SENDER: "@first:x"});
        assert_eq!(
            fate_of(&event("m.policy.rule.user", "k", moved.clone()), "12"),
            Fate::Carry(content(moved))
        );
        let mut unread = event("m.policy.rule.user", "k", json!({"entity": "@a:x"}));
        unread.event_id = None;
        unread.origin_server_ts = 0;
        assert_eq!(
            fate_of(&unread, "12"),
            Fate::Carry(content(json!({"entity": "@a:x", ORIGINAL_SENDER: "@s:x"})))
        );
    }

    #[test]
    fn guests_stay_out_unless_the_room_says_otherwise() {
        let forbidden = json!({"guest_access": "forbidden"});
        let open = json!({"guest_access": "can_join", "k": 1});
        for (old, expected) in [
            (None, forbidden.clone()),
            (Some(json!({})), forbidden.clone()),
            (Some(json!({"guest_access": true})), forbidden),
            (Some(open.clone()), open),
        ] {
            let events: Vec<_> = old
                .into_iter()
                .map(|value| (GUEST_ACCESS, "", "@a:x", value))
                .collect();
            assert_eq!(
                Value::from(guest_access(&room("!old:x", &events))),
                expected
            );
        }
    }

    proptest! {
        #[test]
        fn any_event_has_a_fate(value in any_content(), kind in ".{0,8}", key in ".{0,4}", to in 1u8..13) {
            let fate = fate_of(&event(&kind, &key, value.clone().into()), &to.to_string());
            if let Fate::Carry(carried) = fate {
                prop_assert!(to < 6 || !carried.values().any(has_refused_number));
            }
            let old = room("!old:x", &[(GUEST_ACCESS, "", "@a:x", value.into())]);
            prop_assert!(guest_access(&old)["guest_access"].is_string());
        }
    }
}
