//! Power levels: who may do what, what of it the new room gets, and how the old one is closed.
//!
//! Reads leniently and writes strictly: what comes out is always numbers within range. Left out on
//! purpose: whether an oddity forbids the upgrade, which is for the caller to say.
//!
//! Sources: Matrix specification, `m.room.power_levels` and the authorization rules of each room
//! version; MSC3667 (integers since version 10); MSC4289 (creators since version 12).

mod read;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use ruma::{OwnedUserId, RoomVersionId, UserId};
use serde_json::Value;

use self::read::{LEVELS, as_level, in_range, object, read};
use super::finding::{Finding, HOLDERS_SHOWN_MAX, Holder};
use super::level::{Allowance, Power};
use super::state::{Content, RoomState};
use super::versions::has_creators;

/// Type of the power levels event.
pub(crate) const POWER_LEVELS: &str = "m.room.power_levels";

/// Type of the event that closes a room.
const TOMBSTONE: &str = "m.room.tombstone";

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
    pub kind: OddityKind,
}

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
    pub users: BTreeMap<OwnedUserId, i64>,
    /// Level of everybody else.
    pub users_default: i64,
    /// Level that an event type takes.
    pub events: BTreeMap<String, i64>,
    /// Level that any other message takes.
    pub events_default: i64,
    /// Level that any other state event takes.
    pub state_default: i64,
    pub ban: i64,
    /// Level to remove somebody.
    pub kick: i64,
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

impl RoomState {
    /// Power levels, read leniently.
    #[must_use]
    pub fn power(&self) -> PowerLevels {
        PowerLevels::of(self)
    }
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
pub(crate) struct PowerRule<'a> {
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
pub(crate) fn carried(old: &RoomState, rule: &PowerRule) -> (Content, Vec<Finding>) {
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

/// Gives somebody as much power as anything in the room takes, and more than anybody has: what the
/// bot needs in a room without creators while it completes it, and bans those banned before.
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
        users.insert(user.to_string(), in_range(level.saturating_add(1)).into());
    }
}

/// Content of the old room's power levels after it is closed, or `None` if nobody below the
/// moderators can write or invite already.
///
/// Writing and inviting take at least 50, and more than everybody has; nothing is lowered. Numbers
/// that were odd are put right: Synapse takes nothing else from a client.
/// Source: Matrix specification, "Room upgrades", server behaviour.
pub(crate) fn locked(old: &RoomState) -> Option<Content> {
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

/// Power levels of a closed room without what closing raises, which is taken from those it had when it was
/// `open`. Everything else is as it is now: whoever lost power since does not get it back (P12).
pub(crate) fn reopened(now: &Content, open: &Content) -> Content {
    let level = |content: &Content, key: &str| content.get(key).and_then(|value| as_level(value).0);
    let mut content = now.clone();
    for key in ["events_default", "invite"] {
        // Both are 0 where nothing is said.
        if level(now, key).unwrap_or(0) > level(open, key).unwrap_or(0) {
            match open.get(key) {
                Some(before) => content.insert(key.to_owned(), before.clone()),
                None => content.remove(key),
            };
        }
    }
    let before = open.get("events").and_then(Value::as_object);
    if let Some(Value::Object(events)) = content.get_mut("events") {
        for kind in MESSAGE_KINDS {
            let Some(level_now) = events.get(kind).and_then(|value| as_level(value).0) else {
                continue;
            };
            match before.and_then(|before| before.get(kind)) {
                Some(before) if as_level(before).0.is_some_and(|before| before < level_now) => {
                    events.insert(kind.to_owned(), before.clone());
                }
                Some(_) => {}
                None => drop(events.remove(kind)),
            }
        }
    }
    content
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

/// Whether a place in power levels is one that servers take a level from; what else is there is
/// somebody's own, and kept as it is.
pub(crate) fn is_level(place: &str) -> bool {
    let key = place.split('.').next().unwrap_or(place);
    LEVELS.contains(&key) || ["users", "events", "notifications"].contains(&key)
}

#[cfg(test)]
pub(crate) mod tests;
