//! `!upgrade space <space>`, and `!upgrade plan <space>`: makes a campaign, which looks for the rooms
//! itself.

use std::collections::BTreeSet;

use ruma::OwnedRoomId;

use super::{Call, HandleError, HandlerContext, asked};
use crate::campaign::{Narrow, Request};
use crate::command::SpaceCommand;
use crate::message::answer;
use crate::model::RoomRef;
use crate::store::Write;
use crate::survey::surroundings::told;

pub(super) async fn run(
    context: &HandlerContext,
    call: &Call<'_>,
    wanted: SpaceCommand,
) -> Result<Vec<Write>, HandleError> {
    let options = asked::options(context, wanted.options, wanted.when.as_ref())?;
    let space = context.find(&wanted.space).await?;
    let need = asked::need(wanted.confirmation);
    // Power in each room itself is asked for when the rooms are known.
    context.authorise_in_scope(call, need, &space).await?;
    let rooms = told(&*context.port).await?;
    match rooms.get(&space) {
        None => {
            return Err(answer::not_in_space(&wanted.space.name, context.port.account()).into());
        }
        Some(room) if !room.is_space() => {
            return Err(answer::no_space(&wanted.space.name).into());
        }
        Some(_) => {}
    }
    let only = found(context, &wanted.only).await?;
    let skip = found(context, &wanted.skip).await?;
    Ok(vec![Write::CreateCampaign(Box::new(Request {
        named: wanted.space,
        space,
        options,
        narrow: Narrow {
            only,
            skip,
            from: wanted.from,
        },
        confirmation: wanted.confirmation,
        sender: call.sender().to_owned(),
        admin_room: call.admin_room.room_id.clone(),
        command_event: call.received.event_id.clone(),
    }))])
}

/// The ids of rooms that were named.
async fn found(
    context: &HandlerContext,
    rooms: &[RoomRef],
) -> Result<BTreeSet<OwnedRoomId>, HandleError> {
    let mut ids = BTreeSet::new();
    for room in rooms {
        ids.insert(context.find(room).await?);
    }
    Ok(ids)
}
