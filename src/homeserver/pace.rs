//! The pace of requests that the homeserver limits: who goes next, and when.
//!
//! A limit is unknown until the server refuses something. From then on its requests go one after the other,
//! the most important first, and each at the moment at which the server will let it through. That moment is
//! learned: the server says when the next request may come, and what it let through between two refusals
//! says how far apart they have to be. A limit that was not met for a while is tried again.
//!
//! Nothing is kept across a restart. All times are of the process's own clock, which nobody sets. Left out:
//! which request belongs to which limit (`paced`).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::RETRY_AFTER_DEFAULT;
use crate::model::Bucket;

/// How many requests at once a limit lets through after a rest, until it shows otherwise.
/// Source: Synapse's default for every limiter.
const BURST: u32 = 10;

/// After this time without a refusal it is tried whether there still is a limit, or after as many requests,
/// whatever is longer: that costs a refusal.
const BELIEVED: Duration = Duration::from_mins(10);

/// See [`BELIEVED`].
const BELIEVED_REQUESTS: u32 = 50;

/// Shortest wait after a refusal; doubles with each further one.
const WAIT_MIN: Duration = Duration::from_millis(100);

/// The same after a refusal that did not say how long.
const UNTOLD_WAIT: Duration = Duration::from_millis(500);

/// After so many requests without a refusal, a limit that does not say how long to wait is tried with a
/// shorter interval: what it really is can only be found that way.
const UNTOLD_TRIES: u32 = 20;

/// Longest wait after a refusal that did not say how long.
const WAIT_MAX: Duration = Duration::from_mins(5);

/// How much two requests may differ in the time they take to the server.
const JITTER: Duration = Duration::from_millis(5);

/// How far apart the moments may be at which two refusals say that the next request may come, if both are about
/// the same limit.
const SAME_LIMIT: Duration = Duration::from_millis(100);

/// First wait for a room or an account about which a refusal seems to be; doubles with each further one.
const SEEMS_CLOSED: Duration = Duration::from_secs(10);

/// What a request is for. What waits for the same limit goes in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// A new room is there, and the old one does not point to it yet.
    Switch,
    /// An answer to somebody.
    Answer,
    /// The rest of an upgrade that is past its switch.
    Switched,
    /// Other upgrades, and whatever is not said to be anything else.
    #[default]
    Upgrade,
    /// Reports.
    Report,
    /// How far something has got.
    Progress,
    /// Taking away what is of no use any more.
    Tidying,
}

impl Priority {
    /// How long such a request waits in its place. After that whoever asks has to store the wait, say so, and
    /// come again.
    #[must_use]
    pub fn patience(self) -> Duration {
        match self {
            Self::Switch => Duration::from_mins(2),
            Self::Switched => Duration::from_mins(1),
            Self::Answer | Self::Upgrade | Self::Report => Duration::from_secs(20),
            Self::Progress | Self::Tidying => Duration::ZERO,
        }
    }
}

/// What a limit is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum LimitOf {
    /// Something the account does, wherever it does it.
    Account(Bucket),
    /// Invitations to one room.
    InvitationsTo(OwnedRoomId),
}

/// What a limit lets through from now on, as far as it is known. The default is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Allowance {
    /// When it lets the next request through.
    pub opens_in: Duration,
    /// How far apart requests have to be after those.
    pub interval: Duration,
    /// How many may go at once.
    pub at_once: usize,
}

impl Allowance {
    /// How long so many requests take at least.
    #[must_use]
    pub fn time_for(&self, requests: usize) -> Duration {
        if requests == 0 {
            return Duration::ZERO;
        }
        let waiting = u32::try_from(requests.saturating_sub(self.at_once)).unwrap_or(u32::MAX);
        self.opens_in
            .saturating_add(self.interval.saturating_mul(waiting))
    }
}

/// The limits of one account.
#[derive(Debug, Default)]
pub struct Pacer {
    queues: Mutex<BTreeMap<LimitOf, Queue>>,
    /// Told when a request may go that had to wait for another one.
    changed: Notify,
    invitees: Mutex<Invitees>,
}

