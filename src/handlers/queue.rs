//! The queue of events: which are handled side by side, and which wait for others.
//!
//! A command that waits for a server holds up no other (P14). What one person changes in one room is done in
//! the order in which they asked, as a `confirm` belongs to the plan before it. Nothing overtakes the closing
//! of an admin room, and the closing overtakes nothing. Left out: what the events mean.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use ruma::{OwnedEventId, OwnedRoomId, OwnedUserId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{BACKOFF_MAX, Ended, Failure, HandlerContext, Next, POLL};
use crate::clock::backoff;
use crate::command::{self, Command, Incoming, Need};
use crate::homeserver::HomeserverError;
use crate::store::{Lane, Received, ReceivedKind, StoreError};

/// Events that are looked at together.
const LOOKED_AT_MAX: u32 = 500;

/// Events that are handled at the same time and may wait for servers.
const SLOW_AT_ONCE: usize = 32;

/// What an event has to wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Order {
    /// It needs no homeserver but the account's own, for a moment at most.
    AtOnce,
    /// It may take long, and changes nothing.
    SideBySide,
    /// It comes after what the same person asked for before in this room.
    AfterSender,
    /// Everything before it in its room comes before it, and everything after it later.
    AfterRoom,
}

fn order(received: &Received, lane: Lane) -> Order {
    match &received.kind {
        // One after the other, at the pace that servers allow.
        _ if lane == Lane::Invitations => Order::AfterRoom,
        ReceivedKind::Tombstone { .. } => Order::AfterRoom,
        ReceivedKind::Message {
            body,
            formatted_body,
            ..
        } => {
            let incoming = Incoming {
                body,
                formatted_body: formatted_body.as_deref(),
            };
            match command::parse(&incoming) {
                None | Some(Err(_) | Ok(Command::Help(_) | Command::List(_))) => Order::AtOnce,
                Some(Ok(command)) if command.needs() == Need::Ask => Order::SideBySide,
                Some(Ok(_)) => Order::AfterSender,
            }
        }
        _ => Order::AfterSender,
    }
}

/// What is being handled, and what was tried in vain.
#[derive(Default)]
struct Queue {
    /// Events that are being handled.
    begun: BTreeMap<OwnedEventId, Order>,
    /// Events that are tried again later.
    later: BTreeMap<OwnedEventId, Later>,
}

#[derive(Clone, Copy)]
struct Later {
    attempts: u32,
    at: Instant,
}

impl Queue {
    /// Events that may be begun now, out of all that are not handled, oldest first.
    fn startable(&self, open: Vec<Received>, lane: Lane, now: Instant) -> Vec<(Received, Order)> {
        let mut slow = self
            .begun
            .values()
            .filter(|order| **order != Order::AtOnce)
            .count();
        let mut rooms: BTreeSet<OwnedRoomId> = BTreeSet::new();
        let mut closed: BTreeSet<OwnedRoomId> = BTreeSet::new();
        let mut senders: BTreeSet<(OwnedRoomId, OwnedUserId)> = BTreeSet::new();
        let mut found = Vec::new();
        for received in open {
            let order = order(&received, lane);
            let of_sender = (received.room_id.clone(), received.sender.clone());
            let is_blocked = closed.contains(&received.room_id)
                || match order {
                    Order::AtOnce | Order::SideBySide => false,
                    Order::AfterSender => senders.contains(&of_sender),
                    // In that lane, invitations to all rooms wait for each other.
                    Order::AfterRoom if lane == Lane::Invitations => !rooms.is_empty(),
                    Order::AfterRoom => rooms.contains(&received.room_id),
                };
            rooms.insert(received.room_id.clone());
            match order {
                Order::AtOnce | Order::SideBySide => {}
                Order::AfterSender => drop(senders.insert(of_sender)),
                Order::AfterRoom => drop(closed.insert(received.room_id.clone())),
            }
            let waits = self
                .later
                .get(&received.event_id)
                .is_some_and(|later| later.at > now);
            let is_full = order != Order::AtOnce && slow >= SLOW_AT_ONCE;
            if is_blocked || waits || is_full || self.begun.contains_key(&received.event_id) {
                continue;
            }
            slow += usize::from(order != Order::AtOnce);
            found.push((received, order));
        }
        found
    }
}

