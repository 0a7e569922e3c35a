//! The simulated homeserver: rooms, people, addresses and the directory, as requests of accounts change
//! them. A small, honest model of what the bot can see and do.
//!
//! Every method is one request by an account, checked as a server checks it. Held against a real
//! Synapse by `conformance`. Left out: faults, limits and time on the way (`port`), and federation
//! beyond members and servers that do not answer.

mod auth;
mod create;
mod membership;
mod sync;
mod upgrade;
mod valid;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use roomlift::room::state::{Content, RoomState, StateEvent};
use ruma::{
    OwnedEventId, OwnedRoomAliasId, OwnedRoomId, OwnedServerName, OwnedUserId, RoomAliasId, RoomId,
    UserId,
};
use serde_json::{Value, json};
use tokio::sync::Notify;

pub(crate) use self::auth::Levels;
pub(crate) use self::sync::{Device, MEGOLM};
pub(crate) use self::upgrade::{Software, UpgradeStop};
use crate::limits::{Kind, Limiter, Limits};
use crate::watch::Watchers;

/// The server of the bot and of most people.
pub(crate) const SERVER: &str = "sim.test";

/// A server that answers.
pub(crate) const ELSEWHERE: &str = "elsewhere.test";

/// A server that never answers.
pub(crate) const GONE: &str = "gone.test";

/// Room versions that the server makes.
pub(crate) const VERSIONS: [&str; 7] = ["6", "7", "8", "9", "10", "11", "12"];

/// Why a server says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

/// Answer to a request.
pub(crate) type Answer<T> = Result<T, Refusal>;

pub(crate) fn refuse<T>(status: u16, code: &'static str, message: impl Into<String>) -> Answer<T> {
    Err(Refusal {
        status,
        code,
        message: message.into(),
    })
}

pub(crate) fn forbidden<T>(message: impl Into<String>) -> Answer<T> {
    refuse(403, "M_FORBIDDEN", message)
}

/// An event of a room.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) id: OwnedEventId,
    pub(crate) room: OwnedRoomId,
    pub(crate) kind: String,
    pub(crate) state_key: Option<String>,
    pub(crate) sender: OwnedUserId,
    pub(crate) content: Content,
    /// When, in milliseconds since the epoch, by the sender's server.
    pub(crate) at: i64,
    /// Its place among all events of the server.
    pub(crate) stream: u64,
    /// The event that was in its slot before.
    pub(crate) replaces: Option<OwnedEventId>,
    /// What that one said.
    pub(crate) before: Option<Content>,
    /// There once it is redacted.
    pub(crate) redacted_because: Option<OwnedEventId>,
}

impl Event {
    /// A field of its content.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.content.get(key).and_then(Value::as_str)
    }

    /// The event that it is about, and how.
    pub(crate) fn relation(&self) -> Option<(&str, &str)> {
        let relation = self.content.get("m.relates_to")?;
        let kind = relation.get("rel_type")?.as_str()?;
        Some((kind, relation.get("event_id")?.as_str()?))
    }

    /// The event that it answers.
    pub(crate) fn answers(&self) -> Option<&str> {
        let relation = self.content.get("m.relates_to")?;
        relation.get("m.in_reply_to")?.get("event_id")?.as_str()
    }

    /// The event as the bot's rules know it.
    pub(crate) fn to_state_event(&self) -> StateEvent {
        StateEvent {
            kind: self.kind.clone(),
            state_key: self.state_key.clone().unwrap_or_default(),
            sender: self.sender.clone(),
            content: self.content.clone(),
            event_id: Some(self.id.clone()),
            origin_server_ts: self.at.unsigned_abs(),
            replaces: self.replaces.clone(),
        }
    }

    /// The event as clients get it.
    pub(crate) fn json(&self) -> Value {
        let mut event = json!({
            "event_id": self.id,
            "room_id": self.room,
            "type": self.kind,
            "sender": self.sender,
            "content": self.content,
            "origin_server_ts": self.at,
        });
        let mut unsigned = json!({});
        if let Some(key) = &self.state_key {
            event["state_key"] = json!(key);
        }
        if let Some(replaces) = &self.replaces {
            unsigned["replaces_state"] = json!(replaces);
        }
        if let Some(before) = &self.before {
            unsigned["prev_content"] = json!(before);
        }
        if let Some(because) = &self.redacted_because {
            unsigned["redacted_because"] = json!({ "event_id": because });
        }
        event["unsigned"] = unsigned;
        event
    }
}

