//! Rate limits as they are known now: a closed bucket is not knocked at again before its time.
//!
//! One gate per account, shared by all jobs and by the outbox. It keeps nothing across a restart:
//! the waits of jobs and messages are stored with them, and a server repeats what it said.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use ruma::{OwnedUserId, UserId};

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
    invitees: Mutex<Invitees>,
    /// One invitation is under way at a time: several at once would spend what a limit lets through for the
    /// same person on refusals.
    invitation: tokio::sync::Mutex<()>,
}

/// People who cannot be invited now.
#[derive(Debug, Default)]
struct Invitees {
    closed: HashMap<OwnedUserId, Closing>,
    /// Who was refused last, if nobody was invited since.
    last: Option<OwnedUserId>,
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

/// Invitations. Servers limit them for each invitee, each room and each issuer, and do not say which it was.
/// So a refusal closes the invitee first; when the next person is refused as well, it closes them all.
/// Source: Synapse, `rc_invites`: `per_user` is the invitee.
impl Gate {
    /// Waits for the turn to invite, which lasts until what is returned is dropped.
    pub async fn turn_to_invite(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.invitation.lock().await
    }

    /// Until when somebody cannot be invited; `None` if they can.
    #[must_use]
    pub fn not_invited_until(&self, user: &UserId, now: Timestamp) -> Option<Timestamp> {
        let invitees = self.invitees.lock().unwrap_or_else(PoisonError::into_inner);
        let known = invitees.closed.get(user).filter(|known| known.holds(now));
        let own = known.map(|known| known.until).filter(|until| *until > now);
        own.max(self.closed_until(Bucket::Invitations, now))
    }

    /// Notes that an invitation was one too many.
    pub fn close_invitee(&self, user: &UserId, now: Timestamp, until: Timestamp) {
        let mut invitees = self.invitees.lock().unwrap_or_else(PoisonError::into_inner);
        let is_second = invitees.last.as_deref().is_some_and(|last| last != user);
        invitees.last = Some(user.to_owned());
        invitees
            .closed
            .retain(|_, known| known.holds(now) && known.until > now);
        let closing = Closing { since: now, until };
        invitees.closed.insert(user.to_owned(), closing);
        drop(invitees);
        if is_second {
            self.close(Bucket::Invitations, now, until);
        }
    }

    /// Notes that somebody was invited.
    pub fn invited(&self) {
        let mut invitees = self.invitees.lock().unwrap_or_else(PoisonError::into_inner);
        invitees.last = None;
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
    fn one_persons_limit_closes_nobody_else() {
        let gate = Gate::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        let [ann, ben, cat] =
            ["@ann:x", "@ben:x", "@cat:x"].map(|id| <&UserId>::try_from(id).unwrap());
        gate.close_invitee(ann, at(0), at(300));
        assert_eq!(gate.not_invited_until(ann, at(1)), Some(at(300)));
        assert_eq!(gate.not_invited_until(ben, at(1)), None);
        gate.invited();
        gate.close_invitee(ben, at(2), at(60));
        assert_eq!(gate.not_invited_until(cat, at(3)), None);
        gate.close_invitee(cat, at(4), at(30));
        assert_eq!(
            gate.not_invited_until(<&UserId>::try_from("@dan:x").unwrap(), at(5)),
            Some(at(30))
        );
        assert_eq!(gate.not_invited_until(ann, at(31)), Some(at(300)));
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
