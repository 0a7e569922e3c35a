//! Watches whether the bot is in its admin rooms: one that is lost is named in the others (P13).
//!
//! A room whose id is known is entered again by sync, once somebody invites the bot there. One whose address
//! leads nowhere is looked for again, and everything starts anew with it.

use std::collections::BTreeSet;
use std::time::Duration;

use ruma::OwnedRoomId;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::AppError;
use crate::clock::Clock;
use crate::config::AdminRoomRules;
use crate::handlers::Ended;
use crate::homeserver::Homeserver;
use crate::matrix::{self, Entered};
use crate::message::answer;
use crate::permissions::AdminRoom;
use crate::store::{Outgoing, Post, PostKey, Store, Write};

/// How often it is looked.
const INTERVAL: Duration = Duration::from_secs(30);

/// After so many looks, addresses that led nowhere are looked up again.
const LOOKS_PER_SEARCH: u32 = 10;

pub(super) struct AdminRooms<'a> {
    pub(super) store: &'a Store,
    pub(super) port: &'a dyn Homeserver,
    pub(super) clock: &'a dyn Clock,
    pub(super) configured: &'a [AdminRoomRules],
    pub(super) entered: &'a [AdminRoom],
}

impl AdminRooms<'_> {
    /// Watches until told to stop.
    pub(super) async fn run(&self, stop: &CancellationToken) -> Result<Ended, AppError> {
        let mut lost = BTreeSet::new();
        let mut looks = 0_u32;
        loop {
            self.look(&mut lost).await?;
            looks = looks.wrapping_add(1);
            let is_missing = self.entered.len() < self.configured.len();
            if is_missing && looks.is_multiple_of(LOOKS_PER_SEARCH) && self.finds_more(stop).await?
            {
                info!("an admin room was found; starting again with it");
                return Ok(Ended::Moved);
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(Ended::Stopped),
                () = tokio::time::sleep(INTERVAL) => {}
            }
        }
    }

    async fn look(&self, lost: &mut BTreeSet<OwnedRoomId>) -> Result<(), AppError> {
        let mut now = BTreeSet::new();
        for admin_room in self.entered {
            // As sync last told: no request.
            if let Ok(None) = self.port.known_state(&admin_room.room_id).await {
                now.insert(admin_room.room_id.clone());
            }
        }
        for room in now.difference(lost) {
            warn!(%room, "not in this admin room; invite the bot there");
            self.say(room, &now)?;
        }
        for room in lost.difference(&now) {
            info!(%room, "in this admin room again");
        }
        *lost = now;
        Ok(())
    }

    /// Says in the other admin rooms that one is lost.
    fn say(&self, room: &OwnedRoomId, lost: &BTreeSet<OwnedRoomId>) -> Result<(), AppError> {
        let now = self.clock.now();
        let others = self.entered.iter().map(|room| &room.room_id);
        let writes: Vec<_> = others
            .filter(|other| !lost.contains(*other))
            .map(|other| {
                Write::Enqueue(Outgoing {
                    key: PostKey::Lost {
                        room: room.clone(),
                        told: other.clone(),
                        at: now.as_second(),
                    },
                    room_id: other.clone(),
                    post: Post::Message {
                        text: answer::admin_room_lost(room, self.port.account()),
                        reply_to: None,
                    },
                })
            })
            .collect();
        Ok(self.store.commit(now, &writes)?)
    }

    /// Whether a room can be entered by now that could not be found at the start.
    async fn finds_more(&self, stop: &CancellationToken) -> Result<bool, AppError> {
        let named: Vec<_> = self
            .configured
            .iter()
            .map(|room| room.room.clone())
            .collect();
        let entered = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(false),
            entered = matrix::enter(self.port, self.store, &named) => entered?,
        };
        let is_in = |entered: &&Entered| matches!(entered, Entered::In(_));
        Ok(entered.iter().filter(is_in).count() > self.entered.len())
    }
}
