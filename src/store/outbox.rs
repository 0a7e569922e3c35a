//! What the bot wants to be in a room, and how much of it is there.
//!
//! A row is a message, file, reaction or redaction with a key that says what it is for, so that asking
//! for it twice posts it once (P3). A message can be revised: the difference goes out as an edit.
//! Transaction ids are stored with the row, before the first try. Left out: sending.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use ruma::serde::Base64;
use ruma::serde::base64::Standard;
use ruma::{EventId, OwnedEventId, OwnedRoomId};
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::{Deserialize, Serialize};

use super::post_key::PostKey;
use super::{Result, Store, StoreError, column, parsed};
use crate::model::Text;
use crate::telemetry::chain;

/// Longest wait of a post. One that is longer was written by a clock that was wrong, and is over.
pub const POST_WAIT_MAX: Duration = Duration::from_mins(10);

/// How often a new post is tried that fails while the server answers other requests; until then it holds up
/// those behind it in its room. After that they go before it (P13). The index `outbox_in_the_way` has it, too.
pub const HOLDS_UP_TRIES: u32 = 6;

const _: () = assert!(HOLDS_UP_TRIES == 6, "outbox_in_the_way and its query");

/// Something to be posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// What it is for. Posted once per key.
    pub key: PostKey,
    /// Where.
    pub room_id: OwnedRoomId,
    /// What.
    pub post: Post,
}

/// What is to be in the room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Post {
    /// A notice.
    Message {
        /// Its text.
        text: Text,
        /// The event it answers.
        reply_to: Option<OwnedEventId>,
    },
    /// A text file.
    File {
        /// What it is called.
        name: String,
        /// Its media type, such as `application/json`.
        content_type: String,
        /// What is in it.
        body: String,
        /// The event it answers.
        reply_to: Option<OwnedEventId>,
    },
    /// A picture, with words below it.
    Image {
        /// What its file is called.
        name: String,
        /// The file: a PNG.
        png: Base64<Standard, Vec<u8>>,
        /// Its width, in pixels.
        width: u32,
        /// Its height, in pixels.
        height: u32,
        /// What stands below it.
        caption: Text,
        /// The event it answers.
        reply_to: Option<OwnedEventId>,
    },
    /// A reaction by the bot.
    Reaction {
        /// What is reacted to.
        to: Target,
        /// The emoji.
        emoji: String,
    },
    /// Takes something back that the bot posted.
    Redaction {
        /// What is taken back.
        of: Target,
    },
}

/// An event, by its id or by the key of the post that it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// An event of somebody else.
    Event(OwnedEventId),
    /// Another post of the outbox; sent before this one because it was stored before it.
    Post(PostKey),
}

/// A post whose wanted form is not in the room yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// Row number; smaller ones go first.
    pub id: i64,
    /// Where.
    pub room_id: OwnedRoomId,
    /// What is wanted now.
    pub post: Post,
    /// Transaction id of the original; an edit appends its revision.
    pub txn: String,
    /// Revision of `post`; 0 is the original.
    pub revision: i64,
    /// The event, once it is known.
    pub event_id: Option<OwnedEventId>,
    /// Tries so far, of this revision or of one before it.
    pub attempts: u32,
}

/// Whether a post that was read a moment ago is still to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// It is.
    Still,
    /// It was withdrawn.
    NoMore,
}

/// What became of a try to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// This revision is in the room, as (or as an edit of) this event.
    Posted(OwnedEventId),
    /// The original is in the room, but perhaps in an older form: an edit must follow.
    PostedBefore(OwnedEventId),
    /// Try again at this time.
    Later(Timestamp),
    /// Nothing can be sent now, for whatever reason that is not this post's: try again at this time, and do
    /// not count the try.
    Away(Timestamp),
    /// Will never go out; not tried again.
    GivenUp,
    /// Will never go out as it is: this goes out in its place, from this time on. Where the post was the answer to a
    /// command, the command came to nothing.
    Instead {
        /// What.
        post: Box<Post>,
        /// From when.
        at: Timestamp,
        /// What ends the command, as long as its end is not shown.
        end: Option<End>,
    },
}

