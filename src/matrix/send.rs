//! The outbox into the rooms: what is wanted there is made true, once, whatever happens between.
//!
//! Each room has its own order and its own pace; a post that fails holds up those behind it in its
//! room and nobody else. Transaction ids come from the store, so that a try after a kill is the same
//! message to the homeserver. Left out: what is said, and how often a text is revised.

mod rooms;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use ruma::{EventId, OwnedEventId, OwnedRoomId, RoomId};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::rooms::{POSTS_PER_ROOM, Rooms};
use super::MatrixError;
use super::file::{self, Shown};
use super::post::{edit, in_words, may_be_older, original, reaction};
use crate::clock::{Clock, backoff, later};
use crate::homeserver::pace::Priority;
use crate::homeserver::paced::Paced;
use crate::homeserver::{Bucket, Homeserver, HomeserverError, MESSAGE, Upload, ensure_reachable};
use crate::room::state::Content;
use crate::store::{
    Due, HOLDS_UP_TRIES, POST_WAIT_MAX, Post, Sent, Store, StoreError, Target, Wanted,
};
use crate::telemetry::chain;

/// At most one edit of a post in this time, and none so soon after it was sent, unless something new is
/// said after it.
const EDIT_INTERVAL: Duration = Duration::from_secs(2);

/// The same while the server limits messages, which it counts together with settings of rooms: work
/// goes before talk.
const EDIT_INTERVAL_TIGHT: Duration = Duration::from_mins(1);

/// After so long without an edit of a post the next one does not wait for what matters more, while the server
/// limits messages.
const PROGRESS_AT_LEAST: Duration = Duration::from_mins(4);

/// First wait after an uncertain answer; doubles.
const RETRY_FIRST: Duration = Duration::from_secs(1);

/// Longest wait after an uncertain answer.
const RETRY_MAX: Duration = Duration::from_mins(1);

/// How often a post is tried that fails while the server answers other requests, once a minute: about a day.
const TRIES_MAX: u32 = 1500;

/// Tries of a post to a room that the bot is not in, before they become fewer: an hour's.
const TRIES_OFTEN: u32 = 60;

/// Wait while nothing can be sent.
const RETRY_AWAY: Duration = Duration::from_secs(10);

/// Looking again while something waits for something else.
const POLL_WAITING: Duration = Duration::from_secs(1);

/// Looking again without having been woken.
const POLL_IDLE: Duration = Duration::from_secs(30);

/// Posts of one room that are looked at together: those to be sent, and edits that wait a moment.
const LOOKED_AT_MAX: u32 = 100;

/// How long requests under way may take to end after `stop`; repeating them is harmless.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Sends what the outbox holds until `stop`.
///
/// # Errors
/// When the session was ended from outside, or the outbox cannot be used.
pub async fn run(
    port: Paced,
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) -> Result<(), MatrixError> {
    let edited = Mutex::default();
    let sender = Arc::new(Sender {
        port,
        store,
        clock,
        edited,
    });
    let mut rooms = Rooms::default();
    loop {
        // Before reading, so that nothing stored meanwhile is missed.
        let wakes = Arc::clone(&sender.store);
        let woken = wakes.wakes.outbox.notified();
        let pause = rooms.start(&sender).map_err(MatrixError::Outbox)?;
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = woken => {}
            Some(ended) = rooms.tasks.join_next(), if !rooms.tasks.is_empty() => {
                rooms.ended(ended)?;
            }
            () = tokio::time::sleep(pause) => {}
        }
    }
    // What takes longer is aborted, and repeated on the next start.
    let rest = async { while rooms.tasks.join_next().await.is_some() {} };
    let _ended = tokio::time::timeout(STOP_GRACE, rest).await;
    Ok(())
}

struct Sender {
    port: Paced,
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    /// When posts were last sent or edited, if not long ago.
    edited: Mutex<HashMap<i64, Timestamp>>,
}

/// A request that makes a post true.
enum Request {
    Event {
        kind: &'static str,
        transaction: String,
        content: Content,
    },
    /// A file, and the message that shows it.
    File {
        transaction: String,
        file: Upload,
        shown: Shown,
        relation: Option<Value>,
    },
    Redact {
        event: OwnedEventId,
        transaction: String,
    },
}

