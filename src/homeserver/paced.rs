//! A homeserver at the pace that it allows: each request waits for its turn under the limits that it counts
//! for, and what comes of it is noted there.
//!
//! Short waits happen here, in place; how long that may be depends on what the request is for. A longer one is
//! told as [`HomeserverError::RateLimited`], and whoever asked stores it (P8). Reading changes nothing, so it is
//! repeated here: a step reads dozens of things, and would never end if one refusal made it begin again.
//!
//! Longer than most files, as it is one implementation of one trait.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use ruma::{
    EventId, OwnedEventId, OwnedRoomAliasId, OwnedRoomId, OwnedUserId, RoomAliasId, RoomId,
    RoomVersionId, ServerName, UserId,
};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::admin::ServerAdmin;
use super::pace::{Allowance, LimitOf, Outcome, Pacer, Priority, Turn};
use super::{
    Bucket, Existence, Homeserver, HomeserverError, RateLimit, Reserved, Resolved, Result,
    RoomVersions, ToldRoom, Upload, Uploaded,
};
use crate::checkup::{EncryptionFacts, ServerFacts};
use crate::model::RoomRef;
use crate::room::creation::Preset;
use crate::room::moves::MemberEvent;
use crate::room::state::{Content, Listing, RoomEvent, RoomState};

/// Reads that are under way at the same time; the next ones wait in order.
pub const READS_AT_ONCE: usize = 8;

/// The same of reads that may wait for another server, for as long as a minute each.
pub const READS_ELSEWHERE_AT_ONCE: usize = 32;

/// Longest time to get a turn that is no wait.
const UNNOTICED: Duration = Duration::from_millis(10);

/// Longest wait of a read for a limit that lets none through.
pub const READ_PATIENCE: Duration = Duration::from_mins(2);

/// A homeserver whose limits are kept. Clones share what is known of them.
#[derive(Clone)]
pub struct Paced {
    inner: Arc<dyn Homeserver>,
    pacer: Arc<Pacer>,
    reads: Arc<Semaphore>,
    reads_elsewhere: Arc<Semaphore>,
    priority: Priority,
    /// How often a request of this clone, and of those made of it, had to wait.
    waits: Arc<AtomicU64>,
    /// Turns that are kept for the next request of their kind.
    reserved: Arc<Mutex<Vec<Turn>>>,
    /// Addresses that were removed to be made again.
    removed: Arc<Mutex<BTreeSet<OwnedRoomAliasId>>>,
}

impl Paced {
    /// Keeps the limits of a homeserver.
    #[must_use]
    pub fn new(inner: Arc<dyn Homeserver>, pacer: Arc<Pacer>) -> Self {
        Self {
            inner,
            pacer,
            reads: Arc::new(Semaphore::new(READS_AT_ONCE)),
            reads_elsewhere: Arc::new(Semaphore::new(READS_ELSEWHERE_AT_ONCE)),
            priority: Priority::default(),
            waits: Arc::default(),
            reserved: Arc::default(),
            removed: Arc::default(),
        }
    }

    /// The same for another piece of work, whose waits are counted and whose turns are kept apart.
    #[must_use]
    pub fn counting(&self) -> Self {
        Self {
            waits: Arc::default(),
            reserved: Arc::default(),
            ..self.clone()
        }
    }