/// The reaction that says how a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// The command.
    pub of: OwnedEventId,
    /// The emoji.
    pub emoji: &'static str,
}

pub(super) fn enqueue(tx: &Transaction<'_>, now: Timestamp, out: &Outgoing) -> Result<()> {
    tx.execute(
        "INSERT INTO outbox (key, room_id, post, txn, due_at)
         VALUES (?1, ?2, ?3, (SELECT id FROM instance) || '.' || ?1, ?4)
         ON CONFLICT (key) DO NOTHING",
        params![
            out.key.to_string(),
            out.room_id.as_str(),
            super::json(&out.post)?,
            now.as_millisecond()
        ],
    )?;
    Ok(())
}

/// Posts a message, or edits it when it is there. Equal text changes nothing.
pub(super) fn revise(
    tx: &Transaction<'_>,
    now: Timestamp,
    out: &Outgoing,
    due: Timestamp,
) -> Result<()> {
    enqueue(tx, now, out)?;
    tx.execute(
        "UPDATE outbox SET post = ?2, revision = revision + 1, due_at = coalesce(due_at, ?3)
         WHERE key = ?1 AND post <> ?2",
        params![
            out.key.to_string(),
            super::json(&out.post)?,
            due.as_millisecond()
        ],
    )?;
    Ok(())
}

/// Puts off a post that was not tried yet.
pub(super) fn hold(tx: &Transaction<'_>, key: &PostKey, until: Timestamp) -> Result<()> {
    tx.execute(
        "UPDATE outbox SET due_at = max(due_at, ?2)
         WHERE key = ?1 AND event_id IS NULL AND attempts = 0",
        params![key.to_string(), until.as_millisecond()],
    )?;
    Ok(())
}

/// Takes back a post that was not tried yet.
pub(super) fn withdraw(tx: &Transaction<'_>, key: &PostKey) -> Result<()> {
    tx.execute(
        "DELETE FROM outbox WHERE key = ?1 AND event_id IS NULL AND attempts = 0",
        [key.to_string()],
    )?;
    Ok(())
}

