//! Rate limits as they are known now: a closed bucket is not knocked at again before its time.
//!
//! One gate per account, shared by all jobs and by the outbox. It keeps nothing across a restart:
//! the waits of jobs and messages are stored with them, and a server repeats what it said.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::Bucket;

/// How long after it opened a bucket counts as tight: what was allowed since is soon used up.
const TIGHT: SignedDuration = SignedDuration::from_mins(2);

/// How much of a bucket is left, as far as that is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supply {
    /// It was not closed lately.
    Ample,
    /// It is closed, or was until a moment ago.
    Tight,
}

/// Which buckets are closed, and until when.
#[derive(Debug, Default)]
pub struct Gate {
    closed: Mutex<HashMap<Bucket, Closing>>,
}

/// That a bucket is closed.
#[derive(Debug, Clone, Copy)]
struct Closing {
    /// When that was said.
    since: Timestamp,
    /// When it opens.
    until: Timestamp,
}

impl Closing {
    /// Whether it says anything about a moment. After the clock was set back it does not: the bot
    /// asks again, and the server repeats what it said.
    fn holds(self, now: Timestamp) -> bool {
        self.since <= now
    }
}

impl Gate {
    /// Closes a bucket until a moment; never opens it earlier than was known.
    pub fn close(&self, bucket: Bucket, now: Timestamp, until: Timestamp) {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let known = closed.get(&bucket).filter(|known| known.holds(now));
        let until = known.map_or(until, |known| known.until.max(until));
        closed.insert(bucket, Closing { since: now, until });
    }

    /// Whether a bucket was closed lately. What can wait leaves the rest to what cannot.
    #[must_use]
    pub fn supply(&self, bucket: Bucket, now: Timestamp) -> Supply {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        match closed.get(&bucket) {
            Some(known) if known.holds(now) && now.duration_since(known.until) < TIGHT => {
                Supply::Tight
            }
            _ => Supply::Ample,
        }
    }

    /// Until when a bucket is closed; `None` when it is open.
    #[must_use]
    pub fn closed_until(&self, bucket: Bucket, now: Timestamp) -> Option<Timestamp> {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let known = closed.get(&bucket).filter(|known| known.holds(now));
        known.map(|known| known.until).filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_opens_at_its_time_and_not_before() {
        let gate = Gate::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        gate.close(Bucket::RoomCreation, at(0), at(60));
        gate.close(Bucket::RoomCreation, at(10), at(30));
        assert_eq!(
            gate.closed_until(Bucket::RoomCreation, at(59)),
            Some(at(60))
        );
        assert_eq!(gate.closed_until(Bucket::RoomCreation, at(60)), None);
        assert_eq!(gate.closed_until(Bucket::Everything, at(0)), None);
    }

    #[test]
    fn a_clock_that_was_set_back_opens_it() {
        let gate = Gate::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        gate.close(Bucket::Joins, at(3600), at(3660));
        assert_eq!(gate.closed_until(Bucket::Joins, at(60)), None);
        assert_eq!(gate.supply(Bucket::Joins, at(60)), Supply::Ample);
        gate.close(Bucket::Joins, at(61), at(70));
        assert_eq!(gate.closed_until(Bucket::Joins, at(62)), Some(at(70)));
    }

    #[test]
    fn a_bucket_stays_tight_for_a_while() {
        let gate = Gate::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(gate.supply(Bucket::Everything, at(0)), Supply::Ample);
        gate.close(Bucket::Everything, at(0), at(60));
        assert_eq!(gate.supply(Bucket::Everything, at(0)), Supply::Tight);
        assert_eq!(gate.supply(Bucket::Everything, at(179)), Supply::Tight);
        assert_eq!(gate.supply(Bucket::Everything, at(180)), Supply::Ample);
        assert_eq!(gate.supply(Bucket::Joins, at(0)), Supply::Ample);
    }
}
