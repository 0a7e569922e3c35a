//! Virtual time: the paused clock of the runtime, the server's clock and the bot's are one, but for what a
//! test sets the bot's clock off by.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use roomlift::clock::Clock;
use tokio::time::Instant;

/// A moment in virtual time, as every simulation begins with.
pub(crate) const BEGIN: i64 = 1_790_000_000;

/// The clock of a simulation. It goes on over the lives of the bot, each of which has a runtime of its own.
#[derive(Debug)]
pub(crate) struct SimClock {
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// The time at the beginning of this life.
    base: Timestamp,
    /// The beginning of this life by its runtime; absent between two lives.
    begun: Option<Instant>,
    /// How far the bot's clock is off.
    off: SignedDuration,
}

impl SimClock {
    pub(crate) fn new() -> Self {
        Self {
            inner: Mutex::new(Inner {
                base: Timestamp::from_second(BEGIN).expect("a time"),
                begun: None,
                off: SignedDuration::ZERO,
            }),
        }
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A life begins; to be called within its runtime.
    pub(crate) fn begin_life(&self) {
        self.inner().begun = Some(Instant::now());
    }

    /// A life ended, and this long nothing runs; to be called within its runtime.
    pub(crate) fn end_life(&self, pause: Duration) {
        let now = self.true_now();
        let mut inner = self.inner();
        inner.base = now + pause;
        inner.begun = None;
    }

    /// The time that everybody else has.
    pub(crate) fn true_now(&self) -> Timestamp {
        let inner = self.inner();
        inner.base + inner.begun.map_or(Duration::ZERO, |begun| begun.elapsed())
    }

    /// Sets the bot's clock off.
    pub(crate) fn set_off(&self, off: SignedDuration) {
        self.inner().off = off;
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let now = self.true_now();
        now + self.inner().off
    }
}
