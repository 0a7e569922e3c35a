//! Enters the admin rooms that are configured: joined where the bot is invited or may join, named where it cannot.

use ruma::{OwnedRoomId, OwnedRoomOrAliasId, OwnedServerName, RoomId};

use super::MatrixError;
use super::trouble::Trouble;
use crate::homeserver::{Homeserver, HomeserverError};
use crate::model::{RoomName, RoomRef};
use crate::store::Store;

/// Whether the bot hears what is said to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Not yet: it has not synced, or still reads what it missed.
    Starting,
    /// It has read everything up to now.
    Ready,
}

/// An admin room as it was found.
#[derive(Debug)]
pub enum Entered {
    /// The bot is in it.
    In(OwnedRoomId),
    /// The bot is not in it, and nobody lets it in now.
    Lost {
        /// Its id; absent where its address leads nowhere.
        room: Option<OwnedRoomId>,
        /// What keeps the bot out.
        error: MatrixError,
    },
}

/// Finds the admin rooms, and joins those the bot is not in. A homeserver that gives no certain
/// answer is asked again, without end: drop the future to stop.
///
/// # Errors
/// When the database cannot be used.
pub async fn enter(
    port: &dyn Homeserver,
    store: &Store,
    configured: &[OwnedRoomOrAliasId],
) -> Result<Vec<Entered>, MatrixError> {
    let mut rooms = Vec::with_capacity(configured.len());
    for room in configured {
        let lost = |id, source| Entered::Lost {
            room: id,
            error: MatrixError::EnterRoom {
                room: room.clone(),
                user: port.account().to_owned(),
                source,
            },
        };
        let mut trouble = Trouble::new("entering an admin room");
        rooms.push(loop {
            let mut known = None;
            let found = match find(port, room).await {
                Ok(Some((id, via))) => {
                    let now = store.admin_room_now(&id).map_err(MatrixError::Inbox)?;
                    known = Some(now.clone());
                    enter_one(port, now, via).await
                }
                Ok(None) => break lost(None, None),
                Err(error) => Err(error),
            };
            match found {
                Ok(id) => break Entered::In(id),
                Err(error) if error.is_transient() => {
                    tokio::time::sleep(trouble.with(&error)).await;
                }
                Err(error) => break lost(known, Some(error)),
            }
        });
        trouble.over();
    }
    Ok(rooms)
}

/// The room that is meant, and servers to join it by.
pub(super) async fn find(
    port: &dyn Homeserver,
    room: &OwnedRoomOrAliasId,
) -> Result<Option<(OwnedRoomId, Vec<OwnedServerName>)>, HomeserverError> {
    Ok(match <&RoomId>::try_from(&**room) {
        Ok(id) => Some((id.to_owned(), Vec::new())),
        Err(alias) => port
            .resolve(alias)
            .await?
            .map(|found| (found.room_id, found.via)),
    })
}

pub(super) async fn enter_one(
    port: &dyn Homeserver,
    id: OwnedRoomId,
    via: Vec<OwnedServerName>,
) -> Result<OwnedRoomId, HomeserverError> {
    if port.joined_rooms().await?.contains(&id) {
        return Ok(id);
    }
    port.join(&RoomRef {
        name: RoomName::Id(id),
        via,
    })
    .await
}