    /// How often a request had to wait. As long as this stays the same, what was read is as new as it can be.
    #[must_use]
    pub fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }

    /// The same for requests of another priority.
    #[must_use]
    pub fn at(&self, priority: Priority) -> Self {
        Self {
            priority,
            ..self.clone()
        }
    }

    /// What the server lets the account do from now on, as far as that is known.
    #[must_use]
    pub fn allowance(&self, bucket: Bucket) -> Allowance {
        self.pacer.allowance(&LimitOf::Account(bucket))
    }

    /// How long a request of a bucket would wait now, where that is longer than it would wait in its place.
    #[must_use]
    pub fn too_long_wait(&self, bucket: Bucket) -> Option<Duration> {
        let wait = self
            .pacer
            .expected(&LimitOf::Account(bucket), self.priority);
        Some(wait).filter(|wait| *wait > self.priority.patience())
    }

    /// Whether a limit was met lately.
    #[must_use]
    pub fn is_limited(&self, bucket: Bucket) -> bool {
        self.pacer.is_limited(bucket)
    }

    fn reserved(&self) -> MutexGuard<'_, Vec<Turn>> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn removed(&self) -> MutexGuard<'_, BTreeSet<OwnedRoomAliasId>> {
        self.removed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn turn(&self, of: LimitOf, deadline: Instant) -> Result<Turn> {
        if let Some(turn) = self
            .reserved()
            .extract_if(.., |turn| *turn.of() == of)
            .next()
        {
            return Ok(turn);
        }
        let bucket = match of {
            LimitOf::Account(bucket) => bucket,
            LimitOf::InvitationsTo(_) => Bucket::Invitations,
        };
        let asked = Instant::now();
        let turn = self.pacer.turn(of, self.priority, deadline).await;
        if asked.elapsed() > UNNOTICED {
            self.waits.fetch_add(1, Ordering::Relaxed);
        }
        turn.map_err(|retry_after| limited(bucket, retry_after))
    }

    /// A request that counts for one bucket.
    async fn ask<T>(
        &self,
        bucket: Bucket,
        request: impl Future<Output = Result<T>> + Send,
    ) -> Result<T> {
        let deadline = Instant::now() + self.priority.patience();
        let turn = self.turn(LimitOf::Account(bucket), deadline).await?;
        let answer = request.await;
        turn.note(outcome(&answer));
        answer
    }

    /// A request that makes a room. It counts as a message, too.
    /// Source: Synapse, `RoomCreationHandler.create_room` and `upgrade_room`.
    async fn make<T>(&self, request: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let deadline = Instant::now() + self.priority.patience();
        let rooms = LimitOf::Account(Bucket::RoomCreation);
        let turn = self.turn(rooms, deadline).await?;
        self.pass(Bucket::Everything, deadline).await?;
        let answer = request.await;
        turn.note(outcome(&answer));
        answer
    }

    /// Waits for the turn of a request that may take its time, and lets the next one go at once.
    async fn pass(&self, bucket: Bucket, deadline: Instant) -> Result<()> {
        let turn = self.turn(LimitOf::Account(bucket), deadline).await?;
        turn.note(Outcome::LetThrough);
        Ok(())
    }

    /// A request that changes nothing, asked until the limit lets it through.
    async fn read<T, F>(&self, request: impl FnMut() -> F + Send) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
        T: Send,
    {
        // Never closed.
        let _permit = self.reads.acquire().await;
        self.ask_again(Next::Waits, request).await
    }

    /// The same of what may wait for another server, which holds up no others.
    async fn read_elsewhere<T, F>(&self, request: impl FnMut() -> F + Send) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
        T: Send,
    {
        // Never closed.
        let _permit = self.reads_elsewhere.acquire().await;
        self.ask_again(Next::Goes, request).await
    }

    async fn ask_again<T, F>(&self, next: Next, mut request: impl FnMut() -> F + Send) -> Result<T>
    where
        F: Future<Output = Result<T>> + Send,
        T: Send,
    {
        let of = LimitOf::Account(Bucket::Reads);
        loop {
            let deadline = Instant::now() + READ_PATIENCE;
            let turn = self.turn(of.clone(), deadline).await?;
            let held = match next {
                Next::Waits => Some(turn),
                Next::Goes => {
                    turn.note(Outcome::LetThrough);
                    None
                }
            };
            let answer = request().await;
            match (held, outcome(&answer)) {
                (Some(turn), outcome) => turn.note(outcome),
                (None, Outcome::Refused(retry_after)) => self.pacer.note_late(&of, retry_after),
                (None, Outcome::LetThrough) => {}
            }
            if !matches!(answer, Err(HomeserverError::RateLimited { .. })) {
                return answer;
            }
        }
    }
}

/// Whether the next request waits until this one is answered, where a limit is known.
#[derive(Debug, Clone, Copy)]
enum Next {
    Waits,
    Goes,
}

fn limited(bucket: Bucket, retry_after: Duration) -> HomeserverError {
    HomeserverError::RateLimited {
        request: bucket.to_string(),
        limit: RateLimit {
            bucket,
            retry_after,
        },
    }
}

fn outcome<T>(answer: &Result<T>) -> Outcome {
    match answer {
        Err(HomeserverError::RateLimited { limit, .. }) => Outcome::Refused(limit.retry_after),
        _ => Outcome::LetThrough,
    }
}

