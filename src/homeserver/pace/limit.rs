//! What is known of one limit: how often it refuses, and how soon it can be asked again.

use std::time::Duration;

use tokio::time::Instant;

use super::super::RETRY_AFTER_DEFAULT;
use super::{Allowance, JITTER, Outcome, WAIT_MAX, WAIT_MIN};

/// How many requests at once a limit lets through after a rest, until it shows otherwise.
/// Source: Synapse's default for every limiter.
const BURST: u32 = 10;

/// After this time without a refusal it is tried whether there still is a limit, or after as many requests,
/// whatever is longer: that costs a refusal.
pub(super) const BELIEVED: Duration = Duration::from_mins(10);

/// See [`BELIEVED`].
const BELIEVED_REQUESTS: u32 = 50;

/// The same after a refusal that did not say how long.
pub(super) const UNTOLD_WAIT: Duration = Duration::from_millis(500);

/// After so many requests without a refusal, a limit that does not say how long to wait is tried with a
/// shorter interval: what it really is can only be found that way.
const UNTOLD_TRIES: u32 = 20;

/// A limit that was met.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// When it refused something last.
    pub(super) refused: Instant,
    /// Since when it has let nothing through.
    pub(super) closed_since: Option<Instant>,
    /// Refusals in a row, up to the last one.
    pub(super) refusals: u32,
    /// When it lets the next request through.
    pub(super) next: Instant,
    /// How far apart requests have to be; zero while that is not known.
    pub(super) interval: Duration,
    /// How many may go at once after a rest.
    pub(super) burst: u32,
    /// Whether the last refusal said how long to wait.
    pub(super) is_told: bool,
    /// While it is tried whether it is still there: requests that it let through since.
    pub(super) tried: Option<u32>,
    /// Since a moment at which it let exactly one more through: how many it has.
    pub(super) let_through: Option<(Instant, u32)>,
}

impl Limit {
    pub(super) fn met(now: Instant) -> Self {
        Self {
            refused: now,
            closed_since: None,
            refusals: 0,
            next: now,
            interval: Duration::ZERO,
            burst: BURST,
            is_told: true,
            tried: None,
            let_through: None,
        }
    }

    pub(super) fn note(&mut self, outcome: Outcome, now: Instant) {
        match outcome {
            Outcome::LetThrough => {
                self.closed_since = None;
                self.tried = self.tried.map(|tried| tried.saturating_add(1));
                let rested = self.interval * (self.burst - 1);
                // What a full limit had over is lost, and the count would be wrong.
                let is_full = if self.interval.is_zero() {
                    now > self.next + self.next.saturating_duration_since(self.refused)
                } else {
                    now > self.next + rested
                };
                self.let_through = self
                    .let_through
                    .filter(|_| !is_full)
                    .map(|(since, count)| (since, count + 1));
                if let Some((_, count)) = self.let_through
                    && !self.is_told
                    && count % UNTOLD_TRIES == 0
                {
                    self.interval = self.interval * 3 / 4;
                }
                let earliest = now.checked_sub(rested).unwrap_or(now);
                self.next = self.next.max(earliest) + self.interval;
                if !self.interval.is_zero() {
                    // Requests do not take the same time each.
                    self.next += self.interval / 100 + JITTER;
                }
            }
            Outcome::Refused(retry_after) => {
                self.closed_since.get_or_insert(now);
                self.is_told = retry_after != RETRY_AFTER_DEFAULT;
                // Whatever left before the last refusal was noted says nothing new.
                let refusals = self.refusals() - u32::from(now < self.next && self.refusals() > 0);
                let grown = |first: Duration| (first * 2_u32.pow(refusals.min(12))).min(WAIT_MAX);
                let wait = if self.is_told {
                    retry_after.max(grown(WAIT_MIN))
                } else {
                    grown(UNTOLD_WAIT.max(self.interval / 4))
                };
                let opens = now + wait;
                // When it lets exactly one more through; not told, one more than none at some time before.
                let known = if self.is_told { opens } else { now };
                let had_rested = now > self.next + self.interval && !self.interval.is_zero();
                match self.let_through {
                    _ if had_rested => self.burst = (self.burst / 2).max(1),
                    Some((since, count)) if count > 0 => {
                        self.interval = known.saturating_duration_since(since) / count;
                    }
                    _ => {}
                }
                self.tried = None;
                self.let_through = Some((known, 0));
                self.refused = now;
                self.refusals = refusals + 1;
                self.next = opens;
            }
        }
    }

    /// Refusals in a row.
    pub(super) fn refusals(&self) -> u32 {
        match self.let_through {
            Some((_, 0)) => self.refusals,
            _ => 0,
        }
    }

    /// A request that was counted when it left was refused.
    pub(super) fn uncount(&mut self) {
        if let Some((_, count)) = &mut self.let_through {
            *count = count.saturating_sub(1);
        }
    }

    pub(super) fn allowance(&self, now: Instant) -> Allowance {
        let rested = now.saturating_duration_since(self.next);
        let saved = match self.interval {
            Duration::ZERO => 0,
            interval => rested.as_millis() / interval.as_millis().max(1),
        };
        let at_once = (saved + 1).min(u128::from(self.burst));
        Allowance {
            opens_in: self.next.saturating_duration_since(now),
            interval: self.interval,
            at_once: usize::try_from(at_once).unwrap_or(1),
        }
    }

    /// Whether it is to be tried whether it is still there.
    pub(super) fn is_old(&self, now: Instant) -> bool {
        let believed = BELIEVED.max(self.interval * BELIEVED_REQUESTS);
        self.tried.is_some() || (now > self.refused + believed && now >= self.next)
    }
}