/// What is known of one limit, and who waits for it.
#[derive(Debug, Default)]
struct Queue {
    limit: Option<Limit>,
    waiting: BTreeSet<(Priority, u64)>,
    /// The number of the next one to wait.
    next: u64,
    /// Whether requests go one after the other even where no limit is known.
    is_serial: bool,
    /// Whether a request is under way that the next one waits for.
    is_busy: bool,
}

/// A limit that was met.
#[derive(Debug, Clone, Copy)]
struct Limit {
    /// When it refused something last.
    refused: Instant,
    /// Refusals in a row, up to the last one.
    refusals: u32,
    /// When it lets the next request through.
    next: Instant,
    /// How far apart requests have to be; zero while that is not known.
    interval: Duration,
    /// How many may go at once after a rest.
    burst: u32,
    /// Whether the last refusal said how long to wait.
    is_told: bool,
    /// While it is tried whether it is still there: requests that it let through since.
    tried: Option<u32>,
    /// Since a moment at which it let exactly one more through: how many it has.
    let_through: Option<(Instant, u32)>,
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The server counted it.
    LetThrough,
    /// It was one too many.
    Refused(Duration),
}

/// Whose turn it is; the next one waits until this is dropped, where there is a limit.
#[derive(Debug)]
pub struct Turn {
    pacer: Arc<Pacer>,
    of: LimitOf,
    /// Its place among those who wait, until it may go.
    place: Option<(Priority, u64)>,
    /// Whether the next one waits for it.
    holds: bool,
}

impl Limit {
    fn met(now: Instant) -> Self {
        Self {
            refused: now,
            refusals: 0,
            next: now,
            interval: Duration::ZERO,
            burst: BURST,
            is_told: true,
            tried: None,
            let_through: None,
        }
    }

    fn note(&mut self, outcome: Outcome, now: Instant) {
        match outcome {
            Outcome::LetThrough => {
                self.tried = self.tried.map(|tried| tried.saturating_add(1));
                let rested = self.interval * (self.burst - 1);
                // What a full limit had over is lost, and the count would be wrong.
                let is_full = if self.interval.is_zero() {
                    now > self.next + self.next.saturating_duration_since(self.refused)
                } else {
                    now > self.next + rested
                };
                self.let_through = self
                    .let_through
                    .filter(|_| !is_full)
                    .map(|(since, count)| (since, count + 1));
                if let Some((_, count)) = self.let_through
                    && !self.is_told
                    && count % UNTOLD_TRIES == 0
                {
                    self.interval = self.interval * 3 / 4;
                }
                let earliest = now.checked_sub(rested).unwrap_or(now);
                self.next = self.next.max(earliest) + self.interval;
                if !self.interval.is_zero() {
                    // Requests do not take the same time each.
                    self.next += self.interval / 100 + JITTER;
                }
            }
            Outcome::Refused(retry_after) => {
                self.is_told = retry_after != RETRY_AFTER_DEFAULT;
                // Whatever left before the last refusal was noted says nothing new.
                let refusals = self.refusals() - u32::from(now < self.next && self.refusals() > 0);
                let grown = |first: Duration| (first * 2_u32.pow(refusals.min(12))).min(WAIT_MAX);
                let wait = if self.is_told {
                    retry_after.max(grown(WAIT_MIN))
                } else {
                    grown(UNTOLD_WAIT.max(self.interval / 4))
                };
                let opens = now + wait;
                // When it lets exactly one more through; not told, one more than none at some time before.
                let known = if self.is_told { opens } else { now };
                let had_rested = now > self.next + self.interval && !self.interval.is_zero();
                match self.let_through {
                    _ if had_rested => self.burst = (self.burst / 2).max(1),
                    Some((since, count)) if count > 0 => {
                        self.interval = known.saturating_duration_since(since) / count;
                    }
                    _ => {}
                }
                self.tried = None;
                self.let_through = Some((known, 0));
                self.refused = now;
                self.refusals = refusals + 1;
                self.next = opens;
            }
        }
    }

