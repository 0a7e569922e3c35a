//! Rooms that were closed, by whomever: their tombstones go into the inbox, so that admin rooms are told of
//! upgrades that somebody else did.

use ruma::RoomId;
use serde_json::Value;
use serde_json::value::RawValue;

use super::super::event::{once_more, tombstone};
use super::super::source::{SyncAnswer, TimelineEvent};
use super::Receiver;
use crate::store::{Received, ReceivedKind};

impl Receiver {
    /// Rooms that were closed, as one sync tells.
    pub(super) fn tombstones(&self, answer: &SyncAnswer) -> Vec<Received> {
        let mut found = Vec::new();
        for (room, update) in &answer.joined {
            let timeline = update.timeline.iter().map(|event| &event.json);
            let all = timeline.chain(&update.state);
            found.extend(all.filter_map(|json| closing(json, room)));
        }
        found.retain(|closed| self.is_news(closed));
        found
    }

    /// The bot's own tombstones are none, but for admin rooms: it moves with those.
    pub(super) fn is_news(&self, closed: &Received) -> bool {
        closed.sender != *self.own() || self.admin_rooms.contains(&closed.room_id)
    }

    /// Rooms that are closed, as far as sync ever told. Those that were looked at already are in
    /// the inbox, and change nothing.
    pub(super) async fn closed_rooms(&self) -> Vec<Received> {
        let mut found = self.all_closed_rooms().await;
        found.retain(|closed| self.is_news(closed));
        found
    }

    /// The same with those that the bot closed itself.
    pub(super) async fn all_closed_rooms(&self) -> Vec<Received> {
        let mut found = Vec::new();
        for (room, json) in self.source.tombstones().await {
            found.extend(closing(&json, &room));
        }
        found
    }

    /// Admin rooms that lead to where the bot was invited by now. Their tombstones were looked at in
    /// vain, if at all: most programs close the old room first, and invite afterwards.
    pub(super) async fn opened_rooms(&self) -> Vec<Received> {
        let invited = self.source.invitations().await;
        if invited.is_empty() {
            return Vec::new();
        }
        let mut found = Vec::new();
        for closed in self.closed_rooms().await {
            let is_open = matches!(&closed.kind, ReceivedKind::Tombstone { replacement: Some(to) }
                if invited.iter().any(|open| open.room_id == *to));
            if is_open && self.admin_rooms.contains(&closed.room_id) {
                found.extend(once_more(closed));
            }
        }
        found
    }
}

/// Whether an event closes its room.
pub(super) fn closes(event: &TimelineEvent, room: &RoomId) -> bool {
    closing(&event.json, room).is_some()
}

/// The tombstone of a room; `None` for any other event.
pub(super) fn closing(json: &RawValue, room: &RoomId) -> Option<Received> {
    let event: Value = serde_json::from_str(json.get()).ok()?;
    tombstone(&event, room)
}
