//! What an upgrade costs: how many requests, and how long they take under the limits that are known.

use std::time::Duration;

use crate::homeserver::pace::Allowance;
use crate::job::Counts;
use crate::room::change::Change;

/// Requests of an upgrade beside the changes: switch, reading both rooms twice, notice and pin.
const BASE_REQUESTS: usize = 14;

/// What an upgrade sends beside the changes: the new room, the tombstone, the notice and its pin.
const EVENTS_OF_ITS_OWN: usize = 4;

/// Time Synapse takes to copy one ban (measured: 1,000 in 27 s).
const MILLIS_PER_BAN: u64 = 27;

/// How fast the homeserver answers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    /// Time one request takes.
    pub per_request: Duration,
    /// What it lets the account send.
    pub sending: Allowance,
    /// Whom it lets the account invite.
    pub inviting: Allowance,
}

/// What an upgrade takes.
pub(super) struct Cost {
    pub(super) requests: usize,
    pub(super) seconds: u64,
    /// How many of them the server's limits take at least.
    pub(super) limited_seconds: u64,
}

pub(super) fn cost(changes: &[Change], counts: &Counts, pace: Pace) -> Cost {
    let requests = BASE_REQUESTS
        + changes.iter().map(Change::requests).sum::<usize>()
        + counts.aliases
        + 2 * counts.pins
        + 4 * counts.spaces;
    let millis = pace.per_request.as_millis() * requests as u128
        + u128::from(MILLIS_PER_BAN) * counts.bans as u128;
    let seconds = u64::try_from(millis.div_ceil(1000)).unwrap_or(u64::MAX);
    let is_invitation = |change: &&Change| matches!(change, Change::Invite { .. });
    let is_sent =
        |change: &&Change| !matches!(change, Change::MoveAlias { .. } | Change::List { .. });
    let copies = counts.pins + usize::from(counts.pins > 0);
    let sent = EVENTS_OF_ITS_OWN
        + changes
            .iter()
            .filter(is_sent)
            .map(Change::requests)
            .sum::<usize>()
        + copies;
    let invited = changes.iter().filter(is_invitation).count();
    // Invitations count as messages, too: both go on at the same time.
    let limited = pace
        .sending
        .time_for(sent)
        .max(pace.inviting.time_for(invited));
    let limited_seconds = limited.as_secs();
    Cost {
        requests,
        seconds: seconds.max(limited_seconds),
        limited_seconds,
    }
}
