//! The pace of requests that the homeserver limits: who goes next, and when.
//!
//! A limit is unknown until the server refuses something. From then on its requests go one after the other,
//! the most important first, and each at the moment at which the server will let it through. That moment is
//! learned: the server says when the next request may come, and what it let through between two refusals
//! says how far apart they have to be. A limit that was not met for a while is tried again.
//!
//! Nothing is kept across a restart. All times are of the process's own clock, which nobody sets. Left out:
//! which request belongs to which limit (`paced`).

mod invitees;
mod limit;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ruma::OwnedRoomId;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::invitees::Invitees;
use self::limit::Limit;
use crate::model::Bucket;

/// Shortest wait after a refusal; doubles with each further one.
const WAIT_MIN: Duration = Duration::from_millis(100);

/// Longest wait after a refusal that did not say how long.
const WAIT_MAX: Duration = Duration::from_mins(5);

/// How much two requests may differ in the time they take to the server.
const JITTER: Duration = Duration::from_millis(5);

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

impl LimitOf {
    fn bucket(&self) -> Bucket {
        match self {
            Self::Account(bucket) => *bucket,
            Self::InvitationsTo(_) => Bucket::Invitations,
        }
    }
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

    /// Buckets that have let nothing through for so long, each with how long that has been.
    #[must_use]
    pub fn closed_for(&self, least: Duration) -> BTreeMap<Bucket, Duration> {
        let now = Instant::now();
        let mut closed = BTreeMap::new();
        for (of, queue) in self.queues().iter() {
            let since = queue.limit.and_then(|limit| limit.closed_since);
            let lasts = since.map(|since| now.saturating_duration_since(since));
            if let Some(lasts) = lasts.filter(|lasts| *lasts >= least) {
                let longest = closed.entry(of.bucket()).or_insert(lasts);
                *longest = lasts.max(*longest);
            }
        }
        closed
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

#[cfg(test)]
mod tests;