/// A room.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    pub(crate) id: OwnedRoomId,
    pub(crate) version: String,
    /// All events, oldest first.
    pub(crate) events: Vec<Event>,
    /// Where the current state is in them.
    state: BTreeMap<(String, String), usize>,
}

impl Room {
    pub(crate) fn event(&self, kind: &str, key: &str) -> Option<&Event> {
        let at = self.state.get(&(kind.to_owned(), key.to_owned()))?;
        self.events.get(*at)
    }

    pub(crate) fn content(&self, kind: &str, key: &str) -> Option<&Content> {
        self.event(kind, key).map(|event| &event.content)
    }

    pub(crate) fn state_events(&self) -> impl Iterator<Item = &Event> {
        self.state.values().map(|at| &self.events[*at])
    }

    pub(crate) fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Event> {
        self.state_events().filter(move |event| event.kind == kind)
    }

    pub(crate) fn membership(&self, user: &UserId) -> &str {
        self.event("m.room.member", user.as_str())
            .and_then(|event| event.text("membership"))
            .unwrap_or("leave")
    }

    pub(crate) fn members(&self, membership: &str) -> Vec<OwnedUserId> {
        self.of_kind("m.room.member")
            .filter(|event| event.text("membership") == Some(membership))
            .filter_map(|event| event.state_key.as_deref()?.parse().ok())
            .collect()
    }

    /// The room that it replaces.
    pub(crate) fn predecessor(&self) -> Option<&str> {
        let create = self.content("m.room.create", "")?;
        create.get("predecessor")?.get("room_id")?.as_str()
    }

    /// The room that its tombstone names.
    pub(crate) fn successor(&self) -> Option<&str> {
        self.event("m.room.tombstone", "")?.text("replacement_room")
    }

    /// The room as it was at a place in the stream.
    fn up_to(&self, stream: u64) -> Self {
        let mut room = Self {
            id: self.id.clone(),
            version: self.version.clone(),
            events: Vec::new(),
            state: BTreeMap::new(),
        };
        let then = self.events.iter().filter(|event| event.stream <= stream);
        for (at, event) in then.enumerate() {
            if let Some(key) = &event.state_key {
                room.state.insert((event.kind.clone(), key.clone()), at);
            }
            room.events.push(event.clone());
        }
        room
    }

    /// The state as it was before a place in the stream.
    pub(crate) fn state_before(&self, stream: u64) -> Vec<&Event> {
        let mut state: BTreeMap<(&str, &str), &Event> = BTreeMap::new();
        for event in self.events.iter().filter(|event| event.stream < stream) {
            if let Some(key) = &event.state_key {
                state.insert((&event.kind, key), event);
            }
        }
        state.into_values().collect()
    }

    /// Where in the stream it was first closed; past all places where it is open.
    pub(crate) fn closed_at(&self) -> u64 {
        let tombstones = self
            .events
            .iter()
            .filter(|event| event.kind == "m.room.tombstone" && event.redacted_because.is_none());
        tombstones
            .map(|event| event.stream)
            .next()
            .unwrap_or(u64::MAX)
    }

    pub(crate) fn creator(&self) -> Option<&UserId> {
        self.event("m.room.create", "").map(|event| &*event.sender)
    }

    pub(crate) fn to_state(&self) -> RoomState {
        RoomState::new(
            self.id.clone(),
            self.state_events().map(Event::to_state_event),
        )
    }
}

/// What people keep for themselves about a room: that moves with them on some servers.
pub(crate) type Tags = BTreeMap<(OwnedUserId, OwnedRoomId), String>;

