//! `/upgrade`, as known servers do it.
//!
//! Source: Synapse 1.163.2, `RoomCreationHandler.upgrade_room`, and measured there; Palpo 0.4.0
//! measured, the others read.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use roomlift::room::state::Content;
use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use serde_json::{Value, json};

use super::auth::{Levels, has_creators, may_send};
use super::membership::may_be;
use super::{Address, Answer, Room, VERSIONS, World, content, refuse, shown};

/// What the homeserver is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Software {
    Synapse,
    /// What the specification lists, and nothing that it recommends.
    Bare,
    /// Sends the tombstone before it fills the room, and locks the new room too.
    Palpo,
    /// Has no `/upgrade`.
    Construct,
}

impl Software {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Synapse => "Synapse",
            Self::Bare => "Bare",
            Self::Palpo => "Palpo",
            Self::Construct => "Construct",
        }
    }
}

/// Where an upgrade breaks off, as of a server that ends in the middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UpgradeStop {
    BeforeTombstone,
    AfterTombstone,
    /// After the tombstone, where whoever asked for it has left the new room.
    AfterLeaving,
}

/// How long Synapse remembers its own upgrades.
const REMEMBERED: SignedDuration = SignedDuration::from_mins(5);

/// What Synapse copies. Power levels come with it.
const COPIED: [&str; 8] = [
    "m.room.join_rules",
    "m.room.name",
    "m.room.topic",
    "m.room.history_visibility",
    "m.room.guest_access",
    "m.room.avatar",
    "m.room.encryption",
    "m.room.server_acl",
];

/// A level at which ordinary members cannot speak in, or invite to, a room that was replaced.
const LOCKED: i64 = 50;

impl World {
    /// The server's own upgrade.
    pub(crate) fn upgrade(
        &mut self,
        by: &UserId,
        old: &RoomId,
        version: &str,
        creators: &BTreeSet<OwnedUserId>,
    ) -> Answer<OwnedRoomId> {
        if self.software == Software::Construct {
            return refuse(501, "M_UNSUPPORTED", "Not yet implemented.");
        }
        if !VERSIONS.contains(&version) {
            return refuse(
                400,
                "M_UNSUPPORTED_ROOM_VERSION",
                "Your homeserver does not support this room version",
            );
        }
        if self.software == Software::Synapse
            && let Some((who, new, until)) = self.upgraded.get(old)
            && *until > self.now
        {
            if who == by {
                return Ok(new.clone());
            }
            return refuse(
                400,
                "M_UNKNOWN",
                "An upgrade for this room is currently in progress",
            );
        }
        let room = self.room(old)?;
        if self.software != Software::Palpo {
            if room.membership(by) != "join" {
                return super::forbidden(format!("User {by} not in room {old}"));
            }
            may_send(room, by, "m.room.tombstone", Some(""), &tombstone_to(old))?;
        }
        match self.software {
            Software::Palpo => self.upgrade_as_palpo(by, old, version, creators),
            Software::Bare => self.upgrade_barely(by, old, version, creators),
            _ => self.upgrade_as_synapse(by, old, version, creators),
        }
    }

    fn create_content(
        &self,
        old: &RoomId,
        version: &str,
        creators: &BTreeSet<OwnedUserId>,
    ) -> Content {
        let before = self
            .rooms
            .get(old)
            .and_then(|room| room.content("m.room.create", ""));
        let mut create =
            content(json!({ "predecessor": { "room_id": old }, "room_version": version }));
        if let Some(kind) = before.and_then(|before| before.get("type")) {
            create.insert("type".to_owned(), kind.clone());
        }
        if before.and_then(|before| before.get("m.federate")) == Some(&json!(false)) {
            create.insert("m.federate".to_owned(), json!(false));
        }
        if has_creators(version) && !creators.is_empty() {
            create.insert("additional_creators".to_owned(), json!(creators));
        }
        create
    }

    fn breaks_off(&mut self, at: UpgradeStop) -> Answer<()> {
        if self.upgrade_stops == Some(at) {
            self.upgrade_stops = None;
            return refuse(500, "M_UNKNOWN", "Internal server error");
        }
        Ok(())
    }

    fn tombstone(&mut self, by: &UserId, old: &RoomId, new: &RoomId) -> Answer<()> {
        self.put_state(by, old, "m.room.tombstone", "", &tombstone_to(new))
            .map(drop)
    }

