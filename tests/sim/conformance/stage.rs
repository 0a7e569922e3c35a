//! Where a scenario takes place, the people in it, and the transcript of what they did and of how all
//! rooms were in the end, without anything that differs from server to server.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

use super::server::{No, Server};

/// How a room begins: it is made, its creator joins, and there are power levels.
const BEGINNING: usize = 3;

/// What a scenario came to.
#[derive(Debug, Default)]
pub(super) struct Transcript {
    pub(super) lines: Vec<String>,
    /// How many milliseconds to wait the server said, each time.
    pub(super) waits: Vec<f64>,
}

/// A server with the people and rooms of one scenario.
pub(super) struct Stage<'a> {
    server: &'a dyn Server,
    scene: String,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    transcript: Transcript,
    names: Names,
    /// All rooms, each with somebody who is in it.
    rooms: Vec<(String, String)>,
    aliases: Vec<String>,
}

/// A scene without a server.
pub(super) struct Detached {
    scene: String,
    known: Mutex<Known>,
}

impl Detached {
    /// The scene on a server that has all that was there.
    pub(super) fn on(self, server: &dyn Server) -> Stage<'_> {
        Stage {
            server,
            scene: self.scene,
            known: self.known,
        }
    }
}

/// Somebody with an account.
#[derive(Clone)]
pub(super) struct Person<'a> {
    /// The user id.
    pub(super) id: String,
    stage: &'a Stage<'a>,
}

impl<'a> Stage<'a> {
    pub(super) fn new(server: &'a dyn Server, scene: &str) -> Self {
        let stage = Self {
            scene: scene.to_owned(),
            known: Mutex::default(),
            server,
        };
        stage.known().names.server = stage.server.name();
        stage
    }

    /// What is known of the scene, while there is no server.
    pub(super) fn off(self) -> Detached {
        Detached {
            scene: self.scene,
            known: self.known,
        }
    }

    /// The room that replaces a room, as somebody reads it.
    pub(super) async fn successor(&self, room: &str, reader: &str) -> String {
        let path = ["rooms", room, "state", "m.room.tombstone", ""];
        let tombstone = self.server.ask(reader, "GET", &path, &json!({})).await;
        let tombstone = tombstone.expect("the room is replaced");
        let new = tombstone["replacement_room"].as_str();
        new.expect("a room").to_owned()
    }

    /// Leaves a room out of what is written down in the end.
    pub(super) fn leave_out(&self, room: &str) {
        self.known().rooms.retain(|(known, _)| known != room);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The part of ids behind the colon.
    pub(super) fn server_name(&self) -> String {
        self.server.name()
    }

    /// Registers somebody.
    pub(super) async fn person(&self, name: &str) -> Person<'_> {
        let id = self
            .server
            .register(&format!("{}-{name}", self.scene))
            .await;
        Person { id, stage: self }
    }

    /// An address of this scene.
    pub(super) fn alias(&self, name: &str) -> String {
        format!("#{}:{}", self.alias_name(name), self.server.name())
    }

    /// The part of it before the colon.
    pub(super) fn alias_name(&self, name: &str) -> String {
        let local = format!("{}-{name}", self.scene);
        let alias = format!("#{local}:{}", self.server.name());
        let mut known = self.known();
        if !known.aliases.contains(&alias) {
            known.aliases.push(alias);
        }
        local
    }

    /// Writes a line, with names for ids.
    pub(super) fn write(&self, line: &str) {
        let mut known = self.known();
        let line = without_times(&known.names.put(line));
        known.transcript.lines.push(line);
    }

    /// Knows a room from here on, and who can look into it.
    pub(super) fn know(&self, room: &str, reader: &str) {
        let mut known = self.known();
        if !known.rooms.iter().any(|(known, _)| known == room) {
            known.names.put(room);
            known.rooms.push((room.to_owned(), reader.to_owned()));
        }
    }

    /// Writes down how everything is in the end.
    pub(super) async fn end(self) -> Transcript {
        let (rooms, aliases) = {
            let known = self.known();
            (known.rooms.clone(), known.aliases.clone())
        };
        for (room, reader) in &rooms {
            self.look_into(room, reader).await;
        }
        if let Some((_, reader)) = rooms.first() {
            for alias in &aliases {
                self.ask(reader, "GET", &["directory", "room", alias], &json!({}))
                    .await
                    .ok();
            }
            self.look_into_directory(&rooms).await;
        }
        self.known
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .transcript
    }

