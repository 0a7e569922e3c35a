//! Somebody invited the bot. It goes where people invite it who may command it, or who are listed;
//! it leaves all other invitations. The admin rooms are told, once and not too often.

use ruma::UserId;

use super::{HandleError, HandlerContext};
use crate::homeserver::HomeserverError;
use crate::message::invitation;
use crate::model::{RoomName, RoomRef, Text};
use crate::permissions;
use crate::store::post_key::Unasked;
use crate::store::{Outgoing, Post, Received, Write};
use crate::survey::{self, Presence};

/// How often in an hour an admin room is told of invitations. Whoever floods the bot with them
/// should not flood its moderators; the log has them all.
const TOLD_MAX: usize = 5;

pub(super) async fn run(
    context: &HandlerContext,
    received: &Received,
) -> Result<Vec<Write>, HandleError> {
    let (room, by) = (&received.room_id, &received.sender);
    let text = if may_invite(context, by).await? {
        let invited = RoomRef {
            name: RoomName::Id(room.clone()),
            via: vec![by.server_name().to_owned()],
        };
        match context.port.join(&invited).await {
            Ok(_) => {
                tracing::info!(%room, %by, "accepted an invitation");
                invitation::accepted(room, by)
            }
            Err(error @ HomeserverError::Refused { .. }) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(%room, %by, error, "cannot accept an invitation");
                invitation::failed(room, by)
            }
            Err(error) => return Err(error.into()),
        }
    } else {
        match context.port.leave(room).await {
            Ok(()) | Err(HomeserverError::Refused { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        tracing::info!(%room, %by, "left an invitation");
        invitation::left(room, by)
    };
    tell(context, received, &text)
}

/// Whether somebody is listed, or may change rooms from an admin room.
async fn may_invite(context: &HandlerContext, user: &UserId) -> Result<bool, HandleError> {
    if permissions::is_listed(&context.inviters, user) {
        return Ok(true);
    }
    for admin_room in &context.admin_rooms {
        let Some(power) = survey::power_in(&*context.port, &admin_room.room_id).await? else {
            continue;
        };
        // Where everybody has that power, they still have to be there.
        if permissions::may_command(&admin_room.rules, power.power(user))
            && survey::is_in(&*context.port, &admin_room.room_id, user).await? == Presence::In
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Tells the admin rooms, unless they were told of the same before.
fn tell(
    context: &HandlerContext,
    received: &Received,
    text: &Text,
) -> Result<Vec<Write>, HandleError> {
    let mut writes = Vec::new();
    if context.store.was_invited_before(received)? {
        return Ok(writes);
    }
    for admin_room in &context.admin_rooms {
        if let Some(key) =
            context.rate_limited_key(Unasked::Invitation, &admin_room.room_id, TOLD_MAX)?
        {
            writes.push(Write::Enqueue(Outgoing {
                key,
                room_id: admin_room.room_id.clone(),
                post: Post::Message {
                    text: text.clone(),
                    reply_to: None,
                },
            }));
        }
    }
    Ok(writes)
}