    /// Refusals in a row.
    fn refusals(&self) -> u32 {
        match self.let_through {
            Some((_, 0)) => self.refusals,
            _ => 0,
        }
    }

    /// A request that was counted when it left was refused.
    fn uncount(&mut self) {
        if let Some((_, count)) = &mut self.let_through {
            *count = count.saturating_sub(1);
        }
    }

    fn allowance(&self, now: Instant) -> Allowance {
        let rested = now.saturating_duration_since(self.next);
        let saved = match self.interval {
            Duration::ZERO => 0,
            interval => rested.as_millis() / interval.as_millis().max(1),
        };
        let at_once = (saved + 1).min(u128::from(self.burst));
        Allowance {
            opens_in: self.next.saturating_duration_since(now),
            interval: self.interval,
            at_once: usize::try_from(at_once).unwrap_or(1),
        }
    }

    /// Whether it is to be tried whether it is still there.
    fn is_old(&self, now: Instant) -> bool {
        let believed = BELIEVED.max(self.interval * BELIEVED_REQUESTS);
        self.tried.is_some() || (now > self.refused + believed && now >= self.next)
    }
}

impl Queue {
    /// How long a place has to wait by what is known now; `None`: for the request that is under way.
    fn wait(&self, place: (Priority, u64), now: Instant) -> Option<Duration> {
        if self.limit.is_none() && !self.is_serial {
            return Some(Duration::ZERO);
        }
        if self.is_busy || self.waiting.range(..place).next().is_some() {
            return None;
        }
        let limit = self.limit.filter(|limit| limit.tried.is_none());
        Some(limit.map_or(Duration::ZERO, |limit| {
            limit.next.saturating_duration_since(now)
        }))
    }

    /// About how long it will take until it is the turn of a place.
    fn expected(&self, place: (Priority, u64), now: Instant) -> Duration {
        let Some(limit) = self.limit.filter(|limit| limit.tried.is_none()) else {
            return Duration::ZERO;
        };
        let ahead = self.waiting.range(..place).count() + usize::from(self.is_busy);
        let ahead = u32::try_from(ahead).unwrap_or(u32::MAX);
        limit
            .next
            .checked_add(limit.interval.saturating_mul(ahead))
            .map_or(Duration::MAX, |at| at.saturating_duration_since(now))
    }
}

impl Pacer {
    fn queues(&self) -> MutexGuard<'_, BTreeMap<LimitOf, Queue>> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn invitees(&self) -> MutexGuard<'_, Invitees> {
        self.invitees.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn of a request.
    ///
    /// # Errors
    /// How long it would take, where that is longer than until `deadline`.
    pub async fn turn(
        self: &Arc<Self>,
        of: LimitOf,
        priority: Priority,
        deadline: Instant,
    ) -> Result<Turn, Duration> {
        let (place, mut turn) = self.line_up(of, priority);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let now = Instant::now();
            let wait = {
                let mut queues = self.queues();
                let queue = queues.entry(turn.of.clone()).or_default();
                if let Some(limit) = &mut queue.limit
                    && limit.is_old(now)
                {
                    // One after the other, until it refuses again or is found to be gone.
                    let tried = *limit.tried.get_or_insert(0);
                    if tried > limit.burst * 3 {
                        queue.limit = None;
                    }
                }
                let wait = queue.wait(place, now);
                if wait == Some(Duration::ZERO) {
                    queue.waiting.remove(&place);
                    queue.is_busy = queue.is_serial || queue.limit.is_some();
                    turn.holds = queue.is_busy;
                    turn.place = None;
                    return Ok(turn);
                }
                let expected = queue.expected(place, now);
                if now.checked_add(expected).is_none_or(|at| at > deadline) {
                    return Err(expected);
                }
                wait
            };
            match wait {
                Some(wait) => {
                    // Whoever comes later may be more important.
                    let _ = tokio::time::timeout(wait, changed).await;
                }
                None => changed.await,
            }
        }
    }