#[async_trait]
impl Homeserver for Paced {
    fn account(&self) -> &UserId {
        self.inner.account()
    }

    fn server_name(&self) -> &ServerName {
        self.inner.server_name()
    }

    async fn room_versions(&self) -> Result<RoomVersions> {
        self.read(|| self.inner.room_versions()).await
    }

    async fn encrypted_presets(&self) -> Result<BTreeSet<Preset>> {
        self.read(|| self.inner.encrypted_presets()).await
    }

    async fn user_exists(&self, user: &UserId) -> Result<Option<Existence>> {
        self.read_elsewhere(|| self.inner.user_exists(user)).await
    }

    async fn state(&self, room: &RoomId) -> Result<RoomState> {
        self.read(|| self.inner.state(room)).await
    }

    async fn state_event(&self, room: &RoomId, kind: &str, key: &str) -> Result<Option<Content>> {
        self.read(|| self.inner.state_event(room, kind, key)).await
    }

    async fn members(&self, room: &RoomId) -> Result<Vec<MemberEvent>> {
        self.read(|| self.inner.members(room)).await
    }

    async fn reserve(&self, bucket: Bucket) -> Result<Reserved> {
        let asked = Instant::now();
        let deadline = asked + self.priority.patience();
        // One that is kept is taken out, and put back.
        let turn = self.turn(LimitOf::Account(bucket), deadline).await?;
        self.reserved().push(turn);
        Ok(if asked.elapsed() > UNNOTICED {
            Reserved::AfterWait
        } else {
            Reserved::AtOnce
        })
    }

    fn release(&self) {
        self.reserved().clear();
    }

    async fn put_state(
        &self,
        room: &RoomId,
        kind: &str,
        key: &str,
        content: &Content,
    ) -> Result<OwnedEventId> {
        let request = self.inner.put_state(room, kind, key, content);
        self.ask(Bucket::Everything, request).await
    }

    async fn get_ready_for_message(&self, room: &RoomId) {
        self.inner.get_ready_for_message(room).await;
    }

    async fn send_event(
        &self,
        room: &RoomId,
        kind: &str,
        transaction: &str,
        content: &Content,
    ) -> Result<OwnedEventId> {
        let request = self.inner.send_event(room, kind, transaction, content);
        self.ask(Bucket::Everything, request).await
    }

    async fn redact(
        &self,
        room: &RoomId,
        event: &EventId,
        transaction: &str,
    ) -> Result<OwnedEventId> {
        let request = self.inner.redact(room, event, transaction);
        self.ask(Bucket::Everything, request).await
    }

    async fn event(&self, room: &RoomId, event: &EventId) -> Result<Option<RoomEvent>> {
        self.read(|| self.inner.event(room, event)).await
    }

    async fn create_room(&self, body: &Content) -> Result<OwnedRoomId> {
        self.make(self.inner.create_room(body)).await
    }

    async fn upload(&self, room: &RoomId, file: &Upload) -> Result<Uploaded> {
        self.ask(Bucket::Everything, self.inner.upload(room, file))
            .await
    }

    async fn invite(&self, room: &RoomId, user: &UserId, reason: Option<&str>) -> Result<()> {
        let deadline = Instant::now() + self.priority.patience();
        let closed = |wait: Option<Duration>| match wait {
            Some(wait) => Err(limited(Bucket::Invitations, wait)),
            None => Ok(()),
        };
        closed(self.pacer.closed_to(user))?;
        let to_room = LimitOf::InvitationsTo(room.to_owned());
        let _to_room = self.turn(to_room, deadline).await?;
        let of_account = LimitOf::Account(Bucket::Invitations);
        let _of_account = self.turn(of_account, deadline).await?;
        // It counts as a message, too. Source: Synapse, `RoomMemberHandler`.
        self.pass(Bucket::Everything, deadline).await?;
        // Another job may have invited them meanwhile.
        closed(self.pacer.closed_to(user))?;
        let answer = self.inner.invite(room, user, reason).await;
        self.pacer.note_invitation(user, room, outcome(&answer));
        answer
    }

    async fn kick(&self, room: &RoomId, user: &UserId, reason: Option<&str>) -> Result<()> {
        let request = self.inner.kick(room, user, reason);
        self.ask(Bucket::Everything, request).await
    }

    async fn leave(&self, room: &RoomId) -> Result<()> {
        self.ask(Bucket::Everything, self.inner.leave(room)).await
    }

