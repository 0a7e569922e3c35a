//! Power levels by tables and properties.

use proptest::prelude::*;
use serde_json::json;

use super::super::state::content;
use super::super::state::tests::room;
use super::*;
use crate::room::level::LEVEL_MAX;
use crate::room::power::read::{LEVELS, as_level};

/// Any JSON, with the words that power levels, join rules and others are made of.
pub(crate) fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (-100i64..200).prop_map(Value::from),
        (-100i64..200).prop_map(|n| Value::from(format!(" {n} "))),
        ".{0,6}".prop_map(Value::from),
        word().prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((word(), inner), 0..5)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

pub(crate) fn any_content() -> impl Strategy<Value = Content> {
    prop::collection::vec((word(), any_json()), 0..8)
        .prop_map(|entries| entries.into_iter().collect())
}

fn word() -> impl Strategy<Value = String> {
    let known = [
        "users",
        "users_default",
        "events",
        "events_default",
        "state_default",
        "ban",
        "invite",
        "notifications",
        "m.room.tombstone",
        "m.room.message",
        "@a:x",
        "@b:x",
        "nobody",
        "join_rule",
        "restricted",
        "knock",
        "invite",
        "allow",
        "type",
        "m.room_membership",
        "room_id",
        "!a:x",
        "!old:x",
        "guest_access",
    ];
    prop_oneof![4 => prop::sample::select(known.to_vec()).prop_map(ToOwned::to_owned), 1 => ".{0,4}"]
}

fn with_levels(version: &str, levels: Option<Value>) -> RoomState {
    let create = json!({"room_version": version, "additional_creators": ["@b:x"]});
    let mut events = vec![("m.room.create", "", "@a:x", create)];
    events.extend(levels.map(|levels| (POWER_LEVELS, "", "@a:x", levels)));
    room("!old:x", &events)
}

fn ids(users: &[&str]) -> BTreeSet<OwnedUserId> {
    users.iter().map(|user| user.parse().unwrap()).collect()
}

fn carry(old: &RoomState, to: &str, tombstone_level: i64) -> (Value, Vec<Finding>) {
    let creators = ids(&["@bot:x", "@a:x"]);
    let to = to.try_into().unwrap();
    let (content, findings) = carried(
        old,
        &PowerRule {
            to: &to,
            creators: &creators,
            tombstone_level: Some(tombstone_level),
        },
    );
    (content.into(), findings)
}

#[test]
fn numbers_are_read_leniently() {
    use OddityKind::{Fraction, Junk, OutOfRange, TextNumber};
    for (value, level, kind) in [
        (json!(7), Some(7), None),
        (json!("50"), Some(50), Some(TextNumber)),
        (json!(" -5\n"), Some(-5), Some(TextNumber)),
        (json!("+5"), Some(5), Some(TextNumber)),
        (json!(50.9), Some(50), Some(Fraction)),
        (json!(-0.5), Some(0), Some(Fraction)),
        (json!(1e300), Some(LEVEL_MAX), Some(Fraction)),
        (json!(LEVEL_MAX), Some(LEVEL_MAX), None),
        (json!(LEVEL_MAX + 1), Some(LEVEL_MAX), Some(OutOfRange)),
        (json!(i64::MIN), Some(-LEVEL_MAX), Some(OutOfRange)),
        (json!(u64::MAX), Some(LEVEL_MAX), Some(OutOfRange)),
        (
            json!("-99999999999999999999"),
            Some(-LEVEL_MAX),
            Some(OutOfRange),
        ),
        (json!("fifty"), None, Some(Junk)),
        (json!(""), None, Some(Junk)),
        (json!(null), None, Some(Junk)),
        (json!(true), None, Some(Junk)),
        (json!([50]), None, Some(Junk)),
    ] {
        assert_eq!(as_level(&value), (level, kind), "{value}");
    }
}

#[test]
fn oddities_name_their_place() {
    let levels = with_levels(
        "9",
        Some(json!({
            "users": {"@a:x": "100", "nobody": 5, "@c:x": null}, "events": [], "ban": "x",
            "notifications": {"room": 1.5}, "custom": {"a": "4", "b": {}}, "flag": true,
        })),
    )
    .power();
    let places: Vec<_> = levels
        .oddities
        .iter()
        .map(|odd| format!("{} {:?}", odd.place, odd.kind))
        .collect();
    assert_eq!(
        places,
        [
            "ban Junk",
            "custom.a TextNumber",
            "custom.b Junk",
            "events Junk",
            "flag Junk",
            "notifications.room Fraction",
            "users.@a:x TextNumber",
            "users.@c:x Junk",
            "users.nobody Junk",
        ]
    );
    assert_eq!(
        levels.users,
        BTreeMap::from([("@a:x".parse().unwrap(), 100)])
    );
    assert_eq!(levels.ban, 50);
}

