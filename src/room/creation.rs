//! The request that makes the new room when the bot does it itself, and what that room should be
//! until the old one points to it. Pure.
//!
//! Nobody can enter before the room is complete: one request makes all of it, and nothing leads to it
//! until the switch. Where it is seen or completed before that, it is by invitation until then
//! ([`StagedDoor`]). Left out: sending it, and what did not fit (`diff` finds that).
//!
//! Sources: Matrix specification, `POST /createRoom`; Synapse 1.163.2, measured: the time grows
//! with the square of the number of events; `power_level_content_override` replaces whole keys.

use std::collections::{BTreeMap, BTreeSet};

use ruma::OwnedRoomId;
use serde_json::{Value, json};

use super::intent::Intent;
use super::join_rules::JOIN_RULES;
use super::power::{self, POWER_LEVELS};
use super::state::{Content, Listing, RoomState, Slot, Snapshot, content, is_encrypted, slot};
use super::target::{Canonical, Target};
use super::versions::has_creators;
use crate::model::Review;

/// The homeserver whose own upgrade moves what nothing else can.
pub(super) const SYNAPSE: &str = "Synapse";

/// Key of the create event that names the command a room was made for: a room whose making was
/// not answered is found again by it.
pub const MARK: &str = "io.roomlift.command";

/// Events that are sent along; Synapse takes 4 s for so many and over 90 s for 2,000.
pub const INITIAL_STATE_MAX: usize = 300;

/// Their size together. Reverse proxies commonly refuse requests above 1 MB.
pub const INITIAL_STATE_BYTES_MAX: usize = 500_000;

/// What the create event of the old room says about that room alone.
const OF_OLD_ROOM: [&str; 5] = [
    "creator",
    "room_version",
    "predecessor",
    "additional_creators",
    MARK,
];

/// What every server's own upgrade keeps of the old room's create event.
const KEPT_BY_SERVER: &str = "type";

/// Whether other servers may take part in a room. Synapse's own upgrade keeps that a room is closed to them,
/// others open it.
/// Source: Synapse 1.163.2, `_calculate_upgraded_room_creation_content`; continuwuity, `upgrade_room`.
const FEDERATE: &str = "m.federate";

/// Keys of the create event that the server's own upgrade forgets. Nothing can add them later.
#[must_use]
pub fn forgotten_by_server(old: &RoomState, software: Option<&str>) -> Vec<String> {
    let create = old.content("m.room.create", "");
    create
        .into_iter()
        .flatten()
        .filter(|(key, value)| match key.as_str() {
            KEPT_BY_SERVER => false,
            FEDERATE => software != Some(SYNAPSE) && **value == json!(false),
            key => !OF_OLD_ROOM.contains(&key),
        })
        .map(|(key, _)| key.clone())
        .collect()
}

/// Who may enter the new room until the old one points to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StagedDoor {
    /// Only who is invited: moderators look at it first, or there is more of it than one request carries.
    Closed,
    /// Who may later. Nobody can: its id is known to the bot alone until the switch, and is in no directory,
    /// space or address; if the server left the room half made, it is completed before anything leads there.
    /// So it takes no event to open it.
    AsLater,
}

/// What the new room should be until the old one points to it: as it will be, with its door, and with
/// enough power for the bot to complete it. Of anything else it says nothing: until then the bot
/// touches nothing else (P6).
#[must_use]
pub fn staged(target: &Target, intent: &Intent) -> Target {
    let mut staged = Target {
        aliases: BTreeSet::new(),
        remote_aliases: BTreeSet::new(),
        canonical: Canonical::default(),
        listing: Listing::Private,
        others: BTreeMap::new(),
        lock: None,
        guests: Vec::new(),
        uninvited: BTreeSet::new(),
        unseen_spaces: BTreeSet::new(),
        ..target.clone()
    };
    if staged_door(&staged, intent) == StagedDoor::Closed {
        let closed = content(json!({"join_rule": "invite"}));
        staged.new_state.insert(slot(JOIN_RULES, ""), closed);
    }
    if !has_creators(&intent.version)
        && let Some(levels) = staged.new_state.get_mut(&slot(POWER_LEVELS, ""))
    {
        power::empower(levels, &intent.bot);
    }
    staged
}

fn staged_door(staged: &Target, intent: &Intent) -> StagedDoor {
    // Power levels travel beside the initial state.
    let levels = usize::from(staged.new_state.contains_key(&slot(POWER_LEVELS, "")));
    let all = staged.new_state.len() + staged.bans.len() - levels;
    if intent.review == Review::Wanted || initial_state(staged).len() < all {
        StagedDoor::Closed
    } else {
        StagedDoor::AsLater
    }
}

