//! Which rooms are being sent to: one post at a time in each, and a bounded number of rooms at once.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use ruma::OwnedRoomId;
use tokio::task::{JoinError, JoinSet};

use super::super::MatrixError;
use super::{LOOKED_AT_MAX, POLL_IDLE, POLL_WAITING, Sender};
use crate::store::StoreError;

/// Posts sent by one room before the outbox is read again.
pub(super) const POSTS_PER_ROOM: usize = 20;

/// Rooms that are sent to at the same time.
const ROOMS_AT_ONCE: usize = 8;

/// The rooms that are being sent to.
#[derive(Default)]
pub(super) struct Rooms {
    pub(super) tasks: JoinSet<(OwnedRoomId, Result<(), MatrixError>)>,
    busy: HashSet<OwnedRoomId>,
}

impl Rooms {
    /// Begins what can be begun; returns when to look again.
    pub(super) fn start(&mut self, sender: &Arc<Sender>) -> Result<Duration, StoreError> {
        let now = sender.clock.now();
        let due = sender.store.due_posts(now, LOOKED_AT_MAX, &self.busy)?;
        if !due.is_empty() {
            let ready = sender.ready(due, now);
            for (room, posts) in ready {
                if self.busy.len() < ROOMS_AT_ONCE && self.busy.insert(room.clone()) {
                    let sender = Arc::clone(sender);
                    self.tasks.spawn(async move {
                        let ended = sender.send_all(&posts).await;
                        (room, ended)
                    });
                }
            }
        }
        Ok(match sender.store.next_post_due()? {
            None => POLL_IDLE,
            // It waits for others, or is under way.
            Some(next) if next <= now => POLL_WAITING,
            Some(next) => next.duration_since(now).unsigned_abs().min(POLL_IDLE),
        })
    }

    pub(super) fn ended(
        &mut self,
        ended: Result<(OwnedRoomId, Result<(), MatrixError>), JoinError>,
    ) -> Result<(), MatrixError> {
        match ended {
            Ok((room, result)) => {
                self.busy.remove(&room);
                result
            }
            // Nobody aborts a task here: it panicked, and so do we.
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Ok(()),
            },
        }
    }
}