#[test]
fn power_by_version_and_presence() {
    let a = Power::Level(100);
    let nothing = Power::Level(0);
    for (version, levels, of_a, of_b, state) in [
        ("11", None, a, nothing, 50),
        ("12", None, Power::Creator, Power::Creator, 50),
        ("11", Some(json!({})), nothing, nothing, 50),
        ("12", Some(json!({})), Power::Creator, Power::Creator, 50),
        (
            "11",
            Some(json!({"users_default": 9})),
            Power::Level(9),
            Power::Level(9),
            50,
        ),
    ] {
        let power = with_levels(version, levels.clone()).power();
        let of = |user: &str| power.power(<&UserId>::try_from(user).unwrap());
        assert_eq!(
            (of("@a:x"), of("@b:x")),
            (of_a, of_b),
            "{version} {levels:?}"
        );
        assert_eq!(
            power.to_send_state("m.room.name"),
            state,
            "{version} {levels:?}"
        );
    }
    assert!(Power::Creator > Power::Level(i64::MAX));
}

#[test]
fn allowances_and_holders() {
    let power = with_levels(
        "12",
        Some(json!({
            "users": {"@c:x": 100, "@d:x": 50, "@gone:x": 100, "@e:x": 100},
            "events": {"m.room.tombstone": 100, "m.room.message": 3},
        })),
    )
    .power();
    let may = |user: &str, kind| power.can_send_state(<&UserId>::try_from(user).unwrap(), kind);
    assert_eq!(may("@a:x", TOMBSTONE), Allowance::Allowed);
    assert_eq!(may("@c:x", TOMBSTONE), Allowance::Allowed);
    assert_eq!(
        may("@d:x", TOMBSTONE),
        Allowance::Short {
            needed: 100,
            have: 50
        }
    );
    assert_eq!(
        may("@z:x", "m.room.name"),
        Allowance::Short {
            needed: 50,
            have: 0
        }
    );
    assert_eq!(power.to_send_message("m.room.message"), 3);
    assert_eq!(power.to_send_message("m.sticker"), 0);
    let names = |needed| -> Vec<_> {
        let joined = ids(&["@b:x", "@c:x", "@d:x", "@e:x", "@f:x"]);
        power
            .holders(needed, &joined)
            .iter()
            .map(|h| h.user.to_string())
            .collect()
    };
    assert_eq!(names(100), ["@b:x", "@c:x", "@e:x"]);
    assert_eq!(names(101), ["@b:x"]);
    let all: BTreeSet<_> = (0..9)
        .map(|n| format!("@u{n}:x").parse().unwrap())
        .collect();
    assert_eq!(power.holders(0, &all).len(), HOLDERS_SHOWN_MAX);
}

#[test]
fn what_the_new_room_gets() {
    // The new room is created by @bot:x with @a:x; the old one by @a:x, from 12 on with @b:x.
    for (name, from, to, old, expected) in [
        (
            "same family: only numbers are put right",
            "9",
            "11",
            json!({"users": {"@a:x": "100", "@c:x": 50}, "ban": "junk", "k": [1.5, "2"]}),
            json!({"users": {"@a:x": 100, "@c:x": 50}, "k": [1, "2"]}),
        ),
        ("nothing is added", "10", "11", json!({}), json!({})),
        (
            "creators leave, the tombstone is above the others",
            "11",
            "12",
            json!({"users": {"@a:x": 100, "@bot:x": 100, "@c:x": 100}, "events": {"e": 5}}),
            json!({"users": {"@c:x": 100}, "events": {"e": 5, "m.room.tombstone": 150}}),
        ),
        (
            "a level above the configured one",
            "11",
            "12",
            json!({"users": {"@c:x": 200}, "notifications": {"room": 20}}),
            json!({"users": {"@c:x": 200}, "events": {"m.room.tombstone": 201},
                   "notifications": {"room": 20}}),
        ),
        (
            "everybody's level counts",
            "11",
            "12",
            json!({"users_default": 300}),
            json!({"users_default": 300, "events": {"m.room.tombstone": 301}}),
        ),
        (
            "the default for state counts",
            "11",
            "12",
            json!({"state_default": 300}),
            json!({"state_default": 300, "events": {"m.room.tombstone": 301}}),
        ),
        (
            "never lowered",
            "11",
            "12",
            json!({"events": {"m.room.tombstone": 400}}),
            json!({"events": {"m.room.tombstone": 400}}),
        ),
        (
            "clamped",
            "11",
            "12",
            json!({"users": {"@c:x": LEVEL_MAX}}),
            json!({"users": {"@c:x": LEVEL_MAX}, "events": {"m.room.tombstone": LEVEL_MAX}}),
        ),
        (
            "an old creator who is none any more",
            "12",
            "12",
            json!({"users": {"@c:x": 60}}),
            json!({"users": {"@b:x": 100, "@c:x": 60}, "events": {"m.room.tombstone": 150}}),
        ),
        (
            "an old creator among higher ones",
            "12",
            "12",
            json!({"users": {"@c:x": 160}}),
            json!({"users": {"@b:x": 160, "@c:x": 160}, "events": {"m.room.tombstone": 161}}),
        ),
        (
            "back to a version without creators",
            "12",
            "11",
            json!({"users": {"@c:x": 60}, "events": {"m.room.tombstone": 150}}),
            json!({"users": {"@a:x": 150, "@b:x": 150, "@c:x": 60},
                   "events": {"m.room.tombstone": 150}}),
        ),
        (
            "back, with nothing above 100",
            "12",
            "11",
            json!({}),
            json!({"users": {"@a:x": 100, "@b:x": 100}}),
        ),
    ] {
        assert_eq!(
            carry(&with_levels(from, Some(old)), to, 150).0,
            expected,
            "{name}"
        );
    }
}

