//! Who may enter the new room, and how other rooms' rules follow a room that moved.
//!
//! Left out on purpose: whether the server accepts the rule.
//!
//! Sources: Matrix specification, `m.room.join_rules`; MSC2403 (`knock`), MSC3083 (`restricted`),
//! MSC3787 (`knock_restricted`); MSC3325 (members of an upgraded room enter the new one by
//! themselves).

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedRoomId, RoomId, RoomVersionId};
use serde_json::{Value, json};

use super::finding::Finding;
use super::state::{Content, Membership, RoomState};
use super::versions::{Feature, properties};
use crate::model::JoinRulePolicy;

/// Type of the join rules event.
pub(crate) const JOIN_RULES: &str = "m.room.join_rules";

/// Type of an `allow` entry that names a room.
const MEMBERSHIP: &str = "m.room_membership";

/// Join rules content of the new room, and what is to be said about it.
///
/// `replaced` has the rooms that were upgraded before, by old id: `allow` names the new ones. A
/// version that lacks a rule gets the next one that lets nobody else in: `knock_restricted`,
/// `restricted`, then `knock`, then `invite`. A missing or unreadable rule is `invite`, as in the
/// specification.
pub(crate) fn carried(
    old: &RoomState,
    to: &RoomVersionId,
    setting: JoinRulePolicy,
    replaced: &BTreeMap<OwnedRoomId, OwnedRoomId>,
) -> (Content, Vec<Finding>) {
    let mut content = old.content(JOIN_RULES, "").cloned().unwrap_or_default();
    let rule = content
        .get("join_rule")
        .and_then(Value::as_str)
        .unwrap_or("invite")
        .to_owned();
    let wanted = match (setting, rule.as_str()) {
        (JoinRulePolicy::Restricted, "invite" | "private") => "restricted",
        (JoinRulePolicy::Restricted, "knock") => "knock_restricted",
        (_, rule) => rule,
    };
    let knows = Known::of(to);
    let new = match wanted {
        "restricted" => first(&[(knows.restricted, "restricted")]),
        // The people who could only knock could not enter by `restricted`: no detour for them.
        "knock_restricted" if rule == "knock" => first(&[
            (knows.knock_restricted, "knock_restricted"),
            (knows.knock, "knock"),
        ]),
        "knock_restricted" => first(&[
            (knows.knock_restricted, "knock_restricted"),
            (knows.restricted, "restricted"),
            (knows.knock, "knock"),
        ]),
        "knock" => first(&[(knows.knock, "knock")]),
        other => other,
    };

    let by_room = |rule: &str| matches!(rule, "restricted" | "knock_restricted");
    if by_room(new) {
        // Entries under a rule that ignores them are forgotten words: they must not wake up.
        let before = if by_room(&rule) {
            content.remove("allow")
        } else {
            None
        };
        let extra = (setting == JoinRulePolicy::Restricted).then_some(&*old.room_id);
        let mut allow = match before {
            Some(Value::Array(entries)) => entries,
            _ => Vec::new(),
        };
        allow.extend(extra.map(entry));
        let mapped = replace(allow, |room| {
            replaced
                .get(room)
                .filter(|_| room != old.room_id)
                .map(|new| &**new)
        });
        content.insert("allow".to_owned(), mapped.into());
    } else if by_room(&rule) {
        content.remove("allow");
    } else if let Some(Value::Array(allow)) = content.get("allow").cloned() {
        let mapped = replace(allow, |room| replaced.get(room).map(|new| &**new));
        content.insert("allow".to_owned(), mapped.into());
    }
    content.insert("join_rule".to_owned(), new.into());

    let finding = match new {
        "public" | "restricted" | "knock_restricted" => None,
        "invite" | "private" | "knock" => Some(Finding::InvitationsNeeded {
            count: members(old),
        }),
        other => Some(Finding::JoinRuleKept {
            rule: other.to_owned(),
        }),
    };
    (content, finding.into_iter().collect())
}

/// Rooms whose members a room lets in.
pub(crate) fn rooms(state: &RoomState) -> Vec<OwnedRoomId> {
    let allow = state
        .content(JOIN_RULES, "")
        .and_then(|content| content.get("allow"))
        .and_then(Value::as_array);
    allow.into_iter().flatten().filter_map(room_of).collect()
}