/// The homeserver and everybody on it.
pub(crate) struct World {
    pub(crate) now: Timestamp,
    pub(crate) software: Software,
    pub(crate) rooms: BTreeMap<OwnedRoomId, Room>,
    pub(crate) aliases: BTreeMap<OwnedRoomAliasId, Address>,
    pub(crate) listed: BTreeSet<OwnedRoomId>,
    pub(crate) tags: Tags,
    /// What accounts keep for themselves, by type, and where in the stream it was set.
    account_data: BTreeMap<(OwnedUserId, String), (Content, u64)>,
    pub(crate) accounts: BTreeSet<OwnedUserId>,
    pub(crate) limits: Limits,
    /// What the server remembers of its own upgrades, and until when.
    pub(crate) upgraded: BTreeMap<OwnedRoomId, (OwnedUserId, OwnedRoomId, Timestamp)>,
    /// Whether the account may make addresses and listings at all.
    pub(crate) denies_aliases_to: BTreeSet<OwnedUserId>,
    pub(crate) denies_listings: bool,
    /// Addresses that no room may show, as servers refuse those of others.
    pub(crate) refuses_to_show: BTreeSet<OwnedRoomAliasId>,
    /// Types of events that the server stores under another name.
    pub(crate) renames: BTreeMap<String, String>,
    /// How long the server turned the bot away from moving addresses, all together.
    pub(crate) turned_away: SignedDuration,
    /// Whether the bot was refused something that it said, or a removal of it.
    pub(crate) refused_words: bool,
    /// Whether all new private rooms are encrypted.
    pub(crate) encrypts_new_rooms: bool,
    /// Messages that are encrypted, and in which sessions.
    pub(crate) sealed: BTreeMap<OwnedEventId, String>,
    /// Sessions whose keys the bot has.
    pub(crate) keys: BTreeSet<String>,
    /// Where the next `/upgrade` breaks off, if it does.
    pub(crate) upgrade_stops: Option<UpgradeStop>,
    /// Events of one room in one sync answer.
    pub(crate) timeline_limit: usize,
    /// Messages of each room that sync tells once more with what is new.
    pub(crate) repeats: usize,
    pub(crate) watchers: Watchers,
    /// Wakes whoever waits for news.
    pub(crate) changed: Arc<Notify>,
    queue: BTreeMap<(Timestamp, u64), Act>,
    transactions: BTreeMap<(OwnedUserId, OwnedRoomId, String), OwnedEventId>,
    stream: u64,
    ids: u64,
}

/// Something that happens at its time.
type Act = Box<dyn FnOnce(&mut World) + Send>;

/// Where an address leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) room: OwnedRoomId,
    pub(crate) creator: OwnedUserId,
}