/// What is to be done for a post.
enum Task {
    Ask(Request),
    /// It is there already, or never can be.
    Record(Sent),
}

/// What became of a post.
#[derive(PartialEq, Eq)]
enum Outcome {
    /// Those behind it may go.
    Settled,
    /// Those behind it wait as well.
    Waits,
}

impl Sender {
    /// The posts that may go now, by room, in their order.
    fn ready(&self, due: Vec<Due>, now: Timestamp) -> Vec<(OwnedRoomId, Vec<Due>)> {
        let mut edited = self.edited.lock().unwrap_or_else(PoisonError::into_inner);
        let is_limited = self.port.is_limited(Bucket::Everything);
        let interval = if is_limited {
            EDIT_INTERVAL_TIGHT
        } else {
            EDIT_INTERVAL
        };
        // One that was edited in the future was so before the clock was set back.
        edited.retain(|_, at| *at <= now && later(*at, PROGRESS_AT_LEAST) > now);
        let is_too_soon = |post: &Due| {
            let last = edited.get(&post.id);
            post.event_id.is_some() && last.is_some_and(|at| later(*at, interval) > now)
        };
        // The last new post of each room that goes out now.
        let news: HashMap<OwnedRoomId, i64> = due
            .iter()
            .filter(|post| post.event_id.is_none())
            .map(|post| (post.room_id.clone(), post.id))
            .collect();
        let mut ready: Vec<(OwnedRoomId, Vec<Due>)> = Vec::new();
        for post in due {
            // What is said next comes after what it follows from: a report after the last edit of the
            // progress, however soon. Not under a tight limit: an edit at each opening would leave
            // nothing for the report, and nothing for the work.
            let is_followed =
                !is_limited && news.get(&post.room_id).is_some_and(|last| post.id < *last);
            if is_too_soon(&post) && !is_followed {
                continue;
            }
            match ready.iter_mut().find(|(room, _)| *room == post.room_id) {
                Some((_, posts)) if posts.len() < POSTS_PER_ROOM => posts.push(post),
                Some(_) => {}
                None => ready.push((post.room_id.clone(), vec![post])),
            }
        }
        ready
    }

    async fn send_all(&self, posts: &[Due]) -> Result<(), MatrixError> {
        for post in posts {
            if self.send(post).await? == Outcome::Waits {
                break;
            }
        }
        Ok(())
    }

    async fn send(&self, post: &Due) -> Result<Outcome, MatrixError> {
        let paced = self.port.at(self.priority(post));
        if let Some(wait) = paced.too_long_wait(Bucket::Everything) {
            // Not a try: nothing leaves, and what matters more goes before it.
            return self.put_off(post, wait);
        }
        let sent = match self.task(post).map_err(MatrixError::Outbox)? {
            Task::Record(sent) => sent,
            Task::Ask(request) => {
                // Before the request leaves: a later try must know that this one was.
                let wanted = self.store.post_tried(post.id);
                if wanted.map_err(MatrixError::Outbox)? == Wanted::NoMore {
                    return Ok(Outcome::Settled);
                }
                {
                    let mut edited = self.edited.lock().unwrap_or_else(PoisonError::into_inner);
                    edited.insert(post.id, self.clock.now());
                }
                let answer = self.ask(&paced, &post.room_id, request).await;
                if let Ok(event) = &answer {
                    tracing::debug!(room = %post.room_id, %event, "said");
                }
                match answer {
                    Ok(event) if may_be_older(post) => Sent::PostedBefore(event),
                    Ok(event) => Sent::Posted(event),
                    Err(error) if error.is_unknown_token() => {
                        let user = self.port.account().to_owned();
                        return Err(MatrixError::SignedOut { user });
                    }
                    Err(error) => self.after_failure(post, &error).await,
                }
            }
        };
        self.store
            .post_sent(self.clock.now(), post.id, post.revision, &sent)
            .map_err(MatrixError::Outbox)?;
        Ok(match sent {
            Sent::Later(_) if post.attempts >= HOLDS_UP_TRIES => Outcome::Settled,
            // What goes out in its place has its turn.
            Sent::Later(_) | Sent::Away(_) | Sent::Instead { .. } => Outcome::Waits,
            Sent::Posted(_) | Sent::PostedBefore(_) | Sent::GivenUp => Outcome::Settled,
        })
    }