impl Store {
    /// Posts that may be sent now, but for those of some rooms: of each room at most `limit`, and all in
    /// the order in which they were stored. What stands behind a new post that was tried in vain waits for that one.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn due_posts(
        &self,
        now: Timestamp,
        limit: u32,
        without: &HashSet<OwnedRoomId>,
    ) -> Result<Vec<Due>> {
        let longest = i64::try_from(POST_WAIT_MAX.as_millis()).unwrap_or(i64::MAX);
        let now = now.as_millisecond();
        let too_late = now.saturating_add(longest);
        self.read("read the outbox", |db| {
            let mut posts = Vec::new();
            for room in rooms_to_send_to(db)? {
                if without.iter().any(|without| *without == room) {
                    continue;
                }
                let mut due = db.prepare_cached(
                    "SELECT EXISTS (SELECT 1 FROM outbox WHERE room_id = ?1 AND due_at <= ?2)
                         OR EXISTS (SELECT 1 FROM outbox WHERE room_id = ?1 AND due_at > ?3)",
                )?;
                if due.query_row(params![room, now, too_late], |row| row.get(0))? {
                    due_in(db, &room, [now, too_late], limit, &mut posts)?;
                }
            }
            posts.sort_by_key(|post| post.id);
            Ok(posts)
        })
    }

    /// When the next post is due, if any is waiting.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn next_post_due(&self) -> Result<Option<Timestamp>> {
        self.read("read the outbox", |db| {
            let at: Option<i64> = db.query_row(
                "SELECT min(due_at) FROM outbox WHERE due_at IS NOT NULL",
                [],
                |row| row.get(0),
            )?;
            at.map(|at| super::from_millis("outbox.due_at", at))
                .transpose()
        })
    }

    /// Notes that a post is about to be tried, before the request leaves: from now on it is not
    /// withdrawn any more.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn post_tried(&self, id: i64) -> Result<Wanted> {
        self.write("note a try", |tx| {
            let rows = tx.execute(
                "UPDATE outbox SET attempts = attempts + 1 WHERE id = ?1",
                [id],
            )?;
            Ok(if rows == 0 {
                Wanted::NoMore
            } else {
                Wanted::Still
            })
        })
    }

    /// Records what became of sending `revision` of a post. Reactions to it that came in before its event was
    /// known meant nothing then, and are handled again (P1).
    ///
    /// # Errors
    /// When the database cannot be written.
    pub fn post_sent(&self, now: Timestamp, id: i64, revision: i64, sent: &Sent) -> Result<()> {
        let reopened = self.write("record a post", |tx| {
            let reopened = match sent {
                Sent::Posted(event) | Sent::PostedBefore(event) => tx.execute(
                    "UPDATE inbox SET handled_at = NULL
                     WHERE json_extract(kind, '$.type') = 'reaction' AND json_extract(kind, '$.to') = ?2
                     AND EXISTS (SELECT 1 FROM outbox WHERE id = ?1 AND event_id IS NULL)",
                    params![id, event.as_str()],
                )?,
                Sent::Later(_) | Sent::Away(_) | Sent::GivenUp | Sent::Instead { .. } => 0,
            };
            match sent {
                // Files are in the room now, and are never edited: the database does not keep them.
                Sent::Posted(event) => tx.execute(
                    "UPDATE outbox SET event_id = coalesce(event_id, ?3), sent_revision = ?2,
                     attempts = 0, due_at = CASE WHEN revision = ?2 THEN NULL ELSE due_at END, settled_at = ?4,
                     post = CASE json_extract(post, '$.type')
                            WHEN 'file' THEN json_set(post, '$.body', '')
                            WHEN 'image' THEN json_set(post, '$.png', '')
                            ELSE post END
                     WHERE id = ?1",
                    params![id, revision, event.as_str(), now.as_millisecond()],
                )?,
                Sent::PostedBefore(event) => tx.execute(
                    "UPDATE outbox SET event_id = ?2, sent_revision = 0, attempts = 0 WHERE id = ?1",
                    params![id, event.as_str()],
                )?,
                Sent::Later(at) => tx.execute(
                    "UPDATE outbox SET due_at = ?2 WHERE id = ?1",
                    params![id, at.as_millisecond()],
                )?,
                // That it was tried at all has to be known.
                Sent::Away(at) => tx.execute(
                    "UPDATE outbox SET due_at = ?2, attempts = max(attempts - 1, 1) WHERE id = ?1",
                    params![id, at.as_millisecond()],
                )?,
                Sent::GivenUp => tx.execute(
                    "UPDATE outbox SET due_at = NULL, settled_at = ?2 WHERE id = ?1",
                    params![id, now.as_millisecond()],
                )?,
                Sent::Instead { post, at, end } => {
                    if let Some(End { of, emoji }) = end {
                        tx.execute(
                            "UPDATE outbox SET post = json_set(post, '$.emoji', ?2)
                             WHERE key = ?1 AND event_id IS NULL",
                            params![PostKey::Ended(of.clone()).to_string(), emoji],
                        )?;
                    }
                    tx.execute(
                        "UPDATE outbox SET post = ?2, due_at = ?3, attempts = 0 WHERE id = ?1",
                        params![id, super::json(post)?, at.as_millisecond()],
                    )?
                }
            };
            Ok(reopened)
        })?;
        if reopened > 0 {
            self.wakes.inbox.notify_waiters();
        }
        Ok(())
    }

    /// Event id of the post with a key, once it is in the room.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn posted_event(&self, key: &PostKey) -> Result<Option<OwnedEventId>> {
        self.read("read the outbox", |db| {
            let id: Option<Option<String>> = db
                .query_row(
                    "SELECT event_id FROM outbox WHERE key = ?1",
                    [key.to_string()],
                    |row| row.get(0),
                )
                .optional()?;
            id.flatten()
                .map(|id| parsed("outbox.event_id", &id))
                .transpose()
        })
    }

    /// Whether a post was asked for under a key, whatever became of it.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn is_enqueued(&self, key: &PostKey) -> Result<bool> {
        self.read("read the outbox", |db| {
            Ok(db.query_row(
                "SELECT EXISTS (SELECT 1 FROM outbox WHERE key = ?1)",
                [key.to_string()],
                |row| row.get(0),
            )?)
        })
    }

    /// Whether the post with a key is still to be sent.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn is_waiting(&self, key: &PostKey) -> Result<bool> {
        self.read("read the outbox", |db| {
            Ok(db.query_row(
                "SELECT EXISTS (SELECT 1 FROM outbox WHERE key = ?1 AND due_at IS NOT NULL)",
                [key.to_string()],
                |row| row.get(0),
            )?)
        })
    }

    /// The key of the post that an event comes from; `None` also for one that nobody reads any more.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn post_of_event(&self, event: &EventId) -> Result<Option<PostKey>> {
        self.read("read the outbox", |db| {
            let key: Option<String> = db
                .query_row(
                    "SELECT key FROM outbox WHERE event_id = ?1",
                    [event.as_str()],
                    |row| row.get(0),
                )
                .optional()?;
            Ok(key.and_then(|key| key.parse().ok()))
        })
    }
}