#[test]
fn findings_about_levels() {
    for (levels, expected) in [
        (None, vec![Finding::NoPowerLevels]),
        (Some(json!({})), vec![]),
        (
            Some(json!({"ban": "50", "kick": "x", "invite": 0.5, "redact": u64::MAX})),
            vec![
                Finding::TextLevels {
                    places: vec!["ban".to_owned()],
                },
                Finding::BrokenPowerLevels {
                    places: ["invite", "kick", "redact"].map(ToOwned::to_owned).to_vec(),
                },
            ],
        ),
    ] {
        assert_eq!(carry(&with_levels("9", levels), "11", 150).1, expected);
    }
}

#[test]
fn no_power_levels_become_explicit_ones() {
    let (content, _) = carry(&with_levels("11", None), "11", 150);
    insta::assert_snapshot!(content, @r#"{"ban":50,"events":{},"events_default":0,"invite":0,"kick":50,"redact":50,"state_default":50,"users":{"@a:x":100},"users_default":0}"#);
    let (content, _) = carry(&with_levels("11", None), "12", 150);
    insta::assert_snapshot!(content, @r#"{"ban":50,"events":{"m.room.tombstone":150},"events_default":0,"invite":0,"kick":50,"redact":50,"state_default":50,"users":{},"users_default":0}"#);
}

#[test]
fn closing_raises_and_never_lowers() {
    for (old, expected) in [
        (json!({}), Some(json!({"events_default": 50, "invite": 50}))),
        (
            json!({"users_default": 60, "k": 1, "ban": "5"}),
            Some(
                json!({"users_default": 60, "events_default": 61, "invite": 61,
                        "k": 1, "ban": 5}),
            ),
        ),
        (
            json!({"events_default": 70, "invite": 10}),
            Some(json!({"events_default": 70, "invite": 50})),
        ),
        (
            json!({"events_default": 50, "invite": 50,
                   "events": {"m.reaction": 0, "m.sticker": 90, "m.room.name": 0}}),
            Some(json!({"events_default": 50, "invite": 50,
                        "events": {"m.reaction": 50, "m.sticker": 90, "m.room.name": 0}})),
        ),
        (
            json!({"events_default": 50, "invite": 100, "ban": "5"}),
            None,
        ),
        (
            json!({"users_default": LEVEL_MAX}),
            Some(
                json!({"users_default": LEVEL_MAX, "events_default": LEVEL_MAX,
                        "invite": LEVEL_MAX}),
            ),
        ),
    ] {
        let locked = locked(&with_levels("9", Some(old.clone()))).map(Value::from);
        assert_eq!(locked, expected, "{old}");
    }
}

proptest! {
    #[test]
    fn any_levels_are_carried_and_closed(levels in any_content(), from in 1u8..13, to in 1u8..13) {
        let old = with_levels(&from.to_string(), Some(levels.into()));
        let (carried, _) = carry(&old, &to.to_string(), 150);
        let new = with_levels(&to.to_string(), Some(carried.clone()));
        let read = new.power();
        // Only keys that mean nothing to a room may still be odd.
        prop_assert!(read.oddities.iter().all(|odd| {
            let key = odd.place.split('.').next().unwrap_or_default();
            odd.kind == OddityKind::Junk && !LEVELS.contains(&key)
                && !["users", "events", "notifications"].contains(&key)
        }), "{:?} in {carried}", read.oddities);
        if to >= 12 {
            let above = read.to_send_state(TOMBSTONE);
            prop_assert!(above == LEVEL_MAX
                || read.users.values().all(|level| *level < above) && read.users_default < above);
        }
        if let Some(closed) = locked(&old) {
            let mut after = old.clone();
            after.put((POWER_LEVELS.to_owned(), String::new()), <&UserId>::try_from("@a:x").unwrap(), closed);
            prop_assert_eq!(locked(&after), None);
        }
    }

    #[test]
    fn any_create_is_read(create in any_content()) {
        let old = room("!old:x", &[("m.room.create", "", "@a:x", create.into())]);
        drop(carry(&old, "12", 150));
        let new = content(carry(&old, "11", 150).0);
        prop_assert_eq!(new.get("users_default"), Some(&json!(0)));
    }
}