    /// The rooms that are listed, and the addresses of all where there are any.
    async fn look_into_directory(&self, rooms: &[(String, String)]) {
        for (room, reader) in rooms {
            let path = ["directory", "list", "room", room];
            let listed = self.server.ask(reader, "GET", &path, &json!({})).await;
            if listed.is_ok_and(|listed| listed["visibility"] == "public") {
                self.write(&format!("{room} is listed"));
            }
            if !self.known().aliases.is_empty() {
                self.ask(reader, "GET", &["rooms", room, "aliases"], &json!({}))
                    .await
                    .ok();
            }
        }
    }

    /// The timeline of a room and its state.
    async fn look_into(&self, room: &str, reader: &str) {
        let look = async |what: &str| {
            let path = ["rooms", room, what];
            self.server.ask(reader, "GET", &path, &json!({})).await
        };
        let (messages, state) = (look("messages").await, look("state").await);
        let (Ok(messages), Ok(state)) = (&messages, &state) else {
            let no = |answer: &Result<Value, No>| answer.as_ref().err().map(|no| no.code.clone());
            self.write(&format!("{room} {:?} {:?}", no(&messages), no(&state)));
            return;
        };
        let mut timeline: Vec<&Value> =
            messages["chunk"].as_array().into_iter().flatten().collect();
        timeline.reverse();
        sort_copied(&mut timeline);
        for event in timeline {
            self.write(&format!("{room} event {}", shown(event)));
        }
        let mut state: Vec<String> = {
            let known = self.known();
            let events = state.as_array().into_iter().flatten();
            events
                .map(|event| known.names.known(&format!("{room} state {}", shown(event))))
                .collect()
        };
        state.sort();
        for line in state {
            self.write(&line);
        }
    }

    /// A request, with its answer in the transcript.
    async fn ask(&self, by: &str, method: &str, path: &[&str], body: &Value) -> Result<Value, No> {
        let answer = self.server.ask(by, method, path, body).await;
        let outcome = match &answer {
            Ok(answer) => sorted(answer).to_string(),
            Err(no) => {
                let wait = no.wait.map(|wait| {
                    // No wait here is longer than days.
                    u32::try_from(wait).map_or(f64::INFINITY, f64::from)
                });
                self.known().transcript.waits.extend(wait);
                format!("{} {}", no.status, no.code)
            }
        };
        self.write(&format!("{by} {method} {} -> {outcome}", path.join(" ")));
        answer
    }
}

/// What the server's own upgrade copies comes in no order.
fn sort_copied(timeline: &mut [&Value]) {
    let create = timeline.first().map(|create| &create["content"]);
    let is_copied = |event: &&&Value| {
        event.get("state_key").is_some()
            && event["type"] != "m.room.power_levels"
            && event["type"] != "m.room.canonical_alias"
    };
    if create.is_some_and(|create| create.get("predecessor").is_some())
        && timeline.len() > BEGINNING
    {
        let copied = &mut timeline[BEGINNING..];
        let end = copied.iter().take_while(is_copied).count();
        copied[..end].sort_by_key(|event| shown(event));
    }
}

/// An event without its id and its time. Display names are not modelled.
fn shown(event: &Value) -> String {
    let mut content = event["content"].clone();
    if event["type"] == "m.room.member"
        && let Some(content) = content.as_object_mut()
    {
        content.remove("displayname");
        content.remove("avatar_url");
    }
    let text = |key: &str| event[key].as_str().unwrap_or("-");
    let key = event["state_key"].as_str();
    let key = key.map_or(String::new(), |key| format!(" {key:?}"));
    let redacted = event["unsigned"].get("redacted_because").is_some();
    let redacted = if redacted { " (redacted)" } else { "" };
    format!(
        "{}{key} by {}{redacted}: {content}",
        text("type"),
        text("sender")
    )
}

/// Lists of ids come in no order.
fn sorted(answer: &Value) -> Value {
    let mut answer = answer.clone();
    for key in ["aliases", "joined_rooms"] {
        if let Some(Value::Array(list)) = answer.get_mut(key) {
            list.sort_by_key(ToString::to_string);
        }
    }
    answer
}

