//! One invitation, whoever sends it: a step, a review, or a ping. Left out: who is invited.

use std::collections::BTreeSet;

use ruma::{OwnedServerName, RoomId, UserId};

use crate::homeserver::{Homeserver, HomeserverError, ensure_reachable};

/// What came of an invitation.
pub(super) enum Invited {
    Yes,
    /// The server said no.
    Refused {
        code: String,
        message: String,
    },
    /// Their server does not answer. Waiting here does not bring it back.
    Away,
}

/// Invites people to one room.
pub(super) struct Inviter<'a> {
    port: &'a dyn Homeserver,
    room: &'a RoomId,
    reason: &'a str,
    /// Servers that did not answer: their other users are not invited.
    away: BTreeSet<OwnedServerName>,
}

impl<'a> Inviter<'a> {
    pub(super) fn new(port: &'a dyn Homeserver, room: &'a RoomId, reason: &'a str) -> Self {
        Self {
            port,
            room,
            reason,
            away: BTreeSet::new(),
        }
    }

    /// Where they are invited to.
    pub(super) fn room(&self) -> &'a RoomId {
        self.room
    }

    pub(super) async fn invite(&mut self, user: &UserId) -> Result<Invited, HomeserverError> {
        let server = user.server_name();
        if self.away.contains(server) {
            return Ok(Invited::Away);
        }
        match self.port.invite(self.room, user, Some(self.reason)).await {
            Ok(()) => Ok(Invited::Yes),
            Err(HomeserverError::Refused { code, message, .. }) => {
                Ok(Invited::Refused { code, message })
            }
            // An invitation takes the other server's consent.
            Err(HomeserverError::Uncertain { .. }) if server != self.port.server_name() => {
                // Is it ours that is away?
                ensure_reachable(self.port).await?;
                self.away.insert(server.to_owned());
                Ok(Invited::Away)
            }
            Err(error) => Err(error),
        }
    }
}