/// Another room's join rules with `to` in the place of `from`, or `None` if they do not name `from`.
pub(crate) fn repointed(content: &Content, from: &RoomId, to: &RoomId) -> Option<Content> {
    let allow = content.get("allow")?.as_array()?;
    if !allow
        .iter()
        .any(|entry| room_of(entry).as_deref() == Some(from))
    {
        return None;
    }
    let mut content = content.clone();
    let allow = replace(allow.clone(), |room| (room == from).then_some(to));
    content.insert("allow".to_owned(), allow.into());
    Some(content)
}

/// Whether members of a room can enter by themselves.
pub(crate) fn lets_in(rules: &Content, members_of: &RoomId) -> bool {
    match rules.get("join_rule").and_then(Value::as_str) {
        Some("public") => true,
        Some("restricted" | "knock_restricted") => rules
            .get("allow")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .any(|entry| room_of(entry).as_deref() == Some(members_of)),
        _ => false,
    }
}

/// Join rules that no longer let in members of a room, or `None` if they do not. Where that was the
/// last room, nobody can enter by a room any more, and the rule says so in plain words: it is what
/// [`carried`] made these of.
/// Source: MSC3325: who is sent away could come back for as long as the old room lets them in.
pub(crate) fn without(content: &Content, room: &RoomId) -> Option<Content> {
    let closed = match content.get("join_rule")?.as_str()? {
        "restricted" => "invite",
        "knock_restricted" => "knock",
        _ => return None,
    };
    let allow = content.get("allow")?.as_array()?;
    let left: Vec<_> = allow
        .iter()
        .filter(|entry| room_of(entry).as_deref() != Some(room))
        .cloned()
        .collect();
    if left.len() == allow.len() {
        return None;
    }
    let mut content = content.clone();
    if left.is_empty() {
        content.remove("allow");
        content.insert("join_rule".to_owned(), closed.into());
    } else {
        content.insert("allow".to_owned(), left.into());
    }
    Some(content)
}

/// Which rules a version knows; one that this program does not know has none for certain.
struct Known {
    knock: Feature,
    restricted: Feature,
    knock_restricted: Feature,
}

impl Known {
    fn of(version: &RoomVersionId) -> Self {
        properties(version).map_or(
            Self {
                knock: Feature::Absent,
                restricted: Feature::Absent,
                knock_restricted: Feature::Absent,
            },
            |known| Self {
                knock: known.knock,
                restricted: known.restricted,
                knock_restricted: known.knock_restricted,
            },
        )
    }
}

/// The first rule that is there, else `invite`.
fn first<'a>(rules: &[(Feature, &'a str)]) -> &'a str {
    rules
        .iter()
        .find(|(feature, _)| *feature == Feature::Present)
        .map_or("invite", |(_, rule)| rule)
}

/// How many people were to follow.
fn members(old: &RoomState) -> usize {
    old.members(Membership::Join)
        .chain(old.members(Membership::Invite))
        .count()
}

/// An entry of `allow`.
fn entry(room: &RoomId) -> Value {
    json!({"type": MEMBERSHIP, "room_id": room})
}

/// The room that an entry of `allow` names.
fn room_of(entry: &Value) -> Option<OwnedRoomId> {
    if entry.get("type")?.as_str()? != MEMBERSHIP {
        return None;
    }
    entry.get("room_id")?.as_str()?.parse().ok()
}