    fn upgrade_as_synapse(
        &mut self,
        by: &UserId,
        old: &RoomId,
        version: &str,
        creators: &BTreeSet<OwnedUserId>,
    ) -> Answer<OwnedRoomId> {
        let before = self.room(old)?.clone();
        let levels = before.content("m.room.power_levels", "");
        let Some(levels) = levels.and_then(in_integers) else {
            return refuse(500, "M_UNKNOWN", "Internal server error");
        };
        let tombstone = self.new_event_id();
        let mut create = self.create_content(old, version, creators);
        if !has_creators(version) {
            create["predecessor"]["event_id"] = json!(tombstone);
        }
        if !["11", "12"].contains(&version) {
            create.insert("creator".to_owned(), json!(by));
        }
        let new = self.begin_room(by, version, create);
        let levels_at_last = without_creators(version, levels.clone(), by, creators);
        let raised = without_creators(version, raised(levels, by), by, creators);
        if let Err(refusal) = self.clone_room(by, &before, &new, raised) {
            self.strip_room(&new);
            return Err(refusal);
        }
        self.copy_bans(by, &before, &new)?;
        self.breaks_off(UpgradeStop::BeforeTombstone)?;
        let content = tombstone_to(&new);
        self.append_as(tombstone, old, by, "m.room.tombstone", Some(""), content);
        self.upgraded.insert(
            old.to_owned(),
            (by.to_owned(), new.clone(), self.now + REMEMBERED),
        );
        self.breaks_off(UpgradeStop::AfterTombstone)?;
        self.move_addresses_as_synapse(by, old, &new);
        for user in before.members("join") {
            if let Some(tag) = self.tags.get(&(user.clone(), old.to_owned())).cloned() {
                self.tags.insert((user, new.clone()), tag);
            }
        }
        if self.listed.remove(old) {
            self.listed.insert(new.clone());
        }
        self.lock(by, old);
        self.put_state(by, &new, "m.room.power_levels", "", &levels_at_last)?;
        Ok(new)
    }

    /// What Synapse copies, into a room that has its creator's join so far.
    fn clone_room(
        &mut self,
        by: &UserId,
        before: &Room,
        new: &OwnedRoomId,
        levels: Content,
    ) -> Answer<()> {
        self.place(by, new, "m.room.power_levels", "", levels)?;
        for (kind, missing) in [
            ("m.room.join_rules", json!({ "join_rule": "invite" })),
            (
                "m.room.history_visibility",
                json!({ "history_visibility": "shared" }),
            ),
            ("m.room.guest_access", json!({ "guest_access": "can_join" })),
        ] {
            if before.content(kind, "").is_none() {
                self.place(by, new, kind, "", content(missing))?;
            }
        }
        for kind in COPIED {
            if let Some(copied) = before.content(kind, "") {
                self.place(by, new, kind, "", copied.clone())?;
            }
        }
        let create = before.content("m.room.create", "");
        if create.and_then(|create| create.get("type")) == Some(&json!("m.space")) {
            let children = before.of_kind("m.space.child");
            for child in children.filter(|child| !child.content.is_empty()) {
                let key = child.state_key.as_deref().unwrap_or_default();
                self.place(by, new, &child.kind, key, child.content.clone())?;
            }
        }
        if self.encrypts_new_rooms && before.content("m.room.encryption", "").is_none() {
            let algorithm = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
            self.place(by, new, "m.room.encryption", "", content(algorithm))?;
        }
        Ok(())
    }

    /// All bans, or none.
    fn copy_bans(&mut self, by: &UserId, before: &Room, new: &OwnedRoomId) -> Answer<()> {
        let bans = before
            .of_kind("m.room.member")
            .filter(|event| event.text("membership") == Some("ban"));
        let bans: Vec<_> = bans
            .filter_map(|ban| Some((ban.state_key.as_deref()?, ban.content.clone())))
            .collect();
        for (user, _) in &bans {
            if let Ok(user) = <&UserId>::try_from(*user) {
                may_be(self.room(new)?, by, user, "ban")?;
            }
        }
        for (user, content) in bans {
            self.append(new, by, "m.room.member", Some(user), content);
        }
        Ok(())
    }

    /// All local addresses lead to the new room at once; those shown move with them, remote ones stay.
    fn move_addresses_as_synapse(&mut self, by: &UserId, old: &RoomId, new: &OwnedRoomId) {
        let local = self.local_aliases(old);
        for alias in &local {
            if let Some(Address { room, .. }) = self.aliases.get_mut(alias) {
                room.clone_from(new);
            }
        }
        self.watch_addresses();
        let Some(before) = self.rooms[old]
            .content("m.room.canonical_alias", "")
            .cloned()
        else {
            return;
        };
        let is_local = |alias: &str| local.iter().any(|known| known == alias);
        let part = |wanted: bool| {
            let mut part = Content::new();
            if let Some(main) = before.get("alias").and_then(Value::as_str)
                && is_local(main) == wanted
            {
                part.insert("alias".to_owned(), json!(main));
            }
            let others: Vec<_> = before
                .get("alt_aliases")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
                .filter(|alias| alias.as_str().is_some_and(is_local) == wanted)
                .cloned()
                .collect();
            if !others.is_empty() {
                part.insert("alt_aliases".to_owned(), json!(others));
            }
            part
        };
        debug_assert!(shown(&before).len() >= shown(&part(true)).len());
        // What is refused is only logged there.
        let _old = self.put_state(by, old, "m.room.canonical_alias", "", &part(false));
        let _new = self.put_state(by, new, "m.room.canonical_alias", "", &part(true));
    }

