//! `/createRoom`.
//!
//! Source: Matrix specification, "Creation"; Synapse 1.163.2, `RoomCreationHandler`, also for what is left
//! behind when an event is refused half-way.

use std::collections::BTreeMap;

use roomlift::room::state::Content;
use ruma::{OwnedRoomId, UserId};
use serde_json::{Value, json};

use super::auth::{has_creators, may_send};
use super::membership::{may_ban_odd, may_be};
use super::valid::validate;
use super::{Answer, Room, SERVER, VERSIONS, World, content, refuse};

impl World {
    /// Makes a room from the body of the request.
    pub(crate) fn create_room(&mut self, by: &UserId, body: &Content) -> Answer<OwnedRoomId> {
        let text = |key: &str| body.get(key).and_then(Value::as_str);
        let version = text("room_version").unwrap_or("12").to_owned();
        if !VERSIONS.contains(&version.as_str()) {
            return refuse(
                400,
                "M_UNSUPPORTED_ROOM_VERSION",
                "Your homeserver does not support this room version",
            );
        }
        let mut create = object(body, "creation_content");
        let more = create
            .get("additional_creators")
            .cloned()
            .unwrap_or(json!([]));
        let valid = |user: &Value| {
            user.as_str()
                .is_some_and(|user| <&UserId>::try_from(user).is_ok())
        };
        if has_creators(&version) && !more.as_array().is_some_and(|users| users.iter().all(valid)) {
            return refuse(
                400,
                "M_FORBIDDEN",
                "entry in additional_creators is not a valid user ID",
            );
        }
        if let Some(name) = text("room_alias_name") {
            let alias = format!("#{name}:{SERVER}");
            if self.aliases.keys().any(|known| *known == alias) {
                return refuse(400, "M_ROOM_IN_USE", "Room alias already taken");
            }
        }
        let visibility = text("visibility").unwrap_or("private");
        let preset = text("preset").unwrap_or(if visibility == "public" {
            "public_chat"
        } else {
            "private_chat"
        });
        if !["public_chat", "private_chat", "trusted_private_chat"].contains(&preset) {
            return refuse(400, "M_BAD_JSON", "not a valid preset");
        }
        let levels = levels(by, &version, preset, body);
        if !has_creators(&version) && !object(&levels, "users").contains_key(by.as_str()) {
            return refuse(400, "M_UNKNOWN", "'users' did not contain the creator");
        }
        create.insert("room_version".to_owned(), json!(version));
        if !["11", "12"].contains(&version.as_str()) {
            create.insert("creator".to_owned(), json!(by));
        }
        let id = self.begin_room(by, &version, create);
        if let Err(refusal) = self.fill_room(by, &id, preset, levels, body) {
            self.strip_room(&id);
            return Err(refusal);
        }
        let invited = body.get("invite").and_then(Value::as_array);
        for user in invited.into_iter().flatten().filter_map(Value::as_str) {
            if let Ok(user) = <&UserId>::try_from(user) {
                self.invite(by, &id, user, None)?;
            }
        }
        if visibility == "public" {
            // Where it is not allowed the room stays out of the directory, without a word.
            let _listed = self.set_listed(by, &id, true);
        }
        Ok(id)
    }

    /// A room with nothing in it but its creator.
    pub(super) fn begin_room(
        &mut self,
        by: &UserId,
        version: &str,
        create: Content,
    ) -> OwnedRoomId {
        let id = self.bare_room(by, version, create);
        self.set_member(&id, by, by, content(json!({ "membership": "join" })));
        id
    }

    /// A room with its create event alone.
    pub(super) fn bare_room(&mut self, by: &UserId, version: &str, create: Content) -> OwnedRoomId {
        let number = self.next_id();
        let id = if has_creators(version) {
            format!("!r{number}")
        } else {
            format!("!r{number}:{SERVER}")
        };
        let id: OwnedRoomId = id.parse().expect("a room id");
        let room = Room {
            id: id.clone(),
            version: version.to_owned(),
            events: Vec::new(),
            state: BTreeMap::new(),
        };
        self.rooms.insert(id.clone(), room);
        self.append(&id, by, "m.room.create", Some(""), create);
        id
    }

    /// Takes a room back to its creator's join: what comes after is sent at once, or not at all.
    pub(super) fn strip_room(&mut self, id: &OwnedRoomId) {
        let room = self.rooms.get_mut(id).expect("it was made");
        room.events.truncate(2);
        let left = room.events.len();
        room.state.retain(|_, at| *at < left);
    }

