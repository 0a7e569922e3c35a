//! Which syncs were taken in, for whoever waits for what they tell.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// Shared by whoever syncs and whoever waits for it.
#[derive(Debug, Default)]
pub struct Syncs {
    /// Syncs that were begun; each has its number, from 1.
    begun: AtomicU64,
    /// The last that was answered and taken in.
    taken: watch::Sender<u64>,
}

impl Syncs {
    /// A sync begins; its number.
    pub(super) fn begin(&self) -> u64 {
        self.begun.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// The answer to that sync was taken in.
    pub(super) fn take(&self, sync: u64) {
        self.taken.send_replace(sync);
    }

    /// Waits until the answer to a sync that began after now was taken in. A homeserver with nothing to
    /// tell holds it: limit the time.
    pub async fn next(&self) {
        let next = self.begun.load(Ordering::SeqCst) + 1;
        let mut taken = self.taken.subscribe();
        // It ends in error only when nobody syncs any more.
        let _ended = taken.wait_for(|taken| *taken >= next).await;
    }
}
