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
    closed: Mutex<HashMap<Bucket, Timestamp>>,
}

impl Gate {
    /// Closes a bucket until a moment; never opens it earlier than was known.
    pub fn close(&self, bucket: Bucket, until: Timestamp) {
        let mut closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        let known = closed.entry(bucket).or_insert(until);
        *known = (*known).max(until);
    }

    /// Whether a bucket was closed lately. What can wait leaves the rest to what cannot.
    #[must_use]
    pub fn supply(&self, bucket: Bucket, now: Timestamp) -> Supply {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        match closed.get(&bucket) {
            Some(until) if now.duration_since(*until) < TIGHT => Supply::Tight,
            _ => Supply::Ample,
        }
    }

    /// Until when a bucket is closed; `None` when it is open.
    #[must_use]
    pub fn closed_until(&self, bucket: Bucket, now: Timestamp) -> Option<Timestamp> {
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        closed.get(&bucket).copied().filter(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_opens_at_its_time_and_not_before() {
        let gate = Gate::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        gate.close(Bucket::RoomCreation, at(60));
        gate.close(Bucket::RoomCreation, at(30));
        assert_eq!(
            gate.closed_until(Bucket::RoomCreation, at(59)),
            Some(at(60))
        );
        assert_eq!(gate.closed_until(Bucket::RoomCreation, at(60)), None);
        assert_eq!(gate.closed_until(Bucket::Everything, at(0)), None);
    }

    #[test]
    fn a_bucket_stays_tight_for_a_while() {
        let gate = Gate::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(gate.supply(Bucket::Everything, at(0)), Supply::Ample);
        gate.close(Bucket::Everything, at(60));
        assert_eq!(gate.supply(Bucket::Everything, at(0)), Supply::Tight);
        assert_eq!(gate.supply(Bucket::Everything, at(179)), Supply::Tight);
        assert_eq!(gate.supply(Bucket::Everything, at(180)), Supply::Ample);
        assert_eq!(gate.supply(Bucket::Joins, at(0)), Supply::Ample);
    }
}