    /// Raises what it takes to speak in the old room and to invite to it.
    fn lock(&mut self, by: &UserId, old: &RoomId) {
        let Some(mut levels) = self.rooms[old].content("m.room.power_levels", "").cloned() else {
            return;
        };
        let default = Levels::of(&self.rooms[old]).users_default;
        let least = LOCKED.max(default.saturating_add(1));
        let before = levels.clone();
        for key in ["events_default", "invite"] {
            let level = levels.get(key).and_then(Value::as_i64).unwrap_or(0);
            if level < least {
                levels.insert(key.to_owned(), json!(least));
            }
        }
        if levels == before {
            return;
        }
        let _answer = self.put_state(by, old, "m.room.power_levels", "", &levels);
    }

    fn upgrade_barely(
        &mut self,
        by: &UserId,
        old: &RoomId,
        version: &str,
        creators: &BTreeSet<OwnedUserId>,
    ) -> Answer<OwnedRoomId> {
        let mut body = content(json!({ "room_version": version, "preset": "private_chat" }));
        let create = self.create_content(old, version, creators);
        body.insert("creation_content".to_owned(), Value::Object(create));
        let new = self.create_room(by, &body)?;
        self.breaks_off(UpgradeStop::BeforeTombstone)?;
        self.tombstone(by, old, &new)?;
        self.breaks_off(UpgradeStop::AfterTombstone)?;
        if self.upgrade_stops == Some(UpgradeStop::AfterLeaving) {
            self.leave(by, &new)?;
        }
        self.breaks_off(UpgradeStop::AfterLeaving)?;
        Ok(new)
    }

    /// The create event alone, then the tombstone, then the rest.
    fn upgrade_as_palpo(
        &mut self,
        by: &UserId,
        old: &RoomId,
        version: &str,
        creators: &BTreeSet<OwnedUserId>,
    ) -> Answer<OwnedRoomId> {
        let before = self.room(old)?.clone();
        let mut create = before
            .content("m.room.create", "")
            .cloned()
            .unwrap_or_default();
        create.remove("creator");
        create.extend(self.create_content(old, version, creators));
        let new = self.bare_room(by, version, create);
        self.breaks_off(UpgradeStop::BeforeTombstone)?;
        self.tombstone(by, old, &new)?;
        self.breaks_off(UpgradeStop::AfterTombstone)?;
        self.set_member(&new, by, by, content(json!({ "membership": "join" })));
        for kind in COPIED {
            if let Some(copied) = before.content(kind, "") {
                self.append(&new, by, kind, Some(""), copied.clone());
            }
        }
        // Addresses stay, bans stay; the new room gets the levels of the locked old one.
        self.lock(by, old);
        if let Some(levels) = self.rooms[old].content("m.room.power_levels", "").cloned() {
            let levels = without_creators(version, levels, by, creators);
            self.append(&new, by, "m.room.power_levels", Some(""), levels);
        }
        Ok(new)
    }
}

fn tombstone_to(new: &RoomId) -> Content {
    content(json!({ "body": "This room has been replaced", "replacement_room": new }))
}

/// Levels that are strings, as integers; nothing where others are no numbers either.
/// Source: Synapse, `copy_and_fixup_power_levels_contents`.
fn in_integers(levels: &Content) -> Option<Content> {
    let integer = |value: &Value| match value {
        Value::String(text) => text.trim().parse::<i64>().ok().map(Value::from),
        value => value.as_i64().map(Value::from),
    };
    let fixed = |value: &Value| match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| Some((key.clone(), integer(value)?)))
            .collect::<Option<Content>>()
            .map(Value::Object),
        value => integer(value),
    };
    let fixed = levels
        .iter()
        .map(|(key, value)| Some((key.clone(), fixed(value)?)));
    fixed.collect()
}

/// Levels that let somebody put everything into the new room.
fn raised(mut levels: Content, by: &UserId) -> Content {
    let level = |key: &str, default| levels.get(key).and_then(Value::as_i64).unwrap_or(default);
    let events = levels.get("events").and_then(Value::as_object);
    let events = events.into_iter().flatten();
    let highest = events.filter_map(|(_, level)| level.as_i64()).max();
    let needed = level("state_default", 50)
        .max(level("ban", 50))
        .max(highest.unwrap_or(0));
    let default = level("users_default", 0);
    let users = levels.entry("users").or_insert(json!({}));
    let own = users.get(by.as_str()).and_then(Value::as_i64);
    if own.unwrap_or(default) < needed {
        users[by.as_str()] = json!(needed);
    }
    levels
}

/// Creators are in no list.
fn without_creators(
    version: &str,
    mut levels: Content,
    by: &UserId,
    creators: &BTreeSet<OwnedUserId>,
) -> Content {
    if has_creators(version)
        && let Some(Value::Object(users)) = levels.get_mut("users")
    {
        users.retain(|user, _| user != by && !creators.iter().any(|creator| creator == user));
    }
    levels
}