    /// What a post is sent before and after, where the server limits messages. An edit goes like an answer where
    /// the last one is long ago: people see how far things are, however much there is to do.
    fn priority(&self, post: &Due) -> Priority {
        let edited = self.edited.lock().unwrap_or_else(PoisonError::into_inner);
        match priority(post) {
            Priority::Progress if !edited.contains_key(&post.id) => Priority::Answer,
            priority => priority,
        }
    }

    fn put_off(&self, post: &Due, wait: Duration) -> Result<Outcome, MatrixError> {
        let now = self.clock.now();
        let again = Sent::Later(later(now, wait.clamp(RETRY_FIRST, POST_WAIT_MAX)));
        self.store
            .post_sent(now, post.id, post.revision, &again)
            .map_err(MatrixError::Outbox)?;
        Ok(Outcome::Settled)
    }

    async fn ask(
        &self,
        port: &Paced,
        room: &RoomId,
        request: Request,
    ) -> Result<OwnedEventId, HomeserverError> {
        match request {
            Request::Event {
                kind,
                transaction,
                content,
            } => port.send_event(room, kind, &transaction, &content).await,
            Request::File {
                transaction,
                file,
                shown,
                relation,
            } => {
                let uploaded = port.upload(room, &file).await?;
                let content = file::message(&file, uploaded, &shown, relation);
                port.send_event(room, MESSAGE, &transaction, &content).await
            }
            Request::Redact { event, transaction } => port.redact(room, &event, &transaction).await,
        }
    }

    /// What is to be done for a post.
    fn task(&self, post: &Due) -> Result<Task, StoreError> {
        let transaction = post.txn.clone();
        Ok(match (&post.post, &post.event_id) {
            (Post::Message { text, reply_to }, None) => Task::Ask(Request::Event {
                kind: MESSAGE,
                transaction,
                content: original(text, self.relation(reply_to.as_deref())?),
            }),
            (Post::Message { text, .. }, Some(original)) => Task::Ask(Request::Event {
                kind: MESSAGE,
                transaction: format!("{transaction}.{}", post.revision),
                content: edit(text, original),
            }),
            // None of the others can be revised: what is there is right.
            (_, Some(event)) => Task::Record(Sent::Posted(event.clone())),
            (
                Post::File {
                    name,
                    content_type,
                    body,
                    reply_to,
                },
                None,
            ) => Task::Ask(Request::File {
                transaction,
                file: Upload {
                    name: name.clone(),
                    content_type: content_type.clone(),
                    bytes: body.clone().into_bytes(),
                },
                shown: Shown::File,
                relation: self.relation(reply_to.as_deref())?,
            }),
            (
                Post::Image {
                    name,
                    png,
                    width,
                    height,
                    caption,
                    reply_to,
                },
                None,
            ) => Task::Ask(Request::File {
                transaction,
                file: Upload {
                    name: name.clone(),
                    content_type: "image/png".to_owned(),
                    bytes: png.as_bytes().to_vec(),
                },
                shown: Shown::Image {
                    width: *width,
                    height: *height,
                    caption: caption.clone(),
                },
                relation: self.relation(reply_to.as_deref())?,
            }),
            (Post::Reaction { to, emoji }, None) => self.about(to, |event| Request::Event {
                kind: "m.reaction",
                transaction,
                content: reaction(&event, emoji),
            })?,
            (Post::Redaction { of }, None) => {
                self.about(of, |event| Request::Redact { event, transaction })?
            }
        })
    }

    /// How a message relates to what it answers, in whose thread it is.
    /// Source: Matrix specification, "Threading".
    fn relation(&self, reply_to: Option<&EventId>) -> Result<Option<Value>, StoreError> {
        let Some(event) = reply_to else {
            return Ok(None);
        };
        let mut relation = json!({ "m.in_reply_to": { "event_id": event } });
        if let Some(root) = self.store.thread_of(event)? {
            relation["rel_type"] = "m.thread".into();
            relation["event_id"] = root.as_str().into();
            relation["is_falling_back"] = false.into();
        }
        Ok(Some(relation))
    }

