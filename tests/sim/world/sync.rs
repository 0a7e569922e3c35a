//! What sync tells a device, and what the device's library has stored of it.
//!
//! As matrix-sdk does, the library stores its place before anybody sees the answer. Rooms tell their
//! state when the account comes in, and later what is in timelines. Members are lazily loaded.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use roomlift::homeserver::ToldRoom;
use roomlift::matrix::{Gap, Invitation, Page, RoomUpdate, SyncAnswer, TimelineEvent, Undecrypted};
use roomlift::model;
use roomlift::room::state::{Content, RoomState, StateEvent};
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId, RoomId};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::{Event, Room, World, content};

/// State with an empty key that a room is told with.
const TOLD: [&str; 6] = [
    "m.room.create",
    "m.room.name",
    "m.room.canonical_alias",
    "m.room.power_levels",
    "m.room.join_rules",
    "m.room.tombstone",
];

/// How long the bot looks for the key of a message, and a little more.
const TRIED_FOR: SignedDuration = SignedDuration::from_secs(620);

/// How messages in encrypted rooms are encrypted.
pub(crate) const MEGOLM: &str = "m.megolm.v1.aes-sha2";

/// Links between rooms and spaces.
const LINKS: [&str; 2] = ["m.space.child", "m.space.parent"];

/// What the library of a device has stored. It survives a kill.
#[derive(Debug, Clone, Default)]
pub(crate) struct Device {
    /// How far it has synced.
    pub(crate) place: Option<u64>,
    /// Rooms that the account is in, as they were told.
    pub(crate) rooms: BTreeMap<OwnedRoomId, ToldRoom>,
    /// Tombstones among that.
    pub(crate) tombstones: BTreeMap<OwnedRoomId, Box<RawValue>>,
    /// What the account keeps for itself.
    pub(crate) account_data: BTreeMap<String, Content>,
    /// Open invitations.
    pub(crate) invited: BTreeMap<OwnedRoomId, OwnedUserId>,
}

fn raw(event: &Event) -> Box<RawValue> {
    to_raw_value(&event.json()).expect("an event is JSON")
}

impl World {
    /// An event as the device's library gives it: decrypted, where it has the key.
    fn timeline(&self, event: &Event) -> TimelineEvent {
        let missing = self.missing_key(&event.id).map(ToOwned::to_owned);
        let sealed = missing.as_ref().map(|session| Event {
            kind: "m.room.encrypted".to_owned(),
            content: content(json!({ "algorithm": MEGOLM, "session_id": session })),
            ..event.clone()
        });
        TimelineEvent {
            json: raw(sealed.as_ref().unwrap_or(event)),
            device: model::Device::Unknown,
            undecrypted: missing.map(|session| Undecrypted {
                session: Some(session),
            }),
        }
    }

    /// The session whose key it takes to read an event, and that the bot does not have.
    fn missing_key(&self, event: &OwnedEventId) -> Option<&str> {
        let session = self.sealed.get(event)?;
        (!self.keys.contains(session)).then_some(session)
    }

    /// Whether there are messages whose keys the bot does not have, and that it still tries to read.
    pub(crate) fn waits_for_keys(&self, now: Timestamp) -> bool {
        let first = (now - TRIED_FOR).as_millisecond();
        let events = self.rooms.values().flat_map(|room| &room.events);
        let mut recent = events.filter(|event| event.at >= first);
        recent.any(|event| self.missing_key(&event.id).is_some())
    }

    /// Tries once more to decrypt an event.
    pub(crate) fn decrypted(&self, id: &RoomId, event: &str) -> Option<TimelineEvent> {
        let events = &self.rooms.get(id)?.events;
        let event = events.iter().find(|known| known.id == event)?;
        let read = self.timeline(event);
        read.undecrypted.is_none().then_some(read)
    }

    /// Whether sync has anything to tell.
    pub(crate) fn has_news(&self, own: &OwnedUserId, device: &Device) -> bool {
        let Some(place) = device.place else {
            return true;
        };
        let mut of_account = self.account_data.iter();
        if of_account.any(|((of, _), (_, stream))| of == own && *stream > place) {
            return true;
        }
        self.rooms.values().any(|room| {
            let newest = room.events.last().map_or(0, |event| event.stream);
            newest > place
                && (room.membership(own) == "join" || Self::own_news(room, own, place).is_some())
        })
    }

