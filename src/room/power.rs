//! Power levels: who may do what, what of it the new room gets, and how the old one is closed.
//!
//! Reads leniently and writes strictly: what comes out is always numbers within range. Left out on
//! purpose: whether an oddity forbids the upgrade, which is for the caller to say.
//!
//! Sources: Matrix specification, `m.room.power_levels` and the authorization rules of each room
//! version; MSC3667 (integers since version 10); MSC4289 (creators since version 12).

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedUserId, RoomVersionId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::finding::{Finding, HOLDERS_SHOWN_MAX, Holder};
use super::state::{Content, RoomState};
use super::versions::has_creators;

/// Type of the power levels event.
pub const POWER_LEVELS: &str = "m.room.power_levels";

/// Type of the event that closes a room.
const TOMBSTONE: &str = "m.room.tombstone";

/// The highest number canonical JSON allows, 2^53-1; its negative is the lowest.
/// Source: Matrix specification, appendices, "Canonical JSON".
pub const LEVEL_MAX: i64 = 9_007_199_254_740_991;

/// [`LEVEL_MAX`] for fractions.
const LEVEL_MAX_FRACTION: f64 = 9_007_199_254_740_991.0;

/// What a creator has without creators: by default where there are no power levels, and at least
/// when the room comes back from a version with creators.
const CREATOR_LEVEL: i64 = 100;

/// What it takes at least to write or invite in a closed room.
/// Source: Matrix specification, "Room upgrades", server behaviour.
const CLOSED_LEVEL: i64 = 50;

/// Events that are messages to people: closed one by one where the room sets a level for them.
const MESSAGE_KINDS: [&str; 4] = [
    "m.room.message",
    "m.room.encrypted",
    "m.reaction",
    "m.sticker",
];

/// Keys that hold one level.
const LEVELS: [&str; 7] = [
    "users_default",
    "events_default",
    "state_default",
    "ban",
    "kick",
    "invite",
    "redact",
];

/// How much power somebody has; creators stand above every level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    /// A power level.
    Level(i64),
    /// Created a room of version 12 or later (MSC4289).
    Creator,
}

/// Whether somebody may do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allowance {
    /// May.
    Allowed,
    /// May not.
    Short {
        /// The level it takes.
        needed: i64,
        /// The level they have.
        have: i64,
    },
}

/// Whether a room has power levels at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It has the event.
    Present,
    /// It has none, and the specification's defaults for that case hold.
    Missing,
}

/// Something in the power levels that should not be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Oddity {
    /// Where, such as `ban`, `users.@a:example.org` or `events.m.room.name`.
    pub place: String,
    /// What.
    pub kind: OddityKind,
}

/// What is odd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OddityKind {
    /// A number as text. Valid before version 10; servers read it as the number.
    TextNumber,
    /// A number that is no integer: read without its fraction.
    Fraction,
    /// A number beyond [`LEVEL_MAX`]: read as that.
    OutOfRange,
    /// Anything else: read as if it were not there.
    Junk,
}

/// Power levels of a room as they take effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PowerLevels {
    /// Level by user.
    pub users: BTreeMap<OwnedUserId, i64>,
    /// Level of everybody else.
    pub users_default: i64,
    /// Level that an event type takes.
    pub events: BTreeMap<String, i64>,
    /// Level that any other message takes.
    pub events_default: i64,
    /// Level that any other state event takes.
    pub state_default: i64,
    /// Level to ban.
    pub ban: i64,
    /// Level to remove somebody.
    pub kick: i64,
    /// Level to invite.
    pub invite: i64,
    /// Level to remove others' messages.
    pub redact: i64,
    /// Who stands above all levels; empty where the version has no creators.
    pub creators: BTreeSet<OwnedUserId>,
    /// Whether the event is there.
    pub presence: Presence,
    /// What was odd in it.
    pub oddities: Vec<Oddity>,
}

impl PowerLevels {
    /// Reads a room's power levels, and whatever cannot be read as absent.
    #[must_use]
    pub fn of(state: &RoomState) -> Self {
        read(state).1
    }

