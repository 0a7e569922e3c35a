//! Who may send what.
//!
//! Source: Matrix specification, room versions 6 to 12, "Authorization rules"; Synapse where it is stricter.

use std::collections::{BTreeMap, BTreeSet};

use roomlift::room::state::Content;
use ruma::UserId;
use serde_json::Value;

use super::{Answer, Room, forbidden, refuse};

/// Power that is above all levels.
pub(crate) const CREATOR: i64 = i64::MAX;

/// The power levels of a room.
#[derive(Debug, Clone)]
pub(crate) struct Levels {
    pub(crate) creators: BTreeSet<String>,
    pub(crate) users: BTreeMap<String, i64>,
    pub(crate) users_default: i64,
    pub(crate) events: BTreeMap<String, i64>,
    pub(crate) events_default: i64,
    pub(crate) state_default: i64,
    pub(crate) ban: i64,
    pub(crate) kick: i64,
    pub(crate) invite: i64,
    pub(crate) redact: i64,
}

/// Whether creators stand above all levels.
pub(crate) fn has_creators(version: &str) -> bool {
    version == "12"
}

/// A level, also one that older rooms have as a string.
fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn map(content: &Content, key: &str) -> BTreeMap<String, i64> {
    let map = content.get(key).and_then(Value::as_object);
    map.into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), number(value)?)))
        .collect()
}

impl Levels {
    pub(crate) fn of(room: &Room) -> Self {
        let create = room.event("m.room.create", "");
        let mut creators: BTreeSet<String> = BTreeSet::new();
        let creator = create.map(|event| event.sender.to_string());
        if has_creators(&room.version) {
            creators.extend(creator.clone());
            let more = create.and_then(|event| event.content.get("additional_creators"));
            let more = more.and_then(Value::as_array).into_iter().flatten();
            creators.extend(more.filter_map(|user| user.as_str().map(ToOwned::to_owned)));
        }
        match room.content("m.room.power_levels", "") {
            Some(content) => Self::read(content, creators),
            None => Self {
                users: creator.into_iter().map(|user| (user, 100)).collect(),
                state_default: 0,
                ..Self::read(&Content::new(), creators)
            },
        }
    }

    pub(crate) fn read(content: &Content, creators: BTreeSet<String>) -> Self {
        let level = |key: &str, default| content.get(key).and_then(number).unwrap_or(default);
        Self {
            creators,
            users: map(content, "users"),
            users_default: level("users_default", 0),
            events: map(content, "events"),
            events_default: level("events_default", 0),
            state_default: level("state_default", 50),
            ban: level("ban", 50),
            kick: level("kick", 50),
            invite: level("invite", 0),
            redact: level("redact", 50),
        }
    }

    pub(crate) fn of_user(&self, user: &UserId) -> i64 {
        if self.creators.contains(user.as_str()) {
            return CREATOR;
        }
        let level = self.users.get(user.as_str()).copied();
        level.unwrap_or(self.users_default)
    }

    pub(crate) fn to_send(&self, kind: &str, is_state: bool) -> i64 {
        let default = if is_state {
            self.state_default
        } else {
            self.events_default
        };
        self.events.get(kind).copied().unwrap_or(default)
    }
}

/// Whether a member of a room may send an event.
pub(crate) fn may_send(
    room: &Room,
    by: &UserId,
    kind: &str,
    key: Option<&str>,
    content: &Content,
) -> Answer<()> {
    let levels = Levels::of(room);
    let (have, need) = (levels.of_user(by), levels.to_send(kind, key.is_some()));
    if have < need {
        return forbidden(format!(
            "You don't have permission to post that to the room. user_level ({have}) < send_level ({need})"
        ));
    }
    if key.is_some_and(|key| key.starts_with('@') && key != by) {
        return forbidden("You are not allowed to set others state");
    }
    if kind == "m.room.power_levels" && key == Some("") {
        may_change_levels(room, by, have, content)?;
    }
    Ok(())
}

/// Source: "Authorization rules", `m.room.power_levels`.
fn may_change_levels(room: &Room, by: &UserId, have: i64, content: &Content) -> Answer<()> {
    let before = Levels::of(room);
    let users = content.get("users").and_then(Value::as_object);
    let mut named = users.into_iter().flat_map(|users| users.keys());
    if named.any(|user| <&UserId>::try_from(user.as_str()).is_err()) {
        return refuse(400, "M_UNKNOWN", "Not a valid user_id");
    }
    if let Some(user) = users
        .into_iter()
        .flatten()
        .map(|(user, _)| user)
        .find(|user| before.creators.contains(*user))
    {
        return refuse(
            400,
            "M_UNKNOWN",
            format!("Creator user {user} must not appear in content.users"),
        );
    }
    if room.content("m.room.power_levels", "").is_none() {
        return Ok(());
    }
    let after = Levels::read(content, before.creators.clone());
    let raised = |old: Option<i64>, new: Option<i64>| {
        old != new
            && (old.is_some_and(|level| level > have) || new.is_some_and(|level| level > have))
    };
    let no = || forbidden("You don't have permission to add ops level greater than your own");
    let single = |levels: &Levels| {
        [
            levels.users_default,
            levels.events_default,
            levels.state_default,
            levels.ban,
            levels.kick,
            levels.invite,
            levels.redact,
        ]
    };
    for (old, new) in single(&before).into_iter().zip(single(&after)) {
        if raised(Some(old), Some(new)) {
            return no();
        }
    }
    let keys: BTreeSet<_> = before.events.keys().chain(after.events.keys()).collect();
    for key in keys {
        if raised(
            before.events.get(key).copied(),
            after.events.get(key).copied(),
        ) {
            return no();
        }
    }
    let users: BTreeSet<_> = before.users.keys().chain(after.users.keys()).collect();
    for user in users {
        let (old, new) = (
            before.users.get(user).copied(),
            after.users.get(user).copied(),
        );
        if raised(old, new) {
            return no();
        }
        if old != new && user != by.as_str() && old.is_some_and(|level| level >= have) {
            return forbidden("You don't have permission to remove ops level equal to your own");
        }
    }
    Ok(())
}

/// What is left of content after a redaction.
/// Source: Matrix specification, "Redactions".
pub(crate) fn redacted(version: &str, kind: &str, content: &Content) -> Content {
    let is_new = ["11", "12"].contains(&version);
    let kept: &[&str] = match kind {
        "m.room.member" => &["membership", "join_authorised_via_users_server"],
        "m.room.create" if is_new => return content.clone(),
        "m.room.create" => &["creator"],
        "m.room.join_rules" => &["join_rule", "allow"],
        "m.room.redaction" if is_new => &["redacts"],
        "m.room.power_levels" if !is_new => &[
            "ban",
            "events",
            "events_default",
            "kick",
            "redact",
            "state_default",
            "users",
            "users_default",
        ],
        "m.room.power_levels" => &[
            "ban",
            "events",
            "events_default",
            "invite",
            "kick",
            "redact",
            "state_default",
            "users",
            "users_default",
        ],
        "m.room.history_visibility" => &["history_visibility"],
        _ => &[],
    };
    content
        .iter()
        .filter(|(key, _)| kept.contains(&key.as_str()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}
