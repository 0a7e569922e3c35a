//! Reads power levels of any shape: what they mean, with every level an integer within range, and what was odd.

use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedUserId, UserId};
use serde_json::{Value, json};

use super::super::level::LEVEL_MAX;
use super::super::state::{Content, RoomState, content};
use super::super::versions::has_creators;
use super::{CREATOR_LEVEL, Oddity, OddityKind, POWER_LEVELS, PowerLevels, Presence};

/// [`LEVEL_MAX`] for fractions.
const LEVEL_MAX_FRACTION: f64 = 9_007_199_254_740_991.0;

/// Keys that hold one level.
pub(super) const LEVELS: [&str; 7] = [
    "users_default",
    "events_default",
    "state_default",
    "ban",
    "kick",
    "invite",
    "redact",
];

/// The content with every level an integer, and what it means.
pub(super) fn read(state: &RoomState) -> (Content, PowerLevels) {
    let create = state.create();
    let creators = if has_creators(&create.version) {
        create.creators.clone()
    } else {
        BTreeSet::new()
    };
    let raw = state.content(POWER_LEVELS, "");
    let (content, oddities) = match raw {
        Some(raw) => normalised(raw),
        None => (defaults(create.creators.difference(&creators)), Vec::new()),
    };
    let one = |key: &str, default: i64| content.get(key).and_then(Value::as_i64).unwrap_or(default);
    let many = |key: &str| {
        let entries = content
            .get(key)
            .and_then(Value::as_object)
            .into_iter()
            .flatten();
        entries.filter_map(|(name, level)| Some((name.clone(), level.as_i64()?)))
    };
    let levels = PowerLevels {
        users: many("users")
            .filter_map(|(user, level)| Some((user.parse().ok()?, level)))
            .collect(),
        users_default: one("users_default", 0),
        events: many("events").collect(),
        events_default: one("events_default", 0),
        state_default: one("state_default", 50),
        ban: one("ban", 50),
        kick: one("kick", 50),
        invite: one("invite", 0),
        redact: one("redact", 50),
        creators,
        presence: if raw.is_some() {
            Presence::Present
        } else {
            Presence::Missing
        },
        oddities,
    };
    (content, levels)
}

/// What holds in a room without power levels, spelt out. The specification lets anybody change the
/// state of such a room; Synapse does not (1.163.2, measured), and nobody wants that.
/// Source: Matrix specification, `m.room.power_levels`.
fn defaults<'a>(creators: impl Iterator<Item = &'a OwnedUserId>) -> Content {
    let users: Content = creators
        .map(|user| (user.to_string(), Value::from(CREATOR_LEVEL)))
        .collect();
    content(json!({
        "users": users,
        "users_default": 0,
        "events": {},
        "events_default": 0,
        "state_default": 50,
        "ban": 50,
        "kick": 50,
        "redact": 50,
        "invite": 0,
    }))
}

/// Every level an integer in range; what is none is dropped, and listed.
fn normalised(raw: &Content) -> (Content, Vec<Oddity>) {
    let mut oddities = Vec::new();
    let mut content = Content::new();
    for (key, value) in raw {
        let kept = if LEVELS.contains(&key.as_str()) {
            level(value, key, &mut oddities).map(Value::from)
        } else if ["users", "events", "notifications"].contains(&key.as_str()) {
            section(key, value, &mut oddities)
        } else {
            unknown(key, value, &mut oddities);
            Some(as_upgraded(value))
        };
        if let Some(kept) = kept {
            content.insert(key.clone(), kept);
        }
    }
    (content, oddities)
}

