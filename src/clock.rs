//! Time as a parameter: the only place that asks the operating system for it.

pub mod quiet_hours;

use std::time::Duration;

use jiff::Timestamp;

/// Tells the time.
pub trait Clock: Send + Sync {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// A moment and a while; the end of time where there is none.
#[must_use]
pub fn later(moment: Timestamp, by: Duration) -> Timestamp {
    moment.saturating_add(by).unwrap_or(Timestamp::MAX)
}

/// A while before a moment; the beginning of time where there is none.
#[must_use]
pub fn earlier(moment: Timestamp, by: Duration) -> Timestamp {
    moment.saturating_sub(by).unwrap_or(Timestamp::MIN)
}

/// How long to wait after so many tries or waits: doubled with each.
#[must_use]
pub fn backoff(first: Duration, longest: Duration, tries: u32) -> Duration {
    let factor = 2_u32.saturating_pow(tries.min(31));
    first.saturating_mul(factor).min(longest)
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that others are given"
    )]
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_never_overflows() {
        let second = Duration::from_secs(1);
        assert_eq!(later(Timestamp::MAX, second), Timestamp::MAX);
        assert_eq!(later(Timestamp::UNIX_EPOCH, Duration::MAX), Timestamp::MAX);
        assert_eq!(earlier(Timestamp::MIN, second), Timestamp::MIN);
        assert_eq!(
            earlier(Timestamp::UNIX_EPOCH, Duration::MAX),
            Timestamp::MIN
        );
    }
}