impl Person<'_> {
    /// Any request, by the parts of its path below `/_matrix/client/v3`.
    pub(super) async fn ask(&self, method: &str, path: &[&str], body: Value) -> Result<Value, No> {
        self.stage.ask(&self.id, method, path, &body).await
    }

    /// A request about a room.
    async fn of_room(&self, room: &str, what: &str, body: Value) -> Result<Value, No> {
        self.ask("POST", &["rooms", room, what], body).await
    }

    /// The string under a key of an answer; empty where it was refused.
    fn string(answer: Result<Value, No>, key: &str) -> String {
        let text = |answer: Value| answer[key].as_str().map(ToOwned::to_owned);
        answer.ok().and_then(text).unwrap_or_default()
    }

    /// The room that a request made. One that was refused may have left one behind.
    async fn know_room(&self, made: Result<Value, No>, key: &str) -> String {
        let stage = self.stage;
        let made = Self::string(made, key);
        if !made.is_empty() {
            stage.know(&made, &self.id);
            return made;
        }
        let path = ["joined_rooms"];
        let joined = stage.server.ask(&self.id, "GET", &path, &json!({})).await;
        let joined = joined.map(|joined| joined["joined_rooms"].clone());
        for room in joined
            .ok()
            .as_ref()
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
        {
            let room = room.as_str().unwrap_or_default();
            let is_known = stage.known().rooms.iter().any(|(known, _)| known == room);
            if !is_known {
                stage.know(room, &self.id);
                stage.write(&format!("{room} is left behind"));
            }
        }
        made
    }

    /// Makes a room; its id, or nothing.
    pub(super) async fn create_room(&self, body: Value) -> String {
        let made = self.ask("POST", &["createRoom"], body).await;
        self.know_room(made, "room_id").await
    }

    /// The server's own upgrade; the new room's id, or nothing.
    pub(super) async fn upgrade(&self, room: &str, version: &str, creators: &[&Self]) -> String {
        let mut body = json!({ "new_version": version });
        if !creators.is_empty() {
            let mut creators: Vec<&str> = creators.iter().map(|person| &*person.id).collect();
            creators.sort_unstable();
            body["additional_creators"] = json!(creators);
        }
        let made = self.of_room(room, "upgrade", body).await;
        self.know_room(made, "replacement_room").await
    }

    /// Sends a state event; its id, or nothing.
    pub(super) async fn put(&self, room: &str, kind: &str, key: &str, content: Value) -> String {
        let path = ["rooms", room, "state", kind, key];
        Self::string(self.ask("PUT", &path, content).await, "event_id")
    }

    /// Reads a state event.
    pub(super) async fn state(&self, room: &str, kind: &str, key: &str) {
        let path = ["rooms", room, "state", kind, key];
        self.ask("GET", &path, json!({})).await.ok();
    }

    /// Sends an event that is no state; its id, or nothing.
    pub(super) async fn send(
        &self,
        room: &str,
        kind: &str,
        transaction: &str,
        content: Value,
    ) -> String {
        let path = ["rooms", room, "send", kind, transaction];
        Self::string(self.ask("PUT", &path, content).await, "event_id")
    }

    /// Types a message, the same one once only.
    pub(super) async fn say(&self, room: &str, text: &str) -> String {
        let body = json!({ "msgtype": "m.text", "body": text });
        self.send(room, "m.room.message", text, body).await
    }

    /// Redacts an event, once only.
    pub(super) async fn redact(&self, room: &str, event: &str) -> String {
        let path = ["rooms", room, "redact", event, "redaction"];
        Self::string(self.ask("PUT", &path, json!({})).await, "event_id")
    }

    pub(super) async fn invite(&self, room: &str, who: &Self) {
        let body = json!({ "user_id": who.id });
        self.of_room(room, "invite", body).await.ok();
    }

    pub(super) async fn kick(&self, room: &str, who: &Self) {
        let body = json!({ "user_id": who.id, "reason": "noise" });
        self.of_room(room, "kick", body).await.ok();
    }

    pub(super) async fn ban(&self, room: &str, who: &Self) {
        let body = json!({ "user_id": who.id, "reason": "sells seeds" });
        self.of_room(room, "ban", body).await.ok();
    }

    pub(super) async fn unban(&self, room: &str, who: &Self) {
        let body = json!({ "user_id": who.id });
        self.of_room(room, "unban", body).await.ok();
    }

    /// Joins a room by its id or an address.
    pub(super) async fn join(&self, room: &str) {
        self.ask("POST", &["join", room], json!({})).await.ok();
    }

    pub(super) async fn knock(&self, room: &str) {
        self.ask("POST", &["knock", room], json!({})).await.ok();
    }

    pub(super) async fn leave(&self, room: &str) {
        self.of_room(room, "leave", json!({})).await.ok();
    }

    pub(super) async fn set_alias(&self, alias: &str, room: &str) {
        let body = json!({ "room_id": room });
        self.ask("PUT", &["directory", "room", alias], body)
            .await
            .ok();
    }

    pub(super) async fn delete_alias(&self, alias: &str) {
        let path = ["directory", "room", alias];
        self.ask("DELETE", &path, json!({})).await.ok();
    }

    pub(super) async fn resolve(&self, alias: &str) {
        let path = ["directory", "room", alias];
        self.ask("GET", &path, json!({})).await.ok();
    }

    pub(super) async fn set_listed(&self, room: &str, listed: bool) {
        let visibility = if listed { "public" } else { "private" };
        let path = ["directory", "list", "room", room];
        let body = json!({ "visibility": visibility });
        self.ask("PUT", &path, body).await.ok();
    }
}

