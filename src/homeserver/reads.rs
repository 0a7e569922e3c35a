//! How reading waits for limits: by itself, as it changes nothing and may be repeated.
//!
//! A step reads dozens of things. If one refusal made it begin again, it would never end on a server that
//! limits reads, as each beginning uses up what the limit lets through (P8). So each read waits in its place
//! and keeps its place; what the others have answered is kept by whoever asked. A limit that does not open in
//! time is passed on, and the wait is stored.

use std::time::Duration;

use tokio::sync::Semaphore;

use super::{HomeserverError, Result};

/// Reads that are under way at the same time.
pub const READS_AT_ONCE: usize = 8;

/// How long one read waits for limits in all.
pub const READ_PATIENCE: Duration = Duration::from_mins(2);

/// Shortest such wait.
const WAIT_MIN: Duration = Duration::from_millis(100);

/// The reads of one account.
#[derive(Debug)]
pub struct Reads(Semaphore);

impl Default for Reads {
    fn default() -> Self {
        Self(Semaphore::new(READS_AT_ONCE))
    }
}

impl Reads {
    /// Asks until it is not one request too many.
    ///
    /// # Errors
    /// What the homeserver answers; [`HomeserverError::RateLimited`] after [`READ_PATIENCE`].
    pub async fn patiently<T, F>(&self, mut ask: impl FnMut() -> F) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        let mut waited = Duration::ZERO;
        loop {
            let answer = {
                // Never closed.
                let _permit = self.0.acquire().await;
                ask().await
            };
            match answer {
                Err(HomeserverError::RateLimited { retry_after, .. })
                    if waited + retry_after <= READ_PATIENCE =>
                {
                    let wait = retry_after.max(WAIT_MIN);
                    waited += wait;
                    tokio::time::sleep(wait).await;
                }
                answer => return answer,
            }
        }
    }
}