    /// A request about another event, if that is there.
    fn about(
        &self,
        target: &Target,
        request: impl FnOnce(OwnedEventId) -> Request,
    ) -> Result<Task, StoreError> {
        let key = match target {
            Target::Event(event) => return Ok(Task::Ask(request(event.clone()))),
            Target::Post(key) => key,
        };
        Ok(match self.store.posted_event(key)? {
            Some(event) => Task::Ask(request(event)),
            None if self.store.is_waiting(key)? => {
                Task::Record(Sent::Later(later(self.clock.now(), POLL_WAITING)))
            }
            None => Task::Record(Sent::GivenUp),
        })
    }

    /// What a failure means for a post; logs it.
    async fn after_failure(&self, post: &Due, error: &HomeserverError) -> Sent {
        let now = self.clock.now();
        let room = &post.room_id;
        let shown = chain(error);
        let pause = backoff(RETRY_FIRST, RETRY_MAX, post.attempts);
        match error {
            HomeserverError::RateLimited { limit, .. } => {
                tracing::info!(%room, seconds = limit.retry_after.as_secs(), "sending is rate limited");
                Sent::Later(later(now, limit.retry_after.min(POST_WAIT_MAX)))
            }
            // The bot's own reaction is there, from a try whose answer got lost.
            HomeserverError::Refused { code, .. } if code == "M_DUPLICATE_ANNOTATION" => {
                Sent::GivenUp
            }
            HomeserverError::Refused { .. } => match self.port.joined_rooms().await {
                Ok(joined) if joined.contains(room) => {
                    tracing::error!(%room, post = post.txn, error = shown, "cannot be posted; given up");
                    in_words(post, error, now).unwrap_or(Sent::GivenUp)
                }
                // Somebody may invite the bot again.
                Ok(_) if post.attempts < TRIES_MAX => {
                    if post.attempts == 0 {
                        tracing::warn!(%room, post = post.txn, "not in the room; kept until then");
                    }
                    let pause = match post.attempts {
                        ..TRIES_OFTEN => pause,
                        _ => POST_WAIT_MAX,
                    };
                    Sent::Later(later(now, pause))
                }
                Ok(_) => {
                    tracing::error!(%room, post = post.txn, "not in the room for days; given up");
                    Sent::GivenUp
                }
                Err(_) => Sent::Away(later(now, RETRY_AWAY)),
            },
            _ if error.is_transient() && ensure_reachable(&self.port).await.is_err() => {
                if post.attempts == 0 {
                    tracing::warn!(%room, post = post.txn, error = shown, "not posted; the server is away");
                }
                Sent::Away(later(now, RETRY_AWAY))
            }
            HomeserverError::AccountBlocked { .. } => {
                if post.attempts == 0 {
                    tracing::warn!(%room, post = post.txn, error = shown, "not posted; kept until then");
                }
                Sent::Away(later(now, RETRY_AWAY))
            }
            _ if post.attempts + 1 >= HOLDS_UP_TRIES
                && let Some(words) = in_words(post, error, now) =>
            {
                tracing::error!(%room, post = post.txn, error = shown, "a file cannot be sent; said so");
                words
            }
            _ if post.attempts >= TRIES_MAX => {
                tracing::error!(%room, post = post.txn, error = shown, "tried for a day; given up");
                Sent::GivenUp
            }
            _ => {
                if [0, HOLDS_UP_TRIES].contains(&post.attempts) {
                    tracing::warn!(%room, post = post.txn, error = shown, "not posted; trying on");
                }
                Sent::Later(later(now, pause))
            }
        }
    }
}

/// What a post is sent before and after, where the server limits messages.
fn priority(post: &Due) -> Priority {
    // What follows the id of the database is the key of the post.
    let is_answer = post.txn.split_once('.').is_some_and(|(_, key)| {
        ["reply:", "ack:"]
            .iter()
            .any(|answer| key.starts_with(answer))
    });
    match (&post.post, &post.event_id) {
        (Post::Redaction { .. }, _) => Priority::Tidying,
        (_, Some(_)) => Priority::Progress,
        _ if is_answer => Priority::Answer,
        _ => Priority::Report,
    }
}
