//! Invitations: which of the limits they count against was met. A refusal closes the invitee first, then the room,
//! then the account.

use std::collections::BTreeMap;
use std::time::Duration;

use ruma::{OwnedRoomId, OwnedUserId, RoomId, UserId};
use tokio::time::Instant;

use super::{LimitOf, Outcome, Pacer, WAIT_MAX};
use crate::model::Bucket;

/// How far apart the moments may be at which two refusals say that the next request may come, if both are about
/// the same limit.
const SAME_LIMIT: Duration = Duration::from_millis(100);

/// First wait for a room or an account about which a refusal seems to be; doubles with each further one.
const SEEMS_CLOSED: Duration = Duration::from_secs(10);

/// People who cannot be invited now, and what was refused last.
#[derive(Debug, Default)]
pub(super) struct Invitees {
    closed: BTreeMap<OwnedUserId, Instant>,
    /// How often each was refused since they were invited last.
    refusals: BTreeMap<OwnedUserId, u32>,
    /// What was refused since an invitation was let through last.
    refused: Vec<RefusedInvitation>,
}

#[derive(Debug)]
pub(super) struct RefusedInvitation {
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
