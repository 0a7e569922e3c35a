//! The beat of sync: when it rests, and how others end the rest.
//!
//! Whatever the bot does in a room comes back to it by sync, event by event, and each answer costs the
//! homeserver about what the event did. So sync rests between answers that there is nothing to do about.
//! Whoever needs to know what it would tell asks for the next beat. Left out: whether the bot is at work
//! (`Store::is_at_work`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ruma::{OwnedRoomId, UserId};
use tokio::sync::{Notify, watch};

use super::source::{SyncAnswer, TimelineEvent};

/// How long sync rests after chatter of the rooms that the bot is in.
pub(super) const REST: Duration = Duration::from_secs(1);

/// The same while a job is at work, or messages are to be sent.
pub(super) const REST_AT_WORK: Duration = Duration::from_secs(2);

/// How long sync rests until it looks again whether the bot is at work. So long it also waits for what was
/// said in an admin room to be handled.
pub(super) const BREATH: Duration = Duration::from_millis(100);

/// What an answer tells of, as far as sync may rest after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    /// Invitations, or messages to the device, such as keys: more may follow that somebody waits for.
    Call,
    /// What others say in an admin room.
    Talk,
    /// What the bot says there itself, or nothing that anybody said.
    Ourselves,
    /// What happens in other rooms.
    Chatter,
    /// No news.
    Nothing,
}

impl Heard {
    /// What one answer tells of.
    pub(super) fn of(answer: &SyncAnswer, admin_rooms: &[OwnedRoomId], own: &UserId) -> Self {
        if !answer.invited.is_empty() || answer.to_device > 0 {
            return Self::Call;
        }
        let is_ours = |event: &TimelineEvent| event.sender().is_some_and(|sender| sender == own);
        let only_ours = answer
            .joined
            .iter()
            .filter(|(room, _)| admin_rooms.contains(room))
            .map(|(_, update)| update.timeline.iter().all(is_ours))
            .reduce(|all, ours| all && ours);
        match only_ours {
            Some(true) => Self::Ourselves,
            Some(false) => Self::Talk,
            None if answer.joined.is_empty() && answer.left.is_empty() => Self::Nothing,
            None => Self::Chatter,
        }
    }
}

/// How a rest ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was long enough.
    Rested,
    /// Somebody was in a hurry.
    Hurried,
}

/// Shared by whoever syncs and whoever waits for it.
#[derive(Debug, Default)]
pub struct Beat {
    hurry: Notify,
    /// Syncs that were begun; each has its number, from 1.
    begun: AtomicU64,
    /// The last that was answered and taken in.
    taken: watch::Sender<u64>,
}

impl Beat {
    /// A sync begins; its number.
    pub(super) fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The answer to that sync was taken in.
    pub(super) fn take(&self, sync: u64) {
        self.taken.send_replace(sync);
    }

    /// Rests, unless somebody is in a hurry.
    pub(super) async fn rest(&self, rest: Duration) -> Ended {
        tokio::select! {
            biased;
            () = tokio::time::sleep(rest) => Ended::Rested,
            () = self.hurry.notified() => Ended::Hurried,
        }
    }

    /// Ends the rest, or leaves out the next one.
    pub fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Waits until the answer to a sync that began after now was taken in. A homeserver with nothing to
    /// tell holds it: limit the time.
    pub async fn next(&self) {
        let next = self.begun.load(Ordering::SeqCst) + 1;
        let mut taken = self.taken.subscribe();
        self.hurry();
        // It ends in error only when there is no more beat to wait for.
        let _ended = taken.wait_for(|taken| *taken >= next).await;
    }
}
