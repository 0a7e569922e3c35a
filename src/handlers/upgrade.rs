//! `!upgrade <room>`, `!upgrade plan <room>` and `!upgrade adopt <old room>`: makes a job, whose
//! first step is the plan.

use super::{Call, Desk, HandleError, asked, space};
use crate::command::{SpaceCommand, UpgradeCommand};
use crate::job::Request;
use crate::model::Confirmation;
use crate::room::state::RoomState;
use crate::store::Write;
use crate::survey::surroundings::told;

pub(super) async fn run(
    desk: &Desk,
    call: &Call<'_>,
    wanted: UpgradeCommand,
) -> Result<Vec<Write>, HandleError> {
    let options = asked::options(desk, wanted.options, wanted.when.as_ref())?;
    let old_room = desk.find(&wanted.room).await?;
    let need = asked::need(wanted.confirmation);
    desk.authorise_room(call, need, &old_room).await?;
    // Whoever wants to see the plan of a space means that of its rooms.
    if wanted.confirmation == Confirmation::PlanOnly
        && told(&*desk.port)
            .await?
            .get(&old_room)
            .is_some_and(RoomState::is_space)
    {
        let whole = SpaceCommand {
            space: wanted.room,
            options,
            when: None,
            only: Vec::new(),
            skip: Vec::new(),
            from: None,
            confirmation: wanted.confirmation,
        };
        return space::run(desk, call, whole).await;
    }
    Ok(vec![Write::CreateJob(Box::new(Request {
        named: wanted.room,
        old_room,
        options,
        confirmation: wanted.confirmation,
        sender: call.sender().to_owned(),
        admin_room: call.office.room_id.clone(),
        command_event: call.received.event_id.clone(),
        campaign: None,
    }))])
}