impl HandlerContext {
    /// Handles the events of a lane until told to stop.
    pub(super) async fn run_lane(
        &self,
        lane: Lane,
        stop: &CancellationToken,
    ) -> Result<Ended, StoreError> {
        let mut queue = Queue::default();
        let mut handling = FuturesUnordered::new();
        loop {
            let woken = self.store.wakes.inbox.notified();
            if let Some(by) = self.store.replaced() {
                // The other bot answers from now on.
                self.say_replaced(by)?;
                stop.cancelled().await;
                return Ok(Ended::Stopped);
            }
            let open = self.store.received(lane, LOOKED_AT_MAX)?;
            for (received, order) in queue.startable(open, lane, Instant::now()) {
                let later = queue.later.get(&received.event_id);
                let attempts = later.map_or(0, |later| later.attempts);
                queue.begun.insert(received.event_id.clone(), order);
                handling.push(async move {
                    let handled = self.handle_one(&received, attempts).await;
                    (received.event_id, attempts, handled)
                });
            }
            let now = Instant::now();
            let next = queue
                .later
                .values()
                .map(|later| later.at)
                .filter(|at| *at > now);
            let pause = next.min().map_or(POLL, |at| at - now).min(POLL);
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(Ended::Stopped),
                Some((event, attempts, handled)) = handling.next(), if !handling.is_empty() => {
                    queue.begun.remove(&event);
                    queue.later.remove(&event);
                    match handled {
                        Ok(Next::OtherRooms) => return Ok(Ended::Moved),
                        Ok(Next::Event)
                        | Err(Failure::Store(
                            StoreError::Conflict { .. }
                            | StoreError::Withdrawn,
                        )) => {}
                        Err(Failure::Store(error)) => return Err(error),
                        Err(Failure::Homeserver(error)) => {
                            let attempts = attempts + 1;
                            warn!(
                                event_id = %event,
                                attempts,
                                error = &error as &dyn std::error::Error,
                                "cannot handle an event yet"
                            );
                            let at = Instant::now() + pause_after(&error, attempts);
                            queue.later.insert(event, Later { attempts, at });
                        }
                    }
                }
                () = woken => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

fn pause_after(error: &HomeserverError, attempts: u32) -> Duration {
    match error {
        HomeserverError::RateLimited { limit, .. } => limit.retry_after,
        _ => backoff(Duration::from_secs(1), BACKOFF_MAX, attempts),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::Device;

    fn said(event: &str, sender: &str, body: &str) -> Received {
        Received {
            event_id: event.try_into().unwrap(),
            room_id: "!admin:x".try_into().unwrap(),
            sender: sender.try_into().unwrap(),
            sent_at: Timestamp::UNIX_EPOCH,
            kind: ReceivedKind::Message {
                body: body.to_owned(),
                formatted_body: None,
                device: Device::default(),
                thread: None,
            },
        }
    }

    fn closing(event: &str) -> Received {
        Received {
            kind: ReceivedKind::Tombstone { replacement: None },
            ..said(event, "@a:x", "")
        }
    }

    fn begins(queue: &Queue, open: &[Received]) -> Vec<String> {
        let found = queue.startable(open.to_vec(), Lane::Commands, Instant::now());
        found
            .into_iter()
            .map(|(received, _)| received.event_id.to_string())
            .collect()
    }

    #[tokio::test]
    async fn commands_wait_for_what_they_have_to_and_for_nothing_else() {
        let all = [
            said("$1", "@a:x", "!upgrade #room:x"),
            said("$2", "@a:x", "!upgrade confirm 1"),
            said("$3", "@a:x", "!upgrade help"),
            said("$4", "@b:x", "!upgrade plan #room:silent"),
            said("$5", "@b:x", "!upgrade plan #other:silent"),
            said("$6", "@b:x", "!upgrade pause"),
            closing("$7"),
            said("$8", "@c:x", "!upgrade help"),
        ];
        let mut queue = Queue::default();
        assert_eq!(begins(&queue, &all), ["$1", "$3", "$4", "$5", "$6"]);
        for event in ["$1", "$3", "$4", "$5", "$6"] {
            queue
                .begun
                .insert(event.try_into().unwrap(), Order::SideBySide);
        }
        assert!(begins(&queue, &all).is_empty());
        assert_eq!(begins(&queue, &all[1..]), ["$2"]);
        assert_eq!(begins(&queue, &all[6..]), ["$7"]);
        assert_eq!(begins(&queue, &all[7..]), ["$8"]);
    }

    #[tokio::test]
    async fn a_command_that_failed_holds_up_what_follows_it_only_for_its_sender() {
        let all = [
            said("$1", "@a:x", "!upgrade #room:x"),
            said("$2", "@a:x", "!upgrade confirm 1"),
            said("$3", "@b:x", "!upgrade pause"),
        ];
        let mut queue = Queue::default();
        let at = Instant::now() + Duration::from_secs(5);
        queue
            .later
            .insert("$1".try_into().unwrap(), Later { attempts: 1, at });
        assert_eq!(begins(&queue, &all), ["$3"]);
    }
}