    fn line_up(self: &Arc<Self>, of: LimitOf, priority: Priority) -> ((Priority, u64), Turn) {
        let mut queues = self.queues();
        let queue = queues.entry(of.clone()).or_default();
        queue.is_serial = of == LimitOf::Account(Bucket::Invitations);
        let place = (priority, queue.next);
        queue.next += 1;
        queue.waiting.insert(place);
        drop(queues);
        let turn = Turn {
            pacer: Arc::clone(self),
            of,
            place: Some(place),
            holds: false,
        };
        (place, turn)
    }

    /// About how long a request would wait now.
    #[must_use]
    pub fn expected(&self, of: &LimitOf, priority: Priority) -> Duration {
        let queues = self.queues();
        let queue = queues.get(of);
        queue.map_or(Duration::ZERO, |queue| {
            queue.expected((priority, u64::MAX), Instant::now())
        })
    }

    /// What a limit lets through from now on.
    #[must_use]
    pub fn allowance(&self, of: &LimitOf) -> Allowance {
        let now = Instant::now();
        let limit = self.queues().get(of).and_then(|queue| queue.limit);
        limit.map_or_else(Allowance::default, |limit| limit.allowance(now))
    }

    /// Whether any request waits for its turn.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.queues()
            .values()
            .any(|queue| !queue.waiting.is_empty())
    }

    /// Whether requests wait for each other, as a limit was met lately.
    #[must_use]
    pub fn is_limited(&self, bucket: Bucket) -> bool {
        let queues = self.queues();
        let queue = queues.get(&LimitOf::Account(bucket));
        queue.is_some_and(|queue| queue.limit.is_some())
    }

    /// Notes that a request was refused which was noted as let through when it left.
    pub fn note_late(&self, of: &LimitOf, retry_after: Duration) {
        if let Some(queue) = self.queues().get_mut(of)
            && let Some(limit) = &mut queue.limit
        {
            limit.uncount();
        }
        self.note(of, Outcome::Refused(retry_after));
    }

    /// Notes what came of a request.
    pub fn note(&self, of: &LimitOf, outcome: Outcome) {
        let now = Instant::now();
        let mut queues = self.queues();
        let queue = queues.entry(of.clone()).or_default();
        if let Outcome::Refused(_) = outcome {
            queue.limit.get_or_insert_with(|| Limit::met(now));
        }
        if let Some(limit) = &mut queue.limit {
            limit.note(outcome, now);
        }
    }
}

impl Turn {
    /// What it is a turn of.
    #[must_use]
    pub fn of(&self) -> &LimitOf {
        &self.of
    }

    /// Notes what came of the request.
    pub fn note(&self, outcome: Outcome) {
        self.pacer.note(&self.of, outcome);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut queues = self.pacer.queues();
        if let Some(queue) = queues.get_mut(&self.of) {
            if let Some(place) = self.place {
                queue.waiting.remove(&place);
            }
            if self.holds {
                queue.is_busy = false;
            }
            if queue.waiting.is_empty() && queue.limit.is_none() {
                queues.remove(&self.of);
            }
        }
        drop(queues);
        self.pacer.changed.notify_waiters();
    }
}

/// People who cannot be invited now, and what was refused last.
#[derive(Debug, Default)]
struct Invitees {
    closed: BTreeMap<OwnedUserId, Instant>,
    /// How often each was refused since they were invited last.
    refusals: BTreeMap<OwnedUserId, u32>,
    /// What was refused since an invitation was let through last.
    refused: Vec<RefusedInvitation>,
}

#[derive(Debug)]
struct RefusedInvitation {
    user: OwnedUserId,
    room: OwnedRoomId,
    opens: Instant,
}