/// The body of the request. `mark` is the command's event id.
#[must_use]
pub fn request(before: &Snapshot, staged: &Target, intent: &Intent, mark: &str) -> Content {
    let old = &before.room;
    let mut create: Content = old
        .content("m.room.create", "")
        .cloned()
        .unwrap_or_default()
        .into_iter()
        .filter(|(key, _)| !OF_OLD_ROOM.contains(&key.as_str()))
        .collect();
    create.insert("predecessor".to_owned(), predecessor(old, intent));
    create.insert(MARK.to_owned(), json!(mark));
    if has_creators(&intent.version) && !intent.creators.is_empty() {
        create.insert("additional_creators".to_owned(), json!(intent.creators));
    }
    if let Some(kind) = intent.room_type {
        create.insert("type".to_owned(), json!(kind.name()));
    }
    let levels = staged.new_state.get(&slot(POWER_LEVELS, ""));
    content(json!({
        "room_version": intent.version,
        "preset": preset(old).name(),
        "visibility": "private",
        "creation_content": create,
        "power_level_content_override": levels,
        "initial_state": initial_state(staged),
    }))
}

/// What a room is made with. A server may encrypt those of one kind unasked.
/// Source: Synapse, `encryption_enabled_by_default_for_room_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Preset {
    /// `public_chat`.
    Public,
    /// `private_chat`; the server's own upgrade makes every room with it.
    Private,
}

impl Preset {
    fn name(self) -> &'static str {
        match self {
            Self::Public => "public_chat",
            Self::Private => "private_chat",
        }
    }
}

/// Everything that a preset sets is sent along in other words, but that a server may encrypt new rooms that
/// are not public, which cannot be undone.
#[must_use]
pub fn preset(old: &RoomState) -> Preset {
    let is_public = old
        .content(JOIN_RULES, "")
        .is_some_and(|rules| rules.get("join_rule").and_then(Value::as_str) == Some("public"));
    if is_public && !is_encrypted(old) {
        Preset::Public
    } else {
        Preset::Private
    }
}

/// Whether the new room was encrypted by whoever made it, though the old one is not: people who look at it may
/// do so on purpose.
#[must_use]
pub fn came_encrypted(old: &RoomState, new: &RoomState) -> bool {
    let sender = |kind: &str| new.event(kind, "").map(|event| &event.sender);
    is_encrypted(new)
        && !is_encrypted(old)
        && sender("m.room.encryption") == sender("m.room.create")
}

/// The room a create event stands for, if it carries this mark and was made by the bot.
#[must_use]
pub fn is_marked(room: &RoomState, intent: &Intent, mark: &str) -> bool {
    room.event("m.room.create", "").is_some_and(|event| {
        event.sender == intent.bot && event.content.get(MARK).and_then(Value::as_str) == Some(mark)
    })
}

/// The last known event is named only where versions want one.
/// Source: Matrix specification, room version 12: `event_id` is deprecated.
fn predecessor(old: &RoomState, intent: &Intent) -> Value {
    let room_id: &OwnedRoomId = &old.room_id;
    let last = old
        .events
        .values()
        .filter(|event| event.event_id.is_some())
        .max_by_key(|event| event.origin_server_ts)
        .and_then(|event| event.event_id.as_ref());
    match last {
        Some(event_id) if !has_creators(&intent.version) => {
            json!({"room_id": room_id, "event_id": event_id})
        }
        _ => json!({"room_id": room_id}),
    }
}

