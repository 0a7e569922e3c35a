//! The beat of sync: when it rests, and how others end the rest.
//!
//! Whatever the bot does in a room comes back to it by sync, event by event, and each answer costs the
//! homeserver about what the event did. So sync rests between answers that there is nothing to do about.
//! Whoever needs to know what it would tell asks for the next beat. Left out: which answers those are
//! (`receive`).

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// How long sync rests after chatter of the rooms that the bot is in.
pub(super) const REST: Duration = Duration::from_secs(1);

/// The same while a job is at work.
pub(super) const REST_AT_WORK: Duration = Duration::from_secs(2);

/// Shared by whoever syncs and whoever waits for it.
#[derive(Debug, Default)]
pub(super) struct Beat {
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
    pub(super) async fn rest(&self, rest: Duration) {
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            () = self.hurry.notified() => {}
        }
    }

    /// Ends the rest, or leaves out the next one.
    pub(super) fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Waits until the answer to a sync that began after now was taken in. A homeserver with nothing to
    /// tell holds it: limit the time.
    pub(super) async fn next(&self) {
        let next = self.begun.load(Ordering::SeqCst) + 1;
        let mut taken = self.taken.subscribe();
        self.hurry();
        // It ends in error only when there is no more beat to wait for.
        let _ended = taken.wait_for(|taken| *taken >= next).await;
    }
}