/// The same with dates, and times in milliseconds, told by how they look.
fn without_times(line: &str) -> String {
    let mut clean = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(|letter: char| letter.is_ascii_digit()) {
        let (before, from) = rest.split_at(at);
        let is_part = |letter: char| letter.is_ascii_digit() || letter == '-';
        let (number, after) = from.split_at(from.find(|c| !is_part(c)).unwrap_or(from.len()));
        let dashes = number.bytes().filter(|byte| *byte == b'-').count();
        clean.push_str(before);
        clean.push_str(match (number.len(), dashes) {
            (13, 0) => "TIME",
            (10, 2) => "DATE",
            _ => number,
        });
        rest = after;
    }
    clean + rest
}

/// Names for ids, by their order of appearance.
#[derive(Default)]
struct Names {
    server: String,
    names: BTreeMap<String, String>,
}

impl Names {
    /// Puts names in the place of ids, new ones for new ids.
    fn put(&mut self, text: &str) -> String {
        let text = text.replace(&self.server, "server");
        for id in ids(&text) {
            if !self.names.contains_key(id) {
                let kind = if id.starts_with('!') { "Room" } else { "Event" };
                let number = self.names.values().filter(|name| name.starts_with(kind));
                let name = format!("{kind}{}", number.count() + 1);
                self.names.insert(id.to_owned(), name);
            }
        }
        self.known(&text)
    }

    /// Puts names in the place of those that are known.
    fn known(&self, text: &str) -> String {
        let mut text = text.replace(&self.server, "server");
        let mut ids: Vec<(usize, String)> = ids(&text)
            .iter()
            .filter_map(|id| {
                let at = id.as_ptr() as usize - text.as_ptr() as usize;
                Some((at, (*id).to_owned())).filter(|(_, id)| self.names.contains_key(id))
            })
            .collect();
        ids.reverse();
        for (at, id) in ids {
            text.replace_range(at..at + id.len(), &self.names[&id]);
        }
        text
    }
}

/// Ids of rooms and events in a text, in which the server is called `server`.
fn ids(text: &str) -> Vec<&str> {
    let is_part = |letter: char| letter.is_ascii_alphanumeric() || "-_".contains(letter);
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = text[from..].find(['!', '$']).map(|at| from + at) {
        let local = &text[at + 1..];
        let local = &local[..local.find(|letter| !is_part(letter)).unwrap_or(local.len())];
        let mut end = at + 1 + local.len();
        // Synapse's are 18 or 43 letters, simulated ones a letter and a number.
        let is_counted = local
            .strip_prefix(['r', 'e'])
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()));
        if is_counted || [18, 43].contains(&local.len()) {
            if text[end..].starts_with(":server") {
                end += ":server".len();
            }
            found.push(&text[at..end]);
        }
        from = end;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_left_out() {
        assert_eq!(
            without_times("3 on 2026-09-21 at 1790000000000, 17900000000001"),
            "3 on DATE at TIME, 17900000000001"
        );
    }

    #[test]
    fn ids_get_names_and_words_do_not() {
        let mut names = Names {
            server: "localhost:80".to_owned(),
            ..Names::default()
        };
        let room = "!abcdefghijklmnopqr:localhost:80";
        let text = format!("{room} {room} !r7 $e1:localhost:80 !upgrade");
        assert_eq!(names.known(&text[..0]), "");
        assert_eq!(names.put(&text), "Room1 Room1 Room2 Event1 !upgrade");
        assert_eq!(names.known("$e2 !r7"), "$e2 Room2");
    }
}
