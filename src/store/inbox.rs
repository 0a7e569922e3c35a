//! Events that may ask something of the bot: stored before anything is done about them.
//!
//! The event id is the key, so that an event that is delivered again is the same row (P1).
//! Left out: what the events mean; that is for `handlers`.

use jiff::Timestamp;
use ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId, UserId};
use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};

use super::{Result, Store, StoreError, column, from_millis, parsed};
use crate::model::{Device, TakenBack};
use crate::telemetry::chain;

/// An event as it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Its id.
    pub event_id: OwnedEventId,
    /// The room it came from.
    pub room_id: OwnedRoomId,
    /// Who sent it.
    pub sender: OwnedUserId,
    /// When, by the sender's server.
    pub sent_at: Timestamp,
    /// What it is.
    pub kind: ReceivedKind,
}

/// What came in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ReceivedKind {
    /// A message that may be a command.
    Message {
        /// Its plain body.
        body: String,
        /// Its HTML, if it has any.
        formatted_body: Option<String>,
        /// What is known of the device that it came from.
        #[serde(default)]
        device: Device,
        /// The first message of the thread that it is in.
        #[serde(default)]
        thread: Option<OwnedEventId>,
    },
    /// A reaction.
    Reaction {
        /// The event reacted to.
        to: OwnedEventId,
        /// The emoji.
        key: String,
    },
    /// A room was closed in favour of another.
    Tombstone {
        /// The other room; absent where none, or no valid id, is named.
        replacement: Option<OwnedRoomId>,
    },
    /// The bot was invited to the room.
    Invitation,
    /// A message that was edited before it was handled: nobody knows whether its first words still count.
    Edited,
    /// A message or reaction that was removed before it was handled.
    Removed,
    /// That another event was edited or removed, whether it was handled or not.
    TakenBack {
        /// The other event.
        event: OwnedEventId,
        /// What was done to it.
        how: TakenBack,
    },
    /// A message that cannot be decrypted.
    Unreadable {
        /// The message. The row is named after its key, so that each key is told of once, and the
        /// message can still come in as a command, should its key arrive late.
        event: OwnedEventId,
    },
}

/// Somebody edited or removed an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawal {
    /// The event.
    pub event: OwnedEventId,
    /// Who did it.
    pub by: OwnedUserId,
    /// What they did.
    pub how: TakenBack,
}

impl Withdrawal {
    /// Whether it takes back this event. Only its sender can edit an event.
    #[must_use]
    pub fn is_of(&self, event: &EventId, sender: &UserId) -> bool {
        self.event == event && (self.how == TakenBack::Removed || self.by == sender)
    }
}

/// Events that are handled one after the other, beside those of the other lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// What people say, and rooms that are closed.
    Commands,
    /// Invitations to the bot.
    Invitations,
}

impl Store {
    /// Stores events of one sync answer, what became of events, and how far the rooms were read, in one
    /// transaction. Events that are known already, or so old that they may have been and are not any more, and
    /// withdrawals of what was handled, change nothing.
    ///
    /// # Errors
    /// When the database cannot be written; nothing is stored then.
    pub fn receive(
        &self,
        events: &[Received],
        withdrawn: &[Withdrawal],
        markers: &[(OwnedRoomId, OwnedEventId)],
    ) -> Result<()> {
        self.write("receive events", |tx| {
            for event in events {
                tx.execute(
                    "INSERT INTO inbox (event_id, seq, room_id, sender, sent_at, kind)
                     SELECT ?1, (SELECT coalesce(max(seq), 0) + 1 FROM inbox), ?2, ?3, ?4, ?5
                     FROM inbox_pruned WHERE ?4 > up_to OR ?6
                     ON CONFLICT (event_id) DO NOTHING",
                    params![
                        event.event_id.as_str(),
                        event.room_id.as_str(),
                        event.sender.as_str(),
                        event.sent_at.as_millisecond(),
                        super::json(&event.kind)?,
                        // Those stay.
                        matches!(event.kind, ReceivedKind::Tombstone { .. }),
                    ],
                )?;
            }
            for withdrawal in withdrawn {
                withdraw(tx, withdrawal)?;
            }
            for (room, event) in markers {
                tx.execute(
                    "INSERT INTO marker (room_id, event_id) VALUES (?1, ?2)
                     ON CONFLICT (room_id) DO UPDATE SET event_id = excluded.event_id",
                    params![room.as_str(), event.as_str()],
                )?;
            }
            Ok(())
        })?;
        if !events.is_empty() {
            self.wakes.inbox.notify_waiters();
        }
        Ok(())
    }

