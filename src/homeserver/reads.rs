//! How reading waits for limits: by itself, as it changes nothing and may be repeated.
//!
//! A step reads dozens of things. If one refusal made it begin again, it would never end on a server that
//! limits reads, as each beginning uses up what the limit lets through (P8). So each read waits in its place,
//! in the order in which they were asked for, and what the others have answered is kept by whoever asked. They
//! wait for as long as the limit lets any of them through. A limit that does not open is passed on, and the
//! wait is stored.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::{HomeserverError, Result};

/// Reads that are under way at the same time; the next ones wait in order.
pub const READS_AT_ONCE: usize = 8;

/// How long a read waits for a limit that lets no read through.
pub const READ_PATIENCE: Duration = Duration::from_mins(2);

/// Shortest wait for a limit.
const WAIT_MIN: Duration = Duration::from_millis(100);

/// The reads of one account.
#[derive(Debug)]
pub struct Reads {
    turns: Semaphore,
    /// When a read was last answered with something else than a limit.
    last_answer: Mutex<Option<Instant>>,
}

impl Default for Reads {
    fn default() -> Self {
        Self {
            turns: Semaphore::new(READS_AT_ONCE),
            last_answer: Mutex::new(None),
        }
    }
}

impl Reads {
    /// Asks until it is not one request too many.
    ///
    /// # Errors
    /// What the homeserver answers; [`HomeserverError::RateLimited`] once no read was let through for
    /// [`READ_PATIENCE`].
    pub async fn patiently<T, F>(&self, mut ask: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        // Never closed. Kept while waiting, so that the next in order do not overtake.
        let _turn = self.turns.acquire().await;
        let begun = Instant::now();
        loop {
            let answer = ask().await;
            let Err(HomeserverError::RateLimited { limit, .. }) = &answer else {
                *self.last_answer() = Some(Instant::now());
                return answer;
            };
            let wait = limit.retry_after.max(WAIT_MIN);
            let progress = self.last_answer().map_or(begun, |last| last.max(begun));
            if Instant::now() + wait > progress + READ_PATIENCE {
                return answer;
            }
            tokio::time::sleep(wait).await;
        }
    }

    fn last_answer(&self) -> MutexGuard<'_, Option<Instant>> {
        self.last_answer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