/// Entries with other rooms in the place of some, each room once; entries that name no room are
/// left alone.
fn replace<'a>(entries: Vec<Value>, new: impl Fn(&RoomId) -> Option<&'a RoomId>) -> Vec<Value> {
    let mut seen = BTreeSet::new();
    entries
        .into_iter()
        .filter_map(|mut entry| {
            let Some(room) = room_of(&entry) else {
                return Some(entry);
            };
            let room = match new(&room) {
                Some(new) => {
                    let fields = entry.as_object_mut()?;
                    fields.insert("room_id".to_owned(), new.as_str().into());
                    new.to_owned()
                }
                None => room,
            };
            seen.insert(room).then_some(entry)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::power::tests::any_content;
    use super::super::state::content;
    use super::super::state::tests::room;
    use super::*;

    fn with_rule(rule: Option<Value>) -> RoomState {
        let member = |membership: &str| json!({"membership": membership});
        let mut events = vec![
            ("m.room.member", "@a:x", "@a:x", member("join")),
            ("m.room.member", "@b:x", "@a:x", member("invite")),
            ("m.room.member", "@c:x", "@a:x", member("leave")),
        ];
        events.extend(rule.map(|rule| (JOIN_RULES, "", "@a:x", rule)));
        room("!old:x", &events)
    }

    fn carry(rule: Option<Value>, to: &str, setting: JoinRulePolicy) -> (Value, Vec<Finding>) {
        let replaced = [
            ("!was:x", "!is:x"),
            ("!too:x", "!is:x"),
            ("!old:x", "!no:x"),
        ]
        .map(|(from, to)| (from.parse().unwrap(), to.parse().unwrap()));
        let (content, findings) = carried(
            &with_rule(rule),
            &to.try_into().unwrap(),
            setting,
            &BTreeMap::from(replaced),
        );
        (content.into(), findings)
    }

    fn allow(rule: &str, rooms: &[&str]) -> Value {
        let entries: Vec<_> = rooms
            .iter()
            .map(|room| entry((*room).try_into().unwrap()))
            .collect();
        json!({"join_rule": rule, "allow": entries})
    }

    type Row = (Option<Value>, &'static str, Value, Vec<Finding>);

    fn check(setting: JoinRulePolicy, rows: Vec<Row>) {
        for (before, to, after, findings) in rows {
            let name = format!("{setting:?} {before:?} to {to}");
            assert_eq!(carry(before, to, setting), (after, findings), "{name}");
        }
    }

    fn rule(rule: &str) -> Value {
        json!({"join_rule": rule})
    }

    fn invite() -> Vec<Finding> {
        vec![Finding::InvitationsNeeded { count: 2 }]
    }

    fn kept() -> Vec<Finding> {
        vec![Finding::JoinRuleKept {
            rule: "odd".to_owned(),
        }]
    }

    #[test]
    fn members_follow_where_the_version_can() {
        let old = |rule: &str| allow(rule, &["!old:x"]);
        let rows = vec![
            (None, "12", old("restricted"), vec![]),
            (
                Some(json!({"join_rule": 7})),
                "12",
                old("restricted"),
                vec![],
            ),
            (Some(rule("invite")), "8", old("restricted"), vec![]),
            (Some(rule("private")), "8", old("restricted"), vec![]),
            (Some(rule("invite")), "7", rule("invite"), invite()),
            (Some(rule("invite")), "odd", rule("invite"), invite()),
            (Some(rule("knock")), "10", old("knock_restricted"), vec![]),
            (Some(rule("knock")), "9", rule("knock"), invite()),
            (Some(rule("knock")), "6", rule("invite"), invite()),
            (Some(rule("public")), "12", rule("public"), vec![]),
            (Some(rule("odd")), "12", rule("odd"), kept()),
            // What an ignored `allow` says must not come to life.
            (
                Some(allow("invite", &["!a:x"])),
                "12",
                old("restricted"),
                vec![],
            ),
        ];
        check(JoinRulePolicy::Restricted, rows);
    }

    #[test]
    fn allow_lists_gain_the_old_room() {
        let (one, two) = ("restricted", "knock_restricted");
        let a = |rule| Some(allow(rule, &["!a:x"]));
        let both = |rule| allow(rule, &["!a:x", "!old:x"]);
        let many = Some(allow(one, &["!a:x", "!was:x", "!too:x", "!a:x"]));
        let rows = vec![
            (many, "12", allow(one, &["!a:x", "!is:x", "!old:x"]), vec![]),
            (Some(both(one)), "12", both(one), vec![]),
            (a(one), "6", rule("invite"), invite()),
            (a(two), "12", both(two), vec![]),
            (a(two), "9", both(one), vec![]),
            (a(two), "7", rule("knock"), invite()),
        ];
        check(JoinRulePolicy::Restricted, rows);
    }

    #[test]
    fn a_rule_can_be_kept() {
        let was = |rule| Some(allow(rule, &["!was:x"]));
        let is = |rule| allow(rule, &["!is:x"]);
        let rows = vec![
            (None, "12", rule("invite"), invite()),
            (Some(rule("private")), "12", rule("private"), invite()),
            (Some(rule("knock")), "12", rule("knock"), invite()),
            (Some(rule("knock")), "6", rule("invite"), invite()),
            (Some(rule("public")), "12", rule("public"), vec![]),
            (Some(rule("odd")), "12", rule("odd"), kept()),
            (was("restricted"), "12", is("restricted"), vec![]),
            (was("restricted"), "7", rule("invite"), invite()),
            (was("invite"), "12", is("invite"), invite()),
        ];
        check(JoinRulePolicy::Keep, rows);
    }

    #[test]
    fn the_old_room_is_taken_out_again() {
        for (before, after) in [
            (
                allow("restricted", &["!old:x", "!a:x", "!old:x"]),
                Some(allow("restricted", &["!a:x"])),
            ),
            (allow("restricted", &["!old:x"]), Some(rule("invite"))),
            (allow("knock_restricted", &["!old:x"]), Some(rule("knock"))),
            (allow("restricted", &["!a:x"]), None),
            (allow("restricted", &[]), None),
            // Somebody opened the room meanwhile: that is theirs.
            (allow("public", &["!old:x"]), None),
            (rule("restricted"), None),
            (json!({"join_rule": 7, "allow": 7}), None),
        ] {
            let old = <&RoomId>::try_from("!old:x").unwrap();
            let changed = without(&content(before.clone()), old).map(Value::from);
            assert_eq!(changed, after, "{before}");
        }
    }

    #[test]
    fn unknown_entries_and_keys_are_kept() {
        let odd = json!({"type": "org.example", "room_id": "!was:x"});
        let before = json!({
            "join_rule": "restricted",
            "allow": [odd, 7, odd, {"type": MEMBERSHIP, "room_id": "!was:x", "note": "n"}],
            "key": [1],
        });
        let after = json!({
            "join_rule": "restricted",
            "allow": [odd, 7, odd, {"type": MEMBERSHIP, "room_id": "!is:x", "note": "n"},
                      {"type": MEMBERSHIP, "room_id": "!old:x"}],
            "key": [1],
        });
        assert_eq!(
            carry(Some(before), "12", JoinRulePolicy::Restricted).0,
            after
        );
    }

    #[test]
    fn other_rooms_follow() {
        for (before, after) in [
            (allow("restricted", &["!a:x", "!b:x"]), None),
            (json!({"join_rule": "public"}), None),
            (json!({"allow": "!from:x"}), None),
            (
                allow("restricted", &["!from:x"]),
                Some(allow("restricted", &["!to:x"])),
            ),
            (
                allow("knock_restricted", &["!to:x", "!from:x", "!b:x"]),
                Some(allow("knock_restricted", &["!to:x", "!b:x"])),
            ),
        ] {
            let from = <&RoomId>::try_from("!from:x").unwrap();
            let to = <&RoomId>::try_from("!to:x").unwrap();
            let changed = repointed(&content(before.clone()), from, to).map(Value::from);
            assert_eq!(changed, after, "{before}");
        }
    }

    proptest! {
        #[test]
        fn any_rule_is_carried(rule in any_content(), to in 1u8..13) {
            let from = <&RoomId>::try_from("!a:x").unwrap();
            let to_room = <&RoomId>::try_from("!b:x").unwrap();
            if let Some(after) = repointed(&rule, from, to_room) {
                prop_assert_eq!(repointed(&after, from, to_room), None);
            }
            if let Some(after) = without(&rule, from) {
                prop_assert_eq!(without(&after, from), None);
            }
            for setting in [JoinRulePolicy::Restricted, JoinRulePolicy::Keep] {
                let (content, _) = carry(Some(rule.clone().into()), &to.to_string(), setting);
                prop_assert!(content["join_rule"].is_string());
            }
        }
    }
}