/// A map of levels.
fn section(key: &str, value: &Value, oddities: &mut Vec<Oddity>) -> Option<Value> {
    let Value::Object(entries) = value else {
        oddities.push(Oddity {
            place: key.to_owned(),
            kind: OddityKind::Junk,
        });
        return None;
    };
    let mut kept = Content::new();
    for (name, value) in entries {
        let place = format!("{key}.{name}");
        if key == "users" && UserId::parse(name).is_err() {
            oddities.push(Oddity {
                place,
                kind: OddityKind::Junk,
            });
        } else if let Some(level) = level(value, &place, oddities) {
            kept.insert(name.clone(), level.into());
        }
    }
    Some(kept.into())
}

fn level(value: &Value, place: &str, oddities: &mut Vec<Oddity>) -> Option<i64> {
    let (level, kind) = as_level(value);
    if let Some(kind) = kind {
        oddities.push(Oddity {
            place: place.to_owned(),
            kind,
        });
    }
    level
}

/// Reads a level, and says what was odd about it.
pub(super) fn as_level(value: &Value) -> (Option<i64>, Option<OddityKind>) {
    let integer = match value {
        Value::Number(number) => number
            .as_i64()
            .map(i128::from)
            .or_else(|| number.as_u64().map(i128::from)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    match (integer, value) {
        (Some(integer), _) => match i64::try_from(integer) {
            Ok(level) if in_range(level) == level => (
                Some(level),
                value.is_string().then_some(OddityKind::TextNumber),
            ),
            _ if integer < 0 => (Some(-LEVEL_MAX), Some(OddityKind::OutOfRange)),
            _ => (Some(LEVEL_MAX), Some(OddityKind::OutOfRange)),
        },
        (None, Value::Number(number)) => {
            (number.as_f64().map(whole_part), Some(OddityKind::Fraction))
        }
        (None, _) => (None, Some(OddityKind::Junk)),
    }
}

/// Lists what is odd under a key that means nothing to the server: Synapse's own upgrade wants
/// numbers there, too, one map deep (`copy_and_fixup_power_levels_contents`).
fn unknown(key: &str, value: &Value, oddities: &mut Vec<Oddity>) {
    let mut check = |place: String, value: &Value| {
        oddities.extend(as_level(value).1.map(|kind| Oddity { place, kind }));
    };
    match value {
        Value::Object(entries) => {
            for (name, value) in entries {
                check(format!("{key}.{name}"), value);
            }
        }
        _ => check(key.to_owned(), value),
    }
}

/// What a key that means nothing to the server looks like after the server's own upgrade: numbers,
/// also where they were written as text, one map deep.
fn as_upgraded(value: &Value) -> Value {
    let number = |value: &Value| match value {
        Value::String(_) => as_level(value).0.map_or_else(|| value.clone(), Value::from),
        other => with_integers(other),
    };
    match value {
        Value::Object(entries) => entries
            .iter()
            .map(|(key, value)| (key.clone(), number(value)))
            .collect(),
        other => number(other),
    }
}

/// The same value with numbers that canonical JSON allows.
fn with_integers(value: &Value) -> Value {
    match value {
        Value::Number(_) => as_level(value).0.map_or(Value::Null, Value::from),
        Value::Array(items) => items.iter().map(with_integers).collect(),
        Value::Object(entries) => entries
            .iter()
            .map(|(key, value)| (key.clone(), with_integers(value)))
            .collect(),
        Value::Null | Value::Bool(_) | Value::String(_) => value.clone(),
    }
}

/// A number without its fraction.
fn whole_part(number: f64) -> i64 {
    // By way of text: there is no checked conversion.
    format!(
        "{:.0}",
        number
            .trunc()
            .clamp(-LEVEL_MAX_FRACTION, LEVEL_MAX_FRACTION)
    )
    .parse()
    .unwrap_or(0)
}

pub(super) fn in_range(level: i64) -> i64 {
    level.clamp(-LEVEL_MAX, LEVEL_MAX)
}

pub(super) fn object<K: ToString>(levels: &BTreeMap<K, i64>) -> Value {
    levels
        .iter()
        .map(|(key, level)| (key.to_string(), Value::from(*level)))
        .collect()
}
