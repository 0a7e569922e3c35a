//! Once a day, work that was over long ago is removed from the database, a batch at a time.
//!
//! Left out: what may be removed (`store::records`).

use std::time::Duration;

use jiff::Timestamp;

use super::Worker;
use crate::clock::{earlier, later};
use crate::store::{Round, StoreError};

/// From one round to the next.
const EVERY: Duration = Duration::from_hours(24);

/// From one batch to the next: others want to write, too.
const BREATH: Duration = Duration::from_millis(200);

/// The round under way, and when it goes on or the next one begins.
pub(super) struct Pruning {
    round: Round,
    next: Timestamp,
}

impl Default for Pruning {
    fn default() -> Self {
        Self {
            round: Round::default(),
            next: Timestamp::MIN,
        }
    }
}

impl Worker {
    /// Removes another batch, if it is time; says how long there is nothing to remove.
    pub(super) fn prune(
        &self,
        now: Timestamp,
        pruning: &mut Pruning,
    ) -> Result<Duration, StoreError> {
        let Some(keep) = self.context.setup.keep else {
            return Ok(EVERY);
        };
        let rest = Duration::try_from(pruning.next.duration_since(now)).unwrap_or_default();
        // A longer one was begun before the clock was set back.
        if !rest.is_zero() && rest <= EVERY {
            return Ok(rest);
        }
        self.context
            .store
            .prune(now, earlier(now, keep), &mut pruning.round)?;
        let rest = if pruning.round.is_over() {
            pruning.round = Round::default();
            EVERY
        } else {
            BREATH
        };
        pruning.next = later(now, rest);
        Ok(rest)
    }
}
