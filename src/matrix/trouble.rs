//! Failures in a row of what is tried without end: one line in the log when they begin, one when they
//! are over, and longer and longer pauses in between.

use std::time::Duration;

use tokio::time::Instant;

use crate::homeserver::HomeserverError;

/// First wait after a failed request; doubles.
const RETRY_FIRST: Duration = Duration::from_secs(1);

/// Longest wait after a failed request.
const RETRY_MAX: Duration = Duration::from_secs(30);

/// Failures in a row: how long to wait, and what to log.
pub(super) struct Trouble {
    what: &'static str,
    wait: Duration,
    since: Option<Instant>,
}

impl Trouble {
    pub(super) fn new(what: &'static str) -> Self {
        Self {
            what,
            wait: RETRY_FIRST,
            since: None,
        }
    }

    /// Notes a failure; returns how long to wait.
    pub(super) fn with(&mut self, error: &HomeserverError) -> Duration {
        if self.since.is_none() {
            self.since = Some(Instant::now());
            let error = error as &dyn std::error::Error;
            tracing::warn!(what = self.what, error, "failing; trying on");
        }
        let wait = self.wait;
        self.wait = (wait * 2).min(RETRY_MAX);
        match error {
            HomeserverError::RateLimited { limit, .. } => wait.max(limit.retry_after),
            _ => wait,
        }
    }

    pub(super) fn over(&mut self) {
        self.wait = RETRY_FIRST;
        if let Some(since) = self.since.take() {
            tracing::info!(
                what = self.what,
                seconds = since.elapsed().as_secs(),
                "works again"
            );
        }
    }
}