impl World {
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            now,
            software: Software::Synapse,
            rooms: BTreeMap::new(),
            aliases: BTreeMap::new(),
            listed: BTreeSet::new(),
            tags: Tags::new(),
            account_data: BTreeMap::new(),
            accounts: BTreeSet::new(),
            limits: Limits::none(),
            upgraded: BTreeMap::new(),
            denies_aliases_to: BTreeSet::new(),
            denies_listings: false,
            refuses_to_show: BTreeSet::new(),
            renames: BTreeMap::new(),
            turned_away: SignedDuration::ZERO,
            refused_words: false,
            encrypts_new_rooms: false,
            sealed: BTreeMap::new(),
            keys: BTreeSet::new(),
            upgrade_stops: None,
            timeline_limit: 50,
            repeats: 0,
            watchers: Watchers::default(),
            changed: Arc::default(),
            queue: BTreeMap::new(),
            transactions: BTreeMap::new(),
            stream: 0,
            ids: 0,
        }
    }

    /// The place of the newest event.
    pub(crate) fn stream(&self) -> u64 {
        self.stream
    }

    /// A new account.
    pub(crate) fn register(&mut self, name: &str) -> OwnedUserId {
        let server = if name.contains(':') { "" } else { SERVER };
        let id = if server.is_empty() {
            format!("@{name}")
        } else {
            format!("@{name}:{server}")
        };
        let id: OwnedUserId = id.parse().expect("a user id");
        self.accounts.insert(id.clone());
        id
    }

    /// Has something happen later. Those who watch do not act themselves: they schedule.
    pub(crate) fn schedule(
        &mut self,
        after: Duration,
        act: impl FnOnce(&mut Self) + Send + 'static,
    ) {
        let at = self.now + after;
        let number = self.next_id();
        self.queue.insert((at, number), Box::new(act));
        self.changed.notify_waiters();
    }

    /// When the next thing happens.
    pub(crate) fn next_act(&self) -> Option<Timestamp> {
        self.queue.keys().next().map(|(at, _)| *at)
    }

    /// Does what is due.
    pub(crate) fn act(&mut self) {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > self.now {
                return;
            }
            entry.remove()(self);
        }
    }

    fn next_id(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    /// A room, for a request by somebody.
    pub(crate) fn room(&self, id: &RoomId) -> Answer<&Room> {
        match self.rooms.get(id) {
            Some(room) => Ok(room),
            None => refuse(404, "M_NOT_FOUND", format!("no room {id}")),
        }
    }

    /// A room that somebody is in.
    pub(crate) fn room_of(&self, by: &UserId, id: &RoomId) -> Answer<&Room> {
        match self.rooms.get(id) {
            Some(room) if room.membership(by) == "join" => Ok(room),
            _ => forbidden(format!("User {by} not in room {id}")),
        }
    }

    /// A room as somebody may read it: those who left, as it was then.
    pub(crate) fn readable(&self, by: &UserId, id: &RoomId) -> Answer<Cow<'_, Room>> {
        let room = self.rooms.get(id);
        let own = room.and_then(|room| room.event("m.room.member", by.as_str()));
        match (room, own) {
            (Some(room), Some(own)) if own.text("membership") == Some("leave") => {
                Ok(Cow::Owned(room.up_to(own.stream)))
            }
            _ => self.room_of(by, id).map(Cow::Borrowed),
        }
    }

    /// Sets what an account keeps for itself.
    pub(crate) fn set_account_data(&mut self, by: &UserId, kind: &str, content: Content) {
        self.stream += 1;
        let slot = (by.to_owned(), kind.to_owned());
        self.account_data.insert(slot, (content, self.stream));
        self.changed.notify_waiters();
    }

    /// Counts a request against a limiter. How long to wait, where it is too many.
    pub(crate) fn count(&mut self, limiter: &Limiter) -> Option<Duration> {
        self.limits.take(limiter, self.now)
    }

    /// The whole state.
    pub(crate) fn state(&self, by: &UserId, id: &RoomId) -> Answer<RoomState> {
        Ok(self.readable(by, id)?.to_state())
    }

    /// Content of a state event.
    pub(crate) fn state_event(
        &self,
        by: &UserId,
        id: &RoomId,
        kind: &str,
        key: &str,
    ) -> Answer<Content> {
        match self.readable(by, id)?.content(kind, key) {
            Some(content) => Ok(content.clone()),
            None => refuse(404, "M_NOT_FOUND", "Event not found."),
        }
    }

    /// An event, with the content of its newest edit.
    pub(crate) fn event(&self, by: &UserId, id: &RoomId, event: &str) -> Answer<Event> {
        let room = self.readable(by, id)?;
        let found = room.events.iter().find(|known| known.id == event);
        let Some(found) = found else {
            return refuse(404, "M_NOT_FOUND", "Event not found.");
        };
        let mut found = found.clone();
        let edit = room.events.iter().rev().find(|edit| {
            edit.relation() == Some(("m.replace", event))
                && edit.sender == found.sender
                && edit.redacted_because.is_none()
        });
        let new = edit.and_then(|edit| edit.content.get("m.new_content"));
        if let Some(Value::Object(content)) = new
            && !found.content.is_empty()
        {
            found.content.clone_from(content);
        }
        Ok(found)
    }

    /// Sends a state event.
    pub(crate) fn put_state(
        &mut self,
        by: &UserId,
        id: &RoomId,
        kind: &str,
        key: &str,
        content: &Content,
    ) -> Answer<OwnedEventId> {
        if kind == "m.room.member" {
            return self.put_member(by, id, key, content);
        }
        let room = self.room_of(by, id)?;
        valid::validate(room, kind, Some(key), content)?;
        auth::may_send(room, by, kind, Some(key), content)?;
        if kind == "m.room.canonical_alias" {
            self.check_shown_aliases(room, content)?;
        }
        // Source: Synapse, `deduplicate_state_event`.
        if let Some(same) = room.event(kind, key)
            && same.content == *content
            && same.sender == by
        {
            return Ok(same.id.clone());
        }
        Ok(self.append(id, by, kind, Some(key), content.clone()))
    }

    /// Whether an event with that transaction id was sent already. Such a request is not counted.
    pub(crate) fn was_sent(&self, by: &UserId, id: &RoomId, transaction: &str) -> bool {
        let slot = (by.to_owned(), id.to_owned(), transaction.to_owned());
        self.transactions.contains_key(&slot)
    }

    /// Sends an event that is no state; the same transaction id sends it once.
    pub(crate) fn send(
        &mut self,
        by: &UserId,
        id: &RoomId,
        kind: &str,
        transaction: &str,
        content: &Content,
    ) -> Answer<OwnedEventId> {
        let slot = (by.to_owned(), id.to_owned(), transaction.to_owned());
        if let Some(sent) = self.transactions.get(&slot) {
            return Ok(sent.clone());
        }
        let room = self.room_of(by, id)?;
        valid::validate(room, kind, None, content)?;
        auth::may_send(room, by, kind, None, content)?;
        if kind == "m.reaction" {
            let is_same = |event: &&Event| {
                event.kind == kind
                    && event.sender == by
                    && event.redacted_because.is_none()
                    && event.content.get("m.relates_to") == content.get("m.relates_to")
            };
            if room.events.iter().any(|event| is_same(&event)) {
                return refuse(
                    400,
                    "M_DUPLICATE_ANNOTATION",
                    "Can't send same reaction twice",
                );
            }
        }
        let sent = self.append(id, by, kind, None, content.clone());
        self.transactions.insert(slot, sent.clone());
        Ok(sent)
    }

    /// Redacts an event.
    pub(crate) fn redact(
        &mut self,
        by: &UserId,
        id: &RoomId,
        event: &str,
        transaction: &str,
    ) -> Answer<OwnedEventId> {
        let slot = (by.to_owned(), id.to_owned(), transaction.to_owned());
        if let Some(sent) = self.transactions.get(&slot) {
            return Ok(sent.clone());
        }
        let room = self.room_of(by, id)?;
        let levels = Levels::of(room);
        let Some(target) = room.events.iter().find(|known| known.id == event) else {
            return refuse(404, "M_NOT_FOUND", "Could not find event");
        };
        if target.sender != by && levels.of_user(by) < levels.redact {
            return forbidden("You don't have permission to redact that event");
        }
        let content = Content::from_iter([("redacts".to_owned(), json!(event))]);
        let sent = self.append(id, by, "m.room.redaction", None, content);
        let room = self.rooms.get_mut(id).expect("it was there");
        let version = room.version.clone();
        if let Some(target) = room.events.iter_mut().find(|known| known.id == event) {
            target.redacted_because = Some(sent.clone());
            target.content = auth::redacted(&version, &target.kind, &target.content);
        }
        self.transactions.insert(slot, sent.clone());
        Ok(sent)
    }

    /// Adds an event to a room without a question, and tells those who watch.
    pub(crate) fn append(
        &mut self,
        id: &RoomId,
        by: &UserId,
        kind: &str,
        key: Option<&str>,
        content: Content,
    ) -> OwnedEventId {
        self.append_at(id, by, kind, key, content, self.now.as_millisecond())
    }

    /// The same for an event that says that it was sent at another time.
    pub(crate) fn append_at(
        &mut self,
        id: &RoomId,
        by: &UserId,
        kind: &str,
        key: Option<&str>,
        content: Content,
        at: i64,
    ) -> OwnedEventId {
        let event_id = self.new_event_id();
        self.put_in(event_id, id, by, kind, key, content, at)
    }

    /// An event id, for an event that others name before it is there.
    fn new_event_id(&mut self) -> OwnedEventId {
        let number = self.next_id();
        format!("$e{number}:{SERVER}").parse().expect("an event id")
    }

    /// The same under an id that is there already.
    fn append_as(
        &mut self,
        event_id: OwnedEventId,
        id: &RoomId,
        by: &UserId,
        kind: &str,
        key: Option<&str>,
        content: Content,
    ) {
        self.put_in(
            event_id,
            id,
            by,
            kind,
            key,
            content,
            self.now.as_millisecond(),
        );
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of an event")]
    fn put_in(
        &mut self,
        event_id: OwnedEventId,
        id: &RoomId,
        by: &UserId,
        kind: &str,
        key: Option<&str>,
        content: Content,
        at: i64,
    ) -> OwnedEventId {
        let renamed = self.renames.get(kind).cloned();
        let kind = renamed.as_deref().unwrap_or(kind);
        self.stream += 1;
        let room = self.rooms.get_mut(id).expect("the room exists");
        let replaced = key.and_then(|key| room.event(kind, key));
        let event = Event {
            id: event_id.clone(),
            room: id.to_owned(),
            kind: kind.to_owned(),
            state_key: key.map(ToOwned::to_owned),
            sender: by.to_owned(),
            content,
            at,
            stream: self.stream,
            replaces: replaced.map(|event| event.id.clone()),
            before: replaced.map(|event| event.content.clone()),
            redacted_because: None,
        };
        let was = event
            .before
            .as_ref()
            .and_then(|before| before.get("membership"));
        if kind == "m.room.member"
            && event.text("membership") == Some("join")
            && was.and_then(Value::as_str) != Some("join")
        {
            // Source: Synapse, `_on_user_joined_room`.
            let (kind, of) = (Kind::JoinsPerRoom, id.to_string());
            self.limits.record(&Limiter { kind, of }, self.now);
        }
        if let Some(key) = key {
            let slot = (kind.to_owned(), key.to_owned());
            room.state.insert(slot, room.events.len());
        }
        room.events.push(event.clone());
        self.changed.notify_waiters();
        self.tell(&event);
        event_id
    }

    /// Tells those who watch of an event.
    fn tell(&mut self, event: &Event) {
        let mut watchers = std::mem::take(&mut self.watchers);
        watchers.tell(self, event);
        // Those that were added meanwhile come after those that were there.
        let added = std::mem::replace(&mut self.watchers, watchers);
        self.watchers.extend(added);
    }

    /// Where an address leads.
    pub(crate) fn resolve(
        &self,
        alias: &RoomAliasId,
    ) -> Answer<(OwnedRoomId, Vec<OwnedServerName>)> {
        match self.aliases.get(alias) {
            Some(address) => {
                let server = SERVER.try_into().expect("a server name");
                Ok((address.room.clone(), vec![server]))
            }
            None => refuse(404, "M_NOT_FOUND", format!("Room alias {alias} not found")),
        }
    }

    /// Makes an address.
    pub(crate) fn create_alias(
        &mut self,
        by: &UserId,
        alias: &RoomAliasId,
        room: &RoomId,
    ) -> Answer<()> {
        if self.denies_aliases_to.contains(by) {
            return forbidden("Not allowed to create alias");
        }
        if alias.server_name() != SERVER && alias.server_name() == by.server_name() {
            // Somebody elsewhere, on their own server: that is out of sight here.
        } else if alias.server_name() != by.server_name() {
            return refuse(400, "M_UNKNOWN", "Room alias must be local");
        }
        let Some(found) = self.rooms.get(room) else {
            return refuse(400, "M_UNKNOWN", "Room does not exist");
        };
        if self.aliases.contains_key(alias) {
            return refuse(
                409,
                "M_UNKNOWN",
                format!("Room alias {alias} already exists"),
            );
        }
        if found.membership(by) != "join" {
            return forbidden("You must be in the room to create an alias for it");
        }
        let address = Address {
            room: room.to_owned(),
            creator: by.to_owned(),
        };
        self.aliases.insert(alias.to_owned(), address);
        self.watch_addresses();
        Ok(())
    }

    /// Removes an address: its creator, or who may set the shown addresses of the room.
    pub(crate) fn delete_alias(&mut self, by: &UserId, alias: &RoomAliasId) -> Answer<()> {
        let Some(address) = self.aliases.get(alias).cloned() else {
            return refuse(404, "M_NOT_FOUND", format!("Room alias {alias} not found"));
        };
        let room = self.room(&address.room)?;
        let levels = Levels::of(room);
        let may = address.creator == by
            || (room.membership(by) == "join"
                && levels.of_user(by) >= levels.to_send("m.room.canonical_alias", true));
        if !may {
            return forbidden("You don't have permission to delete the alias.");
        }
        self.aliases.remove(alias);
        // Source: Synapse, `DirectoryHandler._update_canonical_alias`.
        self.stop_showing(by, &address.room, alias);
        self.watch_addresses();
        Ok(())
    }

    fn watch_addresses(&mut self) {
        let mut watchers = std::mem::take(&mut self.watchers);
        watchers.addresses_changed(self);
        let added = std::mem::replace(&mut self.watchers, watchers);
        self.watchers.extend(added);
    }

    fn stop_showing(&mut self, by: &UserId, room: &RoomId, alias: &RoomAliasId) {
        let shown = self.rooms.get(room);
        let shown = shown.and_then(|room| room.content("m.room.canonical_alias", ""));
        let Some(mut shown) = shown.cloned() else {
            return;
        };
        let before = shown.clone();
        if shown.get("alias").and_then(Value::as_str) == Some(alias.as_str()) {
            shown.remove("alias");
        }
        if let Some(Value::Array(alternatives)) = shown.get_mut("alt_aliases")
            && alternatives.contains(&json!(alias))
        {
            alternatives.retain(|other| other.as_str() != Some(alias.as_str()));
            if alternatives.is_empty() {
                shown.remove("alt_aliases");
            }
        }
        if shown != before {
            // Refused silently where the account may not.
            let _answer = self.put_state(by, room, "m.room.canonical_alias", "", &shown);
        }
    }

    /// Source: Synapse, `EventCreationHandler._validate_canonical_alias`: addresses that are new must lead
    /// to the room.
    fn check_shown_aliases(&self, room: &Room, content: &Content) -> Answer<()> {
        let before = room.content("m.room.canonical_alias", "");
        let before = before.map(shown).unwrap_or_default();
        for alias in shown(content) {
            if before.contains(&alias) {
                continue;
            }
            let Ok(alias) = OwnedRoomAliasId::try_from(alias) else {
                return refuse(400, "M_INVALID_PARAM", "invalid alias");
            };
            if self.refuses_to_show.contains(&alias) {
                return refuse(403, "M_FORBIDDEN", format!("{alias} is not on this server"));
            }
            match self.aliases.get(&alias) {
                Some(address) if address.room == room.id => {}
                _ => {
                    let message = format!("Room alias {alias} does not point to the room");
                    return refuse(400, "M_BAD_ALIAS", message);
                }
            }
        }
        Ok(())
    }

    /// Addresses of this server that lead to a room.
    pub(crate) fn local_aliases(&self, room: &RoomId) -> BTreeSet<OwnedRoomAliasId> {
        self.aliases
            .iter()
            .filter(|(alias, address)| address.room == room && alias.server_name() == SERVER)
            .map(|(alias, _)| alias.clone())
            .collect()
    }

    /// Lists a room in the directory, or takes it out.
    pub(crate) fn set_listed(&mut self, by: &UserId, id: &RoomId, listed: bool) -> Answer<()> {
        let Some(room) = self.rooms.get(id) else {
            return refuse(400, "M_UNKNOWN", "Unknown room");
        };
        let levels = Levels::of(room);
        if room.membership(by) != "join"
            || levels.of_user(by) < levels.to_send("m.room.canonical_alias", true)
        {
            return forbidden("This server requires you to be a moderator in the room");
        }
        if listed && self.denies_listings {
            return forbidden("Not allowed to publish room");
        }
        if listed {
            self.listed.insert(id.to_owned());
        } else {
            self.listed.remove(id);
        }
        self.watch_addresses();
        Ok(())
    }

    /// Rooms that somebody is in.
    pub(crate) fn joined_rooms(&self, by: &UserId) -> BTreeSet<OwnedRoomId> {
        self.rooms
            .values()
            .filter(|room| room.membership(by) == "join")
            .map(|room| room.id.clone())
            .collect()
    }
}

/// The addresses that content of a canonical alias shows.
pub(crate) fn shown(content: &Content) -> Vec<String> {
    let main = content.get("alias").and_then(Value::as_str);
    let others = content.get("alt_aliases").and_then(Value::as_array);
    let others = others.into_iter().flatten().filter_map(Value::as_str);
    main.into_iter()
        .chain(others)
        .map(ToOwned::to_owned)
        .collect()
}

/// An object, as content.
pub(crate) fn content(value: Value) -> Content {
    roomlift::room::state::content(value)
}