    /// The account's own membership, if it changed.
    fn own_news<'a>(room: &'a Room, own: &OwnedUserId, place: u64) -> Option<&'a str> {
        let event = room.event("m.room.member", own.as_str())?;
        (event.stream > place).then(|| event.text("membership").unwrap_or("leave"))
    }

    /// One answer of sync; the device has stored it by then.
    pub(crate) fn sync(&self, own: &OwnedUserId, device: &mut Device) -> SyncAnswer {
        let place = device.place.unwrap_or(0);
        let mut answer = SyncAnswer::default();
        for room in self.rooms.values() {
            let own_news = Self::own_news(room, own, place);
            match room.membership(own) {
                "join" => {
                    let is_new = !device.rooms.contains_key(&room.id);
                    let newest = room.events.last().map_or(0, |event| event.stream);
                    if newest > place || is_new {
                        let update = self.update(room, place, is_new);
                        answer.joined.insert(room.id.clone(), update);
                        Self::store(room, own, device);
                    }
                }
                "invite" if own_news.is_some() => {
                    let event = room.event("m.room.member", own.as_str());
                    if let Some(event) = event {
                        device.invited.insert(room.id.clone(), event.sender.clone());
                    }
                    device.rooms.remove(&room.id);
                    device.tombstones.remove(&room.id);
                    answer.invited.insert(room.id.clone());
                }
                _ if own_news.is_some() => {
                    device.rooms.remove(&room.id);
                    device.tombstones.remove(&room.id);
                    device.invited.remove(&room.id);
                    answer.left.insert(room.id.clone());
                }
                _ => {}
            }
        }
        for ((of, kind), (content, stream)) in &self.account_data {
            if of == own && *stream > place {
                device.account_data.insert(kind.clone(), content.clone());
            }
        }
        device.place = Some(self.stream());
        answer
    }

    fn update(&self, room: &Room, place: u64, is_new: bool) -> RoomUpdate {
        let new: Vec<&Event> = room
            .events
            .iter()
            .filter(|event| is_new || event.stream > place)
            .collect();
        let left_out = new.len().saturating_sub(self.timeline_limit);
        let (before, shown) = new.split_at(left_out);
        // State that changed outside what is shown; of members only those who speak.
        let speakers: BTreeSet<_> = shown.iter().map(|event| event.sender.as_str()).collect();
        let in_timeline: BTreeSet<_> = shown.iter().map(|event| &event.id).collect();
        let changed: BTreeSet<_> = before.iter().map(|event| &event.id).collect();
        let state = room
            .state_events()
            .filter(|event| changed.contains(&event.id) && !in_timeline.contains(&event.id))
            .filter(|event| {
                event.kind != "m.room.member"
                    || event
                        .state_key
                        .as_deref()
                        .is_some_and(|key| speakers.contains(key))
            })
            .map(raw)
            .collect();
        let told = room
            .events
            .iter()
            .filter(|event| !is_new && event.stream <= place && event.state_key.is_none());
        let again: Vec<_> = told.rev().take(self.repeats).collect();
        RoomUpdate {
            state,
            prev_batch: shown.first().map(|event| event.stream.to_string()),
            gap: if left_out > 0 { Gap::Before } else { Gap::None },
            timeline: again
                .iter()
                .rev()
                .chain(shown)
                .map(|event| self.timeline(event))
                .collect(),
        }
    }

    /// What the library keeps of a room.
    fn store(room: &Room, own: &OwnedUserId, device: &mut Device) {
        let mut events: Vec<StateEvent> = TOLD
            .iter()
            .filter_map(|kind| room.event(kind, ""))
            .map(Event::to_state_event)
            .collect();
        let member = room.event("m.room.member", own.as_str());
        events.extend(member.map(Event::to_state_event));
        for kind in LINKS {
            let links = room.of_kind(kind).map(Event::to_state_event);
            events.extend(links.filter(|link| {
                let via = link.content.get("via").and_then(Value::as_array);
                via.is_some_and(|via| !via.is_empty())
            }));
        }
        let told = ToldRoom {
            state: RoomState::new(room.id.clone(), events),
            members: room.members("join").len() as u64,
        };
        device.rooms.insert(room.id.clone(), told);
        device.invited.remove(&room.id);
        if let Some(tombstone) = room.event("m.room.tombstone", "") {
            device.tombstones.insert(room.id.clone(), raw(tombstone));
        }
    }

    /// A page of history.
    pub(crate) fn messages(&self, id: &RoomId, from: Option<&str>, limit: u32) -> Page {
        let Some(room) = self.rooms.get(id) else {
            return Page::default();
        };
        let from = from.and_then(|from| from.parse().ok()).unwrap_or(u64::MAX);
        let mut events: Vec<&Event> = room
            .events
            .iter()
            .rev()
            .filter(|event| event.stream < from)
            .collect();
        let more = events.len() > limit as usize;
        events.truncate(limit as usize);
        Page {
            end: events
                .last()
                .filter(|_| more)
                .map(|event| event.stream.to_string()),
            events: events
                .into_iter()
                .map(|event| self.timeline(event))
                .collect(),
        }
    }
}

impl Device {
    pub(crate) fn invitations(&self) -> Vec<Invitation> {
        self.invited
            .iter()
            .map(|(room, inviter)| Invitation {
                room_id: room.clone(),
                inviter: Some(inviter.clone()),
            })
            .collect()
    }
}
