//! Invitations of the bot, into the inbox: a few at a time, however many there are.
//!
//! They are looked for in what sync ever told, not only in what it tells now, so that a kill loses
//! none. An invitation has no event id that servers agree on; its row is named after the room and
//! the moment, and handling one again changes nothing. Left out: who may invite.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;
use ruma::OwnedRoomId;

use super::source::Invitation;
use crate::clock::later;
use crate::store::{Received, ReceivedKind};

/// Invitations that are looked at in each [`WINDOW`]. Each takes requests, and commands wait behind
/// them; the others stay open, and are looked at later.
const TAKEN_MAX: usize = 20;

/// The time in which [`TAKEN_MAX`] are.
const WINDOW: Duration = Duration::from_mins(10);

/// Which invitations were taken up.
#[derive(Default)]
pub(super) struct Invitations {
    /// Rooms whose invitation is in the inbox.
    seen: BTreeSet<OwnedRoomId>,
    /// When the window began.
    since: Option<Timestamp>,
    /// How many were taken up in it.
    taken: usize,
}

impl Invitations {
    /// Open invitations that were not taken up yet, but for those of `others`, which are not to be
    /// decided upon. `renewed` are rooms that sync told an invitation to just now.
    pub(super) fn news(
        &mut self,
        open: Vec<Invitation>,
        renewed: &BTreeSet<OwnedRoomId>,
        others: &BTreeSet<OwnedRoomId>,
        now: Timestamp,
    ) -> Vec<Received> {
        for room in renewed {
            self.seen.remove(room);
        }
        self.seen
            .retain(|seen| open.iter().any(|open| open.room_id == *seen));
        if self.since.is_none_or(|since| later(since, WINDOW) <= now) {
            self.since = Some(now);
            self.taken = 0;
        }
        let mut news = Vec::new();
        for Invitation {
            room_id: id,
            inviter,
        } in open
        {
            if self.taken >= TAKEN_MAX {
                break;
            }
            if self.seen.contains(&id) || others.contains(&id) {
                continue;
            }
            self.seen.insert(id.clone());
            // One that does not say whose it is is none.
            let Some(sender) = inviter else { continue };
            let name = format!("$invitation.{}.{id}", now.as_millisecond());
            let Ok(event_id) = name.parse() else { continue };
            self.taken += 1;
            news.push(Received {
                event_id,
                room_id: id,
                sender,
                sent_at: now,
                kind: ReceivedKind::Invitation,
            });
        }
        news
    }
}