/// What is sent along: the specification's own types first, then the rest, then bans.
fn initial_state(staged: &Target) -> Vec<Value> {
    let mut slots: Vec<(&Slot, &Content)> = staged
        .new_state
        .iter()
        .filter(|(slot, _)| slot.0 != POWER_LEVELS)
        .collect();
    slots.sort_by_key(|(slot, _)| !slot.0.starts_with("m.room."));
    let state = slots
        .into_iter()
        .map(|(slot, content)| json!({"type": slot.0, "state_key": slot.1, "content": content}));
    let bans = staged.bans.iter().map(|(user, reason)| {
        let mut ban = content(json!({"membership": "ban"}));
        if let Some(reason) = reason {
            ban.insert("reason".to_owned(), json!(reason));
        }
        json!({"type": "m.room.member", "state_key": user, "content": ban})
    });
    let mut bytes = 0;
    state
        .chain(bans)
        .take(INITIAL_STATE_MAX)
        .take_while(|event| {
            bytes += event.to_string().len();
            bytes <= INITIAL_STATE_BYTES_MAX
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::intent::tests::intent;
    use super::super::state::tests::room;
    use super::super::target::{room_to_be, target};
    use super::*;

    fn before(extra: usize) -> Snapshot {
        let member = |membership: &str| json!({"membership": membership, "reason": "spam"});
        let keys: Vec<String> = (0..extra).map(|n| format!("key{n}")).collect();
        let mut events = vec![
            (
                "m.room.create",
                "",
                "@maria:x",
                json!({"room_version": "10", "creator": "@maria:x", "type": "m.space",
                    "m.federate": false, "org.example": 1, "predecessor": {"room_id": "!older:x"}}),
            ),
            (
                "m.room.power_levels",
                "",
                "@maria:x",
                json!({"users": {"@maria:x": 100, "@bot:x": 50}, "events": {"m.room.name": 75}}),
            ),
            (
                "m.room.join_rules",
                "",
                "@maria:x",
                json!({"join_rule": "public"}),
            ),
            (
                "m.room.canonical_alias",
                "",
                "@maria:x",
                json!({"alias": "#a:x"}),
            ),
            ("m.room.member", "@maria:x", "@maria:x", member("join")),
            ("m.room.member", "@spam:x", "@maria:x", member("ban")),
        ];
        events.extend(keys.iter().map(|key| {
            (
                "org.example.state",
                key.as_str(),
                "@maria:x",
                json!({"k": 1}),
            )
        }));
        Snapshot {
            room: room("!old:x", &events),
            replaced: [].into(),
            aliases: BTreeSet::new(),
            listing: Listing::Private,
            referrers: Vec::new(),
            known_successors: BTreeSet::new(),
        }
    }

    fn made(extra: usize, version: &str) -> Content {
        made_for(extra, version, Review::Skip)
    }

    fn made_for(extra: usize, version: &str, review: Review) -> Content {
        let before = before(extra);
        let intent = Intent {
            review,
            ..intent(version)
        };
        let staged = staged(&target(&before, &intent, &room_to_be()), &intent);
        request(&before, &staged, &intent, "$command")
    }

    #[test]
    fn the_new_room_is_marked_and_as_the_old_one_was() {
        let body = made(1, "11");
        let create = &body["creation_content"];
        assert_eq!(
            *create,
            json!({"type": "m.space", "m.federate": false, "org.example": 1,
                "predecessor": {"room_id": "!old:x"}, MARK: "$command"})
        );
        // Enough power for the bot to send everything, given back later.
        let users = &body["power_level_content_override"]["users"];
        assert_eq!(*users, json!({"@maria:x": 100, "@bot:x": 101}));
        let state = body["initial_state"].as_array().unwrap();
        let find = |kind: &str| {
            let event = state.iter().find(|event| event["type"] == kind);
            event.map(|event| event["content"].clone())
        };
        assert_eq!(
            find("m.room.member"),
            Some(json!({"membership": "ban", "reason": "spam"}))
        );
        assert_eq!(find("org.example.state"), Some(json!({"k": 1})));
        for kind in [
            "m.room.canonical_alias",
            "m.room.power_levels",
            "m.room.create",
        ] {
            assert_eq!(find(kind), None, "{kind}");
        }
        let members = state
            .iter()
            .filter(|event| event["type"] == "m.room.member");
        assert_eq!(members.count(), 1, "nobody but the banned");
    }

    /// An event that opens it later is spared where nobody can know the room before it is whole.
    #[test]
    fn the_new_room_is_closed_while_people_look_or_something_is_to_come() {
        let fit = INITIAL_STATE_MAX - made(0, "12")["initial_state"].as_array().unwrap().len();
        for (extra, review, expected) in [
            (1, Review::Skip, "public"),
            (1, Review::Wanted, "invite"),
            (fit, Review::Skip, "public"),
            (fit + 1, Review::Skip, "invite"),
        ] {
            let body = made_for(extra, "12", review);
            let state = body["initial_state"].as_array().unwrap();
            let rules = state
                .iter()
                .find(|event| event["type"] == "m.room.join_rules");
            let rules = rules.map(|event| &event["content"]["join_rule"]);
            assert_eq!(rules, Some(&json!(expected)), "{extra} {review:?}");
        }
    }

    #[test]
    fn creators_stand_above_levels_where_the_version_has_them() {
        let body = made(0, "12");
        let users = &body["power_level_content_override"]["users"];
        assert_eq!(*users, json!({"@maria:x": 100}));
    }

    #[test]
    fn what_is_too_much_for_one_request_comes_later() {
        let body = made(400, "12");
        let state = body["initial_state"].as_array().unwrap();
        assert_eq!(state.len(), INITIAL_STATE_MAX);
        // The specification's own types are never crowded out.
        assert!(
            state
                .iter()
                .any(|event| event["type"] == "m.room.join_rules")
        );
    }

    /// Whether a room that is closed to other servers stays so depends on the server.
    #[test]
    fn what_the_servers_own_upgrade_forgets_is_known() {
        let old = before(0).room;
        for (software, forgotten) in [
            (Some("Synapse"), vec!["org.example"]),
            (Some("continuwuity"), vec!["m.federate", "org.example"]),
            (None, vec!["m.federate", "org.example"]),
        ] {
            assert_eq!(forgotten_by_server(&old, software), forgotten);
        }
    }
}