/// Rooms with posts that are to be sent, now or later: from one to the next, however many posts each has.
fn rooms_to_send_to(db: &Connection) -> Result<Vec<String>> {
    let mut next = db.prepare_cached(
        "SELECT min(room_id) FROM outbox WHERE due_at IS NOT NULL AND room_id > ?1",
    )?;
    let mut rooms: Vec<String> = Vec::new();
    loop {
        let last = rooms.last().map_or("", String::as_str);
        match next.query_row([last], |row| row.get(0))? {
            Some(room) => rooms.push(room),
            None => return Ok(rooms),
        }
    }
}

/// The posts of a room that may be sent now.
fn due_in(
    db: &Connection,
    room: &str,
    [now, too_late]: [i64; 2],
    limit: u32,
    posts: &mut Vec<Due>,
) -> Result<()> {
    // One that failed keeps its place before others. An edit has none, nor has what is held back.
    let mut in_the_way = db.prepare_cached(
        "SELECT id FROM outbox INDEXED BY outbox_in_the_way
         WHERE room_id = ?1 AND due_at IS NOT NULL AND event_id IS NULL AND attempts BETWEEN 1 AND 5
         AND due_at > ?2 AND due_at <= ?3 ORDER BY id LIMIT 1",
    )?;
    let before: Option<i64> = in_the_way
        .query_row(params![room, now, too_late], |row| row.get(0))
        .optional()?;
    let mut query = db.prepare_cached(
        "SELECT id, room_id, post, txn, revision, event_id, attempts
         FROM outbox INDEXED BY outbox_room
         WHERE room_id = ?1 AND due_at IS NOT NULL AND id < ?5 AND (due_at <= ?2 OR due_at > ?3)
         ORDER BY id LIMIT ?4",
    )?;
    let before = before.unwrap_or(i64::MAX);
    let values = params![room, now, too_late, limit, before];
    let rows = query.query_map(values, |row| Ok((row.get::<_, i64>(0)?, due(row))))?;
    for row in rows {
        match row? {
            (_, Ok(post)) => posts.push(post),
            (id, Err(error)) => {
                tracing::error!(
                    id,
                    error = chain(&error),
                    "a post cannot be read, and is left out"
                );
            }
        }
    }
    Ok(())
}

fn due(row: &Row<'_>) -> Result<Due, StoreError> {
    Ok(Due {
        id: column(row, 0)?,
        room_id: parsed("outbox.room_id", &column::<String>(row, 1)?)?,
        post: super::unjson("outbox.post", &column::<String>(row, 2)?)?,
        txn: column(row, 3)?,
        revision: column(row, 4)?,
        event_id: column::<Option<String>>(row, 5)?
            .map(|id| parsed("outbox.event_id", &id))
            .transpose()?,
        attempts: column(row, 6)?,
    })
}
