//! Rate limits, as Synapse counts them: token buckets, each for one account, room or invitee.
//!
//! Source: Synapse 1.163.2, `synapse/config/ratelimiting.py`.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

/// What is counted, and for whom.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Limiter {
    pub(crate) kind: Kind,
    pub(crate) of: String,
}

/// Kinds of limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Messages,
    RoomCreation,
    InvitesPerRoom,
    InvitesPerInvitee,
    InvitesPerIssuer,
    Joins,
    JoinsPerRoom,
    Reads,
}

/// Tokens a second, and how many at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rate {
    pub(crate) per_second: f64,
    pub(crate) burst: f64,
}

#[derive(Debug, Clone, Copy)]
struct Level {
    used: f64,
    at: Timestamp,
}

/// The limits in force.
#[derive(Debug, Clone, Default)]
pub(crate) struct Limits {
    rates: BTreeMap<Kind, Rate>,
    used: BTreeMap<Limiter, Level>,
    /// Refusals so far.
    pub(crate) refused: u64,
}

impl Limits {
    /// No limits at all.
    pub(crate) fn none() -> Self {
        Self::default()
    }

    /// Synapse's, where nobody has changed them.
    pub(crate) fn synapse() -> Self {
        Self::none()
            .with(Kind::Messages, 0.2, 10.0)
            .with(Kind::RoomCreation, 0.016, 10.0)
            .with(Kind::InvitesPerRoom, 0.3, 10.0)
            .with(Kind::InvitesPerInvitee, 0.003, 5.0)
            .with(Kind::InvitesPerIssuer, 0.3, 10.0)
            .with(Kind::Joins, 0.1, 10.0)
            .with(Kind::JoinsPerRoom, 1.0, 10.0)
    }

    pub(crate) fn with(mut self, kind: Kind, per_second: f64, burst: f64) -> Self {
        self.rates.insert(kind, Rate { per_second, burst });
        self
    }

    /// How long it takes at least to get so many tokens; `None` where nothing is limited.
    pub(crate) fn least(&self, kind: Kind, tokens: u32) -> Option<Duration> {
        let rate = self.rates.get(&kind)?;
        let waited_for = (f64::from(tokens) - rate.burst).max(0.0);
        Some(Duration::from_secs_f64(waited_for / rate.per_second))
    }

    /// Takes a token that is not asked for.
    pub(crate) fn record(&mut self, limiter: &Limiter, now: Timestamp) {
        if self.rates.contains_key(&limiter.kind) && self.take(limiter, now).is_some() {
            self.refused -= 1;
            let level = self.used.get_mut(limiter).expect("it was counted");
            level.used += 1.0;
        }
    }

    /// How long to wait for a token, without taking one.
    pub(crate) fn peek(&mut self, limiter: &Limiter, now: Timestamp) -> Option<Duration> {
        let wait = self.take(limiter, now);
        if wait.is_none() {
            self.give_back(limiter);
        }
        wait
    }

    /// Gives a token back.
    pub(crate) fn give_back(&mut self, limiter: &Limiter) {
        if let Some(level) = self.used.get_mut(limiter) {
            level.used = (level.used - 1.0).max(0.0);
        }
    }

    /// Takes a token. How long to wait, where there is none.
    pub(crate) fn take(&mut self, limiter: &Limiter, now: Timestamp) -> Option<Duration> {
        let rate = *self.rates.get(&limiter.kind)?;
        let level = self
            .used
            .entry(limiter.clone())
            .or_insert(Level { used: 0.0, at: now });
        let passed = now.duration_since(level.at).as_secs_f64().max(0.0);
        level.used = (level.used - passed * rate.per_second).max(0.0);
        level.at = now;
        if level.used + 1.0 <= rate.burst {
            level.used += 1.0;
            return None;
        }
        self.refused += 1;
        let missing = level.used + 1.0 - rate.burst;
        Some(Duration::from_secs_f64(missing / rate.per_second))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let limiter = Limiter {
            kind: Kind::Messages,
            of: "@a:x".to_owned(),
        };
        let mut limits = Limits::synapse();
        let at = |second| Timestamp::from_second(second).unwrap();
        for _ in 0..10 {
            assert_eq!(limits.take(&limiter, at(0)), None);
        }
        let wait = limits.take(&limiter, at(0)).unwrap();
        assert_eq!(wait.as_secs(), 5);
        assert_eq!(limits.take(&limiter, at(5)), None);
        assert!(limits.take(&limiter, at(5)).is_some());
    }
}
