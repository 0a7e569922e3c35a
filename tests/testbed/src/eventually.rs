//! Waiting for a condition: the only place of the testbed that polls on a timer.
//!
//! Leaves out back-off and jitter: conditions here are local and cheap to look at.

use std::panic::Location;
use std::time::{Duration, Instant};

/// How long to wait between two looks at a condition.
pub const POLL_INTERVAL: Duration = Duration::from_millis(25);

/// Calls `probe` until it returns `Some`, and returns that.
///
/// Panics, naming `what` and the caller, when `deadline` passes first.
#[track_caller]
pub fn eventually<T>(
    what: &str,
    deadline: Duration,
    mut probe: impl AsyncFnMut() -> Option<T>,
) -> impl Future<Output = T> {
    let caller = Location::caller();
    async move {
        let start = Instant::now();
        loop {
            if let Some(found) = probe().await {
                return found;
            }
            assert!(
                start.elapsed() < deadline,
                "{caller}: waited {deadline:?} in vain for: {what}"
            );
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}

/// [`eventually`] for code outside a runtime: `None` when the deadline passes.
pub(crate) fn eventually_blocking<T>(
    deadline: Duration,
    mut probe: impl FnMut() -> Option<T>,
) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        if start.elapsed() >= deadline {
            return None;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}