/// Servers limit invitations for each invitee, each room and each issuer, and do not say which it was. A refusal
/// closes the invitee. If the next person is refused until the same moment, it closes the room; and if somebody
/// in another room is, the account. Where the pace is known, a refusal is about that.
/// Source: Synapse, `rc_invites`: `per_user` is the invitee.
impl Pacer {
    /// How long somebody cannot be invited.
    #[must_use]
    pub fn closed_to(&self, user: &UserId) -> Option<Duration> {
        let now = Instant::now();
        let mut invitees = self.invitees();
        invitees.closed.retain(|_, until| *until > now);
        let until = invitees.closed.get(user)?;
        Some(until.saturating_duration_since(now))
    }

    /// Notes what came of an invitation.
    pub fn note_invitation(&self, user: &UserId, room: &RoomId, outcome: Outcome) {
        let to_room = LimitOf::InvitationsTo(room.to_owned());
        let of_account = LimitOf::Account(Bucket::Invitations);
        let Outcome::Refused(retry_after) = outcome else {
            let mut invitees = self.invitees();
            invitees.refused.clear();
            invitees.refusals.remove(user);
            drop(invitees);
            self.note(&to_room, outcome);
            self.note(&of_account, outcome);
            return;
        };
        let known = [&of_account, &to_room];
        if let Some(of) = known.into_iter().find(|of| self.is_about(of, retry_after)) {
            self.note(of, outcome);
            return;
        }
        let now = Instant::now();
        let opens = now + retry_after;
        let mut invitees = self.invitees();
        let is_same = |at: Instant| {
            at.saturating_duration_since(opens) < SAME_LIMIT
                && opens.saturating_duration_since(at) < SAME_LIMIT
        };
        invitees.refused.retain(|other| other.opens > now);
        let is_other = |other: &RefusedInvitation| other.user != user && is_same(other.opens);
        let mut refused = invitees.refused.iter();
        let is_elsewhere = refused.any(|other| is_other(other) && other.room != room);
        let is_another = is_elsewhere || invitees.refused.iter().any(is_other);
        if is_another {
            invitees.closed.retain(|_, until| !is_same(*until));
        } else {
            // Waits that bring no progress grow.
            let refusals = invitees.refusals.entry(user.to_owned()).or_default();
            let grown = retry_after * 2_u32.pow((*refusals).min(12));
            *refusals += 1;
            let wait = grown.min(WAIT_MAX).max(retry_after);
            invitees.closed.insert(user.to_owned(), now + wait);
        }
        invitees.refused.push(RefusedInvitation {
            user: user.to_owned(),
            room: room.to_owned(),
            opens,
        });
        drop(invitees);
        if is_elsewhere {
            let is_of_room = |of: &LimitOf| matches!(of, LimitOf::InvitationsTo(_));
            for (_, queue) in self.queues().iter_mut().filter(|(of, _)| is_of_room(of)) {
                queue.limit = None;
            }
            self.seems_closed(&of_account, retry_after);
        } else if is_another {
            self.seems_closed(&to_room, retry_after);
        }
    }

    /// Notes a refusal that may be about a limit of its own for each of several people.
    fn seems_closed(&self, of: &LimitOf, retry_after: Duration) {
        let refusals = self.queues().get(of).and_then(|queue| queue.limit);
        let refusals = refusals.map_or(0, |limit| limit.refusals().min(10));
        let longest = SEEMS_CLOSED * 2_u32.pow(refusals);
        self.note(of, Outcome::Refused(retry_after.min(longest)));
    }

    /// Whether a refusal of an invitation is about a limit whose pace is known.
    fn is_about(&self, of: &LimitOf, retry_after: Duration) -> bool {
        let queues = self.queues();
        let limit = queues.get(of).and_then(|queue| queue.limit);
        limit.is_some_and(|limit| retry_after <= limit.interval * 2)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep};

    use super::*;

    const SENDING: LimitOf = LimitOf::Account(Bucket::Everything);