    /// How much power somebody has. Whether they are in the room is not asked.
    #[must_use]
    pub fn power(&self, user: &UserId) -> Power {
        if self.creators.contains(user) {
            Power::Creator
        } else {
            Power::Level(self.users.get(user).copied().unwrap_or(self.users_default))
        }
    }

    /// Level that sending a state event takes.
    #[must_use]
    pub fn to_send_state(&self, kind: &str) -> i64 {
        self.events.get(kind).copied().unwrap_or(self.state_default)
    }

    /// Level that sending a message takes.
    #[must_use]
    pub fn to_send_message(&self, kind: &str) -> i64 {
        self.events
            .get(kind)
            .copied()
            .unwrap_or(self.events_default)
    }

    /// Whether somebody's level is enough.
    #[must_use]
    pub fn reaches(&self, user: &UserId, needed: i64) -> Allowance {
        match self.power(user) {
            Power::Level(have) if have < needed => Allowance::Short { needed, have },
            Power::Level(_) | Power::Creator => Allowance::Allowed,
        }
    }

    /// Whether somebody may send a state event, as far as levels go.
    #[must_use]
    pub fn can_send_state(&self, user: &UserId, kind: &str) -> Allowance {
        self.reaches(user, self.to_send_state(kind))
    }

    /// Who of `joined` has at least `needed`: creators first, then the highest; the first
    /// [`HOLDERS_SHOWN_MAX`].
    #[must_use]
    pub fn holders(&self, needed: i64, joined: &BTreeSet<OwnedUserId>) -> Vec<Holder> {
        let mut holders: Vec<_> = joined
            .iter()
            .map(|user| Holder {
                user: user.clone(),
                power: self.power(user),
            })
            .filter(|holder| holder.power >= Power::Level(needed))
            .collect();
        // A stable sort: among equals the order of the ids stays.
        holders.sort_by_key(|holder| Reverse(holder.power));
        holders.truncate(HOLDERS_SHOWN_MAX);
        holders
    }

    /// The highest level that anything in the room takes.
    fn highest_needed(&self) -> i64 {
        let single = [
            self.events_default,
            self.state_default,
            self.ban,
            self.kick,
            self.invite,
            self.redact,
        ];
        self.events
            .values()
            .copied()
            .chain(single)
            .max()
            .unwrap_or(0)
    }
}

/// What the new room's power levels depend on, beside the old ones.
#[derive(Debug, Clone, Copy)]
pub struct PowerRule<'a> {
    /// Version of the new room.
    pub to: &'a RoomVersionId,
    /// Creators of the new room: the bot and the additional ones. Used only where the version has
    /// creators.
    pub creators: &'a BTreeSet<OwnedUserId>,
    /// The least level that upgrading the new room should take, where the version has creators.
    /// `None`: what it takes stays as it is, since who is no creator can give no level above their
    /// own.
    pub tombstone_level: Option<i64>,
}

/// Power levels content of the new room, and what is to be said about the old ones.
///
/// Unknown keys are kept. To a version with creators, those leave `users` (its authorization rules
/// refuse them there, MSC4289), old creators that are none in the new room get the highest level,
/// and upgrading takes more than any level that is given out: otherwise anybody with level 100
/// could upgrade again and own the result. Back to a version without, old creators get a level
/// that suffices for everything.
#[must_use]
pub fn carried(old: &RoomState, rule: &PowerRule) -> (Content, Vec<Finding>) {
    let (mut content, levels) = read(old);
    let mut users = levels.users.clone();
    let highest = users.values().copied().max();
    if has_creators(rule.to) {
        users.retain(|user, _| !rule.creators.contains(user));
        let granted = users.values().copied().fold(CREATOR_LEVEL, i64::max);
        for user in levels.creators.difference(rule.creators) {
            users.insert(user.clone(), granted);
        }
        if let Some(least) = rule.tombstone_level {
            let given = users.values().copied().fold(levels.users_default, i64::max);
            let level = given
                .max(levels.state_default)
                .saturating_add(1)
                .max(least)
                .max(levels.to_send_state(TOMBSTONE));
            let mut events = levels.events.clone();
            events.insert(TOMBSTONE.to_owned(), in_range(level));
            content.insert("events".to_owned(), object(&events));
        }
    } else {
        let level = levels
            .highest_needed()
            .max(highest.unwrap_or(0))
            .max(CREATOR_LEVEL);
        for user in &levels.creators {
            users.insert(user.clone(), level);
        }
    }
    if !users.is_empty() || content.contains_key("users") {
        content.insert("users".to_owned(), object(&users));
    }
    (content, findings(&levels))
}

