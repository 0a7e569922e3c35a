//! Sync into the inbox: what was said in the admin rooms, also while nobody listened.
//!
//! The SDK keeps its own place in the sync before we see an answer, so that place is not trusted:
//! each admin room has a marker in our store, and on start, after a gap and after every failure the
//! room is read back to it. Of all other rooms only their closing by others is told, the members of those
//! that are followed up, and invitations. Left out: what the events mean.

mod closed;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use ruma::{OwnedEventId, OwnedRoomId, RoomId, UserId};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::closed::closes;
use super::claim::Claiming;
use super::enter::Readiness;
use super::event::{ForUs, received, taken_back, withdrawal};
use super::invitations::Invitations;
use super::source::{Gap, Invitation, RoomUpdate, SyncAnswer, SyncSource, TimelineEvent};
use super::trouble::Trouble;
use super::unread::{LOOK_AGAIN, Unread};
use super::wire::count;
use super::{MatrixError, members};
use crate::clock::{Clock, earlier};
use crate::homeserver::HomeserverError;
use crate::metrics::{self, RequestKind};
use crate::model::Claim;
use crate::store::{Received, ReceivedKind, Store, Withdrawal};

/// How long the homeserver may hold a sync that has nothing to tell.
const LONG_POLL: Duration = Duration::from_secs(30);

/// How much longer the first sync of a new device may take: it tells all rooms.
const INITIAL_SYNC: Duration = Duration::from_mins(5);

/// Events on one page when reading back.
const CATCH_UP_PAGE: u32 = 100;

/// Pages read back in one room; what is older is not looked for.
const CATCH_UP_PAGES_MAX: usize = 50;

/// How long after a failure an invitation to an admin room is accepted again.
const ENTER_AGAIN: Duration = Duration::from_secs(30);

/// How often setting up encryption is tried in one run, once per sync: what does not work by then is
/// no passing trouble.
const ENCRYPTION_TRIES_MAX: u32 = 5;

/// Everything it takes to receive.
pub struct Receiver {
    /// Where events come from.
    pub source: Arc<dyn SyncSource>,
    /// Where events go.
    pub store: Arc<Store>,
    /// The rooms that are listened to.
    pub admin_rooms: Arc<Vec<OwnedRoomId>>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// How far back in time missed events are looked for.
    pub max_age: Duration,
    /// What may be meant for the bot.
    pub for_us: ForUs,
    /// What to do where the account works with another database.
    pub claim: Claim,
    /// Told when everything up to now was read.
    pub ready: watch::Sender<Readiness>,
}

impl Receiver {
    /// Receives until `stop`.
    ///
    /// # Errors
    /// When the session was ended from outside, or the inbox cannot be used. Nothing is lost: the
    /// next start reads back to what was stored.
    pub async fn run(self, stop: CancellationToken) -> Result<(), MatrixError> {
        tokio::select! {
            biased;
            // At any await: what is not stored is read again.
            () = stop.cancelled() => Ok(()),
            ended = self.receive() => ended,
        }
    }

    async fn receive(&self) -> Result<(), MatrixError> {
        let started = self.clock.now();
        let mut place = Place {
            behind: self.admin_rooms.iter().cloned().collect(),
            answer: Answer::First,
            unread: Unread::default(),
            withdrawn: Vec::new(),
            reading: BTreeMap::new(),
            enter_at: Instant::now(),
        };
        let mut trouble = Trouble::new("sync");
        let mut poll = self.first_poll().await;
        let mut invitations = Invitations::default();
        let mut claiming = Claiming::default();
        let mut encryption_tries = 0..ENCRYPTION_TRIES_MAX;
        // Of members, sync may have told before the process ended.
        self.store
            .members_may_be_missing()
            .map_err(MatrixError::Inbox)?;
        loop {
            let syncs = self.source.syncs();
            let sync = syncs.begin();
            let answer = self.source.sync(poll).await;
            count(RequestKind::Sync, &answer);
            match answer {
                Ok(answer) => {
                    trouble.over();
                    claiming
                        .look(&*self.source, &self.store, &*self.clock, self.claim)
                        .await?;
                    self.set_up_encryption(&mut encryption_tries).await?;
                    self.take_invitations(&answer, &mut invitations).await?;
                    self.enter_again(&mut place.enter_at).await;
                    self.take(answer, &mut place, started).await?;
                    metrics::synced(self.clock.now());
                    self.ready.send_replace(Readiness::Ready);
                    syncs.take(sync);
                    poll = if place.unread.is_empty() && place.reading.is_empty() {
                        LONG_POLL
                    } else {
                        LOOK_AGAIN
                    };
                }
                Err(error) => {
                    self.still_signed_in(&error)?;
                    // The SDK may have taken the answer in before it failed.
                    place.behind.extend(self.admin_rooms.iter().cloned());
                    self.store
                        .members_may_be_missing()
                        .map_err(MatrixError::Inbox)?;
                    tokio::time::sleep(trouble.with(&error)).await;
                }
            }
        }
    }