    /// The newest event of an admin room that reached the inbox.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn marker(&self, room: &RoomId) -> Result<Option<OwnedEventId>> {
        self.read("read a marker", |db| {
            let id: Option<String> = db
                .query_row(
                    "SELECT event_id FROM marker WHERE room_id = ?1",
                    [room.as_str()],
                    |row| row.get(0),
                )
                .optional()?;
            id.map(|id| parsed("marker.event_id", &id)).transpose()
        })
    }

    /// Whether an earlier invitation of the same room by the same sender was handled.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn was_invited_before(&self, invitation: &Received) -> Result<bool> {
        self.read("read the inbox", |db| {
            Ok(db.query_row(
                "SELECT EXISTS (SELECT 1 FROM inbox WHERE room_id = ?1 AND sender = ?2
                 AND event_id <> ?3 AND handled_at IS NOT NULL
                 AND json_extract(kind, '$.type') = 'invitation')",
                params![
                    invitation.room_id.as_str(),
                    invitation.sender.as_str(),
                    invitation.event_id.as_str(),
                ],
                |row| row.get(0),
            )?)
        })
    }

    /// Whether an event reached the inbox.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn was_received(&self, event: &EventId) -> Result<bool> {
        self.read("read the inbox", |db| {
            Ok(db.query_row(
                "SELECT EXISTS (SELECT 1 FROM inbox WHERE event_id = ?1)",
                [event.as_str()],
                |row| row.get(0),
            )?)
        })
    }

    /// The thread that an event is in, by its first message; a reaction is where the command is whose answer
    /// it is about.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn thread_of(&self, event: &EventId) -> Result<Option<OwnedEventId>> {
        self.read("read a thread", |db| {
            let root: Option<Option<String>> = db
                .query_row(
                    "SELECT coalesce(
                         json_extract(kind, '$.thread'),
                         (SELECT json_extract(command.kind, '$.thread')
                          FROM outbox AS answer
                          JOIN inbox AS command
                            ON command.event_id = json_extract(answer.post, '$.reply_to')
                          WHERE answer.event_id = json_extract(inbox.kind, '$.to')))
                     FROM inbox WHERE event_id = ?1",
                    [event.as_str()],
                    |row| row.get(0),
                )
                .optional()?;
            root.flatten()
                .map(|root| parsed("inbox.kind", &root))
                .transpose()
        })
    }

    /// Events of a lane that were not handled yet, oldest first; at most `limit`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn received(&self, lane: Lane, limit: u32) -> Result<Vec<Received>> {
        self.read("read the inbox", |db| {
            // As in the indexes of the lanes.
            let is = match lane {
                Lane::Commands => "IS NOT",
                Lane::Invitations => "IS",
            };
            let mut query = db.prepare_cached(&format!(
                "SELECT event_id, room_id, sender, sent_at, kind FROM inbox
                 WHERE handled_at IS NULL AND json_extract(kind, '$.type') {is} 'invitation'
                 ORDER BY seq LIMIT ?1"
            ))?;
            let mut rows = query.query([limit])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                match received(row) {
                    Ok(received) => found.push(received),
                    Err(error) => {
                        tracing::error!(
                            error = chain(&error),
                            "an event cannot be read, and is left out"
                        );
                    }
                }
            }
            Ok(found)
        })
    }
}

/// An event that is not handled yet asks for nothing any more.
fn withdraw(tx: &Transaction<'_>, withdrawal: &Withdrawal) -> Result<()> {
    let event = withdrawal.event.as_str();
    match withdrawal.how {
        TakenBack::Edited => tx.execute(
            "UPDATE inbox SET kind = ?2 WHERE event_id = ?1 AND sender = ?3 AND handled_at IS NULL
             AND json_extract(kind, '$.type') = 'message'",
            params![
                event,
                super::json(&ReceivedKind::Edited)?,
                withdrawal.by.as_str()
            ],
        )?,
        TakenBack::Removed => tx.execute(
            "UPDATE inbox SET kind = ?2 WHERE event_id = ?1 AND handled_at IS NULL
             AND json_extract(kind, '$.type') IN ('message', 'edited', 'reaction')",
            params![event, super::json(&ReceivedKind::Removed)?],
        )?,
    };
    Ok(())
}

/// Refuses where an event was withdrawn since it was read.
pub(super) fn still_counts(tx: &Transaction<'_>, event: &EventId) -> Result<()> {
    let is_withdrawn: bool = tx.query_row(
        "SELECT EXISTS (SELECT 1 FROM inbox WHERE event_id = ?1
         AND json_extract(kind, '$.type') IN ('edited', 'removed'))",
        [event.as_str()],
        |row| row.get(0),
    )?;
    if is_withdrawn {
        return Err(StoreError::Withdrawn);
    }
    Ok(())
}

fn received(row: &Row<'_>) -> Result<Received, StoreError> {
    Ok(Received {
        event_id: parsed("inbox.event_id", &column::<String>(row, 0)?)?,
        room_id: parsed("inbox.room_id", &column::<String>(row, 1)?)?,
        sender: parsed("inbox.sender", &column::<String>(row, 2)?)?,
        sent_at: from_millis("inbox.sent_at", column(row, 3)?)?,
        kind: super::unjson("inbox.kind", &column::<String>(row, 4)?)?,
    })
}