/// Whether a place in power levels is one that servers take a level from; what else is there is
/// somebody's own, and kept as it is.
#[must_use]
pub fn is_level(place: &str) -> bool {
    let key = place.split('.').next().unwrap_or(place);
    LEVELS.contains(&key) || ["users", "events", "notifications"].contains(&key)
}

/// Gives somebody as much power as anything in the room takes, and anybody has: what the bot needs
/// in a room without creators while it completes it.
pub(super) fn empower(content: &mut Content, user: &UserId) {
    let numbers = content
        .values()
        .flat_map(|value| match value {
            Value::Object(entries) => entries.values().collect(),
            other => vec![other],
        })
        .filter_map(Value::as_i64);
    let level = numbers.fold(CREATOR_LEVEL, i64::max);
    let users = content
        .entry("users")
        .or_insert_with(|| Value::Object(Content::new()));
    if let Some(users) = users.as_object_mut() {
        users.insert(user.to_string(), level.into());
    }
}

/// Content of the old room's power levels after it is closed, or `None` if nobody below the
/// moderators can write or invite already.
///
/// Writing and inviting take at least 50, and more than everybody has; nothing is lowered. Numbers
/// that were odd are put right: Synapse takes nothing else from a client.
/// Source: Matrix specification, "Room upgrades", server behaviour.
#[must_use]
pub fn locked(old: &RoomState) -> Option<Content> {
    let (mut content, levels) = read(old);
    let least = in_range(levels.users_default.saturating_add(1).max(CLOSED_LEVEL));
    let mut open = false;
    for (key, level) in [
        ("events_default", levels.events_default),
        ("invite", levels.invite),
    ] {
        if level < least {
            content.insert(key.to_owned(), least.into());
            open = true;
        }
    }
    let mut events = levels.events;
    for (_, level) in events
        .iter_mut()
        .filter(|(kind, level)| MESSAGE_KINDS.contains(&kind.as_str()) && **level < least)
    {
        *level = least;
        open = true;
    }
    if !events.is_empty() {
        content.insert("events".to_owned(), object(&events));
    }
    open.then_some(content)
}

/// What is to be said about power levels.
fn findings(levels: &PowerLevels) -> Vec<Finding> {
    if levels.presence == Presence::Missing {
        return vec![Finding::NoPowerLevels];
    }
    let places = |text| -> Vec<String> {
        levels
            .oddities
            .iter()
            .filter(|oddity| (oddity.kind == OddityKind::TextNumber) == text)
            .map(|oddity| oddity.place.clone())
            .collect()
    };
    let text = Some(places(true)).filter(|places| !places.is_empty());
    let broken = Some(places(false)).filter(|places| !places.is_empty());
    text.map(|places| Finding::TextLevels { places })
        .into_iter()
        .chain(broken.map(|places| Finding::BrokenPowerLevels { places }))
        .collect()
}

/// The content with every level an integer, and what it means.
fn read(state: &RoomState) -> (Content, PowerLevels) {
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
    super::state::content(json!({
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

/// One level.
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
fn as_level(value: &Value) -> (Option<i64>, Option<OddityKind>) {
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

fn in_range(level: i64) -> i64 {
    level.clamp(-LEVEL_MAX, LEVEL_MAX)
}

fn object<K: ToString>(levels: &BTreeMap<K, i64>) -> Value {
    levels
        .iter()
        .map(|(key, level)| (key.to_string(), Value::from(*level)))
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::super::state::content;
    use super::super::state::tests::room;
    use super::*;

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

    /// Any content.
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
}