    /// Sets up encryption, unless it is, or was tried often enough.
    async fn set_up_encryption(&self, tries: &mut Range<u32>) -> Result<(), MatrixError> {
        if tries.next().is_none() {
            return Ok(());
        }
        match self.source.set_up_encryption().await {
            Err(error @ MatrixError::Encryption(_)) => {
                let left = tries.len();
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, left, "tried in vain");
                Ok(())
            }
            result => {
                *tries = 0..0;
                result
            }
        }
    }

    /// How long the first sync may be held: not at all, so that its answer comes at once. A new
    /// device gets an answer at once in any case, and it takes the homeserver its time.
    async fn first_poll(&self) -> Duration {
        if self.source.has_synced().await {
            Duration::ZERO
        } else {
            INITIAL_SYNC
        }
    }

    /// The bot's own account.
    fn own(&self) -> &UserId {
        self.source.account()
    }

    fn still_signed_in(&self, error: &HomeserverError) -> Result<(), MatrixError> {
        if error.is_unknown_token() {
            return Err(MatrixError::SignedOut {
                user: self.own().to_owned(),
            });
        }
        Ok(())
    }

    /// Stores what one sync told, after what was missed before it.
    async fn take(
        &self,
        answer: SyncAnswer,
        place: &mut Place,
        started: Timestamp,
    ) -> Result<(), MatrixError> {
        for room in answer
            .left
            .iter()
            .filter(|room| self.admin_rooms.contains(room))
        {
            tracing::warn!(%room, "the bot is not in this admin room any more; invite it again");
        }
        let followed = self.store.followed_of(answer.joined.keys());
        let followed = followed.map_err(MatrixError::Inbox)?;
        let (members, gaps) = members::told(&answer, &followed);
        self.store
            .note_members(self.clock.now(), &members, &gaps)
            .map_err(MatrixError::Inbox)?;
        let answer_is = std::mem::replace(&mut place.answer, Answer::Later);
        let mut closed = self.tombstones(&answer);
        if answer_is == Answer::First {
            // Of rooms closed while nobody listened, sync may have told before a crash.
            closed.extend(self.closed_rooms().await);
        }
        if answer_is == Answer::First || !answer.invited.is_empty() {
            closed.extend(self.opened_rooms().await);
        }
        let (mut events, mut newest) = (Vec::new(), Vec::new());
        let mut after_closing = Vec::new();
        for room in self.admin_rooms.iter() {
            let mut news = self
                .news(room, answer.joined.get(room), place, started)
                .await?;
            events.append(&mut news.events);
            after_closing.append(&mut news.after_closing);
            newest.extend(news.newest.map(|newest| (room.clone(), newest)));
        }
        let looked = place.unread.look(&*self.source, self.clock.now()).await;
        for (room, event) in &looked.readable {
            self.read(room, event, &mut events, place);
        }
        events.extend(looked.unreadable);
        // What was said in a room before it was closed is handled before the bot leaves for another, and what
        // was said there later is not.
        events.append(&mut closed);
        events.append(&mut after_closing);
        // A room that could not be read back, or whose last words may still be understood, keeps
        // its place.
        newest.retain(|(room, _)| !place.behind.contains(room) && !place.unread.holds(room));
        let withdrawn = std::mem::take(&mut place.withdrawn);
        if events.is_empty() && withdrawn.is_empty() && newest.is_empty() {
            return Ok(());
        }
        self.store
            .receive(&events, &withdrawn, &newest)
            .map_err(MatrixError::Inbox)
    }

    /// What an admin room has to tell, after what was missed in it.
    async fn news(
        &self,
        room: &OwnedRoomId,
        update: Option<&RoomUpdate>,
        place: &mut Place,
        started: Timestamp,
    ) -> Result<News, MatrixError> {
        if update.is_some_and(|update| update.gap == Gap::Before) {
            place.behind.insert(room.clone());
        }
        let marker = self.store.marker(room).map_err(MatrixError::Inbox)?;
        let mut news = News::default();
        if place.behind.contains(room)
            && self
                .catch_up(room, update, marker.as_ref(), &mut news, place)
                .await?
                == Reading::Done
        {
            place.behind.remove(room);
        }
        if let Some(update) = update {
            let mut is_closed = false;
            for event in &update.timeline {
                let into = if is_closed {
                    &mut news.after_closing
                } else {
                    &mut news.events
                };
                self.read(room, event, into, place);
                is_closed |= closes(event, room);
            }
            let last = update
                .timeline
                .iter()
                .rev()
                .find_map(TimelineEvent::event_id);
            news.newest = last.or(news.newest);
        }
        if marker.is_none() {
            // Never listened here: what was said before is not for us, unless it was said to a bot that
            // was on its way from another room.
            let came_along = self.store.has_come_to(room).map_err(MatrixError::Inbox)?;
            let since = if came_along {
                earlier(self.clock.now(), self.max_age)
            } else {
                started
            };
            news.events.retain(|event| event.sent_at >= since);
            news.after_closing.retain(|event| event.sent_at >= since);
            place.unread.forget_before(room, since);
        }
        Ok(news)
    }

    /// Stores invitations, but for those to admin rooms and to where a closed room leads: the first
    /// are accepted in any case, the others once it is known whether to follow.
    async fn take_invitations(
        &self,
        answer: &SyncAnswer,
        invitations: &mut Invitations,
    ) -> Result<(), MatrixError> {
        let open = self.source.invitations().await;
        if open.is_empty() {
            return Ok(());
        }
        let closed = self.all_closed_rooms().await;
        let mut others: BTreeSet<_> = closed
            .into_iter()
            .filter_map(|closed| match closed.kind {
                ReceivedKind::Tombstone { replacement } => replacement,
                _ => None,
            })
            .collect();
        others.extend(self.admin_rooms.iter().cloned());
        let news = invitations.news(open, &answer.invited, &others, self.clock.now());
        if news.is_empty() {
            return Ok(());
        }
        self.store
            .receive(&news, &[], &[])
            .map_err(MatrixError::Inbox)
    }

    /// Accepts invitations to admin rooms, not before `at`. Sync tells each only once.
    async fn enter_again(&self, at: &mut Instant) {
        if Instant::now() < *at {
            return;
        }
        for Invitation { room_id: room, .. } in self.source.invitations().await {
            if !self.admin_rooms.contains(&room) {
                continue;
            }
            if let Err(error) = self.source.accept(&room).await {
                *at = Instant::now() + ENTER_AGAIN;
                let error = &error as &dyn std::error::Error;
                tracing::warn!(
                    %room, error, "cannot accept the invitation to an admin room yet"
                );
            }
        }
    }

    /// Reads back to the marker, oldest event first into `news`.
    async fn catch_up(
        &self,
        id: &RoomId,
        update: Option<&RoomUpdate>,
        marker: Option<&OwnedEventId>,
        news: &mut News,
        place: &mut Place,
    ) -> Result<Reading, MatrixError> {
        let oldest = earlier(self.clock.now(), self.max_age);
        // Without a gap in this answer, what was missed may lie before the end of the room.
        let gap = update.filter(|update| update.gap == Gap::Before);
        let mut from = gap.and_then(|update| update.prev_batch.clone());
        let pages = if marker.is_some() {
            CATCH_UP_PAGES_MAX
        } else {
            1
        };
        let mut missed = Vec::new();
        let mut page = 0;
        loop {
            let asked = self.source.messages(id, from.as_deref(), CATCH_UP_PAGE);
            let answer = match asked.await {
                Ok(Some(answer)) => answer,
                Ok(None) => {
                    // Sync tells when the bot is in there again.
                    place.reading.remove(id);
                    return Ok(Reading::NotNow);
                }
                Err(error) => {
                    self.still_signed_in(&error)?;
                    if matches!(error, HomeserverError::Refused { .. }) {
                        let error = &error as &dyn std::error::Error;
                        tracing::error!(room = %id, error, "cannot read what was missed here");
                        break;
                    }
                    // The other rooms are listened to meanwhile.
                    let trouble = place.reading.entry(id.to_owned());
                    trouble
                        .or_insert_with(|| Trouble::new("reading back"))
                        .with(&error);
                    return Ok(Reading::NotNow);
                }
            };
            page += 1;
            if news.newest.is_none() {
                news.newest = answer.events.iter().find_map(TimelineEvent::event_id);
            }
            let end = answer
                .events
                .iter()
                .position(|event| event.event_id().as_ref() == marker);
            let end = end.filter(|_| marker.is_some());
            for event in answer.events.iter().take(end.unwrap_or(usize::MAX)) {
                self.read(id, event, &mut missed, place);
            }
            // A single event may lie about its age; a page of them hardly.
            let all_old = !answer.events.is_empty()
                && answer
                    .events
                    .iter()
                    .all(|event| sent_at(event).is_some_and(|at| at < oldest));
            if end.is_some() || all_old || answer.end.is_none() {
                break;
            }
            if page == pages {
                if marker.is_some() {
                    tracing::warn!(room = %id, pages, "too much was missed here to read it all");
                }
                break;
            }
            from = answer.end;
        }
        if let Some(mut trouble) = place.reading.remove(id) {
            trouble.over();
        }
        missed.reverse();
        news.events = missed;
        Ok(Reading::Done)
    }

    fn read(
        &self,
        room: &RoomId,
        event: &TimelineEvent,
        into: &mut Vec<Received>,
        place: &mut Place,
    ) {
        let own = self.own();
        let json = event.value();
        // The bot edits and removes what it has said itself.
        if let Some(withdrawal) = withdrawal(&json).filter(|withdrawal| withdrawal.by != own) {
            place.unread.withdraw(&withdrawal);
            into.extend(taken_back(&json, room, &withdrawal));
            place.withdrawn.push(withdrawal);
        }
        if event.undecrypted.is_some() {
            place.unread.note(room, event, own, self.clock.now());
            return;
        }
        let mut read = received(&json, room, own, self.for_us);
        if let Some(Received {
            kind: ReceivedKind::Message { device: from, .. },
            ..
        }) = &mut read
        {
            *from = event.device;
        }
        into.extend(read);
    }
}

/// How far everything was received.
struct Place {
    /// Admin rooms in which events may have been missed.
    behind: BTreeSet<OwnedRoomId>,
    /// Which answer of sync comes next.
    answer: Answer,
    /// Messages that cannot be decrypted yet.
    unread: Unread,
    /// What was edited or removed, as one sync told.
    withdrawn: Vec<Withdrawal>,
    /// Of those, rooms that the server fails to let the bot read back.
    reading: BTreeMap<OwnedRoomId, Trouble>,
    /// When invitations to admin rooms are accepted again.
    enter_at: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Answer {
    First,
    Later,
}

/// What became of reading back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// All there is was read.
    Done,
    /// It is not possible now.
    NotNow,
}

/// What is new in a room.
#[derive(Default)]
struct News {
    events: Vec<Received>,
    /// What was said after the room was closed.
    after_closing: Vec<Received>,
    newest: Option<OwnedEventId>,
}

fn sent_at(event: &TimelineEvent) -> Option<Timestamp> {
    let millis = event.field("origin_server_ts")?;
    Timestamp::from_millisecond(millis).ok()
}