    /// A server that lets a request through every so often, and some at once after a rest.
    struct Server {
        interval: Duration,
        burst: u32,
        next: Instant,
        refused: u32,
        /// It does not say how long to wait.
        is_silent: bool,
    }

    impl Server {
        fn new(interval: Duration, burst: u32) -> Self {
            let next = Instant::now();
            Self {
                interval,
                burst,
                next,
                refused: 0,
                is_silent: false,
            }
        }

        fn ask(&mut self) -> Outcome {
            let now = Instant::now();
            let full = now.checked_sub(self.interval * (self.burst - 1));
            let next = self.next.max(full.unwrap_or(now));
            if next > now {
                self.refused += 1;
                let wait = if self.is_silent {
                    RETRY_AFTER_DEFAULT
                } else {
                    next - now
                };
                return Outcome::Refused(wait);
            }
            self.next = next + self.interval;
            Outcome::LetThrough
        }
    }

    async fn send(pacer: &Arc<Pacer>, server: &mut Server) {
        loop {
            let deadline = Instant::now() + Duration::from_hours(1);
            let turn = pacer.turn(SENDING, Priority::Upgrade, deadline).await;
            sleep(Duration::from_millis(20)).await;
            let outcome = server.ask();
            turn.unwrap().note(outcome);
            if outcome == Outcome::LetThrough {
                return;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_interval_of_any_limit_is_learned_and_kept() {
        for (interval, burst) in [(5_000, 10), (200, 3), (60_000, 1), (3_333, 25)] {
            let interval = Duration::from_millis(interval);
            let (pacer, mut server) = (Arc::new(Pacer::default()), Server::new(interval, burst));
            sleep(interval * burst).await;
            let begun = Instant::now();
            let requests = burst + 100;
            for _ in 0..requests {
                send(&pacer, &mut server).await;
            }
            let least = interval * (requests - burst);
            let took = begun.elapsed();
            assert!(
                took <= least.mul_f64(1.2),
                "{interval:?}: {took:?}, {least:?}"
            );
            assert!(server.refused <= 5, "{interval:?}: {}", server.refused);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_does_not_say_how_long_is_learned_by_trying() {
        for (interval, burst) in [(500, 2), (5_000, 10), (200, 3), (10_000, 1)] {
            let interval = Duration::from_millis(interval);
            let (pacer, mut server) = (Arc::new(Pacer::default()), Server::new(interval, burst));
            server.is_silent = true;
            let begun = Instant::now();
            for _ in 0..200 {
                send(&pacer, &mut server).await;
            }
            let (took, least) = (begun.elapsed(), interval * (200 - burst));
            let refused = server.refused;
            assert!(
                took <= least.mul_f64(1.3),
                "{interval:?}: {took:?}, {least:?}, {refused} refused"
            );
            assert!(refused <= 30, "{interval:?}: {refused}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_that_is_lifted_is_forgotten() {
        let (pacer, mut server) = (
            Arc::new(Pacer::default()),
            Server::new(Duration::from_secs(5), 1),
        );
        for _ in 0..20 {
            send(&pacer, &mut server).await;
        }
        assert!(pacer.is_limited(Bucket::Everything));
        server.interval = Duration::ZERO;
        sleep(BELIEVED).await;
        let begun = Instant::now();
        for _ in 0..50 {
            send(&pacer, &mut server).await;
        }
        assert!(
            begun.elapsed() < Duration::from_secs(10),
            "{:?}",
            begun.elapsed()
        );
        assert!(!pacer.is_limited(Bucket::Everything));
    }

    #[tokio::test(start_paused = true)]
    async fn what_matters_more_goes_first() {
        let pacer = Arc::new(Pacer::default());
        pacer.note(&SENDING, Outcome::Refused(Duration::from_secs(5)));
        let order = Mutex::new(Vec::new());
        let ask = async |priority: Priority| {
            let deadline = Instant::now() + Duration::from_mins(10);
            let turn = pacer.turn(SENDING, priority, deadline).await.unwrap();
            order.lock().unwrap().push(priority);
            turn.note(Outcome::LetThrough);
        };
        tokio::join!(
            ask(Priority::Tidying),
            ask(Priority::Report),
            ask(Priority::Switched),
            ask(Priority::Upgrade),
            ask(Priority::Switch),
        );
        let mut sorted = order.lock().unwrap().clone();
        sorted.sort_unstable();
        assert_eq!(*order.lock().unwrap(), sorted);
        assert!(!pacer.is_waiting());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_that_is_too_long_is_told_at_once_and_leaves_no_place() {
        let pacer = Arc::new(Pacer::default());
        pacer.note(&SENDING, Outcome::Refused(Duration::from_mins(10)));
        let deadline = Instant::now() + Duration::from_secs(20);
        let wait = pacer.turn(SENDING, Priority::Upgrade, deadline).await;
        assert_eq!(wait.unwrap_err(), Duration::from_mins(10));
        assert!(!pacer.is_waiting());
    }

    #[tokio::test(start_paused = true)]
    async fn odd_waits_are_no_reason_to_ask_at_once_or_never() {
        let pacer = Arc::new(Pacer::default());
        let expected = || pacer.expected(&SENDING, Priority::Upgrade);
        let mut last = Duration::ZERO;
        for _ in 0..20 {
            pacer.note(&SENDING, Outcome::Refused(Duration::ZERO));
            assert!(expected() > Duration::ZERO && expected() >= last);
            last = expected();
            advance(last).await;
        }
        assert_eq!(last, WAIT_MAX);
        let pacer = Arc::new(Pacer::default());
        pacer.note(&SENDING, Outcome::Refused(RETRY_AFTER_DEFAULT));
        pacer.note(&SENDING, Outcome::Refused(RETRY_AFTER_DEFAULT));
        let wait = || pacer.expected(&SENDING, Priority::Upgrade);
        assert_eq!(wait(), UNTOLD_WAIT, "both left before either was refused");
        advance(UNTOLD_WAIT).await;
        pacer.note(&SENDING, Outcome::Refused(RETRY_AFTER_DEFAULT));
        assert_eq!(wait(), UNTOLD_WAIT * 2, "not told, so it grows");
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_invitation_closes_the_invitee_then_the_room_then_the_account() {
        let pacer = Arc::new(Pacer::default());
        let [ann, ben, cat] =
            ["@ann:x", "@ben:x", "@cat:x"].map(|user| <&UserId>::try_from(user).unwrap());
        let [here, there] = ["!here:x", "!there:x"].map(|room| <&RoomId>::try_from(room).unwrap());
        let wait = |of: LimitOf| pacer.expected(&of, Priority::Upgrade);
        let to = |room: &RoomId| LimitOf::InvitationsTo(room.to_owned());
        let of_account = || LimitOf::Account(Bucket::Invitations);
        let refused = |seconds| Outcome::Refused(Duration::from_secs(seconds));
        pacer.note_invitation(ann, here, refused(300));
        assert_eq!(pacer.closed_to(ann), Some(Duration::from_mins(5)));
        assert_eq!(
            (pacer.closed_to(ben), wait(to(here))),
            (None, Duration::ZERO)
        );
        // Another limit of one person.
        pacer.note_invitation(ben, here, refused(200));
        assert_eq!(wait(to(here)), Duration::ZERO);
        pacer.note_invitation(cat, here, Outcome::LetThrough);
        pacer.note_invitation(ann, here, refused(7));
        pacer.note_invitation(ben, here, refused(7));
        assert_eq!(wait(to(here)), Duration::from_secs(7));
        assert_eq!(
            (wait(to(there)), wait(of_account())),
            (Duration::ZERO, Duration::ZERO)
        );
        pacer.note_invitation(cat, there, refused(7));
        assert_eq!(wait(of_account()), Duration::from_secs(7));
        assert_eq!(wait(to(here)), Duration::ZERO);
    }
}
