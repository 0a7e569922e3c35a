//! `!upgrade rooms [space]`: the rooms that can be upgraded from here, and what hinders.

use super::{Call, HandleError, HandlerContext};
use crate::command::Need;
use crate::message::inventory::inventory;
use crate::model::RoomRef;
use crate::store::{Outgoing, Post, PostKey, Write};
use crate::survey;

/// What the file with all rooms is called.
const FILE_NAME: &str = "rooms.txt";

pub(super) async fn run(
    context: &HandlerContext,
    call: &Call<'_>,
    space: Option<&RoomRef>,
) -> Result<Vec<Write>, HandleError> {
    let space = match space {
        None => None,
        Some(named) => {
            let space = context.find(named).await?;
            context.authorise_room(call, Need::Ask, &space).await?;
            Some(space)
        }
    };
    let scope = &call.admin_room.rules.scope;
    let (port, wanted) = (&*context.port, &context.version);
    let own = context
        .admin_rooms
        .iter()
        .map(|room| room.room_id.clone())
        .collect();
    let rooms = survey::inventory::inventory(port, scope, space.as_deref(), wanted, &own).await?;
    let told = inventory(&rooms, wanted, port.account());
    let mut writes = call.answer(told.text);
    writes.extend(told.file.map(|body| {
        Write::Enqueue(Outgoing {
            key: PostKey::Rooms(call.received.event_id.clone()),
            room_id: call.received.room_id.clone(),
            post: Post::File {
                name: FILE_NAME.to_owned(),
                content_type: "text/plain; charset=utf-8".to_owned(),
                body,
                reply_to: Some(call.received.event_id.clone()),
            },
        })
    }));
    Ok(writes)
}