    async fn ban(&self, room: &RoomId, user: &str, reason: Option<&str>) -> Result<()> {
        let request = self.inner.ban(room, user, reason);
        self.ask(Bucket::Everything, request).await
    }

    async fn join(&self, room: &RoomRef) -> Result<OwnedRoomId> {
        self.ask(Bucket::Joins, self.inner.join(room)).await
    }

    async fn joined_rooms(&self) -> Result<BTreeSet<OwnedRoomId>> {
        self.read(|| self.inner.joined_rooms()).await
    }

    async fn resolve(&self, alias: &RoomAliasId) -> Result<Option<Resolved>> {
        self.read_elsewhere(|| self.inner.resolve(alias)).await
    }

    async fn local_aliases(&self, room: &RoomId) -> Result<BTreeSet<OwnedRoomAliasId>> {
        self.read(|| self.inner.local_aliases(room)).await
    }

    async fn create_alias(&self, alias: &RoomAliasId, room: &RoomId) -> Result<()> {
        let request = self.inner.create_alias(alias, room);
        if self.removed().contains(alias) {
            // It leads nowhere meanwhile (P11).
            let answer = request.await;
            let addresses = LimitOf::Account(Bucket::Addresses);
            self.pacer.note(&addresses, outcome(&answer));
            if answer.is_ok() {
                self.removed().remove(alias);
            }
            return answer;
        }
        self.ask(Bucket::Addresses, request).await
    }

    async fn delete_alias(&self, alias: &RoomAliasId) -> Result<()> {
        let deadline = Instant::now() + self.priority.patience();
        let addresses = LimitOf::Account(Bucket::Addresses);
        let turn = self.turn(addresses.clone(), deadline).await?;
        // It is made again without a wait: the limit has to let two through.
        let allowance = self.pacer.allowance(&addresses);
        if allowance.at_once < 2 && !allowance.interval.is_zero() {
            let both = Instant::now() + allowance.opens_in + allowance.interval;
            self.waits.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep_until(both.min(deadline)).await;
        }
        let answer = self.inner.delete_alias(alias).await;
        turn.note(outcome(&answer));
        if answer.is_ok() {
            self.removed().insert(alias.to_owned());
        }
        answer
    }

    async fn listing(&self, room: &RoomId) -> Result<Listing> {
        self.read(|| self.inner.listing(room)).await
    }

    async fn set_listing(&self, room: &RoomId, listing: Listing) -> Result<()> {
        let request = self.inner.set_listing(room, listing);
        self.ask(Bucket::Addresses, request).await
    }

    async fn listed_elsewhere(
        &self,
        server: &ServerName,
        room: &RoomId,
        term: &str,
    ) -> Result<Listing> {
        self.read_elsewhere(|| self.inner.listed_elsewhere(server, room, term))
            .await
    }

    async fn server_software(&self) -> Result<Option<String>> {
        self.read(|| self.inner.server_software()).await
    }

    async fn server_facts(&self) -> Result<ServerFacts> {
        self.read(|| self.inner.server_facts()).await
    }

    async fn encryption(&self) -> Result<EncryptionFacts> {
        self.inner.encryption().await
    }

    fn admin(&self) -> Option<&dyn ServerAdmin> {
        self.inner.admin()
    }

    async fn upgrade(
        &self,
        room: &RoomId,
        version: &RoomVersionId,
        additional_creators: &BTreeSet<OwnedUserId>,
    ) -> Result<OwnedRoomId> {
        let request = self.inner.upgrade(room, version, additional_creators);
        self.make(request).await
    }

    fn closed_limits(&self, least: Duration) -> BTreeMap<Bucket, Duration> {
        self.pacer.closed_for(least)
    }

    async fn until_told(&self, rooms: &[&RoomId], patience: Duration) {
        self.inner.until_told(rooms, patience).await;
    }

    async fn until_now(&self, patience: Duration) {
        self.inner.until_now(patience).await;
    }

    async fn told_rooms(&self) -> Result<Vec<ToldRoom>> {
        self.inner.told_rooms().await
    }

    async fn known_state(&self, room: &RoomId) -> Result<Option<RoomState>> {
        self.inner.known_state(room).await
    }

    async fn children(&self, space: &RoomId) -> Result<BTreeSet<OwnedRoomId>> {
        self.inner.children(space).await
    }
}
