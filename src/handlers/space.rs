//! `!upgrade space <space>`, and `!upgrade plan <space>`: makes a campaign, which looks for the rooms
//! itself.

use ruma::OwnedRoomId;

use super::{Call, Desk, HandleError, asked};
use crate::campaign::{Narrow, Request};
use crate::command::SpaceCommand;
use crate::message::answer;
use crate::model::{RoomRef, Text};
use crate::store::Write;
use crate::survey;
use crate::survey::surroundings::told;

pub(super) async fn run(
    desk: &Desk,
    call: &Call<'_>,
    wanted: SpaceCommand,
) -> Result<Vec<Write>, HandleError> {
    let refuse = |text| call.refuse_work(text);
    let options = match asked::options(desk, wanted.options, wanted.when.as_ref()) {
        Ok(options) => options,
        Err(text) => return Ok(refuse(text)),
    };
    let Some(space) = survey::find(&*desk.port, &wanted.space).await? else {
        return Ok(refuse(answer::no_such_room(&wanted.space.name)));
    };
    let need = asked::need(wanted.confirmation);
    // Power in each room itself is asked for when the rooms are known.
    if let Some(denial) = desk.denial_in_scope(call, need, &space).await? {
        return Ok(refuse(answer::denied(denial)));
    }
    let rooms = told(&*desk.port).await?;
    match rooms.get(&space) {
        None => {
            return Ok(refuse(answer::not_in_space(
                &wanted.space.name,
                desk.port.account(),
            )));
        }
        Some(room) if !room.is_space() => {
            return Ok(refuse(answer::no_space(&wanted.space.name)));
        }
        Some(_) => {}
    }
    let (only, skip) = match (
        found(desk, &wanted.only).await?,
        found(desk, &wanted.skip).await?,
    ) {
        (Ok(only), Ok(skip)) => (only, skip),
        (Err(text), _) | (_, Err(text)) => return Ok(refuse(text)),
    };
    Ok(vec![Write::CreateCampaign(Box::new(Request {
        named: wanted.space,
        space,
        options,
        narrow: Narrow {
            only: only.into_iter().collect(),
            skip: skip.into_iter().collect(),
            from: wanted.from,
        },
        confirmation: wanted.confirmation,
        sender: call.sender().to_owned(),
        admin_room: call.office.room_id.clone(),
        command_event: call.received.event_id.clone(),
    }))])
}

/// The ids of rooms that were named; `Err` is what to answer if one cannot be found.
async fn found(
    desk: &Desk,
    rooms: &[RoomRef],
) -> Result<Result<Vec<OwnedRoomId>, Text>, HandleError> {
    let mut ids = Vec::new();
    for room in rooms {
        match survey::find(&*desk.port, room).await? {
            Some(id) => ids.push(id),
            None => return Ok(Err(answer::no_such_room(&room.name))),
        }
    }
    Ok(Ok(ids))
}