    /// What a new room has from its beginning.
    fn fill_room(
        &mut self,
        by: &UserId,
        id: &OwnedRoomId,
        preset: &str,
        levels: Content,
        body: &Content,
    ) -> Answer<()> {
        let initial = initial_state(body);
        let of_initial = |kind: &str| {
            initial
                .iter()
                .find(|event| event.0 == kind)
                .map(|event| event.2.clone())
        };
        self.place(
            by,
            id,
            "m.room.power_levels",
            "",
            of_initial("m.room.power_levels").unwrap_or(levels),
        )?;
        if let Some(name) = body.get("room_alias_name").and_then(Value::as_str) {
            let alias = format!("#{name}:{SERVER}");
            let Ok(alias) = ruma::OwnedRoomAliasId::try_from(alias) else {
                return refuse(400, "M_INVALID_PARAM", "invalid alias");
            };
            self.create_alias(by, &alias, id)?;
            self.place(
                by,
                id,
                "m.room.canonical_alias",
                "",
                content(json!({ "alias": alias })),
            )?;
        }
        let is_public = preset == "public_chat";
        let rule = if is_public { "public" } else { "invite" };
        let mut defaults = vec![
            ("m.room.join_rules", json!({ "join_rule": rule })),
            (
                "m.room.history_visibility",
                json!({ "history_visibility": "shared" }),
            ),
        ];
        if !is_public {
            defaults.push(("m.room.guest_access", json!({ "guest_access": "can_join" })));
        }
        for (kind, default) in defaults {
            if of_initial(kind).is_none() {
                self.place(by, id, kind, "", content(default))?;
            }
        }
        for (kind, key, content) in &initial {
            if kind != "m.room.power_levels" {
                self.place(by, id, kind, key, content.clone())?;
            }
        }
        if self.encrypts_new_rooms && !is_public && of_initial("m.room.encryption").is_none() {
            let algorithm = json!({ "algorithm": "m.megolm.v1.aes-sha2" });
            self.place(by, id, "m.room.encryption", "", content(algorithm))?;
        }
        if let Some(name) = body.get("name") {
            self.place(by, id, "m.room.name", "", content(json!({ "name": name })))?;
        }
        if let Some(topic) = body.get("topic") {
            let text = json!({ "m.text": [{ "body": topic }] });
            let topic = json!({ "topic": topic, "m.topic": text });
            self.place(by, id, "m.room.topic", "", content(topic))?;
        }
        Ok(())
    }

    /// Puts a state event into a new room.
    pub(super) fn place(
        &mut self,
        by: &UserId,
        id: &OwnedRoomId,
        kind: &str,
        key: &str,
        content: Content,
    ) -> Answer<()> {
        let room = self.room(id)?;
        validate(room, kind, Some(key), &content)?;
        if kind == "m.room.member" {
            let membership = content.get("membership").and_then(Value::as_str);
            match <&UserId>::try_from(key) {
                Ok(user) => may_be(room, by, user, membership.unwrap_or_default())?,
                Err(_) if membership == Some("ban") => may_ban_odd(room, by, key)?,
                Err(_) => return super::forbidden("Invalid user id"),
            }
        } else {
            may_send(room, by, kind, Some(key), &content)?;
        }
        if kind == "m.room.canonical_alias" {
            self.check_shown_aliases(room, &content)?;
        }
        self.append(id, by, kind, Some(key), content);
        Ok(())
    }
}

fn object(body: &Content, key: &str) -> Content {
    body.get(key)
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default()
}

/// The initial state: of two events in one slot the first keeps its place and the second its content.
fn initial_state(body: &Content) -> Vec<(String, String, Content)> {
    let mut events: Vec<(String, String, Content)> = Vec::new();
    let listed = body.get("initial_state").and_then(Value::as_array);
    for event in listed.into_iter().flatten() {
        let text = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default();
        let content = event.get("content").and_then(Value::as_object).cloned();
        let (kind, key, content) = (text("type"), text("state_key"), content.unwrap_or_default());
        match events
            .iter_mut()
            .find(|known| known.0 == kind && known.1 == key)
        {
            Some(known) => known.2 = content,
            None => events.push((kind.to_owned(), key.to_owned(), content)),
        }
    }
    events
}

/// Source: Synapse 1.163.2, `_send_events_for_new_room`; an override replaces whole keys.
fn levels(by: &UserId, version: &str, preset: &str, body: &Content) -> Content {
    let creators = has_creators(version);
    let mut levels = content(json!({
        "users": {},
        "users_default": 0,
        "events": {
            "m.room.name": 50,
            "m.room.power_levels": 100,
            "m.room.history_visibility": 100,
            "m.room.canonical_alias": 50,
            "m.room.avatar": 50,
            "m.room.tombstone": if creators { 150 } else { 100 },
            "m.room.server_acl": 100,
            "m.room.encryption": 100,
        },
        "events_default": 0,
        "state_default": 50,
        "ban": 50,
        "kick": 50,
        "redact": 50,
        "invite": if preset == "public_chat" { 50 } else { 0 },
        "historical": 100,
    }));
    if !creators {
        levels.insert("users".to_owned(), json!({ by.as_str(): 100 }));
    }
    if preset == "public_chat"
        && let Some(Value::Object(events)) = levels.get_mut("events")
    {
        events.insert("m.call.invite".to_owned(), json!(50));
    }
    if let Some(Value::Object(wanted)) = body.get("power_level_content_override") {
        for (key, value) in wanted {
            levels.insert(key.clone(), value.clone());
        }
    }
    levels
}
