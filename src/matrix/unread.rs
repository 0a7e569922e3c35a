//! Messages in admin rooms that cannot be decrypted yet.
//!
//! A key can come after its message: from a slow server, or out of the backup. So each is tried
//! again for a while. After a short grace it is told of, through the inbox; until then its room keeps
//! its marker, so that a kill in between loses nothing. Left out: what is said about it.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use ruma::{OwnedEventId, OwnedRoomId, RoomId, UserId};
use serde_json::value::RawValue;

use super::source::{SyncSource, TimelineEvent};
use crate::clock::later;
use crate::store::{Received, ReceivedKind, Withdrawal};

/// How long a key may come after its message before somebody is told. On one server it comes before.
const GRACE: Duration = Duration::from_secs(10);

/// How long a message is tried again after it was first seen.
const KEPT: Duration = Duration::from_mins(10);

/// Messages that are tried again at a time; each try is work for the cryptography only.
const KEPT_MAX: usize = 100;

/// How often to look while messages wait for their keys.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(3);

/// The messages that wait for their keys.
#[derive(Default)]
pub(super) struct Unread {
    messages: Vec<Message>,
}

struct Message {
    received: Received,
    event_id: OwnedEventId,
    json: Box<RawValue>,
    seen: Timestamp,
    told: Told,
}

#[derive(PartialEq, Eq)]
enum Told {
    No,
    Yes,
}

/// What became of messages that waited.
pub(super) struct Looked {
    /// Those that can be read now.
    pub(super) readable: Vec<(OwnedRoomId, TimelineEvent)>,
    /// Those whose key did not come in time.
    pub(super) unreadable: Vec<Received>,
}

impl Unread {
    /// Takes up a message that could not be decrypted.
    pub(super) fn note(
        &mut self,
        room: &RoomId,
        event: &TimelineEvent,
        own: &UserId,
        now: Timestamp,
    ) {
        let Some(message) = Message::of(room, event, now) else {
            return;
        };
        let is_known = self
            .messages
            .iter()
            .any(|known| known.event_id == message.event_id);
        if is_known || message.received.sender == own {
            return;
        }
        tracing::debug!(%room, event = %message.event_id, "cannot decrypt a message yet");
        self.messages.push(message);
        if self.messages.len() > KEPT_MAX {
            self.drop_one();
        }
    }

    /// Drops the oldest message of whoever has sent most: nobody pushes out what others sent (P1).
    fn drop_one(&mut self) {
        let mut counts = BTreeMap::new();
        for message in &self.messages {
            *counts.entry(&message.received.sender).or_insert(0_usize) += 1;
        }
        let most = counts.into_iter().max_by_key(|(_, count)| *count);
        let Some(sender) = most.map(|(sender, _)| sender.clone()) else {
            return;
        };
        let oldest = |message: &Message| message.received.sender == sender;
        if let Some(at) = self.messages.iter().position(oldest) {
            let message = self.messages.remove(at);
            tracing::warn!(
                room = %message.received.room_id, event = %message.event_id, %sender,
                "too many messages that cannot be decrypted: this one is not tried again"
            );
        }
    }

    /// Drops what was sent before a moment in a room: it was not meant for us.
    pub(super) fn forget_before(&mut self, room: &RoomId, moment: Timestamp) {
        self.messages.retain(|message| {
            message.received.room_id != room || message.received.sent_at >= moment
        });
    }

    /// Drops a message that was edited or removed meanwhile.
    pub(super) fn withdraw(&mut self, withdrawal: &Withdrawal) {
        self.messages
            .retain(|message| !withdrawal.is_of(&message.event_id, &message.received.sender));
    }

    /// Whether a message of a room may still turn out to be a command, with nobody told of it.
    pub(super) fn holds(&self, room: &RoomId) -> bool {
        self.messages
            .iter()
            .any(|message| message.received.room_id == room && message.told == Told::No)
    }

    /// Whether there is anything to look at again.
    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Tries all of them again.
    pub(super) async fn look(&mut self, source: &dyn SyncSource, now: Timestamp) -> Looked {
        let mut looked = Looked {
            readable: Vec::new(),
            unreadable: Vec::new(),
        };
        for mut message in std::mem::take(&mut self.messages) {
            let room = message.received.room_id.clone();
            if let Some(event) = source.decrypt(&room, &message.json).await {
                looked.readable.push((room, event));
                continue;
            }
            if message.told == Told::No && later(message.seen, GRACE) <= now {
                message.told = Told::Yes;
                tracing::warn!(%room, event = %message.event_id, "cannot decrypt a message");
                looked.unreadable.push(message.received.clone());
            }
            if later(message.seen, KEPT) > now {
                self.messages.push(message);
            }
        }
        looked
    }
}

impl Message {
    fn of(room: &RoomId, event: &TimelineEvent, now: Timestamp) -> Option<Self> {
        let undecrypted = event.undecrypted.as_ref()?;
        let event_id = event.event_id()?;
        let key = undecrypted
            .session
            .as_deref()
            .unwrap_or(event_id.as_str().trim_start_matches('$'));
        let sent_at = event.field("origin_server_ts")?;
        Some(Self {
            received: Received {
                event_id: format!("$unreadable.{key}").parse().ok()?,
                room_id: room.to_owned(),
                sender: event.sender()?,
                sent_at: Timestamp::from_millisecond(sent_at).ok()?,
                kind: ReceivedKind::Unreadable {
                    event: event_id.clone(),
                },
            },
            event_id,
            json: event.json.clone(),
            seen: now,
            told: Told::No,
        })
    }
}
